"""The embedded engine: SQLite files in one folder on a local disk. Needs nothing installed."""

from twin_actors.store.sqlite.engine import SqliteStore

__all__ = ["SqliteStore"]
