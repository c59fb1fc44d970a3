"""What a SUMO network says about its signals: lanes, links, stages and who feeds whom. Reads the XML, needs no SUMO."""

from __future__ import annotations

import gzip
import math
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

GREEN = {"G": 1.0, "g": 0.4}
"""What a green is worth: protected, or permitted (it yields to others)."""
STRAIGHT, TURN_BACK = "s", "t"
STRAIGHT_WEIGHT = 2.0
LOOK_DOWNSTREAM_M = 1500.0
"""How far from a signal the next one is looked for."""
UPSTREAM_M = 200.0


class NetworkError(ValueError):
    """The file is no SUMO network, or has no signals to control."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane: ``id`` is ``edge_index``."""

    id: str
    edge: str
    length_m: float
    speed_mps: float
    shape: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Link:
    """One way through a signal: from an inbound to an outbound lane, with its place in the state string."""

    index: int
    lane: str
    exit: str
    turn: str


@dataclass(frozen=True, slots=True)
class ProgramPhase:
    """A phase of the program in the network, with its state and its duration, s."""

    state: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal: its inbound lanes in the order of their links, its links, and its stages (the green phases)."""

    id: str
    lanes: tuple[str, ...]
    links: tuple[Link, ...]
    stages: tuple[str, ...]
    program: tuple[ProgramPhase, ...]
    x_m: float
    y_m: float

    def serves(self, stage: int, lane: str) -> float:
        """How far a stage serves a lane, 0…1: the share of its ways with green, a permitted one counting less.

        Straight on weighs twice as much as a turn, as turning shares are not in a network; turning back counts only
        where nothing else leaves the lane.
        """
        own = [link for link in self.links if link.lane == lane]
        counted = [link for link in own if link.turn != TURN_BACK] or own
        weights = [STRAIGHT_WEIGHT if link.turn == STRAIGHT else 1.0 for link in counted]
        green = [GREEN.get(self.stages[stage][link.index], 0.0) for link in counted]
        return sum(weight * mark for weight, mark in zip(weights, green, strict=True)) / sum(weights)

    def exits(self, lane: str) -> tuple[str, ...]:
        """Lanes that a lane leads to, without turning back where there is another way."""
        own = [link for link in self.links if link.lane == lane]
        return tuple(dict.fromkeys(link.exit for link in own if link.turn != TURN_BACK) or (own[0].exit,))

    def yellow(self, before: str, after: str) -> str:
        """The state between two: ``y`` where green ends, the rest as before."""
        ends = "rs"
        return "".join(
            "y" if mark in GREEN and then in ends else mark for mark, then in zip(before, after, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Feed:
    """One signal sends traffic to another, over ``length_m`` at free speed in ``travel_s``."""

    source: str
    target: str
    length_m: float
    travel_s: float


@dataclass(frozen=True, slots=True)
class Network:
    """All signals with more than one stage, and the lanes of the whole network."""

    signals: Mapping[str, Signal]
    lanes: Mapping[str, Lane]
    before: Mapping[str, tuple[str, ...]]
    """Lanes from which a lane can be reached, without those that a signal holds back."""
    after: Mapping[str, tuple[str, ...]]
    """Lanes that can be reached from a lane without passing a signal."""
    inside: Mapping[str, tuple[str, ...]]
    """Lanes inside the junction that vehicles from an inbound lane of a signal drive on."""
    feeds: tuple[Feed, ...]
    offset_m: tuple[float, float]
    """Added to projected coordinates to get those of the network."""
    projection: str
    """PROJ string of the network's coordinates; empty where it has no place on Earth."""

    def position(self, signal: Signal) -> tuple[float, float] | None:
        """Latitude and longitude of a signal; None without a place on Earth or without the package ``pyproj``."""
        if not self.projection:
            return None
        try:
            from pyproj import Proj
        except ImportError:
            return None
        east, north = signal.x_m - self.offset_m[0], signal.y_m - self.offset_m[1]
        lon_deg, lat_deg = Proj(self.projection)(east, north, inverse=True)
        return float(lat_deg), float(lon_deg)

    def held_below(self, lane: str, reach_m: float = LOOK_DOWNSTREAM_M) -> tuple[str, ...]:
        """Inbound lanes of other signals that the exits of a signal's lane lead to."""
        signal = next(each for each in self.signals.values() if lane in each.lanes)
        held = {each: other.id for other in self.signals.values() for each in other.lanes}
        found: dict[str, None] = {}
        seen: set[str] = set()
        ways = deque((each, 0.0) for each in signal.exits(lane))
        while ways:
            here, length_m = ways.popleft()
            if here in seen or length_m > reach_m:
                continue
            seen.add(here)
            if here in held:
                if held[here] != signal.id:
                    found[here] = None
                continue
            ways.extend((each, length_m + self.lanes[here].length_m) for each in self.after.get(here, ()))
        return tuple(found)

    def upstream(self, lane: str, reach_m: float = UPSTREAM_M) -> tuple[str, ...]:
        """The lane and those before it that lead to it only through it, back to ``reach_m`` from its end."""
        chain, length_m = [lane], self.lanes[lane].length_m
        while length_m < reach_m:
            earlier = [each for each in self.before.get(chain[-1], ()) if each not in chain]
            if len(earlier) != 1:
                break
            chain.append(earlier[0])
            length_m += self.lanes[earlier[0]].length_m
        return tuple(chain)


def _points(shape: str) -> tuple[tuple[float, float], ...]:
    pairs = (pair.split(",") for pair in shape.split())
    return tuple((float(pair[0]), float(pair[1])) for pair in pairs)


