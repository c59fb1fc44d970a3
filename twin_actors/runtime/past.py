"""What has been: the readings of one entity as they were judged, rolled-up buckets, and twins at a past moment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.cleaning import CleaningMemory, CleaningRules, Quality, clean
from twin_actors.core.columns import Column
from twin_actors.core.inputs import Channel
from twin_actors.core.kind import Kind
from twin_actors.core.showing import Shown
from twin_actors.runtime.notes import FIRST_NOTE
from twin_actors.runtime.packing import Delivery, pack
from twin_actors.runtime.plan import CityPlan, decoders_of
from twin_actors.store import Entry, Log, Store
from twin_actors.store.history import Resolution, Rolled, Values
from twin_actors.store.rollups import roll
from twin_actors.wire.decode import ReadingDecoder

LATEST_ARRIVAL_S = 86_400.0
"""How long after its device time a reading may have arrived and still be found in a stretch of the past."""
SEALED_AFTER_S = 3 * 3600.0
"""Behind this age everything has been sealed and rolled up, unless tidying fails (see the controller's status)."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings ``(m,)`` of one entity in log order: ``values (rows, m)`` as they were said, NaN where nothing was.

    ``quality (rows, m)`` is what cleaning makes of each, a ``Quality``.
    """

    observed_at_s: Column
    received_at_s: Column
    values: Column
    quality: NDArray[np.uint8]


def readings(
    plan: CityPlan, store: Store, number: int, *, since_s: float = -math.inf, until_s: float = math.inf
) -> Readings:
    """What one entity's device said with device times in [since_s, until_s), judged as its twin judged it.

    Judgements that look back (duplicate, late, rate, stuck) know nothing from before the first reading read here.
    """
    kind = plan.catalogue.kinds[plan.scenario.entities[number].kind]
    arrived_since_s = -math.inf if plan.clock.mode == "events" else since_s - plan.scenario.limits.future_s
    arrived_until_s = math.inf if plan.clock.mode == "events" else until_s + LATEST_ARRIVAL_S
    logged = _read_of(plan, store, number, since_s=arrived_since_s, until_s=arrived_until_s)
    entries = [entry for _, entry in logged if entry.channel == Channel.READING]
    observed, received, values, keys = _decoded(decoders_of(kind, plan.scenario), entries)
    quality = _judged(kind, observed, values, keys)
    chosen = (observed >= since_s) & (observed < until_s)
    return Readings(observed[chosen], received[chosen], values[:, chosen], quality[:, chosen])


def heard(plan: CityPlan, store: Store, number: int, since_s: float) -> int:
    """How many messages of an entity's device have come since a moment, as the log knows them: nothing is decoded."""
    return sum(entry.channel == Channel.READING for _, entry in _read_of(plan, store, number, since_s=since_s))


def _decoded(
    decoders: Mapping[int, ReadingDecoder], entries: Sequence[Entry]
) -> tuple[Column, Column, Column, NDArray[np.int64]]:
    """Times, arrival times, values and identities of all readings in a row of messages, in their order."""
    parts = []
    for decoder, positions in _by_decoder(decoders, entries):
        received = np.array([entries[position].received_at_s for position in positions])
        payloads = [entries[position].payload for position in positions]
        decoded = decoder.decode(payloads, received, [entries[position].source for position in positions])
        place = np.array(positions)[decoded.message] if len(decoded.message) else np.zeros(0, np.intp)
        parts.append(
            (place, decoded.element, decoded.observed_at_s, received[decoded.message], decoded.values, decoded.key)
        )
    if not parts:
        rows = next(iter(decoders.values())).decode([], np.zeros(0), []).values.shape[0]
        return np.zeros(0), np.zeros(0), np.zeros((rows, 0)), np.zeros(0, np.int64)
    place, element, observed, received, values, keys = (
        np.concatenate(each, axis=-1) for each in zip(*parts, strict=True)
    )
    order = np.lexsort((element, place))
    return observed[order], received[order], values[:, order], keys[order]


def _by_decoder(
    decoders: Mapping[int, ReadingDecoder], entries: Sequence[Entry]
) -> Iterator[tuple[ReadingDecoder, list[int]]]:
    positions: dict[int, list[int]] = {}
    for position, entry in enumerate(entries):
        positions.setdefault(entry.source if entry.source in decoders else -1, []).append(position)
    for source, chosen in positions.items():
        yield decoders[source], chosen


def _judged(kind: Kind, observed: Column, values: Column, keys: NDArray[np.int64]) -> NDArray[np.uint8]:
    rules = CleaningRules.of(kind.reading)
    memory = CleaningMemory.empty(kind.reading.layout.rows, 1)
    twin = np.zeros(1, np.intp)
    quality = np.zeros(values.shape, np.uint8)
    for column in range(values.shape[1]):
        part = slice(column, column + 1)
        cleaned = clean(rules, memory.gather(twin), values[:, part], observed[part], keys[part])
        memory.keep(twin, cleaned, keys[part])
        quality[:, column] = cleaned.verdict[:, 0]
    return quality


class HistoryDecoder:
    """The ``Decode`` of a city: log entries in, values per entity and field row out, without what is out of range.

    Entities go by their lasting numbers, as the store knows them; those that the scenario has no more are left out.
    """

    def __init__(self, plan: CityPlan) -> None:
        self._plan = plan
        self._place = {number: place for place, number in enumerate(plan.numbers)}
        kinds = {name: plan.catalogue.kinds[name] for name in plan.scenario.kinds_used()}
        self._decoders = {name: decoders_of(kind, plan.scenario) for name, kind in kinds.items()}
        self._labels = {name: kind.reading.layout.labels for name, kind in kinds.items()}
        self._limits = {
            name: (kind.reading.layout.per_row("minimum"), kind.reading.layout.per_row("maximum"))
            for name, kind in kinds.items()
        }

    def __call__(self, entries: Sequence[tuple[int, Entry]]) -> Iterator[Values]:
        by_entity: dict[int, list[Entry]] = {}
        for _, entry in entries:
            if entry.channel == Channel.READING:
                by_entity.setdefault(entry.entity, []).append(entry)
        for number, own in by_entity.items():
            if number not in self._place:
                continue
            kind = self._plan.scenario.entities[self._place[number]].kind
            observed, _, values, _ = _decoded(self._decoders[kind], own)
            low, high = self._limits[kind]
            values = np.where((values >= low) & (values <= high), values, np.nan)
            for label, row in zip(self._labels[kind], values, strict=True):
                if not np.isnan(row).all():
                    yield Values(number, label, observed, row)


def rolled(
    plan: CityPlan, store: Store, number: int, label: str, resolution: Resolution, *,
    since_s: float, until_s: float, now_s: float,
) -> list[Rolled]:  # fmt: skip
    """Buckets of one field row in [since_s, until_s), in one or two parts that follow each other in time.

    The log rolls up only what has been sealed, an hour or two after the fact; what is younger is rolled up here from
    the readings themselves, and so is everything where the clock is that of recordings.
    """
    logs = _logs(plan, store, number)
    young_s = -math.inf
    if plan.clock.mode != "events":
        hour_s = Resolution.HOUR.width_s
        young_s = math.floor((now_s - SEALED_AFTER_S) / hour_s) * hour_s
    found = []
    if since_s < young_s:
        until_young_s = min(young_s, until_s)
        found += [
            log.rollup(number, label, resolution=resolution, since_s=since_s, until_s=until_young_s) for log in logs
        ]
    if until_s > young_s:
        first_s = max(since_s, young_s)
        arrived_s = -math.inf if young_s == -math.inf else first_s - plan.scenario.limits.future_s
        lasting = plan.numbers[number]
        said = _read_of(plan, store, number, since_s=arrived_s)
        own = [(offset, entry._replace(entity=lasting)) for offset, entry in said]
        buckets = roll(HistoryDecoder(plan)(own), resolution)
        found.append(_between(buckets.of(lasting, label), first_s, until_s))
    return found


def _logs(plan: CityPlan, store: Store, number: int) -> list[Log]:
    """The logs that may hold inputs of an entity: those of routers that had it before come first."""
    own = plan.router_of[number]
    return [plan.log(store, share) for share in (*(each for each in store.shares() if each != own), own)]


def _read_of(
    plan: CityPlan, store: Store, number: int, *, since_s: float, until_s: float = math.inf
) -> list[tuple[int, Entry]]:
    found = [
        part for log in _logs(plan, store, number) if (part := log.read_of(number, since_s=since_s, until_s=until_s))
    ]
    found.sort(key=lambda part: part[0][1].received_at_s)  # an entity is with one router at a time
    return [each for part in found for each in part]


def _between(rolled: Rolled, since_s: float, until_s: float) -> Rolled:
    chosen = (rolled.at_s >= since_s) & (rolled.at_s < until_s)
    return Rolled(**{each.name: getattr(rolled, each.name)[chosen] for each in fields(Rolled)})


def shown_at(plan: CityPlan, store: Store, number: int, at_s: float) -> tuple[Shown, int, dict[str, Any]]:
    """One twin as it was at a moment: what its actor would have shown, its column there, and its last reading.

    From the actor's last snapshot before that moment and what the log holds of this entity between the two. Raises
    LookupError when the history does not reach back that far.
    """
    actor = next(each for each in plan.actors if number in each.entities)
    entity = plan.scenario.entities[number].id
    holder = plan.holder(actor.name, epoch=1, incarnation="past")
    kept = store.load_snapshot(actor.name, at_s=at_s)
    log = plan.log_of(store, number)
    first = log.began
    if kept is not None:
        holder.restore(kept.offset, kept.blob)
        first = kept.offset + 1
    if first < log.kept_from:
        raise LookupError(
            f"the history of {entity} does not reach back to that moment: it is kept from "
            f"offset {log.kept_from} on, and there is no older snapshot (see 'store.retention' in the scenario)"
        )
    entries = log.read_of(number, first=first, until_s=math.nextafter(at_s, math.inf))
    place = actor.entities.index(number)
    deliveries = [
        Delivery(offset, place, entry.channel, entry.source, entry.received_at_s, entry.payload)
        for offset, entry in entries
        if entry.channel < FIRST_NOTE
    ]
    if deliveries:
        holder.apply(pack(1, holder.offset, deliveries))
    shown = holder.show(at_s, with_control=False)[plan.scenario.entities[number].kind]
    ids = next(group.table.ids for group in holder.groups if entity in group.table.ids)
    return shown, ids.index(entity), holder.reported(entity)


def quality_words(quality: NDArray[np.uint8]) -> list[str]:
    return [Quality(number).name.lower() for number in quality.tolist()]
