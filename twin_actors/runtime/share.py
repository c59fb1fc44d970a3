"""A share: the inputs of one twin actor on their way, in memory and in the log, and what became of those before."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from twin_actors.runtime.holder import NOTHING_APPLIED, Outcomes
from twin_actors.runtime.packing import Delivery, inputs
from twin_actors.store.base import Entry

BUNDLED_IN_ONE = 16
"""Readings of a bundle (16 to 24 bytes each with one field) that take about the memory of a single input (300)."""
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
    careful_until: int = NOTHING_APPLIED  # up to here inputs are sent one at a time: one of them did harm
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

    def take(self) -> Delivery:
        """The next delivery that waits in memory."""
        delivery = self.waiting.popleft()
        self.bundled -= inputs(delivery) - 1
        return delivery

    def put_back(self, deliveries: list[Delivery]) -> None:
        """Deliveries that are to go before all that waits."""
        self.waiting.extendleft(reversed(deliveries))
        self.bundled += sum(map(inputs, deliveries)) - len(deliveries)

    @property
    def caught_up(self) -> bool:
        """The present incarnation has applied all that any before it can have been known to have applied."""
        return self.reached >= max(self.outcomes.offset, self.recover_to)

    @property
    def careful(self) -> bool:
        return self.sent < self.careful_until

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

    def forget_queue(self, spilled_from: int) -> None:
        """Everything from an offset on is to be read from the log again."""
        self.waiting.clear()
        self.bundled = 0
        self.spilled, self.spilled_readings = 0, Counter()
        self.spilled_from = spilled_from


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an entity's twin lives: the share of its actor and its place there."""

    share: Share
    place: int
