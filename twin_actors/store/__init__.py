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
    """The store behind a URL. Raises ValueError, naming the engines there are."""
    scheme = url.split(":", 1)[0]
    if scheme == "memory":
        return MemoryStore()
    if scheme in ("postgresql", "postgres"):
        try:
            from twin_actors.store.postgres import PostgresStore  # here: its library is an extra
        except ImportError as error:
            raise ValueError(
                f"a PostgreSQL store needs the extra: pip install 'twin-actors[postgres]' ({error})"
            ) from error
        return PostgresStore(url)
    raise ValueError(f"store {scheme + ':'!r}: this version knows the engines 'memory:' and 'postgresql:' only")
