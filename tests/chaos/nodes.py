"""A Ray cluster of several nodes on one machine, one of them behind a link of its own, to kill, freeze and cut."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, Self

import psutil

from twin_actors.runtime.processes import Running, end_tree, free_ports, use_token
from twin_actors.testing.live import eventually
from twin_actors.wire.broker import EmbeddedBroker

HEALTH: Final = {
    # Ray's own settings give a frozen node up after 66 s; these, for a quick network, after about 10 s
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_raylet_start_wait_time_s": "90",  # a node that joins a busy machine of two cores takes its time
}
WORKER_MEMORY: Final = 600_000_000
"""Little, so that a city's actors do not fit on one node: Ray fills a node before it takes the next."""
UP_WITHIN_S: Final = 120.0
END_WITHIN_S: Final = 5.0
WORKERS: Final = 2


def why_no_network() -> str:
    """Why a node cannot be put behind a link that can be cut; empty when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the command 'ip' (iproute2) is not installed"
    name = f"chaos-try-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=10)
    if tried.returncode:
        return f"network namespaces are not allowed here: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True, timeout=10)
    return ""


def why_nothing_hidden() -> str:
    """Why a folder cannot be hidden from a node; empty when it can."""
    if shutil.which("unshare") is None:
        return "the command 'unshare' (util-linux) is not installed"
    with tempfile.TemporaryDirectory() as folder:
        words = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", folder]
        tried = subprocess.run(words, capture_output=True, text=True, timeout=10)
    return f"mount namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


class Link:
    """A network namespace joined to this machine by a pair of virtual cables (veth); ``cut`` pulls the cable."""

    def __init__(self) -> None:
        number = os.getpid() % 10_000
        self.namespace = f"chaos-{number}"
        self._near, self._far = f"chn{number}", f"chf{number}"
        net = 64 + secrets.randbelow(128)
        self.host, self.apart, self._more = f"10.213.{net}.1", f"10.213.{net}.2", f"10.213.{net}."
        _ip("netns", "add", self.namespace)
        try:
            _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.namespace)
            _ip("addr", "add", f"{self.host}/24", "dev", self._near)
            _ip("link", "set", self._near, "up")
            for words in (("addr", "add", f"{self.apart}/24", "dev", self._far), ("link", "set", self._far, "up")):
                _ip("-n", self.namespace, *words)
            _ip("-n", self.namespace, "link", "set", "lo", "up")
        except BaseException:
            self.remove()
            raise

    def another_host(self, number: int) -> str:
        """One more address of this machine's end."""
        address = f"{self._more}{number}"
        _ip("addr", "add", f"{address}/24", "dev", self._near)
        return address

    def cut(self) -> None:
        _ip("link", "set", self._near, "down")

    def join(self) -> None:
        _ip("link", "set", self._near, "up")

    def remove(self) -> None:
        """The cables go with the namespace."""
        subprocess.run(["ip", "netns", "del", self.namespace], capture_output=True, timeout=10)


class NetworkBroker(EmbeddedBroker):
    """Mosquitto as the product starts it, with a second listener on an address that other hosts reach."""

    def __init__(self, folder: Path, also_at: str) -> None:
        super().__init__(folder, kind="mosquitto")
        self._also_at = also_at

    def _write_configuration(self) -> Path:
        path = super()._write_configuration()
        if self._also_at:
            with path.open("a") as file:
                file.write(f"listener {self.port} {self._also_at}\n")
        return path


class Node:
    """One node of the cluster: ``ray start --block`` and its descendants."""

    def __init__(self, command: Sequence[str], folder: Path, address: str) -> None:
        self.address = address
        self._log = folder / f"node-{address}.log"
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, **HEALTH, "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"},
            )  # fmt: skip
        self._running = Running.of(self._process.pid)
        self._frozen: list[psutil.Process] = []
        self.ray_id = ""

    def wait_up(self) -> None:
        def up() -> bool:
            if self._process.poll() is not None:
                words = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the node {self.address} ended at once: {words}")
            return b"Ray runtime started" in self._log.read_bytes()

        eventually(up, within_s=UP_WITHIN_S, says=f"node {self.address} starts, see {self._log}")

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def _tree(self) -> list[psutil.Process]:
        root = self._running.process()
        return [root, *root.children(recursive=True)] if root is not None else []

    def leave(self) -> None:
        """SIGTERM, as a container's or a pod's end sends it."""
        self._process.send_signal(signal.SIGTERM)

    def kill_raylet(self) -> None:
        raylets = [process for process in self._tree() if process.name() == "raylet"]
        assert raylets, f"node {self.address} has a raylet"
        for raylet in raylets:
            raylet.kill()

    def freeze(self) -> None:
        self._frozen = self._tree()
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.thaw()
        tree = self._tree()
        end_tree(self._running, deadline_s=1.0)
        for process in (*tree, *self._frozen):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(timeout=END_WITHIN_S)


