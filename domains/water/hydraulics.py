"""Pipes and pumps: Hazen-Williams head loss, pump curves and where the two meet, as pure column functions.

Heads and losses in m of water, flows in m³/s, lengths and diameters in m. Everything broadcasts.
"""

from __future__ import annotations

import numpy as np

from twin_actors.core.columns import Column

HAZEN_WILLIAMS = 10.666829500036352
"""10.67 in the SI form of h = 10.67 L q^1.852 / (C^1.852 d^4.871), to the digits of EPANET's 4.727 in US units."""

FLOW_POWER = 1.852
DIAMETER_POWER = 4.871

WATER_KN_M3 = 9.81  # specific weight

_NEWTON_STEPS = 25
_CLOSE = 1e-9  # of the flow: convergence is quadratic, so that a step this small leaves an error of its square


def resistance(length_m: Column, diameter_m: Column, roughness: Column) -> Column:
    """r of h = r q^1.852 (Hazen-Williams; EPANET 2.2 User Manual, Table 3.1). ``roughness`` is C, 140 for new steel."""
    return np.asarray(HAZEN_WILLIAMS * length_m / (roughness**FLOW_POWER * diameter_m**DIAMETER_POWER))


def head_loss_m(flow_m3s: Column, length_m: Column, diameter_m: Column, roughness: Column) -> Column:
    """Loss along a pipe in the direction of the flow; negative where it flows backwards."""
    return np.asarray(np.sign(flow_m3s) * resistance(length_m, diameter_m, roughness) * np.abs(flow_m3s) ** FLOW_POWER)


def pump_head_m(flow_m3s: Column, speed: Column, shutoff_m: Column, slope: Column, power: Column) -> Column:
    """Head of a pump at a part of its rated speed: H = s² A − B s^(2−C) q^C (EPANET 2.2; affinity)."""
    s = np.maximum(speed, 1e-9)
    return np.asarray(s**2 * shutoff_m - slope * s ** (2.0 - power) * flow_m3s**power)


def pump_flow_m3s(
    lift_m: Column, speed: Column, shutoff_m: Column, slope: Column, power: Column, pipe_resistance: Column
) -> Column:
    """Where the pump's curve meets lift + pipe loss: s² A − B s^(2−C) q^C = lift + r q^1.852; 0 where it cannot lift.

    Newton's method on a function that rises and is convex (C ≥ 1). It starts right of the root, where the pump's own
    loss or the pipe's alone uses up the head, and comes down on it without overshoot.
    """
    s = np.maximum(speed, 1e-9)
    head_m = s**2 * shutoff_m - lift_m
    lifts = (head_m > 0.0) & (speed > 0.0)
    left_m = np.where(lifts, head_m, 1.0)
    loss = np.maximum(slope * s ** (2.0 - power), 1e-12)
    pipe = np.maximum(pipe_resistance, 1e-12)
    q = np.minimum((left_m / loss) ** (1.0 / power), (left_m / pipe) ** (1.0 / FLOW_POWER))
    for _ in range(_NEWTON_STEPS):
        log_q = np.log(q)  # of both powers and of their derivatives
        in_pump, in_pipe = loss * np.exp(power * log_q), pipe * np.exp(FLOW_POWER * log_q)
        rise = (power * in_pump + FLOW_POWER * in_pipe) / q
        step = (in_pump + in_pipe - left_m) / np.maximum(rise, 1e-12)
        q = np.maximum(q - step, 1e-12)
        if (np.abs(step) <= _CLOSE * q).all():
            break
    return np.where(lifts, q, 0.0)


def pump_power_kw(flow_m3s: Column, head_m: Column, efficiency: Column) -> Column:
    """Electric power γ q H/η, kW."""
    return np.asarray(WATER_KN_M3 * flow_m3s * np.maximum(head_m, 0.0) / efficiency)
