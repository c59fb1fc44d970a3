"""The thermal model of an oil-immersed transformer: IEC 60076-7, exponential form, as pure column functions.

Every function takes numpy columns (or plain numbers) that broadcast against each other and mutates nothing.
Temperatures are in °C, rises and gradients in K, times in s unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from twin_actors.core.columns import Column

AMBIENT_MEMORY_S = 96 * 3600.0
"""Ambient air falls back to the usual value of its place over the days that a weather system lasts."""

HOTTEST_AGEING_C = 400.0
"""Ageing is not extrapolated past this: paper is charred long before, and a wild reading stays finite."""

# Gauss-Legendre on three points, moved from [-1, 1] to [0, 1]: exact for polynomials of degree five.
_NODES = (0.5 - np.sqrt(0.15), 0.5, 0.5 + np.sqrt(0.15))
_WEIGHTS = (5 / 18, 8 / 18, 5 / 18)
_NEWTON_STEPS = 8


class Transformer(Protocol):
    """The constants of IEC 60076-7 in its own symbols."""

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


def ageing_rate(hot_spot_c: Column, upgraded_paper: Column) -> Column:
    """Relative ageing rate V, 1 at the rated hot spot (IEC 60076-7, relative ageing rate; IEEE C57.91).

    Plain kraft paper: V = 2^((θh − 98)/6). Thermally upgraded paper (``upgraded_paper`` 1):
    V = exp(15000/383 − 15000/(θh + 273)), which is 1 at 110 °C.
    """
    bounded_c = np.minimum(hot_spot_c, HOTTEST_AGEING_C)
    plain = np.exp2((bounded_c - 98.0) / 6.0)
    if not np.any(upgraded_paper):
        return np.asarray(plain)
    kelvin = np.maximum(bounded_c + 273.0, 1.0)
    return np.where(upgraded_paper > 0.5, np.exp(15000.0 / 383.0 - 15000.0 / kelvin), plain)


@dataclass(frozen=True, slots=True)
class Course:
    """How the temperatures go on from a start under a constant load factor: exact at any later moment.

    IEC 60076-7, exponential equations: each of top oil, Δθh1 and Δθh2 relaxes to its steady value with the
    time constants k11·τo, k22·τw and τo/k22. Ambient relaxes to ``ambient_default_c`` with
    ``AMBIENT_MEMORY_S``, which adds one term to the oil; an ambient at its default stays there and leaves the
    standard's own exponential step.
    """

    start: Temperatures
    transformer: Transformer
    settled_oil_c: Column
    settled_h1_k: Column
    settled_h2_k: Column

    @classmethod
    def of(cls, start: Temperatures, load_factor: Column, transformer: Transformer) -> Course:
        """The course from ``start`` under ``load_factor`` (not negative)."""
        gradient_k = hot_spot_rise(load_factor, transformer)
        return cls(
            start=start,
            transformer=transformer,
            settled_oil_c=transformer.ambient_default_c + oil_rise(load_factor, transformer),
            settled_h1_k=transformer.k21 * gradient_k,
            settled_h2_k=(transformer.k21 - 1.0) * gradient_k,
        )

    def after(self, dt_s: Column) -> Temperatures:
        """The temperatures ``dt_s`` seconds after the start."""
        start, transformer = self.start, self.transformer
        oil_tau_s = 60.0 * transformer.k11 * transformer.oil_tau_min
        quick = np.exp(-dt_s / oil_tau_s)
        slow = np.exp(-dt_s / AMBIENT_MEMORY_S)
        h1_kept = np.exp(-dt_s / (60.0 * transformer.k22 * transformer.winding_tau_min))
        h2_kept = np.exp(-dt_s * transformer.k22 / (60.0 * transformer.oil_tau_min))
        usual_c = transformer.ambient_default_c
        unusual_k = start.ambient_c - usual_c
        followed = AMBIENT_MEMORY_S / (AMBIENT_MEMORY_S - oil_tau_s) * (slow - quick)
        return Temperatures(
            ambient_c=usual_c + unusual_k * slow,
            oil_c=self.settled_oil_c + (start.oil_c - self.settled_oil_c) * quick + unusual_k * followed,
            h1_k=self.settled_h1_k + (start.h1_k - self.settled_h1_k) * h1_kept,
            h2_k=self.settled_h2_k + (start.h2_k - self.settled_h2_k) * h2_kept,
        )

    def loss_of_life_h(self, dt_s: Column) -> Column:
        """Insulation life used in ``dt_s``, h: L = ∫V dt (IEC 60076-7) by three-point Gauss-Legendre.

        The hot spot at the three instants is exact, so only the quadrature errs: below 0.1 % of the loss for
        steps of three minutes, also when the load leaps between nothing and twice the rated one (see the tests).
        """
        upgraded = self.transformer.upgraded_paper
        rate: Column = np.zeros(())
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            rate = rate + weight * ageing_rate(self.after(dt_s * node).hot_spot_c, upgraded)
        return np.asarray(rate * dt_s / 3600.0)


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
