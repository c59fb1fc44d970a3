"""The past of one field as forecasts want it: a regular grid of rows, one column an entity, gaps left as gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column

DAY_S = 86_400.0
Rows: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One field of ``n`` entities: ``values (T, n)``, NaN where nothing was said.

    Row ``t`` is the value of the period that ends at ``until_s - (T - 1 - t)·period_s`` (s since the epoch).
    ``extras`` are further inputs ``(T, n)`` known by the same time, e.g. the wind at the same station.
    ``day_class (T + ahead,)`` says which days are alike (0 to 6: weekdays as they are counted from row 0, a public
    holiday given the class of a Sunday); it may reach ahead, because calendars are known ahead. Without it days are
    alike that are whole weeks apart.
    """

    values: Column
    period_s: float
    until_s: float = 0.0
    extras: Mapping[str, Column] = field(default_factory=dict)
    day_class: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise ValueError(f"a series has values (rows, entities), not of shape {self.values.shape}")
        if not self.period_s > 0:
            raise ValueError(f"the period of a series is above 0 s, not {self.period_s:g}")
        if np.isinf(self.values).any():
            raise ValueError("a series holds numbers and NaN for what is not known, never inf")
        for name, column in self.extras.items():
            if column.shape != self.values.shape:
                raise ValueError(f"extra {name!r} has shape {column.shape}, the series {self.values.shape}")
        if self.day_class is not None and len(self.day_class) < len(self.values):
            raise ValueError(f"day_class has {len(self.day_class)} rows, the series {len(self.values)}")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def entities(self) -> int:
        return int(self.values.shape[1])

    @property
    def rows_per_day(self) -> int | None:
        """How many rows make a day; None where the period does not divide a day."""
        rows = DAY_S / self.period_s
        return round(rows) if rows >= 1 and abs(rows - round(rows)) < 1e-9 else None

    def head(self, rows: int) -> Series:
        """The first rows alone: what was known by then. The calendar stays, it is known ahead."""
        if rows >= len(self):
            return self
        return replace(
            self,
            values=self.values[:rows],
            until_s=self.until_s - (len(self) - rows) * self.period_s,
            extras={name: column[:rows] for name, column in self.extras.items()},
        )

    def steps(self, horizons_s: tuple[float, ...]) -> tuple[int, ...]:
        """Horizons in rows. Raises ValueError for one that is no whole number of periods, or below one."""
        steps = []
        for horizon in horizons_s:
            rows = horizon / self.period_s
            if round(rows) < 1 or abs(rows - round(rows)) > 1e-6:
                raise ValueError(f"a horizon of {horizon:g} s is no multiple of the series' period {self.period_s:g} s")
            steps.append(round(rows))
        return tuple(steps)


def resample(
    at_s: Column,
    entity: NDArray[np.intp],
    values: Column,
    *,
    entities: int,
    period_s: float,
    until_s: float,
    rows: int,
) -> Series:
    """Readings at any times as a Series of ``rows`` periods that end at ``until_s``: the mean of each period.

    ``at_s (m,)``, ``entity (m,)`` columns and ``values (m,)`` in any order; a reading at the end of a period belongs
    to it, later ones than ``until_s`` and NaN are left out.
    """
    back = np.floor((until_s - at_s) / period_s + 1e-9)
    use = np.isfinite(values) & (at_s <= until_s) & (back < rows)
    place = (rows - 1 - back[use].astype(np.intp)) * entities + entity[use]
    total = np.bincount(place, weights=values[use], minlength=rows * entities)
    count = np.bincount(place, minlength=rows * entities)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return Series(values=mean.reshape(rows, entities), period_s=period_s, until_s=until_s)


def held(values: Column) -> Column:
    """Each gap filled with the last value before it (along the first axis); what comes before the first stays NaN."""
    rows = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    last = np.maximum.accumulate(np.where(np.isfinite(values), rows, -1), axis=0)
    taken = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where(last >= 0, taken, np.nan)


def held_by_season(values: Column, lag: int) -> Column:
    """Each gap filled with the value ``lag`` rows before it, or as many lags before as it takes; else NaN."""
    rows, n = values.shape
    padded = np.full((-(-rows // lag) * lag, n), np.nan)
    padded[:rows] = values
    return held(padded.reshape(-1, lag, n)).reshape(-1, n)[:rows]


def alike_rows(series: Series, horizon: int, count: int, farthest_days: int = 70) -> Rows:
    """For each target row ``0 … T + horizon - 1`` the rows of its latest like days, ``(T + horizon, count)``.

    A like day has the same class and is known when the forecast is made, ``horizon`` rows before the target.
    -1 where there is none within ``farthest_days``. Raises ValueError where the period does not divide a day.
    """
    per_day = series.rows_per_day
    if per_day is None:
        raise ValueError(f"a period of {series.period_s:g} s does not divide a day: it has no rhythm of days")
    target = np.arange(len(series) + horizon)
    classes = target // per_day % 7
    if series.day_class is not None:
        known = series.day_class[: len(target)]
        classes = np.concatenate([known, _continued(known, len(target), per_day)])
    found = np.full((len(target), count), -1, np.intp)
    so_far = np.zeros(len(target), np.intp)
    for days in range(-(-horizon // per_day), farthest_days + 1):
        row = target - days * per_day
        same = (row >= 0) & (so_far < count)
        same[same] = classes[row[same]] == classes[target[same]]
        found[same, so_far[same]] = row[same]
        so_far[same] += 1
        if (so_far >= count).all():
            break
    return found


def _continued(known: NDArray[np.int64], rows: int, per_day: int) -> NDArray[np.int64]:
    """Classes for rows beyond the calendar: those of a week before."""
    week = 7 * per_day
    ahead = np.arange(len(known), rows)
    back = -(-(ahead - len(known) + 1) // week) * week
    source = ahead - back
    return np.where(source >= 0, known[np.maximum(source, 0)], 0)
