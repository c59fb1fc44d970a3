"""Rolling-origin backtests: what each method would have said, how wrong that was, and how to mix the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.forecasts.methods import Method
from twin_actors.core.forecasts.series import Rows, Series

MIXTURE = "mixture"
RECENT = "recent-mixture"
_SHARPNESS = 8.0
"""A method twice as wrong as the best one weighs 2⁸ times less in a mixture."""

SURE = NormalDist().inv_cdf(0.95)

LEAST_ORIGINS = 20
"""A method that speaks at some origins only is judged by so many of them at least."""

HALF_LIFE = 72
"""Rows after which an error counts half in the recent mixture."""


def backtest(
    method: Method, series: Series, horizons: Sequence[int], *, first: int, refit_every: int, last: int | None = None
) -> Column:
    """What ``method`` would have said at every origin from ``first`` to ``last``: ``(origins, horizons, n)``.

    It is fitted anew every ``refit_every`` rows, each time on rows up to that origin alone. ``last`` defaults to the
    last row of the series, whose forecasts nothing can be compared with yet.
    """
    last = len(series) - 1 if last is None else last
    if not 0 <= first <= last < len(series):
        raise ValueError(f"a backtest runs over origins within the {len(series)} rows, not {first} to {last}")
    parts = []
    for start in range(first, last + 1, refit_every):
        origins = np.arange(start, min(start + refit_every, last + 1))
        fitted = method.fit(series.head(start + 1), horizons)
        parts.append(fitted.at(series.head(int(origins[-1]) + 1), origins))
    return np.concatenate(parts)


def outcomes(series: Series, horizons: Sequence[int], origins: Rows) -> Column:
    """What came: the values of the targets, ``(origins, horizons, n)``; NaN where they are not known."""
    ahead = origins[:, None] + np.array(horizons)
    inside = ahead < len(series)
    return np.where(inside[..., None], series.values[np.minimum(ahead, len(series) - 1)], np.nan)


@dataclass(frozen=True, slots=True)
class Errors:
    """Of forecasts against what came, by horizon and entity ``(H, n)``: NaN where nothing could be compared."""

    mae: Column
    rmse: Column
    bias: Column  # mean of forecast − outcome
    count: Column

    @classmethod
    def of(cls, made: Column, came: Column) -> Errors:
        """Of ``(origins, horizons, n)`` each."""
        wrong = made - came
        known = np.isfinite(wrong)
        count = known.sum(axis=0)
        some = np.where(count > 0, count, np.nan)
        wrong = np.where(known, wrong, 0.0)
        return cls(
            np.abs(wrong).sum(axis=0) / some,
            np.sqrt((wrong**2).sum(axis=0) / some),
            wrong.sum(axis=0) / some,
            count.astype(np.float64),
        )

    def overall(self) -> Column:
        """MAE by horizon over all entities, each error counting once, ``(H,)``."""
        total: Column = np.nansum(self.mae * self.count, axis=1)
        mean: Column = total / np.maximum(self.count.sum(axis=1), 1.0)
        return mean


@dataclass(frozen=True, slots=True)
class Recent:
    """The mixture whose weights follow the errors: ``made (origins, H, n)`` at every origin by what was known there,
    and ``weights (methods, H, n)`` to use now. Bates and Granger, "The combination of forecasts" (1969)."""

    made: Column
    weights: Column


def recent(made: Sequence[Column], came: Column, horizons: Sequence[int]) -> Recent:
    """Mix forecasts ``(origins, H, n)`` of successive rows; each entity weighs the methods by (least / own error)⁸.

    The error at an origin is the mean |forecast − outcome| of those that are known there, which for a horizon of h rows
    are those made h rows before or earlier; the latest count most (``HALF_LIFE``). NaN where none is known yet: there
    is nothing to follow. Methods that say the same at a horizon (the last value and the season's, a season ahead)
    count once.
    """
    stacked = np.stack(made)  # (methods, origins, H, n)
    wrong = np.abs(stacked - came)
    known = np.isfinite(wrong)
    fade = 0.5 ** (1.0 / HALF_LIFE)
    size = np.zeros((len(made), *came.shape[1:]))
    count = np.zeros_like(size)
    counted = _told_apart(stacked, np.isfinite(came))[..., None].astype(np.float64)
    weights = counted * np.ones_like(size)
    mixed = np.empty_like(came)
    place, back = np.arange(len(horizons)), np.array(horizons)
    for now in range(len(came)):
        due = now - back
        if (due >= 0).any():
            past = np.maximum(due, 0)
            arrived = known[:, past, place] & (due >= 0)[:, None]
            size = fade * size + np.where(arrived, wrong[:, past, place], 0.0)
            count = fade * count + arrived
            error = np.where(count > 0, size / np.where(count > 0, count, 1.0), np.nan)
            least = np.where(count > 0, error, np.inf).min(axis=0)
            share = (np.maximum(least, 1e-300) / np.maximum(error, 1e-300)) ** _SHARPNESS
            weights = counted * np.where(np.isfinite(least), np.nan_to_num(share), 1.0)
        said = mixture([each[None] for each in stacked[:, now]], weights)[0]
        mixed[now] = np.where((due >= 0)[:, None], said, np.nan)
    return Recent(mixed, weights)


def _told_apart(made: Column, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the methods ``(methods, origins, H, n)`` count at each horizon, ``(methods, H)``: of two that agree in
    nine places of ten, of those where the outcome is ``known (origins, H, n)``, the first."""
    count = np.ones((made.shape[0], made.shape[2]), np.bool_)
    for later in range(1, len(made)):
        for earlier in range(later):
            both = known & np.isfinite(made[earlier]) & np.isfinite(made[later])
            near = np.isclose(made[earlier], made[later], rtol=1e-9, atol=0.0)
            agree = (near & both).sum(axis=(0, 2)) > 0.9 * np.maximum(both.sum(axis=(0, 2)), 1)
            count[later] &= ~(agree & count[earlier])
    return count


@dataclass(frozen=True, slots=True)
class Choice:
    """Which method to use at each horizon, and the weights of the steady mixture ``(methods, H)``."""

    names: tuple[str, ...]  # of the methods, in the order of the weights
    weights: Column
    chosen: tuple[str, ...]  # by horizon: the name of a method, MIXTURE or RECENT
    mae: Mapping[str, Column]  # by method, and of the mixtures: (H,)

    def apply(self, made: Mapping[str, Column], followed: Column | None = None) -> Column:
        """The chosen forecasts ``(origins, H, n)`` out of those of all methods and those of the recent mixture."""
        first = next(iter(made.values()))
        result = np.empty_like(first)
        mixed = mixture([made[name] for name in self.names], self.weights)
        said = {**made, MIXTURE: mixed}
        if followed is not None:
            said[RECENT] = np.where(np.isfinite(followed), followed, mixed)
        for order, name in enumerate(self.chosen):
            result[:, order] = said[name][:, order]
        return result


def mixture(made: Sequence[Column], weights: Column) -> Column:
    """The weighted mean of forecasts ``(origins, H, n)`` with ``weights (methods, H)`` or ``(methods, H, n)``; methods
    that say nothing (NaN) leave their weight to the others."""
    total = np.zeros_like(made[0])
    share = np.zeros_like(made[0])
    for each, weight in zip(made, weights, strict=True):
        part = np.where(np.isfinite(each), weight[:, None] if weight.ndim == 1 else weight, 0.0)
        total += np.where(part > 0, np.nan_to_num(each) * part, 0.0)
        share += part
    return np.where(share > 0, total / np.where(share > 0, share, 1.0), np.nan)


def dense(made: Mapping[str, Column]) -> tuple[str, ...]:
    """Those methods that speak at most of the origins at which any does, at every horizon."""
    reach = {name: np.isfinite(each).mean(axis=(0, 2)) for name, each in made.items()}
    most = np.max(list(reach.values()), axis=0)
    return tuple(name for name, each in reach.items() if (each > 0.5 * most).all() or not most.any())


def choose(made: Mapping[str, Column], came: Column, *, followed: Column | None = None, within: float = 1.15) -> Choice:
    """The method with the least MAE at each horizon, or a mixture where that is better still.

    Methods weigh (least MAE / own MAE)⁸ in the steady mixture; those worse than ``within`` times the best are left out.
    ``followed`` are the forecasts of the recent mixture at the same origins; it is taken where it is better by more
    than chance would make it.
    """
    names = tuple(made)
    mae = np.stack([Errors.of(made[name], came).overall() for name in names])
    reach = np.stack([np.isfinite(made[name]).mean(axis=(0, 2)) for name in names])
    whole = reach > 0.5 * reach.max(axis=0)
    alone = mae
    mae = np.where(whole, mae, np.inf)  # a method that mostly says nothing is part of no mixture
    best = mae.min(axis=0)
    safe = np.maximum(mae, 1e-300)
    weights = np.where(mae <= within * best, (np.maximum(best, 1e-300) / safe) ** _SHARPNESS, 0.0)
    weights = weights / np.maximum(weights.sum(axis=0), 1e-300)
    scores = dict(zip(names, mae, strict=True))
    steady = mixture([made[name] for name in names], weights)
    scores[MIXTURE] = Errors.of(steady, came).overall()
    for number, order in zip(*np.nonzero(~whole & np.isfinite(alone)), strict=True):
        # what was asked at some origins only is compared at those, and its error told in proportion
        rival = made[names[int(mae[:, order].argmin())]][:, order]
        scores[names[number]] = scores[names[number]].copy()
        scores[names[number]][order] = best[order] * _ratio(made[names[number]][:, order], rival, came[:, order])
    # the first of equals: a plain method before the mixture; one of few origins has to win beyond chance
    ranked = np.stack(list(scores.values())).argmin(axis=0).tolist()
    chosen = [list(scores)[place] for place in ranked]
    for order, name in enumerate(chosen):
        whole_best = names[int(mae[:, order].argmin())]
        few = name in names and not whole[names.index(name), order]
        if few and not _surely_better(made[name][:, order], made[whole_best][:, order], came[:, order]):
            chosen[order] = MIXTURE if scores[MIXTURE][order] < scores[whole_best][order] else whole_best
    if followed is not None:
        scores[RECENT] = np.full(len(chosen), np.inf)
        for order, name in enumerate(chosen):
            other = (steady if name == MIXTURE else made[name])[:, order]
            scores[RECENT][order] = scores[name][order] * _ratio(followed[:, order], other, came[:, order])
            if _surely_better(followed[:, order], other, came[:, order]):
                chosen[order] = RECENT
    return Choice(names, weights, tuple(chosen), scores)


def _ratio(made: Column, rival: Column, came: Column) -> float:
    """Mean error of forecasts ``(origins, n)`` over that of a rival at the same places; inf where those are few."""
    wrong, other = np.abs(made - came), np.abs(rival - came)
    both = np.isfinite(wrong) & np.isfinite(other)
    if both.any(axis=1).sum() < LEAST_ORIGINS:
        return float("inf")
    return float(wrong[both].mean() / max(float(other[both].mean()), 1e-300))


def _surely_better(made: Column, other: Column, came: Column) -> bool:
    """Whether forecasts ``(origins, n)`` were better than others at the 5 % level, by the difference over the origins
    and its standard error (Diebold and Mariano, 1995): few origins do not speak for weights that move."""
    gain = np.abs(other - came) - np.abs(made - came)
    known = np.isfinite(gain)
    count = known.sum(axis=1)
    by_origin = (np.where(known, gain, 0.0).sum(axis=1) / np.maximum(count, 1))[count > 0]
    if len(by_origin) < 2:
        return False
    return bool(by_origin.mean() > SURE * by_origin.std(ddof=1) / np.sqrt(len(by_origin)))
