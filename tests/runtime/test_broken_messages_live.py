"""Broken telemetry through a real broker to a living city: all of it ends among the dead letters, and no more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.wire.test_decode import payload_of
from twin_actors.core.ledger import Ledger
from twin_actors.runtime.city import City
from twin_actors.scenario import load_scenario
from twin_actors.testing.live import Publisher, devices_of, eventually, living, settled
from twin_actors.wire.messages import DeadLetter, decode_dead_letter

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]

NOW_S = 1_700_000_000.0
CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "unit" / "wire" / "broken_messages.yaml").read_text()
)
# The messages speak of times near NOW_S: the city lives then.
CITY = """
city: clinic
clock: {mode: scaled, speed: 1, start: 2023-11-14T22:13:20Z}
placement: {entities_per_actor: 10}
entities:
  - {kind: substation, name: a}
  - {kind: substation, name: b}
  - {kind: intersection, name: x}
"""
# A junction has eight movements, the kind that the messages were written for has four arms.
ARITY = {
    "[null, null, null, null]": json.dumps([None] * 8),
    '{"n": 1,': '{"nt": 1,',
    "length 4": "length 8",
}
# The router's own limit (262,144 bytes) speaks before the decoder's.
OTHER_WORDS = {"too many bytes": ["bytes", "Split"]}


class Letters:
    """What a listener of the city's dead-letter topic has heard."""

    def __init__(self) -> None:
        self.heard: list[DeadLetter] = []

    def receive(self, topic: str, payload: bytes, *_: object) -> None:
        self.heard.append(decode_dead_letter(payload))

    def take(self, count: int) -> list[DeadLetter]:
        """Wait for so many more letters and hand them out; one too many is an error."""
        eventually(lambda: len(self.heard) >= count, says=f"{count} dead letters, heard {len(self.heard)}")
        taken, self.heard = self.heard, []
        assert len(taken) == count
        return taken


