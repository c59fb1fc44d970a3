"""The controller actor: the city as it should be against the city as it is. It creates the others and keeps them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from twin_actors.runtime.aggregator import Aggregator
from twin_actors.runtime.auditing import Auditor
from twin_actors.runtime.council import AlertEvent
from twin_actors.runtime.historian import Historian
from twin_actors.runtime.patience import patiently
from twin_actors.runtime.placement import ACTOR_BYTES
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.router import Router
from twin_actors.runtime.twin_actor import Hello, TwinActor
from twin_actors.store import StoreDamaged, StoreUnavailable

log = logging.getLogger(__name__)

CHECK_EVERY_S = 2.0
SAVE_DEADLINE_S = 15.0


class Controller:
    """Constructor arguments are ids and paths only; ``progress`` tells how far it is.

    It creates what is not there, so a controller that Ray has started again takes over the city that it finds.
    """

    def __init__(self, folder: str, namespace: str) -> None:
        self._folder, self._namespace = folder, namespace
        self._plan = CityPlan.load(folder)
        self._store = patiently(self._plan.open_store)
        self._answered = 0
        self._phase = "idle"
        self._error = ""
        self._recreated = 0
        self._hellos: dict[str, Hello] = {}
        self._plan_names = {actor.name for actor in self._plan.actors}
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
        }

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
            hello = self._hellos.get(actor.name)
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
                }
            )
        return lines

    # -- the one thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            for router in self._plan.routers:
                self._create_router(router)
            pending = {self._create_twins(actor.name).hello.remote(): actor.name for actor in self._plan.actors}
            while pending and not self._stopping.is_set():
                ready, _ = ray.wait(list(pending), num_returns=1, timeout=1.0)
                for ref in ready:
                    self._met(pending.pop(ref), ref)
            self._create(Aggregator, "aggregator", memory=200_000_000, concurrency=4)
            self._phase = "running"
        except Exception as error:
            self._phase, self._error = "failed", f"{type(error).__name__}: {error}"
            log.exception("the city could not be created")
            return
        while not self._stopping.wait(CHECK_EVERY_S):
            try:
                self._reconcile()
                self._auditor.look()
            except Exception as error:  # the city goes on, and so must whoever looks after it
                self._error = f"{type(error).__name__}: {error}"
                log.exception("looking after the city failed")

    def _met(self, name: str, ref: Any) -> None:
        """A twin actor has introduced itself, or it died meanwhile: then ``_reconcile`` looks after it."""
        try:
            self._hellos[name] = ray.get(ref, timeout=5.0)
        except GetTimeoutError:
            log.warning("twin actor %s does not answer yet", name)
        except RayActorError as error:
            if getattr(error, "actor_init_failed", False):
                raise
            log.warning("twin actor %s died while the city was created: %s", name, str(error).splitlines()[0])
        self._answered += 1

    def _reconcile(self) -> None:
        """Create again what has disappeared by name; what merely crashed is restarted by Ray itself."""
        for name, create in self._wanted():
            if self._stopping.is_set():
                return
            try:
                ray.get_actor(name, namespace=self._namespace)
            except ValueError:
                self._recreated += 1
                log.warning("%s has disappeared and is created again", name)
                try:
                    handle = create()
                    if name in self._plan_names:
                        self._hellos[name] = ray.get(handle.hello.remote(), timeout=30.0)
                except (RayError, GetTimeoutError) as error:
                    self._error = f"{name}: {error}"
        self._refresh()

    def _wanted(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        for router in self._plan.routers:
            yield router, partial(self._create_router, router)
        for actor in self._plan.actors:
            yield actor.name, partial(self._create_twins, actor.name)
        yield "aggregator", lambda: self._create(Aggregator, "aggregator", memory=200_000_000, concurrency=4)

    def _refresh(self) -> None:
        """Meet anew the actors whose epoch has risen: Ray has started them again."""
        risen = [name for name, hello in self._hellos.items() if self._epoch_of(name, hello.epoch) > hello.epoch]
        for name in [*risen, *(self._plan_names - self._hellos.keys())]:
            try:
                handle = ray.get_actor(name, namespace=self._namespace)
                self._hellos[name] = ray.get(handle.hello.remote(), timeout=2.0)
            except (ValueError, RayError, GetTimeoutError) as error:
                log.info("%s does not introduce itself yet: %s", name, str(error).splitlines()[0])

    def _epoch_of(self, name: str, known: int) -> int:
        try:
            return self._store.epoch(name)
        except (StoreUnavailable, StoreDamaged):
            return known  # the auditor raises the alarm

    def _create_router(self, name: str) -> Any:
        return self._create(Router, name, name, memory=200_000_000, concurrency=8)

    def _create_twins(self, name: str) -> Any:
        return self._create(TwinActor, name, name, memory=ACTOR_BYTES, concurrency=1)

    def _create(self, cls: type, name: str, *arguments: Any, memory: int, concurrency: int) -> Any:
        first = (self._folder, self._namespace) if cls is not TwinActor else (self._folder,)
        return (
            ray.remote(cls)
            .options(
                name=name,
                namespace=self._namespace,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=-1,
                max_task_retries=0,
                num_cpus=0,
                memory=memory,
                max_concurrency=concurrency,
            )
            .remote(*first, *arguments)
        )

    def _save_twins(self) -> None:
        """Have every twin actor keep a last snapshot, so that the next launch has little to replay."""
        saving = {}
        for name in self._plan_names:
            try:
                saving[ray.get_actor(name, namespace=self._namespace).save.remote()] = name
            except ValueError:
                log.warning("%s is not there to save its twins; the log has what they need", name)
        done, late = ray.wait(list(saving), num_returns=len(saving), timeout=SAVE_DEADLINE_S) if saving else ([], [])
        for ref in done:
            try:
                ray.get(ref, timeout=1.0)
            except RayError as error:
                log.warning("%s could not save its twins: %s", saving[ref], str(error).splitlines()[0])
        if late:
            log.warning("%d twin actors did not save in time; the log has what they need", len(late))

    def stop(self, kill: bool) -> None:
        """Stop aggregator and router in good order; with ``kill`` end all actors too (Ray goes on without us)."""
        self._stopping.set()
        self._historian.stop()
        self._thread.join(timeout=10.0)
        for name in ("aggregator", *self._plan.routers):
            try:
                ray.get(ray.get_actor(name, namespace=self._namespace).stop.remote(), timeout=12.0)
            except (ValueError, RayError, TimeoutError) as error:
                log.warning("%s did not stop in good order: %s", name, error)
        self._save_twins()
        self._phase = "stopped"
        if not kill:
            return
        for name in ("aggregator", *self._plan.routers, *(actor.name for actor in self._plan.actors)):
            try:
                ray.kill(ray.get_actor(name, namespace=self._namespace))
            except ValueError:
                continue
