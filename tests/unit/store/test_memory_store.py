"""The in-memory engine: logs in order, old writers refused, nothing without a bound."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_actors.store import DeadLetter, Entry, LogTrimmed, MemoryStore, StaleEpoch, open_store
from twin_actors.store.memory import MOST_RECORDS


def entry(number: int) -> Entry:
    return Entry(entity=number, channel=0, source=0, received_at_s=float(number), payload=b"x" * number)


def letter(number: int) -> DeadLetter:
    return DeadLetter(topic=f"t/{number}", reason="not_json", detail="", payload=b"", received_at_s=float(number))


def test_engines_are_found_by_url() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    with pytest.raises(ValueError, match=r"'sqlite:city.db'.*'memory:'"):
        open_store("sqlite:city.db")


# -- logs ----------------------------------------------------------------------------------------------------------


def test_what_is_appended_is_read_at_its_offset() -> None:
    log = MemoryStore(first_offset=0).log("router")
    assert log.next_offset == 0
    assert log.append(1, [entry(0), entry(1)]) == 0
    assert log.append(1, []) == 2
    assert log.append(1, [entry(2)]) == 2
    assert log.next_offset == 3
    assert log.read(0, 10) == [(0, entry(0)), (1, entry(1)), (2, entry(2))]
    assert log.read(1, 1) == [(1, entry(1))]
    assert log.read(3, 10) == log.read(9, 10) == log.read(0, 0) == []


def test_a_share_always_finds_its_own_log() -> None:
    store = MemoryStore(first_offset=0)
    store.log("a").append(1, [entry(0)])
    assert store.log("a").next_offset == 1
    assert store.log("b").next_offset == 0


def test_offsets_do_not_start_again_after_a_trim() -> None:
    log = MemoryStore(first_offset=0).log("router")
    log.append(1, [entry(number) for number in range(5)])
    log.trim(3)
    assert log.read(3, 10) == [(3, entry(3)), (4, entry(4))]
    assert log.append(1, [entry(5)]) == 5
    with pytest.raises(LogTrimmed, match="offset 2 was trimmed; the log begins at 3"):
        log.read(2, 1)
    log.trim(2)  # that is gone already
    assert log.read(3, 1) == [(3, entry(3))]
    log.trim(99)  # no further than there is
    assert (log.next_offset, log.held_bytes) == (6, 0)


@settings(deadline=None, max_examples=50, database=None)
@given(
    st.lists(st.one_of(st.integers(0, 4).map(lambda n: ("append", n)), st.integers(0, 30).map(lambda n: ("trim", n))))
)
def test_a_log_is_the_end_of_everything_that_was_appended(steps: list[tuple[str, int]]) -> None:
    log = MemoryStore(first_offset=0).log("router")
    everything: list[Entry] = []
    first = 0
    for what, number in steps:
        if what == "append":
            fresh = [entry(len(everything) + place) for place in range(number)]
            assert log.append(1, fresh) == len(everything)
            everything += fresh
        else:
            log.trim(number)
            first = max(first, min(number, len(everything)))
        assert log.next_offset == len(everything)
        assert log.read(first, 1000) == list(enumerate(everything))[first:]
        assert log.held_bytes >= sum(len(each.payload) for each in everything[first:])
        assert (log.held_bytes == 0) == (first == len(everything))


def test_a_writer_of_an_older_epoch_is_refused() -> None:
    log = MemoryStore(first_offset=0).log("router")
    log.append(1, [entry(0)])
    log.append(2, [entry(1)])
    with pytest.raises(StaleEpoch, match="epoch 2, refused epoch 1"):
        log.append(1, [entry(2)])
    assert log.next_offset == 2
    assert log.append(2, [entry(2)]) == 2


# -- epochs and snapshots ------------------------------------------------------------------------------------------


def test_epochs_only_rise() -> None:
    store = MemoryStore(first_offset=0)
    assert [store.next_epoch("a"), store.next_epoch("a"), store.next_epoch("b")] == [1, 2, 1]


def test_the_newest_snapshot_is_kept() -> None:
    store = MemoryStore(first_offset=0)
    assert store.load_snapshot("a") is None
    store.save_snapshot("a", 1, 10, b"ten")
    store.save_snapshot("a", 1, 20, b"twenty")
    assert store.load_snapshot("a") == (1, 20, b"twenty")
    assert store.load_snapshot("b") is None


def test_an_older_snapshot_of_the_same_epoch_changes_nothing() -> None:
    store = MemoryStore(first_offset=0)
    store.save_snapshot("a", 1, 20, b"twenty")
    store.save_snapshot("a", 1, 10, b"ten")  # arrives late; the log behind 20 may be gone
    assert store.load_snapshot("a") == (1, 20, b"twenty")


def test_a_snapshot_of_an_older_epoch_is_refused() -> None:
    store = MemoryStore(first_offset=0)
    store.save_snapshot("a", 2, 5, b"new")
    with pytest.raises(StaleEpoch, match="a: snapshot of epoch 1 refused, epoch 2 wrote last"):
        store.save_snapshot("a", 1, 50, b"old")
    store.save_snapshot("a", 3, 1, b"newer")
    assert store.load_snapshot("a") == (3, 1, b"newer")


# -- records -------------------------------------------------------------------------------------------------------


def test_the_last_records_come_oldest_first() -> None:
    store = MemoryStore(first_offset=0)
    store.record("decisions", [{"n": 1}, {"n": 2}])
    store.record("decisions", [{"n": 3}])
    assert store.records("decisions", 2) == [{"n": 2}, {"n": 3}]
    assert store.records("decisions", 9) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert store.records("decisions", 0) == store.records("commands", 5) == []


def test_the_last_dead_letters_come_oldest_first() -> None:
    store = MemoryStore(first_offset=0)
    store.add_dead_letters([letter(1), letter(2)])
    store.add_dead_letters([letter(3)])
    assert store.dead_letters(2) == [letter(2), letter(3)]
    assert store.dead_letters(0) == []


def test_records_and_dead_letters_are_bounded() -> None:
    store = MemoryStore(first_offset=0)
    for start in range(0, MOST_RECORDS + 50, 50):
        store.record("decisions", [{"n": number} for number in range(start, start + 50)])
    store.add_dead_letters([letter(number) for number in range(MOST_RECORDS + 7)])
    assert len(store.records("decisions", 10**9)) == len(store.dead_letters(10**9)) == MOST_RECORDS
    assert store.records("decisions", 1) == [{"n": MOST_RECORDS + 49}]
    assert store.dead_letters(10**9)[0] == letter(7)
