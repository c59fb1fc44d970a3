"""For tests with a living city: wait on conditions with a deadline, launch in this process, publish as devices do."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.ledger import Ledger
from twin_actors.runtime.city import City
from twin_actors.runtime.reach import mqtt_client
from twin_actors.scenario.model import Scenario
from twin_actors.wire.client import MqttClient, Receive
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
def living(scenario: Scenario, *, address: str | None = "local", volumes: bool = True) -> Iterator[City]:
    """A city for the length of a with-block, inside this process's Ray unless told otherwise.

    What it keeps is deleted at the end, unless ``volumes`` is False: then the next one of its name goes on from it.
    """
    city = City.launch(scenario, address=address)
    try:
        yield city
    finally:
        city.down(volumes=volumes)


@contextlib.contextmanager
def devices_of(city: City, *, max_queued: int = 100_000, receive: Receive | None = None) -> Iterator[Publisher]:
    """A client that publishes for the city's devices; several may be open, ``receive`` hears what one subscribes to."""
    name = f"{city.name}-test-{secrets.token_hex(3)}"
    with mqtt_client(city.plan.broker, client_id=name, max_queued=max_queued, receive=receive) as client:
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


def columns_of(arrays: Mapping[str, NDArray[Any]], entities: Sequence[str]) -> dict[str, dict[str, NDArray[Any]]]:
    """A snapshot taken apart: every array of every twin, without the latches of alerts and drift: they follow ticks."""
    chosen = {
        name: array for name, array in arrays.items() if not name.startswith("latches.") and name != "fidelity.drifting"
    }
    return {
        entity: {name: array[..., column] for name, array in chosen.items()} for column, entity in enumerate(entities)
    }


def twins_inside(city: City) -> dict[str, dict[str, NDArray[Any]]]:
    """Every array of every twin as its actor holds it, by entity; see ``columns_of``."""
    import ray

    def look(self: Any) -> list[tuple[tuple[str, ...], dict[str, NDArray[Any]]]]:
        return [(group.table.ids, group.table.snapshot()) for group in self._holder.groups]

    refs = []
    for actor in city.plan.actors:
        handle = ray.get_actor(actor.name, namespace=f"twin-actors-{city.name}")
        refs.append(handle.__ray_call__.remote(look))
    inside: dict[str, dict[str, NDArray[Any]]] = {}
    for groups in ray.get(refs, timeout=60.0):
        for ids, arrays in groups:
            inside.update(columns_of(arrays, ids))
    return inside


def same_twin(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]], *, relative: float = 1e-9) -> None:
    """Raise AssertionError, naming the array, where two twins differ; whole numbers must be equal."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(array, other[name], rtol=relative, atol=1e-12, equal_nan=True, err_msg=name)
        else:
            np.testing.assert_array_equal(array, other[name], err_msg=name)


def settled(city: City, received: int, *, within_s: float = 60.0) -> Ledger:
    """Wait until so many readings have arrived and none is under way; the ledger then."""

    def done() -> Ledger | None:
        ledger = city.ledger()
        assert isinstance(ledger, Ledger)
        return ledger if ledger.received >= received and ledger.in_flight == 0 else None

    return eventually(done, within_s=within_s, says=f"{received} readings settled: {city.ledger()}")
