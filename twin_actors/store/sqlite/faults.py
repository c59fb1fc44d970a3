"""What SQLite's errors mean for a city, and what to do about each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twin_actors.store.base import StoreDamaged, StoreUnavailable

# Primary result codes (sqlite.org/rescode.html); extended ones carry theirs in the lowest byte.
_UNAVAILABLE = {
    sqlite3.SQLITE_FULL: "the disk is full: make room; it goes on by itself then",
    sqlite3.SQLITE_BUSY: "another process has kept it locked: end the one that hangs (fuser shows who has it open)",
    sqlite3.SQLITE_LOCKED: "it is locked within this process: try again",
    sqlite3.SQLITE_IOERR: "the disk fails to read or write: look into dmesg and the disk's free space and limits",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: see that the folder exists, is yours, and that descriptors are left",
    sqlite3.SQLITE_READONLY: "it cannot be written: see who owns the folder and whether its disk is mounted read-only",
    sqlite3.SQLITE_PERM: "access is denied: see who owns the folder",
    sqlite3.SQLITE_NOMEM: "memory has run out: end other programs",
    sqlite3.SQLITE_PROTOCOL: "its locks do not work: the folder must be on a local disk, not on a network one",
    sqlite3.SQLITE_NOLFS: "the file system takes no files of this size: move the folder to another one",
}
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT: "its contents are damaged",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite file, or its head is overwritten",
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors within into StoreUnavailable or StoreDamaged, with words that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise explanation(path, error) from error


def explanation(path: Path, error: sqlite3.Error) -> Exception:
    """The error to raise in place of SQLite's own; what is no fault of the file stays as it is."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"{path}: {_UNAVAILABLE[code]} ({error})")
    if code in _DAMAGED:
        return StoreDamaged(
            f"{path}: {_DAMAGED[code]} ({error}); move it away for a later look, and restore a backup or start anew"
        )
    return error
