"""Why nothing of a reading could be accepted, in words for its sender."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twin_actors.core.cleaning import Cleaned, CleaningRules
from twin_actors.core.columns import Column
from twin_actors.core.layout import Layout


@dataclass(frozen=True, slots=True)
class Rejection:
    """A reading of which nothing could be accepted: its position in the batch and the words for its sender."""

    position: int
    reason: str
    detail: str


def rejection(
    layout: Layout, rules: CleaningRules, cleaned: Cleaned, values: Column, column: int, position: int
) -> Rejection:
    """Of the reading in ``column`` of the ``values (R, b)`` that were cleaned: its first refused row says why."""
    row = int(np.argmax(cleaned.refused[:, column]))
    value, before = values[row, column], float(cleaned.value[row, column])
    if np.isnan(value):
        return Rejection(position, "empty", "no field of the reading has a value")
    label = layout.labels[row]
    low, high = float(rules.minimum[row, 0]), float(rules.maximum[row, 0])
    if rules.integer[row, 0]:
        value = float(np.rint(value))
    if not (low <= value <= high and np.isfinite(value)):
        return Rejection(position, "out_of_range", f"{label} = {value:g} is outside {low:g} to {high:g}")
    return Rejection(
        position,
        "rate",
        f"{label} = {value:g} after {before:g} changes faster than {float(rules.max_rate[row, 0]):g} per second",
    )
