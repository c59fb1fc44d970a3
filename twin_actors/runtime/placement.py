"""Which twins share a Ray actor, and whether the machine can hold so many actors."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from twin_actors.scenario.model import Scenario

ACTOR_BYTES = 65_000_000
"""Memory of one twin actor with a process of its own, as measured (64.5 MB unshared, Ray 2.60, numpy 2.4)."""

ROUGHLY = 1.1
"""A twin actor that takes no more than this times the usual is an ordinary one, for which the usual is kept."""

OTHER_BYTES = 200_000_000
"""Memory that is kept for a router or the aggregator."""

CONTROLLER_BYTES = 100_000_000
"""Memory that is kept for the controller."""

RESERVED_BYTES = 1_200_000_000
"""What the Ray head, router, aggregator, controller, broker and device host take together, as measured."""


class LaunchRefused(Exception):
    """The city cannot be launched as it is written; the message says what to change."""


@dataclass(frozen=True, slots=True)
class ActorPlan:
    """One twin actor and the numbers of its entities in the scenario, all of one router."""

    name: str
    entities: tuple[int, ...]


WORTH_AN_ACTOR = 10_000
"""Fewer twins get no process of their own beside another on their node, until measures ask for one.

It takes memory, and a part of a core even when nothing happens; with half a core one takes in ten readings a second of
each of so many.
"""

Labels = tuple[tuple[str, tuple[str, ...]], ...]
"""By label the values of which a node must have one; sorted, so that they can be compared."""


def size_of(scenario: Scenario, kind: str, sizes: Mapping[str, int] | None = None) -> int:
    """How many twins of a kind share an actor at most; ``auto``: as ``sizes`` say, else as if never measured here."""
    setting = scenario.placement.of(kind)
    if setting != "auto":
        return int(setting)
    if sizes is not None and kind in sizes:
        return sizes[kind]
    return unmeasured_size(len(scenario.entities), os.cpu_count() or 1)


def unmeasured_size(twins: int, cores: int, nodes: int = 1) -> int:
    """How many of a city's twins share an actor before anything was measured.

    Each core has an actor, but every actor is worth its process, and every node has one.
    """
    return max(1, min(math.ceil(twins / nodes), max(math.ceil(twins / cores), WORTH_AN_ACTOR)))


def labels_of(scenario: Scenario, kind: str) -> Labels:
    """What the node of a kind's twins must be called."""
    return tuple(sorted(scenario.placement.labels.get(kind, {}).items()))


def plan_actors(scenario: Scenario, sizes: Mapping[str, int] | None = None) -> tuple[ActorPlan, ...]:
    """Twin actors in scenario order. Kinds with the same setting are packed side by side, a kind's twins together;
    those that need nodes of different labels never are.

    ``sizes`` says how many twins of a kind that is ``auto`` share an actor (see ``sizing``); without it each core of
    this machine has one actor, and each router at least one.
    """
    by_setting: dict[tuple[str, int, Labels], list[int]] = {}
    total = len(scenario.entities)
    routers = scenario.routers_of_entities()
    order = sorted(range(total), key=lambda number: scenario.entities[number].kind)
    for number in order:
        kind = scenario.entities[number].kind
        setting = routers[number], size_of(scenario, kind, sizes), labels_of(scenario, kind)
        by_setting.setdefault(setting, []).append(number)
    plans: list[ActorPlan] = []
    for (router, size, _), numbers in by_setting.items():
        # the offsets in an actor's snapshots are those of its router's log: another router, another name
        at = f"@{router}" if router else ""
        if size == 1:
            plans.extend(ActorPlan(f"twin:{scenario.entities[n].id}{at}", (n,)) for n in sorted(numbers))
            continue
        for part in range(0, len(numbers), size):
            plans.append(ActorPlan(f"twins:{len(plans) + 1:05d}{at}", tuple(numbers[part : part + size])))
    return tuple(plans)


def free_memory_bytes() -> int:
    """Memory that new processes may take: what the machine has free, or what its control group leaves."""
    free = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists():
        text = limit.read_text().strip()
        if text != "max":
            free = min(free, int(text) - int(used.read_text()))
    return max(free, 0)


def check_memory(scenario: Scenario, plans: Sequence[ActorPlan], free_bytes: int) -> None:
    """Raise LaunchRefused, with the sum and the line to change, when the actors would not fit."""
    needed = len(plans) * ACTOR_BYTES + RESERVED_BYTES
    if needed <= free_bytes:
        return
    total = (
        f"{len(plans):,} twin actors × {ACTOR_BYTES / 1e6:.0f} MB + {RESERVED_BYTES / 1e9:.1f} GB for the rest = "
        f"{needed / 1e9:.1f} GB, but this machine has {free_bytes / 1e9:.1f} GB free."
    )
    fitting = (free_bytes - RESERVED_BYTES) // ACTOR_BYTES
    if fitting < 1:
        raise LaunchRefused(
            f"{total} Not even one twin actor fits: end other programs, or take a machine with at least "
            f"{(RESERVED_BYTES + ACTOR_BYTES) / 1e9:.1f} GB free"
        )
    per_actor = math.ceil(len(scenario.entities) / fitting)
    raise LaunchRefused(
        f"{total} Pack the twins: write\n"
        f"  placement: {{entities_per_actor: {max(per_actor, 2)}}}   # or: auto\n"
        f"in {scenario.files[0] if scenario.files else 'the scenario'}"
    )
