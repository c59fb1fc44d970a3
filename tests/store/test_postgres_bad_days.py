"""PostgreSQL dies, restarts, freezes or loses its answers in the middle of appends: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from twin_actors.store import Entry, StoreUnavailable
from twin_actors.store.postgres import PostgresStore
from twin_actors.store.postgres.errors import OutcomeUnknown
from twin_actors.testing.live import eventually
from twin_actors.testing.postgres import PostgresServer


@pytest.fixture
def schema() -> str:
    return f"city_{secrets.token_hex(4)}"


def entry(number: int) -> Entry:
    return Entry(number % 7, 0, 1, float(number), b"%d" % number)


class Writer:
    """Appends numbered groups as a router does: after a failure the same group again, with what was expected."""

    def __init__(self, store: PostgresStore) -> None:
        self._log = store.log("router")
        self._epoch = store.next_epoch("router")
        self.acknowledged = 0
        self.failures = 0
        self._stopping = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                size = 1 + self.acknowledged % 50
                group = [entry(self.acknowledged + place) for place in range(size)]
                expected = None
                while True:
                    try:
                        first = self._log.append(self._epoch, group, expected)
                        break
                    except StoreUnavailable:
                        self.failures += 1
                        expected = self.acknowledged
                        if self._stopping.wait(0.02):  # the pace of a router's own retries
                            return
                assert first == self.acknowledged
                self.acknowledged += size
        except BaseException as error:
            self.error = error

    def wait_for(self, more: int) -> None:
        enough = self.acknowledged + more
        eventually(lambda: self.acknowledged >= enough or self.error)

    def wait_for_failure(self) -> None:
        before = self.failures
        eventually(lambda: self.failures > before or self.error)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60.0)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


def check_log(postgres: PostgresServer, schema: str, acknowledged: int) -> None:
    """All that was acknowledged is there once and in order; at most one group more, whose answer was never heard."""
    store = PostgresStore(postgres.url(schema))
    try:
        log = store.log("router")
        found = log.read(0, 10_000_000)
        assert acknowledged <= len(found) == log.next_offset <= acknowledged + 50
        assert found == [(number, entry(number)) for number in range(len(found))]
    finally:
        store.close()


@pytest.mark.parametrize("way", ["kill", "immediate", "orderly"])
def test_server_lost_in_the_middle_of_appends(postgres: PostgresServer, schema: str, way: str) -> None:
    store = PostgresStore(postgres.url(schema), segment_entries=500)
    writer = Writer(store)
    try:
        for _ in range(1 if way == "kill" else 2):  # its recovery is the slow one
            writer.wait_for(400)
            if way == "kill":
                postgres.kill()
            else:
                postgres.stop(immediate=way == "immediate")
            writer.wait_for_failure()
            postgres.start()
        writer.wait_for(400)
    finally:
        writer.stop()
        store.close()
    check_log(postgres, schema, writer.acknowledged)


def test_a_restart_between_two_calls_is_not_even_noticed(postgres: PostgresServer, schema: str) -> None:
    store = PostgresStore(postgres.url(schema))
    try:
        log = store.log("router")
        assert log.append(1, [entry(0)]) == 0
        assert log.next_offset == 1
        postgres.restart()
        assert log.append(1, [entry(1)]) == 1
        assert log.next_offset == 2
    finally:
        store.close()


def test_a_frozen_server_ends_in_an_error_and_not_in_a_wait(postgres: PostgresServer, schema: str) -> None:
    store = PostgresStore(postgres.url(schema), call_s=0.5)
    try:
        log = store.log("router")
        log.append(1, [entry(0)])
        assert log.next_offset == 1
        postgres.freeze()
        try:
            started = time.monotonic()
            with pytest.raises(StoreUnavailable, match="did not answer within the deadline"):
                log.append(1, [entry(1)])
            with pytest.raises(StoreUnavailable, match="did not answer within the deadline"):
                _ = log.next_offset
            assert time.monotonic() - started < 20.0
        finally:
            postgres.thaw()
        assert log.append(1, [entry(1)], expected=1) == 1
        assert [offset for offset, _ in log.read(0, 9)] == [0, 1]
    finally:
        store.close()


def test_calls_behind_a_stuck_one_have_a_deadline_too(postgres: PostgresServer, schema: str) -> None:
    store = PostgresStore(postgres.url(schema), call_s=0.3)
    held = PostgresStore(postgres.url(schema))
    try:
        held.next_epoch("router")
        locked, release = threading.Event(), threading.Event()

        def hold(connection: object) -> None:
            connection.execute("SELECT FROM epochs FOR UPDATE")  # type: ignore[attr-defined]
            locked.set()
            release.wait(30.0)

        holder = threading.Thread(target=held._writing.run, args=(hold,))
        holder.start()
        assert locked.wait(10.0)
        outcomes: list[BaseException] = []

        def call() -> None:
            try:
                store.next_epoch("router")
            except StoreUnavailable as error:
                outcomes.append(error)

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(20.0)
        release.set()
        holder.join(20.0)
        assert len(outcomes) == 3
        assert store.next_epoch("router") >= 2
    finally:
        store.close()
        held.close()


# -- answers that are lost -----------------------------------------------------------------------------------------


class Proxy:
    """Passes a connection on to the server; told so, it passes the next COMMIT on and cuts before the answer."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut_next_commit = False
        self.refusing = False
        self.cuts = 0
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._sockets += [client, server]
            for source, target, inspect in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._pump, args=(source, target, inspect))
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, target: socket.socket, inspect: bool) -> None:
        try:
            while data := source.recv(65536):
                if inspect and self.cut_next_commit and b"COMMIT\0" in data:
                    self.cut_next_commit = False
                    self.cuts += 1
                    source.shutdown(socket.SHUT_RDWR)  # the client hears nothing more; the server gets its COMMIT
                    target.sendall(data)
                    return
                target.sendall(data)
        except OSError:
            pass  # the other half has been shut: that is what this pump is for
        finally:
            for each in (source, target):
                _shut(each, socket.SHUT_RD if each is source else socket.SHUT_WR)

    def close(self) -> None:
        for each in self._sockets:
            _shut(each, socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10.0)
            assert not thread.is_alive()


