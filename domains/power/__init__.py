"""Power: substations whose transformers heat, age, shed load and hand it to their neighbours."""

from __future__ import annotations

from domains.power.advice import FIND_WASTE, OVERLOAD_ADVICE
from domains.power.shedding import SHED_LOAD
from domains.power.substation import SUBSTATION
from domains.power.transfer import TRANSFER_LOAD
from twin_actors.core.kind import Domain

DOMAIN = Domain(
    name="power",
    doc="Substations with the transformer model of IEC 60076-7 or IEEE C57.91, load shedding and transfer, advice.",
    kinds=(SUBSTATION,),
    policies={policy.name: policy for policy in (SHED_LOAD, TRANSFER_LOAD, OVERLOAD_ADVICE, FIND_WASTE)},
)

__all__ = ["DOMAIN"]
