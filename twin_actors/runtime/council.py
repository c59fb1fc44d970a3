"""What the aggregator decides in one tick, without Ray and without a clock: policies, needs, emergencies, commands."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import msgspec

from twin_actors.core.allocation import Allocation, Demand, allocate
from twin_actors.core.deciding import (
    CommandBook,
    Decision,
    DecisionBook,
    IssuedCommand,
    PolicyInUse,
    decide,
    plain,
    recommend,
    sight,
)
from twin_actors.core.emergencies import EmergencyBook, EmergencyEvent
from twin_actors.core.fidelity import DRIFTS
from twin_actors.core.resources import Assignment, Fleet, Unit
from twin_actors.core.view import CommandTo, Value, View
from twin_actors.runtime import minutes
from twin_actors.runtime.turns import Turns
from twin_actors.scenario.catalogue import Catalogue
from twin_actors.scenario.model import Scenario

T = TypeVar("T")

KEPT = 2_000
"""Records of each sort that the aggregator itself keeps at hand; the store keeps more."""
ALLOCATION = "dividing resources"
"""The division of resources, where policies take turns with it."""
MOST_SCHEDULED = 100_000
MOST_NEWS = 10_000
EXACT_PAIRS = 400
"""Pairs of unit and demand up to which branch and bound may follow the fast plan without holding up a tick."""


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """An alert that was raised or cleared."""

    at_s: float
    entity: str
    alert: str
    severity: str
    raised: bool
    says: str


@dataclass(frozen=True, slots=True)
class AllocationRecord:
    """One division of the city's resources, with its bound."""

    id: str
    at_s: float
    demands: tuple[Demand, ...]
    allocation: Allocation


@dataclass(slots=True)
class Effects:
    """What a tick wants done: commands to devices, couplings that are due, news for listeners."""

    commands: list[IssuedCommand] = field(default_factory=list)
    couplings: list[tuple[str, float, Mapping[str, Value]]] = field(default_factory=list)
    news: list[tuple[str, bytes]] = field(default_factory=list)

    def without(self, handed: Effects) -> Effects:
        """What is left when a part has been handed over."""
        if handed is self:
            return Effects()
        commands = {command.id for command in handed.commands}
        couplings = {id(coupling) for coupling in handed.couplings}
        return Effects(
            [command for command in self.commands if command.id not in commands],
            [coupling for coupling in self.couplings if id(coupling) not in couplings],
            [] if handed.news else self.news,
        )

    def trim(self) -> None:
        """Of news only the last are worth keeping for a router that is away."""
        del self.news[:-MOST_NEWS]


