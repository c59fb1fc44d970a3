"""The client against real brokers: delivery, reconnecting, acknowledgements, TLS, and what it says when it fails."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from twin_actors.wire.broker import EmbeddedBroker, TlsFiles, find_mosquitto, free_port
from twin_actors.wire.client import BrokerAddress, BrokerUnreachable, MqttClient, Will

from .conftest import Inbox, eventually

Open = Callable[..., MqttClient]


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_goes_round(broker: EmbeddedBroker, open_client: Open, qos: int) -> None:
    inbox = Inbox()
    open_client(broker.address, inbox, subscriptions=[("harbour/+/+/telemetry", qos)])
    sender = open_client(broker.address)
    for number in range(20):
        assert sender.publish("harbour/venue/stadium/telemetry", b"%d" % number, qos)
    eventually(lambda: len(inbox.deliveries) >= 20)
    assert inbox.payloads == [b"%d" % number for number in range(20)]
    topic, _, delivered_qos, _, connection = inbox.deliveries[0]
    assert (topic, delivered_qos, connection) == ("harbour/venue/stadium/telemetry", qos, 1)
    assert sender.flush(5)


def test_auto_finds_the_version_that_the_broker_speaks(broker: EmbeddedBroker, open_client: Open) -> None:
    client = open_client(replace(broker.address, protocol="auto"))
    assert client.protocol == ("5" if broker.kind == "mosquitto" else "3.1.1")
    client.drop()
    eventually(lambda: client.ready and client.reconnects == 1)
    assert client.protocol == ("5" if broker.kind == "mosquitto" else "3.1.1")


def test_one_thread_can_drive_it_by_steps(broker: EmbeddedBroker, open_client: Open) -> None:
    inbox = Inbox()
    client = open_client(broker.address, inbox, started=False, subscriptions=[("t/#", 1)])
    assert client.publish("t/1", b"hello", 1)
    eventually(lambda: client.step(0.05) or inbox.deliveries)
    assert inbox.payloads == [b"hello"]
    assert client.flush(5)


def test_it_comes_back_with_its_subscriptions_when_the_broker_restarts(
    broker: EmbeddedBroker, open_client: Open
) -> None:
    inbox = Inbox()
    client = open_client(broker.address, inbox, subscriptions=[("t/#", 1)])
    port = broker.port
    broker.stop()
    eventually(lambda: not client.connected)
    eventually(lambda: "nothing listens there" in client.last_error)
    assert not client.publish("t/1", b"lost", 0)
    assert client.refused == 1
    assert client.publish("t/1", b"kept", 1)
    broker.start()
    assert broker.port == port
    eventually(lambda: client.ready, 20)
    eventually(lambda: b"kept" in inbox.payloads)
    assert client.reconnects == 1
    assert client.last_error == ""
    assert inbox.deliveries[-1][4] == 2


def test_what_was_not_acknowledged_comes_again(mosquitto: EmbeddedBroker, open_client: Open) -> None:
    inbox = Inbox()
    router = open_client(
        mosquitto.address,
        inbox,
        client_id="router",
        clean_start=False,
        manual_ack=True,
        subscriptions=[("t/#", 1)],
    )
    sender = open_client(mosquitto.address)
    for number in range(4):
        sender.publish("t/1", b"%d" % number, 1)
    eventually(lambda: len(inbox.deliveries) == 4)
    _, _, _, second, connection = inbox.deliveries[1]
    assert router.acknowledge(second, connection) == 2
    router.drop()
    eventually(lambda: len(inbox.deliveries) == 6)
    assert inbox.payloads[4:] == [b"2", b"3"]
    _, _, _, last, now = inbox.deliveries[-1]
    assert now == 2
    assert router.acknowledge(last, connection) == 0, "an acknowledgement for an earlier connection is dropped"
    assert router.stale_acknowledgements == 1
    assert router.acknowledge(last, now) == 2


def test_sessions_survive_a_restart_of_mosquitto(mosquitto: EmbeddedBroker, open_client: Open) -> None:
    inbox = Inbox()
    options = {"client_id": "router", "clean_start": False, "manual_ack": True, "subscriptions": [("t/#", 1)]}
    first = open_client(mosquitto.address, **options)
    first.close()
    open_client(mosquitto.address).publish("t/1", b"while away", 1)
    sender = open_client(mosquitto.address)
    sender.publish("t/1", b"second", 1)
    assert sender.flush(5)
    mosquitto.stop()
    mosquitto.start()
    open_client(mosquitto.address, inbox, **options)
    eventually(lambda: b"second" in inbox.payloads)
    assert b"while away" in inbox.payloads


def test_the_last_will_is_seen(broker: EmbeddedBroker, open_client: Open) -> None:
    inbox = Inbox()
    open_client(broker.address, inbox, subscriptions=[("harbour/city/status", 1)])
    will = Will(topic="harbour/city/status", payload=b'{"status":"lost"}', retain=False)
    doomed = open_client(broker.address, started=False, will=will)
    with socket.socket(fileno=os.dup(doomed.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)
    eventually(lambda: b'{"status":"lost"}' in inbox.payloads)


def test_a_goodbye_leaves_no_will(broker: EmbeddedBroker, open_client: Open) -> None:
    inbox = Inbox()
    watcher = open_client(broker.address, inbox, subscriptions=[("status", 1), ("end", 1)])
    open_client(broker.address, will=Will(topic="status", payload=b"lost", retain=False)).close()
    watcher.publish("end", b"end", 1)
    eventually(lambda: b"end" in inbox.payloads)
    assert b"lost" not in inbox.payloads


def test_a_megabyte_arrives(broker: EmbeddedBroker, open_client: Open) -> None:
    inbox = Inbox()
    client = open_client(broker.address, inbox, subscriptions=[("big", 1)])
    payload = os.urandom(1_000_000)
    assert client.publish("big", payload, 1)
    eventually(lambda: inbox.deliveries, 20)
    assert inbox.payloads == [payload]


def test_many_messages_arrive_in_order(mosquitto: EmbeddedBroker, open_client: Open) -> None:
    inbox = Inbox()
    open_client(mosquitto.address, inbox, subscriptions=[("t", 1)])
    sender = open_client(mosquitto.address, max_inflight=50)
    for number in range(3_000):
        assert sender.publish("t", b"%d" % number, 1)
    eventually(lambda: len(inbox.deliveries) == 3_000, 30)
    assert inbox.payloads == [b"%d" % number for number in range(3_000)]


def test_an_exception_of_the_receiver_is_raised_by_step(mosquitto: EmbeddedBroker, open_client: Open) -> None:
    seen: list[bytes] = []

    def receive(topic: str, payload: bytes, qos: int, mid: int, connection: int) -> None:
        seen.append(payload)
        if payload == b"bad":
            raise ZeroDivisionError("no such twin")

    client = open_client(mosquitto.address, receive, started=False, subscriptions=[("t", 1)])
    client.publish("t", b"bad", 1)
    client.publish("t", b"good", 1)
    with pytest.raises(ZeroDivisionError, match="no such twin"):
        eventually(lambda: client.step(0.05) < 0)
    eventually(lambda: client.step(0.05) or b"good" in seen)
    assert seen == [b"bad", b"good"]
    assert client.callback_errors == 1


def test_waiting_messages_are_bounded_and_refusals_counted(free: int) -> None:
    client = MqttClient(BrokerAddress(port=free), max_queued=3)
    assert [client.publish("t", b"", 1) for _ in range(5)] == [True, True, True, False, False]
    assert (client.refused, client.unsent) == (2, 3)
    client.close()


@pytest.fixture
def free() -> int:
    return free_port()


def test_a_broker_that_is_not_there_is_explained(free: int) -> None:
    client = MqttClient(BrokerAddress(port=free))
    with pytest.raises(BrokerUnreachable, match=r"nothing listens there\. Start the broker"):
        client.wait_connected(0.5)
    assert client.failed_attempts >= 1
    assert not client.connected
    client.close()


def test_something_else_on_the_port_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = MqttClient(BrokerAddress(port=server.getsockname()[1])).start()
        for _ in range(3):
            accepted, _ = server.accept()
            accepted.close()
        with pytest.raises(BrokerUnreachable, match="closed before the broker answers"):
            client.wait_connected(0.1)
        client.close()


def test_users_and_tls(tmp_path: Path, certificates: TlsFiles, open_client: Open) -> None:
    if find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed")
    with EmbeddedBroker(tmp_path, "mosquitto", users={"router": "tide"}, tls=certificates) as broker:
        inbox = Inbox()
        client = open_client(broker.address, inbox, subscriptions=[("t", 1)])
        payload = os.urandom(300_000)
        client.publish("t", payload, 1)
        eventually(lambda: inbox.payloads == [payload])
        for wrong, words in (
            (
                replace(broker.address, password="ebb"),
                "not authori[sz]ed|user name or password is wrong|may not connect",
            ),
            (replace(broker.address, username=None, password=None), "Give username and password"),
            (replace(broker.address, ca_file=None), "certificate is not trusted"),
            (replace(broker.address, tls=False, ca_file=None), "closed before the broker answers"),
        ):
            stranger = MqttClient(wrong)
            with pytest.raises(BrokerUnreachable, match=words):
                stranger.wait_connected(1.5)
            stranger.close()


def test_tls_against_a_plain_port_is_explained(mosquitto: EmbeddedBroker) -> None:
    client = MqttClient(replace(mosquitto.address, tls=True), connect_timeout_s=0.5)
    with pytest.raises(BrokerUnreachable, match=r"TLS|no answer"):
        client.wait_connected(1.0)
    client.close()
