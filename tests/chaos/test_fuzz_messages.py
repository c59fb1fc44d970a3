"""Broken messages by the hundred thousand: no crash, no hang, and every reading of every message has one fate."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos.mutations import broken_bytes, broken_document
from twin_actors.core.columns import Reading
from twin_actors.core.inputs import Channel
from twin_actors.runtime.holder import Holder
from twin_actors.runtime.packing import Delivery, pack
from twin_actors.runtime.plan import holder_of
from twin_actors.scenario import Scenario, load_catalogue, load_scenario
from twin_actors.testing.live import devices_of, eventually, settled
from twin_actors.wire import messages
from twin_actors.wire.decode import ReadingDecoder
from twin_actors.wire.elements import count_readings
from twin_actors.wire.messages import BadMessage
from twin_actors.wire.reasons import Reason
from twin_actors.wire.topics import Topics

NOW_S = 1_750_000_000.0
SLOWEST_S = 5.0
"""How long one batch may take before it counts as hanging; a usual one takes a few milliseconds."""
CITY = """
city: fuzzed
placement: {entities_per_actor: 1000}
entities:
  - {kind: intersection, pattern: "x-{n}", count: 4}
  - {kind: substation, pattern: "s-{n}", count: 4}
  - {kind: air_station, pattern: "a-{n}", count: 4}
  - {kind: venue, pattern: "v-{n}", count: 4, attributes: {area_m2: 900, capacity_persons: 1500, exit_width_m: 6}}
  - {kind: footfall, pattern: "f-{n}", count: 4}
