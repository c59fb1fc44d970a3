"""Snapshots of actors in PostgreSQL: checked when read, thinned out when written."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator

from twin_actors.store.base import Snapshot, StaleEpoch, StoreDamaged
from twin_actors.store.postgres.fencing import check_epoch
from twin_actors.store.postgres.session import Connection, Session

log = logging.getLogger(__name__)

NEWEST_KEPT = 2
HOUR_S = 3600.0
"""Beside the newest, the last snapshot of each hour of city time is kept, to rebuild a past moment from."""


def save(session: Session, name: str, snapshot: Snapshot) -> None:
    """See Store.save_snapshot. Thins out the actor's older ones on the way."""
    epoch, offset = snapshot.epoch, snapshot.offset
    crc = zlib.crc32(snapshot.blob)

    def work(connection: Connection) -> None:
        check_epoch(connection, name, epoch, lock="NO KEY UPDATE")
        newest = connection.execute(
            "SELECT log_offset, epoch FROM snapshots WHERE name = %s ORDER BY log_offset DESC LIMIT 1", (name,)
        ).fetchone()
        if newest is not None and epoch < newest[1]:
            raise StaleEpoch(f"{name}: a snapshot of epoch {epoch} is refused, epoch {newest[1]} wrote last")
        if newest is not None and offset < newest[0]:
            return  # the log may be trimmed up to the newer one already
        connection.execute(
            "INSERT INTO snapshots (name, log_offset, epoch, at_s, crc, blob) VALUES (%s, %s, %s, %s, %s, %b) "
            "ON CONFLICT (name, log_offset) DO UPDATE "
            "SET epoch = excluded.epoch, at_s = excluded.at_s, crc = excluded.crc, blob = excluded.blob",
            (name, offset, epoch, snapshot.at_s, crc, snapshot.blob),
        )
        thin(connection, name, before_s=float("-inf"))

    session.run(work)


def thin(connection: Connection, name: str, *, before_s: float) -> int:
    """Delete what is neither among the newest nor the last of its hour, or older than ``before_s``. How many."""
    held = connection.execute(
        "SELECT log_offset, at_s FROM snapshots WHERE name = %s ORDER BY log_offset DESC", (name,)
    ).fetchall()
    hours: set[float] = set()
    surplus: list[int] = []
    for place, (offset, at_s) in enumerate(held):
        hour = at_s // HOUR_S
        if place >= NEWEST_KEPT and (hour in hours or at_s < before_s):
            surplus.append(offset)
        hours.add(hour)
    if surplus:
        connection.execute("DELETE FROM snapshots WHERE name = %s AND log_offset = ANY(%s)", (name, surplus))
    return len(surplus)


def load(session: Session, name: str, at_s: float | None) -> Snapshot | None:
    """See Store.load_snapshot. A damaged one is passed over for the one before it. Raises StoreDamaged."""
    damaged = 0
    for offset in _offsets(session, name, float("inf") if at_s is None else at_s):
        snapshot, whole = _one(session, name, offset)
        if snapshot is not None and whole:
            return snapshot
        if snapshot is not None:
            damaged += 1
            log.error("the snapshot of %s at offset %d is damaged", name, offset)
    if damaged:
        raise StoreDamaged(f"no snapshot of {name} is whole; delete its rows in snapshots to replay the whole log")
    return None


def every(session: Session, name: str) -> Iterator[Snapshot]:
    """See Store.snapshots."""
    for offset in _offsets(session, name, float("inf")):
        snapshot, whole = _one(session, name, offset)
        if not whole:
            raise StoreDamaged(f"the snapshot of {name} at offset {offset} is damaged")
        if snapshot is not None:
            yield snapshot


def _offsets(session: Session, name: str, at_s: float) -> list[int]:
    query = "SELECT log_offset FROM snapshots WHERE name = %s AND at_s <= %s ORDER BY log_offset DESC"
    return session.run(lambda connection: [row[0] for row in connection.execute(query, (name, at_s))])


def _one(session: Session, name: str, offset: int) -> tuple[Snapshot | None, bool]:
    """The snapshot (None when it has been thinned out since) and whether it is as it was written."""

    def work(connection: Connection) -> tuple[Snapshot | None, bool]:
        with connection.cursor(binary=True) as cursor:
            row = cursor.execute(
                "SELECT epoch, log_offset, at_s, blob, crc FROM snapshots WHERE name = %s AND log_offset = %s",
                (name, offset),
            ).fetchone()
        if row is None:
            return None, True
        return Snapshot._make(row[:4]), zlib.crc32(row[3]) == row[4]

    return session.run(work)
