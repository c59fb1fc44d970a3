"""A router share's log in PostgreSQL: one fenced transaction and one COPY a group, partitions by offset."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from twin_actors.store.base import Entry, LogTrimmed, StaleEpoch, StoreDamaged
from twin_actors.store.bundles import BUNDLE, expanded
from twin_actors.store.history import Resolution, Rolled
from twin_actors.store.postgres import rolled
from twin_actors.store.postgres.fencing import insert_epoch
from twin_actors.store.postgres.session import Connection, Session
from twin_actors.store.rollups import Buckets

SEGMENT_ENTRIES = 1_000_000
"""Entries of one partition: its indexes (about 50 MB) stay in the server's memory while they are written."""

SEGMENTS_AT_ONCE = 200
"""Partitions that one statement touches: each needs locks, of which a server has some thousand by default."""

EVER = (-math.inf, math.inf)

# PostgreSQL's binary COPY format (documentation, chapter "COPY", section "Binary Format"): a header, then for each row
# the number of fields, and each field with its length before it; all of it big-endian.
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_ROW = struct.Struct("!h iq id ii ii ii ih i")
_END = b"\xff\xff"
_COPY = "COPY {} (log_offset, received_at_s, share_no, entity, source, channel, payload) FROM STDIN (FORMAT binary)"
_COLUMNS = "log_offset, entity, channel, source, received_at_s, payload"


class _Segment(NamedTuple):
    """The offsets of one partition."""

    first: int
    stop: int


