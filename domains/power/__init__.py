"""Power: substations whose transformers heat, age and shed load."""

from __future__ import annotations

from domains.power.shedding import SHED_LOAD
from domains.power.substation import SUBSTATION
from twin_actors.core.kind import Domain

DOMAIN = Domain(
    name="power",
    doc="Substations with the transformer model of IEC 60076-7, and load shedding by blocks.",
    kinds=(SUBSTATION,),
    policies={SHED_LOAD.name: SHED_LOAD},
)

__all__ = ["DOMAIN"]