@pytest.fixture(scope="module")
def city(ray_session: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    path = tmp_path_factory.mktemp("clinic") / "clinic.yaml"
    path.write_text(CITY)
    with living(load_scenario([path])) as city:
        yield city


@pytest.fixture
def devices(city: City) -> Iterator[Publisher]:
    with devices_of(city) as devices:
        yield devices


@pytest.fixture
def letters(city: City) -> Iterator[Letters]:
    letters = Letters()
    with devices_of(city, receive=letters.receive) as listener:
        listener.client.subscribe(listener.topics.dead_letter, 1)
        eventually(lambda: listener.client.ready)
        yield letters


def expect(
    city: City, devices: Publisher, letters: Letters, sent: list[tuple[str, bytes, str]]
) -> dict[tuple[str, bytes], DeadLetter]:
    """Send (topic, payload, reason); each must become one dead letter, on the topic and in the city, payload whole."""
    before = settled(city, 0)
    for topic, payload, _ in sent:
        devices.send(topic, payload)
    devices.flush()
    after = settled(city, before.received + len(sent), within_s=15.0)
    assert after.balanced, after
    assert after.received - before.received == len(sent)
    assert after.dead_lettered - before.dead_lettered == len(sent)
    assert after.applied == before.applied

    wanted = Counter(sent)
    heard = letters.take(len(sent))
    assert Counter((letter.topic, letter.payload, letter.reason) for letter in heard) == wanted
    kept = city.dead_letters(last=len(sent))
    assert Counter(zip(kept["topic"], kept["payload"], kept["reason"], strict=True)) == wanted
    assert all(abs(letter.received_at_s - city.now_s()) < 120 for letter in heard)
    return {(letter.topic, letter.payload): letter for letter in heard}


def still_alive(city: City, devices: Publisher, entity: str = "substation/a") -> None:
    """The twin that was sent nonsense applies the next good reading."""
    before = settled(city, 0)
    devices.say(entity, {"load_mw": 21.0} if entity.startswith("substation") else {"queue_veh": [1.0] * 8})
    devices.flush()
    after = settled(city, before.received + 1)
    assert after.applied == before.applied + 1, city.dead_letters(last=1)
    assert after.balanced
    if entity.startswith("substation"):
        assert city[entity].reported.load_mw == 21.0


def spoken_to_its_kind(devices: Publisher, case: dict[str, Any]) -> tuple[str, bytes]:
    payload = payload_of(case)
    for arms, movements in ARITY.items():
        payload = payload.replace(arms.encode(), movements.encode())
    entity = "intersection/x" if b"queue_veh" in payload else "substation/a"
    return devices.topics.telemetry(entity), payload


def test_every_broken_message_ends_among_the_dead_letters(city: City, devices: Publisher, letters: Letters) -> None:
    spoken = [(*spoken_to_its_kind(devices, case), case) for case in CASES]
    found = expect(city, devices, letters, [(topic, payload, case["reason"]) for topic, payload, case in spoken])
    for topic, payload, case in spoken:
        detail = found[topic, payload].detail
        for words in OTHER_WORDS.get(case["name"], case["words"]):
            assert ARITY.get(str(words), str(words)) in detail, (case["name"], detail)
    still_alive(city, devices)
    still_alive(city, devices, "intersection/x")
    by_entity = city.ledger(by="entity")
    assert isinstance(by_entity, dict)
    assert all(ledger.balanced for ledger in by_entity.values())
    assert by_entity["substation/a"].dead_lettered + by_entity["intersection/x"].dead_lettered == len(CASES)
    assert by_entity["substation/b"] == Ledger()


def test_readings_of_nobody(city: City, devices: Publisher, letters: Letters) -> None:
    good = b'{"load_mw": 1}'
    topics = devices.topics
    expect(
        city,
        devices,
        letters,
        [
            (topics.telemetry("substation/nobody"), good, "unknown_entity"),
            (topics.telemetry("intersection/nobody"), b"not even JSON", "unknown_entity"),
        ],
    )
    still_alive(city, devices)


def test_readings_of_an_unknown_kind(city: City, devices: Publisher, letters: Letters) -> None:
    sent = [(devices.topics.telemetry("reactor/a"), b'{"load_mw": 1}', "unknown_kind")]
    expect(city, devices, letters, sent)


@pytest.mark.parametrize("channel", ["substation/a/telemetri", "hello", "substation/a/telemetry/extra"])
def test_topics_without_a_place_under_the_root(channel: str, city: City, devices: Publisher, letters: Letters) -> None:
    sent = [(f"{city.scenario.root}/{channel}", b'{"load_mw": 1}', "unknown_topic")]
    expect(city, devices, letters, sent)


def test_values_and_clocks_that_cannot_be(city: City, devices: Publisher, letters: Letters) -> None:
    still_alive(city, devices)
    ahead = json.dumps({"ts": (city.now_s() + 60) * 1e3, "load_mw": 1}).encode()
    million = b'{"load_mw": 1' + b" " * 1_000_000 + b"}"
    topic = devices.topics.telemetry("substation/a")
    found = expect(
        city,
        devices,
        letters,
        [
            (topic, ahead, "clock_ahead"),
            (topic, b'{"load_mw": -1}', "out_of_range"),
            (topic, b'{"load_mw": 1, "voltage_pu": 7}'.replace(b'1, "', b'-1, "'), "out_of_range"),
            (topic, million, "too_large"),
            (topic, '{"load_mw": 1}'.encode("utf-16"), "wrong_encoding"),
        ],
    )
    assert "60 s ahead" in found[topic, ahead].detail or "59 s ahead" in found[topic, ahead].detail
    assert "load_mw = -1 is outside 0 to" in found[topic, b'{"load_mw": -1}'].detail
    still_alive(city, devices)


def test_a_reading_with_one_good_field_is_applied(city: City, devices: Publisher) -> None:
    """Promise of the ledger: accepted fields count, rejected fields have their own counter."""
    still_alive(city, devices)
    before = settled(city, 0)
    fields = city.status()["router"]["rejected_fields"]
    devices.say("substation/a", {"load_mw": 21.5, "voltage_pu": 7.0})
    devices.flush()
    after = settled(city, before.received + 1)
    assert after.applied == before.applied + 1
    assert after.balanced
    assert city["substation/a"].reported.load_mw == 21.5
    assert city.status()["router"]["rejected_fields"] == fields + 1


def test_elements_of_a_list_have_their_own_fates(city: City, devices: Publisher, letters: Letters) -> None:
    before = settled(city, 0)
    at_ms = round(city.now_s() * 1e3)
    payload = json.dumps(
        [
            {"ts": at_ms - 2000, "values": {"load_mw": 20.0}},
            {"ts": at_ms - 1000, "values": {"load_MW": 20.0}},
            {"ts": at_ms - 500, "values": {"load_mw": "20"}},
            {"ts": at_ms, "values": {"load_mw": 20.5}},
        ]
    ).encode()
    devices.send(devices.topics.telemetry("substation/b"), payload)
    devices.flush()
    after = settled(city, before.received + 4)
    assert after.balanced
    assert (after.applied - before.applied, after.dead_lettered - before.dead_lettered) == (2, 2)
    heard = letters.take(2)
    assert [letter.reason for letter in heard] == ["no_known_field", "wrong_type"]
    assert {letter.payload for letter in heard} == {payload}
    assert city["substation/b"].reported.load_mw == 20.5


def test_acknowledgements_of_nothing(city: City, devices: Publisher, letters: Letters) -> None:
    topic = devices.topics.acknowledgement("substation/a")
    expect(
        city,
        devices,
        letters,
        [
            (topic, b'{"id": "dec-000001.1"}', "unknown_command"),
            (topic, b"done", "not_json"),
        ],
    )
