"""``twin-actors metrics``: text, JSON and a file, from a city whose parts may be silent."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from twin_actors.cli import measuring
from twin_actors.cli.measuring import write_at_once
from twin_actors.runtime.metrics import gather

TARGETS = [{"targets": ["192.0.2.7:25207"], "labels": {}}]


@pytest.fixture
def silent_city(monkeypatch: pytest.MonkeyPatch) -> None:
    """A city of which no part answers; what a living one measures is tested with a living one (tests/runtime)."""

    def connected(name: str | None) -> AbstractContextManager[Any]:
        city = name or "little"
        return nullcontext(
            SimpleNamespace(
                name=city,
                metrics=lambda: gather(city, ("router",), lambda actor, method: None),
                metrics_targets=lambda: TARGETS,
            )
        )

    monkeypatch.setattr(measuring, "connected", connected)


def answers(text: str) -> dict[str, float]:
    (family,) = text_string_to_metric_families(text)
    assert family.name == "twin_actors_answers"
    return {sample.labels["part"]: sample.value for sample in family.samples}


SILENT = {"router": 0.0, "aggregator": 0.0, "controller": 0.0}


def test_without_a_city_it_says_how_to_start_one(run: Callable[..., Any], tmp_path: Path) -> None:
    old = tmp_path / "city.prom"
    old.write_text("as it was")
    result = run("metrics", "--output", old)
    assert result.exit_code == 1
    assert result.stderr == "no city runs here; start one with 'twin-actors up FILE'\n"
    assert old.read_text() == "as it was"


@pytest.mark.usefixtures("silent_city")
def test_text_for_prometheus_is_all_that_is_printed(run: Callable[..., Any]) -> None:
    result = run("metrics")
    assert (result.exit_code, result.stderr) == (0, "")
    assert answers(result.stdout) == SILENT


@pytest.mark.usefixtures("silent_city")
def test_the_same_as_json(run: Callable[..., Any]) -> None:
    said = json.loads(run("metrics", "harbour", "--json").stdout)
    assert said["city"] == "harbour"
    assert said["samples"][0] == {
        "name": "twin_actors_answers",
        "labels": {"city": "harbour", "part": "router"},
        "value": 0.0,
    }


@pytest.mark.usefixtures("silent_city")
def test_a_file_for_a_collector(run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "city.prom"
    file.write_text("as it was")
    result = run("metrics", "-o", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert answers(file.read_text()) == SILENT
    assert list(tmp_path.glob("*.prom*")) == [file]
    assert run("metrics", "-o", tmp_path / "nowhere" / "city.prom").exit_code == 1


@pytest.mark.usefixtures("silent_city")
def test_targets_for_file_discovery(run: Callable[..., Any], tmp_path: Path) -> None:
    assert json.loads(run("metrics", "--targets").stdout) == TARGETS
    file = tmp_path / "cities.json"
    assert run("metrics", "--targets", "-o", file).exit_code == 0
    assert json.loads(file.read_text()) == TARGETS


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "city.prom").mkdir()
    with pytest.raises(OSError, match=r"city\.prom"):
        write_at_once(tmp_path / "city.prom", "text\n")
    assert [each.name for each in tmp_path.iterdir()] == ["city.prom"]
