"""The launch plan: all that an actor needs to build itself, read by its own process from where the city keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable
from twin_actors.runtime.clock import Clock
from twin_actors.runtime.holder import Holder
from twin_actors.runtime.numbering import NumberedLog
from twin_actors.runtime.placement import ActorPlan
from twin_actors.runtime.shelf import Shelf, shelf_of
from twin_actors.scenario.catalogue import Catalogue, load_catalogue
from twin_actors.scenario.model import Entity, Scenario
from twin_actors.scenario.model import FieldMap as ScenarioFieldMap
from twin_actors.store import Log, Store, open_store
from twin_actors.wire.decode import ReadingDecoder
from twin_actors.wire.fields import FieldMap
from twin_actors.wire.gateway import GatewayDecoder

ROUTER = "router"
SCENARIO_FILE = "scenario.json"
PLAN_FILE = "plan.json"
NEXT_FILE = "plan.next.json"


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How the city's processes reach the broker."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    protocol: str = "auto"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the launch decided beside the scenario: clock, broker, which actor holds which entities."""

    clock: dict[str, Any]
    broker: Reach
    store: str
    actors: tuple[tuple[str, tuple[int, ...]], ...]
    numbers: tuple[int, ...] = ()  # lasting numbers of the entities in the log; empty: their places in the scenario
    revision: int = 1  # how often the city has been changed since its launch, and 1
    renamed: Mapping[str, str] = {}  # what the last change did beside: old ids by new ones

    @property
    def scenario_file(self) -> str:
        """Beside the plan: one rename puts both in force."""
        return SCENARIO_FILE if self.revision == 1 else f"scenario-{self.revision}.json"


class CityPlan:
    """Scenario and plan, as read by ``load``."""

    def __init__(self, scenario: Scenario, plan: Plan, catalogue: Catalogue) -> None:
        self.scenario = scenario
        self.catalogue = catalogue
        self.record = plan
        self.clock = Clock(**plan.clock)
        self.broker = plan.broker
        self.store_url = plan.store
        self._renumbered = bool(plan.numbers)
        self.numbers = plan.numbers or tuple(range(len(scenario.entities)))
        self.actors = tuple(ActorPlan(name, tuple(entities)) for name, entities in plan.actors)
        named = scenario.routers_of_entities()
        self.router_of = tuple(f"{ROUTER}:{name}" if name else ROUTER for name in named)
        self.routers = tuple(sorted(set(self.router_of))) or (ROUTER,)

    @classmethod
    def load(cls, place: str | Path) -> CityPlan:
        """The plan in force at a place (see ``shelf``). Raises FileNotFoundError when no city was launched there."""
        return cls._load(shelf_of(place), PLAN_FILE)

    @classmethod
    def next(cls, place: str | Path) -> CityPlan | None:
        """The plan of a change that is under way, or was cut short."""
        shelf = shelf_of(place)
        if not shelf.has(NEXT_FILE):
            return None
        coming = cls._load(shelf, NEXT_FILE)
        if coming.record.revision > cls._load(shelf, PLAN_FILE).record.revision:
            return coming
        shelf.remove(NEXT_FILE)  # it is in force already; who put it there died before it was put away
        return None

    @classmethod
    def _load(cls, shelf: Shelf, name: str) -> CityPlan:
        plan = msgspec.json.decode(shelf.read(name), type=Plan)
        return cls(Scenario.from_json(shelf.read(plan.scenario_file)), plan, load_catalogue())

    @staticmethod
    def save(place: str | Path, scenario: Scenario, plan: Plan, name: str = PLAN_FILE) -> None:
        """Write both parts, the scenario first. They may hold the broker's password."""
        shelf = shelf_of(place)
        shelf.write(plan.scenario_file, scenario.to_json())
        shelf.write(name, msgspec.json.encode(plan))

    @property
    def keeps(self) -> bool:
        """What the city's store holds outlives ``down``."""
        return self.scenario.store_url != "memory:"

    def open_store(self) -> Store:
        """The city's store, opened by this process. Raises StoreUnavailable, StoreDamaged."""
        return open_store(self.store_url)

    @property
    def main_router(self) -> str:
        """The router that also speaks for the city and takes what belongs to nobody."""
        return self.routers[0]

    def log_of(self, store: Store, number: int) -> Log:
        """The log that an entity's inputs go to, numbered by this scenario."""
        return self.log(store, self.router_of[number])

    def log(self, store: Store, router: str = "") -> Log:
        """A router's log in a store (the main one's unless named), numbered by this scenario."""
        log = store.log(router or self.main_router)
        return NumberedLog(log, self.numbers) if self._renumbered else log

    def of_router(self, name: str) -> CityPlan:
        """The part of the city that one router has: its entities, numbered anew, and their actors."""
        if self.routers == (name,):
            return self
        own = [number for number, router in enumerate(self.router_of) if router == name]
        place = {number: new for new, number in enumerate(own)}
        plan = msgspec.structs.replace(
            self.record,
            numbers=tuple(self.numbers[number] for number in own),
            actors=tuple(
                (actor.name, tuple(place[number] for number in actor.entities))
                for actor in self.actors
                if actor.entities[0] in place
            ),
        )
        scenario = replace(self.scenario, entities=tuple(self.scenario.entities[number] for number in own))
        return CityPlan(scenario, plan, self.catalogue)

    def gateway_decoder(self) -> GatewayDecoder:
        """What gateways send, for the entities of this plan."""
        kinds = {name: ReadingDecoder(self.catalogue.kinds[name].reading) for name in self.scenario.kinds_used()}
        return GatewayDecoder(kinds, {entity.id: number for number, entity in enumerate(self.scenario.entities)})

    def holder(self, name: str, *, epoch: int, incarnation: str) -> Holder:
        """The twins of one actor, fresh."""
        actor = next((each for each in self.actors if each.name == name), None)
        if actor is None:
            raise ValueError(f"the plan knows no twin actor {name!r}")
        return holder_of(
            [self.scenario.entities[number] for number in actor.entities],
            self.scenario,
            self.catalogue,
            epoch=epoch,
            incarnation=incarnation,
        )


