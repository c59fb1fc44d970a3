"""The other peer: what one writes first. A Ray actor with paho makes one Ray call per message to the twin's actor."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import paho.mqtt.client as paho
import ray
from paho.mqtt.enums import CallbackAPIVersion


class NaiveTwins:
    """Twins as dictionaries, one method call per reading."""

    def __init__(self) -> None:
        self.twins: dict[str, Any] = {}
        self.count = 0

    def reading(self, entity: str, payload: bytes) -> None:
        message = json.loads(payload)
        self.twins.setdefault(entity, {}).update(message["values"], ts=message["ts"])
        self.count += 1

    def done(self) -> tuple[int, dict[str, Any]]:
        return self.count, self.twins


class NaiveRouter:
    """One call per message, unbounded, as a first build does it."""

    def __init__(self, host: str, port: int, root: str, actors: list[Any]) -> None:
        self.ready = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2)

        def on_message(client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
            _, kind, name, _ = message.topic.split("/")
            actors[hash(name) % len(actors)].reading.remote(f"{kind}/{name}", message.payload)

        client.on_message = on_message
        client.on_connect = lambda client, *_: client.subscribe(f"{root}/+/+/telemetry", 0)
        client.on_subscribe = lambda *_: self.ready.set()
        client.connect(host, port)
        client.loop_start()

    def wait(self) -> bool:
        return self.ready.wait(10)


def run(host: str, port: int, root: str, count: int, publish: Any) -> dict[str, Any]:
    """Readings per second from the first publish until the last is in its twin."""
    twins = [ray.remote(NaiveTwins).options(num_cpus=0).remote() for _ in range(2)]
    router = ray.remote(NaiveRouter).options(num_cpus=0).remote(host, port, root, twins)
    if not ray.get(router.wait.remote(), timeout=60):
        raise TimeoutError("the naive router did not connect")
    report = publish()
    deadline = time.monotonic() + 300
    while sum(ray.get([twin.done.remote() for twin in twins], timeout=120)[i][0] for i in range(2)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError("the naive build did not finish within five minutes")
        time.sleep(0.05)
    ended = time.time()
    for actor in (router, *twins):
        ray.kill(actor)
    return {"rate": count / (ended - report["began"])}
