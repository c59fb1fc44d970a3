"""``predicted``: the best method for a field, its forecast with quantiles, and beside it its error so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.forecasts.backtest import (
    Choice,
    Errors,
    Recent,
    backtest,
    choose,
    dense,
    mixture,
    outcomes,
    recent,
)
from twin_actors.core.forecasts.methods import Method, ProfileDecay, RepeatLast, SeasonalNaive, WindowRidge
from twin_actors.core.forecasts.quantiles import LEVELS, Tracked, coverage, track, usual_size
from twin_actors.core.forecasts.regression import Regression
from twin_actors.core.forecasts.rhythm import RhythmRegression
from twin_actors.core.forecasts.rollout import RollOut
from twin_actors.core.forecasts.series import Series

NOMINAL = 0.9
"""The interval that is shown, between the first and the last of LEVELS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Forecasts of one field of ``n`` entities at ``H`` horizons, with what is known of their errors.

    ``values (H, n)``, ``quantiles (levels, H, n)``. From the backtest over the same past: ``mae`` and ``rmse
    (H, n)`` of the method in use, ``last_mae (H, n)`` of repeating the last value, ``coverage (H,)`` of the interval
    between the first and the last level, ``mae_by_method`` ``(H,)`` over all entities.
    """

    made_at_s: float
    horizons_s: tuple[float, ...]
    values: Column
    levels: tuple[float, ...]
    quantiles: Column
    methods: tuple[str, ...]
    mae: Column
    rmse: Column
    last_mae: Column
    coverage: Column
    mae_by_method: Mapping[str, Column]
    origins: int

    @property
    def at_s(self) -> tuple[float, ...]:
        """The times that are forecast, s since the epoch."""
        return tuple(self.made_at_s + horizon for horizon in self.horizons_s)

    def of(self, entity: int) -> list[dict[str, float | str]]:
        """One row a horizon for one entity (its column), as plain values."""
        return [
            {
                "horizon_s": horizon,
                "at_s": self.made_at_s + horizon,
                "value": float(self.values[order, entity]),
                **{
                    f"q{round(100 * level):02d}": float(self.quantiles[rank, order, entity])
                    for rank, level in enumerate(self.levels)
                },
                "method": self.methods[order],
                "mae": float(self.mae[order, entity]),
                "rmse": float(self.rmse[order, entity]),
                "last_mae": float(self.last_mae[order, entity]),
                "coverage": float(self.coverage[order]),
            }
            for order, horizon in enumerate(self.horizons_s)
        ]

    def __repr__(self) -> str:
        lines = []
        for order, horizon in enumerate(self.horizons_s):
            low, high = self.quantiles[0, order], self.quantiles[-1, order]
            if self.values.shape[1] == 1:
                said = f"{self.values[order, 0]:.4g} [{low[0]:.4g}, {high[0]:.4g}]"
            else:
                said = f"{self.values.shape[1]} entities, mean {np.nanmean(self.values[order]):.4g}"
            lines.append(
                f"+{span(horizon):>7}  {said}  by {self.methods[order]}, off by {np.nanmean(self.mae[order]):.3g} "
                f"so far (last value: {np.nanmean(self.last_mae[order]):.3g}), "
                f"covered {100 * self.coverage[order]:.0f} %"
            )
        return "\n".join(lines)


def span(seconds: float) -> str:
    """A stretch of time as people say it: "15 min", "6 h"."""
    for name, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {name}"
    return f"{seconds:g} s"


def default_methods(series: Series, horizons: Sequence[int]) -> tuple[Method, ...]:
    """What takes part in the choice for a series of this length: simple ones always, learners where rows suffice.

    A method that repeats or learns a rhythm needs three of its cycles.
    """
    rows, n, day = len(series), series.entities, series.rows_per_day
    longest = max(horizons)
    methods: list[Method] = [RepeatLast()]
    if day is not None and day > 1:
        if rows >= 3 * day:
            methods += [SeasonalNaive(day, "time-yesterday"), ProfileDecay(day, "day")]
        if rows >= 21 * day:
            methods += [SeasonalNaive(7 * day, "time-last-week"), ProfileDecay(7 * day, "week")]
    window = min(2 * day if day is not None else 48, rows // 8, 336)
    if window >= 8 and rows >= 3 * (window + longest):
        methods.append(WindowRidge(window))
    if rows >= 4 * longest + 200:
        methods.append(Regression("pooled"))
        if rows >= 4 * longest + 600 and n > 1:
            methods.append(Regression("own", neighbours=min(8, n - 1)))
    if day is not None and day > 1 and rows >= 42 * day and rows >= 4 * longest + 600:
        # what is never below nought may vary in proportion to its level
        counts = bool(np.nanmin(series.values, initial=np.inf) >= 0)
        methods += [RhythmRegression("own", scale) for scale in (("plain", "log") if counts else ("plain",))]
    return tuple(methods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A backtest of all methods, the choice by its first part, and how the choice did in the rest."""

    origins: NDArray[np.intp]
    choice: Choice
    followed: tuple[str, ...]  # methods in the recent mixture, in the order of its weights
    recent: Recent
    made: Column  # (origins, H, n) of the choice
    came: Column
    last: Column  # (origins, H, n) of repeating the last value
    tracked: Tracked
    held_back: NDArray[np.bool_]  # (origins, H): targets that the choice has not seen

    def errors(self) -> Errors:
        """Of the choice, on held-back targets where the last value is known as well."""
        return Errors.of(np.where(self._compared(), self.made, np.nan), self.came)

    def last_errors(self) -> Errors:
        """Of repeating the last value, on the same targets."""
        return Errors.of(np.where(self._compared(), self.last, np.nan), self.came)

    def _compared(self) -> NDArray[np.bool_]:
        return self.held_back[..., None] & np.isfinite(self.last) & np.isfinite(self.made)

    def covered(self) -> tuple[float, ...]:
        """Coverage of the outer levels on held-back targets, by horizon."""
        came = np.where(self.held_back[..., None], self.came, np.nan)
        return tuple(
            coverage(self.tracked.quantiles[:, :, order : order + 1], came[:, order : order + 1])
            for order in range(came.shape[1])
        )


