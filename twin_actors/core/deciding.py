"""Stages *decide*, *allocate*, *recommend*: proposals become recorded decisions, commands live and expire."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from twin_actors.core.view import CommandTo, CoupleTo, Parameters, Policy, Proposal, Value, View

Mode = Literal["advise", "act"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One twin as a decision saw it."""

    entity: str
    revision: int
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A recorded choice of a policy: why, on the sight of which twins, and what it had done (or advises)."""

    id: str
    at_s: float
    policy: str
    mode: Mode
    key: str
    reason: str
    because: tuple[Sight, ...]
    effects: tuple[CommandTo | CoupleTo, ...]
    objective: float | None = None
    bound: float | None = None


class CommandPhase(enum.Enum):
    ISSUED = "issued"
    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCommand:
    """A command on its way to a device and back."""

    id: str
    decision: str
    entity: str
    values: Mapping[str, Value]
    issued_at_s: float
    expires_at_s: float
    phase: CommandPhase = CommandPhase.ISSUED
    answered_at_s: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class PolicyInUse:
    """A policy with the mode and the parameters that the scenario gives it (defaults filled in)."""

    policy: Policy
    mode: Mode
    parameters: Parameters

    @classmethod
    def of(cls, policy: Policy, mode: Mode, given: Parameters) -> PolicyInUse:
        return cls(policy, mode, {**policy.defaults, **given})


@dataclass(slots=True)
class DecisionBook:
    """What has been decided lately, so that no matter is decided again while it cools down."""

    made: int = 0
    cooling: dict[str, float] = field(default_factory=dict)  # "policy|key" -> not again before

    def take(self, proposal: Proposal, policy: PolicyInUse, view: View) -> Decision | None:
        """The decision for a proposal, or None while its matter cools down."""
        matter = f"{policy.policy.name}|{proposal.key}"
        if self.cooling.get(matter, -float("inf")) > view.now_s:
            return None
        self.cooling[matter] = view.now_s + proposal.cooldown_s
        self.made += 1
        return Decision(
            id=f"dec-{self.made:06d}",
            at_s=view.now_s,
            policy=policy.policy.name,
            mode=policy.mode,
            key=proposal.key,
            reason=proposal.reason,
            because=tuple(sight(view, entity) for entity in proposal.because),
            effects=tuple(plain(effect) for effect in proposal.effects),
            objective=None if proposal.objective is None else float(proposal.objective),
            bound=None if proposal.bound is None else float(proposal.bound),
        )

    def forget_cooled(self, now_s: float) -> None:
        self.cooling = {matter: until_s for matter, until_s in self.cooling.items() if until_s > now_s}


def plain(effect: CommandTo | CoupleTo) -> CommandTo | CoupleTo:
    """The effect with numpy's numbers as Python's: it is recorded, encoded and sent to devices.

    Raises TypeError or ValueError for a value that is neither a number nor a flat sequence of numbers.
    """
    values: dict[str, Value] = {}
    for name, value in effect.values.items():
        parts = np.asarray(value, dtype=np.float64)
        if not np.isfinite(parts).all():
            raise ValueError(f"{effect.entity}: {name} is {value}, but what is sent needs finite numbers")
        values[name] = float(parts) if parts.ndim == 0 else tuple(map(float, parts))
    if isinstance(effect, CommandTo):
        return replace(effect, values=values, expires_s=float(effect.expires_s))
    return replace(effect, values=values, after_s=float(effect.after_s))


def sight(view: View, entity: str) -> Sight:
    """The revision and age of one twin in the view. Raises KeyError when the view has no such twin."""
    kind = view.kinds[entity.split("/", 1)[0]]
    if entity not in kind.ids:
        raise KeyError(f"the view has no twin {entity!r}")
    row = kind.row(entity)
    return Sight(entity=entity, revision=int(kind.revision[row]), age_s=float(kind.age_s[row]))


def decide(view: View, policies: Iterable[PolicyInUse], book: DecisionBook) -> list[Decision]:
    """Ask every policy in its order; the book keeps matters that are cooling down from being decided again."""
    decisions = []
    for policy in policies:
        for proposal in policy.policy.propose(view, policy.parameters):
            decision = book.take(proposal, policy, view)
            if decision is not None:
                decisions.append(decision)
    book.forget_cooled(view.now_s)
    return decisions


def recommend(decisions: Iterable[Decision]) -> list[str]:
    """What to tell people: one line per decision, with what was done or what is advised."""
    lines = []
    for decision in decisions:
        verb = "did" if decision.mode == "act" else "advises"
        what = "; ".join(_effect_words(effect) for effect in decision.effects) or "nothing to send"
        lines.append(f"{decision.id} {decision.policy} {verb}: {what} ({decision.reason})")
    return lines


def _effect_words(effect: CommandTo | CoupleTo) -> str:
    values = ", ".join(f"{name}={_value_words(value)}" for name, value in effect.values.items())
    return f"{effect.entity} {values}"


def _value_words(value: Value) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{part:.3g}" for part in value) + ")"
    return f"{value:.4g}"


class CommandBook:
    """Commands that await an answer, bounded; pure but for its own memory."""

    def __init__(self, most_open: int = 10_000) -> None:
        self._open: dict[str, IssuedCommand] = {}
        self._most_open = most_open
        self.sent = self.acknowledged = self.rejected = self.expired = 0

    @property
    def open(self) -> tuple[IssuedCommand, ...]:
        return tuple(self._open.values())

    @property
    def full(self) -> bool:
        return len(self._open) >= self._most_open

    def restore(self, open_commands: Iterable[IssuedCommand], counts: Sequence[int]) -> None:
        """Go on from what another book held: its open commands, and (sent, acknowledged, rejected, expired)."""
        self._open = {command.id: command for command in open_commands}
        self.sent, self.acknowledged, self.rejected, self.expired = counts

    def issue(self, decision: str, number: int, effect: CommandTo, now_s: float) -> IssuedCommand:
        """A command whose id follows from its decision, so that the same decision never makes a second one."""
        command = IssuedCommand(
            id=f"{decision}.{number}",
            decision=decision,
            entity=effect.entity,
            values=effect.values,
            issued_at_s=now_s,
            expires_at_s=now_s + effect.expires_s,
        )
        self._open[command.id] = command
        self.sent += 1
        return command

    def answer(self, command_id: str, *, done: bool, now_s: float, note: str = "") -> IssuedCommand | None:
        """Close an open command with the device's answer; None when it is not open (late, repeated, foreign)."""
        command = self._open.pop(command_id, None)
        if command is None:
            return None
        if done:
            self.acknowledged += 1
        else:
            self.rejected += 1
        phase = CommandPhase.ACKNOWLEDGED if done else CommandPhase.REJECTED
        return replace(command, phase=phase, answered_at_s=now_s, note=note)

    def expire(self, now_s: float) -> list[IssuedCommand]:
        """Close what nobody answered in time."""
        gone = [command for command in self._open.values() if command.expires_at_s <= now_s]
        for command in gone:
            del self._open[command.id]
        self.expired += len(gone)
        return [replace(command, phase=CommandPhase.EXPIRED, note="no answer in time") for command in gone]
