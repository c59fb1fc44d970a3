"""The router's desk for commands: which are on their way, which devices have answered, which came too late."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

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
    """A device's answer to a command."""

    id: str
    done: bool
    at_s: float
    note: str


class Verdict(enum.Enum):
    """What an acknowledgement turns out to be."""

    DONE = "done"
    REFUSED = "refused"
    LATE = "late"  # the command had expired
    UNKNOWN = "unknown"  # no such command waits for this entity


class CommandDesk:
    """Commands by id from sending to answer or expiry; everything on it is bounded."""

    def __init__(self) -> None:
        self._open: dict[str, Outgoing] = {}
        self._expired: dict[str, None] = {}  # ids whose time ran out; their devices may still answer
        self._answers: deque[Answer] = deque(maxlen=MOST_OPEN_COMMANDS)
        self.late = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        return len(self._open) >= MOST_OPEN_COMMANDS

    def sent(self, command: Outgoing) -> None:
        self._open[command.id] = command

    def acknowledged(self, entity: str, answer: Acknowledgement, now_s: float) -> tuple[Verdict, Mapping[str, Value]]:
        """What an answer means, and (done) the values that are now in force: as sent, or as the device says it set."""
        command = self._open.get(answer.id)
        if command is None and answer.id in self._expired:
            self.late += 1
            return Verdict.LATE, {}
        if command is None or command.entity != entity:
            return Verdict.UNKNOWN, {}
        del self._open[answer.id]
        done = answer.status == "done"
        self._answers.append(Answer(answer.id, done, now_s, answer.reason or ("" if done else answer.status)))
        if not done:
            return Verdict.REFUSED, {}
        own = {name: value for name, value in answer.values.items() if name in command.values}
        return Verdict.DONE, {**command.values, **own}

    def expire(self, now_s: float) -> None:
        """Stop waiting for what nobody answered in time."""
        for command in [each for each in self._open.values() if each.expires_at_s < now_s]:
            del self._open[command.id]
            self._expired[command.id] = None
        while len(self._expired) > MOST_OPEN_COMMANDS:
            del self._expired[next(iter(self._expired))]

    def take_answers(self) -> list[Answer]:
        """The answers since the last time."""
        answers = list(self._answers)
        self._answers.clear()
        return answers
