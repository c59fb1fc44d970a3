"""Telemetry into columns: every accepted form, every refused one, and the same count of readings everywhere."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from twin_actors.core.columns import Axis, Column, Reading, reading
from twin_actors.wire.decode import Decoded, ReadingDecoder
from twin_actors.wire.elements import count_readings
from twin_actors.wire.fields import FieldMap
from twin_actors.wire.identity import NO_IDENTITY, sequence_key, time_key
from twin_actors.wire.messages import encode_reading
from twin_actors.wire.reasons import Reason

NOW_S = 1_700_000_000.0
MS = 1_700_000_000_000
ARM = Axis("arm", ("n", "e", "s", "w"))


class Meter(Reading):
    load_mw: Column = reading("MW", sd=0.1)
    queue_veh: Column = reading("veh", ARM, sd=1)
    voltage_pu: Column = reading("pu", sd=0.01)


class Air(Reading):
    temp_c: Column = reading("degC", sd=0.1)
    people: Column = reading("persons", sd=1)
    pressure_hpa: Column = reading("hPa", sd=1)


DECODER = ReadingDecoder(Meter)
AIR = ReadingDecoder(Air)
ROW = {label: row for row, label in enumerate(Meter.layout.labels)}


def decode(*payloads: Any, decoder: ReadingDecoder = DECODER, source: int = 0) -> Decoded:
    encoded = [p if isinstance(p, bytes | memoryview) else json.dumps(p).encode() for p in payloads]
    received = NOW_S + np.arange(len(encoded))
    decoded = decoder.decode(encoded, received, [source] * len(encoded))
    for column in (decoded.observed_at_s, decoded.message, decoded.element, decoded.key, decoded.seq, decoded.boot):
        assert column.shape == (len(decoded),)
    assert decoded.values.shape == (decoder.reading.layout.rows, len(decoded))
    assert len(decoded) + len(decoded.rejected) == sum(map(count_readings, encoded))
    return decoded


def said(decoded: Decoded, position: int = 0, decoder: ReadingDecoder = DECODER) -> dict[str, float]:
    column = decoded.values[:, position]
    return {
        label: float(value)
        for label, value in zip(decoder.reading.layout.labels, column, strict=True)
        if not math.isnan(value)
    }


def broken() -> list[Any]:
    cases = yaml.safe_load((Path(__file__).parent / "broken_messages.yaml").read_text())
    assert len(cases) >= 44
    return [pytest.param(case, id=case["name"].replace(" ", "_")) for case in cases]


def payload_of(case: dict[str, Any]) -> bytes:
    if "text" in case:
        return str(case["text"]).encode()
    if "base64" in case:
        return base64.b64decode(case["base64"])
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    return (case["before"] + case["repeat"] * case["times"] + case["after"]).encode()


@pytest.mark.parametrize("case", broken())
def test_a_broken_message_is_one_reading_with_a_reason_that_helps(case: dict[str, Any]) -> None:
    payload = payload_of(case)
    good = b'{"load_mw": 1}'
    decoded = decode(good, payload, good)
    assert decoded.message.tolist() == [0, 2], "its neighbours are not touched"
    (rejected,) = decoded.rejected
    assert (rejected.message, rejected.element) == (1, 0)
    assert rejected.reason.value == case["reason"], rejected.text
    for words in case["words"]:
        assert str(words) in rejected.text, rejected.text
    assert len(rejected.text) < 500


def test_the_citys_own_form() -> None:
    decoded = decode(
        {"ts": MS - 5_000, "seq": 7, "boot": "b1", "values": {"load_mw": 23.5, "queue_veh": [1, None, 3, 4]}}
    )
    assert said(decoded) == {"load_mw": 23.5, "queue_veh[n]": 1, "queue_veh[s]": 3, "queue_veh[w]": 4}
    assert decoded.observed_at_s[0] == NOW_S - 5
    assert decoded.seq[0] == 7
    assert decoded.key[0] == sequence_key("b1", 7) < 0
    assert decoded.timed[0]


def test_a_bare_object_with_the_envelope_beside() -> None:
    decoded = decode({"load_mw": 1, "ts": MS - 1000, "seq": 3}, {"voltage_pu": 1.01, "other": [1, {"a": "b"}]})
    assert said(decoded) == {"load_mw": 1}
    assert said(decoded, 1) == {"voltage_pu": 1.01}
    assert decoded.observed_at_s.tolist() == [NOW_S - 1, NOW_S + 1]
    assert decoded.key.tolist() == [sequence_key(None, 3), NO_IDENTITY]
    assert decoded.seq.tolist() == [3, -1]
    assert decoded.boot.tolist() == [-1, -1]
    assert decoded.timed.tolist() == [True, False]


def test_a_vector_may_be_an_object_of_labels_or_null() -> None:
    decoded = decode({"queue_veh": {"w": 4, "n": None}}, {"queue_veh": [1, 2, 3, 4]}, {"load_mw": 1, "queue_veh": None})
    assert said(decoded) == {"queue_veh[w]": 4}
    assert said(decoded, 1) == {"queue_veh[n]": 1, "queue_veh[e]": 2, "queue_veh[s]": 3, "queue_veh[w]": 4}
    assert said(decoded, 2) == {"load_mw": 1}


@pytest.mark.parametrize(
    ("ts", "observed_at_s"),
    [
        (MS - 1, NOW_S - 0.001),
        (MS - 0.5, NOW_S - 0.0005),
        ("2023-11-14T22:13:20Z", NOW_S),
        ("2023-11-14T22:13:20.250Z", NOW_S + 0.25),
        ("2023-11-14T23:13:20+01:00", NOW_S),
        ("2023-11-14 22:13:20", NOW_S),
        ("2023-11-14T23:13:20+0100", NOW_S),
        ("20231114T221320Z", NOW_S),
        ("2023-11-14", NOW_S - 80_000),
        (None, NOW_S),
    ],
)
def test_times(ts: Any, observed_at_s: float) -> None:
    for form in ({"ts": ts, "load_mw": 1}, [{"ts": ts, "values": {"load_mw": 1}}]):
        decoded = decode(form)
        assert not decoded.rejected
        assert decoded.observed_at_s[0] == pytest.approx(observed_at_s, abs=1e-6)
        assert decoded.timed[0] == (ts is not None)


def test_a_gateway_batch_keeps_its_order_and_loses_only_the_bad_elements() -> None:
    batch = [{"ts": MS + i, "values": {"load_mw": i}} for i in range(5)]
    batch[2] = {"ts": MS, "values": {"load_mw": "2"}}
    decoded = decode({"load_mw": 100}, [*batch, 5, []], {"load_mw": 200})
    assert decoded.values[ROW["load_mw"]].tolist() == [100, 0, 1, 3, 4, 200]
    assert decoded.message.tolist() == [0, 1, 1, 1, 1, 2]
    assert decoded.element.tolist() == [0, 0, 1, 3, 4, 0]
    assert [(r.message, r.element, r.reason) for r in decoded.rejected] == [
        (1, 2, Reason.WRONG_TYPE),
        (1, 5, Reason.WRONG_TYPE),
        (1, 6, Reason.WRONG_TYPE),
    ]


def test_an_element_that_says_nothing_is_named() -> None:
    decoded = decode([{"load_mw": 1}, {"load_mv": 2}, {"load_mw": 3}])
    assert decoded.element.tolist() == [0, 2]
    (rejected,) = decoded.rejected
    assert (rejected.element, rejected.reason) == (1, Reason.NO_KNOWN_FIELD)
    assert "did you mean 'load_mw'" in rejected.text


def test_white_space_before_a_list_and_views_of_memory() -> None:
    decoded = decode(b' \n[{"load_mw": 1}, {"load_mw": 2}]', memoryview(b'x{"load_mw": 3}')[1:], memoryview(b"[]"))
    assert decoded.values[ROW["load_mw"]].tolist() == [1, 2, 3]
    assert [r.reason for r in decoded.rejected] == [Reason.EMPTY]


def test_nothing_at_all() -> None:
    assert len(decode()) == 0


def test_identities_do_not_collide_and_survive_redelivery() -> None:
    one = {"ts": MS, "load_mw": 1}
    keys = [
        *decode(one, one).key,
        *decode(one, source=1).key,
        *decode({"ts": MS + 1, "load_mw": 1}).key,
        *decode({"ts": MS, "seq": 1, "load_mw": 1}, {"ts": MS + 5, "seq": 1, "load_mw": 2}).key,
        *decode({"seq": 1, "boot": 5, "load_mw": 1}, {"seq": 1, "boot": "5", "load_mw": 1}).key,
        *decode({"load_mw": 1}, {"load_mw": 2}).key,
    ]
    assert keys[0] == keys[1] == time_key(0, NOW_S)
    assert keys[4] == keys[5]
    assert keys[6] == keys[7]
    assert keys[8] == keys[9] == NO_IDENTITY
    assert len(set(keys)) == 6


@given(
    st.integers(0, 2046),
    st.floats(0, 4.5e9),
    st.one_of(st.none(), st.text(), st.integers(-(2**63), 2**63 - 1)),
    st.integers(0, 2**63 - 1),
)
def test_key_families_are_apart(source: int, at_s: float, boot: str | int | None, seq: int) -> None:
    assert -(2**63) <= sequence_key(boot, seq) < 0 <= time_key(source, at_s) < NO_IDENTITY


def test_sources_are_bounded() -> None:
    with pytest.raises(ValueError, match="2046"):
        decode({"load_mw": 1}, source=2047)


def test_the_names_of_an_existing_fleet() -> None:
    decoder = ReadingDecoder(
        Meter,
        {
            "P (kW)": FieldMap(field="load_mw", factor=1e-3),
            "U%": FieldMap(field="voltage_pu", factor=0.01, offset=0.5),
            "north": FieldMap(field="queue_veh", component="n"),
            "west": FieldMap(field="queue_veh", component="w"),
        },
    )
    decoded = decode({"P (kW)": 2500, "U%": 50, "west": 7, "north": 1}, [{"west": 1}], {"load_mw": 3}, decoder=decoder)
    assert said(decoded) == {"load_mw": 2.5, "voltage_pu": 1.0, "queue_veh[n]": 1, "queue_veh[w]": 7}
    assert said(decoded, 1) == {"queue_veh[w]": 1}
    assert [r.reason for r in decoded.rejected] == [Reason.NO_KNOWN_FIELD], "only mapped names count"
    overflow = ReadingDecoder(Meter, {"p": FieldMap(field="load_mw", factor=1e300)})
    (rejected,) = decode({"p": 1e300}, decoder=overflow).rejected
    assert rejected.reason is Reason.NOT_FINITE


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ts": FieldMap(field="load_mw")}, "envelope"),
        ({"p": FieldMap(field="load")}, "does not have"),
        ({"p": FieldMap(field="queue_veh", component="x")}, "components are n, e, s, w"),
        ({"p": FieldMap(field="load_mw", component="x")}, "single number"),
        ({"p": FieldMap(field="load_mw"), "q": FieldMap(field="load_mw")}, "both mapped"),
        ({"p": FieldMap(field="load_mw", factor=0)}, "factor"),
    ],
)
def test_mappings_that_do_not_fit(fields: dict[str, FieldMap], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ReadingDecoder(Meter, fields)


def test_senml_base_fields_and_units() -> None:
    pack = [
        {"bn": "urn:dev:ow:10e2073a01080063:", "bt": 1.7e9, "bu": "Cel", "n": "temp_c", "v": 23.5},
        {"n": "temp_c", "u": "K", "v": 300.15, "t": -60},
        {"n": "people", "u": "count", "v": 12},
        {"n": "pressure_hpa", "u": "Pa", "v": 101_325},
        {"bv": 20, "bu": "", "n": "temp_c", "v": 1.5},
        {"bn": "urn:dev:2/", "n": "temp_c", "v": 0},
        {"n": "temp_c", "u": "lx", "v": 0},
    ]
    decoded = decode(pack, decoder=AIR)
    readings = [said(decoded, i, AIR) for i in range(len(decoded))]
    assert readings[0] == {"temp_c": 23.5}
    assert readings[1]["temp_c"] == pytest.approx(27.0)
    assert readings[2] == {"people": 12}
    assert readings[3]["pressure_hpa"] == pytest.approx(1013.25)
    assert readings[4] == {"temp_c": 21.5}
    assert readings[5] == {"temp_c": 20}
    assert decoded.observed_at_s.tolist() == [NOW_S, NOW_S - 60, *[NOW_S] * 4]
    assert decoded.element.tolist() == [0, 1, 2, 3, 4, 5]
    assert (decoded.key >= 0).all()
    assert [(r.element, r.reason) for r in decoded.rejected] == [(6, Reason.UNKNOWN_UNIT)]


def test_senml_times_below_2_to_the_28_are_relative_and_no_identity() -> None:
    decoded = decode([{"n": "temp_c", "t": -5, "v": 1}, {"n": "temp_c", "v": 2}], decoder=AIR)
    assert decoded.observed_at_s.tolist() == [NOW_S - 5, NOW_S]
    assert decoded.key.tolist() == [NO_IDENTITY] * 2


def test_senml_components_of_a_vector() -> None:
    decoded = decode([{"bn": "dev/", "n": "queue_veh/e", "u": "count", "v": 4}, {"n": "queue_veh.w", "v": 2}])
    assert [said(decoded, i) for i in (0, 1)] == [{"queue_veh[e]": 4}, {"queue_veh[w]": 2}]


def test_a_broken_base_spoils_what_follows_and_records_without_value_count_nothing() -> None:
    pack = [{"n": "temp_c", "v": 1}, {"bn": 5}, {"n": "temp_c", "v": 2}, {"n": "temp_c", "v": 3}]
    decoded = decode(pack, decoder=AIR)
    assert len(decoded) == 1
    assert [(r.element, r.reason) for r in decoded.rejected] == [(2, Reason.WRONG_TYPE), (3, Reason.WRONG_TYPE)]
    assert "record 1" in decoded.rejected[0].text


numbers = st.one_of(st.none(), st.floats(), st.integers(), st.booleans(), st.text(max_size=3))
keys = st.sampled_from(
    [
        "ts",
        "seq",
        "boot",
        "values",
        "load_mw",
        "voltage_pu",
        "queue_veh",
        "n",
        "bn",
        "bt",
        "bu",
        "bv",
        "v",
        "vs",
        "vb",
        "s",
        "u",
        "t",
    ]
)
objects = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.one_of(keys, st.text(max_size=3)), inner, max_size=5)
    ),
    max_leaves=20,
)
anything = st.one_of(
    st.binary(max_size=60),
    objects.map(lambda value: json.dumps(value).encode()),
    st.lists(st.dictionaries(keys, objects, max_size=5), max_size=5).map(lambda value: json.dumps(value).encode()),
    st.tuples(objects, st.integers(0, 30)).map(lambda pair: json.dumps(pair[0]).encode()[: -pair[1] or None]),
    st.tuples(st.sampled_from([b" ", b"\n[", b"[{}", b"\xef\xbb\xbf", b"[" * 2000]), st.binary(max_size=9)).map(
        b"".join
    ),
)


@given(st.lists(anything, max_size=6))
def test_every_payload_yields_as_many_readings_as_are_counted(payloads: list[bytes]) -> None:
    for payload in payloads:
        decode(payload)
    together = decode(*payloads)
    assert np.isfinite(together.observed_at_s).all()
    assert not np.isinf(together.values).any()
    assert (together.values == together.values).any(axis=0).all()


@given(
    st.floats(-1e9, 1e9),
    st.lists(st.floats(-1e9, 1e9), min_size=4, max_size=4),
    st.integers(MS - 10_000_000, MS),
    st.one_of(st.none(), st.integers(0, 2**31 - 1)),
)
def test_what_a_device_encodes_is_what_arrives(load: float, queue: list[float], ts: int, seq: int | None) -> None:
    decoded = decode(encode_reading({"load_mw": load, "queue_veh": queue, "voltage_pu": math.nan}, ts, seq, "b"))
    assert decoded.values[:, 0].tolist()[:5] == [load, *queue]
    assert math.isnan(decoded.values[ROW["voltage_pu"], 0])
    assert decoded.observed_at_s[0] == ts / 1000
    assert decoded.seq[0] == (-1 if seq is None else seq)


def test_nesting_at_the_edge_of_the_stack_counts_the_same_from_any_depth() -> None:
    def deeper(levels: int, payload: bytes) -> tuple[int, int]:
        if levels:
            return deeper(levels - 1, payload)
        decoded = DECODER.decode([payload], np.array([NOW_S]), [0])
        return count_readings(payload), len(decoded) + len(decoded.rejected)

    for depth in range(700, 1000, 20):
        payload = b'[{"load_mw": 1}, {"x": ' + b"[" * depth + b"]" * depth + b"}]"
        assert len({*deeper(0, payload), *deeper(150, payload)}) == 1


def test_every_reason_has_words() -> None:
    for reason in Reason:
        assert reason.happened
        assert reason.remedy
        assert str(reason) in reason.value