def _shut(end: socket.socket, how: int) -> None:
    try:
        end.shutdown(how)
    except OSError:
        return  # it is shut already


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    proxy = Proxy(postgres.port)
    yield proxy
    proxy.close()


def through(proxy: Proxy, postgres: PostgresServer, schema: str) -> PostgresStore:
    return PostgresStore(postgres.url(schema, sslmode="disable").replace(f":{postgres.port}/", f":{proxy.port}/"))


def test_an_append_whose_answer_was_lost_is_not_doubled(postgres: PostgresServer, proxy: Proxy, schema: str) -> None:
    store = through(proxy, postgres, schema)
    try:
        log = store.log("router")
        log.append(1, [entry(0)])
        proxy.cut_next_commit = True
        assert log.append(1, [entry(1), entry(2)]) == 1  # asked again over a new connection
        assert proxy.cuts == 1
        assert log.read(0, 9) == [(number, entry(number)) for number in range(3)]
    finally:
        store.close()


def test_an_outcome_that_stays_unknown_is_settled_by_the_repetition(
    postgres: PostgresServer, proxy: Proxy, schema: str
) -> None:
    store = through(proxy, postgres, schema)
    try:
        log = store.log("router")
        log.append(1, [entry(0)])
        proxy.cut_next_commit = proxy.refusing = True
        with pytest.raises(OutcomeUnknown, match="may be there or not"):
            log.append(1, [entry(1), entry(2)])
        proxy.refusing = False
        assert log.append(1, [entry(1), entry(2)], expected=1) == 1
        assert log.read(0, 9) == [(number, entry(number)) for number in range(3)]
    finally:
        store.close()


def test_records_without_an_id_are_not_repeated_behind_the_callers_back(
    postgres: PostgresServer, proxy: Proxy, schema: str
) -> None:
    store = through(proxy, postgres, schema)
    try:
        proxy.cut_next_commit = True
        with pytest.raises(OutcomeUnknown):
            store.record("alerts", [{"text": "once"}])
        proxy.cut_next_commit = True
        store.record("alerts", [{"id": 1, "text": "twice is once"}])
        assert proxy.cuts == 2
        eventually(lambda: len(store.records("alerts", 9)) == 2)
        assert [row["text"] for row in store.records("alerts", 9)] == ["once", "twice is once"]
    finally:
        store.close()


# -- a full disk ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(postgres: PostgresServer) -> Iterator[Path]:
    """A file system of 16 MB that belongs to the server's user; only root can make one."""
    place = postgres.folder / "small"
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or umount is None:
        pytest.skip("only root can mount a small file system")
    place.mkdir(exist_ok=True)
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        owner = postgres.folder.stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        yield place
    finally:
        subprocess.run([umount, str(place)], check=True)


def test_a_full_disk_is_told_and_writing_goes_on_when_there_is_room(postgres: PostgresServer, small_disk: Path) -> None:
    postgres.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    postgres.execute("CREATE DATABASE small TABLESPACE small")
    store = PostgresStore(postgres.url("city", database="small"))
    try:
        log = store.log("router")
        group = [Entry(1, 0, 0, 1.0, secrets.token_bytes(1500)) for _ in range(500)]
        committed = 0

        def fill() -> None:
            nonlocal committed
            for _ in range(100):
                log.append(1, group, committed)
                committed += len(group)

        with pytest.raises(StoreUnavailable, match="disk is full: free space"):
            fill()
        assert log.next_offset == committed
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert log.append(1, group, committed) == committed
        assert [offset for offset, _ in log.read(0, 10**6)] == list(range(committed + len(group)))
    finally:
        store.close()
        postgres.execute("DROP DATABASE small WITH (FORCE)")
        postgres.execute("DROP TABLESPACE small")
