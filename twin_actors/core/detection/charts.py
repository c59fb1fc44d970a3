"""The single detectors: elementwise steps of one reading each, from a state and a value to a statistic.

Columns have the entity on the last axis. The detectors of the default ensemble move their state on in place, because
their memory is large; the others are pure, and there a NaN value was not said: it leaves the state alone and its
statistic is 0. None of them knows the unit of what it watches: each compares a value with the past of its own series.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column

LARGEST = 1e30
"""Values are held within ±LARGEST, so that differences and ratios of them stay finite, also as float32."""

SMALL = 1e-30
"""What a quotient is divided by at least."""

Numbers: TypeAlias = NDArray[Any]
"""float32 or float64; what a function makes of them has the same."""


def said(value: Column) -> NDArray[np.bool_]:
    """Where a value was said; what is not a number was not."""
    return ~np.isnan(value)


def ewma(mean: Column, value: Column, weight: Column | float) -> Column:
    """Exponentially weighted moving average, m ← m + λ(x − m) (Roberts, Technometrics 1, 1959)."""
    return np.where(said(value), mean + weight * (value - mean), mean)


def ewma_z(mean: Column, weight: float) -> Column:
    """An EWMA of independent values of unit variance, scaled to unit variance: z = m √((2 − λ)/λ)."""
    return np.asarray(mean * np.sqrt((2 - weight) / weight))


def cusum(high: Column, low: Column, z: Column, slack: float) -> tuple[Column, Column]:
    """Both one-sided cumulative sums of ``z`` (Page, Biometrika 41, 1954): C⁺ ← max(0, C⁺ + z − k), C⁻ alike.

    With slack k = δ/2 it is the fastest chart for a shift of δ standard deviations; an alarm is C > h.
    """
    step = np.where(said(z), z, 0.0)
    allowed = np.where(said(z), slack, 0.0)
    return np.maximum(high + step - allowed, 0.0), np.maximum(low - step - allowed, 0.0)


class PageHinkley(NamedTuple):
    """State of the Page-Hinkley test: how many values, their mean, the two sums and their extremes."""

    number: Column
    mean: Column
    up: Column
    down: Column
    lowest: Column
    highest: Column

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> PageHinkley:
        return cls(*(np.zeros(shape) for _ in cls._fields))


def page_hinkley(state: PageHinkley, value: Column, tolerance: float) -> tuple[Column, PageHinkley]:
    """Change of a mean in either direction (Hinkley, Biometrika 58, 1971): the sum's distance from its extreme.

    U ← U + x − m̄ − δ, distance U − min U for a rise; for a fall the mirror image. The caller starts anew
    (``PageHinkley.empty``) where it takes the distance for a change.
    """
    new = said(value)
    count = state.number + new
    mean = ewma(state.mean, value, 1 / np.maximum(count, 1.0))
    step = np.where(new, value - mean, 0.0)
    allowed = np.where(new, tolerance, 0.0)
    up, down = state.up + step - allowed, state.down + step + allowed
    lowest, highest = np.minimum(state.lowest, up), np.maximum(state.highest, down)
    distance = np.where(new, np.maximum(up - lowest, highest - down), 0.0)
    return distance, PageHinkley(count, mean, up, down, lowest, highest)


def places(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], ...]:
    """Where a mask that is mostly empty holds, as ``np.nonzero``, which takes eight times as long to find out."""
    return np.unravel_index(np.flatnonzero(mask), mask.shape)


def record(largest: Numbers, magnitude: Numbers, keep: float = 1.0) -> Numbers:
    """How ``magnitude`` ≥ 0 compares with the largest before it (1: as large); ``largest`` moves on in place.

    A test without a distribution: the n-th of n exchangeable magnitudes is the largest with probability 1/n, whatever
    their tail. ``keep`` < 1 lets the largest fade per reading. The first magnitude has nothing to compare with: 0.
    """
    ratio = magnitude / np.maximum(largest, SMALL)
    np.minimum(ratio, LARGEST, out=ratio)
    ratio *= largest > 0
    if keep != 1.0:
        largest *= keep
    np.maximum(largest, magnitude, out=largest)
    return ratio


class Tail(NamedTuple):
    """State of the tail of a magnitude: its high quantile, mean excess over it, number of excesses, mean."""

    quantile: Numbers
    excess: Numbers
    number: Numbers
    mean: Numbers


TAIL = 0.05
"""The tail is what exceeds the 95 % quantile."""

TAIL_STEP, TAIL_LEAST = 3, 0.005
"""A quantile moves by so many means times its weight, which is at least so much."""

TAIL_TEACHING = 5
"""The first excesses only teach."""


def tail(state: Tail, magnitude: Numbers, weight: Numbers | np.floating[Any] | float) -> Numbers:
    """Excess of ``magnitude`` ≥ 0 over its high quantile, in mean excesses: −ln of its tail probability / 0.05.

    Peaks over a threshold with an exponential tail (Siffer et al., KDD 2017, with shape 0), both parameters tracked
    online: the quantile by stochastic approximation (Robbins and Monro 1951), the mean excess as an EWMA. ``weight``
    is the memory of the whole, between 0 and 1. The first five excesses only teach. ``state`` moves on in place; a NaN
    magnitude leaves it alone and its statistic is 0.
    """
    statistic = np.zeros_like(magnitude)
    away = magnitude - state.mean
    away *= weight
    new = said(magnitude) if np.isnan(away.sum()) else None
    if new is not None:
        if not new.any():
            return statistic
        away = np.where(new, away, 0.0)
    state.mean[...] += away
    step = state.mean * (TAIL_STEP * np.maximum(weight, TAIL_LEAST))
    if new is not None:
        step = np.where(new, step, 0.0)
    at = places(magnitude > state.quantile)  # one in twenty
    before, seen, weighs = state.excess[at], state.number[at], weight[at] if isinstance(weight, np.ndarray) else weight
    excess = magnitude[at] - state.quantile[at]
    state.quantile[at] += step[at]
    step *= TAIL
    state.quantile[...] -= step
    statistic[at] = np.where(seen > TAIL_TEACHING, np.minimum(excess / np.maximum(before, SMALL), LARGEST), 0.0)
    state.number[at] = seen + 1
    state.excess[at] = before + np.clip(weighs / TAIL, 1 / (seen + 1), 1.0) * (excess - before)
    return statistic


def run_length(last: Numbers, length: Numbers, longest: Numbers, value: Numbers) -> None:
    """How many readings in a row have said exactly ``value`` (1: the first of them), and the longest run before this
    one; ``length`` and ``longest`` move on in place, ``last`` does not."""
    same = value == last
    np.maximum(longest, length * ~same, out=longest)
    length *= same
    length += 1


def latch(peak: Numbers, age: Numbers, statistic: Numbers, hold: float, worse: float = 1.0) -> Numbers:
    """Let a statistic through when it is ``worse`` times what was let through in the last ``hold`` readings, else 0.

    One event is one alarm: what follows it must be clearly worse than it to count again. ``peak`` and ``age`` move on
    in place.
    """
    age += 1
    at = places((statistic > peak * worse) | (age > hold))
    through = np.zeros_like(statistic)
    through[at] = peak[at] = statistic[at]
    age[at] = 0.0
    return through
