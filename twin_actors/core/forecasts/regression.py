"""Direct regression of each horizon on what the twin, its neighbours and its calendar say, by absolute deviations.

Every input is a difference to the last value of the same entity, in the entity's own scale, or has no unit; so the
forecasts shift and scale with the data. Inputs, all known at the origin ``o``:

- the window: x(o − i) − x(o), and means over a quarter of a day, a day, three days and a week
- how far x(o) lies above what is usual for it (hinges at its quantiles: a jam ends differently from free flow)
- the kind: the mean over all entities and its recent changes; the ``neighbours`` that say most beyond the own past
- the rhythm: the target's value on the latest like days, the present deviation from the last like day, the profile
- extras (weather, other pollutants): deviation from their own trailing week, own and mean over entities
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.forecasts.absolute import AbsoluteFit, fit_absolute
from twin_actors.core.forecasts.methods import Fitted
from twin_actors.core.forecasts.series import Rows, Series, alike_rows, held, held_by_season

_HINGES = (0.1, 0.3, 0.5, 0.8)
_LEAST_ROWS = 60
_RIDGE = 0.01


@dataclass(frozen=True, slots=True)
class Regression:
    """``scope``: one regression for all entities, or one for each. ``logarithm``: of the values, for quantities above
    nought that grow by factors (then scaling holds, shifting does not). ``memory`` limits the training rows."""

    scope: Literal["pooled", "own"] = "pooled"
    window: int = 12
    neighbours: int = 0
    like_days: int = 4
    ridge: float = _RIDGE
    memory: int | None = None
    logarithm: bool = False

    @property
    def name(self) -> str:
        parts = ["regression", self.scope]
        parts += [f"{self.neighbours}-neighbours"] if self.neighbours else []
        parts += [f"last-{self.memory}"] if self.memory else []
        parts += ["log"] if self.logarithm else []
        return "-".join(parts + ([f"{self.ridge:g}"] if self.ridge != _RIDGE else []))

    def fit(self, series: Series, horizons: Sequence[int]) -> Fitted:
        steps = tuple(horizons)
        view = _View.of(series, self.logarithm)
        rows = len(series)
        fits: list[AbsoluteFit | None] = []
        chosen: list[Rows | None] = []
        first = max(self.window, rows - self.memory if self.memory is not None else 0)
        for horizon in steps:
            origins = np.arange(first, rows - horizon)
            if len(origins) < _LEAST_ROWS:
                fits.append(None)
                chosen.append(None)
                continue
            now = view.known[origins]
            change = view.said[origins + horizon] - now
            use = np.isfinite(change)
            change = np.where(use, change, 0.0)
            inputs = self._inputs(view, series, origins, horizon)
            near = None
            if self.neighbours and series.entities > 1:
                near = _neighbours(view.known[origins], inputs, change, use, self.neighbours)
                inputs = np.concatenate([inputs, _of_neighbours(view.known, origins, near)], axis=-1)
            chosen.append(near)
            if self.scope == "pooled":
                width = inputs.shape[-1]
                fits.append(
                    fit_absolute(inputs.reshape(1, -1, width), change.reshape(1, -1), use.reshape(1, -1), self.ridge)
                )
            else:
                fits.append(fit_absolute(inputs.transpose(1, 0, 2), change.T, use.T, self.ridge))
        return _Regression(self, view.centre, view.scale, view.quantiles, tuple(fits), tuple(chosen), steps)

    def _inputs(self, view: _View, series: Series, origins: Rows, horizon: int) -> Column:
        """``(origins, n, p)``; what is not known is no difference: 0."""
        known = view.known
        now = known[origins]
        columns = [known[np.maximum(origins - back, 0)] - now for back in range(1, self.window)]
        day = view.day
        columns += [view.mean(origins, span) - now for span in (day // 4, day, 3 * day, 7 * day) if span > 1]
        columns += [np.maximum(now - mark, 0.0) for mark in view.quantiles]
        columns.append(now - view.quantiles[2])
        if series.entities > 1:
            together = np.broadcast_to(_mean_of_known(known)[:, None], known.shape)
            columns.append(together[origins] - now)
            columns += [
                together[origins] - together[np.maximum(origins - back, 0)]
                for back in sorted({1, self.window // 4, self.window // 2, self.window})
                if back > 0
            ]
        if series.rows_per_day is not None and day > 1:
            columns += self._rhythm(view, series, origins, horizon)
        for column in series.extras.values():
            columns += _of_extra(column, origins, self.window, 7 * day)
        stacked: Column = np.nan_to_num(np.stack(np.broadcast_arrays(*columns), axis=-1), copy=False)
        return stacked

    def _rhythm(self, view: _View, series: Series, origins: Rows, horizon: int) -> list[Column]:
        now, day = view.known[origins], view.day
        columns = []
        likes = alike_rows(series, horizon, self.like_days)[origins + horizon]
        values = [_taken(view.seasoned, likes[:, order]) for order in range(self.like_days)]
        columns += [value - now for value in values]
        seen = np.stack(values)
        count = np.isfinite(seen).sum(axis=0)
        columns.append(np.where(count > 0, np.nan_to_num(seen).sum(axis=0) / np.maximum(count, 1), np.nan) - now)
        last_like = alike_rows(series, 1, 1)[:, 0]
        for back in (0, 1, 2, day):
            row = origins - back
            usual = np.where((row >= 0)[:, None], _taken(view.seasoned, last_like[np.maximum(row, 0)]), np.nan)
            columns.append(view.seasoned[np.maximum(row, 0)] - usual)
        yesterday = origins + horizon - -(-horizon // day) * day
        columns.append(_taken(view.seasoned, yesterday) - now)
        columns.append(_taken(view.seasoned, yesterday) - _taken(view.seasoned, last_like[np.maximum(yesterday, 0)]))
        columns.append(_taken(view.known, origins - day) - now)
        turn = 2 * np.pi * (origins + horizon) / day
        columns += [
            np.broadcast_to(wave(order * turn)[:, None], now.shape) for order in (1, 2, 3) for wave in (np.sin, np.cos)
        ]
        return columns


def _taken(values: Column, rows: Rows) -> Column:
    return np.where((rows >= 0)[:, None], values[np.maximum(rows, 0)], np.nan)


def _of_extra(column: Column, origins: Rows, window: int, week: int) -> list[Column]:
    """An extra as its deviation from its trailing week, in units of its usual deviation, and its changes."""
    filled = held(column)
    away = np.nan_to_num(filled - _trailing(filled, np.arange(len(filled)), week))
    # the unit is that of the rows so far, so that it never sees what lies ahead of the origin
    so_far = np.cumsum(np.abs(away).mean(axis=1)) / np.arange(1, len(away) + 1)
    unit = np.where(so_far > 0, so_far, 1.0)[origins, None]
    mean = np.broadcast_to(away.mean(axis=1, keepdims=True), away.shape)
    parts = [mean[origins]]
    parts += [mean[origins] - mean[np.maximum(origins - back, 0)] for back in (max(window // 4, 1), window)]
    if column.shape[1] > 1:
        parts.append(away[origins] - mean[origins])
    return [part / unit for part in parts]


def _trailing(values: Column, origins: Rows, span: int) -> Column:
    """Mean of what is known in the last ``span`` rows up to each origin; NaN where nothing is."""
    known = np.isfinite(values)
    nothing = np.zeros((1, values.shape[1]))
    total = np.vstack([nothing, np.cumsum(np.where(known, values, 0.0), axis=0)])
    count = np.vstack([nothing, np.cumsum(known, axis=0)])
    first = np.maximum(origins + 1 - span, 0)
    some = count[origins + 1] - count[first]
    return np.where(some > 0, (total[origins + 1] - total[first]) / np.maximum(some, 1.0), np.nan)


def _mean_of_known(values: Column) -> Column:
    """Over the entities, ``(T,)``; NaN where none is known."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, slots=True)
