"""The PostgreSQL engine: one schema a city, for cities on more than one machine. Needs the extra ``postgres``."""

from twin_actors.store.postgres.engine import PostgresStore

__all__ = ["PostgresStore"]
