"""What a chaos run sees of a city: who answers, how far actors are, whether counts fall, who lives beside whom."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import psutil
import ray
from ray.exceptions import GetTimeoutError, RayError

from twin_actors.core.ledger import Ledger
from twin_actors.runtime.city import City, CityNotFound
from twin_actors.wire.process_start import SAME_S, began_s

ANSWER_S: Final = 3.0
LEDGER_EVERY_S: Final = 0.4
LIVES_EVERY_S: Final = 0.02
NOT_NOW: Final = (ValueError, RayError, GetTimeoutError, CityNotFound, TimeoutError)
"""How an actor that is away at the moment shows itself to a caller."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One actor as it answered: its process, and for a twin actor the newest device time that it has applied."""

    pid: int
    node: str
    latest_s: float = float("-inf")
    epoch: int = 0


def _introduce(self: Any) -> tuple[int, str, float, int]:
    holder = getattr(self, "_holder", None)
    latest_s, epoch = (float(holder.latest_s), int(holder.epoch)) if holder is not None else (float("-inf"), 0)
    return os.getpid(), ray.get_runtime_context().get_node_id(), latest_s, epoch


def sights(city: City, names: list[str], *, within_s: float = ANSWER_S) -> dict[str, Sight]:
    """Those of some actors that answer within a time, all asked at once."""
    refs: dict[Any, str] = {}
    for name in names:
        try:
            handle = ray.get_actor(name, namespace=f"twin-actors-{city.name}")
            refs[handle.__ray_call__.remote(_introduce)] = name
        except NOT_NOW:
            continue
    if not refs:
        return {}
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=within_s)
    seen = {}
    for ref in ready:
        try:
            seen[refs[ref]] = Sight(*ray.get(ref, timeout=1.0))
        except NOT_NOW:
            continue
    return seen


class Watch:
    """The question whether a city is whole again, and the time of its answer."""

    def __init__(self, city: City) -> None:
        self.city = city
        self.twin_actors = [actor.name for actor in city.plan.actors]
        self._tick: int | None = None
        self.first_seen: dict[str, dict[int, float]] = {}  # by actor and process, on the monotonic clock

    def whole(self, since_s: float, renewed: Mapping[str, int]) -> str:
        """Empty when all stands; else what is missing.

        Whole: every twin actor has applied a reading made after ``since_s`` (device time), the router is connected
        and calls every actor up, the aggregator ticks, the controller answers, and no actor in ``renewed`` answers
        from the process (by pid) that it had before.
        """
        others = ["router", "aggregator", "controller"]
        seen = sights(self.city, [*others, *self.twin_actors])
        now = time.monotonic()
        for name, sight in seen.items():
            self.first_seen.setdefault(name, {}).setdefault(sight.pid, now)
        for name in (*others, *self.twin_actors):
            if name not in seen:
                return f"{name} does not answer"
            if renewed.get(name) == seen[name].pid:
                return f"{name} is still process {seen[name].pid}"
        behind = [name for name in self.twin_actors if seen[name].latest_s <= since_s]
        if behind:
            return f"{len(behind)} twin actors have applied nothing since, such as {behind[0]}"
        try:
            status = self.city.status()
        except NOT_NOW as error:
            return str(error)
        if not status["router"]["connected"]:
            return f"the router is not connected: {status['router']['broker_error']}"
        fallen = [name for name, line in status["router"]["actors"].items() if line["standing"] != "up"]
        if fallen:
            return f"{fallen[0]} stands {status['router']['actors'][fallen[0]]['standing']}"
        if status["controller"]["phase"] != "running":
            return f"the controller is {status['controller']['phase']}"
        before, self._tick = self._tick, status["aggregator"]["tick"]
        if before is None or before == self._tick:
            return "the aggregator has not ticked yet"
        return ""

    def wait_whole(
        self, since_s: float, *, within_s: float, renewed: Mapping[str, int] | None = None, began: float | None = None
    ) -> tuple[float | None, str]:
        """(seconds from ``began`` until the city was whole, ""), or (None, what was still missing at the deadline)."""
        began = time.monotonic() if began is None else began
        deadline = time.monotonic() + within_s
        self._tick = None
        while True:
            missing = self.whole(since_s, renewed or {})
            if not missing:
                return time.monotonic() - began, ""
            if time.monotonic() > deadline:
                return None, missing
            time.sleep(0.05)  # a pause between two looks, bounded by the deadline


class Background:
    """A function called again and again by a thread until the block ends."""

    def __init__(self, look: Callable[[], None], every_s: float) -> None:
        self._look, self._every_s = look, every_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ending.wait(self._every_s):
            self._look()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(timeout=30.0)


@dataclass(slots=True)
class LedgerWatch:
    """The ledger, asked throughout a run: no count of a fate may ever fall, and it must balance every time."""

    city: City
    polls: int = 0
    unanswered: int = 0
    fallen: list[str] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)
    last: Ledger = field(default_factory=Ledger)

    def look(self) -> None:
        try:
            ledger = self.city.ledger()
        except NOT_NOW:
            self.unanswered += 1
            return
        assert isinstance(ledger, Ledger)
        self.polls += 1
        if not ledger.balanced:
            self.unbalanced.append(str(ledger))
        before, now = asdict(self.last), asdict(ledger)
        fallen = [f"{name} {before[name]:,} → {now[name]:,}" for name in before if now[name] < before[name]]
        self.fallen += [each for each in fallen if not each.startswith("in_flight ")]
        self.last = ledger

    def throughout(self) -> Background:
        return Background(self.look, LEDGER_EVERY_S)


@dataclass(slots=True)
class LivesWatch:
    """How long processes that were to be replaced run beside their successors.

    A process that lives and is not stopped counts, whether or not anybody still listens to it.
    """

    old: Mapping[str, int]
    _begun: dict[str, float] = field(default_factory=dict)
    _alive_until: dict[str, float] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        for name, pid in self.old.items():
            try:
                self._begun[name] = began_s(pid)
            except psutil.NoSuchProcess:
                continue

    def look(self) -> None:
        now = time.monotonic()
        for name, began in self._begun.items():
            try:
                process = psutil.Process(self.old[name])
                runs = process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED, psutil.STATUS_DEAD)
                if runs and abs(began_s(process.pid) - began) <= SAME_S:
                    self._alive_until[name] = now
            except psutil.NoSuchProcess:
                continue

    def overlap_s(self, first_seen: Mapping[str, Mapping[int, float]]) -> float:
        """The longest time that an old process still ran after a successor had answered."""
        overlaps = [0.0]
        for name, until in self._alive_until.items():
            successors = [since for pid, since in first_seen.get(name, {}).items() if pid != self.old[name]]
            # those seen before this watch began are predecessors
            overlaps += [until - since for since in successors if since >= self._began]
        return max(overlaps)

    def throughout(self) -> Background:
        return Background(self.look, LIVES_EVERY_S)
