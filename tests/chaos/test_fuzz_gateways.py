"""Broken messages of gateways through a real broker to a city: each has its dead letters, and nothing else happens."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from tests.chaos.mutations import broken_bytes, broken_document
from twin_actors.core.ledger import Ledger
from twin_actors.runtime.city import City
from twin_actors.runtime.reach import mqtt_client
from twin_actors.scenario import Scenario, load_scenario
from twin_actors.testing.live import Publisher, devices_of, eventually, living, settled
from twin_actors.wire.elements import count_readings
from twin_actors.wire.messages import DeadLetter, decode_dead_letter
from twin_actors.wire.reasons import Reason

pytestmark = [pytest.mark.usefixtures("ray_inside"), pytest.mark.timeout(240)]

CITY = """
city: garbled
placement: {entities_per_actor: 10}
limits: {payload_bytes: 100000}
entities:
  - {kind: footfall, pattern: "f-{n}", count: 10}
  - {kind: substation, pattern: "s-{n}", count: 4}
  - {kind: intersection, pattern: "x-{n}", count: 4}
"""
NOW_S = round(time.time())
"""As a device says it that takes seconds for milliseconds."""
FLOW = {"kind": "footfall", "entities": ["f-1", "f-2"], "values": {"flow_pph": [410, 388]}}
COLUMNS = {"entities": ["footfall/f-1", "substation/s-1"]}


def element(entity: str, **more: Any) -> dict[str, Any]:
    return {"entity": entity, "values": {"flow_pph": 400}, **more}


WHOLE: list[tuple[bytes | object, str]] = [
    (b"", "empty"),
    (b"{", "not_json"),
    (b"[", "not_json"),
    (b"[{}", "not_json"),
    (b'[{"entity": "footfall/f-1", "values": {"flow_pph": 1}},]', "not_json"),
    (b'{"kind": "footfall", "entities": ["f-1"], "values": {"flow_pph": [1}}', "not_json"),
    (b"flow_pph=410", "not_json"),
    (b"\x1f\x8b\x08\x00\x00\x00", "wrong_encoding"),
    ("\ufeff[]".encode(), "wrong_encoding"),
    (json.dumps(FLOW).encode("utf-16"), "wrong_encoding"),
    (b'{"kind": "footfall", "entities": ["\xff"], "values": {"flow_pph": [1]}}', "wrong_encoding"),
    (b"null", "wrong_type"),
    (b"5", "wrong_type"),
    (b'"footfall/f-1"', "wrong_type"),
    ([], "empty"),
    ({}, "unknown_entity"),
    ({"kind": "footfall", "entities": [], "values": {"flow_pph": []}}, "empty"),
    ({**FLOW, "values": {"flow_pph": [410]}}, "wrong_type"),
    ({**FLOW, "values": {"flow_pph": [410, 388, 1]}}, "wrong_type"),
    ({**FLOW, "values": {"flow_pph": 410}}, "wrong_type"),
    ({**FLOW, "values": [410, 388]}, "wrong_type"),
    ({**FLOW, "values": None}, "wrong_type"),
    ({key: value for key, value in FLOW.items() if key != "values"}, "wrong_type"),
    ({**FLOW, "entities": "f-1"}, "wrong_type"),
    ({**FLOW, "entities": {"f-1": 1}}, "wrong_type"),
    ({**FLOW, "entities": ["f-1", 2]}, "wrong_type"),
    ({**FLOW, "entities": ["f-1", None]}, "wrong_type"),
    ({**FLOW, "kind": 5}, "wrong_type"),
    ({**FLOW, "ts": [1]}, "wrong_type"),
    ({**FLOW, "seq": [1, 2, 3]}, "wrong_type"),
    ({**FLOW, "boot": ["a"]}, "wrong_type"),
    ({**FLOW, "padding": "x" * 100_000}, "too_large"),
    (b"[" * 3_000 + b"]" * 3_000, "too_large"),
    ({"ts": 1_781_200_000_000, "values": {"flow_pph": 410}}, "unknown_entity"),
    ({"entity": 5, "values": {"flow_pph": 410}}, "wrong_type"),
    ({"entity": None, "values": {"flow_pph": 410}}, "wrong_type"),
    ({"entity": ["footfall/f-1"], "values": {"flow_pph": 410}}, "wrong_type"),
    (element("footfall/f-99"), "unknown_entity"),
    (element("f-1"), "unknown_kind"),
    (element(""), "unknown_entity"),
    (element("reactor/r-1"), "unknown_kind"),
    (element("footfall/f-1/more"), "unknown_entity"),
    (element("footfall/f-1\0"), "unknown_entity"),
    (element("../footfall/f-1"), "unknown_kind"),
]
"""Messages of which nothing can be used before any twin sees it: one dead letter each, with the whole message."""

PARTLY: list[tuple[object, int, list[str]]] = [
    ([element("footfall/f-1"), element("footfall/f-99")], 1, ["unknown_entity"]),
    (
        [element("footfall/f-1"), {"values": {"flow_pph": 1}}, 5, [], None, "x"],
        1,
        ["unknown_entity", *["wrong_type"] * 4],
    ),
    (
        b'[{"entity": "\xff", "values": {"flow_pph": 1}}, {"entity": "footfall/f-1", "flow_pph": 1}]',
        1,
        ["wrong_encoding"],
    ),
    ([element("footfall/f-2"), element("footfall/f-3", values={"flow_pph": "many"})], 1, ["wrong_type"]),
    ([element("footfall/f-4"), element("footfall/f-5", values={})], 1, ["empty"]),
    ([element("footfall/f-6"), element("footfall/f-7", values={"flow": 1})], 1, ["no_known_field"]),
    ([element("footfall/f-8", ts="yesterday"), element("footfall/f-9")], 1, ["bad_time"]),
    ([element("footfall/f-8", ts=NOW_S), element("footfall/f-10")], 1, ["bad_time"]),
    ([element("footfall/f-1", seq="4"), element("footfall/f-2")], 1, ["wrong_type"]),
    ([element("footfall/f-3", values={"flow_pph": -5}), element("footfall/f-4")], 1, ["out_of_range"]),
    ([element("footfall/f-5"), element("substation/s-1", values={"load_mw": 11, "voltage_pu": 1.0})], 2, []),
    ([element("footfall/f-6"), {"entity": "substation/s-2", "values": {"load_mw": [12]}}], 1, ["wrong_type"]),
    ([FLOW, element("footfall/f-99"), element("footfall/f-7")], 3, ["unknown_entity"]),
    ({**FLOW, "values": {"flow_pph": [410, None]}}, 1, ["empty"]),
    ({**FLOW, "values": {"flow_pph": [410, "388"]}}, 1, ["wrong_type"]),
    ({**FLOW, "values": {"flow_pph": [410, -1]}}, 1, ["out_of_range"]),
    ({**FLOW, "entities": ["f-1", "f-99"]}, 1, ["unknown_entity"]),
    ({**FLOW, "ts": ["never", None]}, 1, ["bad_time"]),
    ({**FLOW, "values": {"load": [1, 2]}}, 0, ["no_known_field", "no_known_field"]),
    ({**COLUMNS, "values": {"flow_pph": [500, None], "load_mw": [None, 12]}}, 2, []),
    ({**COLUMNS, "values": {"flow_pph": [500, 12]}}, 1, ["no_known_field"]),
    ({**FLOW, "values": {"flow_pph": [410, 388], "unknown": [1]}}, 2, []),
]
"""(message, readings that are applied, reasons of its dead letters): what is wrong with an element is its own."""


def encoded(said: bytes | object) -> bytes:
    return said if isinstance(said, bytes) else json.dumps(said).encode()


class Listener:
    """The dead letters that the city publishes."""

    def __init__(self, city: City) -> None:
        self.letters: list[DeadLetter] = []
        self._client = mqtt_client(
            city.plan.broker,
            client_id="letters",
            receive=lambda _topic, payload, *_: self.letters.append(decode_dead_letter(payload)),
            subscriptions=[(f"{city.scenario.root}/city/dead-letter", 1)],
        )

    def take(self, count: int) -> list[DeadLetter]:
        """The next letters, of which there must be this many and, when the ledger has settled, no more."""
        eventually(lambda: len(self.letters) >= count, within_s=20.0, says=f"{count} dead letters")
        taken, self.letters = self.letters, []
        assert len(taken) == count, [(each.reason, each.detail, each.payload[:80]) for each in taken]
        return taken

    def __enter__(self) -> Listener:
        self._client.start()
        self._client.wait_connected(20.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


@contextmanager
def stage(scenario: Scenario) -> Iterator[tuple[City, Publisher, Listener, Callable[[bytes, int, int], Ledger]]]:
    """A city, its gateway, its letters, and a function that sends a message of so many readings at a QoS."""
    with living(scenario) as city, devices_of(city) as devices, Listener(city) as letters:
        topic = devices.topics.gateway("cabinet-7")
        sent = 0

        def say(payload: bytes, readings: int, qos: int) -> Ledger:
            nonlocal sent
            sent += readings
            devices.send(topic, payload, qos=qos)
            devices.flush()
            ledger = settled(city, sent)
            assert ledger.balanced
            assert ledger.received == sent, payload[:200]
            return ledger

        yield city, devices, letters, say


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    path = tmp_path_factory.mktemp("garbled") / "garbled.yaml"
    path.write_text(CITY)
    return load_scenario([path])


def test_each_broken_message_is_one_letter_and_each_broken_element_its_own(scenario: Scenario) -> None:
    with stage(scenario) as (city, devices, letters, say):
        before = Ledger()
        for number, (said, reason) in enumerate(WHOLE):
            payload = encoded(said)
            after = say(payload, 1, number % 2)
            (letter,) = letters.take(1)
            assert (letter.reason, letter.payload) == (reason, payload), letter.detail
            assert letter.topic == devices.topics.gateway("cabinet-7")
            assert letter.detail
            assert after.dead_lettered == before.dead_lettered + 1
            assert after.applied == 0
            before = after
        for number, (said, applied, reasons) in enumerate(PARTLY):
            after = say(encoded(said), applied + len(reasons), number % 2)
            assert (after.applied - before.applied, after.dead_lettered - before.dead_lettered) == (
                applied,
                len(reasons),
            ), said
            found = letters.take(len(reasons))
            assert sorted(each.reason for each in found) == sorted(reasons), said
            assert all(each.detail for each in found)
            before = after
        kept = city.dead_letters(last=1_000)
        assert Counter(kept["reason"]) == Counter(
            [reason for _, reason in WHOLE] + [reason for _, _, reasons in PARTLY for reason in reasons]
        )
        follows(city, devices)


def test_mutated_messages_over_mqtt_leave_a_city_alive_with_a_balanced_ledger(scenario: Scenario) -> None:
    random = Random(17)
    with stage(scenario) as (city, devices, letters, _):
        decoder = city.plan.gateway_decoder()
        topic = devices.topics.gateway("cabinet-7")
        sent, whole = Counter[str](), Counter[bytes]()
        now_s = city.now_s()
        for number in range(2_500):
            payload = damaged(random, round(now_s * 1000) - 600_000 + 200 * number)
            # what a message holds is read without a city: each reading of it must come to its own end there
            message = decoder.decode(payload, now_s)
            for part in message.gathered:
                sent.update(scenario.entities[number].id for number in part.numbers.tolist())
            for number, single in message.singles:
                sent[scenario.entities[number].id] += count_readings(single)
            sent[""] += len(message.strays)
            whole.update(stray.payload for stray in message.strays)
            devices.send(topic, payload, qos=random.choice((0, 1)))
        devices.flush()
        ledger = settled(city, sent.total())
        assert ledger.balanced, ledger
        assert ledger.received == sent.total()
        by_entity = city.ledger(by="entity")
        assert isinstance(by_entity, dict)
        assert {entity: part.received for entity, part in by_entity.items() if part.received} == dict(sent)
        assert all(part.balanced for part in by_entity.values())
        assert by_entity[""].dead_lettered == sent[""]
        assert min(ledger.applied, ledger.late, ledger.dead_lettered, sent[""]) > 300, ledger
        found = letters.take(ledger.dead_lettered)
        assert all(each.reason in set(Reason) and each.detail for each in found)
        assert Counter(each.payload for each in found if each.topic == topic) == whole
        assert len({each.reason for each in found}) >= 8
        follows(city, devices)


def damaged(random: Random, at_ms: int) -> bytes:
    """A message of a gateway in either form, most often with something wrong."""
    flows = random.sample(range(1, 13), random.randrange(1, 9))  # two of twelve are strangers
    if random.random() < 0.5:
        said: Any = {
            "kind": "footfall",
            "entities": [f"f-{number}" for number in flows],
            "ts": random.choice((at_ms, [at_ms + number for number in flows])),
            "values": {"flow_pph": [400 + number for number in flows]},
        }
    else:
        said = [
            {"entity": f"footfall/f-{number}", "ts": at_ms, "values": {"flow_pph": 400 + number}} for number in flows
        ]
        said += [
            {"entity": f"substation/s-{random.randrange(1, 6)}", "ts": at_ms, "load_mw": 12.5, "boot": "b"},
            {"entity": "intersection/x-1", "ts": at_ms, "seq": 3, "values": {"queue_veh": [1, 2, 3, 4, 5, 6, 7, 8]}},
        ]
    valid = encoded(said)
    draw = random.random()
    if draw < 0.2:
        return valid
    return broken_document(random, valid) if draw < 0.7 else broken_bytes(random, valid, [valid])


def follows(city: City, devices: Publisher) -> None:
    """The city still does what a gateway says. The fuzz may have told of a moment that is still to come."""

    def heard() -> bool:
        at_ms = round(city.now_s() * 1000) + 4_000
        said = {"kind": "footfall", "entities": ["f-1", "f-2"], "ts": at_ms, "values": {"flow_pph": [432, 433]}}
        devices.send(devices.topics.gateway("cabinet-7"), encoded(said), qos=1)
        devices.flush()
        return [city[f"footfall/f-{n}"].reported.flow_pph for n in (1, 2)] == [432, 433]

    eventually(heard, within_s=20.0, says="the twins to follow their gateway again")
    assert settled(city, 0).balanced
