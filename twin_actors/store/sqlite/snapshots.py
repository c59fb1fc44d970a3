"""Snapshots in a file of their own, so that tens of megabytes of one actor never hold up a log's commits."""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Iterator

from twin_actors.store.base import Snapshot, StaleEpoch, StoreDamaged
from twin_actors.store.sqlite.file import SqliteFile
from twin_actors.store.sqlite.schema import held_epoch

log = logging.getLogger(__name__)

NEWEST_KEPT = 2
HOUR_S = 3600.0
"""Beside the newest, the last snapshot of each hour of city time is kept, to rebuild a past moment from."""


def save(file: SqliteFile, name: str, snapshot: Snapshot) -> None:
    """See Store.save_snapshot. Thins out the actor's older ones on the way."""
    epoch, crc = snapshot.epoch, zlib.crc32(snapshot.blob)
    with file.write() as connection:
        held = held_epoch(connection, name)
        if epoch < held:
            raise StaleEpoch(f"{name}: epoch {epoch} is refused, epoch {held} has taken over")
        newest = connection.execute(
            "SELECT log_offset, epoch FROM snapshots WHERE name = ? ORDER BY log_offset DESC, epoch DESC LIMIT 1",
            (name,),
        ).fetchone()
        if newest is not None and epoch < newest[1]:
            raise StaleEpoch(f"{name}: a snapshot of epoch {epoch} is refused, epoch {newest[1]} wrote last")
        if newest is not None and snapshot.offset < newest[0]:
            return  # the log may be trimmed up to the newer one already
        connection.execute("DELETE FROM snapshots WHERE name = ? AND log_offset = ?", (name, snapshot.offset))
        row = connection.execute(
            "INSERT INTO snapshots (name, log_offset, epoch, at_s, crc, blob) VALUES (?, ?, ?, ?, ?, zeroblob(?))",
            (name, snapshot.offset, epoch, snapshot.at_s, crc, len(snapshot.blob)),
        ).lastrowid
        if snapshot.blob:  # as a value of the statement a copy of it would stay with the connection
            with connection.blobopen("snapshots", "blob", row or 0) as place:
                place.write(snapshot.blob)
        thin(connection, name, before_s=float("-inf"))


def thin(connection: sqlite3.Connection, name: str, *, before_s: float) -> int:
    """Delete what is neither among the newest nor the last of its hour, or older than ``before_s``. How many."""
    held = connection.execute(
        "SELECT id, at_s FROM snapshots WHERE name = ? ORDER BY log_offset DESC", (name,)
    ).fetchall()
    hours: set[float] = set()
    surplus: list[tuple[int]] = []
    for place, (number, at_s) in enumerate(held):
        hour = at_s // HOUR_S
        if place >= NEWEST_KEPT and (hour in hours or at_s < before_s):
            surplus.append((number,))
        hours.add(hour)
    connection.executemany("DELETE FROM snapshots WHERE id = ?", surplus)
    return len(surplus)


def load(file: SqliteFile, name: str, at_s: float | None) -> Snapshot | None:
    """See Store.load_snapshot. A damaged one is passed over for the one before it. Raises StoreDamaged."""
    with file.read() as connection:
        if connection is None:
            return None
        rows = connection.execute(
            "SELECT epoch, log_offset, at_s, blob, crc FROM snapshots WHERE name = ? AND at_s <= ? "
            "ORDER BY log_offset DESC",
            (name, float("inf") if at_s is None else at_s),
        )
        damaged = 0
        for *columns, crc in rows:
            snapshot = Snapshot._make(columns)
            if zlib.crc32(snapshot.blob) == crc:
                return snapshot
            damaged += 1
            log.error("%s: the snapshot of %s at offset %d is damaged", file.path, name, snapshot.offset)
    if damaged:
        raise StoreDamaged(f"{file.path}: no snapshot of {name} is whole; restore a backup")
    return None


def all_of(file: SqliteFile, name: str) -> Iterator[Snapshot]:
    """See Store.snapshots."""
    ids = file.rows("SELECT id FROM snapshots WHERE name = ? ORDER BY log_offset DESC", (name,))
    for (number,) in ids:
        for *columns, crc in file.rows(
            "SELECT epoch, log_offset, at_s, blob, crc FROM snapshots WHERE id = ?", (number,)
        ):
            snapshot = Snapshot._make(columns)
            if zlib.crc32(snapshot.blob) != crc:
                raise StoreDamaged(f"{file.path}: the snapshot of {name} at offset {snapshot.offset} is damaged")
            yield snapshot


def forget(file: SqliteFile, before_s: float) -> int:
    """Delete what is older than the raw history that it would need, but never an actor's newest. How many."""
    with file.write() as connection:
        names = connection.execute("SELECT DISTINCT name FROM snapshots").fetchall()
        return sum(thin(connection, name, before_s=before_s) for (name,) in names)
