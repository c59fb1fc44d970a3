"""What detection costs: scores per second and core, and estimate + detect of ten thousand packed twins, per kind.

python benchmarks/detection.py [--json]

CPU time of this one thread: other programs on the machine matter less, but they do take its caches. It says whether the
compiled kernels ran; ``TWIN_ACTORS_KERNELS=off`` measures numpy alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from twin_actors.core.detection.compiled import detect
from twin_actors.core.detection.memory import DetectionMemory
from twin_actors.core.kernels import kernels
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.testing.domains import plausible_attributes

sys.path.insert(0, str(Path(__file__).resolve().parent))
from twins import batches

TWINS = 10_000
WARM_UP = 55  # readings: past those from which a row learns its scale


def scores_per_s(size: int, rows: int, *, in_order: bool, runs: int = 9) -> float:
    """Scores of the ensemble alone, batches of ``size`` twins with ``rows`` rows each, any twins or those in order."""
    chance = np.random.default_rng(0)
    memory = DetectionMemory.empty(rows, TWINS)
    order = np.arange(TWINS) if in_order else chance.permutation(TWINS)
    if not in_order:  # as the table tells it: by twin within a batch
        order = np.concatenate([np.sort(order[begin : begin + size]) for begin in range(0, TWINS, size)])
    totals, variance = np.zeros((rows, 1), np.bool_), np.ones((rows, size))
    values = [chance.normal(10, 1, (rows, size)) for _ in range(8)]

    def tick(number: int) -> None:
        for begin in range(0, TWINS, size):
            said = values[(number + begin) % len(values)]
            detect(
                memory,
                order[begin : begin + size],
                np.full(size, 1e9 + 300.0 * number),
                said,
                said - 10,
                variance,
                totals,
            )

    for number in range(WARM_UP):
        tick(number)
    costs = []
    for number in range(runs):
        began = time.process_time()
        tick(WARM_UP + number)
        costs.append(time.process_time() - began)
    return TWINS * rows / statistics.median(costs)


class TimedTable(TwinTable):
    """A table that keeps the CPU time of its stage *clean* apart."""

    cleaning_s = 0.0

    def _clean(self, *inputs: Any) -> Any:
        began = time.process_time()
        cleaned = super()._clean(*inputs)
        self.cleaning_s += time.process_time() - began
        return cleaned


def ms_per_10000_twins(kind: Kind, runs: int = 7) -> float:
    """Estimate and detect of one reading of each of ten thousand twins in one batch: all of apply but cleaning."""
    attributes = plausible_attributes(kind, TWINS, np.random.default_rng(0))
    table = TimedTable(kind, [f"{kind.name}/{n}" for n in range(TWINS)], attributes)
    costs = []
    told = batches(kind, TWINS, TWINS, runs + WARM_UP)
    for batch in told[:WARM_UP]:
        table.apply(batch)
    for batch in told[WARM_UP:]:
        table.cleaning_s = 0.0
        began = time.process_time()
        table.apply(batch)
        costs.append(time.process_time() - began - table.cleaning_s)
    assert int(table.fates[0].sum()) == TWINS * len(told), "every reading must have been applied"
    return 1000 * statistics.median(costs)


def measure() -> dict[str, Any]:
    return {
        "kernels": kernels().says,
        "scores_per_s": {
            f"{size} {'next' if in_order else 'random'} twins, {rows} rows": scores_per_s(size, rows, in_order=in_order)
            for size, in_order in ((1000, False), (1000, True), (10_000, True))
            for rows in (1, 4)
        },
        "ms_per_10000_twins": {name: ms_per_10000_twins(kind) for name, kind in sorted(load_catalogue().kinds.items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    measured = measure()
    if arguments.json:
        print(json.dumps(measured, indent=2))
        return
    print(f"kernels: {measured['kernels']}")
    for what, rate in measured["scores_per_s"].items():
        print(f"batches of {what:28} {rate / 1e6:6.2f} million scores/s")
    for name, cost in measured["ms_per_10000_twins"].items():
        print(f"{name:14} {cost:7.1f} ms for 10,000 twins")


if __name__ == "__main__":
    main()
