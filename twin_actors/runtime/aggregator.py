"""The aggregator actor: every tick it looks at all twins, decides for the city, divides what there is, and tells."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from twin_actors.core.deciding import PolicyInUse
from twin_actors.core.showing import Stamp
from twin_actors.runtime import minutes
from twin_actors.runtime.answering import Answer, Question
from twin_actors.runtime.cityview import CityView
from twin_actors.runtime.council import KEPT, Council, Effects
from twin_actors.runtime.desk import Outgoing
from twin_actors.runtime.dispatch import Exchange
from twin_actors.runtime.looking import Looks
from twin_actors.runtime.pace import Pace, TickNote
from twin_actors.runtime.patience import patiently
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.twin_actor import Look
from twin_actors.store import StaleEpoch, StoreUnavailable

log = logging.getLogger(__name__)

NAME = "aggregator"
LOOK_SHARE = 0.5
"""The part of a tick's budget that it may wait for twin actors; what is left belongs to the policies."""
FETCH_DEADLINE_S = 2.0
HAND_OVER_DEADLINE_S = 15.0
MOST_ERRORS = 100


class Aggregator:
    """Constructor arguments are ids and paths only. One thread ticks; calls read what the last tick left."""

    def __init__(self, place: str, namespace: str) -> None:
        plan = CityPlan.load(place)
        self._scenario, self._clock, self._namespace = plan.scenario, plan.clock, namespace
        self._view = CityView(plan.scenario, plan.catalogue, plan.actors)
        policies = [
            PolicyInUse.of(plan.catalogue.policies[use.name], use.mode, use.parameters)
            for use in plan.scenario.policies
        ]
        self._council = Council(plan.scenario, plan.catalogue, policies)
        self._store = patiently(plan.open_store)
        self._epoch = patiently(lambda: self._store.next_epoch(NAME))
        self._routers, self._router_of = (
            plan.routers,
            {entity.id: router for entity, router in zip(plan.scenario.entities, plan.router_of, strict=True)},
        )
        self._answered: dict[str, int] = {}  # by router: number of the last answer of a device that is in the book
        self._in_hand = Effects()  # decided and recorded, not yet with the router
        self._saved = b""
        self._behind = False  # something decided is not kept yet
        patiently(self._recover)
        self._handles: dict[str, Any] = {}
        self._latest_s = float("-inf")
        self._lock = threading.Lock()
        self._errors: deque[str] = deque(maxlen=MOST_ERRORS)
        self._looks = Looks([actor.name for actor in plan.actors], self, self._errors.append)
        self._pace = Pace()
        self._ticks = self._failed_ticks = 0
        self._tick_wall_s = 0.0
        self._states_at = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aggregator", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._tick()
            except StaleEpoch as error:
                log.error("this aggregator stops: %s", error)
                os._exit(3)
            except Exception as error:
                # one bad tick must not end all decisions: it is counted, shown in the status, and tried again
                self._failed_ticks += 1
                self._errors.append(f"tick {self._ticks}: {type(error).__name__}: {error}")
                log.exception("tick %d failed", self._ticks)
            self._tick_wall_s = time.monotonic() - started
            self._stopping.wait(max(self._scenario.tick_s - self._tick_wall_s, 0.01))

    # -- over restarts -----------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Go on from what the aggregator before this one has kept: nothing is decided or sent twice."""
        kept = self._store.load_snapshot(NAME)
        if kept is None:
            self._council.begin_at(self._store.records("decisions", KEPT))
            return
        state = msgspec.msgpack.decode(kept.blob, strict=False)
        tables = ("decisions", "commands", "allocations", "alerts")
        self._council.restore(state["council"], {table: self._store.records(table, KEPT) for table in tables})
        self._ticks, answered = state["ticks"], state["answered"]
        self._answered = {self._routers[0]: answered} if isinstance(answered, int) else dict(answered)
        self._in_hand.commands = list(self._council.open_commands)  # the router knows those that it has by their id
        self._in_hand.couplings = [
            (entity, at_s, minutes.values_of(values)) for entity, at_s, values in state["couplings"]
        ]

    def _keep(self) -> None:
        """Make durable what has been decided, before anybody is told. Raises StoreUnavailable."""
        self._behind = True
        for table, rows in self._council.unrecorded.items():
            self._store.record(table, rows, writer=NAME, epoch=self._epoch)
        self._council.recorded()
        couplings = [[entity, at_s, dict(values)] for entity, at_s, values in self._in_hand.couplings]
        state = {"council": self._council.state(), "answered": self._answered, "couplings": couplings}
        blob = msgspec.msgpack.encode(state)
        if blob != self._saved:
            whole = msgspec.msgpack.encode({**state, "ticks": self._ticks})
            self._store.save_snapshot(NAME, self._epoch, self._ticks, whole, self._now_s())
            self._saved = blob
        self._behind = False

    # -- one tick ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now_s, budget_s, began = self._now_s(), self._scenario.limits.tick_budget_s, time.monotonic()
        self._look(now_s, LOOK_SHARE * budget_s)
        looked = time.monotonic()
        with self._lock:
            self._ticks += 1
            if self._behind:
                self._keep()  # the store was away: what cannot be recorded is not decided on top of what was not
            view = self._view.at(now_s)
            self._council.sit(view, self._in_hand, lambda: time.monotonic() - began < budget_s)
            self._in_hand.trim()
            self._pace.note(
                TickNote(
                    tick=self._ticks,
                    at_s=now_s,
                    look_s=looked - began,
                    decide_s=time.monotonic() - looked,
                    late={name: now_s - self._view.seen_at_s(name) for name in sorted(self._looks.late)},
                    left_out=dict(self._council.turns.waiting),
                )
            )
            states = self._states(now_s)
            self._keep()
        self._hand_over(states, now_s)

    def _now_s(self) -> float:
        if self._clock.mode != "events":
            return self._clock.now_s()
        return self._latest_s if self._latest_s > float("-inf") else 0.0

    def _look(self, now_s: float, wait_s: float) -> None:
        """Take the looks at twin actors that are there in time; of the others the view keeps what it has."""
        for name, look in self._looks.take(now_s, wait_s):
            self._latest_s = max(self._latest_s, look.latest_s)
            at_s = max((stamp.at_s for stamp, _ in look.kinds.values()), default=now_s)
            with self._lock:
                self._view.take(name, at_s, {kind: shown for kind, (_, shown) in look.kinds.items()})

    # -- how the actors are reached ----------------------------------------------------------------------------

    def ask(self, actor: str, now_s: float, epoch: int, known: Mapping[str, Stamp]) -> Any:
        handle = self._handle(actor)
        return None if handle is None else handle.look.remote(now_s, epoch, dict(known))

    def ready(self, references: Sequence[Any], wait_s: float) -> Collection[Any]:
        return ray.wait(list(references), num_returns=len(references), timeout=wait_s)[0]

    def get(self, reference: Any) -> Look | str:
        try:
            look: Look = ray.get(reference, timeout=FETCH_DEADLINE_S)
        except (RayError, GetTimeoutError) as error:
            self._handles.clear()  # one of them is of an actor that is gone
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return look

    def _handle(self, name: str) -> Any:
        if name not in self._handles:
            try:
                self._handles[name] = ray.get_actor(name, namespace=self._namespace)
            except ValueError:
                return None
        return self._handles[name]

    def _states(self, now_s: float) -> list[tuple[str, bytes]]:
        """The states that are due to be published: those asked for, as often as the scenario wants."""
        wanted = self._scenario.states
        if not wanted.entities or time.monotonic() - self._states_at < wanted.every_s:
            return []
        self._states_at = time.monotonic()
        return [(entity, self._view.state_message(entity, now_s)) for entity in wanted.entities]

    def _hand_over(self, states: list[tuple[str, bytes]], now_s: float) -> None:
        """Give every router its part of what is in hand; the part of one that is away stays in hand.

        Raises RuntimeError when one was away.
        """
        parts = {name: self._part(name, states) for name in self._routers}
        calls, missing = {}, []
        for name, (effects, own_states) in parts.items():
            router = self._handle(name)
            if router is None:
                missing.append(f"{name} is not there yet")
                continue
            commands = [
                Outgoing(c.id, c.decision, c.entity, c.values, c.issued_at_s, c.expires_at_s) for c in effects.commands
            ]
            answered = self._answered.get(name, 0)
            ref = router.exchange.remote(commands, effects.couplings, effects.news, own_states, answered, self._epoch)
            calls[ref] = name
        ray.wait(list(calls), num_returns=len(calls), timeout=HAND_OVER_DEADLINE_S)
        for ref, name in calls.items():
            try:
                exchange: Exchange = ray.get(ref, timeout=0.1)
            except StaleEpoch:
                raise
            except (RayError, GetTimeoutError) as error:
                if isinstance(error, RayTaskError) and isinstance(error.cause, StaleEpoch):
                    raise error.cause from error
                self._handles.pop(name, None)
                missing.append(f"{name}: {str(error).splitlines()[0]}")
                continue
            with self._lock:
                self._in_hand = self._in_hand.without(parts[name][0])
                self._take_answers(name, exchange, now_s)
        if missing:
            raise RuntimeError("; ".join(missing))

    def _part(self, router: str, states: list[tuple[str, bytes]]) -> tuple[Effects, list[tuple[str, bytes]]]:
        """What is in hand for one router; the main one also gets the news, and what is for nobody."""
        if len(self._routers) == 1:
            return self._in_hand, states
        main = self._routers[0]

        def own(entity: str) -> bool:
            return self._router_of.get(entity, main) == router

        effects = Effects(
            [command for command in self._in_hand.commands if own(command.entity)],
            [coupling for coupling in self._in_hand.couplings if own(coupling[0])],
            self._in_hand.news if router == main else [],
        )
        return effects, [state for state in states if own(state[0])]

    def _take_answers(self, router: str, exchange: Exchange, now_s: float) -> None:
        self._latest_s = max(self._latest_s, exchange.latest_s)
        for answer in exchange.answers:
            if answer.number > self._answered.get(router, 0):
                self._council.answered(answer.id, done=answer.done, at_s=answer.at_s, note=answer.note)
                self._answered[router] = answer.number
        for command_id in exchange.unsent:
            why = "could not be sent: no such entity, or too many waiting"
            self._council.answered(command_id, done=False, at_s=now_s, note=why)

    # -- calls -------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        with self._lock:
            return {
                "tick": self._ticks,
                "epoch": self._epoch,
                "in_hand": len(self._in_hand.commands),
                "failed_ticks": self._failed_ticks,
                "tick_wall_s": self._tick_wall_s,
                "now_s": self._now_s(),
                "errors": list(self._errors)[-5:],
                **self._pace.summary(self._scenario.limits.tick_budget_s),
                **self._view.summary(),
                **self._council.summary(),
            }

    def decisions(self, last: int) -> list[Any]:
        with self._lock:
            return self._council.decisions(last)

    def commands(self, last: int) -> list[Any]:
        with self._lock:
            return self._council.commands(last)

    def allocations(self, last: int) -> list[Any]:
        with self._lock:
            return self._council.allocations(last)

    def emergencies(self, last: int) -> list[Any]:
        with self._lock:
            return self._council.emergencies(last)

    def alerts(self, last: int) -> list[Any]:
        with self._lock:
            return self._council.alerts(last)

    def ticks(self, last: int) -> list[TickNote]:
        """The last ticks that had to leave something out, oldest first."""
        with self._lock:
            return self._pace.short(last)

    def select(self, question: Question) -> Answer:
        """The twins of a kind for which a condition holds, as of the last looks at them. Raises Unsupported."""
        with self._lock:
            return self._view.select(question)

    def order(self, entity: str, values: Mapping[str, Any], reason: str) -> str:
        """A person's own command: recorded as a decision like any other. Returns the decision's id."""
        with self._lock:
            decision = self._council.order(entity, values, reason, self._view.at(self._now_s()))
            try:
                self._keep()  # what is confirmed to a person outlives this process
            except StoreUnavailable:
                self._council.withdraw(decision)
                raise
            return decision

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=10.0)
