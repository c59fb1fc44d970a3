"""The publisher of a chaos run, a process of its own: steady load at QoS 1, and a file of what the broker has taken.

``python -m tests.chaos.publisher`` reads its orders as one line of JSON and runs until its standard input ends; then it
waits for the outstanding acknowledgements. Entities speak for themselves or stand behind gateways, which send readings
of many in one message. **Order:** an entity has at most one reading under way, the next one is made after the PUBACK,
so that reconnects and resends cannot change the order of an entity's readings.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from tests.chaos.load import Batch, batches, message_of, payload_of

TURN_S = 0.01
RECONNECT_EVERY_S = 0.1
LAST_ACKNOWLEDGEMENTS_S = 60.0


class Publisher:
    """One thread does it all: sending, the network, the file. paho sends again what was not acknowledged."""

    def __init__(self, orders: dict[str, Any], file: TextIO) -> None:
        self._orders, self._file = orders, file
        entities: list[str] = orders["entities"]
        gathered = batches(entities, orders["gateways"])
        behind = {entity for batch in gathered for entity in batch.entities}
        self._speakers = [*(Batch("", (entity,)) for entity in entities if entity not in behind), *gathered]
        self._last = dict.fromkeys(entities, (0, 0))  # number and time of the last reading
        self._under_way: dict[int, tuple[Batch, list[int]]] = {}  # with the number of each reading
        self._busy: set[Batch] = set()
        self._turn = 0
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=orders["client_id"], clean_session=False, protocol=paho.MQTTv311
        )
        if orders["username"]:
            self._client.username_pw_set(orders["username"], orders["password"])
        self._client.max_inflight_messages_set(len(self._speakers) + 1)
        self._client.on_publish = self._acknowledged
        self._connect_at = 0.0

    def _acknowledged(self, _client: Any, _data: Any, mid: int, *_: Any) -> None:
        batch, numbers = self._under_way.pop(mid)
        self._busy.discard(batch)
        for entity, number in zip(batch.entities, numbers, strict=True):
            self._file.write(f"A {entity} {number} {time.time():.4f}\n")

    def run(self) -> bool:
        """Publish until standard input ends. Whether everything has been acknowledged."""
        rate, allowance, before = float(self._orders["rate"]), 0.0, time.monotonic()
        while not select.select([sys.stdin], [], [], 0)[0]:
            now = time.monotonic()
            allowance = min(allowance + (now - before) * rate, rate)  # after a pause not all is made up for
            before = now
            while allowance >= 1 and (said := self._say()):
                allowance -= said
            self._network(now)
        deadline = time.monotonic() + LAST_ACKNOWLEDGEMENTS_S
        while self._under_way and time.monotonic() < deadline:
            self._network(time.monotonic())
        return not self._under_way

    def _say(self) -> int:
        """A reading of each entity of the next speaker that has none under way; how many, 0 when all have."""
        for _ in self._speakers:
            batch = self._speakers[self._turn]
            self._turn = (self._turn + 1) % len(self._speakers)
            if batch in self._busy:
                continue
            readings = [self._next(entity) for entity in batch.entities]
            if batch.gateway:
                topic, payload = f"gateway/{batch.gateway}", message_of(self._orders["seed"], readings)
            else:
                topic, payload = batch.entities[0], payload_of(self._orders["seed"], *readings[0])
            info = self._client.publish(f"{self._orders['root']}/{topic}/telemetry", payload, qos=1)
            self._busy.add(batch)
            self._under_way[info.mid] = batch, [number for _, number, _ in readings]
            for entity, number, ts_ms in readings:
                self._file.write(f"S {entity} {number} {ts_ms} {batch.gateway}".rstrip() + "\n")
            return len(readings)
        return 0

    def _next(self, entity: str) -> tuple[str, int, int]:
        """(entity, number, ts_ms) of its next reading."""
        number, before_ms = self._last[entity]
        ts_ms = max(before_ms + 1, round(time.time() * 1000))
        self._last[entity] = number + 1, ts_ms
        return entity, number, ts_ms

    def _network(self, now: float) -> None:
        if self._client.socket() is None:
            if now < self._connect_at:
                select.select([], [], [], TURN_S)  # nothing to wait for but the next attempt
                return
            self._connect_at = now + RECONNECT_EVERY_S
            try:
                self._client.connect(self._orders["host"], self._orders["port"], keepalive=10)
            except OSError:
                return  # not there yet; the next turn tries again
        if self._client.loop(TURN_S) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._connect_at = now + RECONNECT_EVERY_S
        self._file.flush()


class Load:
    """The publisher's process as its parent sees it."""

    def __init__(
        self, path: Path, *, reach: Any, root: str, entities: Sequence[str], rate: float, seed: int, gateways: int = 0
    ) -> None:  # fmt: skip
        """``rate`` in readings per second, those of every second entity through ``gateways`` (0: none)."""
        self.path, self.seed = path, seed
        orders = {
            "host": reach.host, "port": reach.port, "username": reach.username, "password": reach.password,
            "root": root, "entities": list(entities), "rate": rate, "seed": seed, "file": str(path),
            "gateways": gateways,
            "client_id": f"chaos-load-{os.getpid()}-{seed}",
        }  # fmt: skip
        self._process = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> bool:
        """End the load; True when every reading has been acknowledged."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(timeout=LAST_ACKNOWLEDGEMENTS_S + 10) == 0

    def kill(self) -> None:
        if self.running:
            self._process.kill()
            self._process.wait(timeout=10)


def main() -> int:
    orders = json.loads(sys.stdin.readline())
    with open(orders["file"], "w") as file:
        return 0 if Publisher(orders, file).run() else 3


if __name__ == "__main__":
    sys.exit(main())
