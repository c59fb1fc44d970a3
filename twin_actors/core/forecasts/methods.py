"""Forecast methods over columns: repeat the last value, repeat the season, profile and fading residual, window ridge.

Every method sees one Series and gives forecasts ``(origins, horizons, n)``; a forecast at origin ``o`` (the last known
row) is made of rows up to ``o`` only. All of them shift and scale with the data: f(a·y + b) = a·f(y) + b for a > 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.forecasts.series import Rows, Series, held, held_by_season

RIDGES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Penalties that validation chooses from, relative to the mean square of an input."""


class Fitted(Protocol):
    """A method whose parameters are set; they stay while the series grows."""

    def at(self, series: Series, origins: Rows) -> Column:
        """Forecasts ``(origins, horizons, n)``, NaN where the past does not reach."""


class Method(Protocol):
    """A way to forecast."""

    @property
    def name(self) -> str: ...

    def fit(self, series: Series, horizons: Sequence[int]) -> Fitted:
        """Set the parameters from all of ``series``, for horizons in rows."""


# -- nothing to learn -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RepeatLast:
    """The last known value, for ever: what every other method has to beat."""

    @property
    def name(self) -> str:
        return "repeat-last"

    def fit(self, series: Series, horizons: Sequence[int]) -> Fitted:
        return _RepeatLast(len(horizons))


@dataclass(frozen=True, slots=True)
class _RepeatLast:
    horizons: int

    def at(self, series: Series, origins: Rows) -> Column:
        return np.repeat(held(series.values)[origins][:, None], self.horizons, axis=1)


@dataclass(frozen=True, slots=True)
class SeasonalNaive:
    """The value of ``lag`` rows before the target, or as many whole lags before as lie in the known past."""

    lag: int
    called: str = "season"

    @property
    def name(self) -> str:
        return f"same-{self.called}"

    def fit(self, series: Series, horizons: Sequence[int]) -> Fitted:
        return _SeasonalNaive(self.lag, tuple(horizons))


