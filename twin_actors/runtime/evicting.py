"""Routers and the aggregator off nodes that are closed: stopped in good order, and created on the roomiest open one."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import ray

from twin_actors.runtime.crew import AGGREGATOR, Crew
from twin_actors.runtime.moving import AWAY
from twin_actors.runtime.nodes import Node
from twin_actors.runtime.placement import OTHER_BYTES

log = logging.getLogger(__name__)

CALL_S = 5.0
STOP_S = 12.0


def move_others(crew: Crew, closed: Collection[str], open_nodes: Sequence[Node], left: dict[str, list[str]]) -> bool:
    """Whether one was moved. ``left`` gets, by closed node, those that stay there for want of room."""
    moved = False
    for name in (AGGREGATOR, *crew.routers):
        with suppress(*AWAY):
            handle = crew.find(name)
            node = ray.get(handle.__ray_call__.remote(_node_of), timeout=CALL_S)
            if node in closed:
                left[node] = [*left.get(node, []), name]
                if _move(crew, name, handle, node, open_nodes):
                    left[node].remove(name)
                    moved = True
    return moved


def _move(crew: Crew, name: str, handle: Any, node: str, open_nodes: Sequence[Node]) -> bool:
    """Stop one in good order and create it on the open node with the most memory. False where none has enough."""
    roomy = max((each for each in open_nodes if each.free_bytes >= OTHER_BYTES), default=None, key=_free)
    if roomy is None:
        log.error("no open node has room for %s, which stands on %s", name, node[:8])
        return False
    with crew.lock:
        with suppress(*AWAY):
            ray.get(handle.stop.remote(), timeout=STOP_S)
        ray.kill(handle, no_restart=True)
        deadline = time.monotonic() + STOP_S
        while True:
            try:
                crew.create(name, node=roomy.id, anew=True)
                return True
            except ValueError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)  # Ray lets go of a name a moment after the end; bounded by the deadline


def _free(node: Node) -> int:
    return node.free_bytes


def _node_of(_: Any) -> str:
    return str(ray.get_runtime_context().get_node_id())
