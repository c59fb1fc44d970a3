"""Air quality: stations that measure six pollutants, indices of three standards, advice to the public."""

from __future__ import annotations

from domains.air.advice import AIR_ADVICE
from domains.air.station import AIR_STATION
from twin_actors.core.kind import Domain

DOMAIN = Domain(
    name="air",
    doc="Air quality stations with the index of EPA (May 2024), HJ 633-2012 or HJ 633-2026.",
    kinds=(AIR_STATION,),
    policies={AIR_ADVICE.name: AIR_ADVICE},
)

__all__ = ["DOMAIN"]
