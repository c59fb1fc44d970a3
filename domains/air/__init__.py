"""Air quality: stations and sources, indices of three standards, advice, neighbours, and whose dust it is."""

from __future__ import annotations

from domains.air.advice import AIR_ADVICE
from domains.air.emitter import EMITTER
from domains.air.network import CHECK_STATIONS, FILL_IN_AIR, FIND_SOURCE
from domains.air.station import AIR_STATION
from twin_actors.core.kind import Domain

DOMAIN = Domain(
    name="air",
    doc="Air quality stations with the index of EPA (May 2024), HJ 633-2012 or HJ 633-2026.",
    kinds=(AIR_STATION, EMITTER),
    policies={policy.name: policy for policy in (AIR_ADVICE, CHECK_STATIONS, FILL_IN_AIR, FIND_SOURCE)},
)

__all__ = ["DOMAIN"]