def attribute_matrix(kind: Kind, entities: Sequence[Entity]) -> Column:
    """Attributes ``(rows, n)`` of entities of one kind: what the scenario says over the kind's defaults."""
    layout = kind.attributes.layout
    matrix = np.repeat(layout.per_row("default"), len(entities), axis=1)
    for column, entity in enumerate(entities):
        for name, value in entity.attributes.items():
            matrix[layout.places[name], column] = value
    return matrix


def noise_matrices(kind: Kind, entities: Sequence[Entity]) -> tuple[Column, Column]:
    """``sd (reading rows, n)`` and ``drift (state rows, n)``: what a calibration says over what the kind declares."""
    made = []
    for what, layout in (("sd", kind.reading.layout), ("drift", kind.state.layout)):
        matrix = np.repeat(np.nan_to_num(layout.per_row(what)), len(entities), axis=1)
        for column, entity in enumerate(entities):
            for name, value in getattr(entity, what).items():
                matrix[layout.places[name], column] = value
        made.append(matrix)
    return made[0], made[1]


def table_of(kind: Kind, entities: Sequence[Entity]) -> TwinTable:
    """Fresh twins of entities of one kind, with their own parameters."""
    table = TwinTable(kind, [entity.id for entity in entities], attribute_matrix(kind, entities))
    if any(entity.sd or entity.drift for entity in entities):
        table.set_noises(*noise_matrices(kind, entities))
    return table


def decoders_of(kind: Kind, scenario: Scenario) -> Mapping[int, ReadingDecoder]:
    """One decoder per topic source of a kind: -1 for the city's own topics, then remapped fleets by number."""
    decoders = {-1: ReadingDecoder(kind.reading)}
    for number, fleet in enumerate(scenario.fleets, start=1):
        if fleet.kind == kind.name:
            fields = {each.source: _field_map(each) for each in fleet.fields}
            decoders[number] = ReadingDecoder(kind.reading, fields or None)
    return decoders


def _field_map(said: ScenarioFieldMap) -> FieldMap:
    """A scenario names a row, ``queue_veh[nl]``; the decoder takes field and component apart."""
    name, _, component = said.field.partition("[")
    return FieldMap(field=name, factor=said.factor, offset=said.offset, component=component.removesuffix("]") or None)


def holder_of(
    entities: Sequence[Entity], scenario: Scenario, catalogue: Catalogue, *, epoch: int, incarnation: str
) -> Holder:
    """A Holder with one table per kind, kinds in the order of their first entity (entities come sorted by kind)."""
    kinds = dict.fromkeys(entity.kind for entity in entities)
    tables = []
    for name in kinds:
        kind = catalogue.kinds[name]
        own = [entity for entity in entities if entity.kind == name]
        tables.append(table_of(kind, own))
    return Holder(
        tables,
        {name: decoders_of(catalogue.kinds[name], scenario) for name in kinds},
        epoch=epoch,
        incarnation=incarnation,
        future_s=scenario.limits.future_s,
    )
