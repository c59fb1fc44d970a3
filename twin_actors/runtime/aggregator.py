"""The aggregator actor: every tick it looks at all twins, decides for the city, divides what there is, and tells."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec
import ray
from ray.exceptions import GetTimeoutError, RayError

from twin_actors.core.deciding import PolicyInUse
from twin_actors.runtime import minutes
from twin_actors.runtime.cityview import CityView
from twin_actors.runtime.council import KEPT, Council, Effects
from twin_actors.runtime.desk import Outgoing
from twin_actors.runtime.patience import patiently
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.router import Exchange
from twin_actors.runtime.twin_actor import Look
from twin_actors.store import StaleEpoch, StoreUnavailable

log = logging.getLogger(__name__)

NAME = "aggregator"
LOOK_DEADLINE_S = 2.0
"""How long a tick waits for a slow twin actor before it goes on with the older look at it."""
MOST_ERRORS = 100


class Aggregator:
    """Constructor arguments are ids and paths only. One thread ticks; calls read what the last tick left."""

    def __init__(self, folder: str, namespace: str) -> None:
        plan = CityPlan.load(folder)
        self._scenario, self._clock, self._namespace = plan.scenario, plan.clock, namespace
        self._view = CityView(plan.scenario, plan.catalogue, plan.actors)
        policies = [
            PolicyInUse.of(plan.catalogue.policies[use.name], use.mode, use.parameters)
            for use in plan.scenario.policies
        ]
        self._council = Council(plan.scenario, plan.catalogue, policies)
        self._store = patiently(plan.open_store)
        self._epoch = patiently(lambda: self._store.next_epoch(NAME))
        self._answered = 0  # number of the last answer of a device that is in the book
        self._in_hand = Effects()  # decided and recorded, not yet with the router
        self._saved = b""
        self._behind = False  # something decided is not kept yet
        patiently(self._recover)
        self._actors = [actor.name for actor in plan.actors]
        self._epochs: dict[str, int] = {}  # the highest seen of every twin actor
        self._handles: dict[str, Any] = {}
        self._looks: dict[str, Any] = {}  # looks under way, by actor
        self._latest_s = float("-inf")
        self._lock = threading.Lock()
        self._errors: deque[str] = deque(maxlen=MOST_ERRORS)
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
        self._ticks, self._answered = state["ticks"], state["answered"]
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
        now_s = self._now_s()
        self._look(now_s)
        with self._lock:
            self._ticks += 1
            if self._behind:
                self._keep()  # the store was away: what cannot be recorded is not decided on top of what was not
            view = self._view.at(now_s)
            self._council.sit(view, self._in_hand)
            self._in_hand.trim()
            states = self._states(now_s)
            self._keep()
        exchange = self._hand_over(self._in_hand, states)
        with self._lock:
            self._in_hand = Effects()
            self._latest_s = max(self._latest_s, exchange.latest_s)
            for answer in exchange.answers:
                if answer.number > self._answered:
                    self._council.answered(answer.id, done=answer.done, at_s=answer.at_s, note=answer.note)
                    self._answered = answer.number
            for command_id in exchange.unsent:
                why = "could not be sent: no such entity, or too many waiting"
                self._council.answered(command_id, done=False, at_s=now_s, note=why)

    def _now_s(self) -> float:
        if self._clock.mode != "events":
            return self._clock.now_s()
        return self._latest_s if self._latest_s > float("-inf") else 0.0

    def _look(self, now_s: float) -> None:
        """Ask every twin actor for its columns; whoever does not answer in time keeps its older ones in the view."""
        for name in self._actors:
            if name not in self._looks:
                handle = self._handle(name)
                if handle is not None:
                    self._looks[name] = handle.show.remote(now_s, True)
        if not self._looks:
            return
        names = {ref: name for name, ref in self._looks.items()}
        ready, _ = ray.wait(list(names), num_returns=len(names), timeout=LOOK_DEADLINE_S)
        for ref in ready:
            name = names[ref]
            del self._looks[name]
            try:
                look: Look = ray.get(ref, timeout=LOOK_DEADLINE_S)
            except (RayError, GetTimeoutError) as error:
                self._errors.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")
                self._handles.pop(name, None)
                continue
            if look.epoch < self._epochs.get(name, 0):
                self._errors.append(
                    f"{name}: epoch {look.epoch} still answers, epoch {self._epochs[name]} has taken over"
                )
                self._handles.pop(name, None)
                continue
            self._epochs[name] = look.epoch
            self._latest_s = max(self._latest_s, look.latest_s)
            with self._lock:
                self._view.take(name, look.shown)

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

    def _hand_over(self, effects: Effects, states: list[tuple[str, bytes]]) -> Exchange:
        router = self._handle("router")
        if router is None:
            raise RuntimeError("the router is not there yet")
        commands = [
            Outgoing(c.id, c.decision, c.entity, c.values, c.issued_at_s, c.expires_at_s) for c in effects.commands
        ]
        ref = router.exchange.remote(commands, effects.couplings, effects.news, states, self._answered, self._epoch)
        answer: Exchange = ray.get(ref, timeout=15.0)
        return answer

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

    def columns(self, kind: str) -> Mapping[str, Any]:
        """The merged columns of one kind as of the last tick. Raises KeyError for a kind without twins."""
        with self._lock:
            return self._view.columns(kind)

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
