"""Pasts of devices as a store gives them: readings of a rhythm, and of a tank."""

from __future__ import annotations

import numpy as np

from tests.unit.runtime.cities import T0
from twin_actors.core.cleaning import Quality
from twin_actors.core.rolling import roll
from twin_actors.core.table import TwinTable
from twin_actors.runtime.past import Readings
from twin_actors.scenario.catalogue import load_catalogue

KINDS = load_catalogue().kinds


def readings(kind_name: str, at_s: np.ndarray, **fields: np.ndarray) -> Readings:
    layout = KINDS[kind_name].reading.layout
    values = np.full((layout.rows, len(at_s)), np.nan)
    for label, said in fields.items():
        values[layout.places[label]] = said
    quality = np.where(np.isfinite(values), int(Quality.GOOD), 0).astype(np.uint8)
    return Readings(at_s, at_s, values, quality)


def rhythm(days: float, gap_s: float = 600.0) -> tuple[np.ndarray, np.ndarray]:
    at_s = T0 + gap_s * np.arange(1, int(days * 86_400 / gap_s) + 1)
    return at_s, 20 + 8 * np.sin(2 * np.pi * at_s / 86_400) + 0.3 * np.random.default_rng(0).normal(size=len(at_s))


def filled(days: float, until_s: float = 0.0) -> Readings:
    """A tank whose customers change their draw at moments that nothing tells beforehand, a reading every 5 min.

    The last of them is at ``until_s``, or the first is 5 min after T0.
    """
    kind, chance = KINDS["tank"], np.random.default_rng(4)
    count = int(days * 288)
    at_s = (until_s - 300.0 * count if until_s else T0) + 300.0 * np.arange(1, count + 1)
    draw = np.repeat(chance.uniform(0.05, 0.19, count), chance.integers(20, 90, count))[:count]
    table = TwinTable(kind, ["tank/a"], kind.attributes.layout.per_row("default"))
    x, labels, level = table.x.copy(), kind.state.layout.labels, np.empty(count)
    for row, moment in enumerate(at_s):
        x[labels.index("demand_m3s")] = draw[row]
        until = np.array([moment])
        x, _, _ = roll(kind, x, table.attributes, table.command, table.coupling, until - 300.0, until)
        level[row] = x[labels.index("level_m"), 0]
    return readings(
        "tank", at_s,
        level_m=level + chance.normal(0, 0.02, count), demand_m3s=np.maximum(draw + chance.normal(0, 0.002, count), 0),
    )  # fmt: skip
