"""A router share's log in one SQLite file: a row a group, its writer's epoch checked in the same transaction."""

from __future__ import annotations

import math
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from twin_actors.store.base import Entry, LogTrimmed, StaleEpoch, StoreDamaged
from twin_actors.store.bundles import BUNDLE, count_inputs, inputs, numbers_of, span
from twin_actors.store.groups import Group, pack, unpack
from twin_actors.store.history import Resolution, Rolled
from twin_actors.store.rollups import Buckets
from twin_actors.store.sqlite.file import SqliteFile
from twin_actors.store.sqlite.files import HistoryFiles
from twin_actors.store.sqlite.schema import held_epoch, raise_epoch

T = TypeVar("T")
ADD_ROLLUP = "INSERT INTO rollups (resolution, first, since_s, until_s, buckets, file) VALUES (?, ?, ?, ?, ?, ?)"
_NO_END = 2**62
_BITS = 63
_FULL = 500
"""Entries from which on a group is taken to hold every entity: nearly all of its bits would be set."""


class SqliteLog:
    """See Log. Offsets begin at 0 and go on over restarts; nothing is forgotten before retention says so."""

    began = 0

    def __init__(self, share: str, file: SqliteFile, history: HistoryFiles, make: Callable[[], None]) -> None:
        """``make`` creates the file with the epoch that is in force."""
        self.share = share
        self._file, self._history, self._make = file, history, make
        self._trimming = threading.Lock()
        self._trimmed = 0

    # -- writing -----------------------------------------------------------------------------------------------

    def append(self, epoch: int, entries: Sequence[Entry], expected: int | None = None) -> int:
        blob = pack(entries) if entries else b""
        moments = [entry[3] for entry in entries]
        bits, count = _bits(entries), count_inputs(entries)
        if not self._file.exists:
            self._make()
        with self._file.write() as connection:
            held = held_epoch(connection, self.share)
            if epoch < held:
                raise StaleEpoch(f"log {self.share}: epoch {epoch} is refused, epoch {held} has taken over")
            first, end_bytes = _end(connection)
            if expected is not None and entries and first == expected + count:
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
                    "INSERT INTO groups (first, count, since_s, until_s, bytes_before, crc, entities, blob) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (first, count, min(moments), max(moments), end_bytes, zlib.crc32(blob), bits, blob),
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

    def read(self, first: int, limit: int, *, together: bool = False) -> list[tuple[int, Entry]]:
        stop = first + limit

        def work() -> list[tuple[int, Entry]]:
            found: list[tuple[int, Entry]] = []
            with self._file.read() as connection:
                if connection is None:
                    return found
                kept_from, sealed_to = number(connection, "kept_from"), number(connection, "sealed_to")
                if first < kept_from:
                    raise LogTrimmed(
                        f"log {self.share}: offset {first} is older than retention; the log begins at {kept_from}"
                    )
                files = _files(connection, first, stop)
                begin = max(first, sealed_to)
                for group in self._groups(connection, begin, stop, together=together):
                    if together and (group.entities == BUNDLE).any():
                        entries = [entry for _, entry in group.entries()]
                        found += span(entries, group.first, begin, stop, together=True)
                    else:
                        found += group.entries(slice(max(first - group.first, 0), stop - group.first))
            sealed = [each for file in files for each in self._history.read(file, first, stop)]
            return sealed + found

        found = self._with_files(work) if limit > 0 else []
        if found:
            last, entry = found[-1]
            whole = count_inputs(entry for _, entry in found) if together else len(found)
            if found[0][0] != first or last + inputs(entry) != first + whole:
                raise StoreDamaged(f"log {self.share}: entries are missing between offsets {first} and {last}")
        return found

    def read_of(
        self, entity: int, *, since_s: float = -math.inf, until_s: float = math.inf, first: int = 0
    ) -> list[tuple[int, Entry]]:
        def work() -> list[tuple[int, Entry]]:
            found: list[tuple[int, Entry]] = []
            with self._file.read() as connection:
                if connection is None:
                    return found
                files = _files(connection, first, _NO_END, since_s, until_s)
                start = max(first, number(connection, "sealed_to"))
                for group in self._groups(connection, start, _NO_END, since_s, until_s, 1 << entity % _BITS):
                    moments = group.received_at_s
                    chosen = (group.entities == entity) & (moments >= since_s) & (moments < until_s)
                    chosen[: max(start - group.first, 0)] = False
                    found += group.entries(np.flatnonzero(chosen))
            sealed = [each for file in files for each in self._history.read_of(file, entity, since_s, until_s, first)]
            return sealed + found

        return self._with_files(work)

    def rollup(
        self,
        entity: int,
        field: str,
        *,
        resolution: Resolution = Resolution.MINUTE,
        since_s: float = -math.inf,
        until_s: float = math.inf,
    ) -> Rolled:
        def work() -> Rolled:
            rows = self._file.rows(
                "SELECT file FROM rollups WHERE resolution = ? AND until_s > ? AND since_s < ? ORDER BY first",
                (resolution.value, since_s, until_s),
            )
            return self._history.rollup([file for (file,) in rows], entity, field, since_s, until_s)

        return self._with_files(work)

    def _with_files(self, work: Callable[[], T]) -> T:
        """Do what reads files of history; when one has gone since it was looked up, look again."""
        for _ in range(5):
            try:
                return work()
            except FileNotFoundError as error:
                gone = error
        raise StoreDamaged(f"log {self.share}: a file of its history is missing ({gone}); restore it from a backup")

    def _groups(
        self,
        connection: sqlite3.Connection,
        first: int,
        stop: int,
        since_s: float = -math.inf,
        until_s: float = math.inf,
        bit: int = -1,
        together: bool = False,
    ) -> Iterator[Group]:
        """Groups with an entry at ``first`` … ``stop`` − 1 whose times of receipt overlap [since_s, until_s).

        With ``bit`` only those that may hold the entities that it stands for.
        """
        rows = connection.execute(
            "SELECT first, count, crc, blob FROM groups "
            "WHERE first >= coalesce((SELECT max(first) FROM groups WHERE first <= ?), 0) "
            "AND first < ? AND until_s >= ? AND since_s < ? AND entities & ? != 0",
            (first, stop, since_s, until_s, bit),
        )
        for row in rows:
            if row[0] + row[1] > first:
                yield unpack_checked(self.share, *row, together=together)

    def rolled(self) -> tuple[int, Iterator[tuple[Resolution, Buckets]]]:
        with self._file.read() as connection:
            if connection is None:
                return 0, iter(())
            row = connection.execute("SELECT min(first) FROM sealed WHERE rolled = 0").fetchone()
            # what has been restored may not be sealed yet
            until = number(connection, "sealed_to") if row[0] is None else row[0]
            until = max(until, number(connection, "rolled_to"))
            files = connection.execute("SELECT resolution, file FROM rollups ORDER BY first").fetchall()
        return until, self._history.buckets([(Resolution(resolution), file) for resolution, file in files])

    def restore_rolled(self, until: int, parts: Iterable[tuple[Resolution, Buckets]]) -> None:
        rows = [self._history.add_buckets(resolution, buckets) for resolution, buckets in parts if len(buckets)]
        if not self._file.exists:
            self._make()
        with self._file.write() as connection:
            connection.executemany(ADD_ROLLUP, rows)
            set_number(connection, "rolled_to", until)

    def start_at(self, offset: int) -> None:
        if not self._file.exists:
            self._make()
        with self._file.write() as connection:
            if _end(connection)[0] or connection.execute("SELECT count(*) FROM sealed").fetchone() != (0,):
                raise ValueError(f"log {self.share} has entries already: it cannot begin at {offset}")
            for name in ("sealed_to", "kept_from", "trimmed"):
                set_number(connection, name, offset)

    @property
    def kept_from(self) -> int:
        with self._file.read() as connection:
            return number(connection, "kept_from") if connection else 0

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


