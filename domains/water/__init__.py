"""Water: tanks that pumps fill, and metered zones with their pressure and leaks."""

from __future__ import annotations

from domains.water.policies import FIND_LEAKS, SCHEDULE_PUMPS
from domains.water.tank import TANK
from domains.water.zone import PRESSURE_ZONE
from twin_actors.core.kind import Domain

DOMAIN = Domain(
    name="water",
    doc="Water supply: tanks, pumps on their curves, Hazen-Williams mains, pressure zones and leaks.",
    kinds=(TANK, PRESSURE_ZONE),
    policies={policy.name: policy for policy in (SCHEDULE_PUMPS, FIND_LEAKS)},
)

__all__ = ["DOMAIN"]
