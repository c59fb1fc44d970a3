"""Where a city's schema lies: a store URL read once, its password kept out of every message."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

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
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        schema = query.pop("schema", DEFAULT_SCHEMA)
        if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
            raise ValueError(
                f"store: schema={schema!r} cannot be a PostgreSQL schema of a city: take a lower-case letter or _, "
                "then up to 62 lower-case letters, digits and _, and not the beginning pg_"
            )
        secret = unquote(parts.password) if parts.password else ""
        try:
            named = conninfo_to_dict(urlunsplit(parts._replace(query=urlencode(query))))
        except psycopg.ProgrammingError as error:
            said = str(error).strip()
            for each in filter(None, (secret, parts.password, parts.netloc)):
                said = said.replace(each, "***")
            raise ValueError(
                "store: write postgresql://user:password@host:port/database?schema=city, with % signs, slashes and "
                f"the like in the password percent-encoded ({said})"
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
