"""``doctor``: what it looks at, and what it does where something blocks."""

from __future__ import annotations

import json
import re
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twin_actors.cli import doctor
from twin_actors.runtime import placement
from twin_actors.wire import broker

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {"Python", "Ray", "kernels", "memory", "/dev/shm", "open files", "/tmp", "ports", "home"}
EVERYTHING = {"scenario", "broker", "domains"} | MACHINE


def checks(run: Callable[..., Any], *words: Any) -> tuple[int, dict[str, dict[str, str]]]:
    result = run("doctor", "--json", *words)
    said = json.loads(result.stdout)
    assert said["ok"] == (result.exit_code == 0)
    return result.exit_code, {each["name"]: each for each in said["checks"]}


def test_it_looks_at_everything(run: Callable[..., Any], scenario_file: Path) -> None:
    _, found = checks(run, scenario_file)
    assert found.keys() >= EVERYTHING
    assert found["domains"]["state"] == "ok"
    assert "venues" in found["domains"]["says"]
    assert found["scenario"]["says"] == "little, 4 twins"
    assert "Python: 3." in run("doctor").stdout


def test_its_ray_is_the_one_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(re.fullmatch(rf"ray.*=={re.escape(doctor.RAY_SERIES)}\.\*", each) for each in project["dependencies"])
    assert project["requires-python"] == ">=" + ".".join(map(str, doctor.OLDEST_PYTHON))


def test_a_bad_scenario_blocks(run: Callable[..., Any]) -> None:
    code, found = checks(run, ROOT / "tests" / "scenarios" / "broken" / "unknown_kind.yaml")
    assert code == 1
    assert found["scenario"]["state"] == "blocked"


def test_too_little_memory_blocks(
    run: Callable[..., Any], scenario_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "free_memory_bytes", lambda: placement.RESERVED_BYTES + 2 * placement.ACTOR_BYTES)
    code, found = checks(run, scenario_file)
    assert code == 1
    assert "entities_per_actor" in found["memory"]["fix"]
    code, found = checks(run)
    assert found["memory"]["state"] == "ok"


def test_a_home_that_cannot_be_written_blocks(run: Callable[..., Any], home: Path) -> None:
    home.write_text("a file stands where the folder should be")
    result = run("doctor", "--json")
    assert result.exit_code == 1
    found = {each["name"]: each["state"] for each in json.loads(result.stdout)["checks"]}
    assert found["home"] == "blocked"


def test_without_mosquitto_it_warns_of_amqtt(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "find_mosquitto", lambda: None)
    _, found = checks(run)
    assert found["broker"]["state"] == "warn"
    assert "first hour" in found["broker"]["says"]


def test_a_broker_of_ones_own_must_answer(run: Callable[..., Any], tmp_path: Path, scenario_file: Path) -> None:
    above = tmp_path / "broker.yaml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        above.write_text(f"broker: {{url: 'mqtt://127.0.0.1:{server.getsockname()[1]}'}}\n")
        _, found = checks(run, scenario_file, above)
        assert found["broker"]["state"] == "ok"
    code, found = checks(run, scenario_file, above)
    assert code == 1
    assert "cannot be reached" in found["broker"]["says"]


def test_a_foreign_copy_of_a_domain_is_named(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "domains" / "venues"
    copy.mkdir(parents=True)
    (copy / "__init__.py").touch()
    import domains

    monkeypatch.setattr(domains, "__path__", [*domains.__path__, str(copy.parent)])
    result = json.loads(run("doctor", "--json").stdout)
    noted = [each for each in result["checks"] if each["name"] == "domains" and each["state"] == "warn"]
    assert len(noted) == 1
    assert "shadows" in noted[0]["says"]


def test_folders_of_ended_cities_are_told(run: Callable[..., Any], home: Path) -> None:
    (home / "harbour").mkdir(parents=True)
    (home / "harbour" / "head.log").write_text("log")
    _, found = checks(run)
    assert "harbour" in found["cities"]["says"]
