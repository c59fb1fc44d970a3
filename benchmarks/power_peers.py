"""The power domain beside two libraries that nobody here wrote, each in an environment of its own.

    python -m venv ttm && ttm/bin/pip install transformer-thermal-model
    python -m venv pp && pp/bin/pip install pandapower
    python benchmarks/power_peers.py --thermal ttm/bin/python --grid pp/bin/python [--json]

They need different versions of pandas and stay out of this project's environment: each runs as a child process that
reads numbers as JSON and answers with numbers. Compared are temperatures minute by minute (standard's worked example
and three days of a real course of load), and what shedding by this domain does to the power flow of a grid whose
transformer is overloaded as its authors give it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from domains.power import thermal
from domains.power.devices import demand_of
from domains.power.records import SubstationAttributes
from domains.power.shedding import blocks_to_open

THERMAL_CHILD = """
import json, sys
import numpy as np
from transformer_thermal_model.cooler import CoolerType
from transformer_thermal_model.model import Model
from transformer_thermal_model.schemas import InputProfile, UserTransformerSpecifications
from transformer_thermal_model.schemas.thermal_model.initial_state import InitialTopOilTemp
from transformer_thermal_model.transformer import PowerTransformer
asked = json.load(sys.stdin)
specs = UserTransformerSpecifications(**asked["specs"])
minutes = len(asked["load"])
profile = InputProfile(
    datetime_index=np.datetime64("2026-01-01") + np.arange(minutes) * np.timedelta64(1, "m"),
    load_profile=np.array(asked["load"]), ambient_temperature_profile=np.full(minutes, asked["ambient"]))
model = Model(profile, PowerTransformer(specs, CoolerType.ONAF),
              initial_condition=InitialTopOilTemp(initial_top_oil_temp=asked["oil"]))
out = model.run()
print(json.dumps({"oil": list(out.top_oil_temp_profile), "hot": list(out.hot_spot_temp_profile)}))
"""

GRID_CHILD = """
import json, sys
import numpy as np
import pandapower as pp, pandapower.networks as nets
asked = json.load(sys.stdin)
net = nets.create_cigre_network_mv()
on = np.array(asked["served"]) if asked["served"] else np.ones(len(net.load))
net.load["p_mw"] *= on
net.load["q_mvar"] *= on
pp.runpp(net)
print(json.dumps({
    "load_mw": list(net.load.p_mw), "slack_mw": float(net.res_ext_grid.p_mw.sum()),
    "loading_percent": list(net.res_trafo.loading_percent), "vmin_pu": float(net.res_bus.vm_pu.min()),
    "bus": [int(b) for b in net.load.bus], "sn_mva": list(net.trafo.sn_mva)}))
