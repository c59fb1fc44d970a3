"""Epochs as rows that a transaction locks: a writer's successor waits for it, or it hears that it has one."""

from __future__ import annotations

from twin_actors.store.base import StaleEpoch
from twin_actors.store.postgres.session import Connection


def insert_epoch(connection: Connection, name: str) -> None:
    """Have a row for a name, so that there is something to lock."""
    connection.execute("INSERT INTO epochs (name, epoch) VALUES (%s, 0) ON CONFLICT DO NOTHING", (name,))


def check_epoch(connection: Connection, name: str, epoch: int, *, lock: str) -> None:
    """Refuse a writer that has a successor, and let none come before the transaction ends.

    ``lock`` is SHARE, or NO KEY UPDATE for writers of one name that must take turns. Raises StaleEpoch.
    """
    query = f"SELECT epoch FROM epochs WHERE name = %s FOR {lock}".encode()
    row = connection.execute(query, (name,)).fetchone()
    if row is None:
        insert_epoch(connection, name)
        row = connection.execute(query, (name,)).fetchone()
    if row is not None and epoch < row[0]:
        raise StaleEpoch(f"{name}: epoch {epoch} is refused, epoch {row[0]} has taken over")
