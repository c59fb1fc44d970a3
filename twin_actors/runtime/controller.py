"""The controller actor: the city as it should be against the city as it is. It creates the others and keeps them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from twin_actors.runtime import applying
from twin_actors.runtime.applying import ChangeRefused, planned
from twin_actors.runtime.auditing import Auditor
from twin_actors.runtime.changing import Change, untouched
from twin_actors.runtime.council import AlertEvent
from twin_actors.runtime.crew import AGGREGATOR, Crew, wanted_by
from twin_actors.runtime.ending import end_for_good, save_twins, stop_in_order
from twin_actors.runtime.historian import Historian
from twin_actors.runtime.patience import patiently
from twin_actors.runtime.placement import LaunchRefused
from twin_actors.runtime.placing import Placer
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.sizing import Sizing, keep_sizes, kept_sizes, sizes_for
from twin_actors.runtime.whereabouts import Whereabouts
from twin_actors.scenario.model import Scenario
from twin_actors.store import StoreDamaged, StoreUnavailable

log = logging.getLogger(__name__)

NAME = "controller"
CHECK_EVERY_S = 2.0


class Controller:
    """Constructor arguments are ids and paths only; ``progress`` tells how far it is.

    It creates what is not there, so a controller that Ray has started again takes over the city that it finds.
    """

    def __init__(self, place: str, namespace: str) -> None:
        self._place, self._namespace = place, namespace
        self._plan = CityPlan.load(place)
        self._store = patiently(self._plan.open_store)
        self._epoch = patiently(lambda: self._store.next_epoch(NAME))
        self._whereabouts = patiently(lambda: Whereabouts(self._store))
        self._crew = Crew(place, namespace, self._plan, self._whereabouts)
        self._placer = Placer(self._crew, self._whereabouts, self._end_if_outdated)
        self._tending = self._crew.lock  # held by whoever creates or ends actors
        self._sizing = patiently(lambda: kept_sizes(self._store))
        self._answered = 0
        self._phase = "idle"
        self._error = ""
        self._recreated = 0
        self._historian = Historian(self._plan, self._store)
        self._auditor = Auditor(self._plan, namespace, lambda: self._historian.trouble, self.progress)
        self._stopping = threading.Event()
        self._phase = "creating"
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)
        self._thread.start()

    def progress(self) -> dict[str, Any]:
        return {
            "phase": self._phase,
            "answered": self._answered,
            "total": len(self._plan.actors),
            "error": self._error,
            "recreated": self._recreated,
            "audit": self._auditor.report(),
            "history": self._historian.report(),
            "moves": self._placer.moves(0),
            "nodes": self._placer.nodes(),
        }

    def sizes(self) -> list[dict[str, Any]]:
        """One line per kind: how many of its twins share an actor, which bound decided that, and what was measured."""
        scenario, measured = self._plan.scenario, self._placer.measured
        lines = []
        for kind in scenario.kinds_used():
            sizing, found = self._sizing.get(kind), measured.get(kind)
            fixed = scenario.placement.of(kind)
            lines.append(
                {
                    "kind": kind,
                    "twins": sum(entity.kind == kind for entity in scenario.entities),
                    "per_actor": sizing.twins if sizing else fixed,
                    "bound": sizing.bound if sizing else "fixed",
                    "says": sizing.says if sizing else "as the scenario says",
                    "readings_per_s": found.readings_per_s if found else None,
                    "measured_s": found.over_s if found else None,
                    "reading_us": found.reading_us if found else None,
                    "twin_bytes": found.twin_bytes if found else None,
                }
            )
        return lines

    def nodes(self) -> list[dict[str, Any]]:
        """One line per node that can hold twin actors."""
        return self._placer.nodes()

    def moves(self, last: int) -> dict[str, Any]:
        """Moves that wait, are under way, or have come to an end lately."""
        return self._placer.moves(last)

    def rebalance(self, dry_run: bool) -> dict[str, Any]:
        """What would even the nodes out; unless ``dry_run`` it is begun."""
        return self._placer.rebalance(dry_run)

    def drain(self, node: str, undo: bool) -> dict[str, Any]:
        """Close a node and begin to empty it, or open it again. Raises KeyError, ValueError."""
        return self._placer.drain(node, undo)

    def tidy(self) -> dict[str, Any]:
        """Move what can be moved into history now. Returns what was done."""
        return asdict(self._historian.tidy())

    def alarms(self, last: int) -> list[AlertEvent]:
        """What the auditor has found, raised and cleared."""
        return self._auditor.events(last)

    def actors(self) -> list[dict[str, Any]]:
        """One line per twin actor: its entities, process and memory as it introduced itself."""
        entities = self._plan.scenario.entities
        lines = []
        for actor in self._plan.actors:
            hello, place = self._crew.hellos.get(actor.name), self._whereabouts.places.get(actor.name)
            kinds: dict[str, int] = {}
            for number in actor.entities:
                kinds[entities[number].kind] = kinds.get(entities[number].kind, 0) + 1
            lines.append(
                {
                    "actor": actor.name,
                    "twins": len(actor.entities),
                    "kinds": kinds,
                    "pid": hello.pid if hello else None,
                    "memory_bytes": hello.memory_bytes if hello else None,
                    "incarnation": hello.incarnation if hello else None,
                    "epoch": hello.epoch if hello else None,
                    "node": place.node if place else None,
                    "address": place.address if place else None,
                    "labels": place.labels if place else {},
                }
            )
        return lines

    # -- the one thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._finish_change()
            self._create_all()
            self._phase = "running"
        except LaunchRefused as error:
            self._phase, self._error = "refused", str(error)
            return
        except Exception as error:
            self._phase, self._error = "failed", f"{type(error).__name__}: {error}"
            log.exception("the city could not be created")
            return
        self._placer.start()
        while not self._stopping.wait(CHECK_EVERY_S):
            try:
                self._end_if_outdated()
                with self._tending:
                    self._reconcile()
                if self._phase == "running":  # a router that hangs must not hold up whoever moves or changes
                    self._auditor.look()
            except Exception as error:  # the city goes on, and so must whoever looks after it
                self._error = f"{type(error).__name__}: {error}"
                log.exception("looking after the city failed")

    def _create_all(self) -> None:
        """Create whatever is not there: routers, twin actors, and when these have answered, the aggregator."""
        self._placer.spread()
        for router in self._crew.routers:
            self._crew.create(router)
        pending = {self._crew.create(name).hello.remote(): name for name in self._crew.twin_actors}
        while pending and not self._stopping.is_set():
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=1.0)
            for ref in ready:
                self._met(pending.pop(ref), ref)
        self._crew.create(AGGREGATOR)

    # -- changes -----------------------------------------------------------------------------------------------

    def change(self, scenario: bytes, renamed: Mapping[str, str], split: str = "") -> Change:
        """Take over another scenario (as ``Scenario.to_json`` writes it) while the city runs; see ``City.apply``.

        Routers, aggregator and the twin actors that are touched stop for some seconds: meanwhile the broker keeps what
        comes at QoS 1. Raises ChangeRefused and ValueError, with the city as it was.
        """
        with self._placer.still(), self._tending:  # no twin actor is on its way to another node
            if self._phase != "running":
                raise ChangeRefused(f"the city is {self._phase}: try again when it runs")
            new, change, sizes = self._planned(scenario, renamed, split)
            if not change.empty or split:
                applying.begin(self._place, new)
                self._phase = "changing"
                try:
                    self._carry_out(new)
                    self._keep_sizes(sizes)
                    self._create_all()
                finally:
                    self._phase = "running"
            return change

    def preview(self, scenario: bytes, renamed: Mapping[str, str]) -> Change:
        """What ``change`` would come to, with nothing done about it. Raises what it would raise."""
        return self._planned(scenario, renamed, "")[1]

    def _planned(
        self, scenario: bytes, renamed: Mapping[str, str], split: str
    ) -> tuple[CityPlan, Change, dict[str, Sizing]]:
        """The next plan, what it changes, the sizes it goes by. Raises ChangeRefused, ValueError."""
        wanted = Scenario.from_json(scenario)
        sizes = self._sizes(wanted)
        new, change = planned(self._store, self._plan, wanted, renamed, split, sizes)
        actors, living_on = wanted_by(new), untouched(self._plan, new)
        try:
            self._placer.check_labels({name: each for name, each in actors.items() if name not in living_on})
        except LaunchRefused as error:
            raise ChangeRefused(str(error)) from error
        plan = self._placer.relabelling({name: each for name, each in actors.items() if name in living_on})
        shown, places = self._placer.shown_node, self._whereabouts.places
        return (
            new,
            replace(
                change,
                moves={move.actor: (shown(move.source), shown(move.target)) for move in plan.moves},
                stranded={name: shown(places[name].node) for name in plan.stranded},
            ),
            sizes,
        )

    def _sizes(self, scenario: Scenario) -> dict[str, Sizing]:
        """How 'auto' would pack these twins now. Raises ChangeRefused while the store is away."""
        try:
            before = kept_sizes(self._store)
        except StoreUnavailable as error:
            raise ChangeRefused(f"the store is away, try again later: {error}") from error
        return sizes_for(scenario, self._placer.capacity(), self._placer.measured, before)

    def _keep_sizes(self, sizes: dict[str, Sizing]) -> None:
        patiently(lambda: keep_sizes(self._store, sizes))
        self._sizing = sizes

    def _finish_change(self) -> None:
        """Carry out a change that was cut short; one that cannot be is given up, and the city goes on as it was."""
        try:
            new = CityPlan.next(self._place)
            if new is not None:
                log.warning("a change of the city was cut short; it is carried out now")
                self._carry_out(new)
        except Exception as error:
            applying.give_up(self._place)
            self._error = f"a change that was cut short is given up: {error}"
            log.exception("a change that was cut short is given up")

    def _carry_out(self, new: CityPlan) -> None:
        """Stop what the change touches, move the twins, and go by the new plan; what is missing is created later."""
        old = self._plan
        living_on = untouched(old, new)
        touched = [actor.name for actor in old.actors if actor.name not in living_on]
        try:
            stop_in_order(self._crew)
            save_twins(self._crew, touched)
            end_for_good(self._crew, [AGGREGATOR, *old.routers, *touched])
            patiently(lambda: applying.move_twins(self._place, self._store, old, new))
        except Exception as error:  # whatever it was, the next plan must not come into force later, unasked
            applying.give_up(self._place)
            log.exception("the change could not be carried out")
            self._create_all()
            raise ChangeRefused(f"the twins could not be moved, and the city goes on as it was: {error}") from error
        self._plan = CityPlan.load(self._place)
        self._crew.take(self._plan, living_on)
        self._answered = len(self._crew.hellos)
        self._historian.follow(self._plan)
        self._auditor.follow(self._plan)

    def _met(self, name: str, ref: Any) -> None:
        """A twin actor has introduced itself, or it died meanwhile: then ``_reconcile`` looks after it."""
        try:
            self._crew.meet(name, ray.get(ref, timeout=5.0))
        except GetTimeoutError:
            log.warning("twin actor %s does not answer yet", name)
        except RayActorError as error:
            if getattr(error, "actor_init_failed", False):
                raise
            log.warning("twin actor %s died while the city was created: %s", name, str(error).splitlines()[0])
        self._answered += 1

    def _reconcile(self) -> None:
        """Create again what has disappeared by name; what merely crashed is restarted by Ray itself."""
        for name in (*self._crew.routers, *self._crew.twin_actors, AGGREGATOR):
            if self._stopping.is_set():
                return
            try:
                self._crew.find(name)
            except ValueError:
                self._recreated += 1
                log.warning("%s has disappeared and is created again", name)
                try:
                    handle = self._crew.create(name)
                    if name in self._crew.twin_actors:
                        self._crew.meet(name, ray.get(handle.hello.remote(), timeout=30.0))
                except (RayError, GetTimeoutError) as error:
                    self._error = f"{name}: {error}"
        self._refresh()

    def _refresh(self) -> None:
        """Meet anew the actors whose epoch has risen: Ray has started them again."""
        hellos = dict(self._crew.hellos)
        risen = [name for name, hello in hellos.items() if self._epoch_of(name, hello.epoch) > hello.epoch]
        for name in [*risen, *(self._crew.twin_actors.keys() - hellos.keys())]:
            try:
                self._crew.meet(name, ray.get(self._crew.find(name).hello.remote(), timeout=2.0))
            except (ValueError, RayError, GetTimeoutError) as error:
                log.info("%s does not introduce itself yet: %s", name, str(error).splitlines()[0])

    def _end_if_outdated(self) -> None:
        """Two controllers must not move the same actors: the older one ends itself before it does anything more."""
        if self._epoch_of(NAME, self._epoch) > self._epoch:
            log.error("this controller stops: another one has taken over from epoch %d", self._epoch)
            os._exit(3)

    def _epoch_of(self, name: str, known: int) -> int:
        try:
            return self._store.epoch(name)
        except (StoreUnavailable, StoreDamaged):
            return known  # the auditor raises the alarm

    def stop(self, kill: bool) -> None:
        """Stop aggregator and router in good order; with ``kill`` end all actors too (Ray goes on without us)."""
        self._stopping.set()
        self._placer.stop()
        self._historian.stop()
        self._thread.join(timeout=10.0)
        stop_in_order(self._crew)
        save_twins(self._crew, self._crew.twin_actors)
        self._phase = "stopped"
        if not kill:
            return
        for name in ("aggregator", *self._plan.routers, *(actor.name for actor in self._plan.actors)):
            try:
                ray.kill(ray.get_actor(name, namespace=self._namespace))
            except ValueError:
                continue
