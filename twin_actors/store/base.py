"""The store's one interface: a router's log, snapshots, epochs, dead letters, decisions and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Entry(NamedTuple):
    """One input in log order: which entity (its number in the city), which channel, from which topic, when, what."""

    entity: int
    channel: int
    source: int
    received_at_s: float
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A reading that could not be used, as it came, with the reason."""

    topic: str
    reason: str
    detail: str
    payload: bytes
    received_at_s: float


class StaleEpoch(Exception):
    """A writer of a lower epoch tried to write: a newer incarnation has taken over and this one must stop."""


class LogTrimmed(Exception):
    """The log no longer holds what was asked for; a snapshot at or behind the oldest offset is needed."""


class Log(Protocol):
    """An append-only record of inputs; offsets rise by one an entry and never repeat, also over restarts."""

    def append(self, epoch: int, entries: Sequence[Entry]) -> int:
        """Commit entries as one group and return the offset of the first. Raises StaleEpoch."""

    def read(self, first: int, limit: int) -> list[tuple[int, Entry]]:
        """Up to ``limit`` entries from offset ``first`` on. Raises LogTrimmed."""

    def trim(self, before: int) -> None:
        """Forget what lies before an offset (all of it is in snapshots)."""

    @property
    def began(self) -> int:
        """The offset of the first entry there ever was, or will be."""

    @property
    def next_offset(self) -> int: ...

    @property
    def held_bytes(self) -> int: ...


class Store(Protocol):
    """Everything a city keeps. Engines are chosen by URL with ``open_store``."""

    def log(self, share: str) -> Log: ...

    def next_epoch(self, name: str) -> int:
        """Raise the epoch of ``name`` by one and return it (compare-and-set)."""

    def save_snapshot(self, name: str, epoch: int, offset: int, blob: bytes) -> None:
        """Keep it in place of an older one; one of a lower offset changes nothing. Raises StaleEpoch."""

    def load_snapshot(self, name: str) -> tuple[int, int, bytes] | None:
        """The newest (epoch, offset, blob) of an actor."""

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None: ...

    def dead_letters(self, last: int) -> list[DeadLetter]: ...

    def record(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep plain records: decisions, allocations, commands, emergencies."""

    def records(self, table: str, last: int) -> list[Mapping[str, Any]]: ...
