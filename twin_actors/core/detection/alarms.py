"""What was behind a score of a half or more, kept with the twin until its next alarm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.detection.memory import DetectionMemory


@dataclass(frozen=True, slots=True)
class Behind:
    """What stood behind ``m`` scores, each column ``(m,)``: as it was before the last value and the courses moved on,
    but ``short``, ``long`` and ``run`` after.

    ``knew`` and ``away (2, m)`` are of the daily and the weekly course, with nothing in them before there are any;
    ``evidence (WEIGHED + 1, m)`` of the weighed views and of being stuck, ``statistics (WEIGHED, m)`` of the former.
    """

    rows: NDArray[np.intp]
    twins: NDArray[np.intp]
    at_s: Column
    score: NDArray[np.float32]
    value: Column
    innovation: Column
    last: Column
    last_at_s: Column
    short: Column
    long: Column
    run: NDArray[np.float32]
    scale: NDArray[np.float32]
    knew: NDArray[np.float32]
    away: NDArray[np.float32]
    evidence: Column
    statistics: NDArray[np.float32]


def keep(memory: DetectionMemory, behind: Behind) -> None:
    """Keep what was behind some scores; their rows of twins are distinct."""
    view = np.argmax(behind.evidence, axis=0)
    usual = np.full(len(view), np.nan)
    if len(behind.knew):
        (day_knew, week_knew), (day_away, week_away) = behind.knew, behind.away
        nearer = ~(week_away >= day_away) & ~np.isnan(week_away)
        usual = np.sinh(np.where(nearer, week_knew, day_knew).astype(np.float64)) * behind.scale
    weighed = np.minimum(view, len(behind.statistics) - 1)
    memory.alarm[:, behind.rows, behind.twins] = np.stack(
        [
            behind.score, behind.value, behind.last, behind.short, behind.long, usual, behind.value - behind.innovation,
            behind.statistics[weighed, np.arange(len(view))], behind.run, view,
        ]
    )  # fmt: skip
    memory.alarm_at_s[:, behind.rows, behind.twins] = behind.at_s, behind.last_at_s
