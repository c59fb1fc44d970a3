"""What a reading costs in the twin table, per kind: packed, and alone.

python benchmarks/twins.py [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.testing.domains import plausible_attributes


def batches(kind: Kind, twins: int, size: int, count: int) -> list[Batch]:
    """Readings that say every field at its state's default, ten seconds apart, round robin over the twins."""
    reading, state = kind.reading.layout, kind.state.layout
    middle = np.zeros((reading.rows, 1))
    for name, field in reading.fields.items():
        if (field.of or name) in state.fields:
            middle[reading.places[name]] = state.per_row("default")[state.places[field.of or name]]
    values = np.repeat(np.clip(middle, reading.per_row("minimum"), reading.per_row("maximum")), size, axis=1)
    return [
        Batch(
            rows=((np.arange(size) + number * size) % twins).astype(np.intp),
            observed_at_s=np.full(size, 1e9 + 10.0 * number),
            values=values,
            keys=np.full(size, number),
        )
        for number in range(count)
    ]


def cost_us(kind: Kind, twins: int, size: int, count: int, runs: int = 5) -> tuple[float, float]:
    """Median microseconds per reading over some runs, and bytes per twin."""
    costs = []
    for _ in range(runs):
        attributes = plausible_attributes(kind, twins, np.random.default_rng(0))
        table = TwinTable(kind, [f"{kind.name}/{n}" for n in range(twins)], attributes)
        prepared = batches(kind, twins, size, count)
        began = time.perf_counter()
        for batch in prepared:
            table.apply(batch)
        costs.append((time.perf_counter() - began) / (size * count) * 1e6)
        assert int(table.fates[0].sum()) == size * count, "every reading must have been applied"
    return statistics.median(costs), sum(array.nbytes for array in table.snapshot().values()) / twins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    rows = {}
    for name, kind in sorted(load_catalogue().kinds.items()):
        packed, size = cost_us(kind, 10_000, 1_000, 20)
        alone, _ = cost_us(kind, 1, 1, 200)
        rows[name] = {"packed_us": packed, "alone_us": alone, "bytes_per_twin": size, "filter": kind.filter}
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for name, row in rows.items():
        print(f"{name:14} {row['filter']:9} packed {row['packed_us']:6.2f} µs   alone {row['alone_us']:7.0f} µs")


if __name__ == "__main__":
    main()
