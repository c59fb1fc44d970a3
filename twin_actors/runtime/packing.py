"""Batches between the router and a twin actor: many inputs as one blob, so that a Ray call carries hundreds."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.bundle import Bundle
from twin_actors.core.inputs import Channel
from twin_actors.store import bundles
from twin_actors.store.bundles import BUNDLE

LARGEST_BATCH = 90_000
"""Bytes per batch; above 100 KiB Ray moves an argument through shared memory, which is slower."""

PER_INPUT_BYTES = 29
"""What an input takes in a blob beside its payload: offset, time, place, source, length, channel."""


class Delivery(NamedTuple):
    """One input on its way to a twin actor, with its offset in the log and its place in the actor.

    Where ``place`` is ``BUNDLE`` it is several readings: ``offset`` is that of the last one, the payload a bundle
    numbered by places, and behind it how far each reading's offset is from that of the message's first one.
    """

    offset: int
    place: int
    channel: int
    source: int
    received_at_s: float
    payload: bytes


_ELEMENT = struct.Struct("<i")
_HEAD = struct.Struct("<iqi")
_new = tuple.__new__  # a named tuple made by its class costs three times as much


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A batch as the twin actor reads it; ``after`` is the offset of this actor's input before the first one.

    All columns have one place an input. ``bundles`` are (the place of its first reading, bundle): what they hold has
    no payload.
    """

    epoch: int
    after: int
    offsets: NDArray[np.int64]
    places: NDArray[np.int32]
    channels: NDArray[np.uint8]
    sources: NDArray[np.int32]
    received_at_s: NDArray[np.float64]
    payloads: list[bytes]
    bundles: list[tuple[int, Bundle]] = field(default_factory=list)


def bundled(first: int, source: int, received_at_s: float, bundle: Bundle, elements: NDArray[np.int32]) -> Delivery:
    """Readings of one message on their way together: ``elements`` are their distances from offset ``first``."""
    payload = bundles.pack(bundle) + elements.tobytes()
    return _new(Delivery, (first + int(elements[-1]), BUNDLE, int(Channel.READING), source, received_at_s, payload))


def inputs(delivery: Delivery) -> int:
    """How many inputs a delivery is."""
    return bundles.count(delivery[5]) if delivery[1] == BUNDLE else 1


def first_offset(delivery: Delivery) -> int:
    """The offset of the first input of a delivery."""
    if delivery.place != BUNDLE:
        return delivery.offset
    payload = delivery.payload
    (first,) = _ELEMENT.unpack_from(payload, len(payload) - 4 * bundles.count(payload))
    (last,) = _ELEMENT.unpack_from(payload, len(payload) - 4)
    return int(delivery.offset - last + first)


def apart(delivery: Delivery) -> list[Delivery]:
    """A delivery as one for each of its readings."""
    if delivery.place != BUNDLE:
        return [delivery]
    bundle, offsets = _unbundled(delivery.offset, delivery.payload)
    _, _, channel, source, received_at_s, _ = delivery
    return [
        Delivery(offset, place, channel, source, received_at_s, payload)
        for offset, place, payload in zip(
            offsets.tolist(), bundle.numbers.tolist(), bundles.payloads(bundle), strict=True
        )
    ]


def each_input(delivery: Delivery) -> list[tuple[int, int]]:
    """(offset, place) of every input of a delivery."""
    if delivery.place != BUNDLE:
        return [(delivery.offset, delivery.place)]
    bundle, offsets = _unbundled(delivery.offset, delivery.payload)
    return list(zip(offsets.tolist(), bundle.numbers.tolist(), strict=True))


def standing_at(delivery: Delivery, offsets: set[int]) -> list[Delivery]:
    """Those inputs of a delivery that stand at some offsets."""
    if delivery.place != BUNDLE:
        return [delivery] if delivery.offset in offsets else []
    if offsets.isdisjoint(offset for offset, _ in each_input(delivery)):
        return []
    return [each for each in apart(delivery) if each.offset in offsets]


def _unbundled(offset: int, payload: bytes) -> tuple[Bundle, NDArray[np.int64]]:
    end = len(payload) - 4 * bundles.count(payload)
    elements = np.frombuffer(payload, np.int32, -1, end)
    return bundles.unpack(payload[:end]), offset - int(elements[-1]) + elements.astype(np.int64)


def pack(epoch: int, after: int, deliveries: Sequence[Delivery]) -> bytes:
    """One blob: head, then each column as plain numbers, then all payloads end to end."""
    columns = zip(*deliveries, strict=True) if deliveries else ((),) * len(Delivery._fields)
    offsets, places, channels, sources, received, payloads = columns
    return b"".join(
        (
            _HEAD.pack(epoch, after, len(payloads)),
            np.array(offsets, np.int64).tobytes(),
            np.array(received, np.float64).tobytes(),
            np.array(places, np.int32).tobytes(),
            np.array(sources, np.int32).tobytes(),
            np.fromiter(map(len, payloads), np.uint32, len(payloads)).tobytes(),
            bytes(channels),
            *payloads,
        )
    )


def unpack(blob: bytes) -> PackedBatch:
    """The inverse of ``pack``. Raises ValueError on a blob that is cut short or too long."""
    if len(blob) < _HEAD.size:
        raise ValueError(f"batch has {len(blob)} bytes, its head alone takes {_HEAD.size}")
    epoch, after, count = _HEAD.unpack_from(blob)
    at = _HEAD.size

    def column(dtype: type) -> NDArray[np.generic]:
        nonlocal at
        numbers: NDArray[np.generic] = np.frombuffer(blob, dtype, count, at)
        at += numbers.nbytes
        return numbers

    offsets, received = column(np.int64), column(np.float64)
    places, sources, lengths = column(np.int32), column(np.int32), column(np.uint32)
    channels = column(np.uint8)
    ends = at + np.cumsum(lengths, dtype=np.int64)
    end = int(ends[-1]) if count else at
    if end != len(blob):
        raise ValueError(f"batch has {len(blob)} bytes, its head says {end}")
    starts = (ends - lengths).tolist()
    payloads = [blob[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
    batch = PackedBatch(epoch, after, offsets, places, channels, sources, received, payloads)  # type: ignore[arg-type]
    return _spread(batch) if (places == BUNDLE).any() else batch


def _spread(batch: PackedBatch) -> PackedBatch:
    """A batch with the readings of its bundles as inputs of their own."""
    offsets: list[NDArray[np.int64]] = []
    places: list[NDArray[np.int32]] = []
    payloads: list[bytes] = []
    found: list[tuple[int, Bundle]] = []
    counts = np.ones(len(batch.payloads), np.int64)
    at = 0
    for number in np.flatnonzero(batch.places == BUNDLE).tolist():
        bundle, own = _unbundled(int(batch.offsets[number]), batch.payloads[number])
        offsets += (batch.offsets[at:number], own)
        places += (batch.places[at:number], bundle.numbers)
        payloads += batch.payloads[at:number]
        found.append((len(payloads), bundle))
        payloads += [b""] * len(bundle)
        counts[number] = len(bundle)
        at = number + 1
    return PackedBatch(
        batch.epoch,
        batch.after,
        np.concatenate([*offsets, batch.offsets[at:]]),
        np.concatenate([*places, batch.places[at:]]),
        np.repeat(batch.channels, counts),
        np.repeat(batch.sources, counts),
        np.repeat(batch.received_at_s, counts),
        payloads + batch.payloads[at:],
        found,
    )
