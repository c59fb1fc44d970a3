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
    "erase_store",
    "open_store",
]


def open_store(url: str) -> Store:
    """The store behind a URL. Raises ValueError, naming the engines there are, and what the engine itself raises."""
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        return MemoryStore()
    if scheme == "sqlite":
        from twin_actors.store.sqlite import SqliteStore  # here: readers of other engines need no SQL

        path, _, options = rest.removeprefix("//").partition("?")
        if not path:
            raise ValueError(f"store {url!r} names no folder: write sqlite: and an absolute path")
        if options not in ("", "durable=no"):
            raise ValueError(f"store {url!r}: behind the folder stands nothing, or ?durable=no")
        return SqliteStore(path, durable=not options)
    if scheme in ("postgresql", "postgres"):
        try:
            from twin_actors.store.postgres import PostgresStore  # here: its library is an extra
        except ImportError as error:
            raise ValueError(
                f"a PostgreSQL store needs the extra: pip install 'twin-actors[postgres]' ({error})"
            ) from error
        return PostgresStore(url)
    raise ValueError(f"store {scheme + ':'!r}: the engines are 'sqlite:/folder', 'postgresql://…' and 'memory:'")


def erase_store(url: str) -> None:
    """Delete everything that a city's store holds. Raises StoreUnavailable, ValueError."""
    store = open_store(url)
    try:
        store.erase()
    finally:
        store.close()
