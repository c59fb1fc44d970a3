"""What every engine promises for epochs, snapshots, dead letters, records and the registry."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.places import Place
from twin_actors.store import DeadLetter, LetterState, MemoryStore, Snapshot, StaleEpoch, Store, open_store
from twin_actors.store.memory import MOST_RECORDS


def letter(number: int, **changes: object) -> DeadLetter:
    made = DeadLetter(
        topic=f"t/{number}",
        reason="not_json",
        detail="",
        payload=bytes([number % 256]),
        received_at_s=float(number),
        share="router",
        offset=number,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def without_ids(letters: list[DeadLetter]) -> list[DeadLetter]:
    return [replace(each, id=0) for each in letters]


def test_engines_are_found_by_url() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    with pytest.raises(ValueError, match=r"'oracle:'.*'sqlite:/folder'.*'memory:'"):
        open_store("oracle:city")


# -- epochs and snapshots ------------------------------------------------------------------------------------------


def test_epochs_only_rise(any_store: Store) -> None:
    assert any_store.epoch("a") == 0
    assert [any_store.next_epoch(name) for name in ("a", "a", "b")] == [1, 2, 1]
    any_store.raise_epoch("a", 7)
    any_store.raise_epoch("a", 3)
    assert (any_store.epoch("a"), any_store.next_epoch("a")) == (7, 8)
    assert any_store.epochs() == {"a": 8, "b": 1}


def test_the_newest_snapshot_is_found(any_store: Store) -> None:
    assert any_store.load_snapshot("a") is None
    any_store.save_snapshot("a", 1, 10, b"ten", 100.0)
    any_store.save_snapshot("a", 1, 20, b"", 200.0)
    assert any_store.load_snapshot("a") == Snapshot(1, 20, 200.0, b"")
    assert any_store.load_snapshot("a", at_s=200.0) == Snapshot(1, 20, 200.0, b"")
    assert any_store.load_snapshot("b") is None
    assert any_store.snapshot_names() == ["a"]
    assert next(any_store.snapshots("a")) == Snapshot(1, 20, 200.0, b"")


def test_an_older_snapshot_changes_nothing(any_store: Store) -> None:
    any_store.save_snapshot("a", 1, 20, b"twenty")
    any_store.save_snapshot("a", 1, 10, b"ten")  # arrives late; what lies behind 20 may not be replayed any more
    any_store.save_snapshot("a", 2, 15, b"fifteen")
    newest = any_store.load_snapshot("a")
    assert newest is not None
    assert newest.blob == b"twenty"
    any_store.save_snapshot("a", 2, 20, b"again")
    newest = any_store.load_snapshot("a")
    assert newest is not None
    assert newest.blob == b"again"


def test_a_snapshot_of_an_older_incarnation_is_refused(any_store: Store) -> None:
    any_store.save_snapshot("a", 2, 5, b"new")
    with pytest.raises(StaleEpoch, match=r"a: .*snapshot of epoch 1 .*refused, epoch 2 wrote last"):
        any_store.save_snapshot("a", 1, 50, b"old")
    any_store.raise_epoch("a", 3)
    with pytest.raises(StaleEpoch, match="a: epoch 2 is refused, epoch 3 has taken over"):
        any_store.save_snapshot("a", 2, 50, b"old")
    any_store.save_snapshot("a", 3, 6, b"newer")
    newest = any_store.load_snapshot("a")
    assert newest is not None
    assert newest.blob == b"newer"


def test_older_snapshots_are_kept_for_the_past(durable_place: Place) -> None:
    store = durable_place.open()
    for number in range(300):  # five hours, one a minute; an engine may keep no more than the last of each hour
        store.save_snapshot("a", 1, number, b"%d" % number, at_s=60.0 * number)
    for moment, expected in {299 * 60.0: 299, 298 * 60.0: 298, 3 * 3600.0: 179, 3600.0: 59}.items():
        found = store.load_snapshot("a", at_s=moment)
        assert found is not None
        assert expected <= found.offset
        assert found.at_s <= moment
    assert store.load_snapshot("a", at_s=-1.0) is None


# -- dead letters --------------------------------------------------------------------------------------------------


def test_the_last_dead_letters_come_oldest_first(any_store: Store) -> None:
    assert any_store.dead_letters(5) == []
    any_store.add_dead_letters([letter(1), letter(2)])
    any_store.add_dead_letters([letter(3)])
    assert without_ids(any_store.dead_letters(2)) == [letter(2), letter(3)]
    assert any_store.dead_letters(0) == []
    ids = [each.id for each in any_store.dead_letters(9)]
    assert ids == sorted(set(ids))


def test_a_dead_letter_is_kept_once_by_its_place(any_store: Store) -> None:
    any_store.add_dead_letters([letter(1), letter(1), letter(1, element=1), letter(1, share="other")])
    any_store.add_dead_letters([letter(1)])
    assert len(any_store.dead_letters(9)) == 3
    nowhere = letter(1, share="", offset=-1)
    any_store.add_dead_letters([nowhere, nowhere])
    assert len(any_store.dead_letters(9)) == 5


def test_a_dead_letter_is_settled(any_store: Store) -> None:
    any_store.add_dead_letters([letter(1), letter(2, reason="range"), letter(3)])
    one = any_store.dead_letters(9)[0]
    any_store.settle_dead_letter(one.id, LetterState.REPLAYED)
    assert any_store.dead_letter(one.id) == replace(one, state=LetterState.REPLAYED)
    assert without_ids(any_store.dead_letters(9, state=LetterState.WAITING)) == [letter(2, reason="range"), letter(3)]
    assert without_ids(any_store.dead_letters(9, reason="range")) == [letter(2, reason="range")]
    assert any_store.dead_letters(9, state=LetterState.REPLAYED, reason="range") == []
    with pytest.raises(KeyError, match="no dead letter 999"):
        any_store.dead_letter(999)
    with pytest.raises(KeyError, match="no dead letter 999"):
        any_store.settle_dead_letter(999, LetterState.DISCARDED)


# -- records and registry ------------------------------------------------------------------------------------------


def test_the_last_records_come_oldest_first(any_store: Store) -> None:
    any_store.record("decisions", [{"n": 1}, {"n": 2}])
    any_store.record("decisions", [{"n": 3}])
    any_store.record("decisions", [])
    assert any_store.records("decisions", 2) == [{"n": 2}, {"n": 3}]
    assert any_store.records("decisions", 9) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert any_store.records("decisions", 0) == any_store.records("commands", 5) == []
    assert any_store.tables() == ["decisions"]


def test_a_row_with_an_id_replaces_the_earlier_one(any_store: Store) -> None:
    any_store.record("commands", [{"id": "a", "state": "sent"}, {"id": "b", "state": "sent"}])
    any_store.record("commands", [{"id": "a", "state": "done"}, {"id": 7}])
    any_store.record("other", [{"id": "a", "n": 1}, {"id": "a"}])
    assert any_store.records("commands", 9) == [
        {"id": "a", "state": "done"},
        {"id": "b", "state": "sent"},
        {"id": 7},
    ]
    assert any_store.records("other", 9) == [{"id": "a"}]


def test_records_of_an_older_incarnation_are_refused(any_store: Store) -> None:
    old = any_store.next_epoch("aggregator")
    any_store.record("decisions", [{"n": 1}], writer="aggregator", epoch=old)
    any_store.next_epoch("aggregator")
    with pytest.raises(StaleEpoch, match="aggregator: epoch 1 is refused, epoch 2 has taken over"):
        any_store.record("decisions", [{"n": 2}], writer="aggregator", epoch=old)
    assert any_store.records("decisions", 9) == [{"n": 1}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), JSON, max_size=4))
def test_any_plain_row_comes_back(any_store: Store, row: dict[str, object]) -> None:
    any_store.record("any", [row])
    assert row in any_store.records("any", 200)


def test_the_registry_keeps_the_newest_value(any_store: Store) -> None:
    assert any_store.get("a") is None
    any_store.put("placement/a_b", b"1")
    any_store.put("placement/a_b", b"\x00\xff")
    any_store.put("placement/c%", b"")
    any_store.put("other", b"3")
    assert any_store.get("placement/a_b") == b"\x00\xff"
    assert any_store.get("placement/c%") == b""
    assert any_store.keys("placement/") == ["placement/a_b", "placement/c%"]
    assert any_store.keys() == ["other", "placement/a_b", "placement/c%"]
    assert any_store.keys("placement/%") == []


def test_everything_is_there_when_it_is_opened_again(durable_place: Place) -> None:
    store = durable_place.open()
    store.next_epoch("a")
    store.save_snapshot("a", 1, 3, b"state", 5.0)
    store.add_dead_letters([letter(1)])
    store.record("decisions", [{"id": "d"}])
    store.put("key", b"value")
    store.close()
    again = durable_place.open()
    assert again.epoch("a") == 1
    assert again.load_snapshot("a") == Snapshot(1, 3, 5.0, b"state")
    assert without_ids(again.dead_letters(9)) == [letter(1)]
    assert again.records("decisions", 9) == [{"id": "d"}]
    assert again.get("key") == b"value"


def test_what_the_memory_engine_keeps_is_bounded() -> None:
    store = MemoryStore(first_offset=0)
    for start in range(0, MOST_RECORDS + 50, 50):
        store.record("decisions", [{"n": number} for number in range(start, start + 50)])
    store.add_dead_letters([letter(number) for number in range(MOST_RECORDS + 7)])
    assert len(store.records("decisions", 10**9)) == len(store.dead_letters(10**9)) == MOST_RECORDS
    assert store.records("decisions", 1) == [{"n": MOST_RECORDS + 49}]
    assert without_ids(store.dead_letters(10**9))[0] == letter(7)
