"""For tests with a living city: wait on conditions with a deadline, launch in this process, publish as devices do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from twin_actors.core.ledger import Ledger
from twin_actors.runtime.city import City
from twin_actors.runtime.reach import mqtt_client
from twin_actors.scenario.model import Scenario
from twin_actors.wire.client import MqttClient
from twin_actors.wire.messages import encode_reading
from twin_actors.wire.topics import Topics

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within_s: float = 20.0, says: str = "") -> T:
    """Ask until the condition is true and return what it said. Raises AssertionError after the deadline."""
    deadline = time.monotonic() + within_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {says or condition} (last answer: {answer!r})")
        time.sleep(0.02)  # a pause between two looks, bounded by the deadline


@contextlib.contextmanager
def living(scenario: Scenario, *, address: str | None = "local") -> Iterator[City]:
    """A city for the length of a with-block, inside this process's Ray unless told otherwise."""
    city = City.launch(scenario, address=address)
    try:
        yield city
    finally:
        city.down()


@contextlib.contextmanager
def devices_of(city: City, *, max_queued: int = 100_000) -> Iterator[Publisher]:
    """A client that publishes for the city's devices."""
    with mqtt_client(city.plan.broker, client_id=f"{city.name}-test", max_queued=max_queued) as client:
        client.wait_connected(10.0)
        yield Publisher(city, client)


class Publisher:
    """Publishes readings on the topics of a city."""

    def __init__(self, city: City, client: MqttClient) -> None:
        self.client, self.city = client, city
        self.topics = Topics(city.scenario.root)

    def say(self, entity: str, values: Mapping[str, Any], *, at_s: float | None = None, qos: int = 1) -> None:
        """One reading of one entity at ``at_s`` of the device's clock (default: the city's now)."""
        at_s = self.city.now_s() if at_s is None else at_s
        self.send(self.topics.telemetry(entity), encode_reading(values, round(at_s * 1000)), qos=qos)

    def send(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        """Any bytes on any topic. Raises AssertionError when the client cannot take more within its deadline."""
        eventually(lambda: self.client.publish(topic, payload, qos), within_s=30.0, says="room to publish")

    def flush(self) -> None:
        assert self.client.flush(30.0), "the broker has not taken everything within 30 s"


def settled(city: City, received: int, *, within_s: float = 60.0) -> Ledger:
    """Wait until so many readings have arrived and none is under way; the ledger then."""

    def done() -> Ledger | None:
        ledger = city.ledger()
        assert isinstance(ledger, Ledger)
        return ledger if ledger.received >= received and ledger.in_flight == 0 else None

    return eventually(done, within_s=within_s, says=f"{received} readings settled: {city.ledger()}")
