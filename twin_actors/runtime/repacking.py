"""Between two lives of a city: its twins, accounts and commands taken over into a scenario that has changed.

Everything is done without Ray and MQTT, by the same routing and holders that run the city: the old packing recovers and
applies all that its log holds, then every twin moves, with all its memory, to its place in the new packing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin_actors.runtime.desk import CommandDesk
from twin_actors.runtime.holder import Holder
from twin_actors.runtime.inbox import Inbox
from twin_actors.runtime.letters import Letters
from twin_actors.runtime.notes import NOBODY, Note, Tally, encode
from twin_actors.runtime.plan import CityPlan, Plan, Reach
from twin_actors.runtime.restoring import restore
from twin_actors.runtime.routing import Routing, routing_of
from twin_actors.runtime.saving import RouterMemory
from twin_actors.scenario.catalogue import Catalogue
from twin_actors.scenario.model import Scenario
from twin_actors.store import Entry, Store

PLAN_KEY = "plan"


class KeptPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the store remembers of the city's last launch. The scenario is kept without its broker's password."""

    scenario: bytes
    actors: tuple[tuple[str, tuple[int, ...]], ...]
    numbers: tuple[int, ...]
    known: dict[str, int]  # of every entity that there ever was

    @classmethod
    def of(cls, scenario: Scenario, plan: Plan, known: Mapping[str, int]) -> KeptPlan:
        quiet = replace(scenario, broker=replace(scenario.broker, password=None))
        return cls(scenario=quiet.to_json(), actors=plan.actors, numbers=plan.numbers, known=dict(known))

    def plan(self, catalogue: Catalogue, store_url: str) -> CityPlan:
        """The city as it was; its broker is nobody's."""
        plan = Plan(clock={}, broker=Reach(host="", port=0), store=store_url, actors=self.actors, numbers=self.numbers)
        return CityPlan(Scenario.from_json(self.scenario), plan, catalogue)


@dataclass(frozen=True, slots=True)
class Repacked:
    """What a change of the scenario came to, in entity ids."""

    kept: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


def ids_of(plan: CityPlan) -> list[str]:
    return [entity.id for entity in plan.scenario.entities]


def same_packing(one: CityPlan, other: CityPlan) -> bool:
    """The same entities in the same actors of the same routers: nothing has to move."""
    return ids_of(one) == ids_of(other) and one.actors == other.actors and one.router_of == other.router_of


def repack(
    store: Store, old: CityPlan, new: CityPlan, *, renamed: Mapping[str, str] | None = None,
    untouched: Set[str] = frozenset(),
) -> Repacked:  # fmt: skip
    """Move every twin to its place in ``new``; no router may be running. May be repeated after a crash.

    New entities begin as new; removed ones leave, with their counts; ``renamed`` says by new id which it was before.
    What was on its way to a twin is applied first. Twin actors that are ``untouched`` hold the same twins in both and
    may live on: what waits for them in the log goes on waiting there. Raises LogTrimmed and ValueError when an old
    actor cannot be brought back.
    """
    was = {entity: (renamed or {}).get(entity, entity) for entity in ids_of(new)}
    before = {name: _Before.of(store, old, name, untouched) for name in old.routers}
    holders = {name: holder for each in before.values() for name, holder in each.holders.items()}
    last_s = max((each.last_s for each in before.values()), default=0.0)
    for name in new.routers:
        nobodys = [
            each
            for router, each in before.items()
            if router == name
            or (  # readings of nobody
                name == new.main_router and router not in new.routers
            )
        ]
        _begin_router(store, new.of_router(name), name, before, holders, was, untouched, last_s, nobodys)
    known = set(ids_of(old))
    came = {entity for entity, old_id in was.items() if old_id not in known}
    return Repacked(tuple(sorted(was.keys() - came)), tuple(sorted(came)), tuple(sorted(known - set(was.values()))))


@dataclass(frozen=True, slots=True)
class _Before:
    """A router of the old city after all that its log holds, and its twins."""

    epoch: int
    routing: Routing
    desk: CommandDesk
    letters: Letters
    holders: Mapping[str, Holder]
    last_s: float

    @classmethod
    def of(cls, store: Store, city: CityPlan, name: str, untouched: Set[str]) -> _Before:
        plan = city.of_router(name)
        epoch = store.next_epoch(name)
        desk, letters = CommandDesk(), Letters(store, name)
        routing = routing_of(plan, plan.log(store, name), epoch, durable=store.durable)
        RouterMemory(store, name, routing, desk, letters).recover()
        inbox = Inbox(plan.scenario, plan.clock, routing, desk)
        holders = {
            actor.name: _brought_up(store, plan, actor.name, routing, inbox, letters)
            for actor in plan.actors
            if actor.name not in untouched
        }
        letters.save()
        return cls(epoch, routing, desk, letters, holders, _last_s(store, name))


