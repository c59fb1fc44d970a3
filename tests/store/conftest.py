"""Every engine of the store, each as a place that can be opened again and again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.store.places import Place
from twin_actors.store import Store
from twin_actors.testing.postgres import PostgresServer, postgres_server, why_not


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests; each takes a schema of its own, and whoever stops it starts it again."""
    if reason := why_not():
        pytest.skip(reason)
    with postgres_server() as server:
        yield server


# One line an engine: what makes the URL of an empty store, given a folder of the test and pytest's request (for a
# fixture that starts a server: request.getfixturevalue).
ENGINES: dict[str, Callable[[Path, pytest.FixtureRequest], str]] = {
    "memory": lambda folder, request: "memory:",
    "sqlite": lambda folder, request: f"sqlite:{folder / 'store'}",
    "postgres": lambda folder, request: request.getfixturevalue("postgres").url(f"city_{secrets.token_hex(4)}"),
}


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store of each engine."""
    place = Place(request.param, ENGINES[request.param](tmp_path, request))
    yield place
    place.close()


@pytest.fixture(params=[name for name in ENGINES if name != "memory"])
def durable_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store of each engine that outlives its process."""
    place = Place(request.param, ENGINES[request.param](tmp_path, request))
    yield place
    place.close()


@pytest.fixture
def any_store(place: Place) -> Store:
    """An empty, open store of each engine."""
    return place.open()
