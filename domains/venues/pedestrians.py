"""Pedestrian dynamics as pure functions: levels of service, walking speed, flow through exits, time to leave.

Densities are in persons/m², speeds in m/s, widths and lengths in m, specific flows in persons per metre of
effective width and second. All functions take arrays of any shape and return arrays of the broadcast shape.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]

LEVELS = ("A", "B", "C", "D", "E", "F")

WALKWAY_PER_M2 = (0.31, 0.43, 0.72, 1.08, 2.17)
"""Upper density of walkway levels A to E (Fruin, Pedestrian Planning and Design, 1971)."""

QUEUING_PER_M2 = (0.83, 1.11, 1.43, 3.33, 5.0)
"""Upper density of queuing (waiting) levels A to E (Fruin 1971)."""

WALKWAY_PER_M_MIN = (23.0, 33.0, 49.0, 66.0, 82.0)
"""Upper flow of walkway levels A to E, persons/m/min (Fruin 1971: 7, 10, 15, 20 and 25 per foot)."""

WEIDMANN_FREE_MPS = 1.34
WEIDMANN_JAM_PER_M2 = 5.4

SFPE_K_LEVEL = 1.40
SFPE_SLOPE_M2 = 0.266
SFPE_FREE_PER_M2 = 0.54
"""Below this density people do not hinder each other: speed no longer depends on density."""

BOUNDARY_DOOR_M = 0.15
BOUNDARY_CORRIDOR_M = 0.20

IMO_DENSITY_PER_M2 = (0.0, 0.5, 1.9, 3.2, 3.5)
IMO_FLOW_PER_M_S = (0.0, 0.65, 1.3, 0.65, 0.32)
IMO_SPEED_MPS = (1.2, 1.2, 0.67, 0.20, 0.10)
"""Corridor table of IMO MSC.1/Circ.1533 (2016), appendix 1: initial density, specific flow, speed."""

IMO_MAXIMUM_PER_M_S = {"stairs_down": 1.1, "stairs_up": 0.88, "corridor": 1.3, "doorway": 1.3}


def level_of_service(amount: ArrayLike, upper_limits: tuple[float, ...]) -> Numbers:
    """Fruin's level as 0 (A) to 5 (F): the first level whose upper limit is not exceeded.

    ``upper_limits`` is one of ``WALKWAY_PER_M2``, ``QUEUING_PER_M2`` and ``WALKWAY_PER_M_MIN``; ``amount`` is
    in its unit.
    """
    return np.searchsorted(np.asarray(upper_limits), np.asarray(amount), side="left").astype(np.float64)


def persons_inside(initial: Numbers, entered: Numbers, left: Numbers) -> Numbers:
    """Persons inside by conservation: initial + entered − left, never below zero.

    Door counters miscount, so that the counted left may exceed the counted entered; the venue is empty then.
    """
    inside: Numbers = np.maximum(initial + entered - left, 0.0)
    return inside


def weidmann_speed_mps(density_per_m2: ArrayLike) -> Numbers:
    """Walking speed v = 1.34 (1 − exp(−1.913 (1/ρ − 1/5.4))), zero from 5.4 persons/m² on.

    Source: Weidmann, Transporttechnik der Fussgänger, IVT 90, ETH Zürich 1993 (Kladek's formula).
    """
    density = np.clip(np.asarray(density_per_m2, dtype=np.float64), 1e-9, WEIDMANN_JAM_PER_M2)
    return WEIDMANN_FREE_MPS * (1 - np.exp(-1.913 * (1 / density - 1 / WEIDMANN_JAM_PER_M2)))


def sfpe_speed_mps(density_per_m2: ArrayLike, k: float = SFPE_K_LEVEL) -> Numbers:
    """Walking speed S = k (1 − 0.266 D) for 0.54 < D < 3.8 persons/m², constant below, zero above.

    ``k`` is 1.40 m/s for corridors, ramps and doors and 1.00 to 1.23 for stairs. Source: Gwynne and
    Rosenbaum, Employing the hydraulic model, SFPE Handbook of Fire Protection Engineering, 5th ed., ch. 59.
    Below 0.54 the handbook prints 0.85 k; here the line's own value at 0.54 (0.856 k) goes on, so that the
    speed has no step.
    """
    density = np.maximum(np.asarray(density_per_m2, dtype=np.float64), SFPE_FREE_PER_M2)
    return np.maximum(k * (1 - SFPE_SLOPE_M2 * density), 0.0)


def sfpe_specific_flow(density_per_m2: ArrayLike, k: float = SFPE_K_LEVEL) -> Numbers:
    """Specific flow Fs = S D, persons/m/s: 1.32 at most, at 1.88 persons/m² (SFPE Handbook, ch. 59)."""
    density = np.maximum(np.asarray(density_per_m2, dtype=np.float64), 0.0)
    return sfpe_speed_mps(density, k) * density


def imo_corridor_flow(density_per_m2: ArrayLike) -> Numbers:
    """Initial specific flow in a corridor, persons/m/s, linear between the points of IMO MSC.1/Circ.1533."""
    return np.interp(np.asarray(density_per_m2, dtype=np.float64), IMO_DENSITY_PER_M2, IMO_FLOW_PER_M_S)


def imo_corridor_speed_mps(density_per_m2: ArrayLike) -> Numbers:
    """Initial walking speed in a corridor, linear between the points of MSC.1/Circ.1533; at least 0.1."""
    return np.interp(np.asarray(density_per_m2, dtype=np.float64), IMO_DENSITY_PER_M2, IMO_SPEED_MPS)


def effective_width_m(clear_width_m: ArrayLike, boundary_layer_m: float = BOUNDARY_DOOR_M, sides: int = 2) -> Numbers:
    """Width that people use: the clear width less a boundary layer on each side, not below zero.

    The layer is 0.15 m for doors and stairs and 0.20 m for corridors (SFPE Handbook, ch. 59).
    """
    return np.maximum(np.asarray(clear_width_m, dtype=np.float64) - sides * boundary_layer_m, 0.0)


def exit_specific_flow(density_per_m2: ArrayLike) -> Numbers:
    """Specific flow of an exit that a crowd of this density queues at, persons/m/s.

    A queue finds the exit's best flow by itself while the room is less dense than 1.88 persons/m² (the
    controlling element of SFPE Handbook ch. 59); in a denser room the flow falls along the same curve, not
    below the 0.32 that IMO MSC.1/Circ.1533 gives for the densest crowd.
    """
    best_per_m2 = 1 / (2 * SFPE_SLOPE_M2)
    flow = sfpe_specific_flow(np.maximum(np.asarray(density_per_m2, dtype=np.float64), best_per_m2))
    return np.maximum(flow, IMO_FLOW_PER_M_S[-1])


def flow_capacity_per_s(specific_flow: ArrayLike, effective_width: ArrayLike) -> Numbers:
    """Calculated flow Fc = Fs · Wc in persons/s (IMO MSC/Circ.1166, 5.3; MSC.1/Circ.1533)."""
    return np.asarray(specific_flow, dtype=np.float64) * np.asarray(effective_width, dtype=np.float64)


def flow_time_s(persons: ArrayLike, capacity_per_s: ArrayLike) -> Numbers:
    """Flow time tF = N / Fc in s; infinite where somebody waits but nothing can flow, zero for nobody."""
    number, capacity = np.broadcast_arrays(
        np.asarray(persons, dtype=np.float64), np.asarray(capacity_per_s, dtype=np.float64)
    )
    blocked = np.where(number > 0, np.inf, 0.0)
    time_s: Numbers = np.divide(number, capacity, out=blocked, where=capacity > 0)
    return time_s


def walking_time_s(length_m: ArrayLike, speed_mps: ArrayLike) -> Numbers:
    """Walking time tw = L / S in s (IMO MSC/Circ.1166, 5.4); ``speed_mps`` must be above zero."""
    return np.asarray(length_m, dtype=np.float64) / np.asarray(speed_mps, dtype=np.float64)


def egress_time_s(
    persons: ArrayLike, density_per_m2: ArrayLike, effective_width: ArrayLike, walk_m: ArrayLike
) -> Numbers:
    """Time until the last person is out: the longest walk at the speed of the crowd, then the exit queue.

    tw + tF of IMO MSC/Circ.1166 with the speed of MSC.1/Circ.1533 and the flow of ``exit_specific_flow``; zero
    when nobody is inside. No reaction time and no safety factor: those are the user's to add.
    """
    number = np.asarray(persons, dtype=np.float64)
    queue_s = flow_time_s(number, flow_capacity_per_s(exit_specific_flow(density_per_m2), effective_width))
    walk_s = walking_time_s(walk_m, imo_corridor_speed_mps(density_per_m2))
    return np.where(number > 0, queue_s + walk_s, 0.0)
