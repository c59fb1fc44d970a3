"""Health: hospital beds and ambulances as queues of many servers."""

from __future__ import annotations

from domains.health.ambulance import AMBULANCE_STATION
from domains.health.hospital import HOSPITAL
from domains.health.policies import DIVERT_PATIENTS, POST_AMBULANCES
from twin_actors.core.kind import Domain

DOMAIN = Domain(
    name="health",
    doc="Hospital beds and ambulance stations by Erlang's formulas, with posting of ambulances and diversion.",
    kinds=(HOSPITAL, AMBULANCE_STATION),
    policies={policy.name: policy for policy in (POST_AMBULANCES, DIVERT_PATIENTS)},
)

__all__ = ["DOMAIN"]
