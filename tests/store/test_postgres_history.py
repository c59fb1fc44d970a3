"""Housekeeping in PostgreSQL: partitions dropped, oldest entries deleted, rolled up once whatever dies in between."""

from __future__ import annotations

import itertools
import secrets
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from twin_actors.store import Entry, LogTrimmed, StoreUnavailable
from twin_actors.store.backup import backup, restore
from twin_actors.store.history import Resolution, Retention, Values
from twin_actors.store.postgres import PostgresStore
from twin_actors.store.verify import verify
from twin_actors.testing.live import eventually
from twin_actors.testing.postgres import PostgresServer

DAY_S = 86_400.0
FOREVER = Retention(raw_s=1e9, minute_s=1e9, hour_s=1e9)


@pytest.fixture
def schema() -> str:
    return f"city_{secrets.token_hex(4)}"


@pytest.fixture
def store(postgres: PostgresServer, schema: str) -> Iterator[PostgresStore]:
    store = PostgresStore(postgres.url(schema), segment_entries=1000)
    yield store
    store.close()


def entry(number: int, pace_s: float = 7.0) -> Entry:
    return Entry(number % 3, 0, 1, number * pace_s, str(float(number * 37 % 101)).encode())


def decode(entries: Sequence[tuple[int, Entry]]) -> Iterable[Values]:
    """A payload is one number, of the field ``x`` and, negated, of the field ``y``."""
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for _, each in entries:
        found[each.entity].append((each.received_at_s, float(each.payload)))
    for entity, pairs in found.items():
        at_s, values = np.array(pairs).T
        yield Values(entity, "x", at_s, values)
        yield Values(entity, "y", at_s, -values)


