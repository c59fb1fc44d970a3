"""How a client introduces itself to a broker: its name, its session, its Last Will, and what it can take."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from twin_actors.wire.address import BrokerAddress
from twin_actors.wire.buffered import BufferedClient, PlainClient, client_class


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes for a client that vanishes without a word."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """Raises ValueError for a session to be kept under no name."""

    client_id: str
    clean_start: bool
    session_expiry_s: int
    manual_ack: bool
    receive_maximum: int | None
    will: Will | None

    def __post_init__(self) -> None:
        if not self.clean_start and not self.client_id:
            raise ValueError("clean_start=False needs a client_id: the broker keeps the session under that name")

    def client(
        self, address: BrokerAddress, version: MQTTProtocolVersion, tls: ssl.SSLContext | None, connect_timeout_s: float
    ) -> BufferedClient | PlainClient:
        """A client of paho that will say all this, without callbacks yet."""
        made = client_class()(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if version == MQTTProtocolVersion.MQTTv5 else self.clean_start,
            protocol=version,
            reconnect_on_failure=False,  # the engine reconnects; paho would go down to MQTT 3.1
            manual_ack=self.manual_ack,
        )
        made.connect_timeout = connect_timeout_s
        made.max_inflight_messages = 0  # the window is the outbox's, where the broker's own limit is known
        if address.username is not None:
            made.username_pw_set(address.username, address.password)
        if tls is not None:
            made.tls_set_context(tls)
        if self.will is not None:
            made.will_set(self.will.topic, self.will.payload, self.will.qos, self.will.retain)
        return made

    def connect(
        self, client: BufferedClient | PlainClient, address: BrokerAddress, version: MQTTProtocolVersion
    ) -> None:
        """Say it. Raises OSError where nobody listens, ValueError for a certificate of another host."""
        if version != MQTTProtocolVersion.MQTTv5:
            client.connect(address.host, address.port, address.keepalive_s)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
        if not self.clean_start:
            properties.SessionExpiryInterval = self.session_expiry_s
        if self.receive_maximum is not None:
            properties.ReceiveMaximum = self.receive_maximum
        client.connect(
            address.host, address.port, address.keepalive_s, clean_start=self.clean_start, properties=properties
        )
