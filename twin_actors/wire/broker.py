"""A broker of our own on this machine: Mosquitto where it is installed, else amqtt, as a process that outlives us."""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias

import psutil

from twin_actors.wire.address import BrokerAddress, BrokerUnreachable
from twin_actors.wire.client import MqttClient
from twin_actors.wire.process_start import SAME_S, began_s

BrokerKind: TypeAlias = Literal["auto", "mosquitto", "amqtt"]

logger = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
_ATTEMPTS: Final = 3  # another process may take a free port before the broker does
_QUEUE_BYTES: Final = 512 * 1024 * 1024
_LOOK_EVERY_S: Final = 0.02
_LOG_SHOWN: Final = 1_000
_PASSWORD_ROUNDS: Final = 20_000

# Processes started here, kept so that their end is noticed (no zombies); an EmbeddedBroker may be let go of before.
_children: dict[int, subprocess.Popen[bytes]] = {}


class BrokerFailed(RuntimeError):
    """The broker could not be started; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Certificates of a broker, PEM; with ``require_client`` clients must show one of the same authority."""

    ca_file: str
    cert_file: str
    key_file: str
    require_client: bool = False


def find_mosquitto() -> str | None:
    """The path of the Mosquitto broker, which some systems install where PATH does not look; None: not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


def free_port() -> int:
    """A TCP port of the loopback that is free at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedBroker:
    """A broker bound to the loopback, with its files in ``folder``.

    ``port=0`` takes a free one and keeps it over restarts. ``users`` (name → password), ``access`` (the text of an
    access control list, see ``access.access_list``) and ``tls`` need Mosquitto.
    The process is a session of its own: it survives this one until ``stop``, which any process may call after
    ``attach``. amqtt is for a first hour only: it queues without bound and is slow.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        kind: BrokerKind = "auto",
        port: int = 0,
        *,
        users: Mapping[str, str] | None = None,
        access: str = "",
        tls: TlsFiles | None = None,
    ) -> None:
        self.folder = Path(folder).resolve()
        self._mosquitto = find_mosquitto()
        if kind == "auto":
            kind = "mosquitto" if self._mosquitto else "amqtt"
        if kind == "mosquitto" and not self._mosquitto:
            raise BrokerFailed(
                "Mosquitto is not installed: install it (Debian, Ubuntu: apt install mosquitto), "
                "or leave the kind at auto"
            )
        if kind == "amqtt" and (users or access or tls):
            raise BrokerFailed("the embedded amqtt has neither users nor access control nor TLS: install Mosquitto")
        self.kind: Literal["mosquitto", "amqtt"] = kind
        self.port = port
        self._users = dict(users or {})
        self._access = access
        self._tls = tls
        self.pid: int | None = None
        self._began_s = math.nan

    @property
    def address(self) -> BrokerAddress:
        """How a client of this machine reaches it, as the first of its users."""
        name, password = next(iter(self._users.items()), (None, None))
        return BrokerAddress(
            host=HOST,
            port=self.port,
            tls=self._tls is not None,
            ca_file=self._tls.ca_file if self._tls else None,
            username=name,
            password=password,
            protocol="auto" if self.kind == "mosquitto" else "3.1.1",
        )

    @property
    def log_file(self) -> Path:
        return self.folder / f"{self.kind}.log"

    @property
    def running(self) -> bool:
        return self._process() is not None

    def start(self, deadline_s: float = 15.0) -> Self:
        """Start the process and wait until it accepts an MQTT connection; raises BrokerFailed with its last words."""
        if self.running:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.kind == "amqtt":
            logger.warning(
                "the embedded broker is amqtt, fine for a first hour: it queues without bound and drops QoS 1 that is "
                "not acknowledged within 5 s. Install Mosquitto for more"
            )
        end = time.monotonic() + deadline_s
        chosen = self.port
        for attempt in range(1, _ATTEMPTS + 1):
            self.port = chosen or free_port()
            self._launch()
            try:
                self._wait_until_up(end)
            except BrokerFailed:
                self.stop()
                self.port = chosen
                if chosen or attempt == _ATTEMPTS or time.monotonic() > end:
                    raise
            else:
                return self
        raise AssertionError("the last attempt returns or raises")

    def _launch(self) -> None:
        if self.kind == "mosquitto":
            command = [str(self._mosquitto), "-c", str(self._write_configuration())]
        else:
            log = str(self.log_file)
            command = [sys.executable, "-m", "twin_actors.wire.amqtt_child", "--port", str(self.port), "--log", log]
        environment = dict(os.environ)
        ours = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (ours, environment.get("PYTHONPATH"))))
        with open(self.folder / f"{self.kind}.out", "ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        _children[process.pid] = process
        self.pid = process.pid
        try:
            self._began_s = began_s(process.pid)
        except psutil.NoSuchProcess:  # it has ended already, and whoever waits for it will say why
            self._began_s = math.nan

    def _wait_until_up(self, end_s: float) -> None:
        client = MqttClient(self.address, client_id=f"start-{secrets.token_hex(4)}")
        try:
            while not client.connected:
                if not self.running:
                    raise BrokerFailed(f"{self.kind} ended at once. {self._last_words()}")
                if time.monotonic() > end_s:
                    raise BrokerFailed(f"{self.kind} is not up in time: {client.last_error}. {self._last_words()}")
                if not self._listening():
                    time.sleep(_LOOK_EVERY_S)
                    continue
                try:
                    client.wait_connected(0.1)
                except BrokerUnreachable:
                    continue  # the loop says when to give up
        finally:
            client.close()

    def _listening(self) -> bool:
        """Whether this very process listens on the port: another broker may hold it."""
        process = self._process()
        if process is None:
            return False
        try:
            sockets = process.net_connections("tcp")
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return False
        return any(s.status == psutil.CONN_LISTEN and s.laddr.port == self.port for s in sockets)

    def _last_words(self) -> str:
        paths = (self.folder / f"{self.kind}.out", self.log_file)
        said = [path.read_text(errors="replace")[-_LOG_SHOWN:].strip() for path in paths if path.is_file()]
        return f"It said: {' | '.join(filter(None, said)) or 'nothing'} (log: {self.log_file})"

    def _write_configuration(self) -> Path:
        """Mosquitto's configuration; its defaults drop messages that it has acknowledged."""
        lines = [
            f"listener {self.port} {HOST}",
            "set_tcp_nodelay true",
            "max_inflight_messages 0",
            "max_queued_messages 0",
            f"max_queued_bytes {_QUEUE_BYTES}",
            "persistence true",
            f"persistence_location {self.folder}/",
            "autosave_interval 60",
            "persistent_client_expiration 7d",
            f"log_dest file {self.log_file}",
            "log_type error",
            "log_type warning",
            "log_type notice",
            "connection_messages false",
            "sys_interval 5",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it becomes the user mosquitto, who cannot write to our folder
        if self._users:
            lines += ["allow_anonymous false", f"password_file {self._write_passwords()}"]
        else:
            lines.append("allow_anonymous true")
        if self._access:
            lines.append(f"acl_file {self._write_private('access', self._access)}")
        if self._tls is not None:
            lines += [
                f"cafile {self._tls.ca_file}",
                f"certfile {self._tls.cert_file}",
                f"keyfile {self._tls.key_file}",
                f"require_certificate {'true' if self._tls.require_client else 'false'}",
            ]
        path = self.folder / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _write_passwords(self) -> Path:
        """Mosquitto's password file: PBKDF2 with SHA-512, as mosquitto_passwd writes it ($7$)."""
        lines = []
        for name, password in self._users.items():
            if ":" in name or "\n" in name:
                raise BrokerFailed(f"user name {name!r} contains a colon or a line break")
            salt = secrets.token_bytes(12)
            digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _PASSWORD_ROUNDS, 64)
            salted, hashed = (base64.b64encode(part).decode() for part in (salt, digest))
            lines.append(f"{name}:$7${_PASSWORD_ROUNDS}${salted}${hashed}\n")
        return self._write_private("passwords", "".join(lines))

    def _write_private(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(text)
        return path

    def describe(self) -> dict[str, Any]:
        """What another process needs to find and stop it; plain JSON, without passwords."""
        return {
            "kind": self.kind,
            "pid": self.pid,
            "port": self.port,
            "folder": str(self.folder),
            "began_s": self._began_s,
        }

    @classmethod
    def attach(
        cls,
        description: Mapping[str, Any],
        *,
        users: Mapping[str, str] | None = None,
        tls: TlsFiles | None = None,
    ) -> Self:
        """The broker that ``describe`` told of; ``running`` says whether that very process still lives."""
        self = cls(description["folder"], description["kind"], description["port"], users=users, tls=tls)
        self.pid = description["pid"]
        self._began_s = description["began_s"]
        return self

    def _process(self) -> psutil.Process | None:
        """The process, if it lives and is the one that was started: numbers of processes are used again."""
        if self.pid is None:
            return None
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            del _children[self.pid]
            return None
        try:
            process = psutil.Process(self.pid)
            if not abs(began_s(self.pid) - self._began_s) <= SAME_S:
                return None
            return process if process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def stop(self, deadline_s: float = 5.0) -> None:
        """End exactly this process: SIGTERM (Mosquitto saves its sessions), after ``deadline_s`` SIGKILL."""
        process = self._process()
        if process is None:
            return
        for sign, patience_s in ((signal.SIGTERM, deadline_s), (signal.SIGKILL, 5.0)):
            try:
                process.send_signal(sign)  # psutil checks again that the number was not used again
            except psutil.NoSuchProcess:
                break
            if self._ended(process, patience_s):
                break
            logger.warning("%s (pid %s) does not end on %s", self.kind, process.pid, sign.name)
        _children.pop(process.pid, None)

    @staticmethod
    def _ended(process: psutil.Process, patience_s: float) -> bool:
        child = _children.get(process.pid)
        try:
            if child is not None:
                child.wait(patience_s)
            else:
                process.wait(patience_s)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            return False
        return True

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        how = f"pid {self.pid}" if self.running else "not running"
        return f"<EmbeddedBroker {self.kind} at {HOST}:{self.port}, {how}>"
