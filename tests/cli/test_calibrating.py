"""``calibrate``: a history in, one more scenario file out, which the other commands take."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from twin_actors.runtime.training import calibrate_entities, history_of, keep_versions, version_of
from twin_actors.scenario import load_catalogue, load_scenario
from twin_actors.store.memory import MemoryStore

SCENARIO = """\
city: little
entities:
  - {kind: footfall, name: quay}
  - {kind: footfall, name: hill}
sources:
  - replay:
      file: counts.csv
      kind: footfall
      entity: {column: place}
      time: {column: at}
      fields: {n: flow_pph}
"""
MAPPING = "kind: footfall\nwide: {field: flow_pph}\ntime: {column: when}\n"


def counts(hours: int = 160) -> tuple[list[datetime], np.ndarray]:
    chance = np.random.default_rng(0)
    times = [datetime(2026, 6, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(hours)]
    return times, np.abs(40 + chance.normal(size=(hours, 2)) * np.array([1.0, 6.0]))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    times, values = counts()
    rows = [
        f"{at:%Y-%m-%dT%H:%M:%SZ},{place},{value:.3f}"
        for at, row in zip(times, values, strict=True)
        for place, value in zip(("quay", "hill"), row, strict=True)
    ]
    (tmp_path / "counts.csv").write_text("at,place,n\n" + "\n".join(rows) + "\n")
    path = tmp_path / "city.yaml"
    path.write_text(SCENARIO)
    return path


def test_a_calibration_becomes_a_layer(run: Callable[..., Any], recorded: Path) -> None:
    result = run("calibrate", recorded, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    made = recorded.with_suffix(".calibrated.yaml")
    assert said["file"] == str(made)
    assert said["better"] == 2
    assert {each["entity"] for each in said["entities"]} == {"footfall/quay", "footfall/hill"}
    for each in said["entities"]:
        assert each["likelihood_after"] < each["likelihood_before"]
        assert each["train_s"][1] == each["validation_s"][0]
    assert yaml.safe_load(made.read_text())["parameters"] == said["parameters"]
    layered = load_scenario([recorded, made])
    assert layered.entities[0].sd["flow_pph"] < layered.entities[1].sd["flow_pph"]
    assert run("validate", recorded, "-f", made).exit_code == 0
    assert "have better parameters on unseen time" in run("calibrate", recorded, "-o", made).stdout


def test_another_history_is_read_with_a_mapping_of_its_own(
    run: Callable[..., Any], recorded: Path, tmp_path: Path
) -> None:
    times, values = counts()
    history, mapping, made = tmp_path / "wide.csv", tmp_path / "map.yaml", tmp_path / "out.yaml"
    lines = [f"{at:%Y-%m-%dT%H:%M:%SZ},{row[0]:.3f}" for at, row in zip(times, values, strict=True)]
    history.write_text("when,quay\n" + "\n".join(lines) + "\n")
    mapping.write_text(MAPPING)
    result = run("calibrate", recorded, "--history", history, "--mapping", mapping, "-o", made, "--json")
    assert result.exit_code == 0, result.stderr
    assert [each["entity"] for each in json.loads(result.stdout)["entities"]] == ["footfall/quay"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mapping", "map.yaml"), "give both"),
        (("--history", "missing.csv"), "does not exist"),
        (("--source", "3"), "there is no replay 3"),
        (("--fit", "height_m"), "no attribute 'height_m'"),
    ],
)
def test_what_cannot_be_done_says_why(
    run: Callable[..., Any], recorded: Path, words: tuple[str, ...], message: str
) -> None:
    result = run("calibrate", recorded, *words)
    assert result.exit_code != 0
    assert message in result.stderr
    assert not recorded.with_suffix(".calibrated.yaml").exists()


def test_versions_are_kept_with_their_evidence(recorded: Path) -> None:
    from twin_actors.runtime.recording import load_replay

    scenario = load_scenario(recorded)
    kind = load_catalogue().kinds["footfall"]
    history = history_of([load_replay(scenario.replays[0])], kind, [each.id for each in scenario.entities])
    calibration = calibrate_entities(kind, scenario.entities, history)
    store = MemoryStore()
    assert version_of(store, "footfall/quay") is None
    first = keep_versions(store, calibration, kind, at_s=1e9)
    second = keep_versions(store, calibration, kind, at_s=2e9)
    assert (first["footfall/quay"], second["footfall/quay"]) == (1, 2)
    newest, oldest = version_of(store, "footfall/quay"), version_of(store, "footfall/quay", 1)
    assert newest is not None
    assert oldest is not None
    assert (newest["at_s"], oldest["at_s"]) == (2e9, 1e9)
    assert newest["parameters"]["sd"]["flow_pph"] > 0
    rows = store.records("calibrations", 10)
    assert [row["version"] for row in rows] == [1, 1, 2, 2]
    assert rows[0]["coverage_90"]["flow_pph"][1] is not None
