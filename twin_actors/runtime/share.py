"""A share: the inputs of one twin actor on their way, in memory and in the log, and what became of those before."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin_actors.core.bundle import Bundle
from twin_actors.core.inputs import Channel
from twin_actors.runtime.holder import NOTHING_APPLIED, Outcomes, Reply
from twin_actors.runtime.packing import PER_INPUT_BYTES, Delivery, each_input, first_offset, inputs
from twin_actors.store.base import Entry
from twin_actors.store.bundles import BUNDLE
from twin_actors.wire.elements import count_readings

BUNDLED_IN_ONE = 16
"""Readings of a bundle (16 to 24 bytes each with one field) that take about the memory of a single input (300)."""
END_OF_OFFSETS = 2**62
"""Where a reading stands whose offset is not known: behind all that are."""
NOTHING_COUNTED = Outcomes(NOTHING_APPLIED, 0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Share:
    """The inputs of one twin actor: under way, waiting in memory, waiting in the log, held back before it.

    ``outcomes`` are those known for the highest offset that any incarnation has reached; a new one that applies
    again what its predecessor had applied makes the same of it, so the counts stand meanwhile.
    """

    name: str
    epoch: int
    waiting: deque[Delivery] = field(default_factory=deque)
    bundled: int = 0  # inputs that wait in bundles, beyond one each
    under_way: deque[Delivery] = field(default_factory=deque)
    sent: int = NOTHING_APPLIED  # offset of the last input sent
    reached: int = NOTHING_APPLIED  # offset up to which the present incarnation has answered
    outcomes: Outcomes = field(default_factory=lambda: NOTHING_COUNTED)
    recover_to: int = NOTHING_APPLIED  # the last input that the log held for it when this router began
    idle_at: int = NOTHING_APPLIED  # having reached this, and saved it, it had nothing else before ``idle_until``
    idle_until: int = 0
    spilled_from: int | None = None  # where in the log to go on reading; None: all that waits is in memory
    spilled: int = 0
    spilled_readings: Counter[int] = field(default_factory=Counter)  # by entity, of those not known to be applied
    held: dict[int, Entry] = field(default_factory=dict)  # the newest reading of each entity, not logged yet
    shed: int = 0
    oldest_s: float = 0.0  # when the first waiting input was committed, on the router's own clock
    latest_s: float = float("-inf")
    busy_s: float = 0.0
    resent: int = 0
    lettered: int = NOTHING_APPLIED  # up to here refused readings have become dead letters; a resend repeats them
    careful_after: int = NOTHING_APPLIED  # behind this, up to the next, inputs are sent one at a time:
    careful_until: int = NOTHING_APPLIED  # one of them did harm
    entities: list[int] = field(default_factory=list)  # the entity's number at each place
    quarantined: dict[int, str] = field(default_factory=dict)  # offsets that are never delivered, and why

    @property
    def load(self) -> int:
        """Inputs that wait."""
        return len(self.waiting) + self.bundled + self.spilled

    @property
    def in_memory(self) -> int:
        """What need not be read from the log, in single inputs that would take as much memory."""
        return len(self.waiting) + self.bundled // BUNDLED_IN_ONE

    @property
    def inputs_under_way(self) -> int:
        return sum(map(inputs, self.under_way))

    def append(self, delivery: Delivery) -> None:
        """A delivery that is to go after all that waits in memory."""
        self.waiting.append(delivery)
        self.bundled += inputs(delivery) - 1

    def take(self) -> Delivery:
        """The next delivery that waits in memory."""
        delivery = self.waiting.popleft()
        self.bundled -= inputs(delivery) - 1
        return delivery

    def put_back(self, deliveries: list[Delivery]) -> None:
        """Deliveries that are to go before all that waits."""
        self.waiting.extendleft(reversed(deliveries))
        self.bundled += sum(map(inputs, deliveries)) - len(deliveries)

    def send(self, most: int, most_bytes: int) -> list[Delivery]:
        """The next of those that wait, now under way: at least one, else as many inputs and bytes as are allowed."""
        waiting, chosen = self.waiting, []
        wary = self.sent < self.careful_until
        size = count = 0
        while waiting and count < most:
            delivery = waiting[0]
            held = 1 if delivery[1] != BUNDLE else inputs(delivery)
            size += len(delivery[5]) + PER_INPUT_BYTES
            count += held
            if chosen and (size > most_bytes or count > most or (wary and self.suspects(delivery))):
                break
            chosen.append(waiting.popleft())
            self.bundled -= held - 1
        self.sent = chosen[-1].offset
        self.under_way.extend(chosen)
        return chosen

    def confirm(self, reply: Reply) -> None:
        """Take an answer: forget what has been applied, keep the counts."""
        outcomes, under_way = reply.outcomes, self.under_way
        self.reached = outcomes.offset
        if outcomes.offset >= self.outcomes.offset:  # else: it is applying again what an earlier one had
            self.outcomes = outcomes
        self.latest_s = max(self.latest_s, reply.latest_s)
        self.busy_s = reply.busy_s
        self.lettered = max(self.lettered, outcomes.offset)
        while under_way and under_way[0].offset <= outcomes.offset:
            under_way.popleft()
        if self.reached >= self.careful_until:
            self.careful_until = NOTHING_APPLIED

    @property
    def caught_up(self) -> bool:
        """The present incarnation has applied all that any before it can have been known to have applied."""
        return self.reached >= max(self.outcomes.offset, self.recover_to)

    def beware(self) -> None:
        """What is under way has not come back: it is sent again one input at a time.

        What the actor has answered for is not under suspicion: to send all since its snapshot again takes moments in
        batches, and a minute one by one.
        """
        known = self.careful_after if self.careful_until > self.reached else self.reached
        self.careful_after = min(known, self.reached)
        self.careful_until = max(self.careful_until, self.under_way[-1].offset)

    def suspects(self, delivery: Delivery) -> bool:
        """Whether some input of a delivery must be sent alone."""
        return delivery.offset > self.careful_after and first_offset(delivery) <= self.careful_until

    @property
    def careful(self) -> bool:
        """What goes next must go alone, or may have to: it still lies in the log."""
        return self.sent < self.careful_until and (not self.waiting or self.suspects(self.waiting[0]))

    def spill(self, offset: int, entity: int, readings: int) -> None:
        """Leave an input in the log and count it."""
        if self.spilled_from is None:
            self.spilled_from = offset
        self.spilled += 1
        if readings and offset > self.outcomes.offset:
            self.spilled_readings[entity] += readings

    def unspill(self, offset: int, entity: int, readings: int) -> None:
        """An input has been read from the log and waits in memory."""
        self.spilled -= 1
        if readings and offset > self.outcomes.offset:
            left = self.spilled_readings[entity] - readings
            if left:
                self.spilled_readings[entity] = left
            else:
                self.spilled_readings.pop(entity, None)

    def spill_together(self, offsets: Sequence[int], entities: Sequence[int]) -> None:
        """The same for one reading each of some entities, by rising offsets."""
        if self.spilled_from is None:
            self.spilled_from = offsets[0]
        self.spilled += len(offsets)
        if offsets[0] > self.outcomes.offset:
            self.spilled_readings.update(entities)
        else:
            known = self.outcomes.offset
            self.spilled_readings.update(
                entity for offset, entity in zip(offsets, entities, strict=True) if offset > known
            )

    def read_until(self, offset: int, *, done: bool) -> None:
        """The log has been read up to an offset; ``done``: to its end, so that nothing can be left there."""
        self.spilled_from = None if done else offset
        if done:
            # whatever has been counted and not been found is missing: it must show in the ledger, not hide in here
            self.spilled = 0
            self.spilled_readings = Counter()

    def take_over(self, older: Share) -> None:
        """Stand where another router's share of the same twin actor stood: what it had before it waits in the log."""
        self.outcomes, self.lettered = older.outcomes, older.lettered
        self.quarantined = dict(older.quarantined)
        self.spilled = int(bool(older.load or older.under_way))

    def queue_anew(self, first: int, counted: Sequence[tuple[int, int, int]]) -> None:
        """Everything from an offset on is to be read from the log again: (offset, entity, readings) of each."""
        self.waiting.clear()
        self.bundled = 0
        self.spilled, self.spilled_readings = 0, Counter()
        self.spilled_from = first if counted else None
        for offset, entity, readings in counted:
            self.spill(offset, entity, readings)

    # -- accounts ----------------------------------------------------------------------------------------------

    def each_input(self, delivery: Delivery) -> list[tuple[int, int, int]]:
        """(offset, entity, readings) of every input of a delivery; what is not a reading has none."""
        entities = self.entities
        if delivery.place == BUNDLE:
            return [(offset, entities[place], 1) for offset, place in each_input(delivery)]
        readings = count_readings(delivery.payload) if delivery.channel == Channel.READING else 0
        return [(delivery.offset, entities[delivery.place], readings)]

    def on_their_way(self) -> Iterator[tuple[int, int, int]]:
        """(offset, entity, readings) of every message not yet known to be applied, as ``Routing.on_their_way``."""
        known = self.outcomes.offset
        for delivery in (*self.under_way, *self.waiting):
            if delivery.offset > known:
                for offset, entity, readings in self.each_input(delivery):
                    if offset > known and readings:
                        yield offset, entity, readings
        for entity, entry in self.held.items():
            yield END_OF_OFFSETS, entity, count_readings(entry.payload)
        for entity, readings in self.spilled_readings.items():
            yield END_OF_OFFSETS, entity, readings

    def in_flight(self) -> int:
        """The readings of all of ``on_their_way``, without taking apart what lies wholly behind what is known."""
        known = self.outcomes.offset
        found = sum(self.spilled_readings.values())
        found += sum(count_readings(entry.payload) for entry in self.held.values())
        for delivery in (*self.under_way, *self.waiting):
            if delivery.offset <= known:
                continue
            if delivery.place == BUNDLE and first_offset(delivery) > known:
                found += inputs(delivery)
            else:
                found += sum(readings for offset, _, readings in self.each_input(delivery) if offset > known)
        return found

    # -- over restarts -----------------------------------------------------------------------------------------

    def state(self, committed_until: int) -> Mapping[str, Any]:
        """What must be kept to go on; see ``restore``."""
        return {
            "outcomes": msgspec.to_builtins(self.outcomes),
            "lettered": self.lettered,
            "quarantined": self.quarantined,
            # nothing before this offset waits for it: an idle actor's log need not be read from its last input
            "waits_from": self.outcomes.offset + 1 if self.load or self.under_way else committed_until,
        }

    def restore(self, kept: Mapping[str, Any]) -> int:
        """Take up ``state``; returns from which offset on inputs may wait for it in the log."""
        self.outcomes = msgspec.convert(kept["outcomes"], Outcomes)
        self.lettered = kept["lettered"]
        self.quarantined = dict(kept["quarantined"])
        waits_from: int = kept["waits_from"]
        return waits_from

    def stand_before(self, waits_from: int) -> None:
        """Begin where the actor is known to have got to; nothing before an offset waits for it."""
        self.sent = self.reached = self.recover_to = self.idle_at = self.outcomes.offset
        self.idle_until = waits_from


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an entity's twin lives: the share of its actor and its place there."""

    share: Share
    place: int


