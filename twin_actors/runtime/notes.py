"""What the router itself writes into its log beside the inputs of twins, so that the log alone tells its accounts."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from twin_actors.core.view import Value
from twin_actors.store.base import NOBODY

__all__ = [
    "FIRST_NOTE",
    "NOBODY",
    "Answered",
    "Notable",
    "Note",
    "Quarantine",
    "Refusal",
    "Tally",
    "Told",
    "decode",
    "encode",
    "listed",
]

FIRST_NOTE = 16
"""Channels from here on are the router's own and are delivered to no twin."""


class Note(enum.IntEnum):
    """What a note says; the numbers are stored in logs and must not change."""

    REFUSED = 16  # a payload that goes no further: it becomes a dead letter
    TALLY = 17  # readings given up before they were logged
    ANSWERED = 18  # a device has refused a command
    QUARANTINED = 19  # an input that a twin actor could not survive
    FOREIGN = 20  # never written: what an entry of an entity reads as that the scenario has no more


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """A payload as it came, with the reason why no twin gets it."""

    topic: str
    reason: str
    detail: str
    readings: int
    payload: bytes


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """Readings per entity number: ``shed`` since the last tally, ``held`` now (lost if the router dies)."""

    shed: dict[int, int]
    held: dict[int, int]


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """The end of a command that did not come into force."""

    command: str
    at_s: float
    note: str


class Quarantine(msgspec.Struct, frozen=True, array_like=True):
    """A logged input that is never delivered again, and what it did."""

    offset: int
    readings: int
    detail: str
    topic: str = ""


Notable: TypeAlias = Refusal | Tally | Answered | Quarantine

_TYPES = {Note.REFUSED: Refusal, Note.TALLY: Tally, Note.ANSWERED: Answered, Note.QUARANTINED: Quarantine}


def encode(note: Notable) -> bytes:
    return msgspec.msgpack.encode(note)


def decode(channel: int, payload: bytes) -> Notable:
    """Raises ValueError when it is no note of this version."""
    try:
        said: Notable = msgspec.msgpack.decode(payload, type=_TYPES[Note(channel)])
    except msgspec.MsgspecError as error:
        raise ValueError(f"a note of channel {channel} cannot be read: {error}") from error
    return said


class Told(msgspec.Struct, frozen=True):
    """The payload of commands and couplings in the log: values by field, at an event time.

    The rest tells of the command that is desired or has come into force.
    """

    at_s: float
    values: dict[str, float | list[float]]
    id: str = ""
    decision: str = ""
    issued_at_s: float = 0.0
    expires_at_s: float = 0.0
    note: str = ""


def listed(values: Mapping[str, Value]) -> dict[str, float | list[float]]:
    """Values as they stand in the log: vectors are lists."""
    return {name: list(value) if isinstance(value, tuple | list) else float(value) for name, value in values.items()}
