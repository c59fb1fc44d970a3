"""From the launch plan to an MQTT client: the same for router, device host and replays."""

from __future__ import annotations

from typing import Any

from twin_actors.runtime.plan import Reach
from twin_actors.wire.client import BrokerAddress, MqttClient


def address_of(reach: Reach) -> BrokerAddress:
    return BrokerAddress(
        host=reach.host,
        port=reach.port,
        tls=reach.tls,
        username=reach.username,
        password=reach.password,
        ca_file=reach.ca_file,
        cert_file=reach.cert_file,
        key_file=reach.key_file,
        protocol=reach.protocol,  # type: ignore[arg-type]
    )


def mqtt_client(reach: Reach, **settings: Any) -> MqttClient:
    return MqttClient(address_of(reach), **settings)
