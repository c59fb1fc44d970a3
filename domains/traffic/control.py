"""Green splits: what a phase plan can carry, and the splits that max pressure and Webster would set."""

from __future__ import annotations

import numpy as np

from domains.traffic.equations import (
    S_PER_H,
    TINY,
    flow_ratio,
    movement_pressure_veh,
    phase_pressure,
    webster_cycle_s,
)
from twin_actors.core.columns import Column


def available_share(lost_time_s: Column, cycle_s: Column) -> Column:
    """Share of the cycle that can be effective green, 1 − L/C."""
    share: Column = np.maximum(1.0 - lost_time_s / np.maximum(cycle_s, TINY), 0.0)
    return share


def effective_split(green_split: Column, lost_time_s: Column, cycle_s: Column) -> Column:
    """The greens ``(p, …)`` that fit: orders that ask for more than 1 − L/C in total are scaled down to it."""
    total = np.maximum(green_split.sum(axis=0), TINY)
    fitted: Column = green_split * np.minimum(available_share(lost_time_s, cycle_s) / total, 1.0)
    return fitted


def movement_green(split: Column, serves: Column) -> Column:
    """Green share of each movement ``(m, …)``: the sum over the phases that serve it, at most 1."""
    green: Column = np.minimum(np.einsum("p...,pm...->m...", split, serves), 1.0)
    return green


def phase_used(saturation_vph: Column, serves: Column) -> Column:
    """1 where a phase serves any movement that exists, else 0: ``(p, …)``."""
    used: Column = ((serves * (saturation_vph > 0)).max(axis=1) > 0).astype(np.float64)
    return used


def split_with_floor(weight: Column, floor: Column, available: Column) -> Column:
    """Shares ``(p, …)`` in proportion to ``weight``, none below ``floor``, together ``available``.

    Where all weights are zero, phases with a floor share alike. Floors that do not fit are scaled down.
    Raising one phase to its floor lowers the others, so the test is repeated once for each phase.
    """
    floor = floor * np.minimum(available / np.maximum(floor.sum(axis=0), TINY), 1.0)
    weight = np.maximum(weight, 0.0)
    total = weight.sum(axis=0)
    weight = np.where(total > 0, weight / np.where(total > 0, total, 1.0), 0.0) + TINY * (floor > 0)
    raised = np.zeros(np.broadcast_shapes(weight.shape, floor.shape), dtype=bool)
    share = np.zeros(raised.shape)
    for _ in range(len(share)):
        left = np.maximum(available - np.where(raised, floor, 0.0).sum(axis=0), 0.0)
        free = np.where(raised, 0.0, weight)
        share = np.where(raised, floor, left * free / np.maximum(free.sum(axis=0), TINY * TINY))
        raised |= share < floor
    return np.where(raised, floor, share)


def green_floor(saturation_vph: Column, serves: Column, min_green_s: Column | float, cycle_s: Column) -> Column:
    """Least share of each phase ``(p, …)``: ``min_green_s`` of the cycle where it serves anybody."""
    floor: Column = phase_used(saturation_vph, serves) * (min_green_s / np.maximum(cycle_s, TINY))
    return floor


def max_pressure_split(
    queue_veh: Column,
    arrival_vph: Column,
    saturation_vph: Column,
    serves: Column,
    *,
    lost_time_s: Column,
    min_green_s: Column,
    cycle_s: Column,
) -> Column:
    """A cycle shared in proportion to the phases' pressures, ``(p, …)``, each at least its minimum green.

    Varaiya's rule decides for the next few seconds; a plan decides for a cycle, so it is spread over the cycle
    (the cyclic form of Le et al. 2015, Transportation Research C 58, in proportion to pressure) and a queue
    counts with what joins it during the cycle: otherwise empty queues would share alike whatever comes.
    """
    coming_veh = queue_veh + arrival_vph * cycle_s / S_PER_H
    pressure = phase_pressure(movement_pressure_veh(coming_veh), saturation_vph, serves)
    floor = green_floor(saturation_vph, serves, min_green_s, cycle_s)
    return split_with_floor(pressure, floor, available_share(lost_time_s, cycle_s))


def webster_plan(
    arrival_vph: Column,
    saturation_vph: Column,
    serves: Column,
    *,
    lost_time_s: Column,
    min_green_s: Column,
    shortest_s: float,
    longest_s: float,
) -> tuple[Column, Column]:
    """Webster's cycle within [``shortest_s``, ``longest_s``] and its splits ``(p, …)`` with minimum greens.

    Demand beyond capacity (Y ≥ 1) gets the longest cycle. Source: Webster (1958), RRTP 39.
    """
    ratio = flow_ratio(arrival_vph, saturation_vph, serves)
    cycle_s = np.clip(webster_cycle_s(ratio, lost_time_s), shortest_s, longest_s)
    floor = green_floor(saturation_vph, serves, min_green_s, cycle_s)
    return cycle_s, split_with_floor(ratio, floor, available_share(lost_time_s, cycle_s))
