"""What a broker of somebody else does with messages for a client that is away: found out by trying, not by asking."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from twin_actors.wire.address import BrokerAddress
from twin_actors.wire.client import MqttClient

MESSAGES = 1_500
"""More than Mosquitto keeps for a session by default (1,000 queued, 20 under way)."""
LOOK_S = 2.0
DEADLINE_S = 20.0
VERSION = "$SYS/broker/version"
DROPPED = "$SYS/broker/publish/messages/dropped"


@dataclass(frozen=True, slots=True)
class Probe:
    """``kept`` of ``MESSAGES`` QoS 1 messages came after their subscriber had been away; all were acknowledged."""

    protocol: str
    kept: int
    sent: int
    version: str  # as the broker tells it, empty where it does not
    tells_dropped: bool


def probe(address: BrokerAddress, root: str) -> Probe:
    """Try a broker with a persistent session of our own under ``root``; nothing of it is left there.

    Raises BrokerUnreachable, and TimeoutError where the broker does not acknowledge what is published.
    """
    name = f"doctor-{secrets.token_hex(4)}"
    topic = f"{root}/city/{name}"
    told: dict[str, str] = {}
    with MqttClient(
        address,
        lambda of, payload, *_: told.__setitem__(of, payload.decode(errors="replace")),
        client_id=f"{name}-listener",
        subscriptions=[(VERSION, 0), (DROPPED, 0)],
    ) as listener:
        listener.wait_connected(DEADLINE_S)
        protocol = listener.protocol
        with _subscriber(address, name, topic, []) as subscriber:
            subscriber.wait_connected(DEADLINE_S)
        if not _published(address, name, topic):
            raise TimeoutError(
                f"{address.url}: the broker did not acknowledge {MESSAGES:,} messages in {DEADLINE_S:g} s"
            )
        came: list[bytes] = []
        kept = _kept(address, name, topic, came)
        deadline = time.monotonic() + LOOK_S
        while VERSION not in told and time.monotonic() < deadline:
            time.sleep(0.05)  # a pause between two looks, bounded by the deadline
    # a clean start ends the session that the broker has kept for us
    with MqttClient(address, client_id=name, clean_start=True) as last:
        last.wait_connected(DEADLINE_S)
    return Probe(protocol, kept, MESSAGES, told.get(VERSION, ""), DROPPED in told)


def _subscriber(address: BrokerAddress, name: str, topic: str, came: list[bytes]) -> MqttClient:
    return MqttClient(
        address,
        lambda of, payload, *_: came.append(payload),
        client_id=name,
        subscriptions=[(topic, 1)],
        clean_start=False,
        session_expiry_s=300,
    )


def _published(address: BrokerAddress, name: str, topic: str) -> bool:
    with MqttClient(address, client_id=f"{name}-sender", max_queued=MESSAGES) as sender:
        sender.wait_connected(DEADLINE_S)
        for number in range(MESSAGES):
            sender.publish(topic, str(number).encode(), 1)
        return sender.flush(DEADLINE_S)


def _kept(address: BrokerAddress, name: str, topic: str, came: list[bytes]) -> int:
    """How many different messages come to the session when it is back; waits until no more do."""
    with _subscriber(address, name, topic, came) as again:
        again.wait_connected(DEADLINE_S)
        deadline, seen, quiet = time.monotonic() + DEADLINE_S, 0, time.monotonic()
        while len(set(came)) < MESSAGES and time.monotonic() < deadline and time.monotonic() - quiet < LOOK_S:
            if len(came) > seen:
                seen, quiet = len(came), time.monotonic()
            time.sleep(0.02)  # the same
    return len(set(came))
