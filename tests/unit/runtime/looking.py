"""A town as the aggregator sees it: twins of any placement, looked at whenever a test wants."""

from __future__ import annotations

from typing import Any

from tests.unit.runtime.cities import delivery, says, send, town
from twin_actors.core.view import View
from twin_actors.runtime.cityview import CityView
from twin_actors.runtime.holder import NOTHING_APPLIED
from twin_actors.runtime.placement import plan_actors
from twin_actors.runtime.plan import holder_of
from twin_actors.scenario.catalogue import load_catalogue

QUARTER = """
city: quarter
entities:
  - {kind: footfall, pattern: "gate-{n}", count: 3}
  - {kind: substation, name: quay, at: [53.544, 9.988], tags: {district: quay},
     attributes: {rated_mva: 40, block_mw: [4, 4, 5, 6, 6]}}
  - {kind: substation, name: docks, at: [53.538, 9.975], attributes: {rated_mva: 31.5, block_mw: [3, 3, 4, 4, 5]}}
  - {kind: venue, name: arena, at: [53.542, 9.979],
     attributes: {area_m2: 9000, capacity_persons: 16000, exit_width_m: 28, initial_persons: 12000}}
  - {kind: intersection, pattern: "quay-{n}", count: 2}
relations:
  - {name: empties_to, from: venue/arena, to: [intersection/quay-1, intersection/quay-2], share: 0.3, delay: 4min}
resources:
  - {name: crew, count: 2, base: [53.549, 9.975], speed_kmh: 36}
"""


class Town:
    """The twins of a scenario, each where its placement says, and the aggregator's view of them."""

    def __init__(self, text: str = QUARTER) -> None:
        self.scenario, self.catalogue = town(text), load_catalogue()
        self.plans = plan_actors(self.scenario)
        entities = self.scenario.entities
        self.holders = {
            plan.name: holder_of(
                [entities[number] for number in plan.entities], self.scenario, self.catalogue, epoch=1, incarnation="a"
            )
            for plan in self.plans
        }
        self.where = {
            entities[number].id: (plan.name, place) for plan in self.plans for place, number in enumerate(plan.entities)
        }
        self.view = CityView(self.scenario, self.catalogue, self.plans)
        self._offset = NOTHING_APPLIED

    def hear(self, entity: str, at_s: float, **values: Any) -> None:
        """One reading of one entity reaches its twin."""
        name, place = self.where[entity]
        actor = self.holders[name]
        self._offset += 1
        reply = send(actor, delivery(self._offset, place, says(at_s, **values), received_at_s=at_s), after=actor.offset)
        assert reply.ok
        assert not reply.refused

    def take(self, name: str, now_s: float) -> None:
        """The aggregator gets one actor's look."""
        self.view.take(name, now_s, self.holders[name].show(now_s, with_control=True))

    def look(self, now_s: float) -> View:
        """All actors show themselves, and the cut is made."""
        for name in self.holders:
            self.take(name, now_s)
        return self.view.at(now_s)
