"""Ten times the load for a moment: every reading is explained, and no process grows without bound."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.flood import flood
from twin_actors.wire.broker import EmbeddedBroker, find_mosquitto
from twin_actors.wire.client import MqttClient

ROOT = Path(__file__).parents[2]
ROUTER_MB = 500
"""Far above what the router takes (about 200 MB), far below what an unbounded queue of the flood would."""
pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed")


@pytest.mark.timeout(300)
def test_a_flood_leaves_a_balanced_ledger_and_bounded_processes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.overload", "--seconds", "4", "--qos", "0", "--calm", "2", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    report: dict[str, Any] = json.loads(done.stdout)
    (leg,) = report["legs"]
    ledger = leg["ledger"]
    assert report["balanced"]
    assert ledger["in_flight"] == ledger["unexplained"] == 0
    assert ledger["received"] >= leg["sent"] - (leg["dropped_by_the_broker"] or 0)
    assert leg["times_sustained"] > 2, "this was no overload"
    assert leg["rss_mb_largest"]["Router"] < ROUTER_MB, leg["rss_mb_largest"]


@pytest.mark.parametrize("qos", [0, 1])
def test_the_flood_is_made_of_readings_that_a_client_can_hear(tmp_path: Path, qos: int) -> None:
    """The packets are made by hand; another client of the broker must get every one of them."""
    heard: list[tuple[str, bytes]] = []
    everything = threading.Event()

    def receive(topic: str, payload: bytes, *_: object) -> None:
        heard.append((topic, payload))
        if len(heard) >= 500:
            everything.set()

    with EmbeddedBroker(tmp_path, kind="mosquitto") as broker:
        with MqttClient(broker.address, client_id="ear", receive=receive, subscriptions=[("town/#", qos)]) as ear:
            ear.wait_connected(10.0)
            sent, _ = flood(broker.port, "town", qos, 1000.0, 0.6, 7)
            assert everything.wait(20.0)
        assert sent >= 500
        assert heard[0][0] == "town/footfall/f-001/telemetry"
        assert json.loads(heard[0][1])["seq"] == 0
