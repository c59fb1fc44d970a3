"""Where a city keeps what it must not forget; engines are chosen by URL."""

from __future__ import annotations

from twin_actors.store.base import (
    NOBODY,
    DeadLetter,
    Entry,
    LetterState,
    Log,
    LogTrimmed,
    Snapshot,
    StaleEpoch,
    Store,
    StoreDamaged,
    StoreUnavailable,
)
from twin_actors.store.memory import MemoryStore

__all__ = [
    "NOBODY",
    "DeadLetter",
    "Entry",
    "LetterState",
    "Log",
    "LogTrimmed",
    "MemoryStore",
    "Snapshot",
    "StaleEpoch",
    "Store",
    "StoreDamaged",
    "StoreUnavailable",
    "open_store",
]


def open_store(url: str) -> Store:
    """The store behind a URL. Raises ValueError, naming the engines there are, and what the engine itself raises."""
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        return MemoryStore()
    if scheme == "sqlite":
        from twin_actors.store.sqlite import SqliteStore  # here: readers of other engines need no SQL

        path = rest.removeprefix("//")
        if not path:
            raise ValueError(f"store {url!r} names no folder: write sqlite: and an absolute path")
        return SqliteStore(path)
    raise ValueError(f"store {url!r}: this version knows the engines 'memory:' and 'sqlite:/folder'")
