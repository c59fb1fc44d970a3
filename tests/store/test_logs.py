"""What every engine's log promises: order, offsets that never repeat, one writer, nothing twice."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.places import Place
from twin_actors.store import NOBODY, Entry, LogTrimmed, StaleEpoch, Store, StoreDamaged

ENTRIES = st.builds(
    Entry,
    entity=st.integers(NOBODY, 2**31 - 1),
    channel=st.integers(0, 255),
    source=st.integers(0, 2**31 - 1),
    received_at_s=st.floats(allow_nan=False, allow_infinity=False),
    payload=st.binary(max_size=40),
)


def entry(number: int) -> Entry:
    return Entry(entity=number % 3, channel=1, source=2, received_at_s=float(number), payload=b"x" * number)


def test_what_is_appended_is_read_at_its_offset(any_store: Store) -> None:
    log = any_store.log("router")
    assert log.next_offset == log.kept_from == log.held_bytes == 0
    assert log.read(0, 10) == log.read_of(0) == []
    assert log.append(1, [entry(0), entry(1)]) == 0
    assert log.append(1, []) == 2
    assert log.append(1, [entry(2)]) == 2
    assert log.next_offset == 3
    assert log.read(0, 10) == [(0, entry(0)), (1, entry(1)), (2, entry(2))]
    assert log.read(1, 1) == [(1, entry(1))]
    assert log.read(1, 2) == [(1, entry(1)), (2, entry(2))]
    assert log.read(3, 10) == log.read(9, 10) == log.read(0, 0) == []


def test_a_share_always_finds_its_own_log(any_store: Store) -> None:
    any_store.log("a/b ü").append(1, [entry(0)])
    any_store.log("c").append(1, [])
    assert any_store.log("a/b ü").next_offset == 1
    assert any_store.log("c").next_offset == 0
    assert any_store.shares() == ["a/b ü", "c"]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(st.lists(ENTRIES, max_size=5), max_size=6), first=st.integers(0, 30), limit=st.integers(0, 30))
def test_any_entries_come_back(any_store: Store, groups: list[list[Entry]], first: int, limit: int) -> None:
    log = any_store.log("router")
    began = log.next_offset  # examples share the store
    for group in groups:
        log.append(1, group)
    everything = [each for group in groups for each in group]
    assert log.next_offset == began + len(everything)
    numbered = list(enumerate(everything, start=began))
    assert log.read(began, 10**6) == numbered
    assert log.read(began + first, limit) == numbered[first:][:limit]
    for entity in {each.entity for each in everything}:
        assert log.read_of(entity, first=began) == [each for each in numbered if each[1].entity == entity]


def test_an_entity_is_read_within_a_span_of_time(any_store: Store) -> None:
    log = any_store.log("router")
    for start in range(0, 30, 5):
        log.append(1, [entry(number) for number in range(start, start + 5)])
    of_one = [(number, entry(number)) for number in range(1, 30, 3)]
    assert log.read_of(1) == of_one
    assert log.read_of(1, since_s=7.0, until_s=13.0) == [(7, entry(7)), (10, entry(10))]
    assert log.read_of(1, first=11, until_s=20.0) == [(13, entry(13)), (16, entry(16)), (19, entry(19))]
    assert log.read_of(1, since_s=99.0) == log.read_of(4) == []


def test_a_clock_that_jumps_back_hides_nothing(any_store: Store) -> None:
    log = any_store.log("router")
    times = [100.0, 5.0, 101.0]
    entries = [Entry(0, 0, 0, at_s, b"") for at_s in times]
    for each in entries:
        log.append(1, [each])
    assert log.read_of(0, since_s=100.0) == [(0, entries[0]), (2, entries[2])]
    assert log.read_of(0, until_s=100.0) == [(1, entries[1])]


# -- one writer ----------------------------------------------------------------------------------------------------


def test_a_writer_with_a_successor_is_refused(any_store: Store) -> None:
    first, second = any_store.next_epoch("router"), any_store.next_epoch("router")
    log = any_store.log("router")
    assert (first, second) == (1, 2)
    with pytest.raises(StaleEpoch, match=r"router: epoch 1 is refused, epoch 2 has taken over"):
        log.append(first, [entry(0)])
    assert log.append(second, [entry(0)]) == 0
    third = any_store.next_epoch("router")
    with pytest.raises(StaleEpoch):
        log.append(second, [entry(1)])
    assert log.append(third, [entry(1)]) == 1
    assert any_store.log("other").append(1, [entry(0)]) == 0


def test_an_append_of_a_higher_epoch_ends_the_lower_one(any_store: Store) -> None:
    log = any_store.log("router")
    log.append(1, [entry(0)])
    log.append(4, [entry(1)])
    with pytest.raises(StaleEpoch):
        log.append(3, [entry(2)])
    assert any_store.epoch("router") == 4
    assert any_store.next_epoch("router") == 5
    assert log.next_offset == 2


def test_an_append_that_is_repeated_is_there_once(any_store: Store) -> None:
    log = any_store.log("router")
    log.append(1, [entry(0), entry(1)], 0)
    assert log.append(1, [entry(0), entry(1)], 0) == 0
    assert log.next_offset == 2
    assert log.append(1, [entry(2)], 2) == 2
    with pytest.raises(StoreDamaged, match="ends at offset 3 where 7 was expected"):
        log.append(1, [entry(3)], 7)
    assert log.append(1, [], 3) == 3
    with pytest.raises(StaleEpoch):  # the successor decides, even about what is there already
        log.append(any_store.next_epoch("router") - 1, [entry(2)], 2)


def test_two_stores_at_one_place_see_one_log(durable_place: Place) -> None:
    one, other = durable_place.open(), durable_place.open()
    one.next_epoch("router")
    assert one.log("router").append(1, [entry(0)]) == 0
    assert other.log("router").read(0, 9) == [(0, entry(0))]
    assert other.next_epoch("router") == 2
    with pytest.raises(StaleEpoch):
        one.log("router").append(1, [entry(1)])
    assert other.log("router").append(2, [entry(1)]) == 1
    assert one.log("router").next_offset == 2


def test_a_log_goes_on_when_it_is_opened_again(durable_place: Place) -> None:
    store = durable_place.open()
    store.log("router").append(store.next_epoch("router"), [entry(0), entry(1)])
    store.close()
    again = durable_place.open()
    assert again.durable
    assert again.next_epoch("router") == 2
    assert again.log("router").append(2, [entry(2)]) == 2
    assert again.log("router").read(0, 9) == [(number, entry(number)) for number in range(3)]
    assert again.log("router").began == 0


def test_threads_may_share_a_store(any_store: Store) -> None:
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(15):
                any_store.log(f"share-{number}").append(1, [entry(turn)])
                any_store.put(f"{number}/{turn}", b"v")
                assert any_store.log(f"share-{number}").next_offset == turn + 1
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not faults
    assert [any_store.log(f"share-{number}").next_offset for number in range(4)] == [15] * 4
    assert len(any_store.keys()) == 60


# -- trimming ------------------------------------------------------------------------------------------------------


def test_a_trim_lessens_what_a_recovery_reads(any_store: Store) -> None:
    log = any_store.log("router")
    for number in range(10):
        log.append(1, [entry(number)])
    before = log.held_bytes
    assert before >= sum(range(10))
    log.trim(5)
    assert 0 < log.held_bytes < before
    assert log.append(1, [entry(10)]) == 10
    assert log.read(5, 2) == [(5, entry(5)), (6, entry(6))]
    log.trim(3)  # that has been said already
    log.trim(99)  # no further than there is
    assert log.held_bytes == 0
    assert log.append(1, [entry(11)]) == 11
    assert log.held_bytes > 0


def test_the_memory_engine_forgets_what_is_trimmed_and_others_do_not(place: Place) -> None:
    log = place.open().log("router")
    log.append(1, [entry(0), entry(1)])
    log.trim(1)
    if place.durable:
        assert log.read(0, 9) == [(0, entry(0)), (1, entry(1))]
        assert log.kept_from == 0
    else:
        with pytest.raises(LogTrimmed, match="offset 0 was trimmed; the log begins at 1"):
            log.read(0, 9)
        assert log.kept_from == 1


def test_a_restored_log_begins_where_it_is_told(any_store: Store) -> None:
    log = any_store.log("router")
    log.start_at(500)
    assert log.next_offset == log.kept_from == 500
    assert log.append(1, [entry(0)]) == 500
    assert log.read(500, 9) == [(500, entry(0))]
    with pytest.raises(LogTrimmed):
        log.read(499, 9)
    with pytest.raises(ValueError, match="has entries already"):
        log.start_at(600)
