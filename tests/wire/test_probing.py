"""What a foreign broker would lose is found out by trying it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from twin_actors.wire.address import BrokerAddress
from twin_actors.wire.broker import EmbeddedBroker, find_mosquitto
from twin_actors.wire.probing import MESSAGES, probe

DEFAULTS = "listener {port} 127.0.0.1\nallow_anonymous true\n"


@pytest.fixture
def as_it_comes(tmp_path: Path) -> Iterator[BrokerAddress]:
    """Mosquitto with its own defaults, which are those of most people."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("Mosquitto is not installed")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(DEFAULTS.format(port=port))
    process = subprocess.Popen([program, "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "Mosquitto does not listen"
                time.sleep(0.02)  # a pause between two looks, bounded by the deadline
        yield BrokerAddress(host="127.0.0.1", port=port)
    finally:
        process.terminate()
        process.wait(10)


def test_the_defaults_of_mosquitto_drop_what_they_have_acknowledged(as_it_comes: BrokerAddress) -> None:
    found = probe(as_it_comes, "town")
    assert found.protocol == "5"
    assert 1_000 <= found.kept < MESSAGES
    assert found.version.startswith("mosquitto version 2")
    assert found.tells_dropped


def test_our_configuration_drops_nothing(mosquitto: EmbeddedBroker) -> None:
    found = probe(mosquitto.address, "town")
    assert found.kept == found.sent == MESSAGES
    assert probe(mosquitto.address, "town").kept == MESSAGES  # nothing of the first try is left
