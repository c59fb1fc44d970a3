"""Router and twin actors of a town as plain objects: calls, answers, crashes and losses happen when a test says so."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from tests.unit.runtime.cities import holder
from tests.unit.runtime.streams_of_readings import RECEIVED_S
from twin_actors.core.inputs import Channel
from twin_actors.runtime import notes
from twin_actors.runtime.holder import NOTHING_APPLIED, Holder, Reply
from twin_actors.runtime.intake import Refused
from twin_actors.runtime.notes import FIRST_NOTE, Refusal, Told
from twin_actors.runtime.packing import Delivery, pack
from twin_actors.runtime.routing import Placed, Routing, Share
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.store import Entry, MemoryStore
from twin_actors.store.bundles import BUNDLE, inputs
from twin_actors.wire.decode import ReadingDecoder
from twin_actors.wire.elements import count_readings
from twin_actors.wire.gateway import GatewayDecoder

ACTORS = {
    "counters": ("footfall/gate-1", "footfall/gate-2", "footfall/gate-3"),
    "rest": ("substation/quay", "venue/arena"),
}
ENTITIES = tuple(entity for actor in ACTORS.values() for entity in actor)
WINDOW = 4


@dataclass
class Line:
    """One twin actor, what is on its way to it and what comes back."""

    share: Share
    actor: Holder
    entities: tuple[str, ...]
    sent: deque[bytes] = field(default_factory=deque)
    replies: deque[Reply] = field(default_factory=deque)
    saved: tuple[int, bytes] | None = None


class SimulatedCity:
    """Routing and Holders; each method is one thing that can happen. ``log`` is all that was ever committed."""

    def __init__(self, backlog: int = 1000, in_memory: int = 1000) -> None:
        self.store = MemoryStore(first_offset=0)
        self.backlog, self.in_memory = backlog, in_memory
        self.lines: dict[str, Line] = {
            name: Line(Share(name, epoch=1), holder(entities=entities), entities) for name, entities in ACTORS.items()
        }
        self.routing = self.new_routing()
        self.log: list[Entry] = []
        self.came = 0  # readings that arrived, counted by us
        self.lost_by_router = 0  # those that no log knew when a router died
        self.refused: list[tuple[Refused, Delivery]] = []
        self.restarts = 0
        self.kept: tuple[int, Any] | None = None

    def new_routing(self) -> Routing:
        placed = [Placed(line.share, place) for line in self.lines.values() for place in range(len(line.entities))]
        return Routing(
            entities=ENTITIES,
            placed=placed,
            log=self.store.log("router"),
            epoch=1,
            backlog=self.backlog,
            in_memory=self.in_memory,
        )

    # -- what can happen -------------------------------------------------------------------------------------------

    def arrive(self, entity: int, payload: bytes, qos: int = 1) -> None:
        self.came += count_readings(payload)
        self.routing.arrive(entity, 0, payload, RECEIVED_S, qos)

    def arrive_together(self, payload: bytes, qos: int = 1) -> None:
        """A gateway's message, as the inbox takes it."""
        message = gateways().decode(payload, RECEIVED_S)
        for bundle in message.gathered:
            self.came += len(bundle)
            self.routing.arrive_together(bundle, RECEIVED_S, qos)
        for entity, single in message.singles:
            assert count_readings(single) == 1
            self.arrive(entity, single, qos)
        for stray in message.strays:
            self.came += self.routing.refuse("g", stray.reason, "", stray.payload, RECEIVED_S, readings=1)

    def suspect(self, name: str) -> None:
        """A batch did not come back: from here on one input at a time, until it is found."""
        share = self.lines[name].share
        if share.under_way:
            share.beware()
        self.restart(name)

    def tell(self, entity: int, channel: Channel, at_s: float, **values: float) -> None:
        self.routing.tell(entity, channel, Told(at_s=at_s, values=values), RECEIVED_S)

    def refuse(self, payload: bytes) -> None:
        self.came += self.routing.refuse("t", "not_json", "", payload, RECEIVED_S)

    def refuse_of(self, entity: int, payload: bytes) -> None:
        self.came += self.routing.refuse("t", "too_large", "", payload, RECEIVED_S, entity)

    def commit(self) -> None:
        before = self.routing.committed_until
        self.routing.commit(0.0)
        count = self.routing.committed_until - before
        if count:
            self.log += [entry for _, entry in self.store.log("router").read(before, count)]

    def send(self, name: str) -> None:
        line = self.lines[name]
        if len(line.sent) + len(line.replies) < WINDOW:
            blob = self.routing.next_batch(line.share)
            if blob is not None:
                line.sent.append(blob)

    def apply(self, name: str) -> None:
        line = self.lines[name]
        if line.sent:
            line.replies.append(line.actor.apply(line.sent.popleft()))

    def answer(self, name: str) -> None:
        line = self.lines[name]
        if not line.replies:
            return
        reply = line.replies.popleft()
        if reply.ok:
            self.refused += self.routing.confirm(line.share, reply)
        else:
            self.ask(name)

    def lose_call(self, name: str) -> None:
        """One batch never gets there; those behind it do, and are not taken."""
        if self.lines[name].sent:
            self.lines[name].sent.popleft()
            self.lose_answers(name)

    def lose_answers(self, name: str) -> None:
        """The connection fails: what was sent is applied, its answers never come, and the router asks anew."""
        line = self.lines[name]
        while line.sent:
            line.actor.apply(line.sent.popleft())
        self.ask(name)

    def ask(self, name: str) -> None:
        line = self.lines[name]
        line.sent.clear()
        line.replies.clear()
        outcomes, share = line.actor.outcomes(), line.share
        if outcomes.offset >= share.reached:
            known = share.reached
            refused = list(line.actor.refused)
            answer = Reply(True, 1, line.actor.incarnation, outcomes, refused, line.actor.latest_s, 0.0)
            self.refused += self.routing.confirm(share, answer)
            share.reached = known
        self.routing.rewind(share, outcomes.offset)

    def snapshot(self, name: str) -> None:
        line = self.lines[name]
        line.saved = line.actor.snapshot()
        self.store.save_snapshot(name, 1, *line.saved)

    def restart(self, name: str) -> None:
        """The actor dies with all it had, and a new one goes on from the snapshot."""
        line = self.lines[name]
        self.restarts += 1
        line.actor = holder(entities=line.entities, incarnation=f"restart-{self.restarts}")
        saved = self.store.load_snapshot(name)
        if saved is not None:
            line.actor.restore(saved.offset, saved.blob)
        self.ask(name)

    def keep(self) -> None:
        """The router keeps its accounts."""
        blob = msgspec.msgpack.encode(self.routing.state())
        self.kept = self.routing.committed_until - 1, msgspec.msgpack.decode(blob, strict=False)

    def router_restart(self) -> None:
        """The router dies with what it had not committed; the next one goes on from its accounts and the log."""
        fresh = [*self.routing._committing, *self.routing._fresh]
        gone = sum(
            inputs(entry) if entry.entity == BUNDLE else count_readings(entry.payload)
            for entry in fresh
            if entry.channel == Channel.READING
        )
        gone += sum(note.readings for note in map(_note, fresh) if isinstance(note, Refusal))
        before = self.routing.ledger()
        for line in self.lines.values():
            line.share = Share(line.share.name, epoch=1)
            line.sent.clear()
            line.replies.clear()
        self.routing = self.new_routing()
        first, state = (0, None) if self.kept is None else (self.kept[0] + 1, self.kept[1])
        for _ in self.routing.resume(state, first):
            pass
        after = self.routing.ledger()
        untold = before.received - gone - after.received  # held back for want of room, and no tally told of it
        assert 0 <= untold <= before.received
        assert before.applied >= after.applied
        self.came -= gone + untold
        for name in self.lines:
            self.ask(name)

    def trim(self) -> None:
        """Forget what no actor and no router can need any more."""
        needed = 0
        if self.kept is not None:
            offset, state = self.kept
            needed = min(offset + 1, *(share["waits_from"] for share in state["shares"].values()))
        for line in self.lines.values():
            saved = NOTHING_APPLIED if line.saved is None else line.saved[0]
            needed = min(needed, saved + 1)
        self.routing.trim(needed)

    # -- the end ---------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Let everything that is on its way arrive."""
        self.commit()
        for name, line in self.lines.items():
            while line.share.load or line.share.under_way or line.share.held:
                self.commit()
                if not (line.sent or line.replies or line.share.load):
                    self.ask(name)
                self.send(name)
                self.apply(name)
                self.answer(name)

    def straight(self, name: str) -> Holder:
        """The twins of one actor after all that was committed and not shed, in one go and without any routing."""
        line = self.lines[name]
        twins = holder(entities=line.entities)
        own = [
            Delivery(offset, line.entities.index(ENTITIES[each.entity]), *each[1:])
            for offset, each in enumerate(self.log)
            if each.channel < FIRST_NOTE and ENTITIES[each.entity] in line.entities
        ]
        assert twins.apply(pack(1, NOTHING_APPLIED, own)).ok
        return twins


@lru_cache
def gateways() -> GatewayDecoder:
    kinds = load_catalogue().kinds
    used = dict.fromkeys(entity.partition("/")[0] for entity in ENTITIES)
    decoders = {name: ReadingDecoder(kinds[name].reading) for name in used}
    return GatewayDecoder(decoders, {entity: number for number, entity in enumerate(ENTITIES)})


def _note(entry: Entry) -> Any:
    return notes.decode(entry.channel, entry.payload) if entry.channel >= FIRST_NOTE else None
