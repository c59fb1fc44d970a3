"""What the default detector remembers of every reading row of every twin, as arrays with the entity last."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column

HOURS, WEEK_HOURS = 24, 48  # bins by hour of day; by hour of a working day or of a weekend day


class View(enum.IntEnum):
    """Who speaks against a reading; the numbers are stored in snapshots and must not change."""

    SHIFT = 0
    RATIO = 1
    SEASON = 2
    MODEL = 3
    STUCK = 4
    RANGE = 5
    RATE = 6
    STUCK_DECLARED = 7


WEIGHED = 4
"""The first views add up their evidence; the others have their own say."""

SLOTS = (
    "count", "deviation", "magnitude", "long", "short", "largest_shift", "long_log", "short_log", "largest_ratio",
    "season_quantile", "season_excess", "season_count", "season_mean",
    "model_quantile", "model_excess", "model_count", "model_mean",
    "peak", "age", "last", "last_at_s", "run", "longest_run",
)  # fmt: skip
ALARM = (
    "at_s", "score", "value", "before", "before_at_s", "short", "long", "usual", "expected", "statistic", "run", "view",
)  # fmt: skip


@dataclass(slots=True)
class DetectionMemory:
    """Detection's memory of ``n`` twins with ``R`` reading rows.

    ``rows (23, R, n)`` statistics (``SLOTS``); ``course (72, R, n)`` usual values by hour on the logarithmic scale,
    NaN until seen; ``alarm (12, R, n)`` the last score of a half or more with what was behind it (``ALARM``), NaN:
    there was none.
    """

    rows: Column
    course: NDArray[np.float32]
    alarm: Column

    @classmethod
    def empty(cls, rows: int, n: int) -> DetectionMemory:
        memory = np.zeros((len(SLOTS), rows, n))
        memory[[SLOTS.index("last"), SLOTS.index("last_at_s")]] = np.nan
        return cls(
            rows=memory,
            course=np.full((HOURS + WEEK_HOURS, rows, n), np.nan, np.float32),
            alarm=np.full((len(ALARM), rows, n), np.nan),
        )

    def last_alarm(self, row: int, twin: int) -> Mapping[str, float]:
        """The last score of a half or more of one row of one twin by the names of ``ALARM``; NaN: there was none."""
        return dict(zip(ALARM, self.alarm[:, row, twin].tolist(), strict=True))
