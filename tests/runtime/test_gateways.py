"""Gateways in a living city of two routers: every element has one fate, and the twins come out right."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import numpy as np
import pytest

from twin_actors.core.inputs import Channel
from twin_actors.runtime.packing import Delivery, pack
from twin_actors.testing.live import columns_of, devices_of, eventually, living, same_twin, settled, twins_inside

pytestmark = pytest.mark.usefixtures("ray_session")

CITY = """
city: gathered
placement: {entities_per_actor: 20}
routers: {roads: {kinds: [road]}}
entities:
  - {kind: footfall, pattern: "f-{n}", count: 30}
  - {kind: road, pattern: "r-{n}", count: 6, attributes: {length_km: 0.5}}
"""


def columns(kind: str, names: list[str], at_ms: int, **values: list[Any]) -> bytes:
    return json.dumps({"kind": kind, "entities": names, "ts": at_ms, "values": values}).encode()


def sent(kind: str, names: list[str], at_ms: int, field: str, values: list[float]) -> list[tuple[str, dict[str, Any]]]:
    """(entity, reading) of each element, as its device would have sent it."""
    return [
        (f"{kind}/{name}", {"ts": at_ms, "values": {field: value}}) for name, value in zip(names, values, strict=True)
    ]


def test_every_element_has_one_fate(make_scenario):
    scenario = make_scenario(CITY)
    names = [f"f-{n + 1}" for n in range(30)]
    roads = [f"r-{n + 1}" for n in range(6)]
    said: list[tuple[str, dict[str, Any]]] = []  # what devices would have sent singly, in order
    with living(scenario) as city, devices_of(city) as devices:
        assert len(city.plan.routers) == 2
        topic = devices.topics.gateway("cabinet-7")
        first_ms = round(city.now_s() * 1000) - 60_000
        received = 0
        for number in range(40):
            at_ms = first_ms + 1000 * number
            flows = [500.0 + number + place for place in range(30)]
            speeds = [30.0 + number / 10 + place for place in range(6)]
            singly = [
                *sent("footfall", names, at_ms, "flow_pph", flows),
                *sent("road", roads, at_ms, "speed_kmh", speeds),
            ]
            if number % 2:
                devices.send(topic, columns("footfall", names, at_ms, flow_pph=flows))
                devices.send(topic, columns("road", roads, at_ms, speed_kmh=speeds))
            else:
                devices.send(topic, json.dumps([{"entity": entity, **reading} for entity, reading in singly]).encode())
            said += singly
            received += 36
            if number == 20:  # a router dies with what it has not logged; the broker keeps it and sends it again
                devices.flush()
                settled(city, received)
                restart_router(city)
        devices.flush()
        ledger = settled(city, received)
        assert ledger.balanced
        assert (ledger.received, ledger.applied) == (received, received)

        # whatever is wrong with an element is wrong with it alone
        at_ms = first_ms + 40_000
        strange = [
            {"entity": "footfall/f-1", "ts": at_ms, "values": {"flow_pph": 560}},
            {"entity": "footfall/f-2", "ts": at_ms, "values": {"flow_pph": -1}},
            {"entity": "footfall/f-3", "ts": at_ms, "values": {"flow_pph": "many"}},
            {"entity": "footfall/f-4", "ts": at_ms - 1000, "values": {"flow_pph": 542}},
            {"entity": "footfall/f-99", "ts": at_ms, "values": {"flow_pph": 5}},
            {"entity": "road/r-1", "ts": at_ms, "values": {"speed_kmh": 35}},
            {"ts": at_ms, "values": {"flow_pph": 5}},
        ]
        devices.send(topic, json.dumps(strange).encode())
        devices.send(topic, b"[{")
        devices.flush()
        after = settled(city, received + 8)
        assert after.balanced
        # the two routers have heard it, and each element was counted by one of them
        assert after.received == received + 8
        assert after.applied == received + 2
        assert (after.duplicate, after.dead_lettered) == (1, 5)
        said += [(each["entity"], each) for each in strange[:4]] + [("road/r-1", strange[5])]

        by_entity = city.ledger(by="entity")
        assert isinstance(by_entity, dict)
        assert all(part.balanced for part in by_entity.values())
        assert (by_entity[""].received, by_entity[""].dead_lettered) == (3, 3)
        for place, name in enumerate(names):
            more = 1 if place < 4 else 0
            assert by_entity[f"footfall/{name}"].received == 40 + more
        assert by_entity["footfall/f-2"].dead_lettered == by_entity["footfall/f-3"].dead_lettered == 1
        assert by_entity["footfall/f-4"].duplicate == 1
        assert by_entity["road/r-1"].applied == 41

        letters = {letter["reason"]: letter for _, letter in city.dead_letters(last=10).iterrows()}
        assert letters.keys() == {"out_of_range", "wrong_type", "unknown_entity", "not_json"}
        assert letters["out_of_range"]["topic"] == devices.topics.telemetry("footfall/f-2")
        assert json.loads(letters["out_of_range"]["payload"])["values"] == {"flow_pph": -1.0}
        assert letters["not_json"]["topic"] == topic

        frame = city.history("footfall/f-7", "flow_pph", last="10min")
        assert frame["value"].tolist() == [506.0 + number for number in range(40)]

        inside = twins_inside(city)
        for entity, arrays in straight(city, said).items():
            own, other = ({k: v for k, v in each.items() if k != "revision"} for each in (inside[entity], arrays))
            same_twin(own, other)


def restart_router(city: Any) -> None:
    """Kill the main router's process and wait until the next one answers for all that was logged."""
    import ray

    router = ray.get_actor("router", namespace=f"twin-actors-{city.name}")
    pid = ray.get(router.__ray_call__.remote(lambda self: os.getpid()), timeout=20)
    before = city.ledger()
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        try:
            return bool(city.ledger().received >= before.received)
        except (ray.exceptions.RayError, TimeoutError):
            return False

    eventually(back, within_s=60.0, says="the router to be back")


def straight(city: Any, said: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, np.ndarray]]:
    """The twins after the same readings as single messages, without routers and bundles."""
    numbers = {entity.id: number for number, entity in enumerate(city.plan.scenario.entities)}
    twins: dict[str, dict[str, np.ndarray]] = {}
    for actor in city.plan.actors:
        holder = city.plan.holder(actor.name, epoch=1, incarnation="straight")
        own = [
            Delivery(offset, actor.entities.index(numbers[entity]), int(Channel.READING), 0, city.now_s(),
                     json.dumps(reading).encode())
            for offset, (entity, reading) in enumerate(said)
            if numbers[entity] in actor.entities
        ]  # fmt: skip
        assert holder.apply(pack(1, -1, own)).ok
        for group in holder.groups:
            twins |= columns_of(group.table.snapshot(), group.table.ids)
    return twins
