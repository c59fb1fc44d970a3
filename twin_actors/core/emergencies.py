"""Emergencies as records with a life: incident, dispatch, arrival, closure; and the book that moves them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

from twin_actors.core.resources import Assignment

SEVERITIES = ("info", "warning", "critical")
"""From the mildest to the worst, as alerts declare them."""


class Phase(enum.StrEnum):
    """Where an emergency stands; it only ever moves forward, and may skip phases."""

    INCIDENT = "incident"
    DISPATCHED = "dispatched"
    ON_SITE = "on_site"
    CLOSED = "closed"

    @property
    def order(self) -> int:
        return tuple(Phase).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergency:
    """One emergency of one alert of one entity; times in s since the epoch, None: not (yet) happened.

    ``units`` are all that were sent, by id, also those that have left again; ``severity`` is the worst seen.
    ``resource`` is what it asks the city for, where the caller said so.
    """

    id: str
    entity: str
    alert: str
    severity: str
    phase: Phase
    opened_at_s: float
    dispatched_at_s: float | None = None
    on_site_at_s: float | None = None
    closed_at_s: float | None = None
    units: tuple[str, ...] = ()
    resource: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyEvent:
    """A step in an emergency's life, for the log; durations in s since the opening, None: did not happen.

    ``units`` are, for *dispatched* and *on_site*, all that were sent so far; for *closed*, those it sets
    free: sent for it, and not claimed by another open emergency of the same entity.
    """

    what: Literal["opened", "dispatched", "on_site", "closed"]
    emergency: str
    entity: str
    alert: str
    severity: str
    at_s: float
    units: tuple[str, ...] = ()
    to_dispatch_s: float | None = None
    to_site_s: float | None = None
    open_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyBook:
    """An immutable book: every open emergency, the last ``keep_closed`` closed ones, both oldest first."""

    open: tuple[Emergency, ...] = ()
    closed: tuple[Emergency, ...] = ()
    opened_so_far: int = 0
    closed_so_far: int = 0
    keep_closed: int = 1000

    def __post_init__(self) -> None:
        if self.keep_closed < 0:
            raise ValueError(f"keep_closed counts records and must not be negative, not {self.keep_closed}")

    def step(
        self,
        active: Iterable[tuple[str, str, str]],
        assignments: Iterable[Assignment],
        now_s: float,
        *,
        resources: Mapping[tuple[str, str], str] | None = None,
    ) -> tuple[Self, tuple[EmergencyEvent, ...]]:
        """The book at ``now_s``, and what happened since the last step, in the order of the records.

        ``active`` are the alerts (entity, alert, severity) that are raised now: each opens one emergency
        unless one is open already. ``assignments`` are those of the fleet; one counts for an emergency when
        it is for its entity and was not over before the opening. The first that counts makes it dispatched,
        the first that arrives makes it on site, at their own times. It closes when its alert is gone and
        nobody is still on the way or at work for it; an alert that returns after that opens a new record.
        ``resources`` may name what (entity, alert) asks for. ValueError for an unknown severity.
        """
        raised = _worst(active)
        resources = resources or {}
        by_entity: dict[str, list[Assignment]] = {}
        for assignment in assignments:
            by_entity.setdefault(assignment.entity, []).append(assignment)

        known = {(one.entity, one.alert) for one in self.open}
        fresh = tuple(
            Emergency(
                id=f"emg-{self.opened_so_far + place:06d}",
                entity=entity,
                alert=alert,
                severity=raised[entity, alert],
                phase=Phase.INCIDENT,
                opened_at_s=now_s,
                resource=resources.get((entity, alert)),
            )
            for place, (entity, alert) in enumerate(sorted(raised.keys() - known), start=1)
        )
        events = [_event("opened", one, now_s) for one in fresh]

        still: list[Emergency] = []
        ended: list[Emergency] = []
        for before in (*self.open, *fresh):
            severity = raised.get((before.entity, before.alert))
            sent = [one for one in by_entity.get(before.entity, ()) if one.until_s > before.opened_at_s]
            after, happened = _follow(before, severity, sent, now_s)
            events += happened
            at_work = any(one.until_s > now_s for one in sent)
            (still if severity is not None or at_work else ended).append(after)

        claimed = {(one.entity, unit) for one in still for unit in one.units}
        done: list[Emergency] = []
        for one in ended:
            # a clock that was set back must not turn a duration negative
            at_s = max(now_s, one.opened_at_s, one.dispatched_at_s or now_s, one.on_site_at_s or now_s)
            done.append(replace(one, phase=Phase.CLOSED, closed_at_s=at_s))
            freed = tuple(unit for unit in one.units if (one.entity, unit) not in claimed)
            events.append(_event("closed", done[-1], at_s, freed))
        records = (*self.closed, *done)
        book = replace(
            self,
            open=tuple(still),
            closed=records[max(len(records) - self.keep_closed, 0) :],
            opened_so_far=self.opened_so_far + len(fresh),
            closed_so_far=self.closed_so_far + len(done),
        )
        return book, tuple(events)

    def annotate(self, emergency: str, *, note: str | None = None, resource: str | None = None) -> Self:
        """The book with a note or resource written to one record. KeyError: no such record."""
        if not any(one.id == emergency for one in (*self.open, *self.closed)):
            raise KeyError(
                f"no emergency {emergency!r} in the book: {len(self.open)} open, "
                f"the last {len(self.closed)} of {self.closed_so_far} closed kept"
            )

        def written(one: Emergency) -> Emergency:
            if one.id != emergency:
                return one
            return replace(
                one,
                note=one.note if note is None else note,
                resource=one.resource if resource is None else resource,
            )

        return replace(self, open=tuple(map(written, self.open)), closed=tuple(map(written, self.closed)))


def _worst(active: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """The worst severity per (entity, alert)."""
    worst: dict[tuple[str, str], str] = {}
    for entity, alert, severity in active:
        if severity not in SEVERITIES:
            raise ValueError(
                f"alert {alert!r} of {entity}: severity is one of {', '.join(SEVERITIES)}, not {severity!r}"
            )
        worst[entity, alert] = _worse(worst.get((entity, alert), severity), severity)
    return worst


def _worse(one: str, other: str) -> str:
    return max(one, other, key=SEVERITIES.index)


def _follow(
    before: Emergency, severity: str | None, sent: list[Assignment], now_s: float
) -> tuple[Emergency, list[EmergencyEvent]]:
    """Move one emergency forward by the assignments that count for it; closing is the book's affair."""
    after = replace(
        before,
        severity=before.severity if severity is None else _worse(before.severity, severity),
        units=tuple(sorted({*before.units, *(one.unit for one in sent)})),
    )
    events: list[EmergencyEvent] = []
    if after.phase is Phase.INCIDENT and sent:
        at_s = max(after.opened_at_s, min(one.assigned_at_s for one in sent))
        after = replace(after, phase=Phase.DISPATCHED, dispatched_at_s=at_s)
        events.append(_event("dispatched", after, at_s, after.units))
    if after.phase is Phase.DISPATCHED and after.dispatched_at_s is not None:
        # a unit called back on its way (until before arrival) never was on site
        arrivals = [one.arrives_at_s for one in sent if one.arrives_at_s <= min(now_s, one.until_s)]
        if arrivals:
            at_s = max(after.dispatched_at_s, min(arrivals))
            after = replace(after, phase=Phase.ON_SITE, on_site_at_s=at_s)
            events.append(_event("on_site", after, at_s, after.units))
    return after, events


def _event(
    what: Literal["opened", "dispatched", "on_site", "closed"],
    one: Emergency,
    at_s: float,
    units: tuple[str, ...] = (),
) -> EmergencyEvent:
    def since_opening(then_s: float | None) -> float | None:
        return None if then_s is None else then_s - one.opened_at_s

    return EmergencyEvent(
        what=what,
        emergency=one.id,
        entity=one.entity,
        alert=one.alert,
        severity=one.severity,
        at_s=at_s,
        units=units,
        to_dispatch_s=since_opening(one.dispatched_at_s),
        to_site_s=since_opening(one.on_site_at_s),
        open_s=since_opening(one.closed_at_s),
    )
