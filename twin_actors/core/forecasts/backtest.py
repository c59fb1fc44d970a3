"""Rolling-origin backtests: what each method would have said, how wrong that was, and how to mix the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.forecasts.methods import Method
from twin_actors.core.forecasts.series import Rows, Series

MIXTURE = "mixture"
_SHARPNESS = 8.0
"""A method twice as wrong as the best one weighs 2⁸ times less in the mixture."""


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
class Choice:
    """Which method to use at each horizon, and the weights of the mixture ``(methods, H)``."""

    names: tuple[str, ...]  # of the methods, in the order of the weights
    weights: Column
    chosen: tuple[str, ...]  # by horizon: the name of a method, or MIXTURE
    mae: Mapping[str, Column]  # by method, and of the mixture: (H,)

    def apply(self, made: Mapping[str, Column]) -> Column:
        """The chosen forecasts ``(origins, H, n)`` out of those of all methods."""
        first = next(iter(made.values()))
        result = np.empty_like(first)
        mixed = mixture([made[name] for name in self.names], self.weights)
        for order, name in enumerate(self.chosen):
            result[:, order] = mixed[:, order] if name == MIXTURE else made[name][:, order]
        return result


def mixture(made: Sequence[Column], weights: Column) -> Column:
    """The weighted mean of forecasts ``(origins, H, n)`` with ``weights (methods, H)``; methods that say nothing
    (NaN) leave their weight to the others."""
    total = np.zeros_like(made[0])
    share = np.zeros_like(made[0])
    for each, weight in zip(made, weights, strict=True):
        part = np.where(np.isfinite(each), weight[:, None], 0.0)
        total += np.where(part > 0, np.nan_to_num(each) * part, 0.0)
        share += part
    return np.where(share > 0, total / np.where(share > 0, share, 1.0), np.nan)


def choose(made: Mapping[str, Column], came: Column, *, within: float = 1.15) -> Choice:
    """The method with the least MAE at each horizon, or the mixture where that is better still.

    Methods weigh (least MAE / own MAE)⁸ in the mixture; those worse than ``within`` times the best are left out.
    """
    names = tuple(made)
    mae = np.stack([Errors.of(made[name], came).overall() for name in names])
    reach = np.stack([np.isfinite(made[name]).mean(axis=(0, 2)) for name in names])
    mae = np.where(reach > 0.5 * reach.max(axis=0), mae, np.inf)  # a method that mostly says nothing is no choice
    best = mae.min(axis=0)
    safe = np.maximum(mae, 1e-300)
    weights = np.where(mae <= within * best, (np.maximum(best, 1e-300) / safe) ** _SHARPNESS, 0.0)
    weights = weights / np.maximum(weights.sum(axis=0), 1e-300)
    mixed = Errors.of(mixture([made[name] for name in names], weights), came).overall()
    chosen = tuple(
        MIXTURE if mixed[order] < best[order] else names[int(mae[:, order].argmin())] for order in range(len(best))
    )
    return Choice(names, weights, chosen, {**dict(zip(names, mae, strict=True)), MIXTURE: mixed})