class Nodes:
    """A head that holds no actors, workers that do, and, if wanted, one worker in a network of its own (``apart``).

    ``hidden``: a folder that the workers see empty, each in a mount namespace of its own.
    """

    def __init__(self, *, apart: bool, memory: int = WORKER_MEMORY, hidden: Path | None = None) -> None:
        self._wants_apart, self._memory = apart, memory
        # as on another machine: what this folder holds is not there for the workers
        hide = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{hidden}" && exec "$@"', "sh")
        self._inside = hide if hidden is not None else ()
        self.link: Link | None = None
        self.workers: list[Node] = []
        self.apart: Node | None = None
        self._all: list[Node] = []
        self._numbers = iter(range(11, 255))

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))  # short: sockets live below it
        self._token = secrets.token_hex(32)
        use_token(self._token)
        try:
            if self._wants_apart:
                self.link = Link()
            self.host = self.link.host if self.link is not None else "127.0.0.1"
            (port,) = free_ports(1)
            self.address = f"{self.host}:{port}"
            head = self._start("--head", f"--port={port}", "--include-dashboard=false", at=self.host, memory=1_000_000)
            head.wait_up()
            for _ in range(WORKERS):
                self._add_worker()
            self._start_apart()
            self._learn_ids(*self.workers, *([self.apart] if self.apart is not None else []))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self._all):
            node.end()
        if self.link is not None:
            self.link.remove()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, *words: str, at: str, memory: int, inside: Sequence[str] = (), labels: str = "") -> Node:
        client, listen, grpc, metrics, environment = free_ports(5)
        head = "--head" in words
        command = [
            *inside, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words,
            f"--node-ip-address={at}", f"--dashboard-agent-listen-port={listen}",
            f"--dashboard-agent-grpc-port={grpc}", f"--metrics-export-port={metrics}",
            f"--runtime-env-agent-port={environment}", "--num-cpus=2", f"--memory={memory}",
            "--object-store-memory=100000000", "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0",
            *((f"--labels={labels}",) if labels else ()),
            *((f"--ray-client-server-port={client}", f"--temp-dir={self._folder}") if head else ()),
        ]  # fmt: skip
        node = Node(command, self._folder, at)
        self._all.append(node)
        return node

    def add_worker(self, labels: str = "") -> Node:
        """One more worker, known to Ray, with labels such as ``zone=east``."""
        node = self._add_worker(labels)
        self._learn_ids(node)
        return node

    def _add_worker(self, labels: str = "") -> Node:
        number = next(self._numbers)
        at = self.link.another_host(number) if self.link is not None else f"127.0.0.{number}"
        node = self._start(f"--address={self.address}", at=at, memory=self._memory, inside=self._inside, labels=labels)
        node.wait_up()
        self.workers.append(node)
        return node

    def _start_apart(self) -> None:
        if self.link is None:
            return
        inside = ("ip", "netns", "exec", self.link.namespace)
        self.apart = self._start(f"--address={self.address}", at=self.link.apart, memory=self._memory, inside=inside)
        self.apart.wait_up()

    def _learn_ids(self, *wanted: Node) -> None:
        """The ids that Ray has given the nodes; an address may have had several, of which one lives."""
        import ray

        def known() -> bool:
            alive = {each["NodeManagerAddress"]: each["NodeID"] for each in ray.nodes() if each["Alive"]}
            for node in wanted:
                node.ray_id = alive.get(node.address, "")
            return all(node.ray_id for node in wanted)

        if not ray.is_initialized():
            ray.init(self.address, log_to_driver=False, configure_logging=False)
        eventually(known, within_s=UP_WITHIN_S, says="all nodes are known to Ray")

    def any_worker(self, random: Random) -> Node:
        """A worker that lives. Ray may have given one up by itself on a busy machine: such a one is replaced first."""
        for node in list(self.workers):
            if not node.lives:
                self.replace(node)
        return random.choice(self.workers)

    def replace(self, node: Any, *, ended: bool = True) -> None:
        """Start another node in the place of a lost one; ``ended``: wait for the end of what is left of that one."""
        if node is self.apart:
            self._forget(node)
            self._start_apart()
            self._learn_ids(self.apart)
        else:
            self.workers.remove(node)
            self._learn_ids(self._add_worker())
            if ended:
                self._forget(node)

    def _forget(self, node: Node) -> None:
        """Wait until a lost node has noticed and ended by itself; only then make sure."""
        deadline = time.monotonic() + UP_WITHIN_S
        while node._running.process() is not None and time.monotonic() < deadline:
            time.sleep(0.05)  # a pause between two looks, bounded by the deadline
        node.end()
        self._all.remove(node)
