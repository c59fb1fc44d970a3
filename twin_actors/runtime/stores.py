"""Where a city's store is: the scenario's words made into an address that every process of the city can open."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from twin_actors.store import Store, open_store

STORE_FOLDER = "store"
LONGEST_SCHEMA = 63  # PostgreSQL cuts longer names off


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """``url`` names the engine and the place; ``durable``: what it holds outlives the city."""

    url: str = field(repr=False)  # it may hold a password
    durable: bool

    def open(self) -> Store:
        """Raises StoreUnavailable, StoreDamaged, and ValueError for an engine that is not installed."""
        return open_store(self.url)

    @property
    def begun(self) -> bool:
        """Whether it may hold something: not where the folder of an SQLite store is still to be made."""
        scheme, _, rest = self.url.partition(":")
        return scheme != "sqlite" or Path(rest.removeprefix("//").partition("?")[0]).exists()

    @property
    def shown(self) -> str:
        """The address without a password."""
        parts = urlsplit(self.url)
        if parts.password is None:
            return self.url
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username}@{host}"))


def schema_of(city: str) -> str:
    """A schema of the city's own: ASCII, at most 63 characters, and another one for every other name."""
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in city.lower())
    name = f"city_{plain}"
    if plain == city and len(name) <= LONGEST_SCHEMA:
        return name
    return f"{name[: LONGEST_SCHEMA - 9]}_{hashlib.blake2b(city.encode(), digest_size=4).hexdigest()}"


def store_of(url: str, folder: Path, city: str) -> StoreAddress:
    """The store that a scenario means by ``url``; ``folder`` is the city's own.

    ``sqlite:`` is a folder in it; ``memory:`` the same without any promise, removed by the next launch and by ``down``.
    A PostgreSQL address that names no schema gets one of the city's name. Raises ValueError for anything else.
    """
    own = folder / STORE_FOLDER
    if url == "memory:":
        return StoreAddress(f"sqlite:{own}?durable=no", durable=False)
    if url == "sqlite:":
        return StoreAddress(f"sqlite:{own}", durable=True)
    if url.startswith("sqlite:"):
        return StoreAddress(url, durable=True)
    if url.startswith(("postgresql:", "postgres:")):
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        query.setdefault("schema", schema_of(city))
        return StoreAddress(urlunsplit(parts._replace(query=urlencode(query, quote_via=quote))), durable=True)
    raise ValueError(f"unknown store {url!r}: write sqlite:, memory: or postgresql://user@host/database")
