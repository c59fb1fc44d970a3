"""The embedded broker's life: found again from its description, ended exactly, never somebody else's process."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from twin_actors.wire.broker import BrokerFailed, EmbeddedBroker, find_mosquitto, free_port
from twin_actors.wire.client import MqttClient


def test_another_process_can_find_and_stop_it(broker: EmbeddedBroker) -> None:
    attached = EmbeddedBroker.attach(broker.describe())
    assert attached.running
    client = MqttClient(attached.address)
    client.wait_connected(10)
    client.close()
    attached.stop()
    assert not attached.running
    assert not broker.running
    assert not psutil.pid_exists(broker.describe()["pid"])


def test_it_is_a_session_of_its_own(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    assert os.getsid(broker.pid) == broker.pid != os.getsid(0)


def test_only_the_loopback_is_served(broker: EmbeddedBroker) -> None:
    listening = {
        c.laddr.ip for c in psutil.Process(broker.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_a_process_that_only_has_the_number_is_left_alone(tmp_path: Path) -> None:
    description = {
        "kind": "amqtt",
        "pid": os.getpid(),
        "port": free_port(),
        "folder": str(tmp_path),
        "began_s": 1_000_000.0,
    }
    impostor = EmbeddedBroker.attach(description)
    assert not impostor.running
    impostor.stop()  # would end this test


def test_start_and_stop_twice_is_harmless(broker: EmbeddedBroker) -> None:
    pid = broker.pid
    assert broker.start().pid == pid
    broker.stop()
    broker.stop()
    assert not broker.running


@pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed")
def test_a_taken_port_is_an_error_that_shows_the_log(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "first", "mosquitto") as first:
        second = EmbeddedBroker(tmp_path / "second", "mosquitto", port=first.port)
        with pytest.raises(BrokerFailed, match=r"ended at once.*in use"):
            second.start()
        assert not second.running
        assert first.running


def test_amqtt_has_no_users(tmp_path: Path) -> None:
    with pytest.raises(BrokerFailed, match="install Mosquitto"):
        EmbeddedBroker(tmp_path, "amqtt", users={"a": "b"})
