"""The aggregator's looks at all twin actors: asked every tick, waited for as long as the tick can afford."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from twin_actors.core.showing import Stamp
from twin_actors.runtime.twin_actor import Look


class Asking(Protocol):
    """How actors are reached: Ray in a city, anything else in a test."""

    def ask(self, actor: str, now_s: float, epoch: int, known: Mapping[str, Stamp]) -> Any:
        """A reference to the look that is under way, or None when there is no such actor now."""

    def ready(self, references: Sequence[Any], wait_s: float) -> Collection[Any]:
        """Those that have answered, at the latest after ``wait_s`` wall seconds."""

    def get(self, reference: Any) -> Look | str:
        """The answer, or why there is none."""


class Looks:
    """One look under way per actor, at most.

    An actor that is not ready in time is *late*: its look stays under way, and later ticks take it when it is there
    but wait for it no more. So a twin actor that hangs costs one tick its patience, not every tick.
    """

    def __init__(self, actors: Collection[str], asking: Asking, note: Callable[[str], None]) -> None:
        self._actors, self._asking, self._note = tuple(actors), asking, note
        self._under_way: dict[str, Any] = {}
        self._epochs: dict[str, int] = {}  # the highest seen
        self._known: dict[str, Mapping[str, Stamp]] = {}
        self.late: set[str] = set()

    def take(self, now_s: float, wait_s: float) -> Iterator[tuple[str, Look]]:
        """Ask every actor how it is at ``now_s`` and give what is there after at most ``wait_s`` wall seconds."""
        overdue = list(self._under_way.values())  # has been waited for by an earlier tick
        expected = []
        for name in self._actors:
            if name not in self._under_way:
                reference = self._asking.ask(name, now_s, self._epochs.get(name, 0), self._known.get(name, {}))
                if reference is not None:
                    self._under_way[name] = reference
                    expected.append(reference)
        ready = set(self._asking.ready(expected, wait_s)) if expected else set()
        ready |= set(self._asking.ready(overdue, 0.0)) if overdue else set()
        there = [name for name, reference in self._under_way.items() if reference in ready]
        self.late = set(self._actors) - set(there)
        for name in there:
            look = self._accepted(name, self._asking.get(self._under_way.pop(name)))
            if look is None:
                self.late.add(name)
            else:
                yield name, look

    def _accepted(self, name: str, look: Look | str) -> Look | None:
        if isinstance(look, str):
            self._note(f"{name}: {look}")
            return None
        if look.epoch < self._epochs.get(name, 0):
            self._note(f"{name}: epoch {look.epoch} still answers, epoch {self._epochs[name]} has taken over")
            return None
        self._epochs[name] = look.epoch
        self._known[name] = {kind: stamp for kind, (stamp, _) in look.kinds.items()}
        return look
