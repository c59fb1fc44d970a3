"""Asking an actor within a deadline, and when it does not answer, saying why and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CAUSE_SHOWN = 300


def answer(name: str, namespace: str, method: str, *arguments: Any, within_s: float, needs_bytes: int) -> Any:
    """What an actor's method returns; ``needs_bytes`` is the memory that is kept for the actor.

    Raises TimeoutError, with the reason, when the actor does not answer in time; ValueError when nobody has this name;
    and what the method raises.
    """
    import ray
    from ray.exceptions import GetTimeoutError

    handle = ray.get_actor(name, namespace=namespace)
    try:
        return ray.get(getattr(handle, method).remote(*arguments), timeout=max(within_s, 0.0))
    except GetTimeoutError as error:
        why = why_silent(handle, needs_bytes)
        raise TimeoutError(f"{name} has not answered within {within_s:.0f} s: {why}") from error


def why_silent(handle: Any, needs_bytes: int) -> str:
    """Why an actor does not answer, as far as Ray knows, and what to do."""
    from twin_actors.runtime.nodes import life_of, living_nodes

    found = life_of(handle)
    if found.state == "ALIVE":
        return (
            f"its process {found.pid} on {found.address} lives, but is busy or hangs; look at the load of that machine "
            "and at Ray's log of the process there"
        )
    if found.state in ("DEAD", "unknown"):
        return f"it has ended ({found.cause[:CAUSE_SHOWN] or 'Ray does not say why'}); see Ray's log of it"
    nodes = living_nodes()
    if not any(node.free_bytes >= needs_bytes and not node.leaving for node in nodes):
        free = ", ".join(
            f"{node.address} {node.free_bytes / 1e6:.0f} of {node.memory_bytes / 1e6:.0f} MB"
            for node in sorted(nodes, key=lambda node: -node.free_bytes)[:5]
        )
        return (
            f"no node has the {needs_bytes / 1e6:.0f} MB of memory free that are kept for it (free for actors: "
            f"{free}). Add a node, give the nodes more (ray start --memory), or pack more twins per actor "
            "(placement.entities_per_actor)"
        )
    again = f" again, for the {found.restarts}. time" if found.restarts else ""
    return (
        f"Ray is still starting its process{again} ({found.state}): the machine is busy, or the process does not start"
    )


def first_silent(names: Sequence[str], namespace: str, needs_bytes: int) -> str:
    """Which of some actors has not come to life, and why; of several the first stands for all."""
    import ray

    from twin_actors.runtime.nodes import life_of

    for name in names:
        try:
            handle = ray.get_actor(name, namespace=namespace)
        except ValueError:
            return f"{name} has not even been created: allow more time"
        if life_of(handle).state != "ALIVE":
            return f"{name}: {why_silent(handle, needs_bytes)}"
    return "all of them live: allow more time"
