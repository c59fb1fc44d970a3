"""Router and twin actors of a town as plain objects: calls, answers, crashes and losses happen when a test says so."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tests.unit.runtime.cities import holder
from tests.unit.runtime.streams_of_readings import RECEIVED_S
from twin_actors.core.inputs import Channel
from twin_actors.runtime.holder import NOTHING_APPLIED, Holder, Refused, Reply
from twin_actors.runtime.packing import Delivery, pack
from twin_actors.runtime.routing import Placed, Routing, Share
from twin_actors.store import Entry, MemoryStore
from twin_actors.wire.elements import count_readings

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

    def __init__(self, backlog: int = 1000) -> None:
        self.store = MemoryStore(first_offset=0)
        self.lines: dict[str, Line] = {}
        placed: list[Placed] = []
        for name, entities in ACTORS.items():
            share = Share(name, epoch=1)
            self.lines[name] = Line(share, holder(entities=entities), entities)
            placed += [Placed(share, place) for place in range(len(entities))]
        self.routing = Routing(entities=ENTITIES, placed=placed, log=self.store.log("router"), epoch=1, backlog=backlog)
        self.log: list[Entry] = []
        self.given_up: set[int] = set()  # offsets that were ever shed
        self.came = 0  # readings that arrived, counted by us
        self.refused: list[tuple[Refused, Delivery]] = []
        self.restarts = 0

    # -- what can happen -------------------------------------------------------------------------------------------

    def arrive(self, entity: int, payload: bytes) -> None:
        self.came += count_readings(payload)
        self.routing.arrive(entity, 0, payload, RECEIVED_S)

    def tell(self, entity: int, channel: Channel, at_s: float, **values: float) -> None:
        self.routing.tell(entity, channel, at_s, values, RECEIVED_S)

    def refuse(self, payload: bytes) -> None:
        self.came += self.routing.refuse(payload)

    def refuse_of(self, entity: int, payload: bytes) -> None:
        self.came += self.routing.refuse_of(entity, payload)

    def commit(self) -> None:
        before = self.routing._log.next_offset
        count = self.routing.commit(0.0)
        self.log += [entry for _, entry in self.routing._log.read(before, count)]
        for line in self.lines.values():
            self.given_up |= line.share.given_up

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
        self.routing.rewind(line.share, line.actor.outcomes())

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
            line.actor.restore(saved[1], saved[2])
        self.ask(name)

    def trim(self) -> None:
        """Forget what no actor can need any more."""
        needed = self.routing._log.next_offset
        for line in self.lines.values():
            pending = (*line.share.under_way, *line.share.waiting)
            saved = NOTHING_APPLIED if line.saved is None else line.saved[0]
            needed = min([needed, saved + 1, *(each.offset for each in pending)])
        self.routing.trim(needed)

    # -- the end ---------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Let everything that is on its way arrive."""
        self.commit()
        for name, line in self.lines.items():
            while line.share.waiting or line.share.under_way:
                if not (line.sent or line.replies or line.share.waiting):
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
            if ENTITIES[each.entity] in line.entities and offset not in self.given_up
        ]
        assert twins.apply(pack(1, NOTHING_APPLIED, own)).ok
        return twins
