"""The instruments of a chaos run are worth what they find: each is shown a fault that it must not pass over."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.chaos.commands import CommandWatch
from tests.chaos.load import Said, batches, message_of, payload_of, read_file, scenario_text
from tests.chaos.publisher import Load
from tests.chaos.truth import NOT_OF_THE_FILE, Kept, OfflineTwins, differences, meaning
from tests.chaos.watching import LedgerWatch, LivesWatch
from twin_actors.core.inputs import Channel
from twin_actors.core.ledger import Ledger
from twin_actors.runtime import notes
from twin_actors.runtime.placement import plan_actors
from twin_actors.runtime.plan import CityPlan, Plan, Reach
from twin_actors.scenario import load_catalogue, load_scenario
from twin_actors.store import DeadLetter, Entry, Store, bundles, open_store
from twin_actors.store.bundles import BUNDLE
from twin_actors.testing.live import eventually
from twin_actors.wire.broker import EmbeddedBroker, find_mosquitto
from twin_actors.wire.client import MqttClient
from twin_actors.wire.messages import Command, decode_acknowledgement, encode_command

SEED = 3
NOW_MS = 1_750_000_000_000
needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed")


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    """A launch plan, as the instruments read it."""
    return plan_of(tmp_path, twins=5)


def plan_of(folder: Path, *, twins: int) -> CityPlan:
    path = folder / "tiny.yaml"
    path.write_text(scenario_text("tiny", twins=twins, per_actor=twins, policies=False))
    scenario = load_scenario([path])
    actors = tuple((each.name, each.entities) for each in plan_actors(scenario))
    record = Plan(clock={}, broker=Reach(host="", port=0), store="memory:", actors=actors)
    return CityPlan(scenario, record, load_catalogue())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:{tmp_path / 'store'}")
    yield store
    store.close()


def some_readings(plan: Any, each: int = 30) -> list[Said]:
    found = []
    for number in range(each):
        for entity in plan.scenario.entities:
            ts_ms = NOW_MS + number * 1000
            found.append(Said(entity.id, number, ts_ms, 1.0, payload_of(SEED, entity.id, number, ts_ms)))
    return found


def twins_after(plan: Any, said: list[Said]) -> Any:
    offline = OfflineTwins(plan)
    offline.feed_file(said)
    return offline.twins


def test_the_same_readings_make_the_same_twins_and_one_less_does_not(plan: Any) -> None:
    said = some_readings(plan)
    whole = twins_after(plan, said)
    assert set(whole) == {entity.id for entity in plan.scenario.entities}
    assert differences(whole, twins_after(plan, said), without=NOT_OF_THE_FILE) == []
    missing = said[77]
    found = differences(whole, twins_after(plan, [each for each in said if each is not missing]))
    assert found
    assert all(line.startswith(f"{missing.entity}: ") for line in found)


def test_a_redelivery_changes_nothing_that_the_file_speaks_of(plan: Any) -> None:
    said = some_readings(plan)
    twice = [*said[:100], *said[60:100], *said[100:]]
    whole = twins_after(plan, said)
    assert differences(whole, twins_after(plan, twice), without=NOT_OF_THE_FILE) == []
    assert differences(whole, twins_after(plan, twice)), "its fates do tell of it"


def test_differences_begin_at_a_billionth(plan: Any) -> None:
    whole = twins_after(plan, some_readings(plan))
    entity = next(iter(whole))

    def bent(relative: float) -> Any:
        return {**whole, entity: {**whole[entity], "x": whole[entity]["x"] * (1 + relative)}}

    assert differences(whole, bent(1e-12)) == []
    assert len(differences(whole, bent(1e-8))) == 1
    without = {name: arrays for name, arrays in whole.items() if name != entity}
    assert differences(whole, without) == [f"{entity}: missing"]
    nan = {**whole, entity: {**whole[entity], "x": np.full_like(whole[entity]["x"], np.nan)}}
    assert len(differences(whole, nan)) == 1


def test_lost_is_what_neither_log_nor_dead_letters_hold(plan: Any, store: Store) -> None:
    said = some_readings(plan, each=2)
    number = {entity.id: place for place, entity in enumerate(plan.scenario.entities)}
    unlogged, dead, quarantined, unacknowledged = said[0], said[1], said[2], said[3]
    epoch = store.next_epoch("router")
    logged = [each for each in said if each not in (unlogged, dead, unacknowledged)]
    entries = [Entry(number[each.entity], int(Channel.READING), 0, 1.0, each.payload) for each in logged]
    first = store.log("router").append(epoch, entries)
    note = notes.Quarantine(first + logged.index(quarantined), 1, "it ended its actor")
    store.log("router").append(
        epoch, [Entry(number[quarantined.entity], notes.Note.QUARANTINED, 0, 1.0, notes.encode(note))]
    )
    store.add_dead_letters(
        [
            DeadLetter(
                topic=f"tiny/{dead.entity}/telemetry", reason="rate", detail="", payload=dead.payload, received_at_s=1.0
            )
        ]
    )
    said[3] = Said(*(getattr(unacknowledged, name) for name in ("entity", "number", "ts_ms")), None, b"never taken")
    kept = Kept(plan, store, ["router"])
    assert kept.lost(said) == [unlogged]
    assert [each for each in said if not kept.reached_its_twin(each)] == [quarantined]
    stranger = Said("substation/s-001", 0, NOW_MS, 1.0, dead.payload)
    assert kept.lost([stranger]) == [stranger], "the same bytes of another entity are another reading"


def test_a_message_of_a_gateway_that_is_missing_is_each_of_its_readings_lost(tmp_path: Path, store: Store) -> None:
    """What a gateway says is what the file says of its entities; the log holds it in words of its own."""
    plan = plan_of(tmp_path, twins=40)
    ids = [entity.id for entity in plan.scenario.entities]
    decoder = plan.gateway_decoder()
    said, entries = [], []
    for batch in batches(ids, 1):
        readings = [(entity, 4, NOW_MS + place) for place, entity in enumerate(batch.entities)]
        message = decoder.decode(message_of(SEED, readings), NOW_MS / 1000)
        assert not message.strays
        for part in message.gathered:
            packed = bundles.pack(part)
            entries.append(Entry(BUNDLE, int(Channel.READING), 0, NOW_MS / 1000, packed))
        for entity, payload in message.singles:
            entries.append(Entry(entity, int(Channel.READING), 0, NOW_MS / 1000, payload))
        for entity, count, ts_ms in readings:
            payload = payload_of(SEED, entity, count, ts_ms, gathered=True)
            said.append(Said(entity, count, ts_ms, 1.0, payload, batch.gateway))
    assert {entry.entity for entry in entries} > {BUNDLE}, "some travel together, and some with their boot alone"
    assert bundles.count_inputs(entries) == len(said) == len(ids) / 2
    epoch = store.next_epoch("router")
    store.log("router").append(epoch, entries[:-1])
    gathered = {each.entity for each in said}
    lost = Kept(plan, store, ["router"], gathered=gathered).lost(said)
    assert [each.entity for each in lost] == [ids[n] for n in bundles.unpack(entries[-1].payload).numbers.tolist()]
    missing = lost[0]
    store.log("router").append(epoch, entries[-1:])
    kept = Kept(plan, store, ["router"], gathered=gathered)
    assert kept.lost(said) == []
    other = payload_of(SEED, missing.entity, missing.number, missing.ts_ms + 1, gathered=True)
    assert kept.lost([Said(missing.entity, missing.number, missing.ts_ms + 1, 1.0, other, missing.gateway)])
    assert meaning(missing.payload) != meaning(other)


def test_a_count_that_falls_and_a_sum_that_does_not_fit_are_noticed() -> None:
    told = iter(
        [
            Ledger(received=5, applied=3, in_flight=2),
            Ledger(received=6, applied=6),
            Ledger(received=6, applied=5, duplicate=1),
            Ledger(received=9, applied=6, duplicate=1),
        ]
    )
    watch = LedgerWatch(SimpleNamespace(ledger=lambda: next(told)))  # type: ignore[arg-type]
    for _ in range(4):
        watch.look()
    assert watch.fallen == ["applied 6 → 5"]
    assert len(watch.unbalanced) == 1
    assert watch.polls == 4


def test_an_overlap_is_the_time_that_a_process_outlives_its_successors_first_answer() -> None:
    mine = os.getpid()
    watch = LivesWatch({"router": mine})
    born = watch._began + 0.01
    eventually(lambda: watch.look() or watch._alive_until["router"] > born + 0.05, within_s=5.0)  # type: ignore[func-returns-value]
    lived = watch._alive_until["router"]
    assert watch.overlap_s({"router": {mine: born - 1, 999_999: born}}) == pytest.approx(lived - born)
    assert watch.overlap_s({"router": {mine: born}}) == 0.0, "it is its own successor"
    assert watch.overlap_s({"router": {999_999: watch._began - 5}}) == 0.0, "a predecessor"


@needs_mosquitto
def test_a_second_command_for_the_same_decision_is_found(tmp_path: Path) -> None:
    answers: list[str] = []
    with EmbeddedBroker(tmp_path, kind="mosquitto") as broker:
        reach = Reach(host="127.0.0.1", port=broker.port)
        city: Any = SimpleNamespace(scenario=SimpleNamespace(root="tiny"), plan=SimpleNamespace(broker=reach))
        with (
            CommandWatch(city) as watch,
            MqttClient(
                broker.address, client_id="city", subscriptions=[("tiny/+/+/command/ack", 1)],
                receive=lambda _topic, payload, *_: answers.append(decode_acknowledgement(payload).id),
            ) as sender,
        ):  # fmt: skip
            sender.wait_connected(10.0)

            def order(decision: str, entity: str, command_id: str) -> None:
                command = Command(
                    id=command_id, decision=decision, issued_at_s=1.0, expires_at_s=2.0, epoch=1, values={}
                )
                assert sender.publish(f"tiny/{entity}/command", encode_command(command), 1)

            order("dec-1", "substation/a", "dec-1.1")
            order("dec-1", "substation/a", "dec-1.1")  # sent again under its own id, as it must be
            order("dec-1", "substation/b", "dec-1.2")
            order("dec-2", "substation/a", "dec-2.1")
            order("dec-2", "substation/a", "dec-2.2")
            eventually(lambda: watch.heard == 5 and len(answers) == 5)
            assert watch.sent_twice() == {"dec-2 substation/a": ["dec-2.1", "dec-2.2"]}


@needs_mosquitto
@pytest.mark.parametrize("gateways", [0, 2])
def test_the_publishers_file_says_what_the_broker_has_taken_in_the_order_of_each_entity(
    tmp_path: Path, gateways: int
) -> None:
    heard: list[tuple[str, bytes]] = []
    entities = [f"{kind}/{kind[0]}-{number}" for kind in ("footfall", "substation") for number in range(6)]
    broker = EmbeddedBroker(tmp_path / "broker", kind="mosquitto")
    with broker:
        reach = Reach(host="127.0.0.1", port=broker.port)
        with MqttClient(
            broker.address, client_id="ear", subscriptions=[("tiny/#", 1)], clean_start=False,
            receive=lambda topic, payload, *_: heard.append((topic, payload)),
        ) as ear:  # fmt: skip
            ear.wait_connected(10.0)
            load = Load(
                tmp_path / "published", reach=reach, root="tiny", entities=entities, rate=300.0, seed=SEED,
                gateways=gateways,
            )  # fmt: skip
            try:
                eventually(lambda: len(heard) > 200)
                broker.stop()
                broker.start()
                before = len(heard)
                eventually(lambda: len(heard) > before + 200, says="readings flow again")
                assert load.stop()
                said = list(read_file(load.path, SEED))
                assert all(each.acknowledged_s is not None for each in said)
                eventually(lambda: len(set(taken_apart(heard))) == len(said))
            finally:
                load.kill()
    behind = {entity for batch in batches(entities, gateways) for entity in batch.entities} if gateways else set()
    assert {each.entity for each in said if each.gateway} == behind
    assert {topic for topic, _ in heard} == {
        *(f"tiny/{entity}/telemetry" for entity in entities if entity not in behind),
        *(f"tiny/gateway/cabinet-{number + 1}/telemetry" for number in range(gateways)),
    }
    for entity in entities:
        own = [meaning(each.payload) for each in said if each.entity == entity]
        assert list(dict.fromkeys(payload for name, payload in taken_apart(heard) if name == entity)) == own
        stamps = [each.ts_ms for each in said if each.entity == entity]
        assert all(later > earlier for earlier, later in itertools.pairwise(stamps))


def taken_apart(heard: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """(entity, meaning of a reading) of what was heard, read without the product."""
    found = []
    for topic, payload in heard:
        said = json.loads(payload)
        if "/gateway/" not in topic:
            found.append((topic.removeprefix("tiny/").removesuffix("/telemetry"), payload))
        elif isinstance(said, list):
            found += [(each["entity"], json.dumps(each).encode()) for each in said]
        else:
            for place, name in enumerate(said["entities"]):
                values = {field: column[place] for field, column in said["values"].items()}
                one = {"ts": said["ts"][place], "seq": said["seq"][place], "values": values}
                found.append((f"{said['kind']}/{name}", json.dumps(one).encode()))
    return [(entity, meaning(payload)) for entity, payload in found]
