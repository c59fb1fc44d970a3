"""``validate``, ``schema`` and ``version``: what needs no machine, and what must not load Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BROKEN = ROOT / "tests" / "scenarios" / "broken"


def test_a_good_scenario_is_summed_up(run: Callable[..., Any], scenario_file: Path) -> None:
    result = run("validate", scenario_file)
    assert result.exit_code == 0
    assert "little: 4 twins of 2 kinds in 4 twin actors" in result.stdout
    assert "venue_emptying (advise)" in result.stdout
    assert "4 simulated devices" in result.stdout


def test_the_summary_as_json(run: Callable[..., Any], scenario_file: Path) -> None:
    result = run("validate", scenario_file, "--json")
    said = json.loads(result.stdout)
    assert result.exit_code == 0
    assert said["valid"] is True
    assert (said["city"], said["twins"], said["actors"]) == ("little", 4, 4)
    assert said["kinds"]["venue"] == {"twins": 1, "domain": "venues", "actors": 1}
    assert said["sources"] == {"simulated": 4, "story_steps": 0, "replays": [], "fleets": []}


def test_files_are_layered_in_their_order(run: Callable[..., Any], scenario_file: Path, tmp_path: Path) -> None:
    above = tmp_path / "above.yaml"
    above.write_text("city: big\nentities: [{kind: footfall, name: gate}]\nplacement: {entities_per_actor: 5}\n")
    said = json.loads(run("validate", scenario_file, "-f", above, "--json").stdout)
    assert (said["city"], said["twins"], said["actors"]) == ("big", 5, 1)


def test_all_problems_come_at_once_without_a_traceback(run: Callable[..., Any], tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("city: x\nentites: []\nentities:\n  - {kind: venu, name: a}\n")
    result = run("validate", bad)
    assert result.exit_code == 2
    assert "did you mean 'entities'?" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", [("validate",), ("up",), ("up", "-d"), ("up", "--for", "1s", "--json")])
def test_a_bad_scenario_ends_with_2_and_starts_nothing(run: Callable[..., Any], command: tuple[str, ...]) -> None:
    result = run(*command, BROKEN / "unknown_kind.yaml")
    assert result.exit_code == 2
    assert "did you mean 'venue'?" in result.stderr
    assert not Path(os.environ["TWIN_ACTORS_HOME"]).exists()


def test_problems_as_json(run: Callable[..., Any]) -> None:
    result = run("validate", BROKEN / "unknown_kind.yaml", "--json")
    said = json.loads(result.stdout)
    assert result.exit_code == 2
    assert said["valid"] is False
    assert said["problems"][0]["line"] == 5
    assert said["problems"][0]["suggestion"] == "venue"


def test_a_file_that_is_not_there(run: Callable[..., Any]) -> None:
    result = run("validate", "nowhere.yaml")
    assert result.exit_code == 2
    assert "nowhere.yaml" in result.stderr


def test_the_schema_takes_the_scenarios(run: Callable[..., Any], tmp_path: Path, scenario_file: Path) -> None:
    made = json.loads(run("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(made)
    validator = jsonschema.Draft202012Validator(made)
    validator.validate(yaml.safe_load(scenario_file.read_text()))
    assert list(validator.iter_errors({"city": "x", "entites": []}))
    target = tmp_path / "schema.json"
    assert run("schema", "-o", target).exit_code == 0
    assert json.loads(target.read_text()) == made
    assert json.loads(run("schema", "--json").stdout) == made


def test_version(run: Callable[..., Any]) -> None:
    assert json.loads(run("version", "--json").stdout).keys() == {"twin_actors", "python", "ray"}
    assert run("version").stdout.startswith("twin-actors 0.")


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [
        (["--help"], {"ray", "pandas", "scipy", "numpy", "paho", "pydantic"}),
        (["validate", "{file}"], {"ray", "pandas", "scipy"}),
        (["ps"], {"ray", "pandas", "scipy"}),
    ],
)
def test_light_commands_do_not_load_heavy_libraries(words: list[str], forbidden: set[str], scenario_file: Path) -> None:
    program = (
        "import sys\nfrom twin_actors.cli import main\n"
        "try: main()\nfinally: print('LOADED', *{n.partition('.')[0] for n in sys.modules}, file=sys.stderr)"
    )
    words = [word.format(file=scenario_file) for word in words]
    ran = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stderr.rpartition("LOADED")[2].split())
    assert not loaded & forbidden
