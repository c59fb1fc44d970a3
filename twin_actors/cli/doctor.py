"""``doctor``: whether this machine can hold a city, and what to do where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from twin_actors.cli.cities import Files, Layered
from twin_actors.cli.faults import ExitCode, explained
from twin_actors.cli.voice import AsJson, Voice

if TYPE_CHECKING:
    from twin_actors.scenario.model import Scenario

OLDEST_PYTHON = (3, 11)
RAY_SERIES = "2.60"
OPEN_FILES_PER_ACTOR = 16
OPEN_FILES_BASE = 1024
OBJECT_STORE_BYTES = 100_000_000
DISK_BYTES = 1_000_000_000
CONNECT_DEADLINE_S = 3.0


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``fix`` says what to do about a state other than ok."""

    name: str
    state: State
    says: str
    fix: str = ""


def doctor(files: Files = None, layered: Layered = None, as_json: AsJson = False) -> None:
    """Check this machine, and with FILES whether it can hold that city. Exit code 1 says that something blocks."""
    from rich.text import Text

    voice = Voice(as_json)
    findings = examine([*(files or ()), *(layered or ())])
    blocked = [each for each in findings if each.state is State.BLOCKED]
    style = {State.OK: "green", State.WARN: "yellow", State.BLOCKED: "bold red"}
    lines = []
    for each in findings:
        line = Text.assemble((f"{each.state.value:<8}", style[each.state]), f"{each.name}: {each.says}")
        if each.fix:
            line.append(f"\n        {each.fix}")
        lines.append(line)
    verdict = f"{len(blocked)} thing(s) block" if blocked else "nothing blocks"
    voice.result({"ok": not blocked, "checks": findings}, *lines, verdict)
    if blocked:
        raise typer.Exit(ExitCode.FAILED)


def examine(paths: list[Path]) -> list[Finding]:
    """Everything that is looked at, in the order in which a launch would stumble over it."""
    scenario, findings = _scenario(paths)
    checks: tuple[Callable[[Scenario | None], Iterator[Finding]], ...] = (
        _python, _ray, _kernels, _memory, _shared_memory, _open_files, _disk, _broker, _ports, _home, _domains,
        _leftovers,
    )  # fmt: skip
    for check in checks:
        findings += check(scenario)
    return findings


def _scenario(paths: list[Path]) -> tuple[Scenario | None, list[Finding]]:
    from twin_actors.scenario import CatalogueError, ScenarioError, load_scenario

    if not paths:
        return None, []
    name = "scenario"
    try:
        scenario = load_scenario(paths)
    except (ScenarioError, CatalogueError) as error:
        return None, [Finding(name, State.BLOCKED, explained(error)[0], "see 'twin-actors validate'")]
    return scenario, [Finding(name, State.OK, f"{scenario.city}, {len(scenario.entities):,} twins")]


def _python(_: Scenario | None) -> Iterator[Finding]:
    import platform
    import sys

    says = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        yield Finding(
            "Python", State.BLOCKED, says, f"Twin Actors needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer"
        )
    else:
        yield Finding("Python", State.OK, says)


def _ray(_: Scenario | None) -> Iterator[Finding]:
    from importlib import metadata

    try:
        found = metadata.version("ray")
    except metadata.PackageNotFoundError:
        yield Finding("Ray", State.BLOCKED, "not installed", f"pip install 'ray[default]=={RAY_SERIES}.*'")
        return
    if found.startswith(f"{RAY_SERIES}."):
        yield Finding("Ray", State.OK, found)
    else:
        fix = f"it is tested with {RAY_SERIES}: pip install 'ray[default]=={RAY_SERIES}.*'"
        yield Finding("Ray", State.WARN, found, fix)


def _kernels(_: Scenario | None) -> Iterator[Finding]:
    from twin_actors.core.kernels import kernels

    found = kernels()
    if found.loops is None:
        fix = "twins are as true without, only slower by the batch; to have them: pip install --force-reinstall"
        yield Finding("kernels", State.WARN, found.says, fix)
    else:
        yield Finding("kernels", State.OK, found.says)


