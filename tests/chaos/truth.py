"""The twins as they must be, computed offline from the publisher's file or from the log, and what differs from them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.chaos.load import Said
from twin_actors.core.cleaning import Fate
from twin_actors.core.inputs import Channel
from twin_actors.runtime import notes
from twin_actors.runtime.holder import Holder
from twin_actors.runtime.packing import Delivery, pack
from twin_actors.runtime.plan import CityPlan, holder_of
from twin_actors.store import Entry, Log, LogTrimmed, Store
from twin_actors.testing.live import columns_of
from twin_actors.wire.topics import Topics

Twins = Mapping[str, Mapping[str, NDArray[Any]]]
READING: Final = int(Channel.READING)
OWN: Final = frozenset(map(int, Channel))
"""Channels that twins hear; the log may hold notes of the router beside them."""
PACKED: Final = 1000
RELATIVE: Final = 1e-9
NOT_OF_THE_FILE: Final = frozenset({"fates", "revision", "heard_at_s"})
"""Arrays that also count redeliveries, of which a publisher's file knows nothing; ``applied`` is compared by itself."""


class OfflineTwins:
    """All twins of a city in one Holder, fed in the order of their inputs without Ray, MQTT or a clock."""

    def __init__(self, plan: CityPlan) -> None:
        numbers = sorted(range(len(plan.scenario.entities)), key=lambda n: plan.scenario.entities[n].kind)
        entities = [plan.scenario.entities[n] for n in numbers]
        self._place = {number: place for place, number in enumerate(numbers)}
        self._number = {entity.id: number for number, entity in enumerate(plan.scenario.entities)}
        self._holder: Holder = holder_of(entities, plan.scenario, plan.catalogue, epoch=1, incarnation="offline")

    def feed(self, inputs: Iterable[tuple[int, Entry]]) -> None:
        """Apply (offset, entry) pairs; notes and inputs of nobody are passed over."""
        packed: list[Delivery] = []
        for offset, entry in inputs:
            if entry.entity < 0 or entry.channel not in OWN:
                continue
            place = self._place[entry.entity]
            packed.append(
                Delivery(offset, place, entry.channel, entry.source, entry.received_at_s, bytes(entry.payload))
            )
            if len(packed) == PACKED:
                self._apply(packed)
                packed = []
        if packed:
            self._apply(packed)

    def _apply(self, packed: list[Delivery]) -> None:
        reply = self._holder.apply(pack(1, self._holder.offset, packed))
        assert reply.ok, "offsets do not rise"

    def feed_file(self, said: Iterable[Said]) -> None:
        """Apply a publisher's readings as if each had arrived a moment after it was made."""
        self.feed(
            (offset, Entry(self._number[each.entity], READING, 0, each.ts_ms / 1000 + 0.001, each.payload))
            for offset, each in enumerate(said)
        )

    @property
    def twins(self) -> Twins:
        found: dict[str, Mapping[str, NDArray[Any]]] = {}
        for group in self._holder.groups:
            found.update(columns_of(group.table.snapshot(), group.table.ids))
        return found


def log_of(log: Log, first: int = 0) -> Iterator[tuple[int, Entry]]:
    """All entries of a log from an offset on, oldest first. Raises LogTrimmed when the beginning is gone."""
    first = max(first, log.began)
    while first < log.next_offset:
        entries = log.read(first, 10_000)
        if not entries:
            raise LogTrimmed(f"nothing at offset {first}, but the log ends at {log.next_offset}")
        yield from entries
        first = entries[-1][0] + 1


def differences(truth: Twins, inside: Twins, *, without: Collection[str] = ()) -> list[str]:
    """Where twins differ, one line each: floats by more than 1e-9 relative, everything else at all."""
    found = [f"{entity}: {'missing' if entity in truth else 'unknown'}" for entity in truth.keys() ^ inside.keys()]
    for entity in truth.keys() & inside.keys():
        one, other = truth[entity], inside[entity]
        if one.keys() != other.keys():
            found.append(f"{entity}: arrays {sorted(one.keys() ^ other.keys())} on one side only")
            continue
        if "fates" in without and one["fates"][Fate.APPLIED] != other["fates"][Fate.APPLIED]:
            found.append(f"{entity}: applied {other['fates'][Fate.APPLIED]}, should be {one['fates'][Fate.APPLIED]}")
        found += [
            f"{entity}: {name} is {_shown(other[name])}, should be {_shown(one[name])}"
            for name in one.keys() - set(without)
            if not _same(one[name], other[name])
        ]
    return sorted(found)


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.kind == "f":
        return one.shape == other.shape and bool(np.allclose(one, other, rtol=RELATIVE, atol=1e-12, equal_nan=True))
    return np.array_equal(one, other)


def _shown(array: NDArray[Any]) -> str:
    return np.array2string(np.atleast_1d(array).ravel()[:4], precision=12)


def quarantined(store: Store, share: str) -> set[int]:
    """Offsets that the router has taken out of delivery because a twin actor could not survive them."""
    found = set()
    for _, entry in log_of(store.log(share)):
        if entry.channel == notes.Note.QUARANTINED:
            note = notes.decode(entry.channel, bytes(entry.payload))
            assert isinstance(note, notes.Quarantine)
            found.add(note.offset)
    return found


def meaning(payload: bytes) -> bytes:
    """A reading in one spelling: keys in order, numbers as floats, what is not said left out."""
    said = {key: value for key, value in json.loads(payload, parse_int=float).items() if value is not None}
    said.pop("entity", None)
    return json.dumps(said, sort_keys=True).encode()


class Kept:
    """Which readings a store still knows, by entity and payload: in the logs or among the dead letters.

    Readings of entities whose messages were ``gathered`` by a gateway are known by their meaning: the log writes them
    in words of its own.
    """

    def __init__(
        self, plan: CityPlan, store: Store, shares: Iterable[str], *, gathered: Collection[str] = frozenset()
    ) -> None:
        entities = [entity.id for entity in plan.scenario.entities]
        self._gathered = gathered
        self.logged: set[tuple[str, bytes]] = set()
        self._withheld: set[tuple[str, bytes]] = set()
        for share in shares:
            withheld = quarantined(store, share)
            for offset, entry in log_of(plan.log(store, share)):
                if entry.channel == READING and entry.entity >= 0:
                    known = self._known_as(entities[entry.entity], bytes(entry.payload))
                    self.logged.add(known)
                    if offset in withheld:
                        self._withheld.add(known)
        topics = Topics(plan.scenario.root)
        self.dead: set[tuple[str, bytes]] = set()
        for letter in store.dead_letters(1_000_000):
            parsed = topics.parse(letter.topic)
            if parsed is not None:
                self.dead.add(self._known_as(parsed[0], letter.payload))

    def _known_as(self, entity: str, payload: bytes) -> tuple[str, bytes]:
        return entity, meaning(payload) if entity in self._gathered else payload

    @property
    def withheld(self) -> int:
        """Readings in quarantine: logged, dead-lettered, and never given to their twin."""
        return len(self._withheld)

    def reached_its_twin(self, said: Said) -> bool:
        """Whether a twin has judged it, be it that it was refused there: that too leaves traces in the twin."""
        return self._known_as(said.entity, said.payload) not in self._withheld

    def lost(self, said: Iterable[Said]) -> list[Said]:
        """Readings that were acknowledged to the publisher and are neither in a log nor among the dead letters."""
        kept = self.logged | self.dead
        return [
            each
            for each in said
            if each.acknowledged_s is not None and self._known_as(each.entity, each.payload) not in kept
        ]
