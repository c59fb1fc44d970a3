"""Launching a city on this machine: its folder, its processes, Ray, and the controller."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec

from twin_actors.runtime.clock import Clock
from twin_actors.runtime.driving import CALL_DEADLINE_S, Progress, connect_ray, wait_for_first_look, wait_for_routers
from twin_actors.runtime.local import LOCK_FILE, alone, folder_of, running
from twin_actors.runtime.measuring import kept_measures
from twin_actors.runtime.placement import (
    ACTOR_BYTES,
    CONTROLLER_BYTES,
    ActorPlan,
    LaunchRefused,
    check_memory,
    free_memory_bytes,
    plan_actors,
)
from twin_actors.runtime.plan import PLAN_FILE, SCENARIO_FILE, CityPlan, Plan, Reach, decoders_of
from twin_actors.runtime.processes import Record, Running, start_devices, start_head
from twin_actors.runtime.shelf import place_of
from twin_actors.runtime.shutdown import end
from twin_actors.runtime.sizing import (
    Capacity,
    Sizing,
    auto_kinds,
    capacity_here,
    capacity_of,
    counts,
    kept_sizes,
    shown,
    sizes_for,
)
from twin_actors.runtime.stores import STORE_FOLDER, store_of
from twin_actors.runtime.taking_over import divide_routers, opened, take_over
from twin_actors.runtime.waiting import answer, first_silent
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.scenario.model import Scenario
from twin_actors.wire.broker import EmbeddedBroker

log = logging.getLogger(__name__)


def _end_remains(folder: Path) -> None:
    """End what a crashed city has left running, by the ids in its record: broker, device host, Ray head."""
    record = Record.load(folder)
    if record is not None:
        end(record, folder)


def _clear(folder: Path, *, keep: bool) -> None:
    """Remove what an earlier life has left; with ``keep`` not its store, nor what the broker keeps for the router."""
    kept = {
        LOCK_FILE,
        SCENARIO_FILE,
        PLAN_FILE,
    }  # with the plan 'down --volumes' still finds what a refused launch left
    if keep:
        kept |= {STORE_FOLDER, "broker"}
    for path in folder.iterdir():
        if path.name in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def launch(
    scenario: Scenario,
    *,
    address: str | None = None,
    progress: Progress | None = None,
    deadline_s: float = 600.0,
) -> Record:
    """Start everything a city needs and wait until every twin actor has answered.

    ``address="local"`` uses or starts Ray inside this process: the city ends with it (for tests). On any failure
    what was started is ended again. Raises LaunchRefused, TimeoutError or RuntimeError.
    """
    tell = progress or (lambda what, done, total: None)
    _check_usable(scenario)
    if not scenario.entities:
        raise LaunchRefused(f"{scenario.city} has no entities: add some under 'entities'")
    if scenario.cluster is not None and address is None:
        address = scenario.cluster
    folder = folder_of(scenario.city)
    # a city without a folder has measured nothing here that its lock must guard: refused, it leaves nothing behind
    first = None if folder.exists() else _packed(scenario, folder, address)
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    with alone(folder, scenario.city):
        _refuse_second(scenario.city)
        sizes, plans = first or _packed(scenario, folder, address)
        if said := shown(sizes):
            log.info("%s", said)
        return _launch(scenario, plans, sizes, folder, address, tell, deadline_s)


def _packed(scenario: Scenario, folder: Path, address: str | None) -> tuple[dict[str, Sizing], Sequence[ActorPlan]]:
    """How many twins share an actor, and which those are. Raises LaunchRefused when this machine cannot hold them."""
    sizes = _sizes(scenario, folder, address)
    plans = plan_actors(scenario, counts(sizes))
    if scenario.cluster is None:  # the memory of a cluster is its nodes', which Ray watches over
        check_memory(scenario, plans, free_memory_bytes())
    return sizes, plans


def _sizes(scenario: Scenario, folder: Path, address: str | None) -> dict[str, Sizing]:
    """How 'auto' packs the twins: by what there is now, and by what the city's earlier life has measured."""
    if not auto_kinds(scenario):
        return {}
    where = store_of(scenario.store_url, folder, scenario.city)
    measured, before = {}, {}
    if where.durable and where.begun:
        with opened(where, scenario.city) as store:
            measured, before = kept_measures(store), kept_sizes(store)
    return sizes_for(scenario, _capacity(scenario, address), measured, before)


def _capacity(scenario: Scenario, address: str | None) -> Capacity:
    """Of this machine, or of all nodes of a cluster that may hold twin actors."""
    if address in (None, "local"):
        return capacity_here()
    connect_ray(_record_of(scenario, address))
    from twin_actors.runtime.nodes import living_nodes

    return capacity_of([(node.cores, node.free_bytes) for node in living_nodes() if node.holds_twins])


def _record_of(scenario: Scenario, address: str | None) -> Record:
    return Record(
        city=scenario.city,
        scenario=scenario.files,
        address=address or "",
        namespace=f"twin-actors-{scenario.city}",
        token="",
        launched_at_s=time.time(),
        owner=Running.of(os.getpid()) if address == "local" else None,
    )


def _refuse_second(city: str) -> None:
    if running(city, look_for_whole=True) is not None:
        raise LaunchRefused(
            f"a city called {city!r} is running already: end it with 'twin-actors down {city}', "
            f"look at it with 'twin-actors ps', or give this one another name under 'city'"
        )


