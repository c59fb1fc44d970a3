"""What the city sends and hears besides telemetry: commands, acknowledgements, dead letters, decisions, alerts.

Everything is JSON. Times go out twice, as ISO 8601 text for people (``issued_at``) and as milliseconds since 1970 for
devices (``issued_at_ms``); the milliseconds count when a message is read.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from twin_actors.wire.elements import CANNOT_DECODE, Payload
from twin_actors.wire.faults import explain
from twin_actors.wire.reasons import Reason, brief

Value: TypeAlias = float | tuple[float, ...]
"""A scalar, or one number per component of a vector field in row order."""

_encode = msgspec.json.Encoder().encode


class BadMessage(ValueError):
    """A message that cannot be read; ``reason`` and ``detail`` say why, the text says what to do."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = brief(detail)
        super().__init__(reason.explain(self.detail))


def iso(at_s: float) -> str:
    """A time in s since 1970 as ISO 8601 UTC with milliseconds, e.g. ``2026-01-31T12:00:00.000Z``."""
    at = datetime.fromtimestamp(to_ms(at_s) / 1000.0, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_ms(at_s: float) -> int:
    return round(at_s * 1000.0)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """An order to one entity's device: set points by field name, void after ``expires_at_s``.

    ``epoch`` fences older senders: a device may ignore a command whose epoch is lower than the last it saw.
    """

    id: str
    issued_at_s: float
    expires_at_s: float
    epoch: int
    decision: str
    values: dict[str, Value]


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """A device's answer to the command ``id``; ``values`` is what it really set, where that differs."""

    id: str
    status: Literal["done", "rejected", "expired"] = "done"
    values: dict[str, Value] = {}
    reason: str = ""
    at_s: float | None = None  # the device's clock; None: it did not say


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An input that nobody could use, kept whole."""

    topic: str
    reason: str
    detail: str
    payload: bytes
    received_at_s: float


_Milliseconds = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]  # what a float holds exactly


class _CommandOnWire(msgspec.Struct, kw_only=True):
    id: str
    issued_at: str
    issued_at_ms: _Milliseconds
    expires_at: str
    expires_at_ms: _Milliseconds
    epoch: int
    decision: str
    values: dict[str, Value]


class _AcknowledgementOnWire(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str
    status: Literal["done", "rejected", "expired"] = "done"
    values: dict[str, Value] | None = None
    reason: str | None = None
    ts: float | datetime | None = None


class _DeadLetterOnWire(msgspec.Struct, kw_only=True):
    topic: str
    reason: str
    detail: str
    payload_base64: str
    received_at: str
    received_at_ms: _Milliseconds


_command_decoder = msgspec.json.Decoder(_CommandOnWire)
_acknowledgement_decoder = msgspec.json.Decoder(_AcknowledgementOnWire)
_dead_letter_decoder = msgspec.json.Decoder(_DeadLetterOnWire)


def _read(decoder: msgspec.json.Decoder[Any], payload: Payload) -> Any:
    try:
        return decoder.decode(payload)
    except CANNOT_DECODE as error:
        raise BadMessage(*explain(bytes(payload), error)) from None


def _finite(values: Mapping[str, Value]) -> dict[str, Value]:
    for name, value in values.items():
        if not all(map(math.isfinite, value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"{name} is {value}: a command can only carry finite numbers")
    return dict(values)


def encode_command(command: Command) -> bytes:
    """The payload for ``Topics.command``; ValueError for a value that is not finite (JSON has no such numbers)."""
    return _encode(
        _CommandOnWire(
            id=command.id,
            issued_at=iso(command.issued_at_s),
            issued_at_ms=to_ms(command.issued_at_s),
            expires_at=iso(command.expires_at_s),
            expires_at_ms=to_ms(command.expires_at_s),
            epoch=command.epoch,
            decision=command.decision,
            values=_finite(command.values),
        )
    )


def decode_command(payload: Payload) -> Command:
    """Raises BadMessage. Times come back to the millisecond."""
    said = _read(_command_decoder, payload)
    return Command(
        id=said.id,
        issued_at_s=said.issued_at_ms / 1000.0,
        expires_at_s=said.expires_at_ms / 1000.0,
        epoch=said.epoch,
        decision=said.decision,
        values=said.values,
    )


def encode_acknowledgement(acknowledgement: Acknowledgement) -> bytes:
    """The payload for ``Topics.acknowledgement``."""
    return _encode(
        _AcknowledgementOnWire(
            id=acknowledgement.id,
            status=acknowledgement.status,
            values=_finite(acknowledgement.values) or None,
            reason=acknowledgement.reason or None,
            ts=None if acknowledgement.at_s is None else to_ms(acknowledgement.at_s),
        )
    )


def decode_acknowledgement(payload: Payload) -> Acknowledgement:
    """Raises BadMessage. ``ts`` may be milliseconds or ISO 8601 text; only ``id`` is required."""
    said = _read(_acknowledgement_decoder, payload)
    if isinstance(said.ts, datetime):
        at = said.ts if said.ts.tzinfo is not None else said.ts.replace(tzinfo=UTC)
        at_s: float | None = at.timestamp()
    else:
        at_s = None if said.ts is None else said.ts / 1000.0
    return Acknowledgement(
        id=said.id, status=said.status, values=said.values or {}, reason=said.reason or "", at_s=at_s
    )


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """The payload for ``Topics.dead_letter``; the original bytes travel as base64."""
    return _encode(
        _DeadLetterOnWire(
            topic=letter.topic,
            reason=letter.reason,
            detail=letter.detail,
            payload_base64=base64.b64encode(letter.payload).decode("ascii"),
            received_at=iso(letter.received_at_s),
            received_at_ms=to_ms(letter.received_at_s),
        )
    )


def decode_dead_letter(payload: Payload) -> DeadLetter:
    """Raises BadMessage."""
    said = _read(_dead_letter_decoder, payload)
    try:
        original = base64.b64decode(said.payload_base64, validate=True)
    except ValueError as error:
        raise BadMessage(Reason.WRONG_TYPE, f"payload_base64: {error}") from None
    return DeadLetter(
        topic=said.topic,
        reason=said.reason,
        detail=said.detail,
        payload=original,
        received_at_s=said.received_at_ms / 1000.0,
    )


def encode_event(event: Mapping[str, Any]) -> bytes:
    """A decision or an alert as JSON: any mapping of plain values, dataclasses or structs.

    Raises ValueError for a number that is not finite: JSON would silently say null.
    """
    plain = msgspec.to_builtins(event)
    _refuse_not_finite(plain, "")
    return _encode(plain)


def _refuse_not_finite(plain: Any, path: str) -> None:
    if isinstance(plain, float):
        if not math.isfinite(plain):
            raise ValueError(f"{path or 'the event'} is {plain}: send None where a number is unknown")
    elif isinstance(plain, dict):
        for key, value in plain.items():
            _refuse_not_finite(value, f"{path}.{key}" if path else str(key))
    elif isinstance(plain, list | tuple):
        for place, value in enumerate(plain):
            _refuse_not_finite(value, f"{path}[{place}]")


def decode_event(payload: Payload) -> dict[str, Any]:
    """A decision or an alert as it was encoded; raises BadMessage."""
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except CANNOT_DECODE as error:
        raise BadMessage(*explain(bytes(payload), error)) from None


def encode_reading(
    values: Mapping[str, Any],
    ts_ms: float | None = None,
    seq: int | None = None,
    boot: str | int | None = None,
) -> bytes:
    """A device's telemetry in the city's own form; NaN in ``values`` becomes null, "not said"."""
    message: dict[str, Any] = {}
    if ts_ms is not None:
        message["ts"] = ts_ms
    if seq is not None:
        message["seq"] = seq
    if boot is not None:
        message["boot"] = boot
    message["values"] = values
    return _encode(message)
