"""Bundles: many readings of one kind and one moment of receipt as one blob of columns, read one by one where needed.

A gateway speaks for a hundred entities in one message. In the log each of its readings is an entry with an offset of
its own, like any other; only written down they stand together: one ``Entry`` whose entity is ``BUNDLE`` takes as many
offsets as it holds readings. Logs give them back singly (``expanded``), as the messages their devices would have sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin_actors.core.bundle import Bundle, Fields
from twin_actors.store.base import Entry

BUNDLE: Final = -2
"""The entity number of an entry that is a bundle."""

_HEAD: Final = struct.Struct("<IHBB")  # readings, bytes of the fields' names, sequence numbers?, one time for all?
_COUNT: Final = struct.Struct("<I")
_ALIGNED: Final = 8
_lines = msgspec.json.Encoder().encode_lines
_decode_fields = msgspec.json.Decoder(Fields).decode


def payloads(bundle: Bundle, chosen: Sequence[int] | None = None) -> list[bytes]:
    """What the devices of all or some of its readings would have sent, each in the city's own form."""
    places = slice(None) if chosen is None else np.asarray(chosen, dtype=np.intp)
    columns: list[list[Any]] = []
    row = 0
    for _, size in bundle.fields:
        rows = bundle.values[row : row + max(size, 1), places]
        columns.append(rows.T.tolist() if size else rows[0].tolist())
        row += max(size, 1)
    names = [name for name, _ in bundle.fields]
    said = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    ts = bundle.ts_ms[places].tolist()  # NaN becomes null: not said
    if bundle.seq is None:
        lines = [{"ts": at, "values": values} for at, values in zip(ts, said, strict=True)]
    else:
        seqs = [None if seq < 0 else seq for seq in bundle.seq[places].tolist()]
        lines = [{"ts": at, "seq": seq, "values": v} for at, seq, v in zip(ts, seqs, said, strict=True)]
    return _lines(lines).split(b"\n")[: len(lines)]


def apart(entry: Entry, bundle: Bundle) -> list[Entry]:
    """The entries that the entry of a bundle stands for."""
    _, channel, source, received_at_s, _ = entry
    return [
        Entry(number, channel, source, received_at_s, payload)
        for number, payload in zip(bundle.numbers.tolist(), payloads(bundle), strict=True)
    ]


def pack(bundle: Bundle) -> bytes:
    """One blob: head, names, padding to eight bytes, then each column as plain numbers."""
    names = _names(bundle.fields)
    ts_ms = bundle.ts_ms
    one_time = len(ts_ms) > 1 and bool((ts_ms == ts_ms[0]).all())
    head = _HEAD.pack(len(bundle), len(names), bundle.seq is not None, one_time) + names
    return b"".join(
        (
            head,
            bytes(-len(head) % _ALIGNED),
            ts_ms[:1].tobytes() if one_time else ts_ms.tobytes(),
            b"" if bundle.seq is None else bundle.seq.tobytes(),
            np.ascontiguousarray(bundle.values).tobytes(),
            bundle.numbers.tobytes(),
        )
    )


def unpack(blob: bytes) -> Bundle:
    """The inverse of ``pack``. Raises ValueError on a blob that is cut short or too long."""
    if len(blob) < _HEAD.size:
        raise ValueError(f"a bundle of {len(blob)} bytes is cut short")
    n, named, numbered, one_time = _HEAD.unpack_from(blob)
    at = _HEAD.size + named
    fields, rows = _fields(blob[_HEAD.size : at])
    at += -at % _ALIGNED
    times = 1 if one_time else n
    wanted = at + 8 * times + n * (8 * (numbered + rows) + 4)
    if wanted != len(blob):
        raise ValueError(f"a bundle of {len(blob)} bytes should have {wanted}: {n} readings of {rows} rows")
    ts_ms = np.frombuffer(blob, np.float64, times, at)
    at += 8 * times
    seq = None
    if numbered:
        seq = np.frombuffer(blob, np.int64, n, at)
        at += 8 * n
    values = np.frombuffer(blob, np.float64, n * rows, at).reshape(rows, n)
    numbers = np.frombuffer(blob, np.int32, n, at + 8 * n * rows)
    return Bundle(fields, numbers, np.repeat(ts_ms, n) if one_time else ts_ms, values, seq)


def count(blob: bytes) -> int:
    """How many readings a packed bundle holds."""
    return int(_COUNT.unpack_from(blob)[0])


def numbers_of(blob: bytes) -> NDArray[np.int32]:
    """The entities of a packed bundle, without the rest."""
    held = count(blob)
    return np.frombuffer(blob, np.int32, held, len(blob) - 4 * held)


def renumbered(blob: bytes, numbers: NDArray[np.int32]) -> bytes:
    """A packed bundle under other entity numbers."""
    return blob[: len(blob) - 4 * len(numbers)] + numbers.astype(np.int32).tobytes()


def inputs(entry: Entry) -> int:
    """How many offsets an entry takes."""
    return count(entry[4]) if entry[0] == BUNDLE else 1


def count_inputs(entries: Iterable[Entry]) -> int:
    """How many offsets entries take."""
    return sum([1 if entry[0] != BUNDLE else inputs(entry) for entry in entries])


def expanded(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries with every bundle taken apart: one for each offset."""
    for entry in entries:
        if entry[0] == BUNDLE:
            yield from apart(entry, unpack(entry[4]))
        else:
            yield entry


def span(
    entries: Iterable[Entry], at: int, first: int, stop: int, *, together: bool = False
) -> list[tuple[int, Entry]]:
    """What entries that begin at offset ``at`` hold at ``first`` … ``stop`` − 1, with the offsets.

    Only what that needs is taken apart; with ``together`` bundles that lie wholly within stay whole.
    """
    found: list[tuple[int, Entry]] = []
    for entry in entries:
        held = inputs(entry)
        if at >= stop:
            break
        if at + held > first:
            if entry[0] != BUNDLE or (together and first <= at and at + held <= stop):
                found.append((at, entry))
            else:
                single = apart(entry, unpack(entry[4]))[max(first - at, 0) : stop - at]
                found += enumerate(single, start=max(first, at))
        at += held
    return found


@lru_cache(maxsize=1024)
def _names(fields: Fields) -> bytes:
    return msgspec.json.encode(fields)


@lru_cache(maxsize=1024)
def _fields(names: bytes) -> tuple[Fields, int]:
    try:
        fields = _decode_fields(names)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the names of a bundle's fields cannot be read: {error}") from error
    return fields, sum(max(size, 1) for _, size in fields)
