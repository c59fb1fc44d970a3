"""Traffic: signalled intersections with plans, signals driven stage by stage, and road sections."""

from __future__ import annotations

from domains.traffic.axes import LANE, MOVEMENT, PHASE, STAGE
from domains.traffic.intersection import INTERSECTION
from domains.traffic.policies import POLICIES
from domains.traffic.road import ROAD
from domains.traffic.signal import SIGNAL
from twin_actors.core.kind import Domain

DOMAIN = Domain(
    name="traffic",
    doc="Signalled intersections (queues, plans, metering), signals driven stage by stage, and road sections.",
    kinds=(INTERSECTION, SIGNAL, ROAD),
    policies=POLICIES,
)

__all__ = ["DOMAIN", "INTERSECTION", "LANE", "MOVEMENT", "PHASE", "ROAD", "SIGNAL", "STAGE"]
