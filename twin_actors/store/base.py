"""The store's one interface: a router's log, snapshots, epochs, dead letters, records and registry of one city."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from twin_actors.store.history import Decode, Resolution, Retention, Rolled, Tidied
    from twin_actors.store.rollups import Buckets

NOBODY = -1
"""The entity number of inputs that belong to no entity of the city."""


class Entry(NamedTuple):
    """One input in log order: which entity (its number in the city), which channel, from which topic, when, what."""

    entity: int
    channel: int
    source: int
    received_at_s: float
    payload: bytes


class Snapshot(NamedTuple):
    """A full copy of an actor's state: it has applied everything up to ``offset`` of its router's log.

    ``at_s`` is the city time that the state has reached (s since the epoch); ``epoch`` wrote it.
    """

    epoch: int
    offset: int
    at_s: float
    blob: bytes


class LetterState(enum.Enum):
    """What has been done about a dead letter."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A reading that could not be used, as it came, with the reason.

    Its identity is its place in the log (``share``, ``offset``, ``element`` of the payload): added twice, it is kept
    once. ``id`` is given by the store.
    """

    topic: str
    reason: str
    detail: str
    payload: bytes
    received_at_s: float
    share: str = ""
    offset: int = -1
    element: int = 0
    state: LetterState = LetterState.WAITING
    id: int = 0

    @classmethod
    def of_row(
        cls, topic: str, reason: str, detail: str, payload: bytes, received_at_s: float, share: str, *place: Any
    ) -> DeadLetter:
        """As engines keep it; ``place`` is offset, element, state and id."""
        offset, element, state, number = place
        return cls(
            topic=topic,
            reason=reason,
            detail=detail,
            payload=payload,
            received_at_s=received_at_s,
            share=share,
            offset=offset,
            element=element,
            state=LetterState(state),
            id=number,
        )


class StaleEpoch(Exception):
    """A writer of a lower epoch tried to write: a newer incarnation has taken over and this one must stop."""


class LogTrimmed(Exception):
    """The log no longer holds what was asked for; a snapshot at or behind the oldest offset is needed."""


class StoreUnavailable(Exception):
    """The store cannot be written or read now (disk full, server away, locked); what was asked may be tried again.

    Nothing of a failed append is in the log, or all of it is: see ``Log.append``.
    """


class StoreDamaged(Exception):
    """The store was found inconsistent, or it is of a schema that this version does not know."""


class Log(Protocol):
    """An append-only record of inputs; offsets rise by one an entry and never repeat, also over restarts.

    One writer at a time, fenced by its epoch; any number of readers in other processes.
    """

    def append(self, epoch: int, entries: Sequence[Entry], expected: int | None = None) -> int:
        """Commit entries durably as one group and return the offset of the first.

        An entry that is a bundle (see ``bundles``) takes as many offsets as it holds readings, and is read as so many
        entries. The epoch of the log's share (see ``Store.next_epoch``) is checked in the same transaction. After an
        append whose outcome is not known (StoreUnavailable) the writer repeats it with ``expected``, the offset that
        its first entry was to have; when the log ends already where ``entries`` would end, the group was
        committed and nothing is written again. Raises StaleEpoch, StoreUnavailable; StoreDamaged when the log ends
        anywhere else, since then another process writes it with the same epoch.
        """

    def read(self, first: int, limit: int, *, together: bool = False) -> list[tuple[int, Entry]]:
        """The entries of ``limit`` offsets from ``first`` on. Raises LogTrimmed, StoreUnavailable.

        With ``together`` a bundle that lies wholly within may come as one entry, with the offset of its first reading.
        """

    def read_of(
        self, entity: int, *, since_s: float = ..., until_s: float = ..., first: int = 0
    ) -> list[tuple[int, Entry]]:
        """Entries of one entity, in log order, received in [since_s, until_s) and at offset ``first`` or later."""

    def trim(self, before: int) -> None:
        """No recovery needs what lies before an offset (all of it is in snapshots).

        The memory engine forgets it; durable engines may move it to history, and keep it as long as retention says.
        """

    def rollup(
        self,
        entity: int,
        field: str,
        *,
        resolution: Resolution = ...,
        since_s: float = ...,
        until_s: float = ...,
    ) -> Rolled:
        """Rolled-up history (see ``Store.tidy``) of one entity's field row: buckets that begin in [since_s, until_s).

        What has not been rolled up yet is not in it. Minutes unless said otherwise.
        """

    def rolled(self) -> tuple[int, Iterator[tuple[Resolution, Buckets]]]:
        """All rolled-up history, and the offset up to which the log is in it: for backups.

        Raises StoreUnavailable while the log is being tidied.
        """

    def restore_rolled(self, until: int, parts: Iterable[tuple[Resolution, Buckets]]) -> None:
        """Take over rolled-up history of entries before ``until``, which are not rolled up again: for restores.

        Called once, before those entries are appended, each append ending at ``until`` or beginning there or later.
        """

    def start_at(self, offset: int) -> None:
        """Let a log that never had an entry begin at an offset: for restores. Raises ValueError when it had one."""

    @property
    def kept_from(self) -> int:
        """The offset of the oldest entry that can still be read; ``next_offset`` when there is none."""

    @property
    def began(self) -> int:
        """The offset of the first entry there ever was, or will be."""

    @property
    def next_offset(self) -> int: ...

    @property
    def held_bytes(self) -> int:
        """About how much a recovery without any snapshot would have to read."""


class Store(Protocol):
    """Everything that one city keeps. Engines are chosen by URL with ``open_store``; calls are thread-safe."""

    @property
    def durable(self) -> bool:
        """Whether what was written outlives this process."""

    def log(self, share: str) -> Log: ...

    def next_epoch(self, name: str) -> int:
        """Raise the epoch of ``name`` by one and return it (compare-and-set): all before it are stale from now on."""

    def epoch(self, name: str) -> int:
        """The epoch in force; 0 when there has been none."""

    def save_snapshot(self, name: str, epoch: int, offset: int, blob: bytes, at_s: float = 0.0) -> None:
        """Keep it beside older ones; one of a lower offset than the newest changes nothing. Raises StaleEpoch."""

    def load_snapshot(self, name: str, *, at_s: float | None = None) -> Snapshot | None:
        """The newest snapshot of an actor, or the newest whose ``at_s`` is not after a moment."""

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None: ...

    def dead_letters(self, last: int, *, state: LetterState | None = None, reason: str = "") -> list[DeadLetter]:
        """The newest, oldest first; of one state or reason where given."""

    def dead_letter(self, number: int) -> DeadLetter:
        """One by its id. Raises KeyError."""

    def settle_dead_letter(self, number: int, state: LetterState) -> None:
        """Note what was done about it. Raises KeyError."""

    def record(self, table: str, rows: Sequence[Mapping[str, Any]], *, writer: str = "", epoch: int = 0) -> None:
        """Keep plain JSON-able records: decisions, allocations, commands, emergencies, alerts.

        A row with an ``id`` replaces the earlier row of the same table and id. With ``writer`` the epoch is checked in
        the same transaction. Raises StaleEpoch, StoreUnavailable.
        """

    def records(self, table: str, last: int) -> list[Mapping[str, Any]]:
        """The newest rows, oldest first."""

    def put(self, key: str, value: bytes) -> None:
        """Registry: keep a value under a key, in place of an older one."""

    def get(self, key: str) -> bytes | None: ...

    def keys(self, prefix: str = "") -> list[str]: ...

    def tidy(self, now_s: float, retention: Retention, decode: Decode | None = None) -> Tidied:
        """Move what was trimmed into history, roll it up, and delete what is older than retention says.

        ``now_s`` is city time. Without ``decode`` nothing is rolled up now (a later call does it while raw readings
        last). May take minutes: call it from a process of its own, never from a router's. Two calls at once are
        harmless: the second one does nothing.
        """

    # What backups, restores and checks need beside the above.

    def shares(self) -> list[str]:
        """The logs that there are."""

    def epochs(self) -> dict[str, int]:
        """Every epoch in force, by name."""

    def raise_epoch(self, name: str, epoch: int) -> None:
        """Put an epoch in force unless a higher one is: for restores."""

    def snapshot_names(self) -> list[str]:
        """Whose snapshots there are."""

    def snapshots(self, name: str) -> Iterator[Snapshot]:
        """Every snapshot of one actor, newest first, read one by one. Raises StoreDamaged at one that is."""

    def tables(self) -> list[str]:
        """The tables of records that there are."""

    def erase(self) -> None:
        """Delete everything. Nobody may be using it."""

    def close(self) -> None: ...
