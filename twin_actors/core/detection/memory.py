"""What the default detector remembers of every reading row of every twin, as arrays with the entity last."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

LEVELS = ("long", "short", "long_log", "short_log", "last", "last_at_s")
"""What follows the value itself or the clock: a small step on a large number needs all digits of a float64."""
SCALES = (
    "count", "deviation", "magnitude", "largest_shift", "largest_ratio",
    "season_quantile", "season_excess", "season_count", "season_mean",
    "model_quantile", "model_excess", "model_count", "model_mean",
    "peak", "age", "run", "longest_run",
)  # fmt: skip
"""What says how much is much, and counts: seven digits are plenty."""
ALARM = ("score", "value", "before", "short", "long", "usual", "expected", "statistic", "run", "view")
ALARM_TIMES = ("at_s", "before_at_s")


@dataclass(slots=True)
class DetectionMemory:
    """Detection's memory of ``n`` twins with ``R`` watched reading rows, about 460 bytes a row.

    ``levels (6, R, n)`` and ``scales (17, R, n)`` are the statistics (``LEVELS``, ``SCALES``); ``course (72, R, n)``
    usual values by hour on the logarithmic scale, NaN until seen; ``alarm (10, R, n)`` and ``alarm_at_s (2, R, n)`` the
    last score of a half or more with what was behind it (``ALARM``, ``ALARM_TIMES``), NaN: there was none.
    """

    levels: Column
    scales: NDArray[np.float32]
    course: NDArray[np.float32]
    alarm: NDArray[np.float32]
    alarm_at_s: Column

    @classmethod
    def empty(cls, rows: int, n: int) -> DetectionMemory:
        levels = np.zeros((len(LEVELS), rows, n))
        levels[[LEVELS.index("last"), LEVELS.index("last_at_s")]] = np.nan
        return cls(
            levels=levels,
            scales=np.zeros((len(SCALES), rows, n), np.float32),
            course=np.full((HOURS + WEEK_HOURS, rows, n), np.nan, np.float32),
            alarm=np.full((len(ALARM), rows, n), np.nan, np.float32),
            alarm_at_s=np.full((len(ALARM_TIMES), rows, n), np.nan),
        )

    def last_alarm(self, row: int, twin: int) -> Mapping[str, float]:
        """The last score of a half or more of one row of one twin: the names of ``ALARM`` and ``ALARM_TIMES``; NaN:
        there was none."""
        return {name: float(column[twin]) for name, column in self.alarms(row).items()}

    def alarms(self, row: int) -> Mapping[str, NDArray[Any]]:
        """The last alarms of one row of all twins, ``(n,)`` each."""
        return {
            **dict(zip(ALARM, self.alarm[:, row], strict=True)),
            **dict(zip(ALARM_TIMES, self.alarm_at_s[:, row], strict=True)),
        }
