"""The venues domain: places where people gather (``venue``) and counted walkways (``footfall``)."""

from __future__ import annotations

from domains.venues.footfall import FOOTFALL
from domains.venues.gates import HOLD_GATES
from domains.venues.venue import VENUE
from twin_actors.core.kind import Domain

DOMAIN = Domain(
    name="venues",
    doc="Occupancy, crowding and egress of public venues, and footfall on walkways.",
    kinds=(VENUE, FOOTFALL),
    policies={HOLD_GATES.name: HOLD_GATES},
)

__all__ = ["DOMAIN", "FOOTFALL", "VENUE"]
