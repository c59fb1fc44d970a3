"""The in-memory engine: one process holds everything, bounded, and it ends with that process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from twin_actors.store.base import DeadLetter, Entry, LogTrimmed, StaleEpoch

T = TypeVar("T")

MOST_LETTER_BYTES = 64_000_000
MOST_RECORDS = 10_000
"""Records and dead letters kept of each sort; older ones are forgotten (their counters are not)."""


class MemoryLog:
    """Entries of one router share, held until they are trimmed behind the snapshots."""

    def __init__(self, first: int | None = None) -> None:
        self._entries: list[Entry] = []
        # A log that dies with its process must not repeat the offsets of the one before it, which twins remember:
        # microseconds since the epoch are ahead of any count of inputs that an earlier life can have reached.
        self.began = self._first = time.time_ns() // 1000 if first is None else first
        self._epoch = 0
        self._bytes = 0

    def append(self, epoch: int, entries: Sequence[Entry]) -> int:
        if epoch < self._epoch:
            raise StaleEpoch(f"log is written by epoch {self._epoch}, refused epoch {epoch}")
        self._epoch = epoch
        first = self._first + len(self._entries)
        self._entries.extend(entries)
        self._bytes += sum(map(_size, entries))
        return first

    def read(self, first: int, limit: int) -> list[tuple[int, Entry]]:
        if first < self._first:
            raise LogTrimmed(f"offset {first} was trimmed; the log begins at {self._first}")
        skip = first - self._first
        return list(enumerate(self._entries[skip : skip + limit], start=first))

    def trim(self, before: int) -> None:
        count = min(max(before - self._first, 0), len(self._entries))
        self._bytes -= sum(map(_size, self._entries[:count]))
        del self._entries[:count]
        self._first += count

    @property
    def next_offset(self) -> int:
        return self._first + len(self._entries)

    @property
    def held_bytes(self) -> int:
        return self._bytes


def _size(entry: Entry) -> int:
    return len(entry.payload) + 64


class MemoryStore:
    """See Store. Nothing survives the process: no durability is claimed."""

    def __init__(self, first_offset: int | None = None) -> None:
        self._first_offset = first_offset
        self._logs: dict[str, MemoryLog] = {}
        self._epochs: dict[str, int] = {}
        self._snapshots: dict[str, tuple[int, int, bytes]] = {}
        self._dead: deque[DeadLetter] = deque()
        self._dead_bytes = 0
        self._records: dict[str, deque[Mapping[str, Any]]] = {}

    def log(self, share: str) -> MemoryLog:
        return self._logs.setdefault(share, MemoryLog(self._first_offset))

    def next_epoch(self, name: str) -> int:
        self._epochs[name] = self._epochs.get(name, 0) + 1
        return self._epochs[name]

    def save_snapshot(self, name: str, epoch: int, offset: int, blob: bytes) -> None:
        held = self._snapshots.get(name)
        if held is not None and epoch < held[0]:
            raise StaleEpoch(f"{name}: snapshot of epoch {epoch} refused, epoch {held[0]} wrote last")
        if held is not None and (epoch, offset) < held[:2]:
            return  # the log may be trimmed up to the newer one already
        self._snapshots[name] = (epoch, offset, blob)

    def load_snapshot(self, name: str) -> tuple[int, int, bytes] | None:
        return self._snapshots.get(name)

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self._dead.append(letter)
            self._dead_bytes += len(letter.payload)
        while len(self._dead) > MOST_RECORDS or self._dead_bytes > MOST_LETTER_BYTES:
            self._dead_bytes -= len(self._dead.popleft().payload)

    def dead_letters(self, last: int) -> list[DeadLetter]:
        return _newest(self._dead, last)

    def record(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._records.setdefault(table, deque(maxlen=MOST_RECORDS)).extend(rows)

    def records(self, table: str, last: int) -> list[Mapping[str, Any]]:
        return _newest(self._records.get(table, ()), last)


def _newest(kept: Iterable[T], last: int) -> list[T]:
    """The last ``last`` of what is kept, oldest first; none for 0."""
    return list(kept)[-last:] if last > 0 else []