class _View:
    """A series as deviations from the entities' own centre in their own scale, with its gaps held."""

    said: Column
    known: Column  # gaps held with the last value
    seasoned: Column  # gaps held with the value of a week, else of a moment, before
    centre: Column  # (n,)
    scale: Column  # (n,)
    quantiles: Column  # (4, n)
    day: int

    @classmethod
    def of(cls, series: Series, logarithm: bool, fitted: _Regression | None = None) -> _View:
        values = series.values
        centre, scale = (fitted.centre, fitted.scale) if fitted is not None else _unit(values, logarithm)
        said = np.log(np.maximum(values / scale, 0.0) + 0.1) if logarithm else (values - centre) / scale
        known = held(said)
        if fitted is not None:
            quantiles = fitted.quantiles
        else:
            sound = np.where(np.isfinite(said).any(axis=0), said, 0.0)
            quantiles = np.nanquantile(sound, _HINGES, axis=0)
        day = series.rows_per_day or 24
        week = held_by_season(said, 7 * day)
        return cls(said, known, np.where(np.isfinite(week), week, known), centre, scale, quantiles, day)

    def mean(self, origins: Rows, span: int) -> Column:
        return _trailing(self.known, origins, span)


def _unit(values: Column, logarithm: bool) -> tuple[Column, Column]:
    """Centre and scale of each entity: median and mean deviation from it; nought and the mean for logarithms."""
    sound = np.isfinite(values)
    filled = np.where(sound.any(axis=0), values, 0.0)
    middle = np.zeros(values.shape[1]) if logarithm else np.nanmedian(filled, axis=0)
    unit = np.nanmean(np.abs(filled - middle), axis=0)
    return middle, np.where(unit > 0, unit, 1.0)


