"""Commands as devices hear them: each is answered, and a second id for the same decision and target is found out."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, Self

from twin_actors.runtime.city import City
from twin_actors.runtime.reach import mqtt_client
from twin_actors.wire.messages import Acknowledgement, decode_command, encode_acknowledgement
from twin_actors.wire.topics import Topics


class CommandWatch:
    """All devices of a city in one client whose session the broker keeps, so that no command passes it by."""

    def __init__(self, city: City) -> None:
        self._topics = Topics(city.scenario.root)
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, str], set[str]] = {}
        self.heard = 0
        self.unanswered = 0
        self._client = mqtt_client(
            city.plan.broker,
            client_id=f"chaos-devices-{os.getpid()}",
            receive=self._receive,
            subscriptions=[(each, 1) for each in self._topics.commands()],
            clean_start=False,
            max_queued=100_000,
        )

    def __enter__(self) -> Self:
        self._client.start()
        self._client.wait_connected(20.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _receive(self, topic: str, payload: bytes, *_: Any) -> None:
        parsed = self._topics.parse(topic)
        if parsed is None:
            return
        entity = parsed[0]
        command = decode_command(payload)
        with self._lock:
            self.heard += 1
            self._ids.setdefault((command.decision, entity), set()).add(command.id)
        answer = encode_acknowledgement(Acknowledgement(id=command.id))
        if not self._client.publish(self._topics.acknowledgement(entity), answer, qos=1):
            self.unanswered += 1

    def sent_twice(self) -> Mapping[str, list[str]]:
        """Targets that got more than one command of one decision, with the ids."""
        with self._lock:
            return {
                f"{decision} {entity}": sorted(ids) for (decision, entity), ids in self._ids.items() if len(ids) > 1
            }
