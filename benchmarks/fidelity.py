"""How right the twins are: every figure of the models, detection and forecasts, beside the published rows.

    python benchmarks/fidelity.py --json [--parts forecasts,nab,faults,sumo,speed]

Each part is a script of its own beside this one and can be run alone. Real data are read beside the project; a part
whose data or simulator is missing says so under ``skipped`` and leaves out its keys. ``--sumo-from FILE`` takes part
``sumo``, which needs the better part of an hour, from an earlier output.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

GOALS = {
    "nab_standard": 65,
    "ett_mse": {"96": 0.053, "192": 0.069, "336": 0.081, "720": 0.080},
    "metr_la_gain": 0.10,
    "melbourne_gain": 0.15,
    "pm25_gain": 0.15,
    "coverage_90": [0.87, 0.93],
    "fault_f1": {"stuck": 0.8, "spike": 0.8, "bias": 0.8},
    "ms_per_10000_twins": 20,
}


def forecasts() -> dict[str, Any]:
    """``ett_mse`` by horizon, gains against persistence or the weekly naive, ``coverage_90`` by set."""
    found: dict[str, Any] = importlib.import_module("forecasts").measure()
    return {name: value for name, value in found.items() if name not in ("detail", "seconds")}


def nab() -> dict[str, Any]:
    """``nab_standard`` and the other two profiles, the default detector as it runs in the twins."""
    found: dict[str, Any] = importlib.import_module("nab").measure()
    return found


def faults() -> dict[str, Any]:
    """``fault_f1`` and delays by kind of injected sensor fault."""
    found: dict[str, Any] = importlib.import_module("faults").measure()
    return found


def sumo(earlier: Path | None = None) -> dict[str, Any]:
    """``sumo`` by map: mean and median delay for each rule and for the twins in the loop."""
    if earlier is not None:
        return {"sumo": json.loads(earlier.read_text())["sumo"]}
    found: dict[str, Any] = importlib.import_module("sumo").measure(progress=lambda line: print(line, file=sys.stderr))
    return found


def speed() -> dict[str, Any]:
    """``ms_per_10000_twins`` by kind: estimate and detect one reading each of 10,000 packed twins, one core."""
    found: dict[str, Any] = importlib.import_module("detection").measure()
    return {name: found[name] for name in ("kernels", "ms_per_10000_twins", "scores_per_s")}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "forecasts": forecasts, "nab": nab, "faults": faults, "sumo": sumo, "speed": speed,
}  # fmt: skip


def measure(parts: list[str], sumo_from: Path | None = None) -> dict[str, Any]:
    result: dict[str, Any] = {"seconds": {}, "skipped": {}}
    for name in parts:
        began = time.perf_counter()
        try:
            found = sumo(sumo_from) if name == "sumo" else PARTS[name]()
        except FileNotFoundError as missing:
            found = {"skipped": str(missing)}
        if why := found.pop("skipped", ""):
            result["skipped"][name] = why
        result.update(found)
        result["seconds"][name] = round(time.perf_counter() - began, 1)
    result["goals"] = GOALS
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which parts, divided by commas")
    parser.add_argument("--sumo-from", type=Path, help="take the part sumo from this output of benchmarks/sumo.py")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := [name for name in parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    result = measure(parts, arguments.sumo_from)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        goal = GOALS.get(name)
        print(f"{name:22} {json.dumps(value)}" + (f"   goal {json.dumps(goal)}" if goal is not None else ""))


if __name__ == "__main__":
    main()