def check_rollups(store: PostgresStore, count: int) -> None:
    """Every bucket against the entries it was made from."""
    log = store.log("router")
    for entity, resolution in itertools.product(range(3), Resolution):
        buckets: dict[float, list[float]] = defaultdict(list)
        for each in map(entry, range(count)):
            if each.entity == entity:
                buckets[each.received_at_s // resolution.width_s * resolution.width_s].append(float(each.payload))
        found = log.rollup(entity, "x", resolution=resolution)
        assert found.at_s.tolist() == sorted(buckets)
        expected = [buckets[at_s] for at_s in sorted(buckets)]
        assert found.count.tolist() == [len(each) for each in expected]
        assert found.minimum.tolist() == [min(each) for each in expected]
        assert found.maximum.tolist() == [max(each) for each in expected]
        assert found.last.tolist() == [each[-1] for each in expected]
        np.testing.assert_allclose(found.mean, [np.mean(each) for each in expected], rtol=1e-12)
        assert log.rollup(entity, "y", resolution=resolution).minimum.tolist() == [-max(each) for each in expected]


def test_only_what_was_trimmed_is_rolled_up_and_each_entry_once(store: PostgresStore) -> None:
    log = store.log("router")
    log.append(1, [entry(number) for number in range(2500)])
    assert store.tidy(0.0, FOREVER, decode).rolled_entries == 0
    log.trim(1300)
    assert store.tidy(0.0, FOREVER).rolled_entries == 0  # nobody can read them
    assert store.tidy(0.0, FOREVER, decode).rolled_entries == 1300
    check_rollups(store, 1300)
    log.trim(2500)
    assert store.tidy(0.0, FOREVER, decode).rolled_entries == 1200
    assert store.tidy(0.0, FOREVER, decode).rolled_entries == 0
    check_rollups(store, 2500)
    some = log.rollup(0, "x", since_s=120.0, until_s=240.0)
    assert some.at_s.tolist() == [120.0, 180.0]
    assert log.rollup(0, "z").at_s.tolist() == log.rollup(9, "x").at_s.tolist() == []


def test_a_tidying_that_fails_in_the_middle_leaves_nothing_half_done(store: PostgresStore) -> None:
    log = store.log("router")
    log.append(1, [entry(number) for number in range(400)])
    log.trim(400)

    def poisoned(entries: Sequence[tuple[int, Entry]]) -> Iterable[Values]:
        yield from decode(entries)
        raise RuntimeError("a decoder's own error")

    with pytest.raises(RuntimeError, match="own error"):
        store.tidy(0.0, FOREVER, poisoned)
    assert log.rollup(0, "x").at_s.tolist() == []
    store.tidy(0.0, FOREVER, decode)
    check_rollups(store, 400)


def test_a_server_killed_while_rolling_up_leaves_each_entry_counted_once(
    store: PostgresStore, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twin_actors.store.postgres.tidying.ROLLED_AT_ONCE", 100)
    log = store.log("router")
    log.append(1, [entry(number) for number in range(1000)])
    log.trim(1000)
    calls = 0

    def deadly(entries: Sequence[tuple[int, Entry]]) -> Iterable[Values]:
        nonlocal calls
        calls += 1
        if calls == 4:
            postgres.stop(immediate=True)
        return decode(entries)

    with pytest.raises(StoreUnavailable):
        store.tidy(0.0, FOREVER, deadly)
    postgres.start()
    assert store.tidy(0.0, FOREVER, decode).rolled_entries == 700
    check_rollups(store, 1000)


def test_two_tidyings_at_once_count_each_entry_once(
    store: PostgresStore, postgres: PostgresServer, schema: str
) -> None:
    log = store.log("router")
    log.append(1, [entry(number) for number in range(500)])
    log.trim(500)
    inside, finish = threading.Event(), threading.Event()

    def slow(entries: Sequence[tuple[int, Entry]]) -> Iterable[Values]:
        inside.set()
        assert finish.wait(30.0)
        return decode(entries)

    first = threading.Thread(target=store.tidy, args=(0.0, FOREVER, slow))
    first.start()
    assert inside.wait(30.0)
    other = PostgresStore(postgres.url(schema))
    tidied = other.tidy(0.0, FOREVER, decode)
    log.append(1, [entry(500)])  # appends do not wait for a tidying
    finish.set()
    first.join(30.0)
    other.close()
    assert "another process is tidying" in tidied.note
    assert tidied.rolled_entries == 0
    check_rollups(store, 500)


def test_full_partitions_are_dropped_when_all_in_them_is_too_old(
    store: PostgresStore, postgres: PostgresServer, schema: str
) -> None:
    log = store.log("router")
    log.append(1, [entry(number, pace_s=1.0) for number in range(4500)])
    retention = Retention(raw_s=100_000.0, minute_s=1e9, hour_s=1e9)
    assert store.tidy(102_500.0, retention).forgotten_entries == 0  # a recovery may need them
    log.trim(1500)
    assert store.tidy(102_500.0, retention).forgotten_entries == 1000
    log.trim(4500)
    assert store.tidy(102_500.0, retention).forgotten_entries == 1000
    assert log.kept_from == 2000
    tables = postgres.execute(
        f"SELECT count(*) FROM pg_class WHERE relname ~ '^entries_1_[0-9]+$' AND "
        f"relnamespace = '{schema}'::regnamespace"
    )
    assert tables == [(3,)]
    with pytest.raises(LogTrimmed, match="begins at 2000"):
        log.read(1999, 10)
    assert [offset for offset, _ in log.read(2000, 10**6)] == list(range(2000, 4500))
    assert log.append(1, [entry(4500)]) == 4500


def test_a_partition_over_a_long_time_loses_its_oldest_entries_one_by_one(store: PostgresStore) -> None:
    log = store.log("router")
    log.append(1, [entry(number, pace_s=DAY_S) for number in range(60)])
    log.trim(40)
    retention = Retention(raw_s=30 * DAY_S, minute_s=1e9, hour_s=1e9)
    assert store.tidy(45 * DAY_S, retention).forgotten_entries == 15
    assert store.tidy(45 * DAY_S, retention).forgotten_entries == 0
    assert log.kept_from == 15
    assert log.read_of(0)[0][0] == 15
    assert store.tidy(80 * DAY_S, retention).forgotten_entries == 25  # no further than what was trimmed
    assert log.kept_from == 40


def test_rollups_end_with_their_own_retention(store: PostgresStore) -> None:
    log = store.log("router")
    log.append(1, [entry(number, pace_s=60.0) for number in range(600)])
    log.trim(600)
    store.tidy(0.0, FOREVER, decode)
    before = log.rollup(0, "x"), log.rollup(0, "x", resolution=Resolution.HOUR)
    tidied = store.tidy(36_000.0, Retention(raw_s=3600.0, minute_s=7200.0, hour_s=18_000.0), decode)
    minutes, hours = log.rollup(0, "x"), log.rollup(0, "x", resolution=Resolution.HOUR)
    assert minutes.at_s.tolist() == [at_s for at_s in before[0].at_s if at_s + 60 > 36_000.0 - 7200.0]
    assert hours.at_s.tolist() == [at_s for at_s in before[1].at_s if at_s + 3600 > 36_000.0 - 18_000.0]
    assert tidied.forgotten_rollups > 0
    assert tidied.forgotten_entries > 0


def test_old_hourly_snapshots_end_with_raw_history(store: PostgresStore) -> None:
    for hour in range(10):
        for minute in (0, 30):
            store.save_snapshot("actor", 1, hour * 60 + minute, b"%d" % hour, at_s=hour * 3600.0 + minute * 60.0)
    assert [snapshot.offset for snapshot in store.snapshots("actor")] == [570, 540, *range(510, 0, -60)]
    tidied = store.tidy(10 * 3600.0, Retention(raw_s=5 * 3600.0, minute_s=1e9, hour_s=1e9))
    assert tidied.forgotten_snapshots == 5
    assert store.load_snapshot("actor", at_s=5 * 3600.0) is None
    kept = store.load_snapshot("actor", at_s=5 * 3600.0 + 1800.0)
    assert kept is not None
    assert kept.offset == 330


def test_a_damaged_snapshot_is_passed_over(store: PostgresStore, postgres: PostgresServer, schema: str) -> None:
    store.save_snapshot("actor", 1, 10, b"older", at_s=1.0)
    store.save_snapshot("actor", 1, 20, b"newer", at_s=2.0)
    postgres.execute(f"UPDATE {schema}.snapshots SET blob = 'newfr' WHERE log_offset = 20")
    saved = store.load_snapshot("actor")
    assert saved is not None
    assert saved.blob == b"older"


def test_what_is_erased_leaves_no_schema_and_may_be_begun_anew(
    store: PostgresStore, postgres: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twin_actors.store.postgres.log.SEGMENTS_AT_ONCE", 2)
    store.log("router").append(1, [entry(number) for number in range(4500)])
    assert len(store.log("router").read_of(0)) == 1500  # in three statements
    store.erase()
    assert postgres.execute(f"SELECT to_regnamespace('{schema}')") == [(None,)]
    again = PostgresStore(postgres.url(schema))
    assert again.log("router").next_offset == 0
    again.close()


def test_rolled_up_history_is_backed_up_in_one_state_and_comes_back(
    store: PostgresStore, postgres: PostgresServer, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twin_actors.store.postgres.rolled.PAGE", 100)
    log = store.log("router")
    log.append(1, [entry(number) for number in range(2500)])
    log.trim(1500)
    store.tidy(0.0, FOREVER, decode)
    until, parts = log.rolled()
    assert until == 1500
    first = next(parts)
    log.trim(2500)
    store.tidy(0.0, FOREVER, decode)  # meanwhile
    assert sum(len(part) for _, part in (first, *parts)) < sum(len(part) for _, part in log.rolled()[1])
    retention = Retention(raw_s=5000.0, minute_s=1e9, hour_s=1e9)
    assert store.tidy(15_000.0, retention, decode).forgotten_entries > 0  # what is left is in the buckets only
    backup(store, tmp_path / "backup")
    url = postgres.url(f"{schema}_again")
    restore(tmp_path / "backup", url)
    again = PostgresStore(url)
    assert again.tidy(0.0, FOREVER, decode).rolled_entries == 0
    check_rollups(again, 2500)
    again.log("router").append(1, [entry(2500)])
    again.log("router").trim(2501)
    assert again.tidy(0.0, FOREVER, decode).rolled_entries == 1
    check_rollups(again, 2501)
    assert verify(again, decode=decode).findings == []
    again.close()


def test_a_look_that_is_not_finished_leaves_no_connection(
    store: PostgresStore, postgres: PostgresServer, schema: str
) -> None:
    store.log("router").append(1, [entry(0)])
    _, parts = store.log("router").rolled()
    del parts
    sessions = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'twin-actors {schema} beside'"
    eventually(lambda: postgres.execute(sessions) == [(0,)])


def test_a_dump_of_the_server_s_own_tools_comes_back_whole(
    store: PostgresStore, postgres: PostgresServer, schema: str, tmp_path: Path
) -> None:
    tools = [postgres.binaries / name for name in ("pg_dump", "pg_restore")]
    if not all(tool.exists() for tool in tools):
        pytest.skip("pg_dump and pg_restore are not installed beside the server")
    log = store.log("router")
    epoch = store.next_epoch("router")
    log.append(epoch, [entry(number) for number in range(2500)])
    log.trim(2000)
    store.tidy(0.0, FOREVER, decode)
    store.save_snapshot("actor", 1, 2400, b"state", at_s=7.0)
    store.record("decisions", [{"id": "dec-1"}])
    url, dump = postgres.url(), str(tmp_path / "city.dump")
    subprocess.run([tools[0], "--format=custom", f"--schema={schema}", f"--file={dump}", url], check=True)
    store.erase()
    subprocess.run([tools[1], f"--dbname={url}", dump], check=True)
    again = PostgresStore(postgres.url(schema), segment_entries=1000)
    assert again.log("router").read(0, 10_000) == [(number, entry(number)) for number in range(2500)]
    assert (
        again.log("router").append(again.next_epoch("router"), [entry(number) for number in range(2500, 3500)]) == 2500
    )
    assert again.log("other").append(1, [entry(0)]) == 0
    check_rollups(again, 2000)
    again.record("decisions", [{"id": "dec-2"}])
    assert [row["id"] for row in again.records("decisions", 9)] == ["dec-1", "dec-2"]
    assert verify(again, decode=decode).findings == []
    again.close()