def evaluate(
    series: Series,
    horizons: Sequence[int],
    *,
    methods: Sequence[Method],
    first: int,
    choose_until: int,
    refit_every: int,
    minimum: float = -np.inf,
    maximum: float = np.inf,
    levels: Sequence[float] = LEVELS,
) -> Evaluation:
    """Backtest ``methods`` from origin ``first`` on; choose by targets before row ``choose_until``; judge by the rest.

    Where ``choose_until`` is the length of the series all targets serve the choice, and the coverage is that of the
    tracked quantiles after their start. Nothing at any origin uses a later row. Raises ValueError where the first part
    is not longer than the longest horizon.
    """
    steps = tuple(horizons)
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ValueError(f"two methods have one name: {', '.join(sorted(names))}")
    if choose_until - first <= max(steps) + 1:
        raise ValueError(f"{choose_until - first} origins are too few to choose a method for {max(steps)} rows ahead")
    origins = np.arange(first, len(series))
    made = {
        method.name: np.clip(
            backtest(
                method,
                series,
                steps,
                first=first,
                # a model learns nothing here: all its origins are rolled out together
                refit_every=len(series) if isinstance(method, RollOut) else refit_every,
            ),
            minimum,
            maximum,
        )
        for method in methods
    }
    came = outcomes(series, steps, origins)
    seen = origins[:, None] + np.array(steps) < choose_until
    whole = dense(made)
    followed = recent([made[name] for name in whole], came, steps)
    choice = choose(made, np.where(seen[..., None], came, np.nan), followed=followed.made)
    mixed = choice.apply(made, followed.made)
    last = backtest(RepeatLast(), series, steps, first=first, refit_every=len(series))
    day = series.rows_per_day
    usual = usual_size(mixed, came, steps, day) if day is not None and 1 < day <= len(origins) // 2 else None
    start = min(max((choose_until - first) // 2, max(steps) + 1), len(origins))
    tracked = track(mixed, came, steps, levels=levels, warm=start, usual=usual)
    held_back = ~seen
    if choose_until >= len(series):
        held_back = np.repeat((np.arange(len(origins)) >= start)[:, None], len(steps), axis=1)
    return Evaluation(
        origins=origins,
        choice=choice,
        followed=whole,
        recent=followed,
        made=mixed,
        came=came,
        last=last,
        tracked=tracked,
        held_back=held_back,
    )


def predicted(
    series: Series,
    horizons_s: Sequence[float],
    *,
    methods: Sequence[Method] | None = None,
    minimum: float = -np.inf,
    maximum: float = np.inf,
    backtest_share: float = 0.4,
    refits: int = 3,
) -> Predicted:
    """Forecast a field: choose among ``methods`` by a rolling backtest over the last part of its past, then forecast.

    ``horizons_s`` are multiples of the series' period; values and quantiles are cut at the field's declared limits. A
    past too short for a backtest of the longest horizon raises ValueError with how many rows are needed.
    """
    steps = series.steps(tuple(horizons_s))
    rows = len(series)
    longest = max(steps)
    tested = max(round(rows * backtest_share), 2 * longest + 8)
    first = rows - tested
    if first < max(longest, 4):
        raise ValueError(
            f"a forecast {span(longest * series.period_s)} ahead needs at least {3 * longest + 12} periods of "
            f"{span(series.period_s)} of history, there are {rows}"
        )
    if methods is None:
        methods = default_methods(series.head(first), steps)
    if not any(method.name == RepeatLast().name for method in methods):
        methods = (RepeatLast(), *methods)
    refit_every = max(-(-tested // max(refits, 1)), 1)
    judged = evaluate(
        series, steps, methods=methods, first=first, choose_until=rows, refit_every=refit_every,
        minimum=minimum, maximum=maximum,
    )  # fmt: skip
    now = np.array([rows - 1])
    fresh = {method.name: np.clip(method.fit(series, steps).at(series, now), minimum, maximum) for method in methods}
    followed = mixture([fresh[name] for name in judged.followed], judged.recent.weights)
    values = judged.choice.apply(fresh, followed)[0]
    everything = Errors.of(judged.made, judged.came)
    return Predicted(
        made_at_s=series.until_s,
        horizons_s=tuple(horizons_s),
        values=values,
        levels=judged.tracked.levels,
        quantiles=np.clip(judged.tracked.around(values), minimum, maximum),
        methods=judged.choice.chosen,
        mae=everything.mae,
        rmse=everything.rmse,
        last_mae=Errors.of(np.where(np.isfinite(judged.made), judged.last, np.nan), judged.came).mae,
        coverage=np.array(judged.covered()),
        mae_by_method=judged.choice.mae,
        origins=len(judged.origins),
    )