def _bits(entries: Sequence[Entry]) -> int:
    """Which entities a group may hold, so that a search for one passes over most small groups unread."""
    if len(entries) >= _FULL:
        return -1
    bits = 0
    entities = {entry[0] for entry in entries}
    if BUNDLE in entities:
        entities.discard(BUNDLE)
        entities.update(*(numbers_of(entry[4]).tolist() for entry in entries if entry[0] == BUNDLE))
    for entity in entities:
        bits |= 1 << entity % _BITS
    return bits


def _end(connection: sqlite3.Connection) -> tuple[int, int]:
    """The offset that comes next, and the bytes of the groups up to there, counted from some place before."""
    row = connection.execute(
        "SELECT first + count, bytes_before + length(blob) FROM groups ORDER BY first DESC LIMIT 1"
    ).fetchone()
    return (row[0], row[1]) if row else (number(connection, "sealed_to"), 0)


def _files(
    connection: sqlite3.Connection, first: int, stop: int, since_s: float = -math.inf, until_s: float = math.inf
) -> list[str]:
    """Files of history that overlap a range of offsets and of times of receipt, in log order."""
    rows = connection.execute(
        "SELECT file FROM sealed WHERE first + count > ? AND first < ? AND until_s >= ? AND since_s < ? ORDER BY first",
        (first, stop, since_s, until_s),
    )
    return [file for (file,) in rows]


def unpack_checked(share: str, first: int, count: int, crc: int, blob: bytes, *, together: bool = False) -> Group:
    """A row of ``groups`` as a group. Raises StoreDamaged when a byte of it has changed since it was written."""
    if zlib.crc32(blob) != crc:
        raise StoreDamaged(f"log {share}: the group at offset {first} is damaged; restore it from a backup")
    group = unpack(first, blob, together=together)
    held = len(group.entities) if not together else count_inputs(entry for _, entry in group.entries())
    if held != count:
        raise StoreDamaged(f"log {share}: the group at offset {first} does not hold {count} entries")
    return group


def number(connection: sqlite3.Connection, name: str) -> int:
    """One of the log's own numbers; 0 while it has not been set."""
    row = connection.execute("SELECT number FROM numbers WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def set_number(connection: sqlite3.Connection, name: str, value: int) -> None:
    connection.execute(
        "INSERT INTO numbers (name, number) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET number = excluded.number",
        (name, value),
    )
