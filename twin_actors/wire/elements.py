"""Taking a payload apart: how many readings it holds, and whether a list is a SenML pack.

Both the router, which counts arrivals, and the decoder, which gives each reading its fate, use these functions, so
that the two numbers are equal for any bytes whatever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

_T = TypeVar("_T")
Payload: TypeAlias = bytes | bytearray | memoryview

MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
"""A larger payload is one rejected reading."""

JSON_SPACE: Final = b" \t\r\n"
CANNOT_DECODE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What msgspec raises for a payload that is not what was expected."""


class Probe(msgspec.Struct, gc=False):
    """The keys of a list's element that tell a SenML record from a reading, undecoded."""

    n: Raw | UnsetType = UNSET
    bn: Raw | UnsetType = UNSET
    values: Raw | UnsetType = UNSET
    v: Raw | UnsetType = UNSET
    vs: Raw | UnsetType = UNSET
    vb: Raw | UnsetType = UNSET
    vd: Raw | UnsetType = UNSET
    s: Raw | UnsetType = UNSET


_split = msgspec.json.Decoder(list[Raw]).decode
_probe = msgspec.json.Decoder(Probe).decode


def _at_any_depth(decode: Callable[[Any], _T], encoded: Payload | Raw) -> _T:
    """``decode(encoded)``, with the same outcome whatever the caller's stack.

    How deep a nesting msgspec can follow depends on how deep its caller already is. Where it gives up, a fresh thread
    tries again, so that the router's count and the decoder's agree.
    """
    try:
        return decode(encoded)
    except RecursionError:
        answer: list[_T | Exception] = []

        def attempt() -> None:
            try:
                answer.append(decode(encoded))
            except CANNOT_DECODE as error:
                answer.append(error)

        thread = threading.Thread(target=attempt, name="deep-json")
        thread.start()
        thread.join()
        found = answer[0]
        if isinstance(found, Exception):
            raise found from None
        return found


def is_list(payload: Payload) -> bool:
    """Whether the first character that is not white space is ``[``."""
    start = payload[:1]
    if start == b"[":
        return True
    if start in (b" ", b"\t", b"\r", b"\n"):
        return bytes(payload).lstrip(JSON_SPACE)[:1] == b"["
    return False


def elements(payload: Payload) -> list[Raw]:
    """The elements of a JSON list, undecoded; raises one of CANNOT_DECODE."""
    return _at_any_depth(_split, payload)


def probe(raw: Raw) -> Probe | None:
    """The telling keys of one element; None when it is not an object."""
    try:
        return _at_any_depth(_probe, raw)
    except CANNOT_DECODE:
        return None


def is_senml(raws: list[Raw]) -> bool:
    """Whether a list is a SenML pack (RFC 8428): its first record has a name or a base name."""
    if not raws:
        return False
    first = probe(raws[0])
    return first is not None and first.values is UNSET and (first.n is not UNSET or first.bn is not UNSET)


def carries_value(raw: Raw) -> bool:
    """Whether a SenML record is a reading: it has a value of some type, or is no record at all."""
    found = probe(raw)
    if found is None:
        return True
    return not (found.v is UNSET and found.vs is UNSET and found.vb is UNSET and found.vd is UNSET and found.s is UNSET)


def count_readings(payload: Payload) -> int:
    """The number of readings in a payload: what ``ReadingDecoder.decode`` accepts plus what it rejects, for any bytes.

    1 for an object and for anything that cannot be decoded; the length of a list; in a SenML pack the records with a
    value. Never less than 1: an empty list is one rejected reading. Costs about 0.1 µs for an object.
    """
    if payload[:1] == b"{" or not is_list(payload) or len(payload) > MAX_PAYLOAD_BYTES:
        return 1
    try:
        raws = elements(payload)
    except CANNOT_DECODE:
        return 1
    if is_senml(raws):
        return max(1, sum(map(carries_value, raws)))
    return max(1, len(raws))
