"""The embedded engine on bad days: writers killed at any instant, full disks, foreign locks, damage, old schemas."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from twin_actors.store import Entry, Snapshot, StaleEpoch, StoreDamaged, StoreUnavailable, open_store
from twin_actors.store.groups import pack
from twin_actors.store.sqlite import SqliteStore
from twin_actors.store.sqlite import file as sqlite_file
from twin_actors.store.sqlite.schema import CITY, LOG

FORK = multiprocessing.get_context("fork")


def entry(number: int, size: int = 40) -> Entry:
    return Entry(entity=number % 7, channel=0, source=0, received_at_s=float(number), payload=b"%0*d" % (size, number))


# -- memory --------------------------------------------------------------------------------------------------------


def test_a_store_keeps_no_copy_of_a_snapshot(tmp_path: Path) -> None:
    """A prepared statement keeps what was bound to it, for as long as the connection lives."""
    store = SqliteStore(tmp_path)
    store.next_epoch("twins:00001")
    store.save_snapshot("twins:00001", 1, 0, b"first", 0.0)
    before = psutil.Process().memory_full_info().uss
    blob = os.urandom(1_000_000) * 80
    store.save_snapshot("twins:00001", 1, 1, blob, 1.0)
    loaded = store.load_snapshot("twins:00001")
    assert loaded is not None
    assert loaded.blob == blob
    del blob, loaded
    assert psutil.Process().memory_full_info().uss - before < 40_000_000
    store.close()


def test_an_empty_snapshot_comes_back(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.next_epoch("twins:00001")
    store.save_snapshot("twins:00001", 1, 0, b"", 0.0)
    loaded = store.load_snapshot("twins:00001")
    assert loaded is not None
    assert (loaded.offset, loaded.blob) == (0, b"")
    store.close()


# -- processes that die --------------------------------------------------------------------------------------------


def _write(folder: Path, acknowledged: Connection, seed: int) -> None:
    """Append groups of all sizes with the next epoch, and tell each one's end after it is committed."""
    sizes = random.Random(seed)
    store = SqliteStore(folder)
    log = store.log("router")
    epoch = store.next_epoch("router")
    offset = log.next_offset
    while True:
        group = [entry(number) for number in range(offset, offset + sizes.choice((1, 3, 50, 700)))]
        assert log.append(epoch, group, offset) == offset
        offset += len(group)
        store.save_snapshot("twin", epoch, offset - 1, b"%d" % offset, float(offset))
        acknowledged.send_bytes(b"%d" % offset)


