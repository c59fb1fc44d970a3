"""What the router does, without MQTT and without Ray: log inputs, queue them per twin actor, account for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from twin_actors.core.inputs import Channel
from twin_actors.core.ledger import Ledger
from twin_actors.runtime.holder import NOTHING_APPLIED, Outcomes, Refused, Reply
from twin_actors.runtime.packing import LARGEST_BATCH, PER_INPUT_BYTES, Delivery, pack
from twin_actors.store.base import Entry, Log
from twin_actors.wire.elements import count_readings

READING = int(Channel.READING)
_new = tuple.__new__  # a named tuple made by its class costs three times as much, and each message makes two
LARGEST_COUNT = 2000
"""Inputs per batch: a bound on how long one call keeps a twin actor busy."""
NOTHING_COUNTED = Outcomes(NOTHING_APPLIED, 0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Share:
    """The inputs of one twin actor: waiting, under way, and what became of those before."""

    name: str
    epoch: int
    waiting: deque[Delivery] = field(default_factory=deque)
    under_way: deque[Delivery] = field(default_factory=deque)
    sent: int = NOTHING_APPLIED  # offset of the last input sent
    outcomes: Outcomes = field(default_factory=lambda: NOTHING_COUNTED)
    before: Outcomes | None = None  # what the actor had counted for an earlier router, when it was first met
    shed: int = 0
    oldest_s: float = 0.0  # when the first waiting input arrived, on the router's own clock
    latest_s: float = float("-inf")
    busy_s: float = 0.0
    resent: int = 0
    lettered: int = NOTHING_APPLIED  # up to here refused readings have become dead letters; a resend repeats them
    entities: list[int] = field(default_factory=list)  # the entity's number at each place
    given_up: set[int] = field(default_factory=set)  # offsets shed while the log still holds them


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an entity's twin lives: the share of its actor and its place there."""

    share: Share
    place: int


