"""Where a city's schema lies: a store URL read once, its password kept out of every message."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

DEFAULT_SCHEMA = "twin_actors"
CONNECT_S = 5
STATEMENT_S = 30
LOCK_S = 10

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Address:
    """Server, database and schema. ``conninfo`` has the password and is therefore never shown."""

    host: str
    port: str
    database: str
    user: str
    schema: str
    conninfo: dict[str, str] = field(repr=False)

    @property
    def where(self) -> str:
        """Words for messages."""
        return f"PostgreSQL at {self.host}:{self.port} (database {self.database!r}, user {self.user!r})"

    def without_password(self, words: str) -> str:
        """Foreign words, should they ever repeat the password, without it."""
        password = self.conninfo.get("password")
        return words.replace(password, "***") if password else words

    @classmethod
    def of(cls, url: str) -> Address:
        """Read ``postgresql://user:password@host:port/database?schema=city``.

        All parameters of libpq may follow the schema (``sslmode``, ``sslrootcert``, ``target_session_attrs`` ...).
        Raises ValueError, without the password.
        """
        parts = urlsplit(url)
        schema, kept = DEFAULT_SCHEMA, []
        for parameter in parts.query.split("&"):
            if parameter.startswith("schema="):
                schema = unquote(parameter.removeprefix("schema="))
            elif parameter:
                kept.append(parameter)  # libpq's own, as it was written
        if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
            raise ValueError(
                f"store: schema={schema!r} cannot be a PostgreSQL schema of a city: take a lower-case letter or _, "
                "then up to 62 lower-case letters, digits and _, and not the beginning pg_"
            )
        try:
            named = conninfo_to_dict(urlunsplit(parts._replace(query="&".join(kept))))
        except psycopg.ProgrammingError as error:
            # libpq repeats the piece that it does not understand; elsewhere that may be one of the password
            said = f" ({str(error).strip()})" if "query parameter" in str(error) else ""
            raise ValueError(
                "store: write postgresql://user:password@host:port/database?schema=city, with %, /, @ and the like "
                f"in the password percent-encoded (% is %25, / is %2F, @ is %40){said}"
            ) from None
        conninfo = {key: str(value) for key, value in named.items() if value is not None}
        ours = {
            "statement_timeout": STATEMENT_S * 1000,
            "lock_timeout": LOCK_S * 1000,
            "idle_in_transaction_session_timeout": STATEMENT_S * 1000,
            "search_path": schema,
            "plan_cache_mode": "force_custom_plan",  # only then are the partitions that a query needs found early
            "client_min_messages": "warning",
        }
        settings = " ".join(f"-c {key}={value}" for key, value in ours.items())
        conninfo["options"] = f"{settings} {conninfo.get('options', '')}".strip()
        defaults = {
            "application_name": f"twin-actors {schema}",
            "connect_timeout": str(CONNECT_S),
            "client_encoding": "UTF8",
            "keepalives": "1",
            "keepalives_idle": "10",
            "keepalives_interval": "5",
            "keepalives_count": "3",
            "tcp_user_timeout": str(STATEMENT_S * 1000),
        }
        conninfo = {**defaults, **conninfo}
        known = conninfo_defaults()
        return cls(
            host=conninfo.get("host") or conninfo.get("hostaddr") or known.get("host") or "the local socket",
            port=conninfo.get("port") or known.get("port") or "5432",
            database=conninfo.get("dbname") or known.get("dbname") or conninfo.get("user") or known.get("user") or "?",
            user=conninfo.get("user") or known.get("user") or "?",
            schema=schema,
            conninfo=conninfo,
        )


def conninfo_defaults() -> dict[str, str]:
    """What libpq takes where the URL is silent: the environment (PGHOST ...) and its own defaults."""
    return {
        option.keyword.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.val is not None
    }
