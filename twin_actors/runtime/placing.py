"""The controller's placer: watches nodes, spreads twin actors at launch, empties nodes that leave, evens out."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import ray

from twin_actors.runtime.balancing import (
    Move,
    Plan,
    Room,
    Standing,
    astray,
    evacuated,
    evened,
    of_actors,
    seated,
    suits,
)
from twin_actors.runtime.crew import AGGREGATOR, Crew, Wanted
from twin_actors.runtime.evicting import move_others
from twin_actors.runtime.measuring import Measured
from twin_actors.runtime.moving import AWAY, Mover
from twin_actors.runtime.nodes import Node, living_nodes, shown_labels
from twin_actors.runtime.placement import OTHER_BYTES, LaunchRefused
from twin_actors.runtime.rating import Rating
from twin_actors.runtime.sizing import Capacity, capacity_here, capacity_of
from twin_actors.runtime.whereabouts import Place, Whereabouts
from twin_actors.store import StoreUnavailable

log = logging.getLogger(__name__)

LOOK_EVERY_S, LOOK_ALONE_EVERY_S = 0.5, 2.0
"""How often the nodes are looked at: one that has got SIGTERM lives for 30 s at most, and a lone one has no other."""
CALM_S = 5.0
"""How long nodes must not have changed before actors move by themselves: several often join at once."""
AT_ONCE, AT_ONCE_LEAVING = 2, 8
"""Twin actors that move at the same time: few, so that most of the city goes on; more when their node is about to
end, since each takes a second or so."""
PAUSE_S = 0.2
"""Between two groups, so that others get their turn."""
AGAIN_S = 30.0
"""After which an actor is tried again that did not come to rest, or could not be saved, when its labels called it."""
STILL_S = 120.0
ORDER_S = 10.0


class Placer:
    """One thread of the controller, beginning with ``start``; before that, ``spread`` says who is created where."""

    def __init__(self, crew: Crew, whereabouts: Whereabouts, guard: Callable[[], None]) -> None:
        self._crew, self._whereabouts = crew, whereabouts
        self._mover = Mover(crew, whereabouts, guard)
        self._nodes: dict[str, Node] = {}
        self._changed_at: float | None = None  # nodes have come or gone, and nothing has been evened out since
        self._ordered: list[Move] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held while anything is moved
        self._rating = Rating(crew, whereabouts)
        self._stranded: tuple[str, ...] = ()  # on nodes that are closed
        self._astray: tuple[str, ...] = ()  # on nodes without the labels that they want, and nowhere to go
        self._again_at: dict[str, float] = {}  # when one that did not move to its labels is tried again
        self._left: dict[str, list[str]] = {}  # by closed node, who is still there
        self._trouble = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="placer", daemon=True)

    # -- at the launch -----------------------------------------------------------------------------------------

    def spread(self) -> None:
        """Decide where those are created that nobody has created yet.

        Routers and the aggregator are given their seats first: each takes as much memory as three twin actors, and
        the aggregator comes last, when the twin actors might have left no such place on any node.
        Raises LaunchRefused where no node has the labels that a kind wants, with those that there are.
        """
        self._look()
        there = self._crew.living()
        # those that live stay where they are when no node has what they want by now
        self.check_labels({name: wanted for name, wanted in self._crew.twin_actors.items() if name not in there})
        if len(self._rooms()) < 2:
            return
        standing = [
            Standing(
                actor=name,
                memory_bytes=self._crew.reserved_bytes(name),
                rate=float(wanted.twins),  # until it is measured
                node=self._place_of(name) if name in there else "",
                labels=wanted.labels,
            )
            for name, wanted in self._crew.twin_actors.items()
        ]
        others = [name for name in (*self._crew.routers, AGGREGATOR) if name not in there]
        seats, rooms = seated(self._rooms(), dict.fromkeys(others, OTHER_BYTES))
        plan = evacuated(rooms, standing)
        self._whereabouts.wished = seats | {move.actor: move.target for move in plan.moves if not move.source}

    def check_labels(self, twin_actors: Mapping[str, Wanted]) -> None:
        """Raises LaunchRefused where no node has the labels that a twin actor wants, with those that there are."""
        for name, wanted in twin_actors.items():
            if wanted.labels and not any(suits(room, wanted.labels) for room in self._rooms()):
                said = ", ".join(f"{label}={' or '.join(values)}" for label, values in wanted.labels.items())
                raise LaunchRefused(
                    f"placement.labels: no node that can hold {name} has the label {said}; the labels there are: "
                    f"{shown_labels(self._nodes.values())}. Start its node with ray start --labels "
                    f"{said.split(' or ')[0]}, or change the scenario"
                )

    def relabelling(self, twin_actors: Mapping[str, Wanted]) -> Plan:
        """Where those of these that live would have to go because of what is wanted of their nodes."""
        standing = [
            replace(each, labels=twin_actors[each.actor].labels)
            for each in self._standing()
            if each.actor in twin_actors
        ]
        rooms = self._rooms()
        return of_actors(evacuated(rooms, standing), astray(rooms, standing))

    def shown_node(self, node: str) -> str:
        """A node as people know it."""
        return self._nodes[node].address if node in self._nodes else node[:8]

    @contextmanager
    def still(self, within_s: float = STILL_S) -> Iterator[None]:
        """No move is under way, and none begins, for the length of a with-block. Raises TimeoutError."""
        if not self._turn.acquire(timeout=within_s):
            moving = ", ".join(self._mover.under_way[:3]) or "something"
            raise TimeoutError(f"{moving} is still being moved after {within_s:g} s: try again a little later")
        try:
            yield
        finally:
            self._turn.release()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)
            try:
                self._rating.look(last=True)
            except StoreUnavailable as error:
                log.warning("the last minute of measured rates is not kept: %s", error)

    @property
    def measured(self) -> Mapping[str, Measured]:
        """What the twins of every kind take."""
        return self._rating.measured

    def capacity(self) -> Capacity:
        """What there is for twin actors, those that live now included."""
        if self._crew.plan.scenario.cluster is not None:
            return capacity_of([(room.cores, room.capacity_bytes) for room in self._rooms() if not room.closed])
        return capacity_here(-sum(hello.memory_bytes for hello in list(self._crew.hellos.values())))

    # -- what people ask ---------------------------------------------------------------------------------------

    def nodes(self) -> list[dict[str, Any]]:
        """One line per node that can hold twin actors."""
        standing = self._standing()
        return [
            {
                "node": room.node,
                "address": self._nodes[room.node].address,
                "state": "leaving" if self._nodes[room.node].leaving else "closed" if room.closed else "open",
                "actors": sum(each.node == room.node for each in standing),
                "twins": sum(self._crew.twin_actors[each.actor].twins for each in standing if each.node == room.node),
                "memory_bytes": sum(each.memory_bytes for each in standing if each.node == room.node),
                "capacity_bytes": room.capacity_bytes,
                "readings_per_s": round(sum(each.rate for each in standing if each.node == room.node), 1),
                "cores": room.cores,
                "labels": dict(room.labels),
                "left": self._left.get(room.node, []) if room.closed else [],
            }
            for room in self._rooms()
        ]

    def rebalance(self, dry_run: bool) -> dict[str, Any]:
        """What would even the nodes out; unless ``dry_run`` it is begun. Raises TimeoutError while others move."""
        if dry_run:
            return _said(evened(self._rooms(), self._standing()))
        with self.still(ORDER_S):  # what is on its way stands nowhere that could be reckoned with
            plan = evened(self._rooms(), self._standing())
            with self._lock:
                self._ordered = list(plan.moves)
            return {**_said(plan), "count": self._mover.count}

    def drain(self, node: str, undo: bool) -> dict[str, Any]:
        """Close a node (by its address, or the beginning of its id) and begin to empty it; ``undo`` opens it again.

        Raises KeyError for an unknown node, ValueError for the last one that is open.
        """
        found = [each for each in self._nodes.values() if node and (each.address == node or each.id.startswith(node))]
        if len(found) != 1:
            known = ", ".join(f"{each.address} ({each.id[:8]})" for each in self._nodes.values() if each.holds_twins)
            raise KeyError(f"{'no' if not found else 'more than one'} node {node!r}; those that hold twins: {known}")
        closing = found[0].id
        if undo:
            self._whereabouts.open_node(closing)
            return _said(Plan(()))
        if not any(not room.closed and room.node != closing for room in self._rooms()):
            raise ValueError(f"{node} is the only node that is open for twin actors: start another one first")
        self._left[closing] = [each.actor for each in self._standing() if each.node == closing]
        self._whereabouts.close_node(closing)
        rooms, standing = self._rooms(), self._standing()
        return _said(of_actors(evacuated(rooms, standing), self._left[closing]))

    def moves(self, last: int = 100) -> dict[str, Any]:
        """What waits, what is under way, and the last that have come to an end."""
        ended = [dict(row) for row in self._whereabouts.recorded(last)]
        return {
            "waiting": len(self._ordered),
            "under_way": list(self._mover.under_way),
            "count": self._mover.count,
            "stranded": [*self._stranded, *self._astray],
            "astray": list(self._astray),
            "ends": [(outcome, reason, count) for (outcome, reason), count in self._mover.ends.items()],
            "longest_wait_s": self._mover.longest_wait_s,
            "trouble": self._trouble,
            "ended": ended,
        }

    # -- the one thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S if len(self._nodes) > 1 else LOOK_ALONE_EVERY_S):
            try:
                busy = True
                while busy and not self._stopping.is_set():
                    with self._turn:
                        self._look()
                        self._see()
                        self._mover.resume()
                        busy = self._work()
                    self._stopping.wait(PAUSE_S if busy else 0.0)
                self._trouble = ""
            except (*AWAY, StoreUnavailable) as error:
                self._trouble = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                log.warning("placing goes on a little later: %s", self._trouble)
            except Exception as error:  # the city goes on, and so must whoever places its actors
                self._trouble = f"{type(error).__name__}: {error}"
                log.exception("placing failed")

    def _look(self) -> None:
        """Which nodes there are now."""
        nodes = {node.id: node for node in living_nodes()}
        if {name for name, node in nodes.items() if node.holds_twins and not node.leaving} != {
            name for name, node in self._nodes.items() if node.holds_twins and not node.leaving
        }:
            self._changed_at = time.monotonic()
        self._nodes = nodes
        self._whereabouts.forget_nodes_but(nodes)

    def _see(self) -> None:
        """Keep where everybody stands, as they have introduced themselves."""
        seen = {}
        for name, hello in list(self._crew.hellos.items()):
            node = self._nodes.get(hello.node)
            if node is not None and name in self._crew.twin_actors:
                seen[name] = Place(
                    node=node.id,
                    address=node.address,
                    labels=dict(node.labels),
                    memory_bytes=hello.memory_bytes,
                    reserved_bytes=self._crew.reserved_bytes(name),
                    twins=hello.twins,
                )
                self._whereabouts.wished.pop(name, None)
        self._whereabouts.see(seen)
        self._whereabouts.forget_all_but(set(self._crew.twin_actors))
        if self._rating.is_time:
            self._rating.look()

    def _work(self) -> bool:
        """One group of moves, the most urgent there is; False when nothing is to be done now."""
        leaving = self._leaving()
        if leaving:
            self._mover.carry_out(leaving[:AT_ONCE_LEAVING], "drain", must=True)
            return True
        if self._move_others():
            return True
        misplaced = self._misplaced()
        if misplaced:
            self._mover.carry_out(misplaced[:AT_ONCE], "labels", must=False)
            for move in misplaced[:AT_ONCE]:
                hello = self._crew.hellos.get(move.actor)
                if hello is None or hello.node == move.source:
                    self._again_at[move.actor] = time.monotonic() + AGAIN_S
            return True
        with self._lock:
            group, self._ordered = self._ordered[:AT_ONCE], self._ordered[AT_ONCE:]
        if not group and self._is_time_to_even_out():
            self._changed_at = None
            moves = list(evened(self._rooms(), self._standing()).moves)
            with self._lock:
                group, self._ordered = moves[:AT_ONCE], moves[AT_ONCE:]
        open_now = {room.node for room in self._rooms() if not room.closed}
        group = [move for move in group if move.target in open_now and self._place_of(move.actor) == move.source]
        if group:
            self._mover.carry_out(group, "rebalance", must=False)
        return bool(group or self._ordered)

    def _leaving(self) -> list[Move]:
        """Moves away from nodes that are closed or about to end. Of a node that is gone, Ray moves the actors."""
        closed = self._closed()
        if not closed:
            self._left, self._stranded = {}, ()
            return []
        standing = self._standing()
        for node in closed:
            self._left[node] = [each.actor for each in standing if each.node == node]
        if not any(self._left[node] for node in closed):
            return []
        plan = of_actors(evacuated(self._rooms(), standing), [name for node in closed for name in self._left[node]])
        if plan.stranded and plan.stranded != self._stranded:
            log.error("no open node has room for %s: add one, or open one again", ", ".join(plan.stranded[:5]))
        self._stranded = plan.stranded
        return list(plan.moves)

    def _misplaced(self) -> list[Move]:
        """Moves of actors from nodes that are not labelled as they want now; who finds no such node stays."""
        plan, now = self.relabelling(self._crew.twin_actors), time.monotonic()
        if plan.stranded and plan.stranded != self._astray:
            log.error("no open node has room and the labels for %s: they stay", ", ".join(plan.stranded[:5]))
        self._astray = plan.stranded
        self._again_at = {name: at_s for name, at_s in self._again_at.items() if at_s > now}
        return [move for move in plan.moves if move.actor not in self._again_at]

    def _move_others(self) -> bool:
        """Routers, the aggregator and, from a node that is about to end, this controller: after the twin actors."""
        closed = self._closed()
        if not closed:
            return False
        open_nodes = [self._nodes[room.node] for room in self._rooms() if not room.closed]
        moved = move_others(self._crew, closed, open_nodes, self._left)
        here = ray.get_runtime_context().get_node_id()
        node = self._nodes.get(here)
        if node is not None and node.leaving and not moved and not self._left.get(here):
            log.warning("this controller leaves its node, which is about to end; Ray starts the next one elsewhere")
            os._exit(3)
        return moved

    def _is_time_to_even_out(self) -> bool:
        """Nodes have changed a while ago, every twin actor stands on a living one, and nobody is catching up."""
        if self._crew.plan.scenario.placement.rebalance != "auto" or self._changed_at is None:
            return False
        if time.monotonic() - self._changed_at < CALM_S or len(self._rooms()) < 2:
            return False
        if any(self._place_of(name) not in self._nodes for name in self._crew.twin_actors):
            return False
        return all(line["standing"] == "up" and line["caught_up"] for line in self._rating.lines().values())

    # -- what is known -----------------------------------------------------------------------------------------

    def _closed(self) -> set[str]:
        return {name for name, node in self._nodes.items() if node.leaving or name in self._whereabouts.closed}

    def _place_of(self, name: str) -> str:
        place = self._whereabouts.places.get(name)
        return place.node if place is not None else ""

    def _rooms(self) -> Sequence[Room]:
        held = dict.fromkeys(self._nodes, 0)
        for name, place in self._whereabouts.places.items():
            if place.node in held and name in self._crew.twin_actors:
                held[place.node] += place.reserved_bytes
        closed = self._closed()
        return [
            Room(
                node=node.id,
                capacity_bytes=min(node.free_bytes + held[node.id], node.memory_bytes),
                cores=max(node.cores, 1.0),
                labels=node.labels,
                closed=node.id in closed,
            )
            for node in self._nodes.values()
            if node.holds_twins
        ]

    def _standing(self) -> list[Standing]:
        return [
            Standing(
                actor=name,
                memory_bytes=self._crew.reserved_bytes(name),
                rate=self._rating.rates.get(name, 0.0),
                node=self._place_of(name),
                labels=wanted.labels,
            )
            for name, wanted in self._crew.twin_actors.items()
        ]


def _said(plan: Plan) -> dict[str, Any]:
    return {"moves": [asdict(move) for move in plan.moves], "stranded": list(plan.stranded)}
