"""The embedded engine's history: sealed ranges, rolled-up buckets, retention; every step may be the last one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twin_actors.store import Entry, LogTrimmed, StoreDamaged, StoreUnavailable
from twin_actors.store.history import Resolution, Retention, Tidied, Values
from twin_actors.store.sqlite import SqliteStore, engine
from twin_actors.store.sqlite.sealing import Sealing

pytest.importorskip("pyarrow", reason="history needs the extra 'history'")

FOR_EVER = Retention(raw_s=1e12, minute_s=1e12, hour_s=1e12)
FORK = multiprocessing.get_context("fork")


def entry(number: int) -> Entry:
    payload = json.dumps({"ts": number * 10.0, "values": {"load_mw": number % 7, "tap": -number}}).encode()
    return Entry(entity=number % 5, channel=number % 2, source=3, received_at_s=number * 10.0, payload=payload)


def decode(entries: Sequence[tuple[int, Entry]]) -> Iterable[Values]:
    by_field: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
    for _, each in entries:
        told = json.loads(each.payload)
        for field, value in told["values"].items():
            by_field[each.entity, field].append((told["ts"], value))
    for (entity, field), said in by_field.items():
        at_s, values = np.array(said, float).T
        yield Values(entity, field, at_s, values)


def filled(folder: Path, count: int, *, group: int = 7) -> SqliteStore:
    store = SqliteStore(folder)
    log = store.log("router")
    for start in range(0, count, group):
        log.append(1, [entry(number) for number in range(start, min(start + group, count))])
    return store


def sealing(store: SqliteStore, **options: object) -> Sealing:
    """Sealing in small parts: up to 50 entries or 10 minutes in a file."""
    options = {"largest_entries": 50, "longest_s": 600.0} | options
    return Sealing("router", store._log_file("router"), store.folder / "history-router", **options)  # type: ignore[arg-type]


def tidy(store: SqliteStore, now_s: float, retention: Retention = FOR_EVER, **options: object) -> Tidied:
    report = Tidied()
    sealing(store, **options).tidy(now_s, retention, decode, report)
    return report


def holds(store: SqliteStore, count: int, *, since: int = 0) -> None:
    """The log holds exactly the entries since … count − 1, however it is asked."""
    log = store.log("router")
    everything = [(number, entry(number)) for number in range(since, count)]
    assert log.next_offset == count
    assert log.kept_from == since
    assert log.read(since, 10**6) == everything
    for first in range(since, count, 17):
        assert log.read(first, 13) == everything[first - since :][:13]
    for entity in range(-1, 6):
        of_it = [each for each in everything if each[1].entity == entity]
        assert log.read_of(entity) == of_it
        assert log.read_of(entity, since_s=700.0, until_s=1500.0, first=60) == [
            each for each in of_it if 700.0 <= each[1].received_at_s < 1500.0 and each[0] >= 60
        ]


def test_what_is_sealed_reads_as_before(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 300)
    store.log("router").trim(200)
    report = tidy(store, now_s=3000.0)
    assert report.sealed_files == 4
    assert report.sealed_entries == report.rolled_entries == 196  # whole groups before the trim
    files = sorted(path.name for path in (store.folder / "history-router").glob("*.parquet"))
    assert sum(name.startswith("entries-") for name in files) == 4
    (left,) = store._log_file("router").rows("SELECT min(first), count(*) FROM groups")[0:1]
    assert left == (196, 15)
    holds(store, 300)
    assert store.log("router").append(1, [entry(300)]) == 300
    holds(store, 301)
    again = tidy(store, now_s=3000.0)
    assert (again.sealed_entries, again.rolled_entries, again.forgotten_entries) == (0, 0, 0)


def test_few_entries_wait_until_they_are_old(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 30, group=10)
    store.log("router").trim(30)
    assert tidy(store, now_s=300.0).sealed_entries == 0
    assert tidy(store, now_s=1000.0).sealed_entries == 30
    holds(store, 30)


def test_a_log_that_is_sealed_to_its_end_goes_on(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 100)
    store.log("router").trim(100)
    tidy(store, now_s=1e6)
    assert store.log("router").held_bytes == 0
    store.close()
    again = SqliteStore(tmp_path / "store")
    assert again.log("router").next_offset == 100
    assert again.log("router").append(1, [entry(100)], 100) == 100
    assert again.log("router").append(1, [entry(100)], 100) == 100
    holds(again, 101)


def test_only_one_process_tidies_at_a_time(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 100)
    store.log("router").trim(100)
    nested: list[Tidied] = []

    def meanwhile(step: str) -> None:
        if not nested:
            nested.append(tidy(SqliteStore(tmp_path / "store"), now_s=1e6))

    assert tidy(store, now_s=1e6, reached=meanwhile).sealed_entries == 100
    assert nested[0].sealed_entries == 0
    assert "another process" in nested[0].note
    holds(store, 100)


def test_an_append_between_any_two_steps_is_kept(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 200)
    store.log("router").trim(150)
    router = SqliteStore(tmp_path / "store")
    appended = 200
    steps: list[str] = []

    def meanwhile(step: str) -> None:
        nonlocal appended
        steps.append(step)
        assert router.log("router").append(1, [entry(appended)], appended) == appended
        appended += 1
        holds(router, appended)

    tidy(store, now_s=1e6, reached=meanwhile)
    assert set(steps) == {"written", "recorded", "deleted", "rolled", "rolled recorded", "forgotten"}
    holds(store, appended)


def _tidy_and_die(folder: Path, step_number: int, retention: Retention) -> None:
    store = SqliteStore(folder)
    steps = 0

    def reached(step: str) -> None:
        nonlocal steps
        steps += 1
        if steps == step_number:
            os.kill(os.getpid(), signal.SIGKILL)

    tidy(store, 1e6, retention, reached=reached)
    os._exit(0)


def test_death_at_any_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """One store is tidied by processes that die ever later, and read between them."""
    folder = tmp_path / "store"
    filled(folder, 200).close()
    SqliteStore(folder).log("router").trim(150)
    whole = filled(tmp_path / "whole", 200)
    whole.log("router").trim(150)
    tidy(whole, 1e6)
    for step in range(1, 100):
        child = FORK.Process(target=_tidy_and_die, args=(folder, 1 + step % 3, FOR_EVER))
        child.start()
        child.join(timeout=60)
        assert child.exitcode in (0, -signal.SIGKILL)
        store = SqliteStore(folder)
        holds(store, 200)
        store.close()
        if child.exitcode == 0:
            break
    else:
        pytest.fail("tidying never ended")
    store = SqliteStore(folder)
    for resolution in Resolution:
        for entity in range(5):
            mine = store.log("router").rollup(entity, "load_mw", resolution=resolution)
            other = whole.log("router").rollup(entity, "load_mw", resolution=resolution)
            for name in mine.__slots__:
                np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))
    recorded = {
        name for (name,) in store._log_file("router").rows("SELECT file FROM sealed UNION SELECT file FROM rollups")
    }
    tidy(store, 1e6)
    assert {path.name for path in (folder / "history-router").iterdir()} == recorded | {"tidying.lock"}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 40)),
        st.tuples(st.just("trim"), st.integers(0, 300)),
        st.tuples(st.just("tidy"), st.integers(0, 4000)),
        st.tuples(st.just("forget"), st.integers(0, 4000)),
        st.tuples(st.just("open again"), st.just(0)),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_log_is_all_that_was_appended_less_what_retention_took(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("log") / "store"
    store = SqliteStore(folder)
    count = since = trimmed = 0
    for what, number in steps:
        log = store.log("router")
        if what == "append":
            assert log.append(1, [entry(count + place) for place in range(number)], count) == count
            count += number
        elif what == "trim":
            log.trim(number)
            trimmed = max(trimmed, min(number, count))
        elif what in ("tidy", "forget"):
            raw_s = 1000.0 if what == "forget" else 1e12
            report = tidy(store, float(number), Retention(raw_s=raw_s, minute_s=1e12, hour_s=1e12))
            assert report.rolled_entries == report.sealed_entries
            since += report.forgotten_entries
            assert since <= trimmed  # what no snapshot covers is never taken
            assert since == 0 or entry(since - 1).received_at_s < 4000.0 - 1000.0
        else:
            store.close()
            store = SqliteStore(folder)
        holds(store, count, since=since)
    rolled = sum(store.log("router").rollup(entity, "tap").count.sum() for entity in range(5))
    (sealed,) = store._log_file("router").rows("SELECT coalesce(sum(count), 0) FROM sealed") or [(0,)]
    assert rolled == sealed[0] + since
    store.close()


# -- rolling up ----------------------------------------------------------------------------------------------------


def truth(readings: list[tuple[int, float, float]], entity: int, width_s: int) -> list[tuple[float, ...]]:
    """Buckets by the plainest means: (begin, count, minimum, mean, maximum, last)."""
    buckets: dict[float, list[tuple[float, float]]] = defaultdict(list)
    for of, at_s, value in readings:
        if of == entity:
            buckets[at_s // width_s * width_s].append((at_s, value))
    found = []
    for begin, said in sorted(buckets.items()):
        values = [value for _, value in said]
        last = max(enumerate(said), key=lambda each: (each[1][0], each[0]))[1][1]
        found.append((begin, len(values), min(values), sum(values) / len(values), max(values), last))
    return found


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    readings=st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 9000).map(lambda tenths: tenths / 1.0), st.integers(-50, 50).map(float)
        ),
        min_size=1,
        max_size=60,
    ),
    group=st.integers(1, 9),
    largest=st.integers(5, 30),
    resolution=st.sampled_from(Resolution),
)
def test_buckets_are_those_of_all_readings_however_they_were_sealed(
    tmp_path_factory: pytest.TempPathFactory,
    readings: list[tuple[int, float, float]],
    group: int,
    largest: int,
    resolution: Resolution,
) -> None:
    """Readings come late and in any order, and fall into several files: each bucket is as if computed at once."""
    store = SqliteStore(tmp_path_factory.mktemp("rolled") / "store")
    log = store.log("router")
    entries = [
        Entry(entity, 0, 0, float(number), json.dumps({"ts": at_s, "values": {"v": value}}).encode())
        for number, (entity, at_s, value) in enumerate(readings)
    ]
    for start in range(0, len(entries), group):
        log.append(1, entries[start : start + group])
    log.trim(len(entries) // 2)
    tidy(store, 1e6, largest_entries=largest)
    log.trim(len(entries))
    tidy(store, 1e6, largest_entries=largest)
    for entity in range(3):
        expected = truth(readings, entity, resolution.width_s)
        rolled = log.rollup(entity, "v", resolution=resolution)
        found = zip(rolled.at_s, rolled.count, rolled.minimum, rolled.mean, rolled.maximum, rolled.last, strict=True)
        assert [tuple(map(float, each)) for each in found] == [pytest.approx(each, rel=1e-12) for each in expected]
    assert len(log.rollup(0, "unheard of").at_s) == 0
    within = log.rollup(0, "v", since_s=600.0, until_s=6000.0)
    assert all(600.0 <= at_s < 6000.0 for at_s in within.at_s)
    store.close()


def test_the_many_files_of_past_days_become_few(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 1000)
    log = store.log("router")
    log.trim(1000)
    tidy(store, now_s=10_700.0)
    before = {each: log.rollup(2, "tap", resolution=each) for each in Resolution}
    files = store._log_file("router").rows("SELECT count(*) FROM rollups")
    report = tidy(store, now_s=10_000.0 + 2 * 86400)
    assert report.note == ""
    assert files[0][0] > 30
    assert store._log_file("router").rows("SELECT count(*) FROM rollups") == [(2,)]
    for resolution, rolled in before.items():
        merged = log.rollup(2, "tap", resolution=resolution)
        for name in rolled.__slots__:
            np.testing.assert_allclose(getattr(merged, name), getattr(rolled, name), rtol=1e-12)


def test_a_decoder_that_raises_leaves_the_range_for_later(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 100)
    store.log("router").trim(100)

    def broken(entries: Sequence[tuple[int, Entry]]) -> Iterable[Values]:
        raise ArithmeticError("a model's fault")

    with pytest.raises(ArithmeticError):
        sealing(store).tidy(1e6, FOR_EVER, broken, Tidied())
    holds(store, 100)
    assert tidy(store, 1e6).rolled_entries == 100


# -- retention -----------------------------------------------------------------------------------------------------


def test_retention_ends_the_finer_before_the_coarser(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 700)  # 7,000 seconds
    log = store.log("router")
    log.trim(700)
    tidy(store, 7000.0 + 600.0)
    report = tidy(store, 10_000.0, Retention(raw_s=5000.0, minute_s=6000.0, hour_s=1e9))
    assert report.forgotten_entries > 0
    assert report.forgotten_rollups > 0
    first = log.kept_from
    assert first == report.forgotten_entries
    # nothing younger than the retention has gone, and what has gone says so
    assert 10_000.0 - 5000.0 - 600.0 <= entry(first).received_at_s <= 10_000.0 - 5000.0
    assert log.read(first, 10**6) == [(number, entry(number)) for number in range(first, 700)]
    with pytest.raises(LogTrimmed, match=f"offset 0 is older than retention; the log begins at {first}"):
        log.read(0, 10)
    assert log.rollup(1, "tap").at_s.min() >= 10_000.0 - 6000.0 - 1200.0
    assert log.rollup(1, "tap", resolution=Resolution.HOUR).count.sum() == 140
    assert len(log.read_of(1)) == len(range(first, 700)) // 5
    assert log.append(1, [entry(700)]) == 700


def test_retention_must_rise() -> None:
    with pytest.raises(ValueError, match="the coarser outlives the finer"):
        Retention(raw_s=100.0, minute_s=50.0, hour_s=1000.0)


def test_a_store_tidies_its_snapshots_and_letters_too(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 10)
    for number in range(10):
        store.save_snapshot("a", 1, number, b"", at_s=3600.0 * number)
    assert len(list(store.snapshots("a"))) == 10
    report = store.tidy(36_000.0, Retention(raw_s=3 * 3600.0, minute_s=1e9, hour_s=1e9))
    assert report.forgotten_snapshots == 7
    assert [each.offset for each in store.snapshots("a")] == [9, 8, 7]
    # the newest two stay, however old they are
    store.tidy(1e9, Retention(raw_s=1.0, minute_s=1e9, hour_s=1e9))
    assert [each.offset for each in store.snapshots("a")] == [9, 8]


def test_without_parquet_a_log_keeps_everything_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = filled(tmp_path / "store", 100)
    store.log("router").trim(100)
    monkeypatch.setattr(engine, "can_keep_history", lambda: False)
    for _ in range(3):
        report = store.tidy(1e9, Retention(raw_s=1.0, minute_s=1.0, hour_s=1.0), decode)
        assert "pip install 'twin-actors[history]'" in report.note
        assert (report.sealed_entries, report.forgotten_entries) == (0, 0)
    assert caplog.text.count("twin-actors[history]") == 1
    holds(store, 100)


def test_a_disk_that_refuses_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 100)
    store.log("router").trim(100)
    (store.folder / "history-router").touch()  # a file where the folder should be
    with pytest.raises(StoreUnavailable, match="history-router cannot be tidied"):
        tidy(store, 1e6)
    holds(store, 100)
    (store.folder / "history-router").unlink()
    assert tidy(store, 1e6).sealed_entries == 100
    holds(store, 100)


# -- damage --------------------------------------------------------------------------------------------------------


def test_a_damaged_file_of_history_is_named(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", 100)
    store.log("router").trim(100)
    tidy(store, 1e6)
    path = next((store.folder / "history-router").glob("entries-*"))
    whole = path.read_bytes()
    everything = [(number, entry(number)) for number in range(100)]
    noticed = 0
    for place in range(0, len(whole), len(whole) // 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        again = SqliteStore(store.folder)
        try:
            found = again.log("router").read(0, 100)
        except StoreDamaged as damage:
            noticed += path.name in str(damage)
        else:
            assert found == everything  # a byte that nobody reads
        again.close()
    assert noticed > 30
    path.unlink()
    with pytest.raises(StoreDamaged, match="is missing"):
        SqliteStore(store.folder).log("router").read(0, 100)
    with store._log_file("router").write() as connection:
        connection.execute("UPDATE sealed SET rolled = 0")
    with pytest.raises(StoreDamaged, match="is missing"):
        tidy(store, 1e6)
