"""Commands leave after they are in the log, once, and are tried again until they have left."""

from __future__ import annotations

import pytest

from tests.unit.runtime.cities import T0, TOWN, town
from twin_actors.runtime.clock import Clock
from twin_actors.runtime.desk import CommandDesk, Outgoing
from twin_actors.runtime.inbox import Inbox
from twin_actors.runtime.orders import Orders
from twin_actors.runtime.routing import Placed, Routing, Share
from twin_actors.store import MemoryStore

ENTITY = "venue/arena"


class Post:
    """A router's way out, with a client that may refuse."""

    def __init__(self) -> None:
        scenario = town(TOWN)
        entities = [entity.id for entity in scenario.entities]
        share = Share("all", epoch=1)
        placed = [Placed(share, place) for place in range(len(entities))]
        self.store = MemoryStore(first_offset=0)
        self.routing = Routing(entities=entities, placed=placed, log=self.store.log("router"), epoch=3)
        self.desk = CommandDesk()
        clock = Clock(mode="scaled", start_s=T0, speed=1e-9)
        self.inbox = Inbox(scenario, clock, self.routing, self.desk)
        self.open = True
        self.left: list[str] = []
        self.orders = self.new_orders()

    def new_orders(self) -> Orders:
        return Orders(self.routing, self.desk, self.inbox, self.publish)

    def publish(self, entity: str, payload: bytes) -> bool:
        if self.open:
            self.left.append(entity)
        return self.open

    def commit(self) -> None:
        self.orders.begin()
        self.routing.commit(0.0)
        self.orders.committed()


def order(number: int = 1, entity: str = ENTITY) -> Outgoing:
    return Outgoing(f"dec-1.{number}", "dec-1", entity, {"gates_open": 0.5}, T0, T0 + 100.0)


def test_a_command_leaves_when_its_group_is_in_the_log() -> None:
    post = Post()
    assert post.orders.take(order())
    post.orders.send()
    assert post.left == []
    post.commit()
    assert post.left == [ENTITY]
    post.commit()
    assert post.left == [ENTITY]


def test_a_command_that_comes_while_a_group_is_written_waits_for_the_next() -> None:
    post = Post()
    post.orders.take(order(1))
    post.orders.begin()
    entries = post.routing.take(0.0, 0.0)
    post.orders.take(order(2))
    post.routing.committed(post.store.log("router").append(3, entries), entries, 0.0)
    post.orders.committed()
    assert post.left == [ENTITY]
    post.commit()
    assert post.left == [ENTITY] * 2


def test_a_client_that_takes_nothing_is_asked_again() -> None:
    post = Post()
    post.open = False
    post.orders.take(order())
    post.commit()
    assert post.left == []
    post.open = True
    post.orders.send()
    assert post.left == [ENTITY]


def test_what_is_handed_over_again_is_not_sent_again() -> None:
    post = Post()
    assert post.orders.take(order())
    assert post.orders.take(order())
    post.commit()
    assert post.left == [ENTITY]
    assert post.routing.committed_until == 1


@pytest.mark.parametrize("known", [True, False])
def test_the_next_router_sends_what_may_not_have_left(known: bool) -> None:
    post = Post()
    post.orders.take(order())
    post.commit()
    if known:
        post.desk.close("dec-1.1", done=True, at_s=T0, note="")
    post.new_orders().send()
    assert len(post.left) == (1 if known else 2)


def test_nobody_gets_a_command_for_nobody() -> None:
    post = Post()
    assert not post.orders.take(order(entity="venue/nowhere"))
    assert not post.desk.knows("dec-1.1")
