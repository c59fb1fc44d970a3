"""The twin actor: a thin Ray shell over a Holder. It takes batches and ticks, answers, and never calls anybody."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psutil
import ray

from twin_actors.core.outlook import Outlook
from twin_actors.core.showing import Shown, Stamp
from twin_actors.runtime.answering import Answer, Question
from twin_actors.runtime.holder import Holder, Outcomes, Reply
from twin_actors.runtime.intake import Refused
from twin_actors.runtime.memory import bound_heap, give_back
from twin_actors.runtime.patience import patiently
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.restoring import restore
from twin_actors.store import StaleEpoch, Store, StoreDamaged, StoreUnavailable
from twin_actors.wire.process_start import began_s

log = logging.getLogger(__name__)

LEASE_EVERY_S = 2.0
"""How often an incarnation looks whether another has taken over."""


class Hello(NamedTuple):
    """Who answers under an actor's name, and how far it has come."""

    name: str
    epoch: int
    incarnation: str
    outcomes: Outcomes
    snapshot_offset: int
    twins: int
    pid: int
    began_s: float  # when the process began: a process id may be another's later
    node: str
    memory_bytes: int
    refused: list[Refused]  # of late, in case their answer was lost


class Look(NamedTuple):
    """What an actor shows of its twins by kind, and who says so; None: the same as at the last look.

    The stamps are for the next look.
    """

    epoch: int
    latest_s: float
    kinds: Mapping[str, tuple[Stamp, Shown | None]]


class TwinActor:
    """Constructor arguments are ids and paths only, so that Ray can run it again at any time on its own.

    Every incarnation takes the next epoch of its name from the store and goes on from the last snapshot; the router
    sends what the log holds behind it. An incarnation that finds a higher epoch than its own ends its process.
    """

    def __init__(self, place: str, name: str) -> None:
        self._name = name
        bound_heap()
        self._store, self._holder = _made(place, name)
        self._epoch = self._holder.epoch
        self._holder.settle()
        give_back()  # the plan of the whole city, which may be a hundred times as much as this actor's part
        patiently(lambda: restore(self._holder, self._store, name))
        self._snapshot_offset = self._holder.offset
        threading.Thread(target=_watch_lease, args=(self._store, name, self._epoch), daemon=True).start()

    def hello(self) -> Hello:
        holder, process = self._holder, psutil.Process()
        return Hello(
            self._name,
            holder.epoch,
            holder.incarnation,
            holder.outcomes(),
            self._snapshot_offset,
            sum(len(group.table) for group in holder.groups),
            os.getpid(),
            began_s(os.getpid()),
            ray.get_runtime_context().get_node_id(),
            process.memory_full_info().uss,
            list(holder.refused),
        )

    def apply(self, blob: bytes) -> Reply:
        return self._holder.apply(blob)

    def look(self, now_s: float, epoch: int, known: Mapping[str, Stamp]) -> Look:
        """Every kind's columns at a moment, but for those that are as at the stamp ``known`` from this ``epoch``."""
        return Look(self._epoch, self._holder.latest_s, self._holder.look(now_s, known if epoch == self._epoch else {}))

    def select(self, question: Question, now_s: float) -> Answer:
        """The twins of a kind for which a condition holds, at ``now_s``. Raises Unsupported."""
        return self._holder.select(question, now_s)

    def show(self, entity: str, now_s: float) -> tuple[Shown, dict[str, Any]]:
        """One twin at a moment, and its last reading. Raises KeyError."""
        return self._holder.show_one(entity, now_s), self._holder.reported(entity)

    def ahead(self, entity: str, until_s: Sequence[float]) -> Outlook:
        """One twin by its own model at some moments to come, whatever is known of its past. Raises KeyError."""
        return self._holder.ahead(entity, until_s)

    def fates_by_entity(self) -> tuple[int, dict[str, tuple[int, ...]]]:
        return self._holder.fates_by_entity()

    def save(self) -> int:
        """Keep a snapshot of all twins in the store; returns the log offset it stands for. Raises StoreUnavailable."""
        offset, blob = self._holder.snapshot()
        latest_s = float(self._holder.latest_s)
        try:
            self._store.save_snapshot(self._name, self._epoch, offset, blob, latest_s if latest_s > 0 else 0.0)
        except StaleEpoch as error:
            _end_of_a_stale_twin_actor(self._name, str(error))
        self._snapshot_offset = offset
        del blob
        give_back()
        return offset

    def __repr__(self) -> str:
        return f"TwinActor({self._name})"


def _made(place: str, name: str) -> tuple[Store, Holder]:
    """The city's store and an actor's twins, fresh, of the next epoch."""
    plan = CityPlan.load(place)
    store = patiently(plan.open_store)
    epoch = patiently(lambda: store.next_epoch(name))
    return store, plan.holder(name, epoch=epoch, incarnation=uuid.uuid4().hex[:12])


def _watch_lease(store: Store, name: str, epoch: int) -> None:
    """End this process when a newer incarnation of the same actor lives: two must not answer for the same twins."""
    away = False
    while True:
        time.sleep(LEASE_EVERY_S)  # the pace of looking; the thread ends with its process
        try:
            newest = store.epoch(name)
        except (StoreUnavailable, StoreDamaged) as error:
            if not away:
                log.warning("twin actor %s cannot see whether it has been replaced: %s", name, error)
            away = True
            continue
        away = False
        if newest > epoch:
            _end_of_a_stale_twin_actor(name, f"epoch {newest} has taken over from {epoch}")


def _end_of_a_stale_twin_actor(name: str, why: str) -> None:
    log.error("twin actor %s stops: %s", name, why)
    os._exit(3)
