"""Messages of gateways: list, columns and single messages say the same, and every element is somewhere."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos.mutations import broken_bytes, broken_document
from tests.unit.wire.test_decode import AIR, DECODER, MS, NOW_S, payload_of
from twin_actors.store import bundles
from twin_actors.wire.decode import ReadingDecoder
from twin_actors.wire.gateway import GatewayDecoder
from twin_actors.wire.gateway_elements import Message

ENTITIES = ("meter/a", "meter/b", "meter/c", "air/x", "air/y")
NUMBER = {entity: number for number, entity in enumerate(ENTITIES)}
KINDS = {"meter": DECODER, "air": AIR}


def gateway() -> GatewayDecoder:
    return GatewayDecoder(KINDS, NUMBER)


def decode(said: Any) -> Message:
    return gateway().decode(said if isinstance(said, bytes) else json.dumps(said).encode(), NOW_S)


def kind_of(number: int) -> ReadingDecoder:
    return KINDS[ENTITIES[number].partition("/")[0]]


def by_entity(message: Message) -> dict[int, list[bytes]]:
    """What each entity was sent, in order, as single messages."""
    said: dict[int, list[bytes]] = {}
    for bundle in message.gathered:
        for number, payload in zip(bundle.numbers.tolist(), bundles.payloads(bundle), strict=True):
            said.setdefault(number, []).append(payload)
    for number, payload in message.singles:
        said.setdefault(number, []).append(payload)
    return said


def outcome(number: int, payloads: list[bytes]) -> list[Any]:
    """What a twin would make of its messages: values, times, identities, and why not."""
    decoded = kind_of(number).decode(payloads, np.full(len(payloads), NOW_S), [0] * len(payloads))
    columns = (decoded.observed_at_s, decoded.timed, decoded.key, decoded.seq, decoded.boot, decoded.message)
    why = sorted(each.message for each in decoded.rejected)  # of two faults the one is told that comes first
    return [np.nan_to_num(decoded.values, nan=-9e99).tolist(), *(column.tolist() for column in columns), why]


def broken() -> list[Any]:
    cases = yaml.safe_load((Path(__file__).parent / "broken_gateway_messages.yaml").read_text())
    return [pytest.param(case, id=case["name"].replace(" ", "_")) for case in cases]


@pytest.mark.parametrize("case", broken())
def test_what_belongs_to_nobody_has_a_reason_that_helps(case: dict[str, Any]) -> None:
    message = decode(payload_of(case))
    assert [stray.reason.value for stray in message.strays] == case["strays"]
    text = message.strays[0].reason.explain(message.strays[0].detail)
    for words in case["words"]:
        assert words in text, text
    assert sum(map(len, by_entity(message).values())) == case.get("readings", 0)


FORMS = [
    [{"entity": "meter/a", "ts": MS, "values": {"load_mw": 1.5}}, {"entity": "meter/b", "ts": MS, "load_mw": 2}],
    {"entities": ["meter/a", "meter/b"], "ts": MS, "values": {"load_mw": [1.5, 2]}},
    {"kind": "meter", "entities": ["a", "b"], "ts": [MS, MS], "values": {"load_mw": [1.5, 2]}},
    [{"kind": "meter", "entities": ["a"], "ts": MS, "values": {"load_mw": [1.5]}},
     {"entity": "meter/b", "ts": MS, "load_mw": 2}],
    {"entities": ["meter/a", "meter/b"], "ts": "2023-11-14T22:13:20Z", "values": {"load_mw": [1.5, 2]}},
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_forms(form: Any) -> None:
    said = by_entity(decode(form))
    singles = {
        number: [json.dumps({"ts": MS, "values": {"load_mw": mw}}).encode()] for number, mw in ((0, 1.5), (1, 2))
    }
    assert said.keys() == singles.keys()
    for number, payloads in said.items():
        assert outcome(number, payloads) == outcome(number, singles[number])


def test_one_object_is_a_list_of_one() -> None:
    assert by_entity(decode({"entity": "air/x", "temp_c": 3})).keys() == {NUMBER["air/x"]}


def test_whole_messages_stay_together() -> None:
    """Kinds, strangers and one bad element apart, everything goes as columns."""
    columns = {"entities": ["meter/a", "air/x", "meter/b", "meter/q"], "values": {
        "load_mw": [1, None, 3, 4], "temp_c": [None, 7, None, None], "queue_veh": [[1, 2, 3, 4], None, {"n": 5}, None],
        "model": "X200"}}  # fmt: skip
    message = decode(columns)
    assert sorted(len(part.numbers) for part in message.gathered) == [1, 2]
    assert not message.singles
    assert json.loads(message.strays[0].payload)["entity"] == "meter/q"
    meters = next(part for part in message.gathered if len(part.numbers) == 2)
    assert meters.fields == (("load_mw", 0), ("queue_veh", 4))
    np.testing.assert_array_equal(meters.values[:, 0], [1, 1, 2, 3, 4])
    elements = [{"entity": "meter/a", "load_mw": 1}, {"entity": "meter/b", "ts": -5, "load_mw": 2},
                {"entity": "air/x", "temp_c": 3}, {"entity": "meter/b", "load_mw": 4}]  # fmt: skip
    message = decode(elements)
    assert sorted(part.numbers.tolist() for part in message.gathered) == [[0], [3]]
    # the bad one and its neighbour of the same entity keep their order
    assert [number for number, _ in message.singles] == [1, 1]
    assert [json.loads(payload)["load_mw"] for _, payload in message.singles] == [2, 4]


def test_a_list_of_another_kind_is_not_slow_for_ever() -> None:
    decoder = gateway()
    for _ in range(2):
        message = decoder.decode(b'[{"entity": "air/x", "temp_c": 3, "load_mw": "text"}]', NOW_S)
        assert len(message.gathered) == 1
        assert not message.singles


numbers = st.one_of(st.floats(-1e6, 1e6), st.none(), st.just("7"), st.booleans(), st.just(2**70))
times = st.one_of(st.integers(MS - 10**6, MS), st.floats(MS - 1e6, MS), st.none(),
                  st.sampled_from(["2023-11-14T22:13:20.25Z", "2023-11-14", "soon", -1, NOW_S]))  # fmt: skip


@st.composite
def readings(draw: st.DrawFn, *, good: bool) -> dict[str, Any]:
    value = st.floats(-1e6, 1e6) if good else numbers
    values = draw(st.fixed_dictionaries({}, optional={
        "load_mw": value, "temp_c": value, "people": value, "queue_veh": st.lists(value, min_size=4, max_size=4),
        **({} if good else {"nonsense": st.text(max_size=3)})}))  # fmt: skip
    said: dict[str, Any] = {"entity": draw(st.sampled_from(ENTITIES)), "values": values}
    if draw(st.booleans()):
        said["ts"] = draw(st.integers(MS - 10**6, MS) if good else times)
    if draw(st.booleans()):
        said["seq"] = draw(st.integers(0, 2**62) if good else st.sampled_from([0, 5, -1, 2**63, None, "1"]))
    if not good and draw(st.booleans()):
        said["boot"] = draw(st.sampled_from(["a", 3, None, []]))
    return said


def columns_of(elements: list[dict[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = {"entities": [each["entity"] for each in elements]}
    for name in ("ts", "seq", "boot"):
        if any(name in each for each in elements):
            said[name] = [each.get(name) for each in elements]
    names = dict.fromkeys(name for each in elements for name in each["values"])
    said["values"] = {name: [each["values"].get(name) for each in elements] for name in names}
    return said


@pytest.mark.parametrize("good", [True, False])
@settings(deadline=None)
@given(data=st.data())
def test_columns_list_and_single_messages_say_the_same(good: bool, data: st.DataObject) -> None:
    elements = data.draw(st.lists(readings(good=good), min_size=1, max_size=8))
    singles: dict[int, list[bytes]] = {}
    for each in elements:
        singles.setdefault(NUMBER[each["entity"]], []).append(json.dumps(each).encode())
    for form in (elements, columns_of(elements)):
        message = decode(form)
        assert not message.strays
        said = by_entity(message)
        assert said.keys() == singles.keys()
        for number, payloads in said.items():
            assert outcome(number, payloads) == outcome(number, singles[number])


def test_damaged_messages_are_decoded_or_refused() -> None:
    random = Random(3)
    elements = [{"entity": entity, "ts": MS - n, "seq": n, "values": {"load_mw": 1.5 * n, "temp_c": 3.0}}
                for n, entity in enumerate(ENTITIES * 3)]  # fmt: skip
    corpus = [json.dumps(form).encode() for form in (elements, columns_of(elements), [columns_of(elements)], *FORMS)]
    decoder = gateway()
    found = {"gathered": 0, "singles": 0, "strays": 0}
    for _ in range(4_000):
        valid = random.choice(corpus)
        damaged = broken_document(random, valid) if random.random() < 0.6 else broken_bytes(random, valid, corpus)
        message = decoder.decode(damaged, NOW_S)
        found["gathered"] += sum(len(part.numbers) for part in message.gathered)
        found["singles"] += len(message.singles)
        found["strays"] += len(message.strays)
        assert message.gathered or message.singles or message.strays, damaged
        for part in message.gathered:
            assert len(part.numbers) == len(part.ts_ms) == part.values.shape[1]
            assert not np.isinf(part.values).any()
        for number, payload in message.singles:
            outcome(number, [payload])
        for stray in message.strays:
            assert stray.detail
            assert len(stray.reason.explain(stray.detail)) < 1_000
            stray.reason.explain(stray.detail).encode()
    assert min(found.values()) > 1_000, found
