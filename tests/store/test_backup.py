"""Backups: everything comes back, in either engine, and nothing that is damaged passes for whole."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.places import Place
from twin_actors.store import DeadLetter, Entry, LetterState, Store, StoreDamaged, open_store
from twin_actors.store.backup import backup, restore
from twin_actors.store.history import Resolution, Retention, Values
from twin_actors.store.verify import verify

FORK = multiprocessing.get_context("fork")


def entry(number: int) -> Entry:
    return Entry(number % 3, 0, 1, 600.0 * number, json.dumps({"v": number}).encode())


def decode(entries: Sequence[tuple[int, Entry]]) -> Iterable[Values]:
    for _, each in entries:
        yield Values(each.entity, "v", np.array([each.received_at_s]), np.array([json.loads(each.payload)["v"]], float))


def follows(name: str) -> str | None:
    return "router" if name.startswith("twins") else None


def fill(store: Store, count: int = 100) -> None:
    for name in ("router", "twins-0", "aggregator"):
        store.next_epoch(name)
    log = store.log("router")
    for start in range(0, count, 9):
        log.append(1, [entry(number) for number in range(start, min(start + 9, count))])
    for number in range(0, count, 20):
        store.save_snapshot("twins-0", 1, number, b"%d" % number, at_s=600.0 * number)
    store.save_snapshot("aggregator", 1, 10**9, b"tick", at_s=1.0)
    letter = DeadLetter(
        topic="t", reason="range", detail="é", payload=b"\xff", received_at_s=1.0, share="router", offset=4
    )
    store.add_dead_letters([letter, replace(letter, element=1)])
    store.settle_dead_letter(store.dead_letters(9)[0].id, LetterState.DISCARDED)
    store.record("decisions", [{"id": "d-1", "cost": 1.5, "n": 2**60, "é": [None, True]}, {"note": "no id"}])
    store.put("placement", b"\x00\x01")


def assert_same(one: Store, other: Store) -> None:
    assert other.epochs() == one.epochs()
    assert other.shares() == one.shares()
    for share in one.shares():
        mine, theirs = one.log(share), other.log(share)
        assert (theirs.kept_from, theirs.next_offset) == (mine.kept_from, mine.next_offset)
        assert theirs.read(mine.kept_from, 10**6) == mine.read(mine.kept_from, 10**6)
        assert theirs.read_of(1) == mine.read_of(1)
    assert other.snapshot_names() == one.snapshot_names()
    for name in one.snapshot_names():
        assert other.load_snapshot(name) == one.load_snapshot(name)
        assert [each.offset for each in other.snapshots(name)] == [each.offset for each in one.snapshots(name)]
    assert [replace(each, id=0) for each in other.dead_letters(99)] == [
        replace(each, id=0) for each in one.dead_letters(99)
    ]
    assert other.tables() == one.tables()
    for table in one.tables():
        assert other.records(table, 99) == one.records(table, 99)
    assert {key: other.get(key) for key in other.keys() if key != "restore"} == {  # noqa: SIM118  # a store is no dict
        key: one.get(key)
        for key in one.keys()  # noqa: SIM118
        if key != "restore"
    }


def test_a_backup_comes_back_in_every_engine(place: Place, durable_place: Place, tmp_path: Path) -> None:
    store = place.open()
    fill(store)
    manifest = backup(store, tmp_path / "backup")
    assert manifest.counts["log entries"] == 100
    assert verify(tmp_path / "backup", follows=follows, decode=decode).findings == []
    url = durable_place.url if durable_place.url != place.url else f"sqlite:{tmp_path / 'other'}"
    restore(tmp_path / "backup", url)
    restored = open_store(url)
    assert_same(store, restored)
    report = verify(restored, follows=follows, decode=decode)
    assert report.findings == []
    assert (report.entries, report.snapshots) == (100, len(list(restored.snapshots("twins-0"))) + 1)
    # the city goes on in it
    epoch = restored.next_epoch("router")
    assert epoch == 2
    assert restored.log("router").append(epoch, [entry(100)], 100) == 100
    restored.close()


def test_history_comes_back_and_is_not_rolled_up_twice(durable_place: Place, tmp_path: Path) -> None:
    """Raw readings that retention has deleted live on in their buckets; those still there are in them once."""
    pytest.importorskip("pyarrow", reason="history needs the extra 'history'")
    for_ever = Retention(raw_s=1e9, minute_s=1e9, hour_s=1e9)
    store = open_store(f"sqlite:{tmp_path / 'source'}")
    fill(store)
    store.log("router").trim(80)
    store.tidy(1e7, for_ever, decode)
    before = {each: store.log("router").rollup(1, "v", resolution=each) for each in Resolution}
    store.tidy(40_000.0, Retention(raw_s=20_000.0, minute_s=1e9, hour_s=1e9), decode)
    assert store.log("router").kept_from > 0
    backup(store, tmp_path / "backup")
    assert verify(tmp_path / "backup", follows=follows).findings == []
    restore(tmp_path / "backup", durable_place.url)
    other = durable_place.open()
    assert_same(store, other)
    other.log("router").trim(100)
    other.tidy(1e7, for_ever, decode)
    store.log("router").trim(100)
    store.tidy(1e7, for_ever, decode)
    for resolution in Resolution:
        mine, theirs = (each.log("router").rollup(1, "v", resolution=resolution) for each in (store, other))
        assert mine.count.sum() == len(range(1, 100, 3))
        assert before[resolution].count.sum() < mine.count.sum()
        for name in mine.__slots__:
            np.testing.assert_allclose(getattr(theirs, name), getattr(mine, name), rtol=1e-12)
    backup(other, tmp_path / "again")
    assert verify(tmp_path / "again").findings == []


def test_a_store_that_holds_something_is_not_overwritten(tmp_path: Path) -> None:
    urls = [f"sqlite:{tmp_path / name}" for name in ("one", "two")]
    one, two = map(open_store, urls)
    fill(one, 50)
    fill(two, 70)
    backup(one, tmp_path / "backup")
    two.close()
    with pytest.raises(ValueError, match="holds a city already"):
        restore(tmp_path / "backup", urls[1])
    restore(tmp_path / "backup", urls[1], replace=True)
    assert_same(one, open_store(urls[1]))
    with pytest.raises(ValueError, match="exists already: name a new folder"):
        backup(one, tmp_path / "backup")
    with pytest.raises(ValueError, match=r"is not a backup: it has no manifest\.json"):
        restore(tmp_path, urls[1], replace=True)


def _append_for_ever(url: str, going: object) -> None:
    store = open_store(url)
    log, epoch = store.log("router"), store.next_epoch("router")
    offset = log.next_offset
    while True:
        log.append(epoch, [entry(number) for number in range(offset, offset + 20)], offset)
        offset += 20
        store.save_snapshot("twins-0", 1, offset - 1, b"%d" % offset, at_s=600.0 * offset)
        store.record("decisions", [{"id": offset}])
        going.set()  # type: ignore[attr-defined]


def test_a_running_city_is_backed_up_as_of_one_moment(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'store'}"
    going = FORK.Event()
    city = FORK.Process(target=_append_for_ever, args=(url, going))
    city.start()
    try:
        assert going.wait(30)
        store = open_store(url)
        for turn in range(3):
            going.clear()
            manifest = backup(store, tmp_path / f"backup-{turn}")
            assert going.wait(30), "the city stood still during the backup"
            assert manifest.logs["router"].stop > 0
            assert verify(tmp_path / f"backup-{turn}", follows=follows, decode=decode).findings == []
    finally:
        city.kill()
        city.join(timeout=30)
    restore(tmp_path / "backup-2", f"sqlite:{tmp_path / 'other'}")
    assert verify(open_store(f"sqlite:{tmp_path / 'other'}"), follows=follows, decode=decode).findings == []


def test_no_changed_byte_of_a_backup_goes_unnoticed(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'store'}")
    fill(store)
    folder = tmp_path / "backup"
    backup(store, folder)
    for path in filter(Path.is_file, folder.rglob("*")):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(len(whole) // 7, 1)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            changed_json = path.suffix == ".json" and whole[place : place + 1].isspace()
            assert changed_json or verify(folder).findings
        if whole:
            path.write_bytes(whole[:-1])
            assert verify(folder).findings
        path.unlink()
        assert verify(folder).findings
        path.write_bytes(whole)
    assert verify(folder).findings == []


def test_a_restore_of_a_damaged_backup_fails_and_is_marked(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'store'}")
    fill(store)
    backup(store, tmp_path / "backup")
    path = tmp_path / "backup" / "records.blocks"
    path.write_bytes(path.read_bytes()[:-3])
    url = f"sqlite:{tmp_path / 'other'}"
    with pytest.raises(StoreDamaged, match=r"records\.blocks"):
        restore(tmp_path / "backup", url)
    (finding,) = verify(open_store(url)).findings
    assert "a restore was cut short" in finding


def test_what_is_wrong_with_a_store_is_listed(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'store'}")
    fill(store)
    store.save_snapshot("twins-1", 7, 5000, b"from the future")
    store.raise_epoch("twins-1", 2)

    def picky(entries: Sequence[tuple[int, Entry]]) -> Iterable[Values]:
        raise ArithmeticError("no such model")

    findings = verify(store, follows=follows, decode=picky).findings
    assert len(findings) == 3
    assert "log router: entries from offset 0 on cannot be decoded: ArithmeticError('no such model')" in findings
    assert "the snapshot of twins-1 at offset 5000 is ahead of its log router, which ends at 100" in findings
    assert "the snapshot of twins-1 at offset 5000 is of epoch 7, but epoch 2 is in force" in findings


def test_damaged_stretches_of_a_log_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'store'}")
    for start in range(0, 30_000, 1000):
        store.log("router").append(1, [entry(number) for number in range(start, start + 1000)])
    store.close()
    path = tmp_path / "store" / "log-router.sqlite"
    whole = path.read_bytes()
    for number in (12_345, 29_999):
        place = whole.index(b'{"v": %d}' % number)
        whole = whole[:place] + b"?" + whole[place + 1 :]
    path.write_bytes(whole)
    report = verify(open_store(f"sqlite:{tmp_path / 'store'}"))
    assert report.entries == 28_000
    assert "log router: the group at offset 12000 is damaged; restore it from a backup" in report.findings
    assert "log router: up to 1,000 entries from 12000 on cannot be read" in report.findings
    assert "log router: up to 1,000 entries from 29000 on cannot be read" in report.findings


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
PLAIN = st.integers(-(2**63), 2**63 - 1) | st.text(max_size=4)


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    groups=st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=9), max_size=5),
    rows=st.lists(st.dictionaries(st.text(max_size=4), PLAIN, max_size=3), max_size=9),
    keys=st.dictionaries(NAMES, st.binary(max_size=6), max_size=4),
    first=st.integers(0, 2**40),
)
def test_any_store_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    groups: list[list[bytes]],
    rows: list[dict[str, object]],
    keys: dict[str, bytes],
    first: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    store = open_store(f"sqlite:{folder / 'store'}")
    store.log("r/1").start_at(first)
    for group in groups:
        store.log("r/1").append(2, [Entry(len(payload), 1, 2, 3.0, payload) for payload in group])
    store.record("rows", rows)
    for key, value in keys.items():
        store.put(key, value)
    backup(store, folder / "backup")
    restore(folder / "backup", f"sqlite:{folder / 'other'}")
    other = open_store(f"sqlite:{folder / 'other'}")
    assert_same(store, other)
    assert other.records("rows", 999) == rows
    store.close()
    other.close()


def test_progress_is_told(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'store'}")
    fill(store)
    told: list[tuple[str, int, int]] = []
    backup(store, tmp_path / "backup", progress=lambda *each: told.append(each))
    assert ("log router", 100, 100) in told
    told.clear()
    thread = threading.Thread(
        target=restore,
        args=(tmp_path / "backup", f"sqlite:{tmp_path / 'other'}"),
        kwargs={"progress": lambda *each: told.append(each)},
    )
    thread.start()
    thread.join(timeout=60)
    assert ("log router", 100, 100) in told


def test_a_backup_that_retention_overtakes_begins_again(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="history needs the extra 'history'")
    store = open_store(f"sqlite:{tmp_path / 'store'}")
    fill(store)
    store.log("router").trim(100)
    short = Retention(raw_s=20_000.0, minute_s=1e12, hour_s=1e12)
    tidied: list[int] = []

    def meanwhile(what: str, done: int, of: int) -> None:
        if what == "registry" and not tidied:  # just before the log is read: seal, so that files can go away
            store.tidy(60_000.0, Retention(raw_s=1e12, minute_s=1e12, hour_s=1e12), decode)
            tidied.append(0)

    log = store.log("router")
    read = log.read

    def read_late(first: int, limit: int) -> list[tuple[int, Entry]]:
        if len(tidied) == 1:
            tidied.append(open_store(f"sqlite:{tmp_path / 'store'}").tidy(60_000.0, short, decode).forgotten_entries)
        return read(first, limit)

    log.read = read_late  # type: ignore[method-assign]
    manifest = backup(store, tmp_path / "backup", progress=meanwhile)
    assert tidied[1] > 0
    assert manifest.logs["router"].first == tidied[1]
    assert verify(tmp_path / "backup", decode=decode).findings == []


def test_a_backup_of_history_that_is_just_being_merged_reads_it_anew(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="history needs the extra 'history'")
    for_ever = Retention(raw_s=1e12, minute_s=1e12, hour_s=1e12)
    store = open_store(f"sqlite:{tmp_path / 'store'}")
    fill(store)
    log = store.log("router")
    log.trim(100)
    store.tidy(70_000.0, for_ever, decode)
    expected = log.rollup(1, "v", resolution=Resolution.HOUR)
    rolled, calls = log.rolled, []

    def merged_meanwhile() -> tuple[int, object]:
        found = rolled()
        calls.append(store.tidy(1e7, for_ever, decode) if not calls else None)  # every file of it goes away
        return found

    log.rolled = merged_meanwhile  # type: ignore[method-assign, assignment]
    backup(store, tmp_path / "backup")
    assert len(calls) == 2
    restore(tmp_path / "backup", f"sqlite:{tmp_path / 'other'}")
    restored = open_store(f"sqlite:{tmp_path / 'other'}").log("router").rollup(1, "v", resolution=Resolution.HOUR)
    np.testing.assert_array_equal(restored.count, expected.count)
    calls.clear()
    assert verify(store).findings == []
