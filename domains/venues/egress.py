"""Escape routes: flow from element to element, queues where it narrows, and the time until the last one is out.

The hydraulic model of IMO MSC.1/Circ.1533, appendix 1 (the same as that of the SFPE Handbook, ch. 59): an element takes
the flow of the one before it divided by its own clear width, at most its greatest specific flow; what is more queues.
Shapes: elements first, then ``(…, n)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domains.venues.pedestrians import (
    IMO_MAXIMUM_PER_M_S,
    Numbers,
    exit_specific_flow,
    flow_capacity_per_s,
    flow_time_s,
    imo_corridor_flow,
    imo_corridor_speed_mps,
    walking_time_s,
)

SPEED_BY_FLOW: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "stairs_down": ((0.0, 0.54, 1.1), (1.0, 1.0, 0.55)),
    "stairs_up": ((0.0, 0.43, 0.88), (0.8, 0.8, 0.44)),
    "corridor": ((0.0, 0.65, 1.3), (1.2, 1.2, 0.67)),
}
"""Specific flow (persons/m/s) and speed (m/s) of MSC.1/Circ.1533, appendix 1, linear between the points."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One element of a route with the flow through it: columns ``(…, n)``."""

    specific_flow: Numbers
    flow_per_s: Numbers
    flow_time_s: Numbers
    walk_s: Numbers
    queues: Numbers  # 1 where more comes than the element takes


def speed_of_flow_mps(kind: str, specific_flow: Numbers) -> Numbers:
    """Walking speed on an element at a specific flow; KeyError for a kind that ``SPEED_BY_FLOW`` does not have."""
    flows, speeds = SPEED_BY_FLOW[kind]
    return np.interp(specific_flow, flows, speeds)


def first_passage(persons: Numbers, area_m2: Numbers, width_m: Numbers, length_m: Numbers) -> Passage:
    """The room or corridor that holds the persons at the start: flow and speed by its initial density."""
    density = persons / area_m2
    specific = imo_corridor_flow(density)
    flow = flow_capacity_per_s(specific, width_m)
    walk = walking_time_s(length_m, imo_corridor_speed_mps(density))
    return Passage(specific, flow, flow_time_s(persons, flow), walk, np.zeros_like(np.asarray(flow)))


def next_passage(
    kind: str, before: Sequence[Passage], persons: Numbers, width_m: Numbers, length_m: Numbers
) -> Passage:
    """An element that one or several others lead into. ``kind`` is a key of ``IMO_MAXIMUM_PER_M_S``.

    A doorway has no length to walk.
    """
    coming = sum((passage.flow_per_s for passage in before), np.zeros_like(np.asarray(width_m, dtype=np.float64)))
    wanted = coming / np.asarray(width_m, dtype=np.float64)
    most = IMO_MAXIMUM_PER_M_S[kind]
    specific = np.minimum(wanted, most)
    flow = flow_capacity_per_s(specific, width_m)
    if kind == "doorway":
        walk: Numbers = np.zeros_like(flow)
    else:
        walk = walking_time_s(length_m, speed_of_flow_mps(kind, specific))
    return Passage(specific, flow, flow_time_s(persons, flow), walk, (wanted > most + 1e-12).astype(np.float64))


def route_time_s(passages: Sequence[Passage]) -> Numbers:
    """Travel time of a route: all walks one after the other, and the longest queue (MSC.1/Circ.1533, t_I).

    Without reaction time and without the standard's factors for counterflow and safety: those are the user's to add.
    """
    walks = np.sum([passage.walk_s for passage in passages], axis=0)
    longest: Numbers = np.max([passage.flow_time_s for passage in passages], axis=0)
    return np.asarray(walks + longest)


def venue_egress_s(
    persons: Numbers,
    density_per_m2: Numbers,
    exit_width_m: Numbers,
    longest_walk_m: Numbers,
    stair_width_m: Numbers,
    stair_length_m: Numbers,
) -> Numbers:
    """Time until the last person has left a venue: walk, stairs (width 0: none), and the queue where it is narrowest.

    The exits carry the flow of a crowd queueing at them (``exit_specific_flow``), the stairs at most 1.1 persons/m/s
    downwards. Zero when nobody is inside.
    """
    number = np.asarray(persons, dtype=np.float64)
    out_per_s = flow_capacity_per_s(exit_specific_flow(density_per_m2), exit_width_m)
    stairs = np.asarray(stair_width_m, dtype=np.float64) > 0.0
    down_per_s = IMO_MAXIMUM_PER_M_S["stairs_down"] * np.asarray(stair_width_m, dtype=np.float64)
    carried = np.where(stairs, np.minimum(out_per_s, down_per_s), out_per_s)
    specific = np.where(stairs, carried / np.where(stairs, stair_width_m, 1.0), 0.0)
    on_stairs = walking_time_s(stair_length_m, speed_of_flow_mps("stairs_down", specific))
    walk = walking_time_s(longest_walk_m, imo_corridor_speed_mps(density_per_m2)) + np.where(stairs, on_stairs, 0.0)
    return np.where(number > 0.0, flow_time_s(number, carried) + walk, 0.0)
