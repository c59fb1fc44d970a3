"""A router share's log in one SQLite file: a row a group, its writer's epoch checked in the same transaction."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from twin_actors.store.base import Entry, StaleEpoch, StoreDamaged
from twin_actors.store.groups import Group, pack, unpack
from twin_actors.store.sqlite.file import SqliteFile
from twin_actors.store.sqlite.schema import held_epoch, raise_epoch


class SqliteLog:
    """See Log. Offsets begin at 0 and go on over restarts; nothing is forgotten before retention says so."""

    began = 0

    def __init__(self, share: str, file: SqliteFile, make: Callable[[], None]) -> None:
        """``make`` creates the file with the epoch that is in force."""
        self.share = share
        self._file, self._make = file, make
        self._trimming = threading.Lock()
        self._trimmed = 0

    # -- writing -----------------------------------------------------------------------------------------------

    def append(self, epoch: int, entries: Sequence[Entry], expected: int | None = None) -> int:
        blob = pack(entries) if entries else b""
        moments = [entry[3] for entry in entries]
        if not self._file.exists:
            self._make()
        with self._file.write() as connection:
            held = held_epoch(connection, self.share)
            if epoch < held:
                raise StaleEpoch(f"log {self.share}: epoch {epoch} is refused, epoch {held} has taken over")
            first, end_bytes = _end(connection)
            if expected is not None and entries and first == expected + len(entries):
                return expected
            if expected is not None and first != expected:
                raise StoreDamaged(
                    f"log {self.share} ends at offset {first} where {expected} was expected: "
                    f"another process writes it with the same epoch {epoch}"
                )
            if epoch > held:
                raise_epoch(connection, self.share, epoch)
            if entries:
                connection.execute(
                    "INSERT INTO groups (first, count, since_s, until_s, bytes_before, blob) VALUES (?, ?, ?, ?, ?, ?)",
                    (first, len(entries), min(moments), max(moments), end_bytes, blob),
                )
        return first

    def trim(self, before: int) -> None:
        """Note that no recovery needs what lies before; it stays as history until retention ends it."""
        with self._trimming:
            if before <= self._trimmed or not self._file.exists:
                return
            # should it be lost in a power failure, the next trim says it again
            with self._file.write(synced=False) as connection:
                before = min(before, _end(connection)[0])
                set_number(connection, "trimmed", max(before, number(connection, "trimmed")))
            self._trimmed = max(self._trimmed, before)

    # -- reading -----------------------------------------------------------------------------------------------

    def read(self, first: int, limit: int) -> list[tuple[int, Entry]]:
        found: list[tuple[int, Entry]] = []
        if limit <= 0:
            return found
        stop = first + limit
        with self._file.read() as connection:
            for group in self._groups(connection, first, stop):
                found += group.entries(slice(max(first - group.first, 0), stop - group.first))
        return found

    def read_of(
        self, entity: int, *, since_s: float = -math.inf, until_s: float = math.inf, first: int = 0
    ) -> list[tuple[int, Entry]]:
        found: list[tuple[int, Entry]] = []
        with self._file.read() as connection:
            for group in self._groups(connection, first, None, since_s, until_s):
                moments = group.received_at_s
                chosen = (group.entities == entity) & (moments >= since_s) & (moments < until_s)
                chosen[: max(first - group.first, 0)] = False
                found += group.entries(np.flatnonzero(chosen))
        return found

    def _groups(
        self,
        connection: sqlite3.Connection | None,
        first: int,
        stop: int | None,
        since_s: float = -math.inf,
        until_s: float = math.inf,
    ) -> Iterator[Group]:
        """Groups with an entry at ``first`` … ``stop`` − 1 whose times of receipt overlap [since_s, until_s)."""
        if connection is None:
            return
        rows = connection.execute(
            "SELECT first, count, blob FROM groups "
            "WHERE first >= coalesce((SELECT max(first) FROM groups WHERE first <= ?), 0) "
            "AND first < ? AND until_s >= ? AND since_s < ?",
            (first, 2**62 if stop is None else stop, since_s, until_s),
        )
        for begins, count, blob in rows:
            if begins + count > first:
                group = unpack(begins, blob)
                if len(group.entities) != count:
                    raise StoreDamaged(f"log {self.share}: the group at offset {begins} does not hold {count} entries")
                yield group

    @property
    def next_offset(self) -> int:
        with self._file.read() as connection:
            return _end(connection)[0] if connection else 0

    @property
    def held_bytes(self) -> int:
        with self._file.read() as connection:
            if connection is None:
                return 0
            row = connection.execute(
                "SELECT bytes_before FROM groups WHERE first >= ? ORDER BY first LIMIT 1",
                (number(connection, "trimmed"),),
            ).fetchone()
            return _end(connection)[1] - row[0] if row else 0


def _end(connection: sqlite3.Connection) -> tuple[int, int]:
    """The offset that comes next, and the bytes of all groups there ever were."""
    row = connection.execute(
        "SELECT first + count, bytes_before + length(blob) FROM groups ORDER BY first DESC LIMIT 1"
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def number(connection: sqlite3.Connection, name: str) -> int:
    """One of the log's own numbers; 0 while it has not been set."""
    row = connection.execute("SELECT number FROM numbers WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def set_number(connection: sqlite3.Connection, name: str, value: int) -> None:
    connection.execute(
        "INSERT INTO numbers (name, number) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET number = excluded.number",
        (name, value),
    )
