"""Batches between the router and a twin actor: many inputs as one blob, so that a Ray call carries hundreds."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LARGEST_BATCH = 90_000
"""Bytes per batch; above 100 KiB Ray moves an argument through shared memory, which is slower."""

PER_INPUT_BYTES = 29
"""What an input takes in a blob beside its payload: offset, time, place, source, length, channel."""


class Delivery(NamedTuple):
    """One input on its way to a twin actor, with its offset in the log and its place in the actor."""

    offset: int
    place: int
    channel: int
    source: int
    received_at_s: float
    payload: bytes


_HEAD = struct.Struct("<iqi")


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A batch as the twin actor reads it; ``after`` is the offset of this actor's input before the first one."""

    epoch: int
    after: int
    offsets: NDArray[np.int64]
    places: NDArray[np.int32]
    channels: NDArray[np.uint8]
    sources: NDArray[np.int32]
    received_at_s: NDArray[np.float64]
    payloads: list[bytes]


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
    return PackedBatch(epoch, after, offsets, places, channels, sources, received, payloads)  # type: ignore[arg-type]
