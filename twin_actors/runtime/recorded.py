"""What people read of what a city has done and refused: decisions, commands, alerts, dead letters, short ticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from twin_actors.core.deciding import Decision, IssuedCommand
from twin_actors.core.emergencies import Emergency
from twin_actors.runtime.council import AlertEvent
from twin_actors.runtime.fleets import FleetTopics
from twin_actors.runtime.merging import merged_letters
from twin_actors.runtime.pace import TickNote
from twin_actors.store import DeadLetter, LetterState
from twin_actors.wire.topics import Topics

if TYPE_CHECKING:
    import pandas as pd

    from twin_actors.runtime.plan import CityPlan
    from twin_actors.scenario.model import Scenario


class Recorded:
    """The part of ``City`` that tells what its actors have on record."""

    scenario: Scenario
    _plan: CityPlan
    _number: Mapping[str, int]

    def _call(self, actor: str, method: str, *arguments: Any, deadline_s: float = ..., again: bool = ...) -> Any: ...

    def _ask_routers(self, method: str, *arguments: Any, deadline_s: float = ...) -> list[Any]: ...

    def decisions(self, last: int = 10) -> pd.DataFrame:
        """The last decisions: when, by which policy, why, on the sight of which twins, with which effects."""
        return _records(self._call("aggregator", "decisions", last), Decision, "id")

    def commands(self, last: int = 10) -> pd.DataFrame:
        return _records(self._call("aggregator", "commands", last), IssuedCommand, "id")

    def allocations(self, last: int = 10) -> list[Any]:
        """The last divisions of resources, each with objective, LP bound, gap and what bound it."""
        return list(self._call("aggregator", "allocations", last))

    def emergencies(self, last: int = 10) -> pd.DataFrame:
        return _records(self._call("aggregator", "emergencies", last), Emergency, "id")

    def alerts(self, last: int = 10) -> pd.DataFrame:
        """The last alerts of twins, and alarms of the city's own places (router, store, broker, actors)."""
        of_twins = self._call("aggregator", "alerts", last)
        of_places = self._call("controller", "alarms", last)
        events = sorted([*of_twins, *of_places], key=lambda event: event.at_s)[-last:] if last > 0 else []
        return _records(events, AlertEvent, None)

    def dead_letters(self, last: int = 10, *, reason: str = "", state: str | None = None) -> pd.DataFrame:
        """The last messages that could not be used, by ``id``: topic, why, bytes, and what was done about them.

        ``reason`` and ``state`` ("waiting", "replayed", "discarded") choose among them.
        """
        wanted = None if state is None else LetterState(state)
        answers = self._ask_routers("dead_letters", last, wanted, reason)
        return _records(merged_letters(answers, last), DeadLetter, "id")

    def dead_letter(self, number: int) -> DeadLetter:
        """One by its id, with the whole explanation. Raises KeyError."""
        letter: DeadLetter = self._call(self._plan.main_router, "dead_letter", number)
        return letter

    def replay_dead_letter(self, number: int, *, payload: bytes | str | None = None, topic: str = "") -> None:
        """Take a dead letter in again, mended where ``payload`` or ``topic`` say so; it is received once more.

        Raises KeyError, and ValueError for one that has been replayed already.
        """
        mended = payload.encode() if isinstance(payload, str) else payload
        letter = self.dead_letter(number)
        self._call(
            self._router_for(topic or letter.topic, letter.share), "replay_letter", number, mended, topic, again=False
        )

    def _router_for(self, topic: str, share: str) -> str:
        """The router of the entity that a topic names; of other topics, the one that has the letter."""
        fleet = FleetTopics(self.scenario.fleets).match(topic)
        parsed = Topics(self.scenario.root).parse(topic)
        entity = fleet.entity if fleet else parsed[0] if parsed else ""
        if entity in self._number:
            return self._plan.router_of[self._number[entity]]
        return share if share in self._plan.routers else self._plan.main_router

    def discard_dead_letter(self, number: int) -> None:
        """Note that nothing more will be done about it. Raises KeyError."""
        self._call(self._plan.main_router, "discard_letter", number)

    def ticks(self, last: int = 10) -> pd.DataFrame:
        """The last ticks that had to leave something out: ``late`` twin actors with the age in s of what the view has
        of them, policies ``left_out`` with the number of ticks in a row, and the wall seconds that it took."""
        return _records(self._call("aggregator", "ticks", last), TickNote, "tick")


def _records(records: Sequence[Any], of: type, index: str | None) -> pd.DataFrame:
    import pandas as pd

    names = [field.name for field in fields(of)]
    frame = pd.DataFrame([[getattr(record, name) for name in names] for record in records], columns=names)
    return frame.set_index(index) if index else frame