"""


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    path = tmp_path_factory.mktemp("fuzzed") / "fuzzed.yaml"
    path.write_text(CITY)
    return load_scenario([path])


def valid_messages(reading: type[Reading], random: Random, now_s: float) -> Iterator[bytes]:
    """One message of every accepted form, for a kind: own form, bare, list, ISO time, numbered, SenML."""
    layout = reading.layout
    values: dict[str, Any] = {}
    for name, field in layout.fields.items():
        low = max(field.minimum, -1e3)
        numbers = [round(random.uniform(low, min(field.maximum, low + 50)), 3) for _ in range(field.size)]
        values[name] = numbers if field.axes else numbers[0]
    at_ms = round((now_s - random.uniform(0, 100)) * 1e3)
    scalars = {name: value for name, value in values.items() if not isinstance(value, list)}
    yield messages.encode_reading(values, at_ms)
    yield messages.encode_reading(values, at_ms, seq=random.randrange(10_000), boot=random.choice(("b1", 7, "reset")))
    yield messages.encode_reading(values)
    yield json.dumps({**values, "ts": at_ms, "seq": 4}).encode()
    yield json.dumps({"ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1e3)), "values": values}).encode()
    yield json.dumps([{"ts": at_ms + 1000 * n, "values": values} for n in range(random.randrange(1, 6))]).encode()
    labels = [(label, layout.fields[label.partition("[")[0]].unit) for label in layout.labels]
    senml: list[dict[str, Any]] = [{"n": label, "u": unit, "v": random.uniform(0, 20)} for label, unit in labels[:4]]
    senml[0] |= {"bn": f"urn:dev:{random.randrange(100)}:", "bt": at_ms / 1e3}
    yield json.dumps(senml).encode()
    yield json.dumps([{"bn": "d/", "n": name, "v": value, "t": -5} for name, value in scalars.items()] or [{}]).encode()


def corpora(scenario: Scenario, random: Random, now_s: float) -> dict[str, list[bytes]]:
    kinds = load_catalogue().kinds
    return {
        name: [message for _ in range(6) for message in valid_messages(kinds[name].reading, random, now_s)]
        for name in scenario.kinds_used()
    }


def damaged(random: Random, corpus: list[bytes]) -> bytes:
    valid = random.choice(corpus)
    draw = random.random()
    if draw < 0.1:
        return valid
    return broken_document(random, valid) if draw < 0.55 else broken_bytes(random, valid, corpus)


def check_decoded(decoder: ReadingDecoder, payloads: list[bytes], received_at_s: np.ndarray) -> Counter[str]:
    """Decode a batch and account for every reading of every message. Returns how many ended with which reason."""
    began = time.monotonic()
    decoded = decoder.decode(payloads, received_at_s, [0] * len(payloads))
    assert time.monotonic() - began < SLOWEST_S, f"hangs on one of {payloads!r}"
    accounted = Counter(decoded.message.tolist()) + Counter(each.message for each in decoded.rejected)
    for number, payload in enumerate(payloads):
        assert accounted[number] == count_readings(payload), payload
    assert decoded.values.shape == (decoder.reading.layout.rows, len(decoded))
    assert not np.isinf(decoded.values).any(), payloads
    assert (~np.isnan(decoded.values)).any(axis=0).all(), "an accepted reading says something"
    assert np.isfinite(decoded.observed_at_s).all()
    for each in decoded.rejected:
        assert isinstance(each.reason, Reason)
        assert each.detail, payloads[each.message]
        assert len(each.text) < 1_000, each.text
        each.text.encode()  # a text that cannot be sent or stored is no explanation
    return Counter(each.reason.value for each in decoded.rejected) + Counter(accepted=len(decoded))


def fuzz_decoders(scenario: Scenario, seed: int, count: int) -> Counter[str]:
    random = Random(seed)
    kinds = [load_catalogue().kinds[name] for name in scenario.kinds_used()]
    decoders = [(ReadingDecoder(kind.reading), kind.reading) for kind in kinds]
    fates: Counter[str] = Counter()
    done = 0
    while done < count:
        for decoder, reading in decoders:
            corpus = [message for _ in range(4) for message in valid_messages(reading, random, NOW_S)]
            size = random.choice((1, 2, 10, 200, 500))
            payloads = [damaged(random, corpus) for _ in range(size)]
            fates += check_decoded(decoder, payloads, np.full(size, NOW_S))
            done += size
    fates["messages"] = done
    return fates


def test_every_fuzzed_message_is_decoded_or_rejected_with_a_reason(scenario: Scenario) -> None:
    fates = fuzz_decoders(scenario, seed=1, count=60_000)
    assert fates["messages"] >= 60_000
    # the mutations are worth something only when much of it is refused for many reasons, and much is not
    assert fates["accepted"] > 10_000
    reasons = {name for name, count in fates.items() if count >= 20}
    assert {"not_json", "wrong_encoding", "wrong_type", "no_known_field", "empty", "bad_time", "not_finite"} <= reasons


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_million_more(scenario: Scenario, seed: int) -> None:
    fuzz_decoders(scenario, seed=seed, count=100_000)


def test_every_fuzzed_message_has_one_fate_in_its_twin(scenario: Scenario) -> None:
    """The same through log batches, cleaning and filter: counts of the twins equal the readings that were sent."""
    random = Random(5)
    holder = new_holder(scenario)
    sent = Counter[int]()
    letters = 0
    corpus_of = corpora(scenario, random, NOW_S)
    places = [entity for group in holder.groups for entity in group.table.ids]
    offset = 0
    while offset < 40_000:
        deliveries = []
        for _ in range(random.choice((1, 30, 400, 1000))):
            place = random.randrange(len(places))
            corpus = corpus_of[places[place].split("/")[0]]
            payload = damaged(random, corpus)
            sent[place] += count_readings(payload)
            deliveries.append(Delivery(offset, place, int(Channel.READING), 0, NOW_S + offset * 1e-3, payload))
            offset += 1
        reply = holder.apply(pack(1, holder.offset, deliveries))
        assert reply.ok
        assert reply.outcomes.offset == offset - 1
        letters += len(reply.refused)
        assert all(each.reason in set(Reason) and each.detail for each in reply.refused)
    _, fates = holder.fates_by_entity()
    for place, entity in enumerate(places):
        assert sum(fates[entity]) == sent[place], entity
    outcomes = holder.outcomes()
    assert outcomes.dead_lettered == letters
    assert min(outcomes.applied, outcomes.late, outcomes.duplicate, outcomes.dead_lettered) > 100, outcomes
    for group in holder.groups:
        for shown in ("x", "variance"):
            assert np.isfinite(group.table.snapshot()[shown]).all(), (group.table.kind.name, shown)
        assert not group.table.failures


def new_holder(scenario: Scenario) -> Holder:
    entities = sorted(scenario.entities, key=lambda entity: entity.kind)
    return holder_of(entities, scenario, load_catalogue(), epoch=1, incarnation="fuzz")


@pytest.mark.parametrize("decode", [messages.decode_command, messages.decode_acknowledgement,
                                    messages.decode_dead_letter, messages.decode_event])  # fmt: skip
def test_what_devices_and_listeners_send_back_is_read_or_refused(decode: Any) -> None:
    random = Random(9)
    corpus = [
        messages.encode_command(messages.Command(
            id="dec-000001.1", issued_at_s=NOW_S, expires_at_s=NOW_S + 60, epoch=3, decision="dec-000001",
            values={"gates_open": 0.5, "green_split": (0.1, 0.2)})),
        messages.encode_acknowledgement(messages.Acknowledgement(id="dec-000001.1", at_s=NOW_S, values={"a": 1.0})),
        messages.encode_dead_letter(messages.DeadLetter(
            topic="a/b", reason="not_json", detail="x", payload=b"\0\xff", received_at_s=NOW_S)),
        messages.encode_event({"id": "dec-000001", "numbers": [1, 2.5, None], "nested": {"a": True}}),
    ]  # fmt: skip
    read = refused = 0
    for _ in range(5_000):
        payload = damaged(random, corpus)
        try:
            decode(payload)
            read += 1
        except BadMessage:
            refused += 1
    assert read > 100
    assert refused > 1_000


def test_fuzzed_topics_have_a_place_or_none() -> None:
    random = Random(11)
    topics = Topics("eu/harbour")
    valid = [topics.telemetry("venue/hall").encode(), topics.acknowledgement("venue/hall").encode(),
             topics.state("a/b").encode(), topics.alert.encode(), topics.dead_letter.encode()]  # fmt: skip
    placed = 0
    for _ in range(20_000):
        topic = broken_bytes(random, random.choice(valid), valid).decode("utf-8", "replace")
        found = topics.parse(topic)
        if found is not None:
            placed += 1
            entity, channel = found
            assert topic == f"eu/harbour/{entity}/{channel}"
            kind, _, name = entity.partition("/")
            assert kind
            assert name
            assert "/" not in name
    assert placed > 100


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(("ts", "seq", "boot", "values", "n", "bn", "bt", "v", "u", "t", "load_mw", "queue_veh"))
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()), min_size=1, max_size=6))
def test_any_bytes_and_any_json_are_accounted_for(payloads: list[bytes]) -> None:
    decoder = ReadingDecoder(load_catalogue().kinds["substation"].reading)
    check_decoded(decoder, payloads, np.full(len(payloads), NOW_S))
    whole = decoder.decode(payloads, np.full(len(payloads), NOW_S), [0] * len(payloads))
    for number, payload in enumerate(payloads):  # a neighbour changes nothing
        alone = decoder.decode([payload], np.array([NOW_S]), [0])
        np.testing.assert_array_equal(alone.values, whole.values[:, whole.message == number])
        assert [r.text for r in alone.rejected] == [r.text for r in whole.rejected if r.message == number]


@pytest.mark.usefixtures("ray_inside")
def test_mutated_messages_over_mqtt_leave_a_city_alive_with_a_balanced_ledger(scenario: Scenario) -> None:
    from twin_actors.testing.live import living

    random = Random(13)
    with living(scenario) as city, devices_of(city) as devices:
        corpus_of = corpora(scenario, random, city.now_s())
        sent: Counter[str] = Counter()
        for _ in range(3_000):
            entity = random.choice(scenario.entities)
            payload = damaged(random, corpus_of[entity.kind])
            devices.send(devices.topics.telemetry(entity.id), payload, qos=random.choice((0, 1)))
            sent[entity.id] += count_readings(payload)
        devices.flush()
        ledger = settled(city, sent.total())
        assert ledger.balanced, ledger
        assert ledger.received == sent.total()
        by_entity = city.ledger(by="entity")
        assert isinstance(by_entity, dict)
        assert {entity: part.received for entity, part in by_entity.items() if part.received} == dict(sent)
        assert all(part.balanced for part in by_entity.values())
        assert min(ledger.applied, ledger.late, ledger.dead_lettered) > 100, ledger

        def follows() -> bool:
            # the fuzz may have told of a moment that is still to come, or of a load that cannot change so fast
            devices.say("substation/s-1", {"load_mw": 12.5})
            devices.flush()
            return bool(city["substation/s-1"].reported.load_mw == 12.5)

        eventually(follows, within_s=20.0, says="the twin to follow its device again")
        assert settled(city, ledger.received + 1).balanced
