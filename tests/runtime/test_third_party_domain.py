"""A domain of somebody else: written by ``new-domain``, installed, launched, without a line changed in twin_actors."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import twin_actors
from twin_actors.cli.creating import render

pytestmark = pytest.mark.timeout(170)

CITY = """
city: waste-town
placement: {entities_per_actor: 2}
tick_s: 0.1
entities:
  - {kind: waste_bin, name: square, attributes: {volume_m3: 1.1}}
  - {kind: waste_bin, name: park}
  - {kind: footfall, name: street}
policies:
  - {use: collect_waste_bin, mode: act}
"""
STORY = """
import json, sys
from pathlib import Path
from twin_actors.runtime.city import City
from twin_actors.testing.live import devices_of, eventually, living, settled
from twin_actors.scenario import load_scenario

def main():
    with living(load_scenario([Path(sys.argv[1])])) as city:
        before = city["waste_bin/square"]
        with devices_of(city) as devices:
            now_s = city.now_s()
            for minute in range(10):
                devices.say("waste_bin/square", {"level_m3": 0.9 + 0.01 * minute}, at_s=now_s - 600 + 60 * minute)
            devices.say("footfall/street", {"flow_pph": 900})
            devices.flush()
        ledger = settled(city, 11)
        decisions = eventually(lambda: city.decisions().to_dict("records"), says=str(city.status()))
        after = city["waste_bin/square"]
        print(json.dumps({
            "kinds": city.kinds(),
            "before_m3": before.level_m3,
            "after": after.to_dict(),
            "park_m3": city["waste_bin/park"].level_m3,
            "balanced": ledger.balanced,
            "applied": ledger.applied,
            "policy": decisions[0]["policy"],
            "because": [sight.entity for sight in decisions[0]["because"]],
            "desired": eventually(lambda: city["waste_bin/square"].differs.get("collecting")),
            "shown": city.frame("waste_bin").loc["waste_bin/square", "fill_share"],
        }))

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as pip installs it."""
    folder = tmp_path_factory.mktemp("third-party")
    source, target = folder / "twin-actors-waste", folder / "site"
    render("waste", "waste_bin", source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    made = subprocess.run(
        [*pip, "--target", str(target), str(source)], capture_output=True, text=True, timeout=120, check=False
    )
    assert made.returncode == 0, made.stderr
    return target


def run(installed: Path, *command: str, without: bool = False) -> subprocess.CompletedProcess[str]:
    """A command of a user who has installed the package (or has not)."""
    environment = {
        **os.environ,
        "PYTHONPATH": "" if without else str(installed),
        "RAY_AUTH_MODE": "token",  # else Ray makes a token of its own and keeps it in the user's home
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
        cwd=installed.parent,
    )


def test_a_foreign_kind_lives_in_a_city(installed: Path, tmp_path: Path) -> None:
    scenario, story = tmp_path / "waste-town.yaml", tmp_path / "story.py"
    scenario.write_text(CITY)
    story.write_text(STORY)
    ended = run(installed, str(story), str(scenario))
    assert ended.returncode == 0, ended.stderr[-4000:]
    said: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    assert said["kinds"] == ["footfall", "waste_bin"]
    assert said["before_m3"] == said["park_m3"] == pytest.approx(0.3)
    after = said["after"]
    assert after["reported"]["level_m3"] == pytest.approx(0.99)
    assert after["estimated"]["level_m3"] > 0.95
    assert after["source"] == {"level_m3": "measured", "inflow_m3h": "estimated"}
    assert said["shown"] == pytest.approx(after["indicators"]["fill_share"], rel=0.05)
    assert said["balanced"]
    assert said["applied"] == 11
    assert said["policy"] == "collect_waste_bin"
    assert said["because"] == ["waste_bin/square"]
    assert said["desired"] == [1.0, 0.0]


def test_its_own_scenario_is_valid_and_it_is_unknown_without_it(installed: Path) -> None:
    own = installed.parent / "twin-actors-waste" / "waste.yaml"
    check = "import sys; from pathlib import Path; from twin_actors.scenario import load_scenario; "
    check += "print(len(load_scenario([Path(sys.argv[1])]).entities))"
    ended = run(installed, "-W", "error", "-c", check, str(own))
    assert ended.stdout.strip() == "6", ended.stderr
    without = run(installed, "-c", check, str(own), without=True)
    assert without.returncode != 0
    assert "waste_bin" in without.stderr


def test_nothing_in_twin_actors_knows_the_kind() -> None:
    sources = Path(twin_actors.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "waste_bin" in path.read_text()] == []
