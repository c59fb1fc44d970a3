"""A peer: one process, a dictionary of twins, an MQTT client in front of it.

``--client aiomqtt``: asyncio, ``async for message in client.messages``. ``--client paho``: the same dictionary in
paho's own callback, the quickest simple build in Python. Both decode with msgspec and do the Kalman step per reading.
"""

from __future__ import annotations

import asyncio
import threading
import time

import msgspec
from equation import FlowTwin
from protocol import SILENCE_S, Counted, arguments, say_done, say_ready


class Message(msgspec.Struct):
    """Telemetry as the load generator sends it."""

    ts: float
    values: dict[str, float]


DECODER = msgspec.json.Decoder(Message)


class Twins:
    """All twins of the city by their topic's entity."""

    def __init__(self, count: int, latencies: bool) -> None:
        self.twins: dict[str, FlowTwin] = {}
        self.counted = Counted(count)
        self.latencies_ms: list[float] | None = [] if latencies else None

    def take(self, topic: str, payload: bytes) -> bool:
        """One message; whether it was the last."""
        message = DECODER.decode(payload)
        _, kind, name, _ = topic.split("/")
        entity = f"{kind}/{name}"
        twin = self.twins.get(entity)
        if twin is None:
            twin = self.twins[entity] = FlowTwin()
        twin.update(message.ts / 1000.0, message.values["flow_pph"])
        if self.latencies_ms is not None:
            self.latencies_ms.append(time.time() * 1000 - message.ts)
        counted = self.counted
        counted.seen += 1
        return counted.seen == counted.count

    def say(self) -> None:
        flows = {entity: twin.flow_pph for entity, twin in self.twins.items()}
        say_done(
            ended=self.counted.ended or time.time(), seen=self.counted.seen, cpu_s=time.process_time(), flows=flows,
            latencies_ms=self.latencies_ms,
        )  # fmt: skip


async def with_aiomqtt(twins: Twins, host: str, port: int, topic: str, qos: int) -> None:
    import aiomqtt

    async def listen() -> None:
        async with aiomqtt.Client(host, port) as client:
            await client.subscribe(topic, qos=qos)
            say_ready()
            async for message in client.messages:
                if twins.take(message.topic.value, message.payload):
                    twins.counted.mark()
                    return

    listening = asyncio.create_task(listen())
    before = -1
    while not listening.done():
        await asyncio.wait({listening}, timeout=SILENCE_S)
        if not listening.done() and twins.counted.silent(before):
            twins.counted.mark()
            listening.cancel()
            return
        before = twins.counted.seen
    listening.result()


def with_paho(twins: Twins, host: str, port: int, topic: str, qos: int) -> None:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    done = threading.Event()

    def on_message(client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        if twins.take(message.topic, message.payload):
            twins.counted.mark()
            done.set()

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe(topic, qos)
    client.on_subscribe = lambda *_: say_ready()
    client.connect(host, port)
    client.loop_start()
    before = -1
    while not done.wait(SILENCE_S):
        if twins.counted.silent(before):
            twins.counted.mark()
            break
        before = twins.counted.seen
    client.disconnect()
    client.loop_stop()


def main() -> None:
    said = arguments(__doc__, client=["aiomqtt", "paho"])
    twins = Twins(said.count, said.latencies)
    if said.client == "aiomqtt":
        asyncio.run(with_aiomqtt(twins, said.host, said.port, said.topic, said.qos))
    else:
        with_paho(twins, said.host, said.port, said.topic, said.qos)
    twins.say()


if __name__ == "__main__":
    main()
