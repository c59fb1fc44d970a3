"""The controller's auditor: looks at ledger, store, broker and actors, and raises alarms that name the place."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import ray
from ray.exceptions import GetTimeoutError, RayError

from twin_actors.core.ledger import Ledger
from twin_actors.runtime.council import AlertEvent
from twin_actors.runtime.gauges import Gauges
from twin_actors.runtime.merging import merged_status
from twin_actors.runtime.plan import CityPlan

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
DEADLINE_S = 8.0
MEASURE_DEADLINE_S = 2.0
"""Metrics are no reason to keep the controller from its other work for longer."""
STUBBORN_LOOKS = 2
"""Looks in a row that must find the same before an alarm is raised; what a restart mends by itself is none."""
REMEMBERED_S = 60.0
"""How long an event stays an alarm: one that came and went between two looks must be seen too."""
KEPT = 500


class Auditor:
    """Alarms are alerts of places (``router``, ``store``, ``broker``, an actor, an entity), raised and cleared."""

    def __init__(
        self, plan: CityPlan, namespace: str, history_trouble: Callable[[], str], progress: Callable[[], dict[str, Any]]
    ) -> None:
        self._history_trouble, self._progress = history_trouble, progress
        self._plan, self._namespace = plan, namespace
        self._gauges = Gauges()
        self._router: Mapping[str, Any] | None = None  # what this look has found
        self._ledger: Ledger | None = None
        self._seen: dict[tuple[str, str], int] = {}  # how many looks in a row have found it
        self._active: dict[tuple[str, str], str] = {}
        self._events: deque[AlertEvent] = deque(maxlen=KEPT)
        self._dropped = 0
        self._dropped_at = float("-inf")
        self._failed_models = self._failed_ticks = 0
        self._failed_at = float("-inf")
        self._looked = float("-inf")
        self._looks = 0
        self._unbalanced = 0

    def look(self) -> None:
        """One look, if it is due."""
        if time.monotonic() - self._looked < LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        self._looks += 1
        self._router = self._ledger = None
        found = dict(self._findings())
        self._seen = {key: self._seen.get(key, 0) + 1 for key in found}
        now = {key: says for key, says in found.items() if self._seen[key] >= STUBBORN_LOOKS or key in self._active}
        changed = [(key, True, now[key]) for key in now.keys() - self._active.keys()]
        changed += [(key, False, self._active[key]) for key in self._active.keys() - now.keys()]
        self._active = now
        events = [
            AlertEvent(self._plan.clock.now_s(), place, alarm, "critical", raised, says)
            for (place, alarm), raised, says in sorted(changed)
        ]
        self._events.extend(events)
        for event in events:
            (log.error if event.raised else log.warning)("%s: %s %s", event.entity, event.alert, event.says)
        if events:
            self._tell(events)
        self._measure()

    def _findings(self) -> Iterator[tuple[tuple[str, str], str]]:
        if trouble := self._history_trouble():
            yield ("store", "history_not_tidied"), f"history stays in the log and grows: {trouble}"
        routers, statuses = {}, []
        for name in self._plan.routers:
            try:
                routers[name] = ray.get_actor(name, namespace=self._namespace)
                statuses.append(ray.get(routers[name].status.remote(), timeout=DEADLINE_S))
            except (ValueError, RayError, GetTimeoutError) as error:
                yield (name, "not_answering"), f"the router does not answer: {str(error).splitlines()[0]}"
        if len(statuses) < len(self._plan.routers):
            return
        self._router = status = merged_status(statuses)
        if status["store_trouble"]:
            yield ("store", "unavailable"), f"the store cannot be written: {status['store_trouble']}"
        if not status["connected"]:
            yield ("broker", "unreachable"), status["broker_error"] or "the router has no connection to the broker"
        dropped = status["broker_dropped"] or 0
        if dropped > self._dropped:
            self._dropped_at = time.monotonic()
        if time.monotonic() - self._dropped_at < REMEMBERED_S:
            yield (
                ("broker", "dropped"),
                (
                    f"the broker has dropped {dropped:,} messages since the router began: raise its queue limits "
                    "(max_queued_messages, max_queued_bytes), or send less"
                ),
            )
        self._dropped = dropped
        failed = status["dead_letter_reasons"].get("model_failed", 0)
        if failed > self._failed_models:
            self._failed_at = time.monotonic()
        self._failed_models = failed
        if time.monotonic() - self._failed_at < REMEMBERED_S:
            yield (
                (status["dead_letter_topics"].get("model_failed", "model"), "model_failed"),
                (f"{failed:,} readings made a model raise; see the dead letters of reason model_failed"),
            )
        for name, actor in status["actors"].items():
            if actor["standing"] != "up":
                yield (
                    (name, "not_up"),
                    f"the twin actor is {actor['standing']}: {actor['last_error'] or 'no error known'}",
                )
            if actor["quarantined"]:
                yield (name, "quarantined"), f"{actor['quarantined']} inputs were put aside; see the dead letters"
        yield from self._deciding()
        if status["recovered"]:
            yield from self._balance(list(routers.values()))

    def _deciding(self) -> Iterator[tuple[tuple[str, str], str]]:
        try:
            aggregator = ray.get_actor("aggregator", namespace=self._namespace)
            status: Mapping[str, Any] = ray.get(aggregator.status.remote(), timeout=DEADLINE_S)
        except (ValueError, RayError, GetTimeoutError) as error:
            yield ("aggregator", "not_answering"), f"nobody decides: {str(error).splitlines()[0]}"
            return
        if status["failed_ticks"] > self._failed_ticks:
            yield ("aggregator", "failing"), f"ticks fail: {(status['errors'] or ['no error known'])[-1]}"
        self._failed_ticks = status["failed_ticks"]

    def _balance(self, routers: list[Any]) -> Iterator[tuple[tuple[str, str], str]]:
        try:
            parts: list[Ledger] = ray.get([router.ledger.remote() for router in routers], timeout=DEADLINE_S)
            self._ledger = ledger = sum(parts, start=Ledger())
            if all(part.balanced for part in parts):
                return
            self._unbalanced += 1
            answers = ray.get([router.ledger_by_entity.remote() for router in routers], timeout=DEADLINE_S)
        except (RayError, GetTimeoutError) as error:
            yield ("router", "no_ledger"), f"the ledger cannot be had: {str(error).splitlines()[0]}"
            return
        yield ("city", "ledger_unbalanced"), f"{ledger.unexplained:+,} readings without exactly one fate"
        for entity, own in (item for answer in answers for item in answer.items()):
            if not own.balanced:
                place = entity or "nobody"
                yield (place, "ledger_unbalanced"), f"{own.unexplained:+,} readings without exactly one fate: {own}"

    def _tell(self, events: list[AlertEvent]) -> None:
        news = [("alert", msgspec.json.encode(event)) for event in events]
        try:
            router = ray.get_actor(self._plan.main_router, namespace=self._namespace)
            ray.get(router.exchange.remote((), (), news), timeout=DEADLINE_S)
        except (ValueError, RayError, GetTimeoutError) as error:
            log.warning("alarms could not be published (they stay in the status): %s", str(error).splitlines()[0])

    def _measure(self) -> None:
        """Set the gauges to what this look has found, and to what the aggregator says of itself."""
        try:
            aggregator = ray.get_actor("aggregator", namespace=self._namespace)
            said: Mapping[str, Any] | None = ray.get(aggregator.status.remote(), timeout=MEASURE_DEADLINE_S)
        except (ValueError, RayError, GetTimeoutError) as error:
            log.warning("metrics lack the aggregator, which does not answer: %s", str(error).splitlines()[0])
            said = None
        city = self._plan.scenario.city
        parts = {"city": city, "router": self._router, "aggregator": said, "controller": self._progress()}
        self._gauges.show(parts, self._ledger)

    def report(self) -> dict[str, Any]:
        """What has been found so far."""
        return {
            "looks": self._looks,
            "unbalanced_looks": self._unbalanced,
            "alarms": [{"place": place, "alarm": alarm, "says": says} for (place, alarm), says in self._active.items()],
        }

    def events(self, last: int) -> list[AlertEvent]:
        return list(self._events)[-last:] if last > 0 else []
