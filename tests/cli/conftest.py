"""The command line in this process, with a home folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from twin_actors.cli.app import app

HARBOUR = Path(__file__).resolve().parents[2] / "scenarios" / "harbour.yaml"
MACHINES = ("--head-ip", "10.0.0.1", "--worker-ip", "10.0.0.2", "--worker-ip", "10.0.0.3")
CITY = """\
city: {name}
entities:
  - {{kind: venue, name: arena, attributes: {{area_m2: 9000, capacity_persons: 16000, exit_width_m: 28}}}}
  - {{kind: footfall, pattern: "p-{{n}}", count: 3}}
policies:
  - {{use: venue_emptying, mode: advise}}
sources:
  - simulate: {{seed: 7}}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for cities."""
    place = tmp_path / "home"
    monkeypatch.setenv("TWIN_ACTORS_HOME", str(place))
    return place


@pytest.fixture
def run() -> Callable[..., Any]:
    """``run("validate", path)``: the result with ``exit_code``, ``stdout`` and ``stderr``."""
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    path = tmp_path / "little.yaml"
    path.write_text(CITY.format(name="little"))
    return path


@pytest.fixture
def rendered(run: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """``rendered("compose", scenario, *options)``: the folder that was written."""

    def make(form: str, *words: Any) -> Path:
        folder = tmp_path / form
        result = run(
            "cluster", "render", *(words or (HARBOUR,)), "--to", folder, "--as", form,
            *(MACHINES if form == "ray-up" else ()),
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        return folder

    return make