class PostgresLog:
    """See Log. Offsets begin at 0 and go on over restarts."""

    def __init__(
        self, share: str, writing: Session, reading: Session, beside: Callable[[], Session], segment_entries: int
    ) -> None:
        """``beside`` makes a session for something long, which no call of others shall wait for."""
        self.share, self._beside = share, beside
        self._writing, self._reading, self._segment_entries = writing, reading, segment_entries
        self._number: int | None = None
        self._segment: _Segment | None = None
        self._trimming = threading.Lock()
        self._trimmed = 0

    # -- writing -----------------------------------------------------------------------------------------------

    def append(self, epoch: int, entries: Sequence[Entry], expected: int | None = None) -> int:
        segment: _Segment | None = None
        if any(entry[0] == BUNDLE for entry in entries):
            entries = list(expanded(entries))  # rows that an index finds by their entity

        def work(connection: Connection) -> int:
            nonlocal expected, segment
            number, first, held = self._locked(connection)
            if epoch < held:
                raise StaleEpoch(f"log {self.share}: epoch {epoch} is refused, epoch {held} has taken over")
            if expected is not None and entries and first == expected + len(entries):
                return expected
            if expected is not None and first != expected:
                raise StoreDamaged(
                    f"log {self.share} ends at offset {first} where {expected} was expected: "
                    f"another process writes it with the same epoch {epoch}"
                )
            expected = first  # should the connection be lost during the commit, the repetition asks for this
            if epoch > held:
                connection.execute("UPDATE epochs SET epoch = %s WHERE name = %s", (epoch, self.share))
            segment, offset = self._segment, first
            left = list(entries)
            while left:
                segment = self._segment_of(connection, number, offset, segment)
                group, left = left[: segment.stop - offset], left[segment.stop - offset :]
                self._write(connection, number, segment, offset, group)
                offset += len(group)
            return first

        offset = self._writing.run(work)
        self._segment = segment  # committed, therefore there for the next append too
        return offset

    def _locked(self, connection: Connection) -> tuple[int, int, int]:
        """The log's number, end and epoch, locked against other writers and successors until the transaction ends."""
        query = """
            SELECT l.share_no, l.next_offset, e.epoch FROM logs l JOIN epochs e ON e.name = l.share
            WHERE l.share = %s FOR NO KEY UPDATE OF l FOR SHARE OF e
            """
        row = connection.execute(query, (self.share,)).fetchone()
        if row is None:
            insert_epoch(connection, self.share)
            connection.execute("INSERT INTO logs (share) VALUES (%s) ON CONFLICT DO NOTHING", (self.share,))
            row = connection.execute(query, (self.share,)).fetchone()
        if row is None:
            raise StoreDamaged(f"log {self.share}: its row is gone in the middle of an append")
        return row[0], row[1], row[2]

    def _segment_of(self, connection: Connection, number: int, offset: int, known: _Segment | None) -> _Segment:
        """The partition for an offset, made now if there is none."""
        if known is not None and known.first <= offset < known.stop:
            return known
        row = connection.execute(
            "SELECT first_offset, stop_offset FROM segments "
            "WHERE share_no = %s AND first_offset <= %s AND stop_offset > %s",
            (number, offset, offset),
        ).fetchone()
        if row is not None:
            return _Segment._make(row)
        segment = _Segment(offset, offset + self._segment_entries)
        table = segment_table(number, segment.first)
        span = f"FROM ({number}, {segment.first}) TO ({number}, {segment.stop})"
        connection.execute(f"CREATE TABLE {table} (LIKE entries INCLUDING ALL)".encode())
        # attached, not created as a partition: that would wait for everybody who reads entries
        connection.execute(f"ALTER TABLE entries ATTACH PARTITION {table} FOR VALUES {span}".encode())
        connection.execute(
            "INSERT INTO segments (share_no, first_offset, stop_offset) VALUES (%s, %s, %s)", (number, *segment)
        )
        return segment

    def _write(
        self, connection: Connection, number: int, segment: _Segment, first: int, group: Sequence[Entry]
    ) -> None:
        blob = copy_blob(number, first, group)
        statement = _COPY.format(segment_table(number, segment.first)).encode()
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(blob)
        moments = [entry.received_at_s for entry in group]
        connection.execute(
            """
            WITH segment AS (
                UPDATE segments SET since_s = least(since_s, %s), until_s = greatest(until_s, %s)
                WHERE share_no = %s AND first_offset = %s
            )
            UPDATE logs SET next_offset = %s, bytes = bytes + %s WHERE share_no = %s
            """,
            (min(moments), max(moments), number, segment.first, first + len(group), len(blob), number),
        )

    def restore_rolled(self, until: int, parts: Iterable[tuple[Resolution, Buckets]]) -> None:
        for resolution, buckets in parts:
            # once only: buckets that are there already would be added to
            self._writing.run(
                lambda connection, resolution=resolution, buckets=buckets: rolled.add(  # type: ignore[misc]
                    connection, self._locked(connection)[0], buckets, resolution
                ),
                again=False,
            )

        def work(connection: Connection) -> None:
            number, _, _ = self._locked(connection)
            connection.execute(
                "UPDATE logs SET rolled_offset = greatest(rolled_offset, %s) WHERE share_no = %s", (until, number)
            )

        self._writing.run(work)

    def start_at(self, offset: int) -> None:
        def work(connection: Connection) -> None:
            number, end, _ = self._locked(connection)
            if connection.execute("SELECT FROM segments WHERE share_no = %s LIMIT 1", (number,)).rowcount or (
                end not in (0, offset)
            ):
                raise ValueError(f"log {self.share} has entries already: it cannot begin at {offset}")
            connection.execute(
                "UPDATE logs SET began_offset = %(o)s, next_offset = %(o)s, kept_offset = %(o)s, "
                "rolled_offset = %(o)s, trimmed_offset = %(o)s WHERE share_no = %(number)s",
                {"o": offset, "number": number},
            )

        self._writing.run(work)

    def trim(self, before: int) -> None:
        """Note that no recovery needs what lies before; it stays as history until retention ends it."""
        with self._trimming:
            if before <= self._trimmed:
                return

        def work(connection: Connection) -> int:
            connection.execute("SET LOCAL synchronous_commit = off")  # should it be lost, the next trim says it again
            # bytes up to an offset: in proportion, between the last such place and the end
            row = connection.execute(
                """
                UPDATE logs SET trimmed_offset = least(%(before)s, next_offset),
                    trimmed_bytes = trimmed_bytes + (bytes - trimmed_bytes)
                        * (least(%(before)s, next_offset) - trimmed_offset) / (next_offset - trimmed_offset)
                WHERE share = %(share)s AND trimmed_offset < least(%(before)s, next_offset)
                RETURNING trimmed_offset
                """,
                {"before": before, "share": self.share},
            ).fetchone()
            return int(row[0]) if row else 0

        reached = self._writing.run(work)
        with self._trimming:
            self._trimmed = max(self._trimmed, reached)

    # -- reading -----------------------------------------------------------------------------------------------

    def read(self, first: int, limit: int, *, together: bool = False) -> list[tuple[int, Entry]]:
        if limit <= 0:
            return []
        number = self._number_of()
        if number is None:
            return []
        rows = self._reading.run(partial(select_entries, number, first, first + limit, None, EVER))
        if not rows or rows[0][0] != first:
            kept = self.kept_from
            if first < kept:
                raise LogTrimmed(f"log {self.share}: offset {first} is older than retention; the log begins at {kept}")
        return rows

    def read_of(
        self, entity: int, *, since_s: float = -math.inf, until_s: float = math.inf, first: int = 0
    ) -> list[tuple[int, Entry]]:
        number = self._number_of()
        if number is None:
            return []
        segments = self._reading.run(
            lambda connection: connection.execute(
                "SELECT first_offset, stop_offset FROM segments "
                "WHERE share_no = %s AND stop_offset > %s AND until_s >= %s AND since_s < %s ORDER BY first_offset",
                (number, first, since_s, until_s),
            ).fetchall()
        )
        found: list[tuple[int, Entry]] = []
        for place in range(0, len(segments), SEGMENTS_AT_ONCE):
            begin = max(first, segments[place][0])
            stop = segments[place : place + SEGMENTS_AT_ONCE][-1][1]
            found += self._reading.run(partial(select_entries, number, begin, stop, entity, (since_s, until_s)))
        return found

    def rollup(
        self,
        entity: int,
        field: str,
        *,
        resolution: Resolution = Resolution.MINUTE,
        since_s: float = -math.inf,
        until_s: float = math.inf,
    ) -> Rolled:
        return rolled.read(self._reading, self.share, entity, field, resolution, (since_s, until_s))

    def rolled(self) -> tuple[int, Iterator[tuple[Resolution, Buckets]]]:
        found = rolled.every(self._beside(), self.share)
        until = next(found)
        return cast(int, until), cast("Iterator[tuple[Resolution, Buckets]]", found)

    def _number_of(self) -> int | None:
        if self._number is None:
            row = self._row("share_no")
            self._number = row[0] if row else None
        return self._number

    def _row(self, columns: str) -> tuple[Any, ...] | None:
        query = f"SELECT {columns} FROM logs WHERE share = %s".encode()
        return self._reading.run(lambda connection: connection.execute(query, (self.share,)).fetchone())

    @property
    def began(self) -> int:
        row = self._row("began_offset")
        return row[0] if row else 0

    @property
    def kept_from(self) -> int:
        row = self._row("kept_offset")
        return row[0] if row else 0

    @property
    def next_offset(self) -> int:
        row = self._row("next_offset")
        return row[0] if row else 0

    @property
    def held_bytes(self) -> int:
        row = self._row("bytes - trimmed_bytes")
        return row[0] if row else 0


