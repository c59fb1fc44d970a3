"""The thermal model of an oil-immersed transformer by IEC 60076-7 or IEEE C57.91, as pure column functions.

Every function takes numpy columns (or plain numbers) that broadcast against each other and mutates nothing.
Temperatures are in °C, rises and gradients in K, times in s unless the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column

AMBIENT_MEMORY_S = 96 * 3600.0
"""Ambient air falls back to the usual value of its place over the days that a weather system lasts."""

HOTTEST_AGEING_C = 400.0
"""Ageing is not extrapolated past this: paper is charred long before, and a wild reading stays finite."""

# Gauss-Legendre on three points, moved from [-1, 1] to [0, 1]: exact for polynomials of degree five.
_NODES = (0.5 - np.sqrt(0.15), 0.5, 0.5 + np.sqrt(0.15))
_WEIGHTS = (5 / 18, 8 / 18, 5 / 18)
_NEWTON_STEPS = 8


IEC_60076_7, IEEE_C57_91 = 0, 1
"""Numbers of the attribute ``thermal_standard``."""

_LEAST_RISE = 1e-3  # of the rated oil rise: where the time constant of IEEE C57.91 is not computed further down
_TAU_RANGE = (0.2, 5.0)


class Transformer(Protocol):
    """The constants of IEC 60076-7 in its own symbols; IEEE C57.91 calls x n, y 2m, and needs no k."""

    oil_rise_k: Column  # Δθor: top-oil rise in steady state at rated losses
    hotspot_factor: Column  # H
    gradient_k: Column  # gr: average winding to average oil at rated current
    loss_ratio: Column  # R: load losses at rated current to no-load losses
    oil_exponent: Column  # x
    winding_exponent: Column  # y
    oil_tau_min: Column  # τo
    winding_tau_min: Column  # τw
    k11: Column
    k21: Column
    k22: Column
    ambient_default_c: Column
    upgraded_paper: Column  # 1: thermally upgraded paper
    thermal_standard: Column  # 0: IEC 60076-7, 1: IEEE C57.91


@dataclass(frozen=True, slots=True)
class Temperatures:
    """The thermal state: ambient and top oil in °C, the two hot-spot gradients Δθh1 and Δθh2 in K."""

    ambient_c: Column
    oil_c: Column
    h1_k: Column
    h2_k: Column

    @property
    def hot_spot_c(self) -> Column:
        """θh = θo + Δθh1 − Δθh2 (IEC 60076-7)."""
        return self.oil_c + self.h1_k - self.h2_k


def oil_rise(load_factor: Column, transformer: Transformer) -> Column:
    """Top-oil rise over ambient in steady state, K: Δθor·[(1 + R·K²)/(1 + R)]^x."""
    ratio = transformer.loss_ratio
    losses = (1.0 + ratio * load_factor**2) / (1.0 + ratio)
    return np.asarray(transformer.oil_rise_k * losses**transformer.oil_exponent)


def hot_spot_rise(load_factor: Column, transformer: Transformer) -> Column:
    """Hot-spot rise over top oil in steady state, K: H·gr·K^y."""
    rated = transformer.hotspot_factor * transformer.gradient_k
    return np.asarray(rated * load_factor**transformer.winding_exponent)


def steady_hot_spot(load_factor: Column, ambient_c: Column, transformer: Transformer) -> Column:
    """Hot-spot temperature, °C, that a load factor and an ambient temperature held for ever lead to."""
    return ambient_c + oil_rise(load_factor, transformer) + hot_spot_rise(load_factor, transformer)


def ageing_rate(hot_spot_c: Column, upgraded_paper: Column, standard: Column | float = IEC_60076_7) -> Column:
    """Relative ageing rate V, 1 at the rated hot spot (IEC 60076-7, relative ageing rate; IEEE C57.91, F_AA).

    Thermally upgraded paper (``upgraded_paper`` 1), both standards: V = exp(15000/383 − 15000/(θh + 273)), 1 at 110 °C.
    Plain kraft paper: V = 2^((θh − 98)/6) by IEC, exp(15000/368 − 15000/(θh + 273)), 1 at 95 °C, by IEEE (55 °C rise).
    """
    bounded_c = np.minimum(hot_spot_c, HOTTEST_AGEING_C)
    plain: Column = np.exp2((bounded_c - 98.0) / 6.0)
    ieee = np.asarray(standard) > 0.5
    if not np.any(upgraded_paper) and not np.any(ieee):
        return np.asarray(plain)
    kelvin = np.maximum(bounded_c + 273.0, 1.0)
    plain = np.where(ieee, np.exp(15000.0 / 368.0 - 15000.0 / kelvin), plain)
    return np.where(upgraded_paper > 0.5, np.exp(15000.0 / 383.0 - 15000.0 / kelvin), plain)


def ieee_oil_tau_ratio(rise: Column, settled: Column, exponent: Column) -> Column:
    """Top-oil time constant over the rated one, IEEE C57.91-2011 clause 7.2.6, for rises in parts of the rated rise.

    τ/τR = (U − u)/(U^(1/n) − u^(1/n)), and its limit n·U^(1 − 1/n) where the oil is settled. Taken anew in every short
    step it solves τR·du/dt = U^(1/n) − u^(1/n), of which the clause's constant is the chord.
    """
    low, high = np.maximum(rise, _LEAST_RISE), np.maximum(settled, _LEAST_RISE)
    apart = np.abs(high - low) > 1e-6
    chord = np.where(apart, high - low, 1.0) / np.where(apart, high ** (1.0 / exponent) - low ** (1.0 / exponent), 1.0)
    return np.clip(np.where(apart, chord, exponent * high ** (1.0 - 1.0 / exponent)), *_TAU_RANGE)


def _by_sample(rise: Callable[[Column, Transformer], Column], load_factor: Column, transformer: Transformer) -> Column:
    """``rise(load_factor, transformer)``, worked out once for all samples ``(samples, n)`` that are like the first one.

    Powers are dear, and of a filter's points only those along the demand have a load of their own.
    """
    constants = (
        transformer.oil_rise_k, transformer.loss_ratio, transformer.oil_exponent,
        transformer.hotspot_factor, transformer.gradient_k, transformer.winding_exponent,
    )  # fmt: skip
    by_sample = any(np.ndim(constant) > 1 and len(constant) > 1 for constant in constants)
    if np.ndim(load_factor) != 2 or len(load_factor) < 2 or by_sample:
        return rise(load_factor, transformer)
    own = [0, *(np.flatnonzero((load_factor[1:] != load_factor[0]).any(axis=1)) + 1)]
    found = rise(load_factor[own], transformer)
    result = np.repeat(found[:1], len(load_factor), axis=0)
    result[own] = found
    return result


def _relaxed(start: Column, settled: Column, left: Column) -> Column:
    """A value on its way to where it settles, with ``left`` of the way still before it."""
    away: Column = np.asarray((start - settled) * left)
    away += settled
    return away


@dataclass(frozen=True, slots=True)
class Course:
    """How the temperatures go on from a start under a constant load factor.

    IEC 60076-7, exponential equations: each of top oil, Δθh1 and Δθh2 relaxes to its steady value with the
    time constants k11·τo, k22·τw and τo/k22: exact at any later moment. Ambient relaxes to ``ambient_default_c``
    with ``AMBIENT_MEMORY_S``, which adds one term to the oil; an ambient at its default stays there and leaves the
    standard's own exponential step.

    IEEE C57.91 clause 7: one gradient (Δθh1, with τw) and a top oil whose time constant depends on where it stands
    (``ieee_oil_tau_ratio``), so that there only short steps are exact.
    """

    start: Temperatures
    usual_c: Column
    settled_oil_c: Column
    settled_h1_k: Column
    settled_h2_k: Column
    oil_tau_s: Column
    h1_tau_s: Column
    h2_tau_s: Column
    upgraded_paper: Column
    standard: Column

    @classmethod
    def of(cls, start: Temperatures, load_factor: Column, transformer: Transformer) -> Course:
        """The course from ``start`` under ``load_factor`` (not negative)."""
        gradient_k = _by_sample(hot_spot_rise, load_factor, transformer)
        rise_k = _by_sample(oil_rise, load_factor, transformer)
        oil_tau_s = 60.0 * transformer.k11 * transformer.oil_tau_min
        h1_tau_s = 60.0 * transformer.k22 * transformer.winding_tau_min
        h2_tau_s = 60.0 * transformer.oil_tau_min / transformer.k22
        k21 = transformer.k21
        ieee = transformer.thermal_standard > 0.5
        if np.any(ieee):
            rated_k = transformer.oil_rise_k
            ratio = ieee_oil_tau_ratio(
                (start.oil_c - start.ambient_c) / rated_k, rise_k / rated_k, transformer.oil_exponent
            )
            winding_tau_s = 60.0 * transformer.winding_tau_min
            oil_tau_s = np.where(ieee, 60.0 * transformer.oil_tau_min * ratio, oil_tau_s)
            h1_tau_s = np.where(ieee, winding_tau_s, h1_tau_s)
            h2_tau_s = np.where(ieee, winding_tau_s, h2_tau_s)
            k21 = np.where(ieee, 1.0, k21)
        return cls(
            start=start,
            usual_c=transformer.ambient_default_c,
            settled_oil_c=transformer.ambient_default_c + rise_k,
            settled_h1_k=k21 * gradient_k,
            settled_h2_k=(k21 - 1.0) * gradient_k,
            oil_tau_s=oil_tau_s,
            h1_tau_s=h1_tau_s,
            h2_tau_s=h2_tau_s,
            upgraded_paper=transformer.upgraded_paper,
            standard=transformer.thermal_standard,
        )

    def after(self, dt_s: Column) -> Temperatures:
        """The temperatures ``dt_s`` seconds after the start."""
        start = self.start
        quick = np.exp(-dt_s / self.oil_tau_s)
        slow = np.exp(-dt_s / AMBIENT_MEMORY_S)
        unusual_k = start.ambient_c - self.usual_c
        followed = AMBIENT_MEMORY_S / (AMBIENT_MEMORY_S - self.oil_tau_s) * (slow - quick)
        oil_c = _relaxed(start.oil_c, self.settled_oil_c, quick)
        oil_c += unusual_k * followed
        return Temperatures(
            ambient_c=self.usual_c + unusual_k * slow,
            oil_c=oil_c,
            h1_k=_relaxed(start.h1_k, self.settled_h1_k, np.exp(-dt_s / self.h1_tau_s)),
            h2_k=_relaxed(start.h2_k, self.settled_h2_k, np.exp(-dt_s / self.h2_tau_s)),
        )

    def loss_of_life_h(self, dt_s: Column) -> Column:
        """Insulation life used in ``dt_s``, h: L = ∫V dt (IEC 60076-7) by three-point Gauss-Legendre.

        The hot spot at the three instants is exact, so only the quadrature errs: below 0.1 % of the loss for
        steps of three minutes, also when the load leaps between nothing and twice the rated one (see the tests).
        """
        rate: Column = np.zeros(())
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            rate = rate + weight * ageing_rate(self.after(dt_s * node).hot_spot_c, self.upgraded_paper, self.standard)
        return np.asarray(rate * dt_s / 3600.0)

    def of_first_sample(self) -> Course:
        """The course of the first sample alone, ``(1, n)`` from ``(samples, n)``."""
        return self._each(lambda column: column[:1] if np.ndim(column) > 1 else column)

    def chosen(self, mask: NDArray[np.bool_]) -> Course:
        """The courses of some entities as flat columns, in the order of ``mask (…, n)``."""
        return self._each(lambda column: np.broadcast_to(column, mask.shape)[mask])

    def _each(self, of: Callable[[Column], Column]) -> Course:
        start = self.start
        return Course(
            start=Temperatures(
                ambient_c=of(start.ambient_c), oil_c=of(start.oil_c), h1_k=of(start.h1_k), h2_k=of(start.h2_k)
            ),
            usual_c=of(self.usual_c),
            settled_oil_c=of(self.settled_oil_c),
            settled_h1_k=of(self.settled_h1_k),
            settled_h2_k=of(self.settled_h2_k),
            oil_tau_s=of(self.oil_tau_s),
            h1_tau_s=of(self.h1_tau_s),
            h2_tau_s=of(self.h2_tau_s),
            upgraded_paper=of(self.upgraded_paper),
            standard=of(self.standard),
        )


def permissible_load_factor(limit_c: Column, ambient_c: Column, transformer: Transformer) -> Column:
    """The load factor K whose steady-state hot spot is ``limit_c``; 0 where no-load losses alone exceed it.

    Newton's method on a function that rises and is convex for x ≥ 0.5 and y ≥ 1. It starts right of the root,
    where the winding gradient alone uses up the whole margin, so it comes down on the root without overshoot.
    """
    margin_k = np.maximum(limit_c - ambient_c, 0.0)
    ratio, x, y = transformer.loss_ratio, transformer.oil_exponent, transformer.winding_exponent
    rated_gradient_k = transformer.hotspot_factor * transformer.gradient_k
    no_load_rise_k = oil_rise(np.zeros_like(margin_k), transformer)
    reachable = margin_k > no_load_rise_k
    sought_k = np.where(reachable, margin_k, no_load_rise_k + 1.0)
    factor = (sought_k / rated_gradient_k) ** (1.0 / y)
    for _ in range(_NEWTON_STEPS):
        oil_k = oil_rise(factor, transformer)
        winding_k = rated_gradient_k * factor**y
        slope = oil_k * 2.0 * x * ratio * factor / (1.0 + ratio * factor**2) + y * winding_k / factor
        factor = np.maximum(factor - (oil_k + winding_k - sought_k) / slope, 1e-9)
    return np.where(reachable, factor, 0.0)
