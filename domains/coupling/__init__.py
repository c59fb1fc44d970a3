"""Coupling: rules that need two domains. No kinds of its own; every rule follows relations of the scenario."""

from __future__ import annotations

from domains.coupling.clean_air import CLEAN_AIR
from domains.coupling.congestion_emissions import CONGESTION_EMISSIONS
from domains.coupling.venue_emptying import VENUE_EMPTYING
from twin_actors.core.kind import Domain

DOMAIN = Domain(
    name="coupling",
    doc="Rules between domains: crowds become traffic, traffic becomes emissions, bad air restrains traffic.",
    policies={policy.name: policy for policy in (VENUE_EMPTYING, CONGESTION_EMISSIONS, CLEAN_AIR)},
)

__all__ = ["CLEAN_AIR", "CONGESTION_EMISSIONS", "DOMAIN", "VENUE_EMPTYING"]
