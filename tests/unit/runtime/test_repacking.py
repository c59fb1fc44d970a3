"""A scenario that changes between two lives: every twin, count and command is taken over, whatever the packing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.runtime.cities import T0, UNHURRIED, says, town
from twin_actors.runtime.desk import CommandDesk
from twin_actors.runtime.letters import Letters
from twin_actors.runtime.notes import Note
from twin_actors.runtime.numbering import NumberedLog, numbers_for
from twin_actors.runtime.placement import plan_actors
from twin_actors.runtime.plan import ROUTER, CityPlan, Plan, Reach
from twin_actors.runtime.repacking import KeptPlan, ids_of, repack, same_packing
from twin_actors.runtime.routing import routing_of
from twin_actors.runtime.saving import RouterMemory
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.store import Entry, MemoryStore

TEXT = """
city: crossing
placement: {{entities_per_actor: {per_actor}}}
entities:
  - {{kind: venue, name: arena, attributes: {{area_m2: 9000, capacity_persons: 16000, exit_width_m: 28}}}}
{gates}
"""


def plan_of(gates: list[str], per_actor: int, before: CityPlan | None = None) -> CityPlan:
    lines = "\n".join(f"  - {{kind: footfall, name: {gate}}}" for gate in gates)
    scenario = town(TEXT.format(per_actor=per_actor, gates=lines))
    ids = [entity.id for entity in scenario.entities]
    known = {} if before is None else dict(zip(ids_of(before), before.numbers, strict=True))
    actors = tuple((each.name, each.entities) for each in plan_actors(scenario))
    plan = Plan(
        clock={}, broker=Reach(host="", port=0), store="memory:", actors=actors, numbers=numbers_for(ids, known)[0]
    )
    return CityPlan(scenario, plan, load_catalogue())


class Life:
    """One life of a city over a store: what arrives is logged; some of it is applied and saved before it ends."""

    def __init__(self, store: MemoryStore, plan: CityPlan) -> None:
        self.store, self.plan = store, plan
        self.epoch = store.next_epoch(ROUTER)
        self.routing = routing_of(plan, plan.log(store), self.epoch, durable=True)
        self.letters = Letters(store, ROUTER)
        self.memory = RouterMemory(store, ROUTER, self.routing, CommandDesk(), self.letters)
        self.memory.recover()
        self.holders = {}
        for actor in plan.actors:
            holder = plan.holder(actor.name, epoch=1, incarnation="life")
            kept = store.load_snapshot(actor.name)
            if kept is not None:
                holder.restore(kept.offset, kept.blob)
            self.holders[actor.name] = holder
            self.routing.rewind(self.routing.shares[actor.name], holder.offset)

    def hear(self, entity: str, payload: bytes) -> None:
        self.routing.arrive(ids_of(self.plan).index(entity), 0, payload, T0)
        self.routing.commit(0.0)

    def apply(self) -> None:
        for name, holder in self.holders.items():
            share = self.routing.shares[name]
            while (blob := self.routing.next_batch(share)) is not None:
                self.routing.confirm(share, holder.apply(blob))

    def save(self) -> None:
        for name, holder in self.holders.items():
            self.store.save_snapshot(name, self.store.next_epoch(name), *holder.snapshot())
        self.memory.save(T0)

    def twins(self) -> dict[str, dict[str, Any]]:
        return {
            entity: {name: array[..., column] for name, array in group.table.snapshot().items()}
            for holder in self.holders.values()
            for group in holder.groups
            for column, entity in enumerate(group.table.ids)
        }


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def moments() -> Iterator[float]:
    at_s = T0
    while True:
        at_s += 1.0
        yield at_s


names = st.lists(st.sampled_from([f"g{n}" for n in range(6)]), min_size=1, max_size=5, unique=True)


@settings(UNHURRIED, max_examples=25)
@given(
    lives=st.lists(
        st.tuples(names, st.integers(1, 4), st.integers(0, 6), st.booleans(), st.booleans()), min_size=2, max_size=4
    )
)
def test_whatever_changes_every_twin_that_stays_is_the_same(
    lives: list[tuple[list[str], int, int, bool, bool]],
) -> None:
    store = MemoryStore(first_offset=0)
    clock = moments()
    plan: CityPlan | None = None
    expected: dict[str, dict[str, Any]] = {}
    heard = 0
    for gates, per_actor, readings, applied, saved in lives:
        new = plan_of(gates, per_actor, plan)
        if plan is not None and not same_packing(plan, new):
            moved = repack(store, plan, new)
            assert set(moved.kept) == set(ids_of(plan)) & set(ids_of(new))
            for removed in moved.removed:
                expected.pop(removed, None)
        life = Life(store, new)
        life.apply()
        for entity, twin in expected.items():
            same(life.twins()[entity], twin)
        assert life.routing.ledger().balanced
        for number in range(readings):
            entity = ids_of(new)[number % len(ids_of(new))]
            life.hear(entity, says(next(clock), flow_pph=100.0 + number, in_persons=heard))
            heard += 1
        if applied:
            life.apply()
        if saved:
            life.save()
        life.apply()  # what the next life must make of it
        expected = life.twins()
        ledger = life.routing.ledger()
        assert ledger.balanced
        assert ledger.in_flight == 0
        plan = new


def test_a_repacking_that_was_cut_short_is_repeated() -> None:
    store = MemoryStore(first_offset=0)
    old, new = plan_of(["g1", "g2", "g3"], 2), plan_of(["g3", "g1"], 3)
    life = Life(store, old)
    for number in range(6):
        life.hear(f"footfall/g{number % 3 + 1}", says(T0 + number, flow_pph=100.0 + number))
    life.apply()
    life.save()
    expected = life.twins()
    new = plan_of(["g3", "g1"], 3, old)
    repack(store, old, new)
    repack(store, old, new)  # the new plan had not been kept
    again = Life(store, new)
    for entity in ids_of(new):
        same(again.twins()[entity], expected[entity])
    ledger = again.routing.ledger()
    assert (ledger.received, ledger.applied, ledger.balanced) == (4, 4, True)


def test_numbers_stay_with_their_entities() -> None:
    first, known = numbers_for(["b", "c"], {})
    assert first == (0, 1)
    numbers, known = numbers_for(["a", "b", "d"], known)
    assert numbers == (2, 0, 3)
    numbers, known = numbers_for(["c", "e"], known)
    assert numbers == (1, 4)  # c comes back to its own; nobody inherits the number of another
    assert known == {"b": 0, "c": 1, "a": 2, "d": 3, "e": 4}
    log = NumberedLog(MemoryStore(first_offset=0).log("router"), (2, 0))
    log.append(1, [Entry(0, 0, 0, 1.0, b"a"), Entry(1, 0, 0, 2.0, b"b"), Entry(-1, 16, 0, 3.0, b"n")])
    assert [entry.entity for _, entry in log._log.read(0, 9)] == [2, 0, -1]
    assert [entry.entity for _, entry in log.read(0, 9)] == [0, 1, -1]
    assert [entry.payload for _, entry in log.read_of(0)] == [b"a"]
    fewer = [entry for _, entry in NumberedLog(log._log, (0,)).read(0, 9)]
    assert [(entry.entity, entry.channel) for entry in fewer] == [(-1, Note.FOREIGN), (0, 0), (-1, 16)]
    assert log.next_offset == 3


def test_what_is_kept_of_a_scenario_has_no_password(tmp_path: Path) -> None:
    scenario = town(TEXT.format(per_actor=1, gates="") + 'broker: {url: "mqtt://u:secret@h"}\n')
    plan = Plan(clock={}, broker=Reach(host="", port=0), store="memory:", actors=())
    kept = KeptPlan.of(scenario, plan, {})
    assert b"secret" not in kept.scenario
    assert kept.plan(load_catalogue(), "memory:").scenario.city == "crossing"
    assert scenario.broker.password == "secret"


def test_a_city_that_has_not_changed_is_recognised() -> None:
    assert same_packing(plan_of(["g1"], 1), plan_of(["g1"], 1))
    assert not same_packing(plan_of(["g1", "g2"], 1), plan_of(["g1", "g2"], 2))
    with pytest.raises(AssertionError):
        assert same_packing(plan_of(["g1"], 1), plan_of(["g2"], 1))
