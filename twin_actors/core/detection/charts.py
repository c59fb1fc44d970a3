"""The single detectors: pure, elementwise steps of one reading each, ``(state, value) -> (statistic, new state)``.

Columns have the entity on the last axis. A NaN value was not said: it leaves the state alone and its statistic is 0.
None of them knows the unit of what it watches: each compares a value with the past of its own series.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column

LARGEST = 1e150
"""Values are held within ±LARGEST, so that differences and ratios of them stay finite."""

_TINY = 1e-300


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


def record(largest: Column, magnitude: Column, keep: float = 1.0) -> tuple[Column, Column]:
    """How ``magnitude`` ≥ 0 compares with the largest before it (1: as large), and the new largest.

    A test without a distribution: the n-th of n exchangeable magnitudes is the largest with probability 1/n, whatever
    their tail. ``keep`` < 1 lets the largest fade per reading. The first magnitude has nothing to compare with: 0.
    """
    new = said(magnitude)
    with np.errstate(over="ignore"):
        ratio = np.where(new & (largest > 0), magnitude / np.maximum(largest, _TINY), 0.0)
    return ratio, np.where(new, np.maximum(largest * keep, magnitude), largest)


class Tail(NamedTuple):
    """State of the tail of a magnitude: its high quantile, mean excess over it, number of excesses, mean."""

    quantile: Column
    excess: Column
    number: Column
    mean: Column


TAIL = 0.05
"""The tail is what exceeds the 95 % quantile."""


def tail(state: Tail, magnitude: Column, weight: Column) -> tuple[Column, Tail]:
    """Excess of ``magnitude`` ≥ 0 over its high quantile, in mean excesses: −ln of its tail probability / 0.05.

    Peaks over a threshold with an exponential tail (Siffer et al., KDD 2017, with shape 0), both parameters tracked
    online: the quantile by stochastic approximation (Robbins and Monro 1951), the mean excess as an EWMA. ``weight``
    is the memory of the whole, between 0 and 1. The first five excesses only teach.
    """
    new = said(magnitude)
    step = np.maximum(weight, 0.005) * 3
    if new.all():
        mean = state.mean + weight * (magnitude - state.mean)
        step *= mean
    else:
        mean = ewma(state.mean, magnitude, weight)
        step = np.where(new, step * mean, 0.0)
    quantile = state.quantile - TAIL * step
    mean_excess, count, statistic = state.excess.copy(), state.number.copy(), np.zeros(magnitude.shape)
    at = np.nonzero(magnitude > state.quantile)  # one in twenty
    excess, before, seen = magnitude[at] - state.quantile[at], mean_excess[at], count[at]
    quantile[at] += step[at]
    with np.errstate(over="ignore"):
        statistic[at] = np.where(seen > 5, np.minimum(excess / np.maximum(before, _TINY), LARGEST), 0.0)
    count[at] = seen + 1
    faster = np.minimum(np.maximum(1 / (seen + 1), weight[at] / TAIL), 1.0)
    mean_excess[at] = before + faster * (excess - before)
    return statistic, Tail(quantile, mean_excess, count, mean)


def run_length(last: Column, length: Column, value: Column) -> tuple[Column, Column]:
    """How many readings in a row have said exactly ``value`` (1: the first of them), and the value now last."""
    new = said(value)
    return np.where(new, np.where(value == last, length + 1, 1.0), length), np.where(new, value, last)


def latch(
    peak: Column, age: Column, statistic: Column, hold: float, worse: float = 1.0
) -> tuple[Column, Column, Column]:
    """Let a statistic through when it is ``worse`` times what was let through in the last ``hold`` readings, else 0.

    One event is one alarm: what follows it must be clearly worse than it to count again. Returns what is let through
    and the new peak and age. A NaN statistic ages nothing.
    """
    new = said(statistic)
    age = np.where(new, age + 1, age)
    through = new & ((statistic > peak * worse) | (age > hold))
    return np.where(through, statistic, 0.0), np.where(through, statistic, peak), np.where(through, 0.0, age)
