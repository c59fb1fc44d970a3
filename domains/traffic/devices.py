"""What the outside world does to simulated traffic: a daily course of demand and passing disturbances."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from domains.traffic.axes import LANE, MOVEMENT
from domains.traffic.equations import S_PER_H
from twin_actors.core.columns import Column, Drivers, driver

S_PER_DAY = 86_400.0
SWING_S = 300.0
"""Time in which a passing disturbance of flow or speed fades to 1/e."""
DEMAND_SWING = 0.08
"""Standard deviation of demand around its course, as a share of the course."""
SPEED_SWING = 0.04
"""Standard deviation of speed around what the flow allows, as a share of it."""

PROGRAM_STAGE_S = 30.0
"""How long each stage of a simulated signal shows while nobody commands it."""

# A weekday of commuting: relative flow at the full hours, 1 at the height of the evening peak.
WEEKDAY = np.array(
    (
        *(0.16, 0.11, 0.09, 0.09, 0.13, 0.30, 0.60, 0.88, 0.97, 0.78, 0.68, 0.69),
        *(0.72, 0.72, 0.74, 0.80, 0.90, 1.00, 0.93, 0.72, 0.54, 0.42, 0.33, 0.24),
    )
)


class IntersectionDrivers(Drivers):
    """Demand at a simulated intersection."""

    demand_factor: Column = driver("1", minimum=0, maximum=10, default=1)
    base_vph: Column = driver(
        "veh/h", MOVEMENT, minimum=0, maximum=8000, default=(120, 420, 120, 420, 120, 420, 120, 420)
    )
    """Demand at the height of an ordinary day."""
    utc_offset_h: Column = driver("h", minimum=-12, maximum=14, default=0)


class SignalDrivers(Drivers):
    """Arrivals at a simulated signal."""

    demand_factor: Column = driver("1", minimum=0, maximum=10, default=1)
    base_vph: Column = driver("veh/h", LANE, minimum=0, maximum=3000, default=350)
    """Arrivals per lane at the height of an ordinary day."""
    utc_offset_h: Column = driver("h", minimum=-12, maximum=14, default=0)


class RoadDrivers(Drivers):
    """Traffic on a simulated road section."""

    demand_factor: Column = driver("1", minimum=0, maximum=10, default=1)
    peak_share: Column = driver("1", minimum=0, maximum=3, default=0.85)
    """Flow at the height of an ordinary day as a share of capacity."""
    lanes_closed_share: Column = driver("1", minimum=0, maximum=0.95, default=0)
    """Share of the capacity that an incident or a work site takes away."""
    utc_offset_h: Column = driver("h", minimum=-12, maximum=14, default=0)


class DailyDrivers(Protocol):
    """Drivers with a daily course."""

    @property
    def demand_factor(self) -> Column: ...

    @property
    def utc_offset_h(self) -> Column: ...


def course(drivers: DailyDrivers, at_s: Column) -> Column:
    """Relative demand at ``at_s`` (s since the epoch, UTC), 1 at the height of an ordinary day."""
    hour = np.mod(at_s + drivers.utc_offset_h * S_PER_H, S_PER_DAY) / S_PER_H
    relative: Column = drivers.demand_factor * np.interp(hour, np.arange(24.0), WEEKDAY, period=24.0)
    return relative


def wander(
    value: Column, *, before: Column, after: Column, swing: float, dt_s: Column, chance: np.random.Generator
) -> Column:
    """Move ``value`` along its course from ``before`` to ``after``, never below zero.

    Its deviation is an Ornstein-Uhlenbeck process with standard deviation ``swing`` × course and time constant
    ``SWING_S``, stepped exactly, so its statistics do not depend on ``dt_s`` (Gillespie 1996, Physical
    Review E 54).
    """
    fade = np.exp(-dt_s / SWING_S)
    push = swing * after * np.sqrt(1.0 - fade**2)
    moved: Column = np.maximum(after + (value - before) * fade + push * chance.standard_normal(value.shape), 0.0)
    return moved
