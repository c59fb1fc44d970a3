"""The actors of a city as the controller makes them: names, options, how they are found, created and introduced."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from twin_actors.runtime.aggregator import Aggregator
from twin_actors.runtime.nodes import placed_on
from twin_actors.runtime.placement import ACTOR_BYTES, OTHER_BYTES, ROUGHLY, labels_of
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.router import Router
from twin_actors.runtime.twin_actor import Hello, TwinActor
from twin_actors.runtime.whereabouts import Whereabouts

AGGREGATOR = "aggregator"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A twin actor that the plan asks for: whose inputs it takes, what its node must be called, how many twins."""

    router: str
    labels: Mapping[str, tuple[str, ...]]
    twins: int


def wanted_by(plan: CityPlan) -> dict[str, Wanted]:
    """The twin actors of a plan, by name."""
    scenario, entities = plan.scenario, plan.scenario.entities
    in_a_cluster = scenario.cluster is not None  # labels are of its nodes; a head of the city's own has none
    return {
        actor.name: Wanted(
            router=plan.router_of[actor.entities[0]],
            labels=dict(labels_of(scenario, entities[actor.entities[0]].kind)) if in_a_cluster else {},
            twins=len(actor.entities),
        )
        for actor in plan.actors
    }


class Crew:
    """Creates actors and finds them. ``lock`` is held by whoever ends one to create it again, so that nobody who
    finds the name missing meanwhile creates it elsewhere."""

    def __init__(self, place: str, namespace: str, plan: CityPlan, whereabouts: Whereabouts) -> None:
        self._place, self._namespace, self._whereabouts = place, namespace, whereabouts
        self.lock = threading.RLock()
        self.hellos: dict[str, Hello] = {}
        self.take(plan)

    def take(self, plan: CityPlan, living_on: Collection[str] = ()) -> None:
        """Make what this plan wants from now on; of those who have introduced themselves only these go on living."""
        self.plan, self.routers, self.twin_actors = plan, plan.routers, wanted_by(plan)
        entities = plan.scenario.entities
        self.kinds = {actor.name: Counter(entities[number].kind for number in actor.entities) for actor in plan.actors}
        self.hellos = {name: hello for name, hello in self.hellos.items() if name in living_on}

    def find(self, name: str) -> Any:
        """Raises ValueError where nobody has this name."""
        return ray.get_actor(name, namespace=self._namespace)

    def living(self) -> set[str]:
        """The names that somebody has now."""
        named = ray.util.list_named_actors(all_namespaces=True)
        return {each["name"] for each in named if each["namespace"] == self._namespace}

    def reserved_bytes(self, name: str) -> int:
        """The memory to keep for a twin actor: as measured where it takes more than the usual."""
        place = self._whereabouts.places.get(name)
        if place is None or place.twins != self.twin_actors[name].twins:
            return ACTOR_BYTES
        return ACTOR_BYTES if place.memory_bytes <= ROUGHLY * ACTOR_BYTES else place.memory_bytes

    def create(self, name: str, *, node: str = "", anew: bool = False) -> Any:
        """Create an actor where it is wished, or find the one that is there.

        ``anew``: there must be none; raises ValueError while the name is taken.
        """
        if name in self.twin_actors:
            options = placed_on(node or self._whereabouts.target(name), self.twin_actors[name].labels)
            return self._create(
                TwinActor, name, name, memory=self.reserved_bytes(name), concurrency=1, anew=anew, **options
            )
        options = placed_on(node or self._whereabouts.target(name), {})
        if name == AGGREGATOR:
            return self._create(Aggregator, name, memory=OTHER_BYTES, concurrency=4, anew=anew, **options)
        return self._create(Router, name, name, memory=OTHER_BYTES, concurrency=8, anew=anew, **options)

    def _create(
        self, cls: type, name: str, *arguments: Any, memory: int, concurrency: int, anew: bool, **where: Any
    ) -> Any:
        first = (self._place, self._namespace) if cls is not TwinActor else (self._place,)
        return (
            ray.remote(cls)
            .options(
                name=name,
                namespace=self._namespace,
                lifetime="detached",
                get_if_exists=not anew,
                max_restarts=-1,
                max_task_retries=0,
                num_cpus=0,
                memory=memory,
                max_concurrency=concurrency,
                **where,
            )
            .remote(*first, *arguments)
        )

    def meet(self, name: str, hello: Hello) -> None:
        """Somebody has introduced itself; of two the one with the higher epoch counts."""
        known = self.hellos.get(name)
        if known is None or hello.epoch >= known.epoch:
            self.hellos[name] = hello