class ByShare:
    """Where entities live, as columns: for readings of many entities at once."""

    def __init__(self, placed: Sequence[Placed]) -> None:
        self._shares = list({id(each.share): each.share for each in placed}.values())
        index = {share.name: number for number, share in enumerate(self._shares)}
        self._index = index
        self._share_of = np.array([index[each.share.name] for each in placed], np.int32)
        self._place_of = np.array([each.place for each in placed], np.int32)

    def divide(self, bundle: Bundle) -> list[tuple[Share, NDArray[np.int32], NDArray[np.int32]]]:
        """A bundle's readings by share, in their order: which of its elements, and their places there."""
        shares, places = self._share_of[bundle.numbers], self._place_of[bundle.numbers]
        everything = np.arange(len(bundle), dtype=np.int32)
        if (shares == shares[0]).all():
            return [(self._shares[shares[0]], everything, places)]
        order = np.argsort(shares, kind="stable").astype(np.int32)
        parts = np.split(order, np.flatnonzero(np.diff(shares[order])) + 1)
        return [(self._shares[shares[part[0]]], part, places[part]) for part in parts]

    def own(self, share: Share, bundle: Bundle) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The elements of a bundle that are one share's, and their places there."""
        own = np.flatnonzero(self._share_of[bundle.numbers] == self._index[share.name]).astype(np.int32)
        return own, self._place_of[bundle.numbers[own]]
