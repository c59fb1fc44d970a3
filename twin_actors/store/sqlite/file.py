"""One SQLite file: connections for many threads and processes, transactions, schema steps."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin_actors.store.base import StoreDamaged
from twin_actors.store.sqlite.faults import explained

BUSY_S = 10.0
"""How long a call waits for another process that writes the same file before it gives up with StoreUnavailable."""
RETRY_S = 0.001
IDLE_READERS = 4
CHECKPOINT_PAGES = 4000
"""Pages in the write-ahead file after which the next commit moves them into the main file (about 16 MB)."""

Step = str | tuple[str, Callable[[sqlite3.Connection], None]]
"""Statements that take a file from one version to the next, and what has to be computed after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a file holds. Step k takes it from version k to k + 1; the version is the file's ``user_version``."""

    what: str
    application_id: int
    steps: tuple[Step, ...]

    @property
    def version(self) -> int:
        return len(self.steps)


class SqliteFile:
    """A file that is made by its first write; until then it reads as empty. Safe for threads."""

    def __init__(self, path: Path, schema: Schema, *, page_bytes: int = 4096, durable: bool = True) -> None:
        """Not ``durable``: what is written outlives this process, but not the machine's power."""
        self.path = path
        self._synchronous = "FULL" if durable else "OFF"
        self._schema, self._page_bytes = schema, page_bytes
        self._writing = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._pool = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._seen = False

    @property
    def exists(self) -> bool:
        self._seen = self._seen or self.path.exists()
        return self._seen

    @contextmanager
    def write(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction that no other writer of the file can come between; durable when it ends, if ``synced``.

        Whatever is raised within undoes it. Raises StoreUnavailable (when it comes from the commit itself, the
        transaction may be found done later: after a crash its pages can come back from the write-ahead file).
        """
        with self._writing, explained(self.path):
            if self._writer is None:
                self._writer = self._open()
                self._writer.execute("PRAGMA busy_timeout = 0")  # _begin waits
            connection = self._writer
            try:
                if not synced and self._synchronous == "FULL":
                    connection.execute("PRAGMA synchronous = NORMAL")
                _begin(connection)
                yield connection
                connection.execute("COMMIT")
                if not synced:
                    connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            except sqlite3.Error:
                self._writer = None  # after an error of the disk its cache is not to be trusted
                with suppress(sqlite3.Error):
                    connection.close()
                raise
            except BaseException:
                connection.execute("ROLLBACK")
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection | None]:
        """A view of one moment, or None while the file does not exist. Waits for no writer."""
        if not self.exists:
            yield None
            return
        with explained(self.path):
            with self._pool:
                connection = self._idle.pop() if self._idle else None
            connection = connection or self._open()
            try:
                connection.execute("BEGIN")
                yield connection
            except sqlite3.Error:
                with suppress(sqlite3.Error):
                    connection.close()
                raise
            except BaseException:
                self._give_back(connection)
                raise
            self._give_back(connection)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")  # nothing was written; the view of that moment ends
        with self._pool:
            if len(self._idle) < IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of one question; none while the file does not exist."""
        with self.read() as connection:
            return connection.execute(query, values).fetchall() if connection else []

    def close(self) -> None:
        """Let go of all connections that are not in use."""
        with self._writing, self._pool:
            connections = [*self._idle, *filter(None, [self._writer])]
            self._idle, self._writer = [], None
        for connection in connections:
            with suppress(sqlite3.Error):  # closing writes nothing that is not durable already
                connection.close()

    # -- opening -----------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        fresh = not self.path.exists()
        if fresh:
            with suppress(OSError):  # SQLite says below what is wrong
                self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            self._ready(connection)
        except BaseException:
            connection.close()
            raise
        if fresh:
            sync_folder(self.path.parent)
            sync_folder(self.path.parent.parent)
        self._seen = True
        return connection

    def _ready(self, connection: sqlite3.Connection) -> None:
        version = _number(connection, "user_version")
        if version > self._schema.version:
            raise StoreDamaged(
                f"{self.path}: {self._schema.what} of schema version {version}, written by a newer Twin Actors; this "
                f"one knows {self._schema.version}: upgrade twin-actors, or restore a backup into another folder"
            )
        if version < self._schema.version:
            self._migrate(connection)
        if _number(connection, "application_id") != self._schema.application_id:
            raise StoreDamaged(f"{self.path} is a SQLite file, but not {self._schema.what}: name another folder")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {4 * CHECKPOINT_PAGES * self._page_bytes}")

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Make the file, or take it from an older version to this one, in one transaction; others wait meanwhile."""
        connection.execute(f"PRAGMA page_size = {self._page_bytes}")
        self._write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        _begin(connection)
        version = _number(connection, "user_version")
        if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise StoreDamaged(f"{self.path} is a SQLite file, but not {self._schema.what}: name another folder")
        for step in self._schema.steps[version:]:
            statements, compute = (step, None) if isinstance(step, str) else step
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(statement)
            if compute is not None:
                compute(connection)
        connection.execute(f"PRAGMA application_id = {self._schema.application_id}")
        connection.execute(f"PRAGMA user_version = {self._schema.version}")
        connection.execute("COMMIT")

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        """Switch to write-ahead logging; SQLite does not wait for other openers here, so this does."""
        _insist(connection, "PRAGMA journal_mode = WAL")


def _begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction that writes, as soon as the one under way ends.

    SQLite's own waiting soon tries only ten times a second, and against a writer with a transaction every few
    milliseconds a successor, who must raise an epoch, would lose nearly every time.
    """
    _insist(connection, "BEGIN IMMEDIATE")


def _insist(connection: sqlite3.Connection, statement: str) -> None:
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def sync_folder(folder: Path) -> None:
    """Make names that were just given in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