def _memory(scenario: Scenario | None) -> Iterator[Finding]:
    from twin_actors.runtime.placement import (
        ACTOR_BYTES,
        RESERVED_BYTES,
        LaunchRefused,
        check_memory,
        free_memory_bytes,
        plan_actors,
    )

    free = free_memory_bytes()
    room = max((free - RESERVED_BYTES) // ACTOR_BYTES, 0)
    says = f"{free / 1e9:.1f} GB free, room for about {room:,} twin actors (a packed actor holds thousands of twins)"
    if scenario is not None and scenario.cluster is None:
        try:
            check_memory(scenario, plan_actors(scenario), free)
        except LaunchRefused as refused:
            yield Finding("memory", State.BLOCKED, says, str(refused))
            return
    if room < 1:
        yield Finding("memory", State.BLOCKED, says, f"a city takes {RESERVED_BYTES / 1e9:.1f} GB before its twins")
    else:
        yield Finding("memory", State.OK, says)


def _shared_memory(_: Scenario | None) -> Iterator[Finding]:
    import shutil

    place = Path("/dev/shm")
    if not place.is_dir():
        yield Finding("/dev/shm", State.WARN, "not there", "Ray keeps its object store on disk, which is slower")
        return
    free = shutil.disk_usage(place).free
    says = f"{free / 1e6:,.0f} MB free"
    if free < OBJECT_STORE_BYTES:
        fix = "Ray keeps its object store on disk, which is slower; in Docker: --shm-size=1g"
        yield Finding("/dev/shm", State.WARN, says, fix)
    else:
        yield Finding("/dev/shm", State.OK, says)


def _open_files(scenario: Scenario | None) -> Iterator[Finding]:
    import resource

    from twin_actors.runtime.placement import plan_actors

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    actors = len(plan_actors(scenario)) if scenario is not None else 100
    needed = OPEN_FILES_BASE + OPEN_FILES_PER_ACTOR * actors
    says = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,}, about {needed:,} needed for {actors:,} actors"
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        yield Finding("open files", State.WARN, says, f"raise the limit in this shell first: ulimit -n {raised}")
    else:
        yield Finding("open files", State.OK, says)


def _disk(_: Scenario | None) -> Iterator[Finding]:
    import shutil

    free = shutil.disk_usage("/tmp").free
    says = f"{free / 1e9:.1f} GB free for Ray's sockets and logs"
    if free < DISK_BYTES:
        yield Finding("/tmp", State.WARN, says, "Ray stops working on a full disk: make room")
    else:
        yield Finding("/tmp", State.OK, says)


def _broker(scenario: Scenario | None) -> Iterator[Finding]:
    from importlib.util import find_spec

    from twin_actors.wire.broker import find_mosquitto

    if scenario is not None and scenario.broker.embedded is None:
        reachable = _reachable(scenario.broker.host, scenario.broker.port)
        yield reachable
        if reachable.state is State.OK:
            yield _tried(scenario)
        return
    wanted = scenario.broker.embedded if scenario is not None else "auto"
    mosquitto, install = find_mosquitto(), "install Mosquitto (Debian, Ubuntu: apt install mosquitto)"
    if mosquitto and wanted != "amqtt":
        yield Finding("broker", State.OK, f"Mosquitto at {mosquitto}")
    elif wanted == "mosquitto":
        yield Finding("broker", State.BLOCKED, "the scenario wants Mosquitto, which is not installed", install)
    elif find_spec("amqtt") is None:
        yield Finding("broker", State.BLOCKED, "neither Mosquitto nor amqtt is installed", install)
    else:
        says = "amqtt: fine for a first hour; slow, it queues without bound and drops QoS 1 not acknowledged within 5 s"
        yield Finding("broker", State.WARN, says, install)


def _tried(scenario: Scenario) -> Finding:
    """What the scenario's broker does with QoS 1 messages for a router that is away, found out by trying."""
    from twin_actors.wire.address import BrokerAddress, BrokerUnreachable
    from twin_actors.wire.probing import probe

    broker = scenario.broker
    try:
        address = BrokerAddress(
            host=broker.host, port=broker.port, tls=broker.tls, username=broker.username, password=broker.secret(),
            ca_file=broker.ca_file, cert_file=broker.cert_file, key_file=broker.key_file, protocol=broker.protocol,
        )  # fmt: skip
        found = probe(address, scenario.root)
    except (BrokerUnreachable, TimeoutError, LookupError) as error:
        return Finding(
            "broker's queue", State.BLOCKED, str(error), "see 'broker' in the scenario, and the broker's log"
        )
    what = f"{found.version or 'the broker'}, MQTT {found.protocol}"
    if found.kept < found.sent:
        says = (
            f"{what}: of {found.sent:,} messages that it acknowledged for a client that was away, it dropped "
            f"{found.sent - found.kept:,}"
        )
        fix = (
            "raise its limits (Mosquitto: max_queued_messages 0, max_inflight_messages 0, and a byte limit "
            "max_queued_bytes; persistence true), or readings are lost while the router restarts"
        )
        return Finding("broker's queue", State.WARN, says, fix)
    if not found.tells_dropped:
        says = f"{what}: keeps what it acknowledges, but does not tell how much it drops"
        fix = "let the router's user read $SYS/broker/publish/messages/dropped, so that the auditor can watch it"
        return Finding("broker's queue", State.WARN, says, fix)
    return Finding("broker's queue", State.OK, f"{what}: keeps what it acknowledges, and tells what it drops")


