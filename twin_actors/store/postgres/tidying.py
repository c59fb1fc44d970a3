"""Housekeeping of one city's schema: rolling trimmed entries up, and ending what is older than retention says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from twin_actors.store.base import StoreUnavailable
from twin_actors.store.history import Decode, Resolution, Retention, Tidied
from twin_actors.store.postgres import rolled
from twin_actors.store.postgres.log import EVER, segment_table, select_entries
from twin_actors.store.postgres.session import Connection, Session
from twin_actors.store.postgres.snapshots import thin
from twin_actors.store.rollups import coarser, roll

ROLLED_AT_ONCE = 20_000
DELETED_AT_ONCE = 50_000
LATE = 0.05
"""A partition is dropped as a whole unless it reaches over more than this part of the retention; then, so that
nothing stays much longer than it may, its oldest entries are deleted one by one."""


class Tidying:
    """One tidying, over a connection of its own, in many short transactions: no append waits for it."""

    def __init__(self, session: Session, now_s: float, retention: Retention, decode: Decode | None) -> None:
        self._session, self._now_s, self._retention, self._decode = session, now_s, retention, decode
        self._raw_before_s = now_s - retention.raw_s

    def all(self, shares: Sequence[str]) -> Tidied:
        """Tidy every share, then what belongs to none. The second of two at once does nothing."""
        done = Tidied()
        if not self._session.run(_alone):
            done.note = "another process is tidying this city"
            return done
        for share in shares:
            if self._decode is not None:
                done.rolled_entries += self._until_none(self._roll, share, self._decode)
            done.forgotten_entries += self._until_none(self._drop_oldest, share)
            done.forgotten_entries += self._until_none(self._delete_oldest, share)
        for resolution, kept_s in (
            (Resolution.MINUTE, self._retention.minute_s),
            (Resolution.HOUR, self._retention.hour_s),
        ):
            before_s = math.floor(self._now_s - kept_s) - resolution.width_s
            done.forgotten_rollups += self._delete(
                "rollups", "width_s = %s AND at_s <= %s", resolution.width_s, before_s
            )
        for name in self._session.run(_names):
            done.forgotten_snapshots += self._session.run(partial(thin, name=name, before_s=self._raw_before_s))
        done.forgotten_letters += self._delete(
            "dead_letters", "received_at_s < %s", self._now_s - self._retention.minute_s
        )
        # records carry no city time that all of them would share: their age is that of their writing
        done.forgotten_records += self._delete(
            "records", "written_at < now() - make_interval(secs => %s)", self._retention.hour_s
        )
        return done

    def _until_none(self, step: Callable[..., int], *values: Any) -> int:
        """Repeat one transaction until it finds nothing more to do. Returns the sum of what they did."""
        total = 0
        while done := self._session.run(lambda connection: step(connection, *values)):
            total += done
        return total

    def _delete(self, table: str, condition: str, *values: Any) -> int:
        statement = (
            f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("
            f"SELECT ctid FROM {table} WHERE {condition} LIMIT {DELETED_AT_ONCE}))"
        ).encode()
        return self._until_none(lambda connection: connection.execute(statement, values).rowcount)

    # -- rolling up --------------------------------------------------------------------------------------------

    def _roll(self, connection: Connection, share: str, decode: Decode) -> int:
        """Roll up the next entries that were trimmed."""
        row = connection.execute(
            "SELECT share_no, rolled_offset, greatest(rolled_offset, kept_offset), trimmed_offset "
            "FROM logs WHERE share = %s",
            (share,),
        ).fetchone()
        if row is None or row[2] >= row[3]:
            return 0
        number, before, first, trimmed = row
        stop = min(trimmed, first + ROLLED_AT_ONCE)
        entries = select_entries(number, first, stop, None, EVER, connection)
        minutes = roll(decode(entries), Resolution.MINUTE)
        rolled.add(connection, number, minutes, Resolution.MINUTE)
        rolled.add(connection, number, coarser(minutes, Resolution.HOUR), Resolution.HOUR)
        moved = connection.execute(
            "UPDATE logs SET rolled_offset = %s WHERE share_no = %s AND rolled_offset = %s", (stop, number, before)
        )
        if not moved.rowcount:
            raise StoreUnavailable(f"log {share}: another process rolls up the same entries; tidy again later")
        return len(entries)

    # -- forgetting --------------------------------------------------------------------------------------------

    def _drop_oldest(self, connection: Connection, share: str) -> int:
        """Drop the oldest partition if it is full, all in it is old enough, and no recovery needs it."""
        oldest = _oldest(connection, share)
        if oldest is None or oldest.until_s >= self._raw_before_s or oldest.stop > oldest.trimmed:
            return 0
        # rather not now than to have others queue behind this statement
        connection.execute("SET LOCAL lock_timeout = '2s'")
        connection.execute(f"DROP TABLE {segment_table(oldest.number, oldest.first)}".encode())
        connection.execute(
            "DELETE FROM segments WHERE share_no = %s AND first_offset = %s", (oldest.number, oldest.first)
        )
        connection.execute("UPDATE logs SET kept_offset = %s WHERE share_no = %s", (oldest.stop, oldest.number))
        # one that has nothing left counts too, or the next would not be looked at
        return max(oldest.stop - max(oldest.kept, oldest.first), 1)

    def _delete_oldest(self, connection: Connection, share: str) -> int:
        """Delete entries at the beginning of a partition that reaches over a long time."""
        oldest = _oldest(connection, share)
        if oldest is None or oldest.until_s - oldest.since_s <= LATE * self._retention.raw_s:
            return 0
        start = max(oldest.kept, oldest.first)
        stop = min(oldest.trimmed, oldest.stop, start + DELETED_AT_ONCE)
        span = (oldest.number, start, stop)
        where = "share_no = %s AND log_offset >= %s AND log_offset < %s"
        row = connection.execute(
            f"SELECT min(log_offset) FROM entries WHERE {where} AND received_at_s >= %s".encode(),
            (*span, self._raw_before_s),
        ).fetchone()
        young = stop if row is None or row[0] is None else row[0]
        if young <= start:
            return 0
        connection.execute(f"DELETE FROM entries WHERE {where}".encode(), (oldest.number, start, young))
        connection.execute("UPDATE logs SET kept_offset = %s WHERE share_no = %s", (young, oldest.number))
        return int(young - start)


class _Oldest(NamedTuple):
    """A log's oldest partition, and how far the log is kept and trimmed."""

    number: int
    kept: int
    trimmed: int
    first: int
    stop: int
    since_s: float
    until_s: float


def _oldest(connection: Connection, share: str) -> _Oldest | None:
    row = connection.execute(
        "SELECT share_no, kept_offset, trimmed_offset, first_offset, stop_offset, since_s, until_s "
        "FROM logs JOIN segments USING (share_no) WHERE share = %s ORDER BY first_offset LIMIT 1",
        (share,),
    ).fetchone()
    return None if row is None else _Oldest._make(row)


def _names(connection: Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT DISTINCT name FROM snapshots")]


def _alone(connection: Connection) -> bool:
    """Take the lock that this connection holds until it ends; False when another has it."""
    row = connection.execute(
        "SELECT pg_try_advisory_lock(hashtextextended('twin-actors tidying ' || current_schema(), 0))"
    ).fetchone()
    return bool(row and row[0])
