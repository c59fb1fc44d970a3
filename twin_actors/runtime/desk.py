"""The router's desk for commands: which are on their way, which devices have answered, which came too late."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

from twin_actors.core.view import Value
from twin_actors.wire.messages import Acknowledgement

MOST_OPEN_COMMANDS = 10_000


class Outgoing(NamedTuple):
    """A command as the aggregator hands it over."""

    id: str
    decision: str
    entity: str
    values: Mapping[str, Value]
    issued_at_s: float
    expires_at_s: float


class Answer(NamedTuple):
    """A device's answer to a command. ``number`` counts answers since the city began."""

    id: str
    done: bool
    at_s: float
    note: str
    number: int = 0


class Verdict(enum.Enum):
    """What an acknowledgement turns out to be."""

    DONE = "done"
    REFUSED = "refused"
    LATE = "late"  # the command had expired
    REPEATED = "repeated"  # the command was sent again after a crash, and answered again
    UNKNOWN = "unknown"  # no such command waits for this entity


class CommandDesk:
    """Commands by id from sending to answer or expiry; everything on it is bounded.

    A command is opened once however often it is handed over, and its answer is given to the aggregator until that
    says it has it: both may die between any two steps.
    """

    def __init__(self) -> None:
        self._open: dict[str, Outgoing] = {}
        self._closed: dict[str, str] = {}  # how the last commands ended, by id: "done", "refused", "expired"
        self._answers: deque[Answer] = deque(maxlen=MOST_OPEN_COMMANDS)
        self._answered = 0
        self._sent_again: set[str] = set()
        self.late = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        return len(self._open) >= MOST_OPEN_COMMANDS

    @property
    def open(self) -> tuple[Outgoing, ...]:
        return tuple(self._open.values())

    def knows(self, command_id: str) -> bool:
        """It has been opened before, by the same hand-over repeated."""
        return command_id in self._open or command_id in self._closed

    def is_open(self, command_id: str) -> bool:
        return command_id in self._open

    def sent(self, command: Outgoing) -> None:
        self._open[command.id] = command

    def acknowledged(self, entity: str, answer: Acknowledgement) -> tuple[Verdict, Mapping[str, Value]]:
        """What an answer means, and (done) the values that are now in force: as sent, or as the device says it set.

        Nothing is closed yet: ``close`` does that, when the answer is to be logged.
        """
        command = self._open.get(answer.id)
        if command is None and self._closed.get(answer.id) == "expired":
            self.late += 1
            return Verdict.LATE, {}
        if command is None and answer.id in self._sent_again:
            return Verdict.REPEATED, {}
        if command is None or command.entity != entity:
            return Verdict.UNKNOWN, {}
        if answer.status != "done":
            return Verdict.REFUSED, {}
        own = {name: value for name, value in answer.values.items() if name in command.values}
        return Verdict.DONE, {**command.values, **own}

    def close(self, command_id: str, *, done: bool, at_s: float, note: str) -> None:
        """A command has been answered; its answer waits for the aggregator."""
        if self._open.pop(command_id, None) is None:
            return
        self._end(command_id, "done" if done else "refused")
        self._answered += 1
        self._answers.append(Answer(command_id, done, at_s, note, self._answered))

    def _end(self, command_id: str, how: str) -> None:
        self._closed[command_id] = how
        while len(self._closed) > MOST_OPEN_COMMANDS:
            oldest = next(iter(self._closed))
            del self._closed[oldest]
            self._sent_again.discard(oldest)

    def expire(self, now_s: float) -> None:
        """Stop waiting for what nobody answered in time."""
        for command in [each for each in self._open.values() if each.expires_at_s < now_s]:
            del self._open[command.id]
            self._end(command.id, "expired")

    def answers_after(self, number: int) -> list[Answer]:
        """The answers behind ``number``, the last one that the aggregator has."""
        while self._answers and self._answers[0].number <= number:
            self._answers.popleft()
        return list(self._answers)

    def forget(self, entities: Set[str]) -> None:
        """Drop the commands of entities that the city has no more."""
        for command in [each for each in self._open.values() if each.entity in entities]:
            del self._open[command.id]
            self._end(command.id, "expired")

    # -- over restarts -----------------------------------------------------------------------------------------

    def state(self) -> Mapping[str, Any]:
        return {
            "open": [list(command) for command in self._open.values()],
            "closed": self._closed,
            "answers": [list(answer) for answer in self._answers],
            "answered": self._answered,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._open = {command[0]: Outgoing(*command) for command in state["open"]}
        self._closed = dict(state["closed"])
        self._answers = deque((Answer(*answer) for answer in state["answers"]), maxlen=MOST_OPEN_COMMANDS)
        self._answered = int(state["answered"])

    def send_again(self) -> tuple[Outgoing, ...]:
        """Commands that a router before this one may or may not have published; devices know them by their id."""
        self._sent_again.update(self._open, self._closed)
        return self.open