def test_what_was_acknowledged_survives_kill_9_at_any_instant(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    dice = random.Random(11)
    told = 0
    for life in range(12):
        ours, theirs = FORK.Pipe(duplex=False)
        child = FORK.Process(target=_write, args=(folder, theirs, life))
        child.start()
        theirs.close()
        for _ in range(dice.randint(1, 8)):
            assert ours.poll(30), "the writer says nothing"
            told = int(ours.recv_bytes())
        _spin(dice.random() * 0.003)
        os.kill(child.pid, signal.SIGKILL)  # type: ignore[arg-type]
        child.join(timeout=30)
        while ours.poll(0):
            try:
                told = int(ours.recv_bytes())
            except EOFError:
                break
        store = SqliteStore(folder)
        log = store.log("router")
        end = log.next_offset
        assert end >= told
        assert log.read(0, end + 10) == [(number, entry(number)) for number in range(end)]
        snapshot = store.load_snapshot("twin")
        assert snapshot is not None
        assert told - 1 <= snapshot.offset < end
        assert snapshot.blob == b"%d" % (snapshot.offset + 1)
        assert store.epoch("router") == life + 1
        store.close()


def _spin(duration_s: float) -> None:
    """Let some instant pass, so that death comes anywhere in a commit."""
    end = time.perf_counter() + duration_s
    while time.perf_counter() < end:
        pass


def _append_until_fenced(folder: Path, results: Connection) -> None:
    store = SqliteStore(folder)
    epoch = store.next_epoch("router")
    written = 0
    try:
        while True:
            store.log("router").append(epoch, [Entry(epoch, 0, 0, float(written), b"")])
            written += 1
            if written == 1:
                results.send(("began", epoch))
    except StaleEpoch:
        results.send(("fenced", epoch, written))


def test_of_many_writers_only_the_last_one_goes_on(tmp_path: Path) -> None:
    """Each writer fences the one before it in the middle of its appends; nothing of the old one comes after it."""
    folder = tmp_path / "store"
    children, written = [], {}
    for _ in range(4):
        ours, theirs = FORK.Pipe(duplex=False)
        child = FORK.Process(target=_append_until_fenced, args=(folder, theirs))
        child.start()
        children.append((child, ours))
        assert ours.poll(30)
        assert ours.recv()[0] == "began"
    store = SqliteStore(folder)
    store.next_epoch("router")
    for child, ours in children:
        assert ours.poll(30)
        _, epoch, count = ours.recv()
        written[epoch] = count
        child.join(timeout=30)
    epochs = [each.entity for _, each in store.log("router").read(0, 10**6)]
    assert epochs == [epoch for epoch in sorted(written) for _ in range(written[epoch])]


def _raise_epochs(folder: Path, results: Connection) -> None:
    store = SqliteStore(folder)
    results.send([store.next_epoch("router") for _ in range(10)])


def test_processes_that_open_a_new_store_at_once_never_share_an_epoch(tmp_path: Path) -> None:
    children = []
    for _ in range(5):
        ours, theirs = FORK.Pipe(duplex=False)
        child = FORK.Process(target=_raise_epochs, args=(tmp_path / "store", theirs))
        children.append((child, ours))
    for child, _ in children:
        child.start()
    got = []
    for child, ours in children:
        assert ours.poll(60)
        got += ours.recv()
        child.join(timeout=30)
    assert sorted(got) == list(range(1, 51))


# -- the disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_000_000))
    store = SqliteStore(small_disk / "store")
    log = store.log("router")
    offset = 0
    group: list[Entry] = []

    def fill() -> None:
        nonlocal offset, group
        while True:
            group = [entry(number, 400) for number in range(offset, offset + 100)]
            log.append(1, group, offset)
            offset += 100

    with pytest.raises(StoreUnavailable, match=r"log-router.sqlite: the disk is full: make room"):
        fill()
    assert offset > 0
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            log.append(1, group, offset)
    assert log.next_offset == offset
    assert len(log.read(0, 10**6)) == offset
    ballast.unlink()
    assert log.append(1, group, offset) == offset
    assert log.read(0, 10**6) == [(number, entry(number, 400)) for number in range(offset + 100)]


def _write_up_to_a_limit(folder: Path, results: Connection) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    log = SqliteStore(folder).log("router")
    offset = 0
    try:
        while True:
            log.append(1, [entry(number, 400) for number in range(offset, offset + 20)], offset)
            offset += 20
    except StoreUnavailable as error:
        results.send((offset, str(error)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    results.send(log.append(1, [entry(number, 400) for number in range(offset, offset + 20)], offset))


def test_a_limit_on_files_is_like_a_full_disk(tmp_path: Path) -> None:
    ours, theirs = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_write_up_to_a_limit, args=(tmp_path / "store", theirs))
    child.start()
    assert ours.poll(30)
    offset, words = ours.recv()
    assert "free space and limits" in words or "make room" in words
    assert ours.poll(30)
    assert ours.recv() == offset > 0
    child.join(timeout=30)
    log = SqliteStore(tmp_path / "store").log("router")
    assert log.read(0, 10**6) == [(number, entry(number, 400)) for number in range(offset + 20)]


def test_a_lock_that_is_held_too_long_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.2)
    store = SqliteStore(tmp_path / "store")
    store.log("router").append(1, [entry(0)])
    other = sqlite3.connect(tmp_path / "store" / "log-router.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another process has kept it locked"):
        store.log("router").append(1, [entry(1)])
    assert store.log("router").read(0, 9) == [(0, entry(0))]  # who only reads waits for nobody
    other.execute("ROLLBACK")
    other.close()
    assert store.log("router").append(1, [entry(1)], 1) == 1


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'city.store' is relative.*write sqlite:/"):
        open_store("sqlite:city.store")
    with pytest.raises(ValueError, match="names no folder"):
        open_store("sqlite:")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file, but an embedded store needs a folder"):
        open_store(f"sqlite:{tmp_path / 'file'}")
    store = open_store(f"sqlite:{tmp_path / 'file' / 'below'}")
    with pytest.raises(StoreUnavailable, match="it cannot be opened: see that the folder exists"):
        store.next_epoch("router")


def test_reading_makes_nothing(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'store'}")
    assert store.epoch("router") == store.log("router").next_offset == 0
    assert store.load_snapshot("a") is None
    assert store.shares() == store.keys() == store.records("decisions", 5) == []
    store.log("router").trim(5)
    assert not (tmp_path / "store").exists()


def test_an_append_does_not_wait_for_a_snapshot(tmp_path: Path) -> None:
    """While somebody is in the middle of writing a snapshot, the log's transactions go on."""
    store = SqliteStore(tmp_path / "store")
    store.save_snapshot("twin", 1, 0, b"x")
    store.log("router").append(1, [entry(0)])
    appended = threading.Event()
    with store._snapshots.write() as connection:
        connection.execute("UPDATE snapshots SET blob = zeroblob(30000000)")
        thread = threading.Thread(target=lambda: (store.log("router").append(1, [entry(1)]), appended.set()))
        thread.start()
        assert appended.wait(30)
    thread.join(timeout=30)


# -- damage --------------------------------------------------------------------------------------------------------


def test_a_changed_byte_in_the_log_is_found(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    store.log("router").append(1, [entry(number) for number in range(100)])
    store.close()
    path = tmp_path / "store" / "log-router.sqlite"
    whole = path.read_bytes()
    place = whole.index(entry(50).payload)
    path.write_bytes(whole[:place] + b"?" + whole[place + 1 :])
    with pytest.raises(StoreDamaged, match="log router: the group at offset 0 is damaged"):
        SqliteStore(tmp_path / "store").log("router").read(0, 100)


def test_a_damaged_snapshot_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(tmp_path / "store")
    store.save_snapshot("twin", 1, 1, b"older state")
    store.save_snapshot("twin", 1, 2, b"newer state")
    store.close()
    path = tmp_path / "store" / "snapshots.sqlite"
    path.write_bytes(path.read_bytes().replace(b"newer state", b"newer ?tate"))
    store = SqliteStore(tmp_path / "store")
    assert store.load_snapshot("twin") == Snapshot(1, 1, 0.0, b"older state")
    assert "the snapshot of twin at offset 2 is damaged" in caplog.text
    with pytest.raises(StoreDamaged):
        list(store.snapshots("twin"))
    store.close()
    path.write_bytes(path.read_bytes().replace(b"older state", b"older ?tate"))
    with pytest.raises(StoreDamaged, match="no snapshot of twin is whole"):
        SqliteStore(tmp_path / "store").load_snapshot("twin")


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "city.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreDamaged, match="it is not a SQLite file"):
        SqliteStore(folder).put("key", b"")
    (folder / "city.sqlite").unlink()
    foreign = sqlite3.connect(folder / "city.sqlite")
    foreign.execute("CREATE TABLE theirs (x)")
    foreign.commit()
    foreign.close()
    with pytest.raises(StoreDamaged, match="is a SQLite file, but not a city's records"):
        SqliteStore(folder).put("key", b"")


def test_a_file_that_is_overwritten_in_the_middle_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    for number in range(100):
        store.put(f"key/{number}", bytes(2000))
    store.close()
    path = tmp_path / "store" / "city.sqlite"
    whole = bytearray(path.read_bytes())
    for page in range(1, len(whole) // 4096):
        whole[page * 4096 : page * 4096 + 100] = b"\xde" * 100
    path.write_bytes(whole)
    with pytest.raises(StoreDamaged, match=r"city\.sqlite: its contents are damaged.*restore a backup"):
        SqliteStore(tmp_path / "store").keys()


# -- schema versions -----------------------------------------------------------------------------------------------


def test_a_log_of_version_1_is_taken_to_this_version(tmp_path: Path) -> None:
    """A file as version 1 wrote it: no check sums, nothing sealed."""
    folder = tmp_path / "store"
    folder.mkdir()
    old = sqlite3.connect(folder / "log-router.sqlite", isolation_level=None)
    old.execute("PRAGMA journal_mode = WAL")
    old.executescript(
        f"""
        CREATE TABLE epochs (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE groups (
            first INTEGER PRIMARY KEY, count INTEGER NOT NULL, since_s REAL NOT NULL, until_s REAL NOT NULL,
            bytes_before INTEGER NOT NULL, blob BLOB NOT NULL
        );
        CREATE TABLE numbers (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO epochs VALUES ('router', 3);
        PRAGMA application_id = {LOG.application_id};
        PRAGMA user_version = 1;
        """
    )
    for first in range(0, 30, 10):
        entries = [entry(number) for number in range(first, first + 10)]
        old.execute(
            "INSERT INTO groups VALUES (?, 10, ?, ?, ?, ?)",
            (first, float(first), float(first + 9), 100 * first, pack(entries)),
        )
    old.close()
    store = SqliteStore(folder)
    assert store.log("router").read(0, 99) == [(number, entry(number)) for number in range(30)]
    assert store.epoch("router") == 3
    assert store.log("router").append(4, [entry(30)], 30) == 30
    assert store._log_file("router").rows("PRAGMA user_version") == [(LOG.version,)]
    assert LOG.version > 1


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "store")
    store.put("key", b"value")
    store.close()
    newer = sqlite_file.Schema(
        what=CITY.what,
        application_id=CITY.application_id,
        steps=(*CITY.steps, "ALTER TABLE registry ADD COLUMN more TEXT; CREATE TABLE registry (twice)"),
    )
    file = sqlite_file.SqliteFile(tmp_path / "store" / "city.sqlite", newer)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        file.rows("SELECT 1")
    assert SqliteStore(tmp_path / "store").get("key") == b"value"


def test_a_newer_schema_is_refused_with_the_way_out(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    store.put("key", b"value")
    store.close()
    connection = sqlite3.connect(tmp_path / "store" / "city.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreDamaged, match=r"schema version 99, written by a newer .* knows 1: upgrade"):
        SqliteStore(tmp_path / "store").get("key")
