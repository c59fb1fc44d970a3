"""What the server or the network said, in the store's own exceptions and with the next thing to do."""

from __future__ import annotations

import psycopg

from twin_actors.store.base import StoreDamaged, StoreUnavailable
from twin_actors.store.postgres.address import Address

_UNAVAILABLE = {
    "53100": "its disk is full: free space there (or drop old history), writing goes on by itself",
    "53200": "it is out of memory: lower work_mem or max_connections there, or give it more",
    "53300": "it has no connection left: raise max_connections there; a city needs two for each process with a store",
    "53400": "a limit of its configuration is reached",
    "25006": "it is read-only (a standby, or default_transaction_read_only): point the store at the primary",
    "57P01": "it is being shut down or restarted",
    "57P02": "it has crashed and is recovering",
    "57P03": "it is starting up",
    "57P05": "it closed an idle connection",
    "57014": "a statement did not end within its deadline: the server is overloaded or its disk is slow",
    "55P03": "a lock was not granted in time: look for long transactions in pg_stat_activity",
    "25P03": "a transaction was idle for too long, this process was perhaps stopped",
    "40001": "transactions collided again and again",
    "40P01": "transactions blocked each other again and again",
}
_DAMAGED = {
    "XX001": "its data are damaged: stop writing, and restore a backup",
    "XX002": "an index is damaged: REINDEX the city's schema, and check the disk",
    "3F000": "the city's schema is gone: restore a backup, or launch the city anew",
    "42P01": "a table of the city's schema is gone: restore a backup",
    "42703": "a column of the city's schema is gone: restore a backup",
}
_CONNECTING = (
    # libpq gives no code when a connection cannot be made, only words
    ("too many clients", _UNAVAILABLE["53300"]),
    ("remaining connection slots", _UNAVAILABLE["53300"]),
    ("too many connections", _UNAVAILABLE["53300"]),
    ("starting up", _UNAVAILABLE["57P03"]),
    ("shutting down", _UNAVAILABLE["57P01"]),
    ("recovery mode", _UNAVAILABLE["57P02"]),
    ("Connection refused", "nothing listens there: is the server running, and are host and port right?"),
    ("No such file or directory", "nothing listens on that socket: is the server running, and is the path right?"),
    ("could not translate host name", "the host name is not known: check the spelling, or the name server"),
    ("failed to resolve host", "the host name is not known: check the spelling, or the name server"),
    ("timeout expired", "no answer within the deadline: is the host up, and does a firewall stand in between?"),
    ("SSL", "the encrypted connection was not made: compare sslmode and sslrootcert with the server's certificate"),
)
_REFUSED = (
    ("password authentication failed", "the password or the user is wrong: correct the store URL"),
    ("no password supplied", "it asks for a password: write it into the store URL, PGPASSWORD or ~/.pgpass"),
    ("no pg_hba.conf entry", "its pg_hba.conf does not let this user in from here (or only with sslmode=require)"),
    ("not permitted to log in", "this user may not log in: ALTER ROLE ... LOGIN"),
    ("permission denied for database", "this user may not connect to the database: GRANT CONNECT"),
    ("role ", "there is no such user: CREATE ROLE ... LOGIN PASSWORD ..."),
    ("database ", "there is no such database: createdb it, with encoding UTF8"),
)


class Refused(ValueError):
    """The server is there and will not have us: password, user, database or rights are wrong."""


class OutcomeUnknown(StoreUnavailable):
    """The connection was lost while a transaction was being committed: it may be in the store, or not."""


def cannot_connect(error: psycopg.Error, address: Address) -> StoreUnavailable | Refused:
    said = address.without_password(" ".join(str(error).split()))
    for sign, advice in _REFUSED:
        gone = sign in said and (not sign.endswith(" ") or "does not exist" in said)
        if gone:
            return Refused(f"{address.where}: {advice} ({said})")
    for sign, advice in _CONNECTING:
        if sign in said:
            return StoreUnavailable(f"{address.where}: {advice} ({said})")
    return StoreUnavailable(f"{address.where} cannot be reached ({said})")


def translated(error: psycopg.Error, address: Address, *, committing: bool = False) -> Exception:
    """The store's exception for one of psycopg's."""
    said = address.without_password(" ".join(str(error).split()))
    code = error.sqlstate or ""
    if committing:
        return OutcomeUnknown(
            f"{address.where}: the connection was lost during a commit; what was written may be there or not ({said})"
        )
    if code in _DAMAGED:
        return StoreDamaged(f"{address.where}, schema {address.schema!r}: {_DAMAGED[code]} ({said})")
    if code == "42501":
        return StoreUnavailable(
            f"{address.where}: rights on schema {address.schema!r} are missing: GRANT them to the user ({said})"
        )
    if isinstance(error, psycopg.DataError) or code[:2] == "22":
        return ValueError(f"PostgreSQL cannot keep this value: {said}")
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"{address.where}: {_UNAVAILABLE[code]} ({said})")
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return StoreUnavailable(f"{address.where}: the connection was lost ({said})")
    if code[:2] in ("53", "57", "58"):
        return StoreUnavailable(f"{address.where}: {said}")
    return error
