"""What Ray says of its nodes: which there are, what is free on them, and which are about to leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from twin_actors.runtime.placement import ACTOR_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One living node. ``leaving``: it has been told to end (SIGTERM), and Ray puts nothing new on it."""

    id: str
    address: str
    labels: Mapping[str, str]
    memory_bytes: int
    free_bytes: int
    cores: float
    leaving: bool = False

    @property
    def holds_twins(self) -> bool:
        """Heads and launchers offer less memory than one twin actor takes."""
        return self.memory_bytes >= ACTOR_BYTES


def living_nodes() -> tuple[Node, ...]:
    """All nodes that live, by id. Asks Ray's control store, which a driver or an actor can.

    What is free, and what is draining, Ray tells in ``ray._private.state`` only; its own libraries read it there
    (Ray Train, Ray Serve), and only this module of ours does.
    """
    from ray._private.state import state

    draining: Mapping[str, int] = state.get_draining_nodes()
    free: Mapping[str, Mapping[str, float]] = state.available_resources_per_node()
    found = []
    for each in sorted(ray.nodes(), key=lambda each: each["NodeID"]):
        if not each["Alive"]:
            continue
        name, resources = each["NodeID"], each["Resources"]
        found.append(
            Node(
                id=name,
                address=each["NodeManagerAddress"],
                labels={key: value for key, value in each["Labels"].items() if not key.startswith("ray.io/")},
                memory_bytes=int(resources.get("memory", 0)),
                free_bytes=int(free.get(name, {}).get("memory", 0)),
                cores=float(resources.get("CPU", 0.0)),
                leaving=name in draining,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorLife:
    """How far Ray has come with an actor: one of its own words (PENDING_CREATION, RESTARTING, ALIVE, DEAD, ...), the
    process and address of the last incarnation, how often it was started again, and why it ended ("": it has not)."""

    state: str
    pid: int
    address: str
    restarts: int
    cause: str


def life_of(handle: Any) -> ActorLife:
    """What Ray's control store says of an actor; its public state API would need the dashboard, which does not run."""
    from ray._private.state import state

    said = state.actor_table(handle._actor_id.hex())
    if not said:
        return ActorLife(state="unknown", pid=0, address="", restarts=0, cause="")
    cause = " ".join(str(said["DeathCause"]).split()) if said["State"] == "DEAD" else ""
    return ActorLife(
        state=said["State"],
        pid=said["Pid"],
        address=said["Address"]["IPAddress"],
        restarts=said["NumRestarts"],
        cause=cause,
    )


def placed_on(node: str, labels: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Options for an actor that is to stand on a node ("": wherever there is memory) with some labels.

    The affinity is soft: when the node has died, or is full by now, Ray takes another one. A hard one would make the
    actor unschedulable for good, and a soft one without spilling would wait for memory on a full node for ever.
    Labels are hard: while no node has them, the actor waits for one.
    """
    options: dict[str, Any] = {}
    if node:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
    if labels:
        options["label_selector"] = {name: selector(values) for name, values in labels.items()}
    return options


def selector(values: Sequence[str]) -> str:
    """Ray's word for "one of these"."""
    return values[0] if len(values) == 1 else f"in({','.join(values)})"


def shown_labels(nodes: Iterable[Node]) -> str:
    """The labels that there are, for messages: ``zone=east (2 nodes), zone=west (1 node)``."""
    counted: dict[str, int] = {}
    for node in nodes:
        for name, value in node.labels.items():
            counted[f"{name}={value}"] = counted.get(f"{name}={value}", 0) + 1
    words = [f"{label} ({count} node{'s' if count > 1 else ''})" for label, count in sorted(counted.items())]
    return ", ".join(words) or "none"
