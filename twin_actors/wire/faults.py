"""From a decoding error to a reason and words that say what exactly is wrong; only ever runs for bad payloads."""

from __future__ import annotations

import codecs
import difflib
import json
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final, Never

import msgspec

from twin_actors.wire.elements import CANNOT_DECODE, JSON_SPACE, MAX_PAYLOAD_BYTES
from twin_actors.wire.reasons import Reason

_MARKS: Final = {
    codecs.BOM_UTF8: "it begins with a UTF-8 byte order mark",
    codecs.BOM_UTF16_LE: "it looks like UTF-16",
    codecs.BOM_UTF16_BE: "it looks like UTF-16",
    b"\x1f\x8b": "it looks like gzip",
    b"\x28\xb5\x2f\xfd": "it looks like zstandard",
}
_SHOWN: Final = 60  # characters of a payload that a message quotes
_PATH: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_DIGITS: Final = re.compile(r"[+-]?\d+(\.\d*)?")


class _NotFinite(Exception):
    """Raised by the JSON parser's hook at NaN, Infinity or -Infinity."""


def _refuse_constant(text: str) -> Never:
    raise _NotFinite(text)


def quote(encoded: bytes) -> str:
    """The beginning of a payload, fit for a message."""
    text = encoded[: _SHOWN * 4].decode("utf-8", "replace")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def explain(encoded: bytes, error: Exception) -> tuple[Reason, str]:
    """The reason and detail for one payload or element that raised ``error`` when decoded."""
    if len(encoded) > MAX_PAYLOAD_BYTES:
        return Reason.TOO_LARGE, f"{len(encoded):,} bytes, at most {MAX_PAYLOAD_BYTES:,} are read"
    encoding = _encoding_fault(encoded)
    if encoding:
        return Reason.WRONG_ENCODING, encoding
    if not encoded.strip(JSON_SPACE):
        return Reason.EMPTY, "no payload" if not encoded else "only white space"
    if isinstance(error, RecursionError):
        return Reason.TOO_LARGE, "objects or lists are nested too deeply"
    if isinstance(error, msgspec.ValidationError) and "$" in str(error):
        return _explain_type(str(error))
    try:
        json.loads(encoded, parse_constant=_refuse_constant)
    except _NotFinite as constant:
        return Reason.NOT_FINITE, f"{constant} is not JSON"
    except RecursionError:
        return Reason.TOO_LARGE, "objects or lists are nested too deeply"
    except ValueError as better:
        return Reason.NOT_JSON, f"{better}: {quote(encoded)}"
    if isinstance(error, msgspec.ValidationError):
        return _explain_type(str(error))
    return Reason.NOT_JSON, f"{error}: {quote(encoded)}"


def _encoding_fault(encoded: bytes) -> str:
    for mark, words in _MARKS.items():
        if encoded.startswith(mark):
            return words
    if b"\0" in encoded[:4] and encoded[:4].strip(b"\0"):
        return "it looks like UTF-16 or UTF-32"
    try:
        encoded.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte {error.start} is 0x{encoded[error.start]:02x}"
    return ""


def _explain_type(message: str) -> tuple[Reason, str]:
    match = _PATH.match(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    where = f"{path}: " if path else ""
    if path == "ts":
        return Reason.BAD_TIME, f"ts: {what}"
    if "out of range" in what:
        return Reason.NOT_FINITE, f"{where}the number is too large for a 64-bit float"
    if "unknown field" in what:
        return Reason.NO_KNOWN_FIELD, f"{where}{what}"
    return Reason.WRONG_TYPE, f"{where}{what}"


def nearest_field(encoded: bytes, known: Collection[str]) -> tuple[Reason, str]:
    """Why an object that decoded holds no value: it says nothing, or calls its fields by names we do not know."""
    try:
        said: Any = msgspec.json.decode(encoded)
    except CANNOT_DECODE as error:  # a typed decoder skips what it does not know, be it no text at all
        return explain(encoded, error)
    if isinstance(said.get("values"), dict):
        said = said["values"]
    names = [name for name in said if name not in ("ts", "seq", "boot", "entity")]
    if not names:
        return Reason.EMPTY, "there is no value in it"
    strangers = [name for name in names if name not in known]
    if not strangers:
        return Reason.EMPTY, f"all its values are null: {', '.join(names[:5])}"
    return Reason.NO_KNOWN_FIELD, unknown_name(strangers, known)


def unknown_name(strangers: list[str], known: Collection[str]) -> str:
    """Words for names that are not fields, with the nearest one that is."""
    for name in strangers[:20]:
        near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
        if near:
            return f"found {name[:100]!r}, did you mean {near[0]!r}?"
    shown = ", ".join(repr(name[:100]) for name in strangers[:5])
    return f"found {shown}; the fields are {', '.join(sorted(known)) or 'none'}"


def parse_time(text: str) -> datetime | None:
    """An ISO 8601 time in a form that RFC 3339 does not have (a date alone, +0100, basic format); None: no time.

    Text of digits only is refused: nobody can say whether it is a year, seconds or milliseconds.
    """
    if _DIGITS.fullmatch(text.strip()):
        return None
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def seconds(ts: datetime) -> float:
    """Seconds since 1970 of a time; without an offset it is taken for UTC."""
    return (ts if ts.tzinfo is not None else ts.replace(tzinfo=UTC)).timestamp()
