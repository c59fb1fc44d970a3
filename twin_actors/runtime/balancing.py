"""Which twin actors should stand on which node: pure functions from what there is to the moves that even it out.

A node's load is what its twin actors take of its memory, and the readings that arrive for them per core. Both are
compared with the mean over all open nodes, so that a node twice as large may hold twice as much.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

TOLERANCE = 0.15
"""How far a node's load may be from the mean, as a share of it: below this a move is not worth its second."""
GAIN = 1e-9
"""A move must even the load out by more than rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A node that may hold twin actors: ``capacity_bytes`` is what it has for them, those it holds included."""

    node: str
    capacity_bytes: int
    cores: float = 1.0
    labels: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A twin actor: what it takes, which labels its node must have (any of the values), where it is ("": nowhere)."""

    actor: str
    memory_bytes: int
    rate: float = 0.0
    node: str = ""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """One twin actor is to go from a node ("": it is nowhere yet) to another."""

    actor: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Moves in the order in which they fit, and the actors for which no open node has room."""

    moves: tuple[Move, ...]
    stranded: tuple[str, ...] = ()


def suits(room: Room, labels: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a node has one of the wanted values for every wanted label."""
    return all(room.labels.get(name) in values for name, values in labels.items())


class _Loads:
    """What every open node holds, and how uneven that is; changed by ``shift`` and changed back."""

    def __init__(self, rooms: Sequence[Room], standing: Iterable[Standing]) -> None:
        # in one order, whatever order they came in: sums of floats depend on it
        ordered = sorted(rooms, key=lambda room: room.node)
        self.rooms = {room.node: room for room in ordered if not room.closed and room.capacity_bytes > 0}
        self.bytes = dict.fromkeys(self.rooms, 0)
        self.rate = dict.fromkeys(self.rooms, 0.0)
        total_bytes, total_rate = 0, 0.0
        for each in sorted(standing, key=lambda each: each.actor):
            total_bytes += each.memory_bytes
            total_rate += each.rate
            if each.node in self.rooms:
                self._add(each, each.node, 1)
        self._mean_bytes = total_bytes / max(sum(room.capacity_bytes for room in self.rooms.values()), 1)
        self._mean_rate = total_rate / max(sum(room.cores for room in self.rooms.values()), 1e-9)

    def _add(self, each: Standing, node: str, sign: int) -> None:
        self.bytes[node] += sign * each.memory_bytes
        self.rate[node] += sign * each.rate

    def shift(self, each: Standing, source: str, target: str) -> None:
        if source in self.rooms:
            self._add(each, source, -1)
        self._add(each, target, 1)

    def pressures(self, node: str) -> tuple[float, float]:
        """Memory and rate of a node as multiples of the mean; 1 where nobody takes any."""
        room = self.rooms[node]
        memory = self.bytes[node] / room.capacity_bytes / self._mean_bytes if self._mean_bytes else 1.0
        rate = self.rate[node] / room.cores / self._mean_rate if self._mean_rate else 1.0
        return memory, rate

    def unevenness(self, *nodes: str) -> float:
        """Sum of squared distances from the mean, of some nodes: every move that helps makes it smaller."""
        return sum((pressure - 1.0) ** 2 for node in nodes for pressure in self.pressures(node))

    def worst(self) -> float:
        return max((abs(p - 1.0) for node in self.rooms for p in self.pressures(node)), default=0.0)

    def height(self, node: str) -> float:
        return max(self.pressures(node))

    def fits(self, each: Standing, node: str) -> bool:
        room = self.rooms[node]
        return self.bytes[node] + each.memory_bytes <= room.capacity_bytes and suits(room, each.labels)

    def gain(self, each: Standing, source: str, target: str) -> float:
        """By how much a move would even the load out; negative where it would not."""
        before = self.unevenness(source, target)
        self.shift(each, source, target)
        after = self.unevenness(source, target)
        self.shift(each, target, source)
        return before - after


def seated(rooms: Sequence[Room], needs: Mapping[str, int]) -> tuple[dict[str, str], tuple[Room, ...]]:
    """Where actors go that hold no twins, by name (``needs``: bytes of memory): in this order, each to the open node
    that has the most left. Also the nodes with what that leaves them; an actor that fits nowhere has no seat."""
    left = {room.node: room for room in rooms}
    seats = {}
    for name, needed in needs.items():
        fitting = [room for room in left.values() if not room.closed and room.capacity_bytes >= needed]
        if fitting:
            room = min(fitting, key=lambda each: (-each.capacity_bytes, each.node))
            seats[name] = room.node
            left[room.node] = replace(room, capacity_bytes=room.capacity_bytes - needed)
    return seats, tuple(left.values())


def astray(rooms: Sequence[Room], standing: Sequence[Standing]) -> tuple[str, ...]:
    """The twin actors on open nodes that lack a label which they must have: it was asked for after they came."""
    there = {room.node: room for room in rooms if not room.closed}
    return tuple(
        each.actor for each in standing if each.node in there and not suits(there[each.node], each.labels)
    )  # fmt: skip


def of_actors(plan: Plan, actors: Collection[str]) -> Plan:
    """The part of a plan that is about some actors."""
    return Plan(
        tuple(move for move in plan.moves if move.actor in actors),
        tuple(name for name in plan.stranded if name in actors),
    )


def evacuated(rooms: Sequence[Room], standing: Sequence[Standing]) -> Plan:
    """Where twin actors go that stand nowhere, or on a node that is closed, gone or without their labels.

    The largest goes first, each to the node that it loads least. Those for which nothing is open, roomy and rightly
    labelled are stranded.
    """
    loads = _Loads(rooms, standing)
    wrong = set(astray(rooms, standing))
    homeless = [each for each in standing if each.node not in loads.rooms or each.actor in wrong]
    moves, stranded = [], []
    for each in sorted(homeless, key=lambda each: (-each.memory_bytes, -each.rate, each.actor)):
        fitting = [node for node in loads.rooms if loads.fits(each, node)]
        if not fitting:
            stranded.append(each.actor)
            continue

        def cost(node: str, each: Standing = each) -> tuple[float, str]:
            before = loads.unevenness(node)
            loads.bytes[node] += each.memory_bytes
            loads.rate[node] += each.rate
            after = loads.unevenness(node)
            loads.bytes[node] -= each.memory_bytes
            loads.rate[node] -= each.rate
            return after - before, node

        target = min(fitting, key=cost)
        loads.shift(each, each.node, target)
        moves.append(Move(each.actor, each.node, target))
    return Plan(tuple(moves), tuple(stranded))


def evened(rooms: Sequence[Room], standing: Sequence[Standing], *, tolerance: float = TOLERANCE) -> Plan:
    """Few moves after which every open node's load is within ``tolerance`` of the mean, or as near as moves can bring
    it. None where it is already; the result depends on nothing but the arguments.

    The fewest moves of all would be a packing problem; these are found one by one, each the one that helps most
    between the fullest and the emptiest node, and none of them can be left out. Actors that stand nowhere, or on
    nodes that are closed or gone, are not moved: that is what ``evacuated`` is for.
    """
    loads = _Loads(rooms, standing)
    on: dict[str, dict[str, Standing]] = {node: {} for node in loads.rooms}
    for each in sorted(standing, key=lambda each: each.actor):
        if each.node in on:
            on[each.node][each.actor] = each
    moves: list[Move] = []
    while loads.worst() > tolerance:
        found = _best(loads, on)
        if found is None:
            break
        each, source, target = found
        loads.shift(each, source, target)
        del on[source][each.actor]  # and is not put down at the target: nobody moves twice
        moves.append(Move(each.actor, source, target))
    return Plan(_needed(moves, rooms, standing, tolerance))


def _best(loads: _Loads, on: Mapping[str, Mapping[str, Standing]]) -> tuple[Standing, str, str] | None:
    """The move that helps most from the fullest node to the emptiest; where none helps, between the next two."""
    fullest = sorted(loads.rooms, key=lambda node: (-loads.height(node), node))
    for source in fullest:
        for target in sorted(loads.rooms, key=lambda node: (min(loads.pressures(node)), node)):
            if target == source:
                continue
            gains = [
                (loads.gain(each, source, target), each)
                for each in on[source].values()
                if loads.fits(each, target)
            ]  # fmt: skip
            helping = [(gain, each) for gain, each in gains if gain > GAIN]
            if helping:
                _, each = max(helping, key=lambda pair: pair[0])  # of equals the first by name
                return each, source, target
    return None


def _needed(
    moves: Sequence[Move], rooms: Sequence[Room], standing: Sequence[Standing], tolerance: float
) -> tuple[Move, ...]:
    """The moves without those that the others made unnecessary: the load is within the tolerance without them or,
    where it cannot be, as even as with them."""
    kept = list(moves)
    reached = after(rooms, standing, moves)
    dropped = True
    while dropped and reached is not None:
        dropped = False
        for move in list(kept):
            fewer = [each for each in kept if each is not move]
            left = after(rooms, standing, fewer)
            if left is not None and (left.worst <= tolerance or left.unevenness <= reached.unevenness):
                kept, dropped = fewer, True
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class Evenness:
    """How far the worst node is from the mean, as a share of it, and the sum of all squared distances."""

    worst: float
    unevenness: float


def after(rooms: Sequence[Room], standing: Sequence[Standing], moves: Sequence[Move]) -> Evenness | None:
    """How even the load is after moves; None where one of them does not fit."""
    loads = _Loads(rooms, standing)
    by_name = {each.actor: each for each in standing}
    for move in moves:
        each = by_name[move.actor]
        if move.target not in loads.rooms or not loads.fits(each, move.target):
            return None
        loads.shift(each, move.source, move.target)
    return Evenness(loads.worst(), loads.unevenness(*loads.rooms))