def read_network(path: str | Path) -> Network:
    """Read a ``.net.xml`` (or ``.net.xml.gz``).

    Raises NetworkError for a file that is not a SUMO network or has no signal with two stages, FileNotFoundError for
    one that is not there.
    """
    path = Path(path)
    content = path.read_bytes()
    try:
        root = ET.fromstring(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (ET.ParseError, gzip.BadGzipFile) as error:
        raise NetworkError(f"{path}: not XML ({error}); give the .net.xml of a SUMO scenario") from error
    if root.tag != "net":
        raise NetworkError(f"{path}: the root is <{root.tag}>, not <net>; give the .net.xml of a SUMO scenario")
    lanes = dict(_lanes(root))
    links: dict[str, list[Link]] = {}
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    via: dict[str, list[str]] = {}
    for connection in root.iter("connection"):
        source = f"{connection.get('from')}_{connection.get('fromLane')}"
        target = f"{connection.get('to')}_{connection.get('toLane')}"
        if "via" in connection.attrib:
            via.setdefault(source, []).append(connection.attrib["via"])
        if source not in lanes or target not in lanes:
            continue  # inside a junction
        signal = connection.get("tl")
        if signal is not None:
            place = int(connection.get("linkIndex", "0"))
            links.setdefault(signal, []).append(Link(place, source, target, connection.get("dir", "s")))
        else:
            before.setdefault(target, []).append(source)
            after.setdefault(source, []).append(target)
    signals = {signal.id: signal for signal in _signals(root, links, lanes)}
    if not signals:
        raise NetworkError(f"{path}: no traffic light with two green phases; there is nothing to control")
    return Network(
        signals=signals,
        lanes=lanes,
        before={lane: tuple(dict.fromkeys(sources)) for lane, sources in before.items()},
        after={lane: tuple(dict.fromkeys(targets)) for lane, targets in after.items()},
        inside={lane: tuple(_inside(lane, via)) for signal in signals.values() for lane in signal.lanes},
        feeds=tuple(_feeds(signals, lanes, after)),
        offset_m=_offset(root),
        projection=_projection(root),
    )


def _offset(root: ET.Element) -> tuple[float, float]:
    location = root.find("location")
    text = "0,0" if location is None else location.get("netOffset", "0,0")
    x_m, y_m = text.split(",")
    return float(x_m), float(y_m)


def _projection(root: ET.Element) -> str:
    location = root.find("location")
    text = "" if location is None else location.get("projParameter", "")
    return text if text.startswith("+proj") else ""


def _inside(lane: str, via: Mapping[str, list[str]]) -> Iterable[str]:
    """Follow the ways through the junction, which may be cut where vehicles wait for a gap."""
    ways, seen = list(via.get(lane, ())), set()
    while ways:
        here = ways.pop()
        if here not in seen:
            seen.add(here)
            yield here
            ways.extend(via.get(here, ()))


def _lanes(root: ET.Element) -> Iterable[tuple[str, Lane]]:
    for edge in root.iter("edge"):
        if edge.get("function") in ("internal", "walkingarea", "crossing"):
            continue
        for lane in edge.iter("lane"):
            name = lane.get("id", "")
            yield (
                name,
                Lane(
                    id=name,
                    edge=edge.get("id", ""),
                    length_m=float(lane.get("length", "0")),
                    speed_mps=float(lane.get("speed", "13.9")),
                    shape=_points(lane.get("shape", "0,0")),
                ),
            )


def _signals(root: ET.Element, links: Mapping[str, list[Link]], lanes: Mapping[str, Lane]) -> Iterable[Signal]:
    seen = set()
    for logic in root.iter("tlLogic"):
        name = logic.get("id", "")
        own = sorted(links.get(name, ()), key=lambda link: link.index)
        program = tuple(
            ProgramPhase(phase.get("state", ""), float(phase.get("duration", "0"))) for phase in logic.iter("phase")
        )
        stages = tuple(
            dict.fromkeys(
                phase.state for phase in program if "y" not in phase.state and GREEN.keys() & set(phase.state)
            )
        )
        if name in seen or not own or len(stages) < 2:
            continue  # further programs of the same signal; signals that never change
        seen.add(name)
        ends = [lanes[link.lane].shape[-1] for link in own]
        yield Signal(
            id=name,
            lanes=tuple(dict.fromkeys(link.lane for link in own)),
            links=tuple(own),
            stages=stages,
            program=program,
            x_m=math.fsum(x for x, _ in ends) / len(ends),
            y_m=math.fsum(y for _, y in ends) / len(ends),
        )


def _feeds(signals: Mapping[str, Signal], lanes: Mapping[str, Lane], after: Mapping[str, list[str]]) -> Iterable[Feed]:
    """Each pair of neighbours once, by the shortest way between them that passes no other signal."""
    holds = {lane: signal.id for signal in signals.values() for lane in signal.lanes}
    for signal in signals.values():
        best: dict[str, Feed] = {}
        seen: set[str] = set()
        ways = deque((link.exit, 0.0, 0.0) for link in signal.links)
        while ways:
            lane, length_m, travel_s = ways.popleft()
            if lane in seen or length_m > LOOK_DOWNSTREAM_M:
                continue
            seen.add(lane)
            length_m += lanes[lane].length_m
            travel_s += lanes[lane].length_m / max(lanes[lane].speed_mps, 1.0)
            target = holds.get(lane)
            if target is None:
                ways.extend((following, length_m, travel_s) for following in after.get(lane, ()))
            elif target != signal.id and (target not in best or length_m < best[target].length_m):
                best[target] = Feed(signal.id, target, length_m, travel_s)
        yield from best.values()
