"""The PostgreSQL engine where it differs from its contract's other engines: locks, partitions, bytes, words."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twin_actors.store import (
    NOBODY,
    DeadLetter,
    Entry,
    StaleEpoch,
    StoreDamaged,
    StoreUnavailable,
    open_store,
)
from twin_actors.store.postgres import PostgresStore
from twin_actors.store.postgres.log import PostgresLog
from twin_actors.testing.live import eventually
from twin_actors.testing.postgres import PostgresServer

Open = Callable[..., PostgresStore]

payloads = st.binary(max_size=60) | st.sampled_from(
    [b"\0" * 9, b"a\nb\r\n\\N\t\\.\n", b"\xff\xff", b"PGCOPY\n\xff\r\n\0"]
)
entries = st.builds(
    Entry,
    entity=st.integers(NOBODY, 3) | st.just(2**31 - 1),
    channel=st.integers(0, 2),
    source=st.integers(0, 9),
    received_at_s=st.floats(0, 100) | st.floats(allow_nan=False, allow_infinity=False),
    payload=payloads,
)
ordinary = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def opened(postgres: PostgresServer) -> Iterator[Open]:
    """Open stores of one schema, new for each test."""
    schema = f"city_{secrets.token_hex(4)}"
    stores = []

    def open_one(**options: float) -> PostgresStore:
        stores.append(PostgresStore(postgres.url(schema), **options))  # type: ignore[arg-type]
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def entry(number: int) -> Entry:
    return Entry(number % 5, 0, 1, float(number), str(number).encode())


def shown_schema(store: PostgresStore, words: str = "{}") -> str:
    return words.format(repr(store).split()[-1].rstrip(">"))


# -- the log -------------------------------------------------------------------------------------------------------


@ordinary
@given(groups=st.lists(st.lists(entries, max_size=12), max_size=6), segment=st.integers(1, 9))
def test_what_is_appended_is_read_again_whatever_the_bytes_and_partitions(
    postgres: PostgresServer, groups: list[list[Entry]], segment: int
) -> None:
    store = PostgresStore(postgres.url("round_trip"), segment_entries=segment)
    try:
        log = store.log(secrets.token_hex(8))
        for group in groups:
            assert log.append(1, group) == log.next_offset - len(group)
        every = list(enumerate(itertools.chain.from_iterable(groups)))
        assert log.read(0, 1000) == every
        assert [log.read(first, 2) for first in range(len(every))] == [every[i : i + 2] for i in range(len(every))]
        for entity in (NOBODY, 0, 2**31 - 1):
            assert log.read_of(entity) == [each for each in every if each[1].entity == entity]
            assert log.read_of(entity, since_s=10.0, until_s=60.0, first=2) == [
                (offset, each)
                for offset, each in every
                if each.entity == entity and 10.0 <= each.received_at_s < 60.0 and offset >= 2
            ]
    finally:
        store.close()


def test_a_group_may_reach_over_several_partitions(opened: Open, postgres: PostgresServer) -> None:
    store = opened(segment_entries=10)
    log = store.log("router")
    log.append(1, [entry(number) for number in range(7)])
    assert log.append(1, [entry(number) for number in range(7, 47)]) == 7
    assert [offset for offset, _ in log.read(0, 100)] == list(range(47))
    assert log.read(40, 100) == [(number, entry(number)) for number in range(40, 47)]
    # another size later changes only partitions to come
    other = opened(segment_entries=1000).log("router")
    assert other.append(1, [entry(47), entry(48), entry(49), entry(50)]) == 47
    schema = shown_schema(store)
    stops = postgres.execute(f"SELECT stop_offset FROM {schema}.segments ORDER BY 1")
    assert stops == [(10,), (20,), (30,), (40,), (50,), (1050,)]


def test_edges_of_reading_and_of_empty_groups(opened: Open) -> None:
    log = opened().log("router")
    assert log.next_offset == log.began == log.held_bytes == 0
    assert log.read(0, 10) == log.read_of(1) == []
    assert log.append(3, []) == 0
    with pytest.raises(StaleEpoch):
        log.append(2, [])
    log.append(3, [entry(0), entry(1)])
    assert log.append(3, []) == 2
    assert log.read(0, 0) == log.read(0, -1) == log.read(2, 5) == log.read(10**12, 5) == []
    assert log.read(1, 10**9) == [(1, entry(1))]
    assert log.read_of(1, since_s=1.0, until_s=1.0) == log.read_of(1, since_s=math.inf) == []


def test_logs_of_two_shares_do_not_mix(opened: Open) -> None:
    store = opened(segment_entries=3)
    north, south = store.log("north"), store.log("south")
    for number in range(8):
        north.append(1, [entry(number)])
        south.append(1, [entry(100 + number)])
    assert [each.payload for _, each in north.read(0, 100)] == [str(n).encode() for n in range(8)]
    assert [each.payload for _, each in south.read(0, 100)] == [str(100 + n).encode() for n in range(8)]
    assert store.log("north") is north


def test_a_repeated_group_is_written_once_and_a_strange_end_is_named(opened: Open) -> None:
    log = opened().log("router")
    log.append(1, [entry(0)])
    assert log.append(1, [entry(1), entry(2)], expected=1) == 1
    assert log.append(1, [entry(1), entry(2)], expected=1) == 1
    assert log.next_offset == 3
    with pytest.raises(StoreDamaged, match=r"ends at offset 3 where 5 was expected.*same epoch 1"):
        log.append(1, [entry(3)], expected=5)


def test_trimming_moves_what_a_recovery_has_to_read_and_keeps_history(opened: Open) -> None:
    log = opened().log("router")
    log.append(1, [entry(number) for number in range(100)])
    everything = log.held_bytes
    log.trim(75)
    log.trim(50)  # never back
    assert everything * 0.2 < log.held_bytes < everything * 0.3
    log.trim(10**9)
    assert log.held_bytes == 0
    assert len(log.read(0, 200)) == 100
    log.append(1, [entry(100)])
    assert 0 < log.held_bytes < everything * 0.1
    log.trim(101)  # nothing of what was said before there was so much is held against it
    assert log.held_bytes == 0


def test_readers_in_other_processes_see_what_is_committed(opened: Open) -> None:
    writer, reader = opened().log("router"), opened().log("router")
    assert reader.read(0, 10) == []
    writer.append(1, [entry(0)])
    assert reader.next_offset == 1
    assert reader.read(0, 10) == [(0, entry(0))]


# -- fencing -------------------------------------------------------------------------------------------------------


def test_no_append_of_a_predecessor_is_committed_after_its_successor_has_an_epoch(opened: Open) -> None:
    older, newer = opened(), opened()
    first_epoch = older.next_epoch("router")
    acknowledged: list[int] = []
    running = threading.Event()
    fenced: list[BaseException] = []

    def predecessor() -> None:
        log = older.log("router")
        try:
            for number in range(100_000):
                acknowledged.append(log.append(first_epoch, [entry(number), entry(number)]))
                if number == 20:
                    running.set()
        except StaleEpoch as error:
            fenced.append(error)

    thread = threading.Thread(target=predecessor)
    thread.start()
    assert running.wait(30.0)
    second = newer.next_epoch("router")
    end = newer.log("router").next_offset
    thread.join(30.0)
    assert second == first_epoch + 1
    assert fenced
    assert not thread.is_alive()
    assert acknowledged == list(range(0, end, 2))
    assert newer.log("router").append(second, [entry(0)]) == end


def test_a_successor_waits_for_the_append_under_way(
    opened: Open, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = opened(), opened()
    epoch = older.next_epoch("router")
    log = older.log("router")
    inside, go_on = threading.Event(), threading.Event()
    write = PostgresLog._write

    def slowly(*arguments: Any) -> None:
        inside.set()
        assert go_on.wait(30.0)
        write(*arguments)

    monkeypatch.setattr(PostgresLog, "_write", slowly)
    order: list[str] = []
    appending = threading.Thread(target=lambda: order.append(f"append {log.append(epoch, [entry(0)])}"))
    succeeding = threading.Thread(target=lambda: order.append(f"epoch {newer.next_epoch('router')}"))
    appending.start()
    assert inside.wait(30.0)
    succeeding.start()
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO epochs%' "
        f"AND application_name = '{shown_schema(newer, 'twin-actors {} writer')}'"
    )
    eventually(lambda: order or postgres.execute(waiting) == [(1,)])
    assert order == []
    go_on.set()
    appending.join(30.0)
    succeeding.join(30.0)
    assert sorted(order) == ["append 0", "epoch 2"]


def _raise_epochs(url: str, count: int, results: multiprocessing.Queue[list[int]]) -> None:
    store = open_store(url)
    results.put([store.next_epoch("router") for _ in range(count)])
    store.close()


def test_epochs_of_many_processes_that_open_a_new_city_at_once_are_all_different(postgres: PostgresServer) -> None:
    url = postgres.url(f"city_{secrets.token_hex(4)}")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_raise_epochs, args=(url, 25, results)) for _ in range(4)]
    for process in processes:
        process.start()
    epochs = [epoch for _ in processes for epoch in results.get(timeout=60.0)]
    for process in processes:
        process.join(30.0)
    assert sorted(epochs) == list(range(1, 101))


def test_threads_that_open_a_new_schema_at_once_migrate_it_once(postgres: PostgresServer) -> None:
    schema = f"city_{secrets.token_hex(4)}"
    failures: list[BaseException] = []
    together = threading.Barrier(8)

    def open_it() -> None:
        try:
            together.wait(30.0)
            store = PostgresStore(postgres.url(schema))
            store.put("key", b"value")
            store.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert failures == []
    assert postgres.execute(f"SELECT count(*) FROM {schema}.schema_version") == [(1,)]


def test_a_stale_writer_cannot_record_or_save(opened: Open) -> None:
    store = opened()
    old, new = store.next_epoch("aggregator"), store.next_epoch("aggregator")
    with pytest.raises(StaleEpoch):
        store.record("decisions", [{"id": "dec-1"}], writer="aggregator", epoch=old)
    with pytest.raises(StaleEpoch):
        store.save_snapshot("aggregator", old, 7, b"old")
    store.record("decisions", [{"id": "dec-2"}], writer="aggregator", epoch=new)
    assert store.records("decisions", 9) == [{"id": "dec-2"}]
    assert store.load_snapshot("aggregator") is None


# -- values --------------------------------------------------------------------------------------------------------


def test_texts_that_postgresql_refuses_are_kept_all_the_same(opened: Open) -> None:
    store = opened()
    strange = "no\0thing \ud800 ümläut"
    store.add_dead_letters(
        [DeadLetter(topic=strange, reason="not_json", detail=strange, payload=b"\0\\x00'", received_at_s=1.5)]
    )
    (letter,) = store.dead_letters(5)
    assert letter.topic == letter.detail == "no\ufffdthing ? ümläut"
    assert letter.payload == b"\0\\x00'"
    store.record("alerts", [{"id": "a\0b", "text": "x\0y", "n": [1, 2.5, None, True]}])
    assert store.records("alerts", 1) == [{"id": "a\0b", "text": "x\0y", "n": [1, 2.5, None, True]}]
    with pytest.raises(ValueError, match="NUL"):
        store.put("a\0b", b"")


def test_a_large_snapshot_comes_back(opened: Open) -> None:
    blob = secrets.token_bytes(1_000_000) * 20
    store = opened()
    store.save_snapshot("actor/1", store.next_epoch("actor/1"), 17, blob, at_s=5.0)
    saved = opened().load_snapshot("actor/1")
    assert saved is not None
    assert saved[:3] == (1, 17, 5.0)
    assert saved.blob == blob


def test_a_number_and_a_text_are_two_ids(opened: Open) -> None:
    store = opened()
    store.record("alerts", [{"id": 1, "of": "number"}, {"id": "1", "of": "text"}, {"id": 1, "of": "number again"}])
    assert [row["of"] for row in store.records("alerts", 9)] == ["number again", "text"]


# -- words ---------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1 .*is the server running") as caught:
        open_store("postgresql://city:s3cret%2Fword@127.0.0.1:1/harbour?schema=harbour")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "s3cret/wrong"}, "the password or the user is wrong"),
        ({"database": "atlantis"}, "there is no such database"),
        ({"schema": "Harbour"}, "cannot be a PostgreSQL schema"),
        ({"schema": "pg_mine"}, "cannot be a PostgreSQL schema"),
        ({"no_such_parameter": "1"}, "no_such_parameter"),
    ],
)
def test_a_wrong_address_is_refused_with_what_to_correct(
    postgres: PostgresServer, change: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        open_store(postgres.url(**change))
    assert postgres.password not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://city:s3c%zzret@h/d", "postgresql://city:s3c/ret@h/d?a=b"])
def test_a_badly_encoded_password_is_not_repeated(url: str) -> None:
    with pytest.raises((ValueError, StoreUnavailable)) as caught:
        PostgresStore(url)
    assert "s3c" not in str(caught.value)
    assert "%zz" not in str(caught.value)


def test_what_represents_a_store_shows_no_password(opened: Open, postgres: PostgresServer) -> None:
    store = opened()
    shown = repr(store) + repr(vars(store)) + repr(vars(store.log("router"))) + str(store)
    assert postgres.password not in shown
    assert str(postgres.port) in repr(store)


def test_a_schema_of_a_newer_version_is_left_alone(opened: Open, postgres: PostgresServer) -> None:
    schema = shown_schema(opened())
    postgres.execute(f"UPDATE {schema}.schema_version SET version = 99")
    with pytest.raises(StoreDamaged, match="version 99, written by a newer"):
        PostgresStore(postgres.url(schema))


def test_a_schema_that_was_dropped_under_a_city_is_damage(opened: Open, postgres: PostgresServer) -> None:
    store = opened()
    schema = shown_schema(store)
    postgres.execute(f"DROP SCHEMA {schema} CASCADE")
    with pytest.raises(StoreDamaged, match="gone: restore a backup"):
        store.next_epoch("router")


def test_a_read_only_server_is_unavailable_and_says_why(postgres: PostgresServer) -> None:
    url = postgres.url(f"city_{secrets.token_hex(4)}", options="-c default_transaction_read_only=on")
    with pytest.raises(StoreUnavailable, match=r"read-only .*point the store at the primary"):
        open_store(url)


def test_a_user_without_rights_or_connections_hears_so(postgres: PostgresServer) -> None:
    role = f"poor_{secrets.token_hex(4)}"
    postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw' CONNECTION LIMIT 1")
    url = f"postgresql://{role}:pw@{postgres.host}:{postgres.port}/postgres?schema={role}"
    with pytest.raises(StoreUnavailable, match=r"rights .* are missing: GRANT"):
        open_store(url)
    postgres.execute(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
    store = open_store(url)
    try:
        with pytest.raises(StoreUnavailable, match="no connection left"):
            store.epoch("router")  # the reader's connection is the second
        postgres.execute(f"ALTER ROLE {role} CONNECTION LIMIT 5")
        assert store.epoch("router") == 0
    finally:
        store.close()


def test_a_database_that_is_not_unicode_is_refused(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(ValueError, match="encoding LATIN1"):
        open_store(postgres.url(database="latin"))


def test_a_closed_store_says_so(opened: Open) -> None:
    store = opened()
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.log("router").append(1, [entry(0)])
