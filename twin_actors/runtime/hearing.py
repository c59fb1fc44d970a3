"""What each router hears: the MQTT filters of its entities, and what it passes over because another one has it."""

from __future__ import annotations

from dataclasses import dataclass

from twin_actors.runtime.plan import CityPlan
from twin_actors.wire.topics import Topics


@dataclass(frozen=True, slots=True)
class Hearing:
    """``filters`` of one router, and the entities that are ``elsewhere``.

    MQTT matches whole levels only, so two routers may hear the same topic of a fleet of a ``divided`` kind: they pass
    over each other's entities, and unknown names of kinds that are ``explained`` by another router. So each stray
    message becomes one dead letter. Messages of gateways are heard by all, each taking the elements of its own
    entities; what belongs to nobody is for the one that is ``main``.
    """

    filters: tuple[str, ...]
    elsewhere: frozenset[str] = frozenset()
    divided: frozenset[str] = frozenset()
    explained: frozenset[str] = frozenset()
    main: bool = True

    def passes_over(self, entity: str) -> bool:
        kind = entity.partition("/")[0]
        return kind in self.explained or (kind in self.divided and entity in self.elsewhere)


def hearing_of(plan: CityPlan, router: str) -> Hearing:
    """A router alone hears all under the root: a mistyped channel or kind must not vanish unseen. Several hear whole
    kinds, and one by one the entities of kinds that they divide; the first also hears kinds that have no entities."""
    root = plan.scenario.root
    own_topics = [fleet.topic for fleet in plan.scenario.fleets]
    if len(plan.routers) == 1:
        return Hearing((f"{root}/#", *dict.fromkeys(own_topics)))
    takers: dict[str, set[str]] = {}
    for entity, taker in zip(plan.scenario.entities, plan.router_of, strict=True):
        takers.setdefault(entity.kind, set()).add(taker)
    own = {kind for kind, taken in takers.items() if router in taken}
    whole = {kind for kind in own if len(takers[kind]) == 1}
    unused = plan.catalogue.kinds.keys() - takers.keys() if router == plan.main_router else set()
    filters = [f"{root}/{kind}/#" for kind in sorted(whole | unused)]
    elsewhere = set()
    for entity, taker in zip(plan.scenario.entities, plan.router_of, strict=True):
        if taker != router:
            elsewhere.add(entity.id)
        elif entity.kind not in whole:
            filters.append(f"{root}/{entity.id}/#")
    filters += [fleet.topic for fleet in plan.scenario.fleets if fleet.kind in own]
    filters.append(Topics(root).gateway("+"))
    explained = frozenset(kind for kind in own if min(takers[kind]) != router)
    return Hearing(
        tuple(dict.fromkeys(filters)),
        frozenset(elsewhere),
        frozenset(own - whole),
        explained,
        router == plan.main_router,
    )