@dataclass(frozen=True, slots=True)
class _SeasonalNaive:
    lag: int
    horizons: tuple[int, ...]

    def at(self, series: Series, origins: Rows) -> Column:
        known = held_by_season(series.values, self.lag)
        made = np.full((len(origins), len(self.horizons), series.entities), np.nan)
        for order, horizon in enumerate(self.horizons):
            row = origins + horizon - -(-horizon // self.lag) * self.lag
            made[row >= 0, order] = known[row[row >= 0]]
        return made


# -- profile and residual -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProfileDecay:
    """The usual value of the target's place in the cycle, plus what is left now of the last residual.

    x̂(o + h) = p(o + h) + β_h·(x(o) − p(o)) with β_h in [0, 1] by least squares, per entity. The profile p is a mean in
    which a cycle counts ``keep`` times less than the one after it.
    """

    cycle: int
    called: str = "season"
    keep: float = 0.75

    @property
    def name(self) -> str:
        return f"{self.called}-profile"

    def fit(self, series: Series, horizons: Sequence[int]) -> Fitted:
        rows, n = series.values.shape
        cycles = -(-rows // self.cycle)
        padded = np.full((cycles * self.cycle, n), np.nan)
        padded[:rows] = series.values
        folded = padded.reshape(cycles, self.cycle, n)
        weight = np.isfinite(folded) * self.keep ** np.arange(cycles - 1, -1, -1.0)[:, None, None]
        total = weight.sum(axis=0)
        profile = np.where(total > 0, (np.nan_to_num(folded) * weight).sum(axis=0) / np.maximum(total, 1e-300), np.nan)
        residual = series.values - profile[np.arange(rows) % self.cycle]
        beta = np.zeros((len(horizons), n))
        for order, horizon in enumerate(horizons):
            now, then = residual[: rows - horizon], residual[horizon:]
            both = np.isfinite(now) & np.isfinite(then)
            square = (np.where(both, now, 0.0) ** 2).sum(axis=0)
            product = (np.where(both, now, 0.0) * np.where(both, then, 0.0)).sum(axis=0)
            beta[order] = np.where(square > 0, product / np.where(square > 0, square, 1.0), 0.0)
        return _ProfileDecay(profile, np.clip(beta, 0.0, 1.0), tuple(horizons))


@dataclass(frozen=True, slots=True)
class _ProfileDecay:
    profile: Column  # (cycle, n)
    beta: Column  # (H, n)
    horizons: tuple[int, ...]

    def at(self, series: Series, origins: Rows) -> Column:
        cycle = len(self.profile)
        residual = held(series.values - self.profile[np.arange(len(series)) % cycle])[origins]
        usual = np.stack([self.profile[(origins + horizon) % cycle] for horizon in self.horizons], axis=1)
        return usual + self.beta * np.nan_to_num(residual)[:, None]


# -- ridge on (window - last value) ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WindowRidge:
    """Ridge regression of all horizons at once on (window − last value), in closed form.

    The linear map of NLinear (Zeng et al., "Are Transformers Effective for Time Series Forecasting?", AAAI 2023)
    without gradient descent: X are the differences of the ``window`` rows to the last one, Y those of the targets;
    B = (XᵀX + λ·tr(XᵀX)/p)⁻¹XᵀY with an intercept that is not penalised. λ is the one with the least squared error on
    the last ``validation`` share of the rows, fitted on those before. ``pooled``: one map for all entities, each in its
    own scale. ``refit``: with λ chosen, fit again on all rows.
    """

    window: int
    pooled: bool = True
    ridges: tuple[float, ...] = RIDGES
    validation: float = 0.2
    refit: bool = True

    @property
    def name(self) -> str:
        return f"ridge-{self.window}{'-pooled' if self.pooled else ''}"

    def fit(self, series: Series, horizons: Sequence[int]) -> Fitted:
        steps = tuple(horizons)
        rows, n = series.values.shape
        if rows < self.window + 2 * max(steps) + 2:
            return _WindowRidge(
                np.zeros((1, self.window - 1, len(steps))), np.zeros((1, len(steps))), np.ones(n), steps
            )
        groups = [np.arange(n)] if self.pooled else [np.array([entity]) for entity in range(n)]
        scale = _scale(series.values)
        known = held(series.values) / scale
        targets = series.values / scale
        split = rows - max(round(self.validation * rows), 1)
        made = [self._fitted(known[:, group], targets[:, group], steps, split) for group in groups]
        return _WindowRidge(np.stack([each[0] for each in made]), np.stack([each[1] for each in made]), scale, steps)

    def _fitted(self, known: Column, targets: Column, steps: tuple[int, ...], split: int) -> tuple[Column, Column]:
        first = self.window - 1
        if split - max(steps) - first < 2:
            split = len(known)
        training = _Normal.of(known, targets, self.window, steps, np.arange(first, split - max(steps)), split)
        path = training.path(self.ridges)
        later = np.arange(max(split - 1, first), len(known) - max(steps))
        if len(later) and len(path) > 1:
            inputs, change, said = _pairs(known, targets, self.window, steps, later, len(known))
            lost = []
            for weights, intercept in path:
                error = np.where(said, inputs @ weights + intercept - change, 0.0)
                lost.append(float((error**2).sum()))
            best = int(np.argmin(lost))
        else:
            best = len(path) // 2
        if not self.refit:
            return path[best]
        whole = np.arange(first, len(known) - max(steps))
        return _Normal.of(known, targets, self.window, steps, whole, len(known)).path((self.ridges[best],))[0]


def _scale(values: Column) -> Column:
    """Mean absolute deviation from the median by entity, 1 where it is nothing, ``(n,)``."""
    sound = np.isfinite(values)
    filled = np.where(sound, values, 0.0)
    count = np.maximum(sound.sum(axis=0), 1)
    middle = filled.sum(axis=0) / count
    spread = (np.abs(filled - middle) * sound).sum(axis=0) / count
    return np.where(spread > 0, spread, 1.0)


def _pairs(
    known: Column, targets: Column, window: int, steps: tuple[int, ...], origins: Rows, until: int
) -> tuple[Column, Column, Column]:
    """Inputs ``(m, window - 1)``, changes ``(m, H)`` and which of them are known before row ``until``."""
    views = np.lib.stride_tricks.sliding_window_view(known, window, axis=0)[origins - window + 1]  # (o, n, window)
    last = views[..., -1]
    inputs = (views[..., :-1] - last[..., None]).reshape(-1, window - 1)
    ahead = origins[:, None] + np.array(steps)
    inside = ahead < until
    change = targets[np.minimum(ahead, until - 1)].transpose(0, 2, 1) - last[..., None]  # (o, n, H)
    said = np.isfinite(change) & inside[:, None, :]
    change, said = change.reshape(-1, len(steps)), said.reshape(-1, len(steps))
    sound = np.isfinite(inputs).all(axis=1)
    return inputs[sound], np.where(said, change, 0.0)[sound], said[sound]


@dataclass(frozen=True, slots=True)
class _Normal:
    """The normal equations of a ridge regression, centred; one set where all targets are known, else one a horizon."""

    grams: tuple[Column, ...]  # (p, p) each
    crosses: tuple[Column, ...]  # (p, H) or (p, 1) each
    means: tuple[tuple[Column, Column], ...]  # of the inputs (p,) and of the targets (H,) or (1,)
    units: tuple[float, ...]  # mean square of an input, never less than rounding leaves of it

    @classmethod
    def of(
        cls, known: Column, targets: Column, window: int, steps: tuple[int, ...], origins: Rows, until: int
    ) -> _Normal:
        inputs, change, said = _pairs(known, targets, window, steps, origins, until)
        if said.all():
            sets = [(inputs, change)]
        else:
            sets = [(inputs[said[:, order]], change[said[:, order], order : order + 1]) for order in range(len(steps))]
        grams, crosses, means, units = [], [], [], []
        for x, y in sets:
            at, to = (x.mean(axis=0), y.mean(axis=0)) if len(x) else (np.zeros(window - 1), np.zeros(y.shape[1]))
            square = x.T @ x
            grams.append(square - len(x) * np.outer(at, at))
            units.append(max(float(np.trace(square)) / (window - 1) * 1e-9, float(np.trace(grams[-1])) / (window - 1)))
            crosses.append(x.T @ y - len(x) * np.outer(at, to))
            means.append((at, to))
        return cls(tuple(grams), tuple(crosses), tuple(means), tuple(units))

    def path(self, ridges: Sequence[float]) -> list[tuple[Column, Column]]:
        """Weights ``(p, H)`` and intercept ``(H,)`` for each penalty."""
        parts: list[list[tuple[Column, Column]]] = []
        for gram, cross, (at, to), unit in zip(self.grams, self.crosses, self.means, self.units, strict=True):
            values, vectors = np.linalg.eigh(gram)
            turned = vectors.T @ cross
            solved = []
            for ridge in ridges:
                weights = vectors @ (turned / (np.maximum(values, 0.0) + ridge * unit + 1e-300)[:, None])
                solved.append((weights, to - at @ weights))
            parts.append(solved)
        return [
            (
                np.concatenate([part[order][0] for part in parts], axis=1),
                np.concatenate([part[order][1] for part in parts]),
            )
            for order in range(len(ridges))
        ]


@dataclass(frozen=True, slots=True)
class _WindowRidge:
    weights: Column  # (1 or n, window - 1, H)
    intercept: Column  # (1 or n, H)
    scale: Column  # (n,)
    horizons: tuple[int, ...]

    def at(self, series: Series, origins: Rows) -> Column:
        window = self.weights.shape[1] + 1
        known = held(series.values)
        made = np.full((len(origins), len(self.horizons), series.entities), np.nan)
        reach = np.flatnonzero(origins >= window - 1)
        views = np.lib.stride_tricks.sliding_window_view(known, window, axis=0)
        for part in np.array_split(reach, max(len(reach) * window * series.entities // 20_000_000, 1)):
            seen = views[origins[part] - window + 1].transpose(1, 0, 2)  # (n, o, window)
            last = seen[..., -1:]
            change = (seen[..., :-1] - last) @ self.weights + self.intercept[:, None] * self.scale[:, None, None]
            made[part] = (last + change).transpose(1, 2, 0)
        return made
