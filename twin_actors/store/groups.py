"""A group of log entries as one blob: each column as plain numbers, then all payloads end to end.

Bundles stand in the blob as they are, and are taken apart when it is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.store import bundles
from twin_actors.store.base import Entry, StoreDamaged
from twin_actors.store.bundles import BUNDLE

_HEAD = struct.Struct("<I")
PER_ENTRY_BYTES = 21
"""What an entry takes in a blob beside its payload: time, entity, source, length, channel."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it is read: the columns, all of one length, and where each payload lies in the blob."""

    first: int
    entities: NDArray[np.int32]
    channels: NDArray[np.uint8]
    sources: NDArray[np.int32]
    received_at_s: NDArray[np.float64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    blob: bytes

    def entries(self, places: NDArray[np.intp] | slice = slice(None)) -> list[tuple[int, Entry]]:
        """The entries at some places of the group, with their offsets."""
        offsets = np.arange(self.first, self.first + len(self.entities))[places].tolist()
        columns = zip(
            self.entities[places].tolist(),
            self.channels[places].tolist(),
            self.sources[places].tolist(),
            self.received_at_s[places].tolist(),
            self.payloads(places),
            strict=True,
        )
        return list(zip(offsets, map(Entry._make, columns), strict=True))

    def payloads(self, places: NDArray[np.intp] | slice) -> list[bytes]:
        """The payloads at some places of the group."""
        blob = self.blob
        bounds = zip(self.starts[places].tolist(), self.ends[places].tolist(), strict=True)
        return [blob[start:end] for start, end in bounds]


def pack(entries: Sequence[Entry]) -> bytes:
    """One blob of at least one entry. Entities and sources fit in 32 bits, channels in 8."""
    entities, channels, sources, received, payloads = zip(*entries, strict=True)
    count = len(payloads)
    return b"".join(
        (
            _HEAD.pack(count),
            struct.pack(f"<{count}d{count}i{count}i", *received, *entities, *sources),
            struct.pack(f"<{count}I", *map(len, payloads)),
            bytes(channels),
            *payloads,
        )
    )


def unpack(first: int, blob: bytes, *, together: bool = False) -> Group:
    """The inverse of ``pack``; ``first`` is the offset of the first entry. Raises StoreDamaged.

    With ``together`` bundles stay whole: then offsets do not rise by one an entry, see ``bundles.span``.
    """
    count = _HEAD.unpack_from(blob)[0] if len(blob) >= _HEAD.size else 0
    at = _HEAD.size
    if count == 0 or len(blob) < at + count * PER_ENTRY_BYTES:
        raise StoreDamaged(f"the group at offset {first} is cut short: {len(blob)} bytes, {count} entries")
    received = np.frombuffer(blob, "<f8", count, at)
    entities = np.frombuffer(blob, "<i4", count, at + 8 * count)
    sources = np.frombuffer(blob, "<i4", count, at + 12 * count)
    lengths = np.frombuffer(blob, "<u4", count, at + 16 * count)
    channels = np.frombuffer(blob, "u1", count, at + 20 * count)
    ends = at + PER_ENTRY_BYTES * count + np.cumsum(lengths, dtype=np.int64)
    if ends[-1] != len(blob):
        raise StoreDamaged(f"the group at offset {first} has {len(blob)} bytes where its columns say {ends[-1]}")
    group = Group(first, entities, channels, sources, received, ends - lengths, ends, blob)
    return _apart(group) if not together and (entities == BUNDLE).any() else group


def _apart(group: Group) -> Group:
    """A group as if every reading of its bundles had been written singly. Raises StoreDamaged."""
    entities, payloads, counts = [], [], np.ones(len(group.entities), np.int64)
    at = 0
    for place in np.flatnonzero(group.entities == BUNDLE).tolist():
        entities.append(group.entities[at:place])
        payloads += group.payloads(slice(at, place))
        try:
            bundle = bundles.unpack(group.blob[group.starts[place] : group.ends[place]])
        except ValueError as error:
            raise StoreDamaged(f"the group at offset {group.first} cannot be read: {error}") from error
        entities.append(bundle.numbers)
        payloads += bundles.payloads(bundle)
        counts[place] = len(bundle)
        at = place + 1
    entities.append(group.entities[at:])
    payloads += group.payloads(slice(at, None))
    ends = np.cumsum(np.fromiter(map(len, payloads), np.int64, len(payloads)))
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
    return Group(
        group.first,
        np.concatenate(entities),
        np.repeat(group.channels, counts),
        np.repeat(group.sources, counts),
        np.repeat(group.received_at_s, counts),
        starts,
        ends,
        b"".join(payloads),
    )


def blob_bytes(entries: Iterable[Entry]) -> int:
    """How long the blob of such entries is."""
    return _HEAD.size + sum(PER_ENTRY_BYTES + len(entry.payload) for entry in entries)
