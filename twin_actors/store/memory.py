"""The in-memory engine: one process holds everything, bounded, and it ends with that process."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from twin_actors.store.base import DeadLetter, Entry, LetterState, LogTrimmed, Snapshot, StaleEpoch, StoreDamaged
from twin_actors.store.bundles import count_inputs, expanded, span
from twin_actors.store.history import Decode, Resolution, Retention, Rolled, Tidied
from twin_actors.store.rollups import Buckets, roll

T = TypeVar("T")

MOST_LETTER_BYTES = 64_000_000
KEPT = 2
"""Snapshots kept of each actor: the newest, and the one before it."""
MOST_RECORDS = 10_000
"""Records and dead letters kept of each sort; older ones are forgotten (their counters are not)."""


class MemoryLog:
    """Entries of one router share, held until they are trimmed behind the snapshots."""

    def __init__(self, share: str = "", epochs: dict[str, int] | None = None, first: int | None = None) -> None:
        self._share, self._epochs = share, {} if epochs is None else epochs
        self._groups: list[Sequence[Entry]] = []  # as they were appended, with the offset of the first of each
        self._firsts: list[int] = []
        # A log that dies with its process must not repeat the offsets of the one before it, which twins remember:
        # microseconds since the epoch are ahead of any count of inputs that an earlier life can have reached.
        self.began = self._first = self._next = time.time_ns() // 1000 if first is None else first
        self._bytes = 0

    def append(self, epoch: int, entries: Sequence[Entry], expected: int | None = None) -> int:
        held = self._epochs.get(self._share, 0)
        if epoch < held:
            raise StaleEpoch(f"log {self._share}: epoch {epoch} is refused, epoch {held} has taken over")
        self._epochs[self._share] = epoch
        first = self._next
        if expected is not None and first == expected + count_inputs(entries):
            return expected
        if expected is not None and first != expected:
            raise StoreDamaged(f"log {self._share} ends at offset {first} where {expected} was expected")
        if entries:
            self._groups.append(tuple(entries))
            self._firsts.append(first)
            self._next += count_inputs(entries)
            self._bytes += sum(map(_size, entries))
        return first

    def read(self, first: int, limit: int, *, together: bool = False) -> list[tuple[int, Entry]]:
        if first < self._first:
            raise LogTrimmed(f"offset {first} was trimmed; the log begins at {self._first}")
        found: list[tuple[int, Entry]] = []
        stop = min(first + limit, self._next)
        for place in range(self._place(first), len(self._groups)):
            at = self._firsts[place]
            if at >= stop:
                break
            found += span(self._groups[place], at, first, stop, together=together)
        return found

    def _place(self, offset: int) -> int:
        """The group that holds an offset; the first one for an offset before all."""
        return max(bisect_right(self._firsts, offset) - 1, 0)

    def read_of(
        self, entity: int, *, since_s: float = -math.inf, until_s: float = math.inf, first: int = 0
    ) -> list[tuple[int, Entry]]:
        return [
            (offset, entry)
            for at, group in zip(self._firsts, self._groups, strict=True)
            for offset, entry in enumerate(expanded(group), start=at)
            if entry.entity == entity and offset >= max(first, self._first) and since_s <= entry.received_at_s < until_s
        ]

    def trim(self, before: int) -> None:
        before = min(before, self._next)
        if before <= self._first:
            return
        place = self._place(before) if before < self._next else len(self._groups)
        for group in self._groups[:place]:
            self._bytes -= sum(map(_size, group))
        del self._groups[:place], self._firsts[:place]
        self._first = before
        if self._groups and before > self._firsts[0]:
            left = tuple(entry for _, entry in span(self._groups[0], self._firsts[0], before, self._next))
            self._bytes += sum(map(_size, left)) - sum(map(_size, self._groups[0]))
            self._groups[0], self._firsts[0] = left, before

    def rollup(
        self,
        entity: int,
        field: str,
        *,
        resolution: Resolution = Resolution.MINUTE,
        since_s: float = -math.inf,
        until_s: float = math.inf,
    ) -> Rolled:
        return roll([], resolution).of(entity, field)  # this engine keeps no history

    def rolled(self) -> tuple[int, Iterator[tuple[Resolution, Buckets]]]:
        return 0, iter(())

    def restore_rolled(self, until: int, parts: Iterable[tuple[Resolution, Buckets]]) -> None:
        """It would keep none."""

    def start_at(self, offset: int) -> None:
        if self._groups or self._first != self.began:
            raise ValueError(f"log {self._share} has entries already: it cannot begin at {offset}")
        self.began = self._first = self._next = offset

    @property
    def kept_from(self) -> int:
        return self._first

    @property
    def next_offset(self) -> int:
        return self._next

    @property
    def held_bytes(self) -> int:
        return self._bytes


def _size(entry: Entry) -> int:
    return len(entry.payload) + 64


class MemoryStore:
    """See Store. Nothing survives the process: no durability is claimed."""

    durable = False

    def __init__(self, first_offset: int | None = None) -> None:
        self._first_offset = first_offset
        self._logs: dict[str, MemoryLog] = {}
        self._epochs: dict[str, int] = {}
        self._snapshots: dict[str, list[Snapshot]] = {}  # newest last
        self._letters: OrderedDict[int, DeadLetter] = OrderedDict()
        self._letter_places: dict[tuple[str, int, int], int] = {}
        self._letter_bytes = self._letters_made = 0
        self._records: dict[str, OrderedDict[str | bytes | int, Mapping[str, Any]]] = {}
        self._rows_made = 0
        self._registry: dict[str, bytes] = {}

    def log(self, share: str) -> MemoryLog:
        return self._logs.setdefault(share, MemoryLog(share, self._epochs, self._first_offset))

    # -- epochs and snapshots ----------------------------------------------------------------------------------

    def next_epoch(self, name: str) -> int:
        self._epochs[name] = self.epoch(name) + 1
        return self._epochs[name]

    def epoch(self, name: str) -> int:
        return self._epochs.get(name, 0)

    def _check(self, name: str, epoch: int) -> None:
        if epoch < self.epoch(name):
            raise StaleEpoch(f"{name}: epoch {epoch} is refused, epoch {self.epoch(name)} has taken over")

    def save_snapshot(self, name: str, epoch: int, offset: int, blob: bytes, at_s: float = 0.0) -> None:
        self._check(name, epoch)
        kept = self._snapshots.setdefault(name, [])
        if kept and epoch < kept[-1].epoch:
            raise StaleEpoch(f"{name}: snapshot of epoch {epoch} refused, epoch {kept[-1].epoch} wrote last")
        if kept and offset < kept[-1].offset:
            return  # the log may be trimmed up to the newer one already
        kept[:] = [*(each for each in kept if each.offset != offset), Snapshot(epoch, offset, at_s, blob)][-KEPT:]

    def load_snapshot(self, name: str, *, at_s: float | None = None) -> Snapshot | None:
        return next((each for each in self.snapshots(name) if at_s is None or each.at_s <= at_s), None)

    # -- dead letters ------------------------------------------------------------------------------------------

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            place = letter.share, letter.offset, letter.element
            if letter.offset >= 0 and place in self._letter_places:
                continue
            self._letters_made += 1
            self._letters[self._letters_made] = replace(letter, id=self._letters_made)
            self._letter_places[place] = self._letters_made
            self._letter_bytes += len(letter.payload)
        while len(self._letters) > MOST_RECORDS or self._letter_bytes > MOST_LETTER_BYTES:
            _, oldest = self._letters.popitem(last=False)
            self._letter_places.pop((oldest.share, oldest.offset, oldest.element), None)
            self._letter_bytes -= len(oldest.payload)

    def dead_letters(self, last: int, *, state: LetterState | None = None, reason: str = "") -> list[DeadLetter]:
        return _newest(
            (
                letter
                for letter in self._letters.values()
                if (state is None or letter.state is state) and reason in ("", letter.reason)
            ),
            last,
        )

    def dead_letter(self, number: int) -> DeadLetter:
        if number not in self._letters:
            raise KeyError(f"no dead letter {number}; the newest is {self._letters_made}")
        return self._letters[number]

    def settle_dead_letter(self, number: int, state: LetterState) -> None:
        self._letters[number] = replace(self.dead_letter(number), state=state)

    # -- records and registry ----------------------------------------------------------------------------------

    def record(self, table: str, rows: Sequence[Mapping[str, Any]], *, writer: str = "", epoch: int = 0) -> None:
        if writer:
            self._check(writer, epoch)
        kept = self._records.setdefault(table, OrderedDict())
        for row in rows:
            self._rows_made += 1
            kept[_key(row["id"]) if "id" in row else self._rows_made] = row
            if len(kept) > MOST_RECORDS:
                kept.popitem(last=False)

    def records(self, table: str, last: int) -> list[Mapping[str, Any]]:
        return _newest(self._records.get(table, {}).values(), last)

    def put(self, key: str, value: bytes) -> None:
        self._registry[key] = value

    def get(self, key: str) -> bytes | None:
        return self._registry.get(key)

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self._registry if key.startswith(prefix))

    # -- for backups and checks --------------------------------------------------------------------------------

    def tidy(self, now_s: float, retention: Retention, decode: Decode | None = None) -> Tidied:
        return Tidied(note="the memory engine keeps no history: it forgets what is trimmed")

    def shares(self) -> list[str]:
        return sorted(self._logs)

    def epochs(self) -> dict[str, int]:
        return dict(self._epochs)

    def raise_epoch(self, name: str, epoch: int) -> None:
        self._epochs[name] = max(epoch, self.epoch(name))

    def snapshot_names(self) -> list[str]:
        return sorted(self._snapshots)

    def snapshots(self, name: str) -> Iterator[Snapshot]:
        yield from reversed(self._snapshots.get(name, []))

    def tables(self) -> list[str]:
        return sorted(self._records)

    def erase(self) -> None:
        self.__init__(self._first_offset)  # type: ignore[misc]  # as new

    def close(self) -> None:
        """Nothing to let go of."""


def _key(identity: Any) -> str | bytes:
    """What tells the rows of a table apart: their id, which may be any plain value."""
    return identity if isinstance(identity, str) else msgspec.json.encode(identity)


def _newest(kept: Iterable[T], last: int) -> list[T]:
    """The last ``last`` of what is kept, oldest first; none for 0."""
    return list(kept)[-last:] if last > 0 else []
