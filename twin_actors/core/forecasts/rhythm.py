"""Regression of what the usual value of an hour leaves open: for quantities that live by the clock and the calendar.

The base of every forecast is the usual value of its target: a mean of the latest like days, each of which weighs
``fade`` times the one after it. What a regression by least absolute deviations adds is known at the origin: by how much
the last moments, hours, days and the week lay off their own usual values (of the entity and of its kind), the same hour
of the last days, the like days one by one, and how the usual value moves around the target. Its penalty draws towards
the usual value; that of ``Regression`` draws towards the last one, which says little of a time half a day away.

Counts vary in proportion to their level, and the mean absolute error asks for their median: on a root or logarithmic
scale deviations are alike at noon and at night. Rows then weigh as much as a deviation of one is worth in units of the
field (the slope of the inverse at the usual value), so that the error that is minimised stays the one that is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.forecasts.absolute import AbsoluteFit, fit_absolute
from twin_actors.core.forecasts.methods import Fitted
from twin_actors.core.forecasts.series import Rows, Series, alike_rows, held, held_by_season

Scope: TypeAlias = Literal["pooled", "own"]
Scale: TypeAlias = Literal["plain", "root", "log"]

_LEAST_ROWS = 60
_SMALLEST = 0.05  # no row of a root scale weighs less


class _Curve(NamedTuple):
    """A scale for values in units of their mean, its inverse, and the slope of the inverse."""

    to: Callable[[Column], Column]
    back: Callable[[Column], Column]
    slope: Callable[[Column], Column]


_CURVES: dict[Scale, _Curve] = {
    "plain": _Curve(lambda v: v, lambda g: g, np.ones_like),
    "root": _Curve(
        lambda v: np.sqrt(np.maximum(v, 0.0) + 0.02),
        lambda g: np.maximum(g, 0.0) ** 2 - 0.02,
        lambda g: np.maximum(g, _SMALLEST),
    ),
    "log": _Curve(lambda v: np.log(np.maximum(v, 0.0) + 0.1), lambda g: np.exp(g) - 0.1, np.exp),
}


@dataclass(frozen=True, slots=True)
class RhythmRegression:
    """``scope``: one regression for all entities, or one for each. ``scale`` other than "plain" is for values that are
    never below nought (then forecasts scale with the data, but do not shift). Needs whole rows a day."""

    scope: Scope = "pooled"
    scale: Scale = "plain"
    like_days: int = 6
    fade: float = 0.75
    ridge: float = 0.01

    @property
    def name(self) -> str:
        return "-".join(["rhythm", self.scope, *([self.scale] if self.scale != "plain" else [])])

    def fit(self, series: Series, horizons: Sequence[int]) -> Fitted:
        steps, rows = tuple(horizons), len(series)
        view = _View.of(self, series, None)
        first = min(28 * view.day, rows // 2)
        weight_of_entity = view.unit / view.unit.mean()
        fits: list[AbsoluteFit | None] = []
        for horizon in steps:
            origins = np.arange(max(first - horizon, 0), rows - horizon)
            if len(origins) < _LEAST_ROWS:
                fits.append(None)
                continue
            usual, inputs = view.inputs(series, origins, horizon)
            left = view.said[origins + horizon] - usual
            use = np.isfinite(left)
            worth = np.where(use, view.curve.slope(np.where(use, usual, 0.0)), 0.0)
            left = np.where(use, left, 0.0)
            width = inputs.shape[-1]
            if self.scope == "pooled":
                fits.append(
                    fit_absolute(
                        inputs.reshape(1, -1, width), left.reshape(1, -1), use.reshape(1, -1), self.ridge,
                        worth=(worth * weight_of_entity).reshape(1, -1),
                    )
                )  # fmt: skip
            else:
                fits.append(fit_absolute(inputs.transpose(1, 0, 2), left.T, use.T, self.ridge, worth=worth.T))
        return _RhythmRegression(self, view.centre, view.unit, tuple(fits), steps)


@dataclass(frozen=True, slots=True)
class _RhythmRegression:
    method: RhythmRegression
    centre: Column
    unit: Column
    fits: tuple[AbsoluteFit | None, ...]
    horizons: tuple[int, ...]

    def at(self, series: Series, origins: Rows) -> Column:
        """The last known value where no like day is known."""
        view = _View.of(self.method, series, (self.centre, self.unit))
        last = held(series.values)[origins]
        made = np.empty((len(origins), len(self.horizons), series.entities))
        for order, (horizon, fit) in enumerate(zip(self.horizons, self.fits, strict=True)):
            if fit is None:
                made[:, order] = last
                continue
            usual, inputs = view.inputs(series, origins, horizon)
            if self.method.scope == "pooled":
                more = fit(inputs.reshape(1, -1, inputs.shape[-1])).reshape(usual.shape)
            else:
                more = fit(inputs.transpose(1, 0, 2)).T
            values = view.curve.back(usual + more) * self.unit + self.centre
            made[:, order] = np.where(np.isfinite(values), values, last)
        return made


@dataclass(frozen=True, slots=True)
class _View:
    """A series on the method's scale, and how far each row lay off its usual value of the row before."""

    method: RhythmRegression
    curve: _Curve
    said: Column
    seasoned: Column  # gaps held with the value of a week before
    off: Column  # said − usual, NaN where either is not known
    levels: tuple[Column, ...]  # weighted means of ``off`` over the spans of ``_spans``
    centre: Column  # (n,)
    unit: Column  # (n,)
    day: int

    @classmethod
    def of(cls, method: RhythmRegression, series: Series, units: tuple[Column, Column] | None) -> _View:
        curve, day = _CURVES[method.scale], series.rows_per_day
        if day is None:
            raise ValueError(f"a period of {series.period_s:g} s does not divide a day: it has no rhythm of days")
        centre, unit = units if units is not None else _units(series.values, method.scale == "plain")
        said = curve.to((series.values - centre) / unit)
        seasoned = held_by_season(said, 7 * day)
        likes = _likes(method, series, seasoned, np.arange(len(series)), 1)
        usual = _faded(likes, method.fade)
        off = said - usual
        known = np.isfinite(off)
        worth = np.where(known, curve.slope(np.where(known, usual, 0.0)), 0.0)
        levels = tuple(_mean_off(np.where(known, off, 0.0), worth, span) for span in _spans(day))
        return cls(method, curve, said, seasoned, off, levels, centre, unit, day)

    def inputs(self, series: Series, origins: Rows, horizon: int) -> tuple[Column, Column]:
        """The usual value of the target ``(origins, n)`` and what may be added to it, ``(origins, n, p)``; what is not
        known is no deviation: 0."""
        method, day = self.method, self.day
        target = origins + horizon
        likes = _likes(method, series, self.seasoned, target, horizon)
        usual = _faded(likes, method.fade)
        columns = [likes[order] - usual for order in range(min(4, len(likes)))]
        columns.append(_middle(likes) - usual)
        columns += [_taken(self.off, origins - back) for back in (0, 1, 2)]
        columns += [level[origins] for level in self.levels]
        if series.entities > 1:
            columns += [
                np.broadcast_to(self.levels[place][origins].mean(axis=1, keepdims=True), usual.shape)
                for place in (0, 2, 3, 4)
            ]
        back = -(-horizon // day) * day  # the latest same hour of a day that is known
        same_hour = np.stack([_taken(self.off, target - back - days * day) for days in range(7)])
        columns += [same_hour[0], same_hour[1], _mean(same_hour[:3]), _mean(same_hour)]
        # the like day of the row after the target is known for one row more of distance only
        later = _faded(_likes(method, series, self.seasoned, target + 1, horizon + 1), method.fade)
        sooner = _faded(_likes(method, series, self.seasoned, target - 1, horizon), method.fade)
        columns += [later - usual, sooner - usual]
        turn = 2 * np.pi * target / day
        columns += [
            np.broadcast_to(wave(order * turn)[:, None], usual.shape) for order in (1, 2) for wave in (np.sin, np.cos)
        ]
        stacked: Column = np.nan_to_num(np.stack(columns, axis=-1), copy=False)
        return usual, stacked


def _spans(day: int) -> tuple[int, ...]:
    return (max(day // 8, 1), max(day // 4, 1), day, 3 * day, 7 * day)


def _units(values: Column, plain: bool) -> tuple[Column, Column]:
    """Centre and unit of each entity: mean and mean deviation from it; nought and the mean for other scales."""
    sound = np.isfinite(values)
    count = np.maximum(sound.sum(axis=0), 1)
    mean = np.where(sound, values, 0.0).sum(axis=0) / count
    centre = mean if plain else np.zeros_like(mean)
    unit = np.where(sound, np.abs(values - centre), 0.0).sum(axis=0) / count
    return centre, np.where(unit > 0, unit, 1.0)


def _likes(method: RhythmRegression, series: Series, seasoned: Column, target: Rows, horizon: int) -> Column:
    """Values of the latest like days of each target that are known ``horizon`` rows before, ``(like_days, m, n)``."""
    rows = alike_rows(series, horizon, method.like_days)[np.maximum(target, 0)]
    return np.stack([_taken(seasoned, rows[:, order]) for order in range(method.like_days)])


def _faded(likes: Column, fade: float) -> Column:
    weight = np.isfinite(likes) * fade ** np.arange(len(likes))[:, None, None]
    total = weight.sum(axis=0)
    return np.where(total > 0, (np.nan_to_num(likes) * weight).sum(axis=0) / np.where(total > 0, total, 1.0), np.nan)


def _mean(values: Column) -> Column:
    return _faded(values, 1.0)


def _middle(likes: Column) -> Column:
    """The median of the known ones along the first axis; NaN where none is."""
    ranked = np.sort(likes, axis=0)  # NaN last
    count = np.isfinite(likes).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    high = np.minimum(high, np.maximum(count - 1, 0))
    both = np.take_along_axis(ranked, np.stack([low, high]), axis=0)
    return np.asarray(both.mean(axis=0))


def _mean_off(off: Column, worth: Column, span: int) -> Column:
    """Mean of ``off`` over the last ``span`` rows, each weighing its worth; 0 where nothing is known."""
    nothing = np.zeros((1, off.shape[1]))
    total, weight = (np.vstack([nothing, np.cumsum(each, axis=0)]) for each in (off * worth, worth))
    until = np.arange(len(off)) + 1
    since = np.maximum(until - span, 0)
    some = weight[until] - weight[since]
    return np.where(some > 1e-9, (total[until] - total[since]) / np.where(some > 1e-9, some, 1.0), 0.0)


def _taken(values: Column, rows: Rows) -> Column:
    return np.where((rows >= 0)[:, None], values[np.maximum(rows, 0)], np.nan)
