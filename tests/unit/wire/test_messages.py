"""Commands, acknowledgements, dead letters and events come back as they were sent."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin_actors.wire.messages import (
    Acknowledgement,
    BadMessage,
    Command,
    DeadLetter,
    decode_acknowledgement,
    decode_command,
    decode_dead_letter,
    decode_event,
    encode_acknowledgement,
    encode_command,
    encode_dead_letter,
    encode_event,
)
from twin_actors.wire.reasons import Reason

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.dictionaries(text, st.one_of(finite, st.lists(finite, max_size=4).map(tuple)), max_size=4)
times = st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000)


@given(text, times, times, st.integers(0, 2**63 - 1), text, values)
def test_commands(id: str, issued: float, expires: float, epoch: int, decision: str, said: dict) -> None:
    command = Command(id=id, issued_at_s=issued, expires_at_s=expires, epoch=epoch, decision=decision, values=said)
    assert decode_command(encode_command(command)) == command


@given(text, st.sampled_from(["done", "rejected", "expired"]), values, text, st.one_of(st.none(), times))
def test_acknowledgements(id: str, status: str, said: dict, reason: str, at_s: float | None) -> None:
    answer = Acknowledgement(id=id, status=status, values=said, reason=reason, at_s=at_s)
    assert decode_acknowledgement(encode_acknowledgement(answer)) == answer


@given(text, text, text, st.binary(max_size=50), times)
def test_dead_letters(topic: str, reason: str, detail: str, payload: bytes, at_s: float) -> None:
    letter = DeadLetter(topic=topic, reason=reason, detail=detail, payload=payload, received_at_s=at_s)
    assert decode_dead_letter(encode_dead_letter(letter)) == letter


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), finite, text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(text, plain, max_size=4))
def test_events(event: dict) -> None:
    assert decode_event(encode_event(event)) == event


def test_a_command_is_readable_for_people_and_devices() -> None:
    command = Command(
        id="c1",
        issued_at_s=1.7e9,
        expires_at_s=1.7e9 + 60,
        epoch=3,
        decision="dec-000041",
        values={"green_split": (0.3, 0.7)},
    )
    assert json.loads(encode_command(command)) == {
        "id": "c1",
        "issued_at": "2023-11-14T22:13:20.000Z",
        "issued_at_ms": 1_700_000_000_000,
        "expires_at": "2023-11-14T22:14:20.000Z",
        "expires_at_ms": 1_700_000_060_000,
        "epoch": 3,
        "decision": "dec-000041",
        "values": {"green_split": [0.3, 0.7]},
    }


def test_a_device_may_answer_with_the_id_alone_or_a_time_in_words() -> None:
    assert decode_acknowledgement(b'{"id": "c1"}') == Acknowledgement(id="c1")
    assert decode_acknowledgement(b'{"id": "c1", "ts": "2023-11-14T22:13:20Z"}').at_s == 1.7e9


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"done", "not_json"),
        (b"{}", "wrong_type"),
        (b'{"id": 5}', "wrong_type"),
        (b'{"id": "c", "status": "maybe"}', "wrong_type"),
        (b"\xff\xfe{", "wrong_encoding"),
        (b'{"id": "c", "ts": NaN}', "not_finite"),
    ],
)
def test_answers_that_cannot_be_read(payload: bytes, reason: str) -> None:
    with pytest.raises(BadMessage) as caught:
        decode_acknowledgement(payload)
    assert caught.value.reason.value == reason
    assert caught.value.reason.remedy in str(caught.value)


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="green"):
        encode_acknowledgement(Acknowledgement(id="c", values={"green": math.nan}))
    with pytest.raises(ValueError, match=r"a\[1\]\.b is inf"):
        encode_event({"a": [1.0, {"b": math.inf}]})
    with pytest.raises(BadMessage, match="payload_base64"):
        decode_dead_letter(
            b'{"topic":"t","reason":"r","detail":"d","payload_base64":"%%","received_at":"","received_at_ms":0}'
        )


def test_a_command_with_an_impossible_time_is_refused() -> None:
    good = encode_command(Command(id="c", issued_at_s=1.0, expires_at_s=2.0, epoch=1, decision="d", values={}))
    with pytest.raises(BadMessage) as refused:
        decode_command(good.replace(b'"expires_at_ms":2000', b'"expires_at_ms":' + b"9" * 400))
    assert refused.value.reason in (Reason.WRONG_TYPE, Reason.NOT_FINITE)


def test_what_a_message_is_quoted_with_stays_short() -> None:
    with pytest.raises(BadMessage) as refused:
        decode_acknowledgement(b'{"id": "c", "status": "' + b"x" * 10_000 + b'"}')
    assert len(str(refused.value)) < 1_000
