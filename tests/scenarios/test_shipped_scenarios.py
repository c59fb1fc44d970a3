"""Every scenario that the project ships, run as its users run it: ``twin-actors up FILE --for … --json``."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from twin_actors.scenario import load_scenario

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted((ROOT / "scenarios").glob("*.yaml"))


def up(name: str, seconds: int, home: Path, deadline_s: float) -> dict:
    """The account of one run. Its exit code is 0 only when the ledger balances."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "twin_actors.cli",
            "up",
            str(ROOT / "scenarios" / name),
            "--for",
            f"{seconds}s",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=deadline_s,
        env={**os.environ, "TWIN_ACTORS_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    account: dict = json.loads(done.stdout)
    assert account["ledger_balanced"] is True
    assert account["unexplained"] == 0
    assert account["failed_ticks"] == 0, account["errors"]
    parts = ("readings_applied", "duplicates", "late", "dead_lettered", "shed", "in_flight")
    assert account["readings_received"] == sum(account[part] for part in parts)
    return account


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_is_valid(path: Path) -> None:
    assert load_scenario([path]).entities


@pytest.mark.timeout(240)
def test_harbour_lives(tmp_path: Path) -> None:
    account = up("harbour.yaml", 30, tmp_path, 220)
    assert account["twins"] == account["actors"] == 24
    assert account["readings_applied"] > 500
    assert account["decisions"] >= 5
    assert account["allocations"] >= 1
    assert account["commands_acknowledged"] >= 1
    assert account["alerts"] >= 3
    assert account["emergencies"] >= 1
    assert all(kind["silent"] == 0 for kind in account["kinds"].values())


@pytest.mark.timeout(240)
def test_grid_lives(tmp_path: Path) -> None:
    account = up("grid.yaml", 18, tmp_path, 220)
    assert account["twins"] == 24
    assert account["readings_applied"] > 500
    assert account["commands_acknowledged"] >= 5
    assert account["decisions"] > 50, "streets bring traffic, and stages change"
    assert all(kind["silent"] == 0 for kind in account["kinds"].values())


def test_the_overlays_fit_what_they_lie_on() -> None:
    overlay = ROOT / "scenarios" / "overlays" / "grid-webster.yaml"
    scenario = load_scenario([ROOT / "scenarios" / "grid.yaml", overlay])
    assert {policy.name for policy in scenario.policies} == {
        "street_flows", "road_neighbours", "webster", "signal_stages",
    }  # fmt: skip


@pytest.mark.timeout(240)
def test_metropolis_lives(tmp_path: Path) -> None:
    account = up("metropolis.yaml", 8, tmp_path, 220)
    assert account["twins"] == 10_000
    assert account["readings_applied"] > 500


@pytest.mark.timeout(200)
def test_the_recorded_day_is_played_to_its_end(tmp_path: Path) -> None:
    account = up("replay.yaml", 27, tmp_path, 180)
    readings = 6 * 288 + 4 * 24
    assert account["readings_received"] == readings
    assert account["readings_applied"] == readings, account


@pytest.mark.slow  # its domain has tests of its own, and harbour, grid and metropolis live in the quick run
@pytest.mark.timeout(240)
def test_water_lives(tmp_path: Path) -> None:
    account = up("water.yaml", 15, tmp_path, 220)
    assert account["twins"] == account["actors"] == 6
    assert account["readings_applied"] > 100
    assert account["decisions"] >= 1
    assert account["commands_acknowledged"] >= 1
    assert all(kind["silent"] == 0 for kind in account["kinds"].values())


@pytest.mark.slow  # as water
@pytest.mark.timeout(240)
def test_health_lives(tmp_path: Path) -> None:
    account = up("health.yaml", 15, tmp_path, 220)
    assert account["twins"] == account["actors"] == 8
    assert account["readings_applied"] > 100
    assert account["decisions"] >= 2
    assert account["commands_acknowledged"] >= 1
    assert all(kind["silent"] == 0 for kind in account["kinds"].values())


def test_the_recordings_are_what_their_generator_makes(tmp_path: Path) -> None:
    path = ROOT / "scenarios" / "recordings" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate_recordings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path)
    for name in ("air.csv", "road.csv"):
        made, shipped = (tmp_path / name).read_text().splitlines(), (path.parent / name).read_text().splitlines()
        assert len(made) == len(shipped)
        assert made[:3] == shipped[:3]
