"""Traffic: signalled intersections and road sections."""

from __future__ import annotations

from domains.traffic.axes import MOVEMENT, PHASE
from domains.traffic.intersection import INTERSECTION
from domains.traffic.policies import POLICIES
from domains.traffic.road import ROAD
from twin_actors.core.kind import Domain

DOMAIN = Domain(
    name="traffic",
    doc="Signalled intersections (queues, signal plans, perimeter metering) and road sections.",
    kinds=(INTERSECTION, ROAD),
    policies=POLICIES,
)

__all__ = ["DOMAIN", "INTERSECTION", "MOVEMENT", "PHASE", "ROAD"]