def _reachable(host: str, port: int) -> Finding:
    import socket

    try:
        socket.create_connection((host, port), timeout=CONNECT_DEADLINE_S).close()
    except OSError as error:
        says = f"{host}:{port} cannot be reached: {error}"
        return Finding("broker", State.BLOCKED, says, "start it, or correct 'broker.url' in the scenario")
    return Finding("broker", State.OK, f"{host}:{port} accepts connections")


def _ports(_: Scenario | None) -> Iterator[Finding]:
    from twin_actors.runtime.processes import free_ports

    try:
        free_ports(7)
    except OSError as error:
        yield Finding("ports", State.BLOCKED, f"none can be bound on 127.0.0.1: {error}", "allow the loopback address")
    else:
        yield Finding("ports", State.OK, "free ones on 127.0.0.1")


def _home(_: Scenario | None) -> Iterator[Finding]:
    import tempfile

    from twin_actors.runtime.processes import home

    place = home()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        fix = "set TWIN_ACTORS_HOME to a folder that you may write to"
        yield Finding("home", State.BLOCKED, f"{place} cannot be written: {error}", fix)
    else:
        yield Finding("home", State.OK, str(place))


def _domains(_: Scenario | None) -> Iterator[Finding]:
    """Every plug-in must load, and no folder elsewhere on the path may stand in front of it."""
    import warnings
    from importlib import metadata

    from twin_actors.scenario.catalogue import GROUP, Catalogue, CatalogueError, load_domain

    points = sorted(dict.fromkeys(metadata.entry_points(group=GROUP)), key=lambda point: (point.name, point.value))
    found, faulty = [], False
    for point in points:
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            try:
                found.append(load_domain(point))
            except CatalogueError as error:
                faulty = True
                yield Finding("domains", State.BLOCKED, str(error), "")
        for each in noted:
            if issubclass(each.category, RuntimeWarning):
                fix = "rename or remove the folder that you do not mean, or start from another folder"
                yield Finding("domains", State.WARN, str(each.message), fix)
    try:
        catalogue = Catalogue.of(found)
    except CatalogueError as error:
        yield Finding("domains", State.BLOCKED, str(error), "")
        return
    if not found and not faulty:
        fix = "install Twin Actors with its own domains again, or a package that brings one"
        yield Finding("domains", State.WARN, "none installed", fix)
    elif found:
        names = ", ".join(catalogue.domains)
        yield Finding("domains", State.OK, f"{names}: {len(catalogue.kinds)} kinds, {len(catalogue.policies)} policies")


def _leftovers(_: Scenario | None) -> Iterator[Finding]:
    from twin_actors.cli.running import unended
    from twin_actors.runtime import local
    from twin_actors.runtime.processes import RECORD_FILE, home

    if not home().is_dir():
        return
    running = tuple(local.cities())
    if running:
        yield Finding("cities", State.OK, f"running: {', '.join(running)}")
    for record in unended():
        says = f"{record.city} lost its Ray head without 'down'; its broker or devices may still run"
        yield Finding("cities", State.WARN, says, f"twin-actors down {record.city}")
    ended = [path for path in sorted(home().iterdir()) if path.is_dir() and not (path / RECORD_FILE).exists()]
    if ended:
        size = sum(file.stat().st_size for path in ended for file in path.rglob("*") if file.is_file())
        says = f"{len(ended)} folder(s) of ended cities with their logs, {size / 1e6:,.1f} MB"
        yield Finding("cities", State.OK, f"{says}: {', '.join(path.name for path in ended)} in {home()}")
