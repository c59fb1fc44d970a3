"""One city's store in one PostgreSQL schema: epochs, snapshots, dead letters, records, registry, and its logs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from psycopg import sql

from twin_actors.store.base import DeadLetter, LetterState, Snapshot
from twin_actors.store.history import Decode, Retention, Tidied
from twin_actors.store.postgres import snapshots
from twin_actors.store.postgres.address import Address
from twin_actors.store.postgres.fencing import check_epoch
from twin_actors.store.postgres.log import SEGMENT_ENTRIES, PostgresLog, drop_some_segments
from twin_actors.store.postgres.schema import migrate
from twin_actors.store.postgres.session import CALL_S, Connection, Session
from twin_actors.store.postgres.tidying import Tidying

_LETTER = "topic, reason, detail, payload, received_at_s, share, log_offset, element, state, id"


class PostgresStore:
    """See Store. Holds at most two connections, one to write and one to read, and makes lost ones again."""

    durable = True

    def __init__(self, url: str, *, segment_entries: int = SEGMENT_ENTRIES, call_s: float = CALL_S) -> None:
        """Connect, and create or migrate the city's schema. No call waits much longer than twice ``call_s``.

        Raises ValueError when the URL, the user, the password or the database is wrong, StoreUnavailable when the
        server cannot be reached, StoreDamaged when a newer version of the software has written the schema.
        """
        self._address = Address.of(url)
        self._segment_entries, self._call_s = segment_entries, call_s
        self._writing = Session(self._address, "writer", autocommit=False, call_s=call_s)
        self._reading = Session(self._address, "reader", autocommit=True, call_s=call_s)
        self._logs: dict[str, PostgresLog] = {}
        self._making = threading.Lock()
        try:
            self._writing.run(lambda connection: migrate(connection, self._address.schema), opening=True)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        address = self._address
        return f"<PostgresStore {address.host}:{address.port}/{address.database} schema {address.schema}>"

    def log(self, share: str) -> PostgresLog:
        with self._making:
            if share not in self._logs:
                self._logs[share] = PostgresLog(
                    share, self._writing, self._reading, self._beside, self._segment_entries
                )
            return self._logs[share]

    # -- epochs ------------------------------------------------------------------------------------------------

    def next_epoch(self, name: str) -> int:
        # done twice after a lost commit, an epoch is left out, which harms nobody
        epoch: int = self._writing.run(
            lambda connection: _one(
                connection,
                "INSERT INTO epochs AS e (name, epoch) VALUES (%s, 1) "
                "ON CONFLICT (name) DO UPDATE SET epoch = e.epoch + 1 RETURNING epoch",
                (name,),
            )
        )
        return epoch

    def epoch(self, name: str) -> int:
        held: int | None = self._reading.run(
            lambda connection: _one(connection, "SELECT epoch FROM epochs WHERE name = %s", (name,))
        )
        return held or 0

    def epochs(self) -> dict[str, int]:
        query = b"SELECT name, epoch FROM epochs WHERE epoch > 0 ORDER BY name"
        return dict(self._reading.run(lambda connection: connection.execute(query).fetchall()))

    def raise_epoch(self, name: str, epoch: int) -> None:
        self._writing.run(
            lambda connection: connection.execute(
                "INSERT INTO epochs AS e (name, epoch) VALUES (%s, %s) "
                "ON CONFLICT (name) DO UPDATE SET epoch = greatest(e.epoch, excluded.epoch)",
                (name, epoch),
            )
        )

    # -- snapshots ---------------------------------------------------------------------------------------------

    def save_snapshot(self, name: str, epoch: int, offset: int, blob: bytes, at_s: float = 0.0) -> None:
        snapshots.save(self._writing, name, Snapshot(epoch, offset, at_s, blob))

    def load_snapshot(self, name: str, *, at_s: float | None = None) -> Snapshot | None:
        return snapshots.load(self._reading, name, at_s)

    def snapshot_names(self) -> list[str]:
        return self._column("SELECT DISTINCT name FROM snapshots ORDER BY name")

    def snapshots(self, name: str) -> Iterator[Snapshot]:
        return snapshots.every(self._reading, name)

    # -- dead letters ------------------------------------------------------------------------------------------

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        rows = [
            (
                *(_text(words) for words in (each.topic, each.reason, each.detail)),
                *(each.payload, each.received_at_s, each.share, each.offset, each.element, each.state.value),
            )
            for each in letters
        ]

        def work(connection: Connection) -> None:
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO dead_letters "
                    "(topic, reason, detail, payload, received_at_s, share, log_offset, element, state) "
                    "VALUES (%s, %s, %s, %b, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    rows,
                )

        if rows:
            self._writing.run(work, again=all(letter.offset >= 0 for letter in letters))

    def dead_letters(self, last: int, *, state: LetterState | None = None, reason: str = "") -> list[DeadLetter]:
        conditions = {"state": state.value if state else "", "reason": reason}
        chosen = {column: value for column, value in conditions.items() if value}
        where = " AND ".join(["true", *(f"{column} = %({column})s" for column in chosen)])
        query = f"SELECT {_LETTER} FROM dead_letters WHERE {where} ORDER BY id DESC LIMIT %(last)s"
        return self._letters(query, {**chosen, "last": max(last, 0)})[::-1]

    def dead_letter(self, number: int) -> DeadLetter:
        found = self._letters(f"SELECT {_LETTER} FROM dead_letters WHERE id = %(number)s", {"number": number})
        if not found:
            raise KeyError(self._no_letter(number))
        return found[0]

    def _letters(self, query: str, values: Mapping[str, Any]) -> list[DeadLetter]:
        def work(connection: Connection) -> list[DeadLetter]:
            with connection.cursor(binary=True) as cursor:
                return [DeadLetter.of_row(*row) for row in cursor.execute(query.encode(), values)]

        return self._reading.run(work)

    def _no_letter(self, number: int) -> str:
        newest = self._reading.run(lambda connection: _one(connection, "SELECT max(id) FROM dead_letters"))
        return f"no dead letter {number}; " + (f"the newest is {newest}" if newest else "there is none")

    def settle_dead_letter(self, number: int, state: LetterState) -> None:
        def work(connection: Connection) -> int:
            return connection.execute(
                "UPDATE dead_letters SET state = %s WHERE id = %s", (state.value, number)
            ).rowcount

        if not self._writing.run(work):
            raise KeyError(self._no_letter(number))

    # -- records and registry ----------------------------------------------------------------------------------

    def record(self, table: str, rows: Sequence[Mapping[str, Any]], *, writer: str = "", epoch: int = 0) -> None:
        written = [
            (table, msgspec.json.encode(row["id"]).decode() if "id" in row else None, msgspec.json.encode(row).decode())
            for row in rows
        ]

        def work(connection: Connection) -> None:
            if writer:
                check_epoch(connection, writer, epoch, lock="SHARE")
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO records (of_table, id, row) VALUES (%s, %s, %s) "
                    "ON CONFLICT (of_table, id) WHERE id IS NOT NULL DO UPDATE SET row = excluded.row",
                    written,
                )

        if written or writer:
            self._writing.run(work, again=all("id" in row for row in rows))

    def records(self, table: str, last: int) -> list[Mapping[str, Any]]:
        def work(connection: Connection) -> list[Mapping[str, Any]]:
            found = connection.execute(
                "SELECT row::text FROM records WHERE of_table = %s ORDER BY seq DESC LIMIT %s", (table, max(last, 0))
            ).fetchall()
            return [msgspec.json.decode(text) for (text,) in reversed(found)]

        return self._reading.run(work)

    def put(self, key: str, value: bytes) -> None:
        self._writing.run(
            lambda connection: connection.execute(
                "INSERT INTO registry (key, value) VALUES (%s, %b) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, value),
            )
        )

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._reading.run(
            lambda connection: _one(connection, "SELECT value FROM registry WHERE key = %s", (key,))
        )
        return value

    def keys(self, prefix: str = "") -> list[str]:
        return self._column("SELECT key FROM registry WHERE starts_with(key, %s) ORDER BY key", prefix)

    # -- history, backups and checks ---------------------------------------------------------------------------

    def tidy(self, now_s: float, retention: Retention, decode: Decode | None = None) -> Tidied:
        session = self._beside()
        try:
            return Tidying(session, now_s, retention, decode).all(self.shares())
        finally:
            session.close()

    def _beside(self) -> Session:
        return Session(self._address, "beside", autocommit=False, call_s=self._call_s)

    def shares(self) -> list[str]:
        return self._column("SELECT share FROM logs ORDER BY share")

    def tables(self) -> list[str]:
        return self._column("SELECT DISTINCT of_table FROM records ORDER BY of_table")

    def erase(self) -> None:
        # partitions first and a few at a time: all in one transaction, they may need more locks than the server has
        while self._writing.run(drop_some_segments):
            pass
        drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self._address.schema))
        self._writing.run(lambda connection: connection.execute(drop))
        self.close()

    def _column(self, query: str, *values: Any) -> list[str]:
        def work(connection: Connection) -> list[str]:
            return [value for (value,) in connection.execute(query.encode(), values)]

        return self._reading.run(work)

    def close(self) -> None:
        self._writing.close()
        self._reading.close()


def _one(connection: Connection, query: str, values: tuple[Any, ...] = ()) -> Any:
    """The first column of the first row, or None."""
    row = connection.execute(query.encode(), values).fetchone()
    return row[0] if row else None


def _text(words: str) -> str:
    """Text as PostgreSQL takes it: U+0000 and half surrogate pairs, which it refuses, are replaced."""
    return words.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
