"""``new-domain``: the written package passes its own tests, and its scenario loads, whatever it is called."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twin_actors.scenario import Catalogue, load_scenario

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def package(run: Callable[..., Any], tmp_path: Path) -> Path:
    result = run("new-domain", "waste", "--into", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "twin-actors up" in result.stdout
    return tmp_path / "twin-actors-waste"


def test_its_own_tests_pass(package: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(package), str(ROOT)))}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests"],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_its_scenario_loads_with_its_domain(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package))
    domain = importlib.import_module("twin_actors_waste").DOMAIN
    scenario = load_scenario(package / "waste.yaml", catalogue=Catalogue.of([domain]))
    assert scenario.city == "waste-town"
    assert scenario.kinds_used() == ("waste_bin",)
    assert len(scenario.simulations[0].entities) == 6


def test_its_entry_point_is_the_one_that_is_looked_for(package: Path) -> None:
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["name"] == "twin-actors-waste"
    assert project["entry-points"] == {"twin_actors.domains": {"waste": "twin_actors_waste:DOMAIN"}}


def test_it_is_formatted_and_names_nothing_unfilled(package: Path) -> None:
    files = [path for path in package.rglob("*") if path.suffix in (".py", ".yaml", ".toml")]
    assert len(files) == 9
    for path in files:
        assert "$" not in path.read_text(), path
        assert "__pycache__" not in str(path)
    for command in (["check", "--select", "E,F,I,UP,B,SIM,RUF100"], ["format", "--check"]):
        ran = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "120", "--no-cache", "."],
            cwd=package,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_another_kind_and_json(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("new-domain", "parking_lots", "--kind", "garage", "--into", tmp_path, "--json")
    said = json.loads(result.stdout)
    assert said["package"] == "twin_actors_parking_lots"
    folder = tmp_path / "twin-actors-parking-lots"
    assert sorted(said["files"]) == sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert "class GarageState(State)" in (folder / said["package"] / "model.py").read_text()


def test_nothing_is_overwritten(run: Callable[..., Any], package: Path) -> None:
    result = run("new-domain", "waste", "--into", package.parent)
    assert result.exit_code == 1
    assert "exists already" in result.stderr


@pytest.mark.parametrize("name", ["Waste", "my-waste", "1st", "class", ""])
def test_names_that_python_does_not_take_are_refused(run: Callable[..., Any], tmp_path: Path, name: str) -> None:
    result = run("new-domain", name, "--into", tmp_path)
    assert result.exit_code == 2
    assert not list(tmp_path.glob("twin-actors*"))