"""

EXAMPLE = ((0, 190, 1.0), (190, 365, 0.6), (365, 500, 1.5), (500, 705, 0.3), (705, 730, 2.1), (730, 745, 0.0))
"""The load steps of the worked example of IEC 60076-7, minutes and load factor."""

CONSTANTS = {
    "oil_rise_k": 38.3,
    "hotspot_factor": 1.4,
    "gradient_k": 14.5,
    "loss_ratio": 1000.0,
    "oil_exponent": 0.8,
    "winding_exponent": 1.3,
    "oil_tau_min": 150.0,
    "winding_tau_min": 7.0,
    "k11": 0.5,
    "k21": 2.0,
    "k22": 2.0,
    "ambient_default_c": 25.6,
}


def ask(python: str, script: str, question: dict[str, Any]) -> dict[str, Any]:
    """The answer of a child in another environment; its last line is JSON. CalledProcessError shows its errors."""
    done = subprocess.run(
        [python, "-c", script], input=json.dumps(question), capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        sys.exit(f"{python} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def ours(load: list[float], oil_c: float) -> tuple[np.ndarray, np.ndarray]:
    """Top oil and hot spot minute by minute; like the peer, value i is what load i leads to from value i − 1."""
    attributes = SubstationAttributes.defaults(1).replace(**{name: np.array([v]) for name, v in CONSTANTS.items()})
    now = thermal.Temperatures(
        ambient_c=np.array([CONSTANTS["ambient_default_c"]]),
        oil_c=np.array([oil_c]),
        h1_k=np.zeros(1),
        h2_k=np.zeros(1),
    )
    oil, hot = [oil_c], [oil_c]
    for factor in load[1:]:
        now = thermal.Course.of(now, np.array([factor]), attributes).after(np.array([60.0]))
        oil.append(float(now.oil_c[0]))
        hot.append(float(now.hot_spot_c[0]))
    return np.array(oil), np.array(hot)


def temperatures(python: str) -> dict[str, Any]:
    """Largest differences in K, and the six rows of the standard's table from both."""
    specs = {
        "load_loss": 1000.0,
        "nom_load_sec_side": 1.0,
        "no_load_loss": 1.0,
        "top_oil_temp_rise": 38.3,
        "winding_oil_gradient": 14.5,
        "hot_spot_fac": 1.4,
        "time_const_oil": 150.0,
        "time_const_windings": 7.0,
        "oil_const_k11": 0.5,
        "winding_const_k21": 2,
        "winding_const_k22": 2,
        "oil_exp_x": 0.8,
        "winding_exp_y": 1.3,
        "end_temp_reduction": 0.0,
        "amb_temp_surcharge": 0.0,
    }
    example = [1.0] + [factor for begin, end, factor in EXAMPLE for _ in range(begin, end)]
    days = [float(1.3 * demand_of(np.array((minute / 60.0) % 24.0))) for minute in range(3 * 1440)]
    result: dict[str, Any] = {}
    for name, load in (("standard's example", example), ("three days", days)):
        question = {"specs": specs, "load": load, "ambient": CONSTANTS["ambient_default_c"], "oil": 38.3}
        started = time.perf_counter()
        theirs = ask(python, THERMAL_CHILD, question)
        spent_s = time.perf_counter() - started
        oil, hot = ours(load, 38.3)
        result[name] = {
            "oil_difference_k": float(np.abs(oil - np.array(theirs["oil"])).max()),
            "hot_spot_difference_k": float(np.abs(hot - np.array(theirs["hot"])).max()),
            "minutes": len(load),
            "child_s": round(spent_s, 2),
        }
        if name == "standard's example":
            result["table"] = [
                {"min": end, "ours": [oil[end], hot[end]], "peer": [theirs["oil"][end], theirs["hot"][end]]}
                for _, end, _ in EXAMPLE
            ]
    return result


def grid(python: str) -> dict[str, Any]:
    """CIGRE medium voltage: shed by priority until the busier transformer is at 95 %, then ask the power flow."""
    before = ask(python, GRID_CHILD, {"served": []})
    load = np.array(before["load_mw"])
    worst = int(np.argmax(before["loading_percent"]))
    # Five blocks of the feeders behind the first transformer (buses 1 to 11), largest loads excepted: those at the bus
    # bar itself stand for the rest of the town and are not switched.
    feeder = [place for place, bus in enumerate(before["bus"]) if 2 <= bus <= 11]
    blocks = [feeder[place::5] for place in range(5)]
    block_mw = np.array([[load[block].sum()] for block in blocks])
    rated_mw = before["sn_mva"][worst] * 0.98
    excess_mw = np.array([(before["loading_percent"][worst] - 95.0) / 100.0 * rated_mw])
    opened = blocks_to_open(np.zeros((5, 1)), block_mw, np.arange(1.0, 6.0)[:, None], excess_mw)[:, 0]
    served = np.ones(len(load))
    for block, off in zip(blocks, opened, strict=True):
        served[block] -= off
    after = ask(python, GRID_CHILD, {"served": served.tolist()})
    return {
        "loading_before_percent": before["loading_percent"][worst],
        "loading_after_percent": after["loading_percent"][worst],
        "slack_before_mw": before["slack_mw"],
        "slack_after_mw": after["slack_mw"],
        "vmin_before_pu": before["vmin_pu"],
        "vmin_after_pu": after["vmin_pu"],
        "shed_mw": float((block_mw[:, 0] * opened).sum()),
        "asked_mw": float(excess_mw[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thermal", help="python of an environment with transformer-thermal-model")
    parser.add_argument("--grid", help="python of an environment with pandapower")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    result: dict[str, Any] = {}
    if chosen.thermal:
        result["thermal"] = temperatures(chosen.thermal)
    if chosen.grid:
        result["grid"] = grid(chosen.grid)
    if chosen.json:
        print(json.dumps(result))
        return
    for row in result.get("thermal", {}).get("table", []):
        mine, theirs = row["ours"], row["peer"]
        print(f"{row['min']:4d} min  ours {mine[0]:6.2f} {mine[1]:7.2f}   peer {theirs[0]:6.2f} {theirs[1]:7.2f} °C")
    for name in ("standard's example", "three days"):
        if "thermal" in result:
            print(f"{name}: largest difference {result['thermal'][name]['hot_spot_difference_k']:.2e} K")
    for name, value in result.get("grid", {}).items():
        print(f"{name:>24} {value:9.4f}")


if __name__ == "__main__":
    main()
