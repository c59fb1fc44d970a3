"""Dead letters while the store is away, and letters that are taken in again: nothing is forgotten, nothing grows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from twin_actors.core.inputs import Channel
from twin_actors.runtime.desk import CommandDesk
from twin_actors.runtime.letters import MOST_WAITING, MOST_WAITING_BYTES, Letters
from twin_actors.runtime.packing import Delivery
from twin_actors.runtime.routing import Placed, Routing, Share
from twin_actors.runtime.saving import RouterMemory
from twin_actors.store import DeadLetter, LetterState, MemoryStore, StoreUnavailable

ROUTER, TOPIC = "router", "town/venue/arena/telemetry"


class Moody(MemoryStore):
    """A store whose table of dead letters can be away while its log is there: engines keep them in files apart."""

    away = False

    def _must_be_there(self) -> None:
        if self.away:
            raise StoreUnavailable("the disk of the dead letters is full")

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        self._must_be_there()
        super().add_dead_letters(letters)

    def settle_dead_letter(self, number: int, state: LetterState) -> None:
        self._must_be_there()
        super().settle_dead_letter(number, state)


def harm(letters: Letters, offset: int, payload: bytes = b"{}") -> None:
    letters.of_harm(TOPIC, offset, Delivery(offset, 0, int(Channel.READING), 0, 1.0, payload), "it raised")


@pytest.fixture
def store() -> Moody:
    return Moody(first_offset=0)


@pytest.fixture
def letters(store: Moody) -> Letters:
    return Letters(store, ROUTER)


def test_a_letter_taken_in_again_is_replayed_when_the_log_has_it(store: Moody, letters: Letters) -> None:
    harm(letters, 3)
    letters.save()
    number = store.dead_letters(1)[0].id
    marked = letters.mend(number)
    letters.committed()  # of a group that was begun before
    letters.save()
    assert letters.is_mended(number)
    assert store.dead_letter(number).state is LetterState.WAITING
    letters.begin()
    letters.save()
    assert store.dead_letter(number).state is LetterState.WAITING
    assert not marked.done()
    letters.committed()
    letters.save()
    assert store.dead_letter(number).state is LetterState.REPLAYED
    assert marked.result(timeout=0) is None
    assert not letters.is_mended(number)


def test_a_mark_that_the_store_does_not_take_is_made_when_it_does(store: Moody, letters: Letters) -> None:
    harm(letters, 3)
    letters.save()
    number = store.dead_letters(1)[0].id
    marked = letters.mend(number)
    letters.begin()
    store.away = True
    letters.committed()
    letters.save()
    assert "disk of the dead letters" in letters.trouble
    assert letters.is_mended(number), "it must not be taken in a second time meanwhile"
    store.away = False
    letters.save()
    assert marked.done()
    assert store.dead_letter(number).state is LetterState.REPLAYED
    assert letters.trouble == ""


@pytest.mark.parametrize(("count", "size"), [(MOST_WAITING, 2), (65, MOST_WAITING_BYTES // 64)], ids=["many", "large"])
def test_what_waits_for_the_store_has_a_bound(store: Moody, letters: Letters, count: int, size: int) -> None:
    store.away = True
    payload = bytes(size)
    for offset in range(count - 1):
        harm(letters, offset, payload)
        letters.save()
        if size < 1000:
            assert not letters.full
    harm(letters, count, payload)
    letters.save()
    assert letters.full
    assert letters.waiting == count
    store.away = False
    letters.save()
    assert not letters.full
    assert letters.waiting == 0
    harm(letters, count + 1, payload)
    letters.save()
    assert not letters.full, "what the store has is not counted any more"


def test_a_letter_of_harm_that_was_cut_short_is_written_by_the_next_router(store: Moody) -> None:
    def life() -> tuple[Routing, Letters]:
        share = Share("all", epoch=1)
        epoch = store.next_epoch(ROUTER)
        routing = Routing(
            entities=("venue/arena",), placed=[Placed(share, 0)], log=store.log(ROUTER), epoch=epoch, durable=True
        )
        letters = Letters(store, ROUTER)
        RouterMemory(store, ROUTER, routing, CommandDesk(), letters).recover()
        return routing, letters

    routing, letters = life()
    routing.arrive(0, 0, b'{"entries": 7}', 1.0)
    routing.commit(0.0)
    share = routing.shares["all"]
    routing.next_batch(share)
    harmful = share.under_way[0]
    store.away = True
    letters.of_harm(TOPIC, harmful.offset, harmful, "it raised")
    routing.quarantine(share, harmful, "it raised", 2.0, TOPIC)
    letters.save()
    routing.commit(0.0)  # the log takes it, the table of letters does not; then the router dies
    store.away = False
    assert store.dead_letters(10) == []
    _, again = life()
    again.save()
    (letter,) = store.dead_letters(10)
    assert (letter.topic, letter.reason, letter.payload) == (TOPIC, "harmful", b'{"entries": 7}')
    assert "it raised" in letter.detail
    _, once_more = life()
    once_more.save()
    assert len(store.dead_letters(10)) == 1
