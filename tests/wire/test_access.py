"""Access control at a real Mosquitto: every user does what is its own, and nothing else reaches anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.wire.conftest import Inbox, eventually
from twin_actors.wire.access import access_list
from twin_actors.wire.broker import BrokerFailed, EmbeddedBroker, find_mosquitto
from twin_actors.wire.client import BrokerAddress, MqttClient

ROOT = "eu/harbour"
USERS = {"city": "c", "cabinet-7": "g", "cabinet-8": "h", "n-1": "n", "n-2": "m", "stranger": "s"}
ACCESS = access_list(
    ROOT,
    ["footfall", "venue"],
    city="city",
    gateways=["cabinet-7", "cabinet-8"],
    fleets=["sensors/+/data"],
    names={"n-1", "n-2"},
)
DEVICE_TOPICS = [
    f"{ROOT}/{entity}/{channel}"
    for entity in ("footfall/n-1", "footfall/n-2", "venue/n-1", "footfall/cabinet-7", "venue/cabinet-7", "road/n-1")
    for channel in ("telemetry", "command", "command/ack", "state")
]
GATEWAY_TOPICS = [
    f"{ROOT}/gateway/{name}{rest}"
    for name in ("cabinet-7", "cabinet-8", "n-1", "stranger")
    for rest in ("", "/telemetry", "/telemetry/more", "/command", "/command/ack")
]
OTHERS = [
    f"{ROOT}/city/decision", f"{ROOT}/city/dead-letter", f"{ROOT}/city/status", f"{ROOT}/city/cabinet-7/telemetry",
    f"{ROOT}/gateway", "eu/gateway/cabinet-7/telemetry", "gateway/cabinet-7/telemetry", "sensors/n-1/data",
    "sensors/cabinet-7/data", "elsewhere",
]  # fmt: skip
TOPICS = [*DEVICE_TOPICS, *GATEWAY_TOPICS, *OTHERS]
MAY_PUBLISH = {
    "cabinet-7": {f"{ROOT}/gateway/cabinet-7/telemetry"},
    "cabinet-8": {f"{ROOT}/gateway/cabinet-8/telemetry"},
    "n-1": {
        f"{ROOT}/{kind}/n-1/{channel}" for kind in ("footfall", "venue") for channel in ("telemetry", "command/ack")
    },
    "stranger": set(),
    "city": {topic for topic in TOPICS if topic.startswith((f"{ROOT}/", "sensors/"))},
}
MAY_HEAR = {
    "cabinet-7": set(),
    "n-1": {f"{ROOT}/footfall/n-1/command", f"{ROOT}/venue/n-1/command"},
    "stranger": set(),
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A Mosquitto with a password for each user, and the access control list."""
    if find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed")
    with EmbeddedBroker(tmp_path_factory.mktemp("guarded"), "mosquitto", users=USERS, access=ACCESS) as broker:
        yield broker


def as_user(address: BrokerAddress, user: str, password: str, protocol: str) -> BrokerAddress:
    return replace(address, username=user, password=password, protocol=protocol)  # type: ignore[arg-type]


def published(address: BrokerAddress, user: str, password: str, protocol: str, topics: list[str]) -> set[str]:
    """The topics on which the city, whose ``address`` it is, hears a user. The broker answers every publish, allowed
    or not."""
    heard = Inbox()
    with MqttClient(address, client_id="ear", receive=heard, subscriptions=[("#", 1)]) as ear:
        ear.wait_connected(10.0)
        for topic in topics:  # Mosquitto 2.0.11 cuts a client off at the next QoS 1 message after a refused one
            with MqttClient(as_user(address, user, password, protocol), client_id="mouth") as mouth:
                mouth.wait_connected(10.0)
                assert mouth.publish(topic, user.encode(), 1)
                assert mouth.flush(10.0)
        assert ear.publish(f"{topics[0]}/the/end", b"end", 1)  # behind all that came through
        eventually(lambda: b"end" in heard.payloads)
    return {topic for topic, payload, *_ in heard.deliveries if bytes(payload) == user.encode()}


@pytest.mark.parametrize(
    ("user", "protocol"), [*((user, "auto") for user in sorted(MAY_PUBLISH)), ("cabinet-7", "3.1.1")]
)
def test_a_user_publishes_what_is_its_own_and_nothing_else(guarded: EmbeddedBroker, user: str, protocol: str) -> None:
    assert published(guarded.address, user, USERS[user], protocol, TOPICS) == MAY_PUBLISH[user]


@pytest.mark.parametrize("user", sorted(MAY_HEAR))
def test_a_user_hears_what_is_for_it_and_nothing_else(guarded: EmbeddedBroker, user: str) -> None:
    heard = Inbox()
    filters = [(each, 1) for each in ("#", f"{ROOT}/gateway/+/telemetry", f"{ROOT}/+/+/command", "$SYS/#")]
    with (
        MqttClient(
            as_user(guarded.address, user, USERS[user], "auto"), client_id="ear", receive=heard, subscriptions=filters
        ) as ear,
        MqttClient(guarded.address, client_id="mouth") as mouth,
    ):
        ear.wait_connected(10.0)
        mouth.wait_connected(10.0)
        for topic in MAY_PUBLISH["city"]:
            assert mouth.publish(topic, b"from the city", 1)
        assert mouth.flush(10.0)
        # what the broker has for this user lies before the answer to what this user asks now
        assert ear.publish(f"{ROOT}/the/end", b"end", 1)
        assert ear.flush(10.0)
    assert {topic for topic, *_ in heard.deliveries} == MAY_HEAR[user]


def test_nobody_comes_in_with_anothers_name(guarded: EmbeddedBroker) -> None:
    from twin_actors.wire.address import BrokerUnreachable

    for password in ("n", None):
        with (
            MqttClient(replace(guarded.address, username="cabinet-7", password=password), client_id="x") as client,
            pytest.raises(BrokerUnreachable),
        ):
            client.wait_connected(2.0)


@pytest.mark.parametrize(
    ("gateways", "words"),
    [
        (["n-1"], "gateway 'n-1' has the name of an entity"),
        (["city"], "gateway 'city' has the name of the city"),
        (["a/b"], "'a/b' cannot be a user and a level"),
        (["+"], "'+' cannot be a user"),
        (["#"], "'#' cannot be a user"),
        ([""], "'' cannot be a user"),
        (["a\ntopic readwrite #"], "cannot be a user"),
        ([" a"], "' a' cannot be a user"),
        (["a:b"], "'a:b' cannot be a user"),
    ],
)
def test_a_gateway_that_could_be_taken_for_somebody_else_is_refused(gateways: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        access_list(ROOT, ["footfall"], city="city", gateways=gateways, names={"n-1"})


def test_a_root_in_which_mosquitto_would_put_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="root 'a%u' has a '%'"):
        access_list("a%u", ["footfall"], city="city")


def test_amqtt_has_no_access_control(tmp_path: Path) -> None:
    with pytest.raises(BrokerFailed, match="install Mosquitto"):
        EmbeddedBroker(tmp_path, "amqtt", access=ACCESS)