class Routing:
    """Entities are numbered 0 … n−1 as in the scenario; ``placed[number]`` says where each twin lives."""

    def __init__(
        self,
        *,
        entities: Sequence[str],
        placed: Sequence[Placed],
        log: Log,
        epoch: int,
        backlog: int = 200_000,
    ) -> None:
        self.entities = tuple(entities)
        self.placed = list(placed)
        self.shares: dict[str, Share] = {each.share.name: each.share for each in placed}
        for number, each in sorted(enumerate(placed), key=lambda item: item[1].place):
            each.share.entities.append(number)
        self.epoch = epoch
        self.backlog = backlog
        self._log = log
        self._fresh: list[Entry] = []
        self.received_by_entity = [0] * len(entities)
        self.shed_by_entity = [0] * len(entities)
        self.dead_by_entity = [0] * len(entities)
        self.received_by_nobody = 0
        self.dead_by_nobody = 0

    # -- arrivals ----------------------------------------------------------------------------------------------

    def arrive(self, entity: int, source: int, payload: bytes, received_at_s: float) -> None:
        """Take in one message of readings; it is committed and queued by the next ``commit``."""
        # an object is one reading, and nearly every message is an object
        readings = 1 if payload[:1] == b"{" else count_readings(payload)
        self.received_by_entity[entity] += readings
        self._fresh.append(_new(Entry, (entity, READING, source, received_at_s, payload)))

    def tell(self, entity: int, channel: Channel, at_s: float, values: Mapping[str, object], now_s: float) -> None:
        """Take in a command or a coupling for a twin, to be logged like any input."""
        told = {"at_s": at_s, "values": values}
        self._fresh.append(Entry(entity, int(channel), 0, now_s, msgspec.json.encode(told)))

    def refuse(self, payload: bytes) -> int:
        """Count a message that no twin can take; it ends among the dead letters. Returns its number of readings."""
        readings = count_readings(payload)
        self.received_by_nobody += readings
        self.dead_by_nobody += readings
        return readings

    def refuse_of(self, entity: int, payload: bytes) -> int:
        """The same for a message of a known entity that goes no further than the router."""
        readings = count_readings(payload)
        self.received_by_entity[entity] += readings
        self.dead_by_entity[entity] += readings
        return readings

    def received_by(self, share: Share) -> int:
        """Readings that have arrived for the twins of one actor."""
        return sum(self.received_by_entity[number] for number in share.entities)

    @property
    def fresh(self) -> int:
        return len(self._fresh)

    def commit(self, wall_s: float) -> int:
        """Commit what has arrived to the log as one group, then queue it. Returns how many inputs."""
        fresh = self._fresh
        if not fresh:
            return 0
        offset = self._log.append(self.epoch, fresh)
        self._fresh = []
        placed, backlog = self.placed, self.backlog
        for entity, channel, source, received_at_s, payload in fresh:
            where = placed[entity]
            share = where.share
            waiting = share.waiting
            if not waiting:
                share.oldest_s = wall_s
            elif len(waiting) >= backlog:
                self._shed_oldest(share)
            waiting.append(_new(Delivery, (offset, where.place, channel, source, received_at_s, payload)))
            offset += 1
        return len(fresh)

    def _shed_oldest(self, share: Share) -> None:
        """Make room by giving up the oldest waiting reading: the newest say most about the present."""
        for position, delivery in enumerate(share.waiting):
            if delivery.channel == READING:
                del share.waiting[position]
                readings = count_readings(delivery.payload)
                share.shed += readings
                self.shed_by_entity[share.entities[delivery.place]] += readings
                share.given_up.add(delivery.offset)
                return

    def trim(self, before: int) -> None:
        """Forget log entries that every twin has applied and saved."""
        self._log.trim(before)
        for share in self.shares.values():
            if share.given_up:
                share.given_up = {offset for offset in share.given_up if offset >= before}

    # -- deliveries --------------------------------------------------------------------------------------------

    def next_batch(self, share: Share) -> bytes | None:
        """The next packed batch of a share, or None when nothing waits. The caller bounds how many are under way."""
        waiting = share.waiting
        if not waiting:
            return None
        chosen: list[Delivery] = []
        size = 0
        while waiting and len(chosen) < LARGEST_COUNT:
            size += len(waiting[0].payload) + PER_INPUT_BYTES
            if chosen and size > LARGEST_BATCH:
                break
            chosen.append(waiting.popleft())
        after = share.sent
        share.sent = chosen[-1].offset
        share.under_way.extend(chosen)
        return pack(share.epoch, after, chosen)

    def confirm(self, share: Share, reply: Reply) -> list[tuple[Refused, Delivery]]:
        """Take an answer: forget what has been applied, keep the counts. Returns refused readings with their bytes."""
        share.outcomes = reply.outcomes
        share.latest_s = max(share.latest_s, reply.latest_s)
        share.busy_s = reply.busy_s
        under_way = share.under_way
        refused: list[tuple[Refused, Delivery]] = []
        news = [each for each in reply.refused if each.offset > share.lettered]
        if news:
            by_offset = {delivery.offset: delivery for delivery in under_way}
            refused = [(each, by_offset[each.offset]) for each in news if each.offset in by_offset]
        share.lettered = max(share.lettered, reply.outcomes.offset)
        while under_way and under_way[0].offset <= reply.outcomes.offset:
            under_way.popleft()
        return refused

    def rewind(self, share: Share, outcomes: Outcomes) -> None:
        """Prepare to resend everything after ``outcomes.offset`` (the last input that the actor has applied).

        Raises LogTrimmed when the log no longer reaches back that far.
        """
        again = list(share.under_way)
        if outcomes.offset < share.outcomes.offset:
            again = list(self._from_log(share, outcomes.offset + 1))
        again = [delivery for delivery in again if delivery.offset > outcomes.offset]
        share.waiting.extendleft(reversed(again))
        share.resent += len(again)
        share.under_way.clear()
        share.sent = outcomes.offset
        share.outcomes = outcomes

    def _from_log(self, share: Share, first: int) -> Iterator[Delivery]:
        first = max(first, self._log.began)
        stop = share.waiting[0].offset if share.waiting else self._log.next_offset
        while first < stop:
            entries = self._log.read(first, min(10_000, stop - first))
            for offset, entry in entries:
                where = self.placed[entry.entity]
                if where.share is share and offset not in share.given_up:
                    yield Delivery(offset, where.place, entry.channel, entry.source, entry.received_at_s, entry.payload)
            first = entries[-1][0] + 1

    # -- accounts ----------------------------------------------------------------------------------------------

    def ledger(self) -> Ledger:
        """The ledger since this router began. In flight is counted from the buffers, reading by reading."""
        shares = self.shares.values()

        def counted(name: str) -> int:
            return sum(getattr(s.outcomes, name) - getattr(s.before or NOTHING_COUNTED, name) for s in shares)

        return Ledger(
            received=sum(self.received_by_entity) + self.received_by_nobody,
            applied=counted("applied"),
            duplicate=counted("duplicate"),
            late=counted("late"),
            dead_lettered=counted("dead_lettered") + self.dead_by_nobody + sum(self.dead_by_entity),
            shed=sum(share.shed for share in shares),
            in_flight=sum(readings for *_, readings in self.on_their_way()),
        )

    def on_their_way(self) -> Iterator[tuple[str, int, int, int]]:
        """(share, offset, entity number, readings) of every message not yet known to be applied.

        What has not been committed has no offset yet and stands at the end of all offsets.
        """
        for entry in self._fresh:
            if entry.channel == READING:
                name = self.placed[entry.entity].share.name
                yield name, 2**62, entry.entity, count_readings(entry.payload)
        for share in self.shares.values():
            for delivery in (*share.under_way, *share.waiting):
                if delivery.channel == READING:
                    number = share.entities[delivery.place]
                    yield share.name, delivery.offset, number, count_readings(delivery.payload)
