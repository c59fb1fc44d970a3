"""EPA's NowCast for particles, and plain means of clock hours with the hours that they need.

Hours come newest first on the leading axis, NaN where an hour is missing.
Source: EPA-454/B-24-002 (May 2024), section IV, "How the NowCast is calculated".
"""

from __future__ import annotations

import numpy as np

from twin_actors.core.columns import Column

HOURS = 12
SMALLEST_WEIGHT = 0.5


def nowcast(hours: Column) -> Column:
    """The weighted mean of twelve hours, not yet truncated; NaN without two of the newest three hours.

    ``hours`` is ``(12, …, n)``, newest first. The weight factor is the lowest over the highest hour, at least
    one half; hour *i* back counts with its *i*-th power, and missing hours count neither above nor below.
    Twelve hours of nothing but zero have the weight factor 1 (their mean is 0 whatever it is). Raises
    ValueError unless twelve hours are given.
    """
    if hours.shape[0] != HOURS:
        raise ValueError(f"NowCast takes {HOURS} hours, newest first, not {hours.shape[0]}")
    said = ~np.isnan(hours)
    highest = np.where(said, hours, -np.inf).max(axis=0)
    lowest = np.where(said, hours, np.inf).min(axis=0)
    positive = (highest > 0.0) & np.isfinite(highest)
    ratio = np.where(positive, lowest, 1.0) / np.where(positive, highest, 1.0)
    factor = np.maximum(ratio, SMALLEST_WEIGHT)
    ago = np.arange(HOURS, dtype=np.float64).reshape(-1, *(1,) * (hours.ndim - 1))
    weights = np.where(said, factor**ago, 0.0)
    total = (weights * np.where(said, hours, 0.0)).sum(axis=0)
    enough = said[:3].sum(axis=0) >= 2
    return np.asarray(np.where(enough, total / np.where(enough, weights.sum(axis=0), 1.0), np.nan))


def mean_of_hours(hours: Column, needed: int) -> Column:
    """Mean over the leading axis, NaN where fewer than ``needed`` hours were said."""
    said = ~np.isnan(hours)
    count = said.sum(axis=0)
    total = np.where(said, hours, 0.0).sum(axis=0)
    return np.asarray(np.where(count >= needed, total / np.maximum(count, 1), np.nan))
