"""Between two lives of a city: its twins, accounts and commands taken over into a scenario that has changed.

Everything is done without Ray and MQTT, by the same routing and holders that run the city: the old packing recovers and
applies all that its log holds, then every twin moves, with all its memory, to its place in the new packing.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from twin_actors.runtime.plan import ROUTER, CityPlan, Plan, Reach
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
    """The same entities in the same actors: nothing has to move."""
    return ids_of(one) == ids_of(other) and one.actors == other.actors


def repack(store: Store, old: CityPlan, new: CityPlan) -> Repacked:
    """Move every twin to its place in ``new``; nobody may be running the city. May be repeated after a crash.

    New entities begin as new; removed ones leave, with their counts. What was on its way to a twin is applied first.
    Raises LogTrimmed and ValueError when an old actor cannot be brought back.
    """
    epoch = store.next_epoch(ROUTER)
    desk, letters = CommandDesk(), Letters(store, ROUTER)
    routing = routing_of(old, old.log(store), epoch, durable=store.durable)
    RouterMemory(store, ROUTER, routing, desk, letters).recover()
    inbox = Inbox(old.scenario, old.clock, routing, desk)
    holders = {actor.name: _brought_up(store, old, actor.name, routing, inbox, letters) for actor in old.actors}
    letters.save()
    desk.forget({entity.id for entity in old.scenario.entities} - {entity.id for entity in new.scenario.entities})
    # new snapshots lie behind all older ones: until the new plan is kept, the old ones can still be found and used
    offset = store.log(ROUTER).append(epoch, [Entry(NOBODY, int(Note.TALLY), 0, _last_s(store), encode(Tally({}, {})))])
    moved = routing_of(new, new.log(store), epoch, durable=store.durable)
    _carry_accounts(routing, moved)
    for actor in new.actors:
        holder = new.holder(actor.name, epoch=1, incarnation="repacked")
        _carry_twins(holders, holder)
        holder.offset = offset
        share = moved.shares[actor.name]
        share.outcomes = holder.outcomes()
        share.reached = share.sent = share.lettered = offset
        at_s = float(holder.latest_s)
        store.save_snapshot(
            actor.name, store.next_epoch(actor.name), *holder.snapshot(), at_s=at_s if at_s > 0 else 0.0
        )
    memory = RouterMemory(store, ROUTER, moved, desk, letters)
    memory.save(max((holder.latest_s for holder in holders.values()), default=0.0))
    if memory.trouble or letters.waiting:
        raise ValueError(memory.trouble or letters.trouble)
    before, after = set(ids_of(old)), set(ids_of(new))
    return Repacked(tuple(sorted(before & after)), tuple(sorted(after - before)), tuple(sorted(before - after)))


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


def _last_s(store: Store) -> float:
    """When the last entry was received: what stands behind it must not make the clock turn back."""
    log = store.log(ROUTER)
    last = log.read(log.next_offset - 1, 1) if log.next_offset > log.kept_from else []
    return last[0][1].received_at_s if last else 0.0


def _carry_accounts(old: Routing, new: Routing) -> None:
    place = {entity: number for number, entity in enumerate(old.entities)}
    for number, entity in enumerate(new.entities):
        if entity in place:
            for counts, before in (
                (new.accounts.received, old.accounts.received),
                (new.accounts.dead, old.accounts.dead),
                (new.accounts.shed, old.accounts.shed),
            ):
                counts[number] = before[place[entity]]
    new.accounts.received_by_nobody = old.accounts.received_by_nobody
    new.accounts.dead_by_nobody = old.accounts.dead_by_nobody


def _carry_twins(old: Mapping[str, Holder], new: Holder) -> None:
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
            if entity not in where:
                continue
            holder, source, place = where[entity]
            if source.table.kind.name != group.table.kind.name:
                continue
            before = snapshots.setdefault(id(source), source.table.snapshot())
            for name, array in arrays.items():
                found = before.get(name)
                if found is not None and found.shape[:-1] == array.shape[:-1]:
                    array[..., column] = found[..., place]
            for mine, theirs in ((new.last_seq, holder.last_seq), (new.last_boot, holder.last_boot),
                                 (new.missing, holder.missing)):  # fmt: skip
                mine[group.first + column] = theirs[source.first + place]
            if entity in source.table.failures:
                group.table.failures[entity] = source.table.failures[entity]
        group.table.restore(arrays)
    new.latest_s = max((holder.latest_s for holder in old.values()), default=-np.inf)
