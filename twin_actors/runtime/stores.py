"""Where a city's store is: the scenario's words made into an address that every process of the city can open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from twin_actors.store import Store, open_store

STORE_FOLDER = "store"


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """``url`` names the engine and the place; ``durable``: what it holds outlives the city."""

    url: str
    durable: bool

    def open(self) -> Store:
        """Raises StoreUnavailable, StoreDamaged, and ValueError for an engine that is not installed."""
        return open_store(self.url)

    @property
    def shown(self) -> str:
        """The address without a password."""
        parts = urlsplit(self.url)
        if parts.password is None:
            return self.url
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username}@{host}"))


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
        query.setdefault("schema", "city_" + "".join(c if c.isalnum() else "_" for c in city.lower()))
        return StoreAddress(urlunsplit(parts._replace(query=urlencode(query))), durable=True)
    raise ValueError(f"unknown store {url!r}: write sqlite:, memory: or postgresql://user@host/database")
