"""Where a scenario's store is: one address for all processes of the city, and no password where people read."""

from __future__ import annotations

from pathlib import Path

import pytest

from twin_actors.runtime.sizing import Sizing, keep_sizes
from twin_actors.runtime.stores import LONGEST_SCHEMA, schema_of, store_of

FOLDER = Path("/home/u/.twin-actors/harbour")


@pytest.mark.parametrize(
    ("said", "url", "durable"),
    [
        ("sqlite:", "sqlite:/home/u/.twin-actors/harbour/store", True),
        ("sqlite:/data/h", "sqlite:/data/h", True),
        ("memory:", "sqlite:/home/u/.twin-actors/harbour/store?durable=no", False),
        ("postgresql://u@db/h", "postgresql://u@db/h?schema=city_harbour", True),
        ("postgresql://u@db/h?schema=own", "postgresql://u@db/h?schema=own", True),
        ("postgresql://u@db/h?options=-c%20x", "postgresql://u@db/h?options=-c%20x&schema=city_harbour", True),
    ],
)
def test_what_the_scenario_says_becomes_one_address(said: str, url: str, durable: bool) -> None:
    where = store_of(said, FOLDER, "harbour")
    assert (where.url, where.durable) == (url, durable)


def test_nobody_reads_the_password() -> None:
    where = store_of("postgresql://u:secret@db/h", FOLDER, "harbour")
    assert "secret" in where.url
    assert "secret" not in repr(where)
    assert where.shown == "postgresql://u@db/h?schema=city_harbour"


def test_every_city_has_a_schema_of_its_own() -> None:
    names = ["harbour", "Harbour", "har-bour", "har_bour", "hafen-süd", "hafen-sud", "h" * 80, "h" * 81]
    schemas = [schema_of(name) for name in names]
    assert len(set(schemas)) == len(names)
    assert all(len(schema) <= LONGEST_SCHEMA and schema.isascii() for schema in schemas)


def test_another_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="write sqlite:, memory: or postgresql"):
        store_of("redis://db", FOLDER, "harbour")


@pytest.mark.parametrize("url", ["sqlite:", "memory:", "sqlite:{tmp}/elsewhere", "sqlite://{tmp}/elsewhere"])
def test_a_store_in_a_folder_has_begun_once_something_is_kept_in_it(tmp_path: Path, url: str) -> None:
    where = store_of(url.format(tmp=tmp_path), tmp_path / "city", "harbour")
    assert not where.begun
    store = where.open()
    keep_sizes(store, {"footfall": Sizing(twins=5, bound="cores", says="as many as there are")})
    store.close()
    assert where.begun


def test_a_server_may_hold_something_before_anybody_asked_it() -> None:
    assert store_of("postgresql://me@host/cities", Path("/nowhere"), "harbour").begun
