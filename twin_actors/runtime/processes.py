"""The city's own processes beside Ray's workers: Ray head, broker, device host; started and ended exactly."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

from twin_actors.wire.process_start import SAME_S, began_s

RECORD_FILE = "city.json"
END_DEADLINE_S = 3.0


class Running(msgspec.Struct, frozen=True):
    """A process of ours, recognised by its start, so that a reused id is never mistaken for it."""

    pid: int
    began_s: float  # after the start of the machine: the time of day may be set meanwhile

    @classmethod
    def of(cls, pid: int) -> Running:
        return cls(pid, began_s(pid))

    def process(self) -> psutil.Process | None:
        """The process if it is still the same one and alive."""
        try:
            process = psutil.Process(self.pid)
            if abs(began_s(self.pid) - self.began_s) > SAME_S or process.status() == psutil.STATUS_ZOMBIE:
                return None
            return process
        except psutil.NoSuchProcess:
            return None


class Record(msgspec.Struct, kw_only=True):
    """What runs under a city's name on this machine; written beside its plan, readable by its owner only."""

    city: str
    scenario: tuple[str, ...]
    address: str
    namespace: str
    token: str
    launched_at_s: float
    head: Running | None = None
    owner: Running | None = None  # the process that holds Ray inside itself (address "local")
    ray_folder: str = ""
    broker: dict[str, Any] | None = None
    devices: Running | None = None

    def save(self, folder: Path) -> None:
        path = folder / RECORD_FILE
        staging = path.with_suffix(".new")
        descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self))
        staging.replace(path)

    @classmethod
    def load(cls, folder: Path) -> Record | None:
        path = folder / RECORD_FILE
        return msgspec.json.decode(path.read_bytes(), type=cls) if path.exists() else None


def home() -> Path:
    """Where cities keep their folders: TWIN_ACTORS_HOME, or ~/.twin-actors."""
    return Path(os.environ.get("TWIN_ACTORS_HOME", Path.home() / ".twin-actors"))


def free_ports(count: int) -> list[int]:
    """Ports that are free on the loopback address now, below the range that Ray gives its workers."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            port = 20_000 + secrets.randbelow(12_000)
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
        return found


CALM = {
    "RAY_task_events_report_interval_ms": "0",  # a record of every call for the state API, which a city does not use
    "RAY_event_stats": "0",  # counts and times every handler of every loop, for Ray's own debugging
    "RAY_event_stats_print_interval_ms": "0",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_raylet_check_gc_period_milliseconds": "1000",
    "RAY_object_manager_timer_freq_ms": "1000",
    "RAY_local_fs_monitor_interval_ms": "1000",
    "RAY_kill_idle_workers_interval_ms": "1000",
    "RAY_memory_monitor_refresh_ms": "1000",
    "RAY_io_context_monitor_probe_interval_ms": "10000",
    "RAY_io_context_event_loop_lag_collection_interval_ms": "0",
}
"""What Ray of one machine looks at ten times a second though nothing happens (docs/benchmarks.md: the idle city)."""


_STARTED: list[subprocess.Popen[bytes]] = []
"""What this process has started to outlive it: Python warns of every child that it lets go while that still runs."""


def start_head(
    folder: Path, *, token: str, cores: int, object_store_bytes: int = 100_000_000
) -> tuple[Running, str, str]:
    """Start a Ray head with ports, token and temporary folder of its own; returns it, its address and that folder.

    Raises RuntimeError with the end of its log when it does not come up.
    """
    gcs, client, agent_http, agent_grpc, metrics, runtime_env = free_ports(6)
    # Unix sockets live in this folder and their paths must stay below 108 characters
    ray_folder = tempfile.mkdtemp(prefix="ta-", dir="/tmp")
    environment = {
        **CALM,
        **os.environ,
        "RAY_worker_niceness": "0",  # workers at nice 15 would stand behind the broker
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_worker_maximum_startup_concurrency": "16",  # twin actors come by the dozen, and mostly wait for disk
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={agent_http}", f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={runtime_env}",
        "--no-monitor",  # nothing to scale here: a process of 70 MB less
        "--include-dashboard=false", f"--num-cpus={cores}", f"--object-store-memory={object_store_bytes}",
        f"--temp-dir={ray_folder}", "--disable-usage-stats", "--include-log-monitor=false",
    ]  # fmt: skip
    log_path = folder / "head.log"
    with log_path.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
            start_new_session=True,
        )  # fmt: skip
    _STARTED.append(process)
    head = Running.of(process.pid)
    try:
        _wait_for_head(process, log_path)
    except BaseException:  # also a Ctrl-C: what was started must not stay behind
        end_tree(head, deadline_s=1.0)
        remove_ray_folder(ray_folder)
        raise
    return head, f"127.0.0.1:{gcs}", ray_folder


def _wait_for_head(process: subprocess.Popen[bytes], log_path: Path, deadline_s: float = 60.0) -> None:
    deadline = time.monotonic() + deadline_s
    while b"Ray runtime started" not in log_path.read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(
                f"the Ray head did not start; the end of {log_path}:\n{log_path.read_text(errors='replace')[-2000:]}"
            )
        time.sleep(0.05)  # a log file cannot be waited on; the loop has a deadline


def start_devices(folder: Path) -> Running:
    """Start the device host of a city as a process of its own."""
    with (folder / "devices.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "twin_actors.runtime.devices", "--folder", str(folder)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    _STARTED.append(process)
    return Running.of(process.pid)


def end_tree(running: Running | None, *, deadline_s: float = END_DEADLINE_S) -> None:
    """End exactly this process and its descendants: ask, wait, then make sure. Ended already: nothing happens."""
    root = running.process() if running is not None else None
    if root is None:
        return
    tree = [root, *root.children(recursive=True)]
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(tree, timeout=deadline_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=deadline_s)


def remove_ray_folder(path: str) -> None:
    """Remove the temporary folder of an ended head (sockets and logs of this city only)."""
    if path and Path(path).name.startswith("ta-") and Path(path).parent == Path("/tmp"):
        shutil.rmtree(path, ignore_errors=True)


def use_token(token: str) -> None:
    """Make this process speak to the city's Ray head with its token, also when ray was imported before.

    Ray reads mode and token from the environment once, at import; a session that has imported it already must have
    both read again, for which Ray has no public call.
    """
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = token
    if "ray" in sys.modules:
        from ray._raylet import AuthenticationTokenLoader, Config

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
