"""What overload holds back is let go when its twin actor has caught up, also when nothing else arrives any more."""

from __future__ import annotations

from twin_actors.runtime.routing import Placed, Routing
from twin_actors.runtime.share import Share
from twin_actors.store import MemoryStore

READING = b'{"values": {"flow_pph": 1}}'


def test_the_newest_reading_held_back_asks_for_its_own_commit() -> None:
    store = MemoryStore()
    log = store.log("router")
    share = Share("twins", epoch=1)
    routing = Routing(entities=["a"], placed=[Placed(share, 0)], log=log, epoch=store.next_epoch("router"), backlog=4)

    def commit() -> None:
        entries = routing.take(0.0, 0.0)
        routing.committed(log.append(1, entries) if entries else log.next_offset, entries, 0.0)

    for _ in range(4):
        routing.arrive(0, 0, READING, 1.0, 0)
    commit()
    for _ in range(3):
        routing.arrive(0, 0, READING, 1.0, 0)
    assert len(share.held) == 1
    assert routing.fresh == 0, "it must wait: the actor has too much before it"
    assert routing.next_batch(share) is not None
    assert routing.fresh == 1, "now it must come on its own, or it is under way for ever"
    commit()
    assert not share.held
    assert routing.fresh == 0
    ledger = routing.ledger()
    assert (ledger.received, ledger.shed, ledger.in_flight) == (7, 2, 5)
    assert ledger.balanced