def _neighbours(known: Column, inputs: Column, change: Column, use: Column, count: int) -> Rows:
    """Per entity the others whose present values say most about what the own past leaves open, ``(n, count)``.

    Correlation of (their value − own value) with the residual of one pooled regression on the own inputs.
    """
    n = known.shape[1]
    width = inputs.shape[-1]
    own = fit_absolute(inputs.reshape(1, -1, width), change.reshape(1, -1), use.reshape(1, -1).astype(np.bool_), 0.01)
    rest = np.where(use, change - own(inputs.reshape(1, -1, width)).reshape(change.shape), 0.0)
    count = min(count, n - 1)
    near = np.empty((n, count), np.intp)
    for entity in range(n):
        apart = np.nan_to_num(known - known[:, entity : entity + 1])
        apart = apart - apart.mean(axis=0)
        left = rest[:, entity] - rest[:, entity].mean()
        spread = np.sqrt((apart**2).mean(axis=0))
        told = np.abs(left @ apart) / np.where(spread > 1e-12, spread, np.inf)
        told[entity] = -1.0
        near[entity] = np.argsort(-told, kind="stable")[:count]
    return near


def _of_neighbours(known: Column, origins: Rows, near: Rows) -> Column:
    """Their present differences to the own value, ``(origins, n, count)``."""
    now = known[origins]
    return np.nan_to_num(now[:, near] - now[..., None])


@dataclass(frozen=True, slots=True)
class _Regression:
    method: Regression
    centre: Column
    scale: Column
    quantiles: Column
    fits: tuple[AbsoluteFit | None, ...]
    near: tuple[Rows | None, ...]
    horizons: tuple[int, ...]

    def at(self, series: Series, origins: Rows) -> Column:
        method = self.method
        view = _View.of(series, method.logarithm, self)
        now = view.known[origins]
        made = np.empty((len(origins), len(self.horizons), series.entities))
        for order, (horizon, fit, near) in enumerate(zip(self.horizons, self.fits, self.near, strict=True)):
            if fit is None:
                made[:, order] = now
                continue
            inputs = method._inputs(view, series, origins, horizon)
            if near is not None:
                inputs = np.concatenate([inputs, _of_neighbours(view.known, origins, near)], axis=-1)
            width = inputs.shape[-1]
            if method.scope == "pooled":
                change = fit(inputs.reshape(1, -1, width)).reshape(now.shape)
            else:
                change = fit(inputs.transpose(1, 0, 2)).T
            made[:, order] = now + change
        values: Column = np.maximum(np.exp(made) - 0.1, 0.0) if method.logarithm else made
        return values * self.scale + self.centre