class Council:
    """All that is remembered between ticks; ``sit`` is one tick."""

    def __init__(self, scenario: Scenario, catalogue: Catalogue, policies: Sequence[PolicyInUse]) -> None:
        self._policies = {use.policy.name: use for use in policies}
        self.turns = Turns([*self._policies, ALLOCATION])
        self._alerts_of = {name: (*catalogue.kinds[name].alerts, DRIFTS) for name in scenario.kinds_used()}
        self._says = {(kind, alert.name): alert.says for kind, its in self._alerts_of.items() for alert in its}
        self._book = DecisionBook()
        self._command_book = CommandBook()
        self._fleet = Fleet.of(_units(scenario))
        self._emergency_book = EmergencyBook()
        self._raised: dict[tuple[str, str], str] = {}
        self._scheduled: list[tuple[float, int, str, Mapping[str, Value]]] = []
        self._sequence = itertools.count()
        self._decisions: deque[Decision] = deque(maxlen=KEPT)
        self._commands: deque[IssuedCommand] = deque(maxlen=KEPT)
        self._allocations: deque[AllocationRecord] = deque(maxlen=KEPT)
        self._alert_events: deque[AlertEvent] = deque(maxlen=KEPT)
        self._emergency_events: deque[EmergencyEvent] = deque(maxlen=KEPT)
        self._orders: list[Decision] = []
        self._news: dict[str, list[dict[str, Any]]] = {}  # records that the store does not have yet, by table
        self.allocations_made = self.alerts_raised = self.postponed = self.dropped_couplings = 0

    # -- one tick ----------------------------------------------------------------------------------------------

    def sit(self, view: View, effects: Effects | None = None, may_start: Callable[[], bool] = lambda: True) -> Effects:
        """Decide on a view. Every effect of the tick is added to ``effects`` and returned; nothing is sent from here.

        Policies, and the allocation after them, begin only while ``may_start`` says so; those left out come first in
        the next tick (``turns``). When a tick fails half way, ``effects`` has what it had decided until then.
        """
        effects = Effects() if effects is None else effects
        self._note_alerts(view, effects)
        decided, self._orders = self._orders, []
        for decision in decided:
            self._carry_out(decision, view.now_s, effects)

        def do(name: str) -> None:
            if name == ALLOCATION:
                self._divide(view, effects)
                return
            for decision in decide(view, [self._policies[name]], self._book):
                decided.append(decision)
                self._carry_out(decision, view.now_s, effects)

        self.turns.go_round(do, may_start)
        # those that a router which is away has not taken yet are bounded by those that may be scheduled
        while self._scheduled and self._scheduled[0][0] <= view.now_s and len(effects.couplings) < MOST_SCHEDULED:
            at_s, _, entity, values = heapq.heappop(self._scheduled)
            effects.couplings.append((entity, at_s, values))
        for command in self._command_book.expire(view.now_s):
            self._note_command(command)
        for line, decision in zip(recommend(decided), decided, strict=True):
            effects.news.append(("decision", msgspec.json.encode({"says": line, "decision": decision})))
        return effects

    def _carry_out(self, decision: Decision, now_s: float, effects: Effects) -> None:
        self._decisions.append(decision)
        self._keep("decisions", minutes.decision_row(decision))
        if decision.mode != "act":
            return
        for number, effect in enumerate(decision.effects, start=1):
            if isinstance(effect, CommandTo):
                if self._command_book.full:
                    self.postponed += 1
                    continue
                command = self._command_book.issue(decision.id, number, effect, now_s)
                self._note_command(command)
                effects.commands.append(command)
            elif len(self._scheduled) >= MOST_SCHEDULED:
                self.dropped_couplings += 1
            else:
                due = (now_s + effect.after_s, next(self._sequence), effect.entity, effect.values)
                heapq.heappush(self._scheduled, due)

    def _note_alerts(self, view: View, effects: Effects) -> None:
        now: dict[tuple[str, str], str] = {}
        emergencies: list[tuple[str, str, str]] = []
        for entity, alert in _active(view, self._alerts_of):
            now[entity, alert.name] = alert.severity
            if alert.emergency:
                emergencies.append((entity, alert.name, alert.severity))
        changed = [(key, True) for key in now.keys() - self._raised.keys()]
        changed += [(key, False) for key in self._raised.keys() - now.keys()]
        for (entity, name), raised in sorted(changed):
            severity = now[entity, name] if raised else self._raised[entity, name]
            says = self._says[entity.split("/", 1)[0], name]
            event = AlertEvent(view.now_s, entity, name, severity, raised, says)
            self._alert_events.append(event)
            self._keep("alerts", msgspec.to_builtins(event))
            self.alerts_raised += raised
            effects.news.append(("alert", msgspec.json.encode(event)))
        self._raised = now
        self._fleet, _ = self._fleet.step(view.now_s)
        self._emergency_book, events = self._emergency_book.step(emergencies, self._fleet.assignments, view.now_s)
        self._emergency_events.extend(events)
        for event in events:
            self._keep("emergencies", msgspec.to_builtins(event))

    def _divide(self, view: View, effects: Effects) -> None:
        """Stage *allocate*: free units among what the twins ask for and do not have yet."""
        if not self._fleet.units:
            return
        demands = tuple(self._demands(view))
        free = self._fleet.free(view.now_s)
        if not demands or not free:
            return
        allocation = allocate(demands, free, now_s=view.now_s, exact_pairs=EXACT_PAIRS)
        if not allocation.assignments:
            return
        self._fleet = self._fleet.assign(allocation.assignments)
        self.allocations_made += 1
        record = AllocationRecord(f"all-{self.allocations_made:06d}", view.now_s, demands, allocation)
        self._allocations.append(record)
        self._keep("allocations", msgspec.to_builtins(record))
        effects.news.append(("decision", msgspec.json.encode({"allocation": record})))

    def _demands(self, view: View) -> Iterator[Demand]:
        on_the_way: dict[tuple[str, str], float] = {}
        pool_of = {unit.id: unit.pool for unit in self._fleet.units}
        for assignment in self._fleet.assignments:
            if assignment.until_s > view.now_s:
                key = assignment.demand, pool_of[assignment.unit]
                on_the_way[key] = on_the_way.get(key, 0.0) + assignment.amount
        for kind in view.kinds.values():
            for resource, need in kind.needs.items():
                for row in (need.amount > 0).nonzero()[0].tolist():
                    entity = kind.ids[row]
                    demand = f"{entity}:{resource}"
                    sent = sum(amount for (wanted, _), amount in on_the_way.items() if wanted == demand)
                    amount = float(need.amount[row]) - sent
                    if amount > 1e-9:
                        yield Demand(
                            id=demand,
                            entity=entity,
                            resource=resource,
                            amount=amount,
                            urgency=float(need.urgency[row]),
                            duration_s=float(need.duration_s[row]),
                            lat_deg=float(kind.lat_deg[row]),
                            lon_deg=float(kind.lon_deg[row]),
                        )

    # -- answers and orders ------------------------------------------------------------------------------------

    def answered(self, command_id: str, *, done: bool, at_s: float, note: str) -> None:
        command = self._command_book.answer(command_id, done=done, now_s=at_s, note=note)
        if command is not None:
            self._note_command(command)

    def begin_at(self, decisions: Sequence[Mapping[str, Any]]) -> None:
        """Number on behind these records, where nothing else is left of an earlier council."""
        numbers = [
            int(str(row["id"]).removeprefix("dec-")) for row in decisions if str(row.get("id")).startswith("dec-")
        ]
        self._book.made = max([self._book.made, *numbers])

    def withdraw(self, decision_id: str) -> None:
        """Take an order back that could not be recorded."""
        self._orders = [order for order in self._orders if order.id != decision_id]

    def order(self, entity: str, values: Mapping[str, Value], reason: str, view: View) -> str:
        """Record a person's command as a decision; the next tick carries it out."""
        self._book.made += 1
        known = entity.split("/", 1)[0] in view.kinds
        decision = Decision(
            id=f"dec-{self._book.made:06d}",
            at_s=view.now_s,
            policy="order",
            mode="act",
            key=entity,
            reason=reason,
            because=(sight(view, entity),) if known else (),
            effects=(plain(CommandTo(entity=entity, values=values)),),
        )
        self._orders.append(decision)
        return decision.id

    # -- over restarts -----------------------------------------------------------------------------------------

    def _keep(self, table: str, row: dict[str, Any]) -> None:
        self._news.setdefault(table, []).append(row)

    def _note_command(self, command: IssuedCommand) -> None:
        self._commands.append(command)
        self._keep("commands", minutes.command_row(command))

    @property
    def unrecorded(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Rows that the store is to be given, by table; ``recorded`` says that it has them."""
        return self._news

    def recorded(self) -> None:
        self._news = {}

    @property
    def open_commands(self) -> tuple[IssuedCommand, ...]:
        return self._command_book.open

    def state(self) -> dict[str, Any]:
        """Everything that the next incarnation must know to go on without deciding anything twice."""
        book = self._command_book
        return {
            "made": self._book.made,
            "cooling": dict(self._book.cooling),
            "open": [minutes.command_row(command) for command in book.open],
            "counts": [book.sent, book.acknowledged, book.rejected, book.expired],
            "assignments": msgspec.to_builtins(self._fleet.assignments),
            "emergencies": msgspec.to_builtins(self._emergency_book),
            "raised": [[*key, severity] for key, severity in self._raised.items()],
            "scheduled": [[at_s, entity, dict(values)] for at_s, _, entity, values in sorted(self._scheduled)],
            "orders": [minutes.decision_row(decision) for decision in self._orders],
            "allocations_made": self.allocations_made,
            "alerts_raised": self.alerts_raised,
            "postponed": self.postponed,
            "dropped_couplings": self.dropped_couplings,
        }

    def restore(self, state: Mapping[str, Any], records: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Go on from ``state``; ``records`` are the last rows of each table, for those who ask what has been."""
        self._book.made = state["made"]
        self._book.cooling = dict(state["cooling"])
        self._command_book.restore([minutes.command_of(row) for row in state["open"]], state["counts"])
        known = {unit.id for unit in self._fleet.units}
        assignments = msgspec.convert(state["assignments"], tuple[Assignment, ...])
        self._fleet = replace(self._fleet, assignments=tuple(each for each in assignments if each.unit in known))
        self._emergency_book = msgspec.convert(state["emergencies"], EmergencyBook)
        self._raised = {
            (entity, alert): severity
            for entity, alert, severity in state["raised"]
            if (entity.split("/", 1)[0], alert) in self._says  # the scenario may have lost the kind since
        }
        self._scheduled = [
            (at_s, next(self._sequence), entity, minutes.values_of(values))
            for at_s, entity, values in state["scheduled"]
        ]
        heapq.heapify(self._scheduled)
        self._orders = [minutes.decision_of(row) for row in state["orders"]]
        self.allocations_made, self.alerts_raised = state["allocations_made"], state["alerts_raised"]
        self.postponed, self.dropped_couplings = state["postponed"], state["dropped_couplings"]
        for table, kept, read in (
            ("decisions", self._decisions, minutes.decision_of),
            ("commands", self._commands, minutes.command_of),
            ("allocations", self._allocations, partial(msgspec.convert, type=AllocationRecord)),
            ("alerts", self._alert_events, partial(msgspec.convert, type=AlertEvent)),
        ):
            kept.extend(minutes.readable(table, records.get(table, ()), read))  # type: ignore[attr-defined]

    # -- what has been -----------------------------------------------------------------------------------------

    def decisions(self, last: int) -> list[Decision]:
        return _newest(self._decisions, last)

    def commands(self, last: int) -> list[IssuedCommand]:
        """The newest state of each of the last commands, oldest first."""
        newest = {command.id: command for command in self._commands}
        return _newest(newest.values(), last)

    def allocations(self, last: int) -> list[AllocationRecord]:
        return _newest(self._allocations, last)

    def emergencies(self, last: int) -> list[Any]:
        return _newest((*self._emergency_book.closed, *self._emergency_book.open), last)

    def alerts(self, last: int) -> list[AlertEvent]:
        return _newest(self._alert_events, last)

    def summary(self) -> dict[str, Any]:
        book = self._command_book
        return {
            "decisions": self._book.made,
            "allocations": self.allocations_made,
            "alerts_raised": self.alerts_raised,
            "alerts_active": len(self._raised),
            "emergencies_open": len(self._emergency_book.open),
            "emergencies": self._emergency_book.opened_so_far,
            "commands_sent": book.sent,
            "commands_acknowledged": book.acknowledged,
            "commands_rejected": book.rejected,
            "commands_expired": book.expired,
            "commands_open": len(book.open),
            "commands_postponed": self.postponed,
            "couplings_dropped": self.dropped_couplings,
            "units_busy": sum(1 for unit in self._fleet.assignments),
            "units": len(self._fleet.units),
        }


def _newest(kept: Iterable[T], last: int) -> list[T]:
    """The last ``last`` of what is kept, oldest first; none for 0."""
    return list(kept)[-last:] if last > 0 else []


def _active(view: View, alerts_of: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, kind in view.kinds.items():
        for alert in alerts_of[name]:
            active = kind.alerts.get(alert.name)
            if active is not None and active.any():
                for row in active.nonzero()[0].tolist():
                    yield kind.ids[row], alert


def _units(scenario: Scenario) -> Iterator[Unit]:
    for pool in scenario.resources:
        for number in range(1, pool.count + 1):
            yield Unit(
                id=f"{pool.name}/{number}",
                pool=pool.name,
                lat_deg=pool.base_lat_deg,
                lon_deg=pool.base_lon_deg,
                speed_kmh=pool.speed_kmh,
                skills=pool.skills,
                capacity=pool.capacity,
            )
