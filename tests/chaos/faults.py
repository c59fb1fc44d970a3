"""The faults of a chaos run: what each does to a living city, and which processes must be replaced afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from tests.chaos.watching import NOT_NOW, sights
from twin_actors.runtime import local
from twin_actors.runtime.city import City
from twin_actors.testing.live import eventually
from twin_actors.wire.broker import EmbeddedBroker

FROZEN_S: Final = (2.0, 5.0)
AWAY_S: Final = (0.0, 3.0)


@dataclass(slots=True)
class Stage:
    """What faults act on."""

    city: City
    random: Random
    store_server: Any = None  # a PostgresServer, where the leg has one
    nodes: Any = None  # the Nodes of a cluster, where the leg has one
    own_broker: EmbeddedBroker | None = None  # where the leg, not the city, has started it

    def pids(self, *names: str) -> dict[str, int]:
        """The processes of some actors now; asked again while one of them does not answer."""
        found = eventually(lambda: self._all_of(names), within_s=30.0, says=f"{', '.join(names)} answer")
        return {name: sight.pid for name, sight in found.items()}

    def _all_of(self, names: tuple[str, ...]) -> dict[str, Any]:
        seen = sights(self.city, list(names))
        return seen if len(seen) == len(names) else {}

    def any_twin_actor(self) -> str:
        return self.random.choice(self.city.plan.actors).name


@dataclass(frozen=True, slots=True)
class Damage:
    """What an injection has left: when (wall and monotonic), and processes by actor that must not come back."""

    at_s: float
    began: float
    renewed: Mapping[str, int] = field(default_factory=dict)


Fault = Callable[[Stage], Damage]


def pause(seconds: float) -> None:
    """The length of a fault; nothing is waited for."""
    threading.Event().wait(seconds)


def _kill(stage: Stage, *names: str) -> Damage:
    pids = stage.pids(*names)
    damage = Damage(time.time(), time.monotonic(), pids)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    return damage


def kill_twin_actor(stage: Stage) -> Damage:
    return _kill(stage, stage.any_twin_actor())


def kill_router(stage: Stage) -> Damage:
    return _kill(stage, "router")


def kill_aggregator(stage: Stage) -> Damage:
    return _kill(stage, "aggregator")


def kill_controller(stage: Stage) -> Damage:
    return _kill(stage, "controller")


def kill_router_and_twin_actor(stage: Stage) -> Damage:
    """Both ends of a delivery at once."""
    return _kill(stage, "router", stage.any_twin_actor())


def freeze_twin_actor(stage: Stage) -> Damage:
    """A hung twin actor: SIGSTOP, some seconds, SIGCONT."""
    (pid,) = stage.pids(stage.any_twin_actor()).values()
    damage = Damage(time.time(), time.monotonic())
    os.kill(pid, signal.SIGSTOP)
    pause(stage.random.uniform(*FROZEN_S))
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return damage  # it was replaced meanwhile, which is as good
    return damage


def _broker(stage: Stage) -> EmbeddedBroker:
    if stage.own_broker is not None:
        return stage.own_broker
    description = stage.city._record.broker
    assert description is not None, "the city has a broker of its own"
    return EmbeddedBroker.attach(description)


def _start_again(stage: Stage, broker: EmbeddedBroker) -> None:
    broker.start()
    if broker is stage.own_broker:
        return
    stage.city._record.broker = broker.describe()  # ``down`` must end this one
    stage.city._record.save(local.folder_of(stage.city.name))


def restart_broker(stage: Stage) -> Damage:
    """SIGTERM, so that it saves its sessions and queues; a little later it is back on the same port."""
    broker = _broker(stage)
    damage = Damage(time.time(), time.monotonic())
    broker.stop()
    pause(stage.random.uniform(*AWAY_S))
    _start_again(stage, broker)
    return damage


def kill_broker(stage: Stage) -> Damage:
    """kill -9: whatever the broker has acknowledged and not saved is gone."""
    broker = _broker(stage)
    assert broker.pid is not None
    damage = Damage(time.time(), time.monotonic())
    os.kill(broker.pid, signal.SIGKILL)
    eventually(lambda: not broker.running, within_s=10.0, says="the broker ends on SIGKILL")
    _start_again(stage, broker)
    return damage


def restart_store(stage: Stage) -> Damage:
    """The database ends at once, its connections with it, and comes back some seconds later."""
    damage = Damage(time.time(), time.monotonic())
    stage.store_server.stop(immediate=stage.random.random() < 0.5)
    pause(stage.random.uniform(*AWAY_S))
    stage.store_server.start()
    return damage


def _on_node(stage: Stage, node: str) -> dict[str, int]:
    """The actors that live on a node (its Ray id), with their processes."""
    names = ["router", "aggregator", "controller", *(actor.name for actor in stage.city.plan.actors)]
    return {name: sight.pid for name, sight in sights(stage.city, names).items() if sight.node == node}


def kill_raylet(stage: Stage) -> Damage:
    """kill -9 of one node's raylet: its actors live on for a moment while others are started elsewhere."""
    node = stage.nodes.any_worker(stage.random)
    away = _on_node(stage, node.ray_id)
    damage = Damage(time.time(), time.monotonic(), away)
    node.kill_raylet()
    stage.nodes.replace(node)
    return damage


def freeze_node(stage: Stage) -> Damage:
    """SIGSTOP of all processes of a node until others have taken over, then SIGCONT."""
    node = stage.nodes.any_worker(stage.random)
    away = _on_node(stage, node.ray_id)
    damage = Damage(time.time(), time.monotonic(), away)
    node.freeze()
    try:
        stage.nodes.replace(node, ended=False)
        _wait_declared_dead(stage, node.ray_id)
        pause(stage.random.uniform(*AWAY_S))
    finally:
        node.thaw()
    return damage


def cut_network(stage: Stage) -> Damage:
    """The only link of a node in a network namespace of its own goes down and, after a while, up again."""
    node = stage.nodes.apart
    away = _on_node(stage, node.ray_id)
    damage = Damage(time.time(), time.monotonic(), away)
    stage.nodes.link.cut()
    try:
        _wait_declared_dead(stage, node.ray_id)
        pause(stage.random.uniform(*AWAY_S))
    finally:
        stage.nodes.link.join()
    stage.nodes.replace(node)
    return damage


def _wait_declared_dead(stage: Stage, node: str) -> None:
    import ray

    def dead() -> bool:
        try:
            return not any(each["NodeID"] == node and each["Alive"] for each in ray.nodes())
        except NOT_NOW:
            return False

    eventually(dead, within_s=90.0, says=f"Ray gives node {node[:8]} up")


ON_ONE_MACHINE: Final[Mapping[str, Fault]] = {
    "kill_twin_actor": kill_twin_actor,
    "kill_router": kill_router,
    "kill_aggregator": kill_aggregator,
    "kill_controller": kill_controller,
    "kill_router_and_twin_actor": kill_router_and_twin_actor,
    "freeze_twin_actor": freeze_twin_actor,
    "restart_broker": restart_broker,
}
IN_A_CLUSTER: Final[Mapping[str, Fault]] = {
    **ON_ONE_MACHINE,
    "restart_store": restart_store,
    "kill_raylet": kill_raylet,
    "freeze_node": freeze_node,
    "cut_network": cut_network,
}
EVERY_FAULT: Final[Mapping[str, Fault]] = {**IN_A_CLUSTER, "kill_broker": kill_broker}
