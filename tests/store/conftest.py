"""The servers that the store's tests talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from twin_actors.testing.postgres import PostgresServer, postgres_server, why_not


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests; each takes a schema of its own, and whoever stops it starts it again."""
    if reason := why_not():
        pytest.skip(reason)
    with postgres_server() as server:
        yield server