def _begin_router(
    store: Store, plan: CityPlan, name: str, before: Mapping[str, _Before], holders: Mapping[str, Holder],
    was: Mapping[str, str], untouched: Set[str], last_s: float, nobodys: Sequence[_Before],
) -> None:  # fmt: skip
    """Snapshots of one router of the new city and of its actors, behind everything that its log holds."""
    same = before.get(name)
    epoch = same.epoch if same else store.next_epoch(name)
    desk = _desk_of(plan, same, before, was)
    letters = same.letters if same else Letters(store, name)
    # new snapshots lie behind all older ones: until the new plan is kept, the old ones can still be found and used
    offset = store.log(name).append(epoch, [Entry(NOBODY, int(Note.TALLY), 0, last_s, encode(Tally({}, {})))])
    routing = routing_of(plan, plan.log(store, name), epoch, durable=store.durable)
    _carry_accounts(before, routing, was)
    for each in nobodys:
        routing.accounts.received_by_nobody += each.routing.accounts.received_by_nobody
        routing.accounts.dead_by_nobody += each.routing.accounts.dead_by_nobody
    for actor in plan.actors:
        share = routing.shares[actor.name]
        if actor.name in untouched:
            assert same is not None, "an actor of another router has another name"
            share.take_over(same.routing.shares[actor.name])
            continue
        holder = plan.holder(actor.name, epoch=1, incarnation="repacked")
        _carry_twins(holders, holder, was)
        holder.offset = offset
        share.outcomes = holder.outcomes()
        share.reached = share.sent = share.lettered = offset
        at_s = float(holder.latest_s)
        store.save_snapshot(
            actor.name, store.next_epoch(actor.name), *holder.snapshot(), at_s=at_s if at_s > 0 else 0.0
        )
    memory = RouterMemory(store, name, routing, desk, letters)
    memory.save(max((holder.latest_s for holder in holders.values()), default=last_s))
    if memory.trouble or letters.waiting:
        raise ValueError(memory.trouble or letters.trouble)


def _desk_of(
    plan: CityPlan, same: _Before | None, before: Mapping[str, _Before], was: Mapping[str, str]
) -> CommandDesk:
    """The commands that wait for the entities of a router, wherever they waited before."""
    desk = same.desk if same else CommandDesk()
    own = {was[entity]: entity for entity in ids_of(plan)}
    for each in before.values():
        for command in each.desk.open:
            if command.entity in own and (each is not same or own[command.entity] != command.entity):
                desk.sent(command._replace(entity=own[command.entity]))
    desk.forget({command.entity for command in desk.open} - set(own.values()))
    return desk


def _brought_up(store: Store, plan: CityPlan, name: str, routing: Routing, inbox: Inbox, letters: Letters) -> Holder:
    """An actor's twins after all that the log holds for them."""
    holder = plan.holder(name, epoch=1, incarnation="repacked")
    restore(holder, store, name)
    share = routing.shares[name]
    routing.rewind(share, holder.offset)
    while (blob := routing.next_batch(share)) is not None:
        reply = holder.apply(blob)
        if not reply.ok:
            raise ValueError(f"{name} does not go on from offset {holder.offset}")
        for refused, delivery in routing.confirm(share, reply):
            letters.of_twin(inbox.topic_of(share, delivery), refused, delivery)
    return holder


def _last_s(store: Store, router: str) -> float:
    """When the last entry was received: what stands behind it must not make the clock turn back."""
    log = store.log(router)
    last = log.read(log.next_offset - 1, 1) if log.next_offset > log.kept_from else []
    return last[0][1].received_at_s if last else 0.0


def _carry_accounts(before: Mapping[str, _Before], new: Routing, was: Mapping[str, str]) -> None:
    place = {
        entity: (each.routing.accounts, number)
        for each in before.values()
        for number, entity in enumerate(each.routing.entities)
    }
    for number, entity in enumerate(new.entities):
        if was[entity] in place:
            accounts, old = place[was[entity]]
            new.accounts.received[number] = accounts.received[old]
            new.accounts.dead[number] = accounts.dead[old]
            new.accounts.shed[number] = accounts.shed[old]


def _carry_twins(old: Mapping[str, Holder], new: Holder, was: Mapping[str, str]) -> None:
    """Every twin that there was before, with all its memory; what the model keeps in another shape begins anew."""
    where = {
        entity: (holder, group, column)
        for holder in old.values()
        for group in holder.groups
        for column, entity in enumerate(group.table.ids)
    }
    snapshots: dict[int, dict[str, NDArray[Any]]] = {}
    for group in new.groups:
        arrays = group.table.snapshot()
        for column, entity in enumerate(group.table.ids):
            if was[entity] not in where:
                continue
            holder, source, place = where[was[entity]]
            if source.table.kind.name != group.table.kind.name:
                continue
            before = snapshots.setdefault(id(source), source.table.snapshot())
            for name, array in arrays.items():
                found = before.get(name)
                if found is not None and found.shape[:-1] == array.shape[:-1]:
                    array[..., column] = found[..., place]
            new.intake.take_over(group.first + column, holder.intake, source.first + place)
            if was[entity] in source.table.failures:
                group.table.failures[entity] = source.table.failures[was[entity]]
        group.table.restore(arrays)
    new.intake.latest_s = max((holder.latest_s for holder in old.values()), default=-np.inf)
