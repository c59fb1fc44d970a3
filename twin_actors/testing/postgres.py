"""A PostgreSQL server of a test's own: its folder, its port, its processes; started, killed and ended exactly."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

USER = "city"
START_DEADLINE_S = 60.0
END_DEADLINE_S = 30.0

SMALL = {
    # durable as in production (fsync stays on), small in everything else
    "shared_buffers": "32MB",
    "max_connections": "60",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "autovacuum_naptime": "10s",
    "max_wal_size": "256MB",
    "jit": "off",
}


def find_binaries() -> Path | None:
    """The folder with ``initdb`` and ``postgres``: on PATH, or where Debian keeps the newest version."""
    on_path = shutil.which("initdb")
    if on_path:
        folder = Path(on_path).resolve().parent  # often a link into the version's own folder
        if all((folder / name).exists() for name in ("postgres", "pg_isready")):
            return folder
    found = [each.parent for each in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda folder: int(folder.parent.name.split(".")[0]), default=None)


def why_not() -> str:
    """Why no server can be started here; empty when one can."""
    if find_binaries() is None:
        return "no PostgreSQL server binaries on PATH or under /usr/lib/postgresql (Debian: apt install postgresql)"
    if os.geteuid() == 0 and _unprivileged() is None:
        return "PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as"
    return ""


def _unprivileged() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


class PostgresServer:
    """One server in a folder that it owns. ``start`` after ``stop`` or ``kill`` brings the same data back."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise RuntimeError(why_not())
        self.folder, self.binaries = folder, binaries
        self.host = "127.0.0.1"
        self.port = _free_port()
        self.password = secrets.token_urlsafe(12)
        self._settings = {**SMALL, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        owner = _unprivileged() if os.geteuid() == 0 else None
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self._initialise()

    def _initialise(self) -> None:
        words = self.folder / "password"
        words.write_text(self.password)
        words.chmod(0o644)  # the folder itself is closed to others
        command = [
            str(self.binaries / "initdb"),
            *("-D", str(self.folder / "data"), "--username", USER, "--pwfile", str(words)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
        ]
        made = subprocess.run(command, capture_output=True, timeout=START_DEADLINE_S, cwd=self.folder, **self._as)
        words.unlink()
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr.decode(errors='replace').strip()}")

    # -- its life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until it answers."""
        if self._process is not None:
            raise RuntimeError("the server is running already")
        settings = {
            **self._settings,
            "port": str(self.port),
            "listen_addresses": self.host,
            "unix_socket_directories": str(self.folder),
            "logging_collector": "off",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with open(self.folder / "server.log", "ab") as words:
            self._process = subprocess.Popen(
                [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), *options],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C in the terminal is not meant for it
                **self._as,
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"PostgreSQL did not start:\n{tail}")
            time.sleep(0.02)  # a pause between two looks, bounded by the deadline

    def _answers(self) -> bool:
        command = [str(self.binaries / "pg_isready"), "-q", "-t", "5", "-h", self.host, "-p", str(self.port)]
        return subprocess.run(command, timeout=START_DEADLINE_S).returncode == 0

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def stop(self, *, immediate: bool = False) -> None:
        """End it: orderly but without waiting for its clients, or at once as after a loss of power."""
        if self._process is None:
            return
        family = self._family()
        self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        try:
            self._process.wait(END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        _wait_gone(family)
        self._process = None

    def kill(self) -> None:
        """kill -9 of the server and all its children."""
        if self._process is None:
            return
        family = self._family()
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self._process.wait(END_DEADLINE_S)
        _wait_gone(family)
        self._process = None

    def restart(self, *, immediate: bool = False) -> None:
        self.stop(immediate=immediate)
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open and nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, what: signal.Signals) -> None:
        for each in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(what)

    def _family(self) -> list[psutil.Process]:
        """The server first, then its children: killed in this order, nobody starts new ones."""
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    # -- its databases -----------------------------------------------------------------------------------------

    def url(self, schema: str = "", *, database: str = "postgres", password: str | None = None, **options: str) -> str:
        """A store URL of the server's owner."""
        secret = quote(self.password if password is None else password, safe="")
        query = "&".join(f"{key}={quote(value)}" for key, value in {"schema": schema, **options}.items() if value)
        return f"postgresql://{USER}:{secret}@{self.host}:{self.port}/{database}" + (f"?{query}" if query else "")

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one SQL statement as the server's owner, committed at once."""
        import psycopg

        with psycopg.connect(self.url(database=database), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def log_text(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")


def _wait_gone(family: list[psutil.Process]) -> None:
    """Wait until none of them runs. A child whose parent was killed may stay a zombie until init looks at it."""
    deadline = time.monotonic() + END_DEADLINE_S
    while any(map(_runs, family)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes of PostgreSQL did not end: {family}")
        time.sleep(0.01)  # a pause between two looks, bounded by the deadline


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def postgres_server(settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A running server for the length of a with-block. Raises RuntimeError where none can be (see ``why_not``)."""
    folder = Path(tempfile.mkdtemp(prefix="ta-pg-", dir="/tmp"))  # short: a socket's path has 107 bytes at most
    server = None
    try:
        server = PostgresServer(folder, settings)
        server.start()
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
