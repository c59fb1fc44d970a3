"""What the router does, without MQTT and Ray: gather inputs for the log, queue them per twin actor, count them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from twin_actors.core.bundle import Bundle
from twin_actors.core.inputs import Channel
from twin_actors.core.ledger import Ledger
from twin_actors.runtime import notes
from twin_actors.runtime.accounts import Accounts, count_of, readings_of
from twin_actors.runtime.holder import Reply
from twin_actors.runtime.intake import Refused
from twin_actors.runtime.logged import READ_AT_ONCE, Logged
from twin_actors.runtime.notes import FIRST_NOTE, Note
from twin_actors.runtime.packing import LARGEST_BATCH, Delivery, apart, bundled, inputs, pack, standing_at
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.share import END_OF_OFFSETS, NOTHING_COUNTED, ByShare, Placed, Share
from twin_actors.store import bundles
from twin_actors.store.base import NOBODY, Entry, Log
from twin_actors.store.bundles import BUNDLE
from twin_actors.wire.elements import count_readings

__all__ = ["NOTHING_COUNTED", "Placed", "Routing", "Share"]

READING = int(Channel.READING)
_new = tuple.__new__  # a named tuple made by its class costs three times as much, and each message makes two
LARGEST_COUNT = 4000
"""Inputs per batch: a bound on how long one call keeps a twin actor busy. Only bundles come to it before to
``LARGEST_BATCH``."""
IN_MEMORY = 20_000
"""Inputs per twin actor that wait in memory; what comes beyond them stays in the log and is read again when due."""
FEWEST_TOGETHER = 3
"""Readings a twin actor of one message, on average, that are worth being delivered to it as a bundle."""
TALLY_S = 0.5
"""How often the log is told of readings that were given up before they reached it."""


class Routing:
    """Entities are numbered 0 … n−1 as in the scenario; ``placed[number]`` says where each twin lives.

    ``backlog`` is the number of inputs that may wait for one twin actor before readings that may be shed (QoS 0, and
    all where the log is not durable) are given up, the older one of an entity for its newer one.
    """

    def __init__(
        self,
        *,
        entities: Sequence[str],
        placed: Sequence[Placed],
        log: Log,
        epoch: int,
        backlog: int = 200_000,
        durable: bool = True,
        in_memory: int = IN_MEMORY,
    ) -> None:
        self.entities = tuple(entities)
        self.placed = list(placed)
        self.shares: dict[str, Share] = {each.share.name: each.share for each in placed}
        for number, each in sorted(enumerate(placed), key=lambda item: item[1].place):
            each.share.entities.append(number)
        self._by_share = ByShare(self.placed)
        self._logged = Logged(log, self.placed, self._by_share)
        self.epoch = epoch
        self.backlog = backlog
        self.accounts = Accounts(len(entities))
        self.committed_until = log.next_offset
        self._log = log
        self._durable = durable
        self._in_memory = in_memory
        self._fresh: list[Entry] = []
        self._fresh_inputs = 0  # in bundles, beyond one each
        self._committing: Sequence[Entry] = ()
        self._pressed = False  # some share has as much waiting as it may
        self._untold = False  # readings are held back or given up of which the log does not know
        self._tallied_s = float("-inf")

    # -- arrivals ----------------------------------------------------------------------------------------------

    def arrive(self, entity: int, source: int, payload: bytes, received_at_s: float, qos: int = 1) -> None:
        """Take in one message of readings; it is queued when it has been committed."""
        # an object is one reading, and nearly every message is an object
        readings = 1 if payload[:1] == b"{" else count_readings(payload)
        self.accounts.received[entity] += readings
        entry = _new(Entry, (entity, READING, source, received_at_s, payload))
        if self._pressed and (qos == 0 or not self._durable) and self._hold_back(entry):
            return
        self._fresh.append(entry)

    def arrive_together(self, bundle: Bundle, received_at_s: float, qos: int = 1) -> None:
        """Take in readings of many entities of one kind, in their order."""
        received = self.accounts.received
        for number in bundle.numbers.tolist():
            received[number] += 1
        entry = Entry(BUNDLE, READING, 0, received_at_s, bundles.pack(bundle))
        if self._pressed and (qos == 0 or not self._durable):  # some of it may have to be given up
            self._fresh.extend(single for single in bundles.apart(entry, bundle) if not self._hold_back(single))
            return
        self._fresh.append(entry)
        self._fresh_inputs += len(bundle) - 1

    def _hold_back(self, entry: Entry) -> bool:
        """Keep only the newest reading of an entity whose twin actor has too much before it; True if so."""
        share = self.placed[entry.entity].share
        if share.load < self.backlog:
            return False
        older = share.held.get(entry.entity)
        if older is not None:
            readings = count_readings(older.payload)
            share.shed += readings
            self.accounts.give_up(entry.entity, readings)
        share.held[entry.entity] = entry
        self._untold = True
        return True

    def tell(self, entity: int, channel: Channel, told: notes.Told, now_s: float) -> None:
        """Take in a command or a coupling for a twin, to be logged like any input."""
        self._fresh.append(Entry(entity, int(channel), 0, now_s, msgspec.json.encode(told)))

    def note(self, channel: Note, note: notes.Notable, now_s: float, entity: int = NOBODY) -> None:
        """Take in a line of the router's own."""
        self._fresh.append(Entry(entity, int(channel), 0, now_s, notes.encode(note)))

    def refuse(
        self, topic: str, reason: str, detail: str, payload: bytes, received_at_s: float, entity: int = NOBODY,
        readings: int = 0,
    ) -> int:  # fmt: skip
        """Take in a message that no twin gets; it is logged, and a dead letter. Returns its number of readings."""
        readings = readings or count_readings(payload)
        self.accounts.receive(entity, readings)
        self.accounts.bury(entity, readings)
        self.note(Note.REFUSED, notes.Refusal(topic, reason, detail, readings, payload), received_at_s, entity)
        return readings

    def received_by(self, share: Share) -> int:
        """Readings that have arrived for the twins of one actor."""
        return sum(self.accounts.received[number] for number in share.entities)

    @property
    def began(self) -> int:
        """The first offset that the log ever had."""
        return self._log.began

    @property
    def fresh(self) -> int:
        """Inputs that wait to be committed, and those held back that no longer need to be: nothing else may come."""
        waiting = len(self._fresh) + self._fresh_inputs
        if not self._pressed:
            return waiting
        most = self.backlog // 2
        held = sum(len(share.held) for share in self.shares.values() if share.held and share.load <= most)
        return waiting + held

    @property
    def words_unlogged(self) -> bool:
        """Something other than readings waits for the log: a command, an answer, a note."""
        return any(entry.channel != READING for entry in (*self._committing, *self._fresh))

    @property
    def untold(self) -> bool:
        """Readings are held back or given up of which the log does not know."""
        return self._untold

    @property
    def committing(self) -> int:
        return bundles.count_inputs(self._committing)

    def _held(self) -> dict[int, int]:
        return {
            number: count_readings(entry.payload)
            for share in self.shares.values()
            for number, entry in share.held.items()
        }

    def take(self, now_s: float, wall_s: float) -> Sequence[Entry]:
        """The next group for the log; ``committed`` must follow before another is taken."""
        if self._committing:
            raise RuntimeError("a group is being committed already")
        moved_on = self._admit() if self._pressed else False
        if moved_on or (self._untold and wall_s - self._tallied_s >= TALLY_S):
            self.note(Note.TALLY, notes.Tally(self.accounts.take_untold(), self._held()), now_s)
            self._tallied_s, self._untold = wall_s, False
        self._committing, self._fresh, self._fresh_inputs = self._fresh, [], 0
        return self._committing

    def _admit(self) -> bool:
        """Let go what was held back for shares that have caught up. True if there was any."""
        admitted = False
        pressed = False
        for share in self.shares.values():
            if share.held and share.load <= self.backlog // 2:
                self._fresh.extend(share.held.values())
                share.held = {}
                admitted = True
            pressed = pressed or bool(share.held) or share.load >= self.backlog
        self._pressed = pressed
        return admitted

    def committed(self, first: int, entries: Sequence[Entry], wall_s: float) -> list[tuple[int, Entry]]:
        """Queue a group that is in the log now. Returns the router's own notes among it, with their offsets."""
        placed, most, backlog = self.placed, self._in_memory, self.backlog
        own: list[tuple[int, Entry]] = []
        offset = first
        for entry in entries:
            number, channel, source, received_at_s, payload = entry
            if channel >= FIRST_NOTE:
                own.append((offset, entry))
                offset += 1
                continue
            if number == BUNDLE:
                offset += self._queue_together(offset, entry, wall_s)
                continue
            where = placed[number]
            share = where.share
            waiting = share.waiting
            queued = len(waiting)
            if share.bundled:
                queued = share.in_memory
                self._pressed = self._pressed or share.load >= backlog - 1
            if not queued:
                share.oldest_s = wall_s
            if share.spilled_from is not None or queued >= most:
                share.spill(offset, number, count_readings(payload) if channel == READING else 0)
                self._pressed = self._pressed or share.load >= backlog
            else:
                waiting.append(_new(Delivery, (offset, where.place, channel, source, received_at_s, payload)))
                if queued >= backlog - 1:
                    self._pressed = True
            offset += 1
        self.committed_until = offset
        self._committing = ()
        return own

    def _queue_together(self, first: int, entry: Entry, wall_s: float) -> int:
        """Queue the readings of a bundle, each share its own. Returns how many there are."""
        _, _, source, received_at_s, payload = entry
        bundle = bundles.unpack(payload)
        parts = self._by_share.divide(bundle)
        singly = len(parts) * FEWEST_TOGETHER > len(bundle)
        payloads = bundles.payloads(bundle) if singly else []
        for share, elements, places in parts:
            if not share.in_memory:
                share.oldest_s = wall_s
            if share.spilled_from is not None or share.in_memory >= self._in_memory:
                share.spill_together((first + elements).tolist(), bundle.numbers[elements].tolist())
            elif singly:
                share.waiting.extend(
                    _new(Delivery, (first + element, place, READING, source, received_at_s, payloads[element]))
                    for element, place in zip(elements.tolist(), places.tolist(), strict=True)
                )
            else:
                share.append(bundled(first, source, received_at_s, bundle.part(elements, places), elements))
            self._pressed = self._pressed or share.load >= self.backlog
        return len(bundle)

    def commit(self, wall_s: float) -> list[tuple[int, Entry]]:
        """``take``, append and ``committed`` in one go, where nothing else has to go on meanwhile."""
        entries = self.take(wall_s, wall_s)
        if not entries:
            return []
        try:
            first = self._log.append(self.epoch, entries)
        except Exception:
            self._fresh, self._committing = [*entries, *self._fresh], ()
            self._fresh_inputs = bundles.count_inputs(self._fresh) - len(self._fresh)
            raise
        return self.committed(first, entries, wall_s)

    def trim(self, before: int) -> None:
        """No twin needs what lies before an offset: all of it is in snapshots."""
        self._log.trim(before)
        for share in self.shares.values():
            share.quarantined = {offset: detail for offset, detail in share.quarantined.items() if offset >= before}

    # -- deliveries --------------------------------------------------------------------------------------------

    def next_batch(self, share: Share) -> bytes | None:
        """The next packed batch of a share, or None when nothing waits. The caller bounds how many are under way."""
        waiting = share.waiting
        if len(waiting) <= LARGEST_COUNT and share.spilled_from is not None:
            self._refill(share)
        if not waiting:
            return None
        if share.careful and waiting[0].place == BUNDLE:
            share.put_back([each for each in apart(share.take()) if each.offset > share.sent])
        after = share.sent
        return pack(share.epoch, after, share.send(1 if share.careful else LARGEST_COUNT, LARGEST_BATCH))

    def _refill(self, share: Share) -> None:
        """Read from the log what did not wait in memory, until enough waits again or nothing is left there."""
        while share.spilled_from is not None and share.in_memory < self._in_memory:
            stop = min(share.spilled_from + READ_AT_ONCE, self.committed_until)
            for delivery in self._logged.deliveries(share, share.spilled_from, stop):
                share.append(delivery)
                for offset, number, readings in share.each_input(delivery):
                    share.unspill(offset, number, readings)
            share.read_until(stop, done=stop >= self.committed_until)

    def confirm(self, share: Share, reply: Reply) -> list[tuple[Refused, Delivery]]:
        """Take an answer: forget what has been applied, keep the counts. Returns refused readings with their bytes."""
        refused: list[tuple[Refused, Delivery]] = []
        news = [each for each in reply.refused if each.offset > share.lettered]
        if news:  # first, since it may have to read the log, which may be away
            wanted = {each.offset for each in news}
            by_offset = {each.offset: each for delivery in share.under_way for each in standing_at(delivery, wanted)}
            for each in news:
                delivery = by_offset.get(each.offset) or self._logged.delivery(share, each.offset)
                if delivery is not None:
                    refused.append((each, delivery))
        share.confirm(reply)
        return refused

    def rewind(self, share: Share, reached: int) -> None:
        """Prepare to resend everything after ``reached``, the last input that the actor has applied.

        Raises LogTrimmed when the log no longer reaches back that far.
        """
        in_memory = share.spilled_from is None or share.spilled_from > reached
        if reached >= share.reached and in_memory:
            again = [delivery for delivery in share.under_way if delivery.offset > reached]
            share.put_back(again)
            while share.waiting and share.waiting[0].offset <= reached:  # sent by a router before this one
                share.take()
            share.resent += sum(map(inputs, again))
        else:
            before = share.inputs_under_way + share.load - share.spilled
            first = max(reached + 1, self._log.began)
            if reached >= share.idle_at:  # nothing was for it between the two, however far the log went on
                first = max(first, share.idle_until)
            # the log may be away: read first, change afterwards
            counted = list(self._logged.counted(share, first, self.committed_until))
            share.queue_anew(first, counted)
            share.resent += max(share.load - before, 0)
        share.under_way.clear()
        share.sent = share.reached = reached

    def logged(self, offset: int) -> Entry:
        """What the log holds at an offset. Raises LogTrimmed."""
        return self._log.read(offset, 1)[0][1]

    def quarantine(self, share: Share, delivery: Delivery, detail: str, now_s: float, topic: str = "") -> None:
        """Never deliver this input again: its actor did not survive it. It ends among the dead letters."""
        number = share.entities[delivery.place]
        readings = count_readings(delivery.payload) if delivery.channel == READING else 0
        share.quarantined[delivery.offset] = detail
        if share.recover_to == delivery.offset:
            share.recover_to = share.reached  # nothing behind it was there when this router began
        self.accounts.bury(number, readings)
        for queue in (share.under_way, share.waiting):
            if delivery in queue:
                queue.remove(delivery)
        self.note(Note.QUARANTINED, notes.Quarantine(delivery.offset, readings, detail, topic), now_s, number)

    # -- accounts ----------------------------------------------------------------------------------------------

    def ledger(self) -> Ledger:
        """The city's ledger. In flight is counted from the buffers, reading by reading."""
        shares = self.shares.values()

        def counted(name: str) -> int:
            return sum(getattr(share.outcomes, name) for share in shares)

        accounts = self.accounts
        return Ledger(
            received=accounts.total_received,
            applied=counted("applied"),
            duplicate=counted("duplicate"),
            late=counted("late"),
            dead_lettered=counted("dead_lettered") + accounts.total_dead,
            shed=accounts.total_shed,
            in_flight=self.in_flight(),
        )

    def in_flight(self) -> int:
        """All of ``on_their_way``, counted bundle by bundle."""
        unlogged = sum(count_of(entry) for entry in (*self._committing, *self._fresh))
        return unlogged + sum(share.in_flight() for share in self.shares.values())

    def on_their_way(self) -> Iterator[tuple[str, int, int, int]]:
        """(share, offset, entity number, readings) of every message not yet known to be applied.

        What has not been committed has no offset yet and stands at the end of all offsets; so does what waits in the
        log only, counted per entity.
        """
        for entry in (*self._committing, *self._fresh):
            for number, readings in readings_of(entry):
                yield self.placed[number].share.name, END_OF_OFFSETS, number, readings
        for share in self.shares.values():
            for offset, number, readings in share.on_their_way():
                yield share.name, offset, number, readings

    # -- over restarts -----------------------------------------------------------------------------------------

    def state(self) -> Mapping[str, object]:
        """What must be kept to go on from the last commit; see ``resume``."""
        accounts = self.accounts.state([*self._committing, *self._fresh], self._held())
        shares = {share.name: share.state(self.committed_until) for share in self.shares.values()}
        return {"accounts": accounts, "shares": shares}

    def resume(self, state: Mapping[str, object] | None, first: int) -> Iterator[tuple[int, Entry]]:
        """Take up ``state`` and count what the log holds from ``first`` on; yields every entry for its reader.

        Afterwards every share waits, in the log, from what its actor was known to have applied.
        """
        waits_from = dict.fromkeys(self.shares, self._log.began)
        if state is not None:
            self.accounts.restore(state["accounts"])  # type: ignore[arg-type]  # as written by state()
            for name, kept in state["shares"].items():  # type: ignore[attr-defined]
                if name in self.shares:
                    waits_from[name] = self.shares[name].restore(kept)
        while first < self.committed_until:
            entries = self._log.read(first, READ_AT_ONCE)
            for offset, entry in entries:
                self.accounts.recount(entry)
                if entry.channel == Note.QUARANTINED:
                    note = notes.decode(entry.channel, entry.payload)
                    assert isinstance(note, notes.Quarantine)
                    self.placed[entry.entity].share.quarantined[note.offset] = note.detail
                yield offset, entry
            first = entries[-1][0] + 1
        self._untold = self.accounts.lose_held()
        for share in self.shares.values():
            share.stand_before(waits_from[share.name])
        self._logged.queue_behind(waits_from, self.committed_until)


def routing_of(plan: CityPlan, log: Log, epoch: int, *, durable: bool) -> Routing:
    """The routing of a planned city: every entity placed in the share of its actor."""
    shares = {actor.name: Share(actor.name, epoch=1) for actor in plan.actors}
    placed: dict[int, Placed] = {}
    for actor in plan.actors:
        for place, number in enumerate(actor.entities):
            placed[number] = Placed(shares[actor.name], place)
    return Routing(
        entities=[entity.id for entity in plan.scenario.entities],
        placed=[placed[number] for number in range(len(plan.scenario.entities))],
        log=log,
        epoch=epoch,
        backlog=plan.scenario.limits.backlog,
        durable=durable,
    )
