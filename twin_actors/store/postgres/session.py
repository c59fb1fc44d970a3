"""One connection that comes back: every wait has a deadline, a lost connection is made again once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

from twin_actors.store.base import StoreUnavailable
from twin_actors.store.postgres.address import LOCK_S, STATEMENT_S, Address
from twin_actors.store.postgres.errors import Refused, cannot_connect, translated

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[["Connection"], T]

CALL_S = STATEMENT_S + 5.0
"""The server ends a statement by itself before; this deadline is for a server that says nothing at all."""

_AGAIN = {"40001", "40P01"}  # collided, blocked each other: as new, tried again


class Connection(psycopg.Connection[Any]):
    """psycopg's, with a deadline over everything that a call waits for (a frozen server keeps its sockets open)."""

    overdue_at = float("inf")  # time.monotonic()
    overdue = False

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        return super().wait(_until(gen, self), *args, **kwargs)


def _until(gen: Any, connection: Connection) -> Generator[Any, Any, Any]:
    """psycopg's generator, ended when its connection is overdue. psycopg asks at least every 0.1 s."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if time.monotonic() > connection.overdue_at:
                connection.overdue = True
                connection.pgconn.finish()
                raise psycopg.OperationalError("the server did not answer within the deadline")
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


class Session:
    """A connection for one purpose (writing, reading), made when first needed. Threads take turns."""

    def __init__(self, address: Address, purpose: str, *, autocommit: bool, call_s: float = CALL_S) -> None:
        self._address, self._purpose, self._autocommit = address, purpose, autocommit
        self._call_s = call_s
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False

    def run(self, work: Work[T], *, again: bool = True, opening: bool = False) -> T:
        """Do the work in one transaction and commit it.

        After a loss of the connection the work is done once more, over a new one. A loss during the commit is
        repeated only with ``again``: the work then has to leave the same when it is done twice. Raises
        StoreUnavailable (OutcomeUnknown when it may have been committed), StoreDamaged, ValueError; Refused only
        while the store is being ``opened``, because a user whose rights were withdrawn may get them back.
        """
        if not self._turn.acquire(timeout=self._call_s):
            raise StoreUnavailable(
                f"{self._address.where}: other calls have kept the connection for {self._call_s:g} s"
            )
        try:
            try:
                return self._attempt(work)
            except _Lost as lost:
                if lost.overdue or (lost.committing and not again):
                    raise self._translated(lost) from lost.error
                unknown = lost if lost.committing else None
            try:
                return self._attempt(work)
            except _Lost as lost:
                raise self._translated(unknown or lost) from lost.error
            except StoreUnavailable as error:
                if unknown is None:
                    raise
                raise self._translated(unknown) from error
        except Refused as error:
            if opening:
                raise
            raise StoreUnavailable(str(error)) from None
        finally:
            self._turn.release()

    def _translated(self, lost: _Lost) -> Exception:
        return translated(lost.error, self._address, committing=lost.committing)

    def _attempt(self, work: Work[T]) -> T:
        connection = self._connected()
        connection.overdue_at = time.monotonic() + self._call_s
        committing = False
        try:
            result = work(connection)
            committing = True
            if not self._autocommit:
                connection.commit()
            return result
        except psycopg.Error as error:
            if connection.closed or not self._undone(connection):
                overdue = connection.overdue
                self._let_go()
                raise _Lost(error, committing=committing, overdue=overdue) from error
            if error.sqlstate in _AGAIN:
                raise _Lost(error, committing=False) from error
            raise translated(error, self._address) from error
        except BaseException:
            if connection.closed or not self._undone(connection):
                self._let_go()
            raise

    @contextmanager
    def looking(self) -> Iterator[Look]:
        """See one state of everything for as long as the block lasts, whatever others commit meanwhile.

        The session is the caller's alone. Raises as ``run`` does, but repeats nothing.
        """
        try:
            connection = self._connected()
            try:
                look = Look(connection, self._call_s)
                look.rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                # between two looks the caller does something slow of its own, such as writing a backup
                look.rows("SET LOCAL idle_in_transaction_session_timeout = '10min'")
                yield look
            finally:
                self._let_go()
        except psycopg.Error as error:
            raise translated(error, self._address) from error
        except Refused as error:
            raise StoreUnavailable(str(error)) from None

    def _undone(self, connection: Connection) -> bool:
        """Roll back; False when the connection does not even do that."""
        connection.overdue_at = time.monotonic() + LOCK_S
        try:
            connection.rollback()
        except psycopg.Error as error:
            log.debug("%s: rolling back failed: %s", self._address.where, error)
            return False
        return True

    def _connected(self) -> Connection:
        if self._closed:
            raise StoreUnavailable(f"{self._address.where}: this store has been closed")
        if self._connection is not None and not self._connection.closed:
            return self._connection
        name = f"{self._address.conninfo['application_name']} {self._purpose}"
        conninfo: dict[str, Any] = {**self._address.conninfo, "application_name": name[:63]}
        try:
            connection = Connection.connect(**conninfo, autocommit=True)
        except psycopg.Error as error:
            raise cannot_connect(error, self._address) from None  # psycopg's own words are in ours
        try:
            connection.overdue_at = time.monotonic() + LOCK_S
            _check(connection, self._address)
            connection.autocommit = self._autocommit
        except psycopg.Error as error:
            connection.close()
            raise translated(error, self._address) from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """End the connection; calls after it raise StoreUnavailable."""
        self._closed = True  # seen by whoever has the turn next
        if self._turn.acquire(timeout=self._call_s):
            try:
                self._let_go()
            finally:
                self._turn.release()


class Look:
    """Reading in one transaction, each step with a deadline."""

    def __init__(self, connection: Connection, call_s: float) -> None:
        self._connection, self._call_s = connection, call_s

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        self._connection.overdue_at = time.monotonic() + self._call_s
        cursor = self._connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def pages(self, query: str, values: tuple[Any, ...], size: int) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a query, ``size`` at a time, through a cursor of the server."""
        with self._connection.cursor("pages", binary=True) as cursor:
            self._connection.overdue_at = time.monotonic() + self._call_s
            cursor.execute(query.encode(), values)
            while page := cursor.fetchmany(size):
                yield page
                self._connection.overdue_at = time.monotonic() + self._call_s


class _Lost(Exception):
    """The connection was lost (or the transaction undone by the server) in the middle of some work."""

    def __init__(self, error: psycopg.Error, *, committing: bool, overdue: bool = False) -> None:
        super().__init__(str(error))
        self.error, self.committing, self.overdue = error, committing, overdue


def _check(connection: Connection, address: Address) -> None:
    """See that the server keeps what it confirms, and that its text is Unicode."""
    encoding, commit, fsync = connection.execute(
        "SELECT current_setting('server_encoding'), current_setting('synchronous_commit'), current_setting('fsync')"
    ).fetchone() or ("", "", "")
    if encoding != "UTF8":
        raise Refused(
            f"{address.where} has the encoding {encoding}: create the database with ENCODING 'UTF8' TEMPLATE template0"
        )
    if commit == "off":
        connection.execute("SET synchronous_commit = on")  # what is acknowledged to a broker must be on the disk
    if fsync == "off":
        log.warning("%s runs with fsync=off: a power cut there can destroy the city's data", address.where)
