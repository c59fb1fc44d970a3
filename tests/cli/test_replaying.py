"""``replay`` against a real broker: every row of a recording arrives as its device would have sent it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twin_actors.wire.broker import EmbeddedBroker
from twin_actors.wire.client import MqttClient

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
      fields: {n: FIELD}
      speed: 1
"""
ROWS = "at,place,n\n" + "".join(
    f"2026-06-01T10:{minute:02d}:00Z,{place},{minute}\n" for minute in range(20) for place in ("quay", "hill")
)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    from twin_actors.scenario import load_catalogue

    field = next(iter(load_catalogue().kind("footfall").reading.layout.labels))
    (tmp_path / "counts.csv").write_text(ROWS)
    path = tmp_path / "recorded.yaml"
    path.write_text(SCENARIO.replace("FIELD", field))
    return path


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "broker") as running:
        yield running


def test_a_recording_arrives_whole(run: Callable[..., Any], recorded: Path, broker: EmbeddedBroker) -> None:
    heard: list[str] = []
    whole = threading.Event()

    def receive(topic: str, payload: bytes, *_: Any) -> None:
        heard.append(topic)
        if len(heard) == 40:
            whole.set()

    with MqttClient(
        broker.address, client_id="ear", receive=receive, subscriptions=[("little/+/+/telemetry", 1)]
    ) as ear:
        ear.wait_connected(10.0)
        result = run("replay", recorded, "--broker", broker.address.url, "--speed", "max", "--json")
        assert result.exit_code == 0, result.stderr
        assert whole.wait(10.0)
    said = json.loads(result.stdout)
    assert said["sent"] == 40
    assert said["replays"][0]["bad_rows"] == 0
    assert sorted(set(heard)) == ["little/footfall/hill/telemetry", "little/footfall/quay/telemetry"]


def test_what_cannot_be_played_is_said(run: Callable[..., Any], recorded: Path, scenario_file: Path) -> None:
    result = run("replay", recorded, "--source", "2", "--broker", "mqtt://127.0.0.1:1")
    assert result.exit_code == 1
    assert "there is no replay 2; there are 1:" in result.stderr
    result = run("replay", scenario_file, "--broker", "mqtt://127.0.0.1:1")
    assert "has no replays" in result.stderr
    result = run("replay", recorded)
    assert result.exit_code == 1
    assert "no city called 'little' runs here" in result.stderr
    result = run("replay", recorded, "--broker", "nonsense")
    assert "mqtt://host:port" in result.stderr
