"""Stage *monitor*: alert latches with hysteresis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.kind import Alert


@dataclass(slots=True)
class Latches:
    """The alerts of ``n`` twins: ``active (a, n)``, and since when their condition has held or been gone."""

    active: NDArray[np.bool_]
    since_s: Column  # when the present condition (limit passed) began to hold, NaN: it does not
    raised_at_s: Column

    @classmethod
    def empty(cls, alerts: int, n: int) -> Latches:
        return cls(np.zeros((alerts, n), np.bool_), np.full((alerts, n), np.nan), np.full((alerts, n), np.nan))


def monitor(
    alerts: tuple[Alert, ...],
    watched: Mapping[str, Column],
    attributes: Mapping[str, Column],
    latches: Latches,
    now_s: float,
) -> Latches:
    """Raise what has been past its limit for ``for_s``; clear what is back past ``clear``. Pure.

    ``watched`` holds every indicator and scalar state by name, columns ``(n,)``.
    """
    active, since_s, raised = latches.active.copy(), latches.since_s.copy(), latches.raised_at_s.copy()

    def column(limit: float | str) -> Column | float:
        return attributes[limit] if isinstance(limit, str) else limit

    for row, alert in enumerate(alerts):
        value = watched[alert.of]
        if alert.above is not None:
            limit = column(alert.above)
            beyond = value > limit
            back = value <= (limit if alert.clear is None else column(alert.clear))
        else:
            assert alert.below is not None
            limit = column(alert.below)
            beyond = value < limit
            back = value >= (limit if alert.clear is None else column(alert.clear))
        since_s[row] = np.where(beyond, np.where(np.isnan(since_s[row]), now_s, since_s[row]), np.nan)
        rise = ~active[row] & beyond & (now_s - np.where(beyond, since_s[row], now_s) >= alert.for_s)
        active[row] = (active[row] & ~back) | rise
        raised[row] = np.where(rise, now_s, np.where(active[row], raised[row], np.nan))
    return Latches(active, since_s, raised)
