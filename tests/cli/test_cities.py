"""Commands that mean a city, where none runs or several do; leftovers of cities that were not ended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twin_actors.runtime.processes import Record, Running


def leave_record(home: Path, name: str, *, alive: bool) -> None:
    """A city's record whose Ray head is this very process (alive) or one that has gone."""
    me = Running.of(os.getpid()).began_s
    folder = home / name
    folder.mkdir(parents=True)
    Record(
        city=name,
        scenario=("little.yaml",),
        address="127.0.0.1:1",
        namespace=f"twin-actors-{name}",
        token="",
        launched_at_s=time.time() - 75,
        head=Running(os.getpid(), me if alive else me - 1000),
    ).save(folder)


@pytest.mark.parametrize(
    "words",
    [
        ("down",),
        ("show", "venue/arena"),
        ("query", "venue", "fill > 0"),
        ("watch",),
        ("decisions",),
        ("commands",),
        ("emergencies",),
        ("alerts",),
        ("dead-letters", "--last", "3"),
        ("allocations",),
        ("ledger", "--by", "kind"),
        ("command", "venue/arena", "gates_open=1"),
        ("shell",),
    ],
)
def test_without_a_city_every_command_says_how_to_start_one(run: Callable[..., Any], words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert result.stderr == "no city runs here; start one with 'twin-actors up FILE'\n"
    assert result.stdout == ""


def test_ps_of_nothing(run: Callable[..., Any]) -> None:
    assert json.loads(run("ps", "--json").stdout) == []
    result = run("ps")
    assert result.exit_code == 0
    assert "no city runs here" in result.stdout


def test_ps_lists_what_runs(run: Callable[..., Any], home: Path) -> None:
    leave_record(home, "harbour", alive=True)
    (city,) = json.loads(run("ps", "--json").stdout)
    assert (city["city"], city["head_pid"], city["broker"]) == ("harbour", os.getpid(), None)
    assert city["uptime_s"] == pytest.approx(75, abs=30)
    assert city["memory_bytes"] > 0
    assert "1 min 15 s" in run("ps").stdout or "1 min" in run("ps").stdout


def test_several_cities_must_be_named(run: Callable[..., Any], home: Path) -> None:
    leave_record(home, "harbour", alive=True)
    leave_record(home, "hill", alive=True)
    result = run("ledger")
    assert result.exit_code == 1
    assert "2 cities run here, say which one: harbour, hill" in result.stderr
    result = run("ledger", "harbor")
    assert result.exit_code == 1
    assert "did you mean 'harbour'?" in result.stderr


def test_a_city_whose_head_has_gone_is_named_and_cleared(run: Callable[..., Any], home: Path) -> None:
    leave_record(home, "harbour", alive=False)
    assert "twin-actors down harbour" in run("ps").stderr
    assert json.loads(run("down", "--json").stdout)["city"] == "harbour"
    assert not (home / "harbour" / "city.json").exists()
    assert run("down", "harbour").exit_code == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("up",), "at least one scenario file"),
        (("show", "a", "b", "c"), "expected [CITY] ENTITY"),
        (("query", "a", "b", "c", "d"), "expected [CITY] KIND [EXPR]"),
        (("command", "venue/arena"), "FIELD=VALUE"),
        (("command", "venue/arena", "gates_open"), "FIELD=VALUE"),
        (("command", "venue/arena", "gates_open=wide"), "FIELD=VALUE"),
        (("watch", "--for", "soon"), "not a duration"),
        (("up", "x.yaml", "--for", "3x"), "unknown unit of time"),
        (("up", "x.yaml", "--for", "0s"), "longer than 0"),
        (("up", "x.yaml", "-d", "--for", "3s"), "give one of them"),
        (("replay", "x.yaml", "--city", "a", "--broker", "b"), "either --city or --broker"),
        (("replay", "x.yaml", "--speed", "fast"), "--speed"),
    ],
)
def test_wrong_usage_is_explained(run: Callable[..., Any], words: tuple[str, ...], says: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.replace("│", " ").split())


def test_debug_shows_where_it_went_wrong(run: Callable[..., Any]) -> None:
    result = run("ledger", "--debug")
    assert type(result.exception).__name__ == "Failed"
    assert run("ledger").exit_code == 1
