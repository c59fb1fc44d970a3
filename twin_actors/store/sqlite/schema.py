"""The tables of the embedded engine's files, and the steps from each version to the next."""

from __future__ import annotations

import sqlite3
import zlib

from twin_actors.store.sqlite.file import Schema

# Every file holds the epochs that its own transactions check: see SqliteStore.next_epoch.
_EPOCHS = """
    CREATE TABLE epochs (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID
"""

# Ranges of the log that have moved into files, and rolled-up files. Numbers: sealed_to (groups before it are in files,
# whether or not their rows are gone yet), kept_from (retention has deleted what lies before), rolled_to (what was
# restored up to there was rolled up before the backup).
_SEALED = """
    ALTER TABLE groups ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE sealed (
        first INTEGER PRIMARY KEY,
        count INTEGER NOT NULL,
        since_s REAL NOT NULL,
        until_s REAL NOT NULL,
        rolled INTEGER NOT NULL DEFAULT 0,
        file TEXT NOT NULL
    );
    CREATE TABLE rollups (
        id INTEGER PRIMARY KEY,
        resolution TEXT NOT NULL,
        first INTEGER NOT NULL,
        since_s REAL NOT NULL,
        until_s REAL NOT NULL,
        buckets INTEGER NOT NULL,
        file TEXT NOT NULL
    )
"""


def _check_sums(connection: sqlite3.Connection) -> None:
    """Give every group that was written without one the check sum of its blob."""
    for (first,) in connection.execute("SELECT first FROM groups").fetchall():
        (blob,) = connection.execute("SELECT blob FROM groups WHERE first = ?", (first,)).fetchone()
        connection.execute("UPDATE groups SET crc = ? WHERE first = ?", (zlib.crc32(blob), first))


LOG = Schema(
    what="a log",
    application_id=0x7457414C,
    steps=(
        # A row is what one append committed; bytes_before counts the blobs before it. Numbers: trimmed (no recovery
        # needs what lies before).
        _EPOCHS
        + """;
        CREATE TABLE groups (
            first INTEGER PRIMARY KEY,
            count INTEGER NOT NULL,
            since_s REAL NOT NULL,
            until_s REAL NOT NULL,
            bytes_before INTEGER NOT NULL,
            blob BLOB NOT NULL
        );
        CREATE TABLE numbers (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID
        """,
        (_SEALED, _check_sums),
        # Which entities a group may hold, a bit for each remainder of 63; all bits where that was not noted.
        "ALTER TABLE groups ADD COLUMN entities INTEGER NOT NULL DEFAULT -1",
    ),
)

SNAPSHOTS = Schema(
    what="a file of snapshots",
    application_id=0x74574153,
    steps=(
        _EPOCHS
        + """;
        CREATE TABLE snapshots (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            log_offset INTEGER NOT NULL,
            epoch INTEGER NOT NULL,
            at_s REAL NOT NULL,
            crc INTEGER NOT NULL,
            blob BLOB NOT NULL
        );
        CREATE UNIQUE INDEX snapshots_place ON snapshots (name, log_offset, epoch, at_s)
        """,
    ),
)

CITY = Schema(
    what="a city's records",
    application_id=0x74574143,
    steps=(
        _EPOCHS
        + """;
        CREATE TABLE registry (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE records (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            of_table TEXT NOT NULL,
            id TEXT,
            written_at_s REAL NOT NULL,
            row BLOB NOT NULL
        );
        CREATE UNIQUE INDEX records_id ON records (of_table, id) WHERE id IS NOT NULL;
        CREATE INDEX records_newest ON records (of_table, seq);
        CREATE TABLE dead_letters (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            share TEXT NOT NULL,
            log_offset INTEGER NOT NULL,
            element INTEGER NOT NULL,
            state TEXT NOT NULL,
            received_at_s REAL NOT NULL,
            topic TEXT NOT NULL,
            reason TEXT NOT NULL,
            detail TEXT NOT NULL,
            payload BLOB NOT NULL
        );
        CREATE UNIQUE INDEX dead_letters_place ON dead_letters (share, log_offset, element) WHERE log_offset >= 0;
        CREATE INDEX dead_letters_state ON dead_letters (state, id)
        """,
    ),
)


def held_epoch(connection: sqlite3.Connection, name: str) -> int:
    """The epoch in force in one file; 0 when there has been none."""
    row = connection.execute("SELECT epoch FROM epochs WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def raise_epoch(connection: sqlite3.Connection, name: str, epoch: int) -> None:
    """Put an epoch in force in one file, unless a higher one is."""
    connection.execute(
        "INSERT INTO epochs (name, epoch) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch WHERE excluded.epoch > epoch",
        (name, epoch),
    )
