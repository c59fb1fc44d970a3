"""The controller actor: the city as it should be against the city as it is. It creates the others and keeps them."""

from __future__ import annotations

import logging
import threading
from typing import Any

import ray
from ray.exceptions import RayError

from twin_actors.runtime.aggregator import Aggregator
from twin_actors.runtime.placement import ACTOR_BYTES
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.router import Router
from twin_actors.runtime.twin_actor import Hello, TwinActor
from twin_actors.store import open_store

log = logging.getLogger(__name__)

CHECK_EVERY_S = 2.0


class Controller:
    """Constructor arguments are ids and paths only; ``begin`` returns at once and ``progress`` tells how far it is."""

    def __init__(self, folder: str, namespace: str) -> None:
        self._folder, self._namespace = folder, namespace
        self._plan = CityPlan.load(folder)
        self._store = open_store(self._plan.scenario.store_url)
        self._answered = 0
        self._phase = "idle"
        self._error = ""
        self._recreated = 0
        self._hellos: dict[str, Hello] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)

    def begin(self) -> None:
        """Create the router, every twin actor and the aggregator."""
        self._phase = "creating"
        self._thread.start()

    def progress(self) -> dict[str, Any]:
        return {
            "phase": self._phase,
            "answered": self._answered,
            "total": len(self._plan.actors),
            "error": self._error,
            "recreated": self._recreated,
        }

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
            router_epoch = self._store.next_epoch("router")
            self._create(Router, "router", router_epoch, memory=200_000_000, concurrency=4)
            pending = {self._create_twins(actor.name).hello.remote(): actor.name for actor in self._plan.actors}
            while pending and not self._stopping.is_set():
                ready, _ = ray.wait(list(pending), num_returns=1, timeout=1.0)
                for ref in ready:
                    hello = ray.get(ref, timeout=5.0)
                    self._hellos[pending.pop(ref)] = hello
                    self._answered += 1
            self._create(Aggregator, "aggregator", memory=200_000_000, concurrency=4)
            self._phase = "running"
        except Exception as error:
            self._phase, self._error = "failed", f"{type(error).__name__}: {error}"
            log.exception("the city could not be created")
            return
        while not self._stopping.wait(CHECK_EVERY_S):
            self._reconcile()

    def _reconcile(self) -> None:
        """Create again what has disappeared by name; what merely crashed is restarted by Ray itself."""
        for actor in self._plan.actors:
            try:
                ray.get_actor(actor.name, namespace=self._namespace)
            except ValueError:
                self._recreated += 1
                log.warning("twin actor %s has disappeared and is created again", actor.name)
                try:
                    self._hellos[actor.name] = ray.get(self._create_twins(actor.name).hello.remote(), timeout=30.0)
                except RayError as error:
                    self._error = f"{actor.name}: {error}"

    def _create_twins(self, name: str) -> Any:
        """A twin actor with an epoch above all of its name before it; whoever meets it refuses the older ones."""
        return self._create(TwinActor, name, name, self._store.next_epoch(name), memory=ACTOR_BYTES, concurrency=1)

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

    def stop(self, kill: bool) -> None:
        """Stop aggregator and router in good order; with ``kill`` end all actors too (Ray goes on without us)."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)
        for name in ("aggregator", "router"):
            try:
                ray.get(ray.get_actor(name, namespace=self._namespace).stop.remote(), timeout=12.0)
            except (ValueError, RayError, TimeoutError) as error:
                log.warning("%s did not stop in good order: %s", name, error)
        self._phase = "stopped"
        if not kill:
            return
        for name in ("aggregator", "router", *(actor.name for actor in self._plan.actors)):
            try:
                ray.kill(ray.get_actor(name, namespace=self._namespace))
            except ValueError:
                continue