def copy_blob(number: int, first: int, group: Sequence[Entry]) -> bytes:
    """Entries of one log, from an offset on, as PostgreSQL's binary COPY wants them."""
    pack = _ROW.pack
    parts = [_HEADER]
    for offset, (entity, channel, source, received_at_s, payload) in enumerate(group, start=first):
        parts.append(pack(7, 8, offset, 8, received_at_s, 4, number, 4, entity, 4, source, 2, channel, len(payload)))
        parts.append(payload)
    parts.append(_END)
    return b"".join(parts)


def select_entries(
    number: int,
    first: int,
    stop: int,
    entity: int | None,
    span_s: tuple[float, float],
    connection: Connection,
) -> list[tuple[int, Entry]]:
    """Entries at ``first`` … ``stop`` − 1, of one entity and received in [since, until) where one is given."""
    query = f"SELECT {_COLUMNS} FROM entries WHERE share_no = %s AND log_offset >= %s AND log_offset < %s "
    values: tuple[Any, ...] = (number, first, stop)
    if entity is None:
        query += "ORDER BY share_no, log_offset"
    else:
        # ordered by an expression, lest the planner walks through all offsets because they are in order already
        query += "AND entity = %s AND received_at_s >= %s AND received_at_s < %s ORDER BY log_offset + 0"
        values += (entity, *span_s)
    with connection.cursor(binary=True) as cursor:
        return [(row[0], Entry._make(row[1:])) for row in cursor.execute(query.encode(), values)]


def drop_some_segments(connection: Connection) -> int:
    """Drop some partitions of any logs; returns how many, 0 when there are no more."""
    rows = connection.execute(
        "SELECT share_no, first_offset FROM segments ORDER BY share_no, first_offset LIMIT %s", (SEGMENTS_AT_ONCE,)
    ).fetchall()
    for number, first in rows:
        connection.execute(f"DROP TABLE {segment_table(number, first)}".encode())
        connection.execute("DELETE FROM segments WHERE share_no = %s AND first_offset = %s", (number, first))
    return len(rows)


def segment_table(number: int, first: int) -> str:
    return f"entries_{number}_{first}"