def _launch(
    scenario: Scenario,
    plans: Sequence[ActorPlan],
    sizes: Mapping[str, Sizing],
    folder: Path,
    address: str | None,
    tell: Progress,
    deadline_s: float,
) -> Record:
    _end_remains(folder)
    _clear(folder, keep=store_of(scenario.store_url, folder, scenario.city).durable)
    record = _record_of(scenario, address)
    try:
        _start(record, scenario, plans, sizes, folder, address, tell, deadline_s)
    except BaseException:
        end(record, folder)
        raise
    return record


def _check_usable(scenario: Scenario) -> None:
    """Refuse before anything starts what only an actor would find out: stores and brokers that this version lacks."""
    try:
        store_of(scenario.store_url, folder_of(scenario.city), scenario.city)
        catalogue = load_catalogue()
        for kind in scenario.kinds_used():
            decoders_of(catalogue.kinds[kind], scenario)
    except ValueError as error:
        raise LaunchRefused(str(error)) from error
    if scenario.broker.websocket_path is not None:
        raise LaunchRefused("brokers are reached over TCP in this version: write mqtt:// or mqtts:// in 'broker.url'")


def _start(
    record: Record,
    scenario: Scenario,
    plans: Sequence[ActorPlan],
    sizes: Mapping[str, Sizing],
    folder: Path,
    address: str | None,
    tell: Progress,
    deadline_s: float,
) -> None:
    where = store_of(scenario.store_url, folder, scenario.city)
    tell("opening the store", 0, 1)
    plan = Plan(
        clock={},
        broker=Reach(host="", port=0),
        store=where.url,
        actors=tuple((each.name, each.entities) for each in plans),
    )
    plan, before, resumed_s = take_over(where, scenario, plan, sizes, tell)
    tell("starting the broker", 0, 1)
    reach = _broker(record, scenario, folder)
    start_s = scenario.clock.start_s or time.time()
    clock = Clock(
        mode=scenario.clock.mode,
        speed=scenario.clock.speed,
        # a city that has lived goes on where it stopped: its clock must not turn back before its twins
        start_s=start_s if resumed_s is None else max(start_s, resumed_s),
        origin_s=time.time(),
    )
    plan = msgspec.structs.replace(plan, clock=asdict(clock), broker=reach)
    CityPlan.save(folder, scenario, plan)
    if before is not None:
        divide_routers(where, before, CityPlan(scenario, plan, before.catalogue))
    tell("starting Ray", 0, 1)
    if address is None:
        record.token = secrets.token_hex(32)
        record.head, record.address, record.ray_folder = start_head(
            folder, token=record.token, cores=os.cpu_count() or 1
        )
    record.save(folder)
    connect_ray(record)
    place = place_of(record, folder)
    if place != str(folder):
        CityPlan.save(place, scenario, plan)
    _start_controller(record, place)
    _create_all(record, plans, tell, deadline_s)
    wait_for_routers(record, deadline_s=30.0)
    wait_for_first_look(record, deadline_s=30.0)
    if scenario.sources:
        tell("starting the devices", 0, 1)
        record.devices = start_devices(folder)
        record.save(folder)


def _broker(record: Record, scenario: Scenario, folder: Path) -> Reach:
    settings = scenario.broker
    if settings.embedded is None:
        return Reach(
            host=settings.host,
            port=settings.port,
            tls=settings.tls,
            username=settings.username,
            password=settings.secret(),
            ca_file=settings.ca_file,
            cert_file=settings.cert_file,
            key_file=settings.key_file,
            protocol=settings.protocol,
        )
    broker = EmbeddedBroker(folder / "broker", kind=settings.embedded, port=settings.port)
    broker.start(deadline_s=20.0)
    record.broker = broker.describe()
    record.save(folder)
    address = broker.address
    return Reach(
        host=address.host,
        port=address.port,
        username=address.username,
        password=address.password,
        protocol=address.protocol if settings.protocol == "auto" else settings.protocol,
    )


def _start_controller(record: Record, place: str) -> None:
    import ray

    from twin_actors.runtime.controller import Controller

    (
        ray.remote(Controller)
        .options(
            name="controller",
            namespace=record.namespace,
            lifetime="detached",
            max_restarts=-1,
            num_cpus=0,
            memory=CONTROLLER_BYTES,
            max_concurrency=4,
        )
        .remote(place, record.namespace)
    )


def _create_all(record: Record, plans: Sequence[ActorPlan], tell: Progress, deadline_s: float) -> None:
    total, deadline = len(plans), time.monotonic() + deadline_s
    while True:
        state = answer(
            "controller", record.namespace, "progress", within_s=CALL_DEADLINE_S, needs_bytes=CONTROLLER_BYTES
        )
        tell("creating twin actors", state["answered"], total)
        if state["phase"] == "running":
            return
        if state["phase"] == "refused":
            raise LaunchRefused(state["error"])
        if state["phase"] == "failed":
            raise RuntimeError(f"the city could not be created: {state['error']}")
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"only {state['answered']} of {total} twin actors answered within {deadline_s:.0f} s; "
                f"{first_silent([plan.name for plan in plans], record.namespace, ACTOR_BYTES)}"
            )
        time.sleep(0.1)  # progress is a question, not an event; the loop has a deadline
