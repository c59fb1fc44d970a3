"""Launching a city on this machine and ending it again: folders, processes, Ray, and the controller."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from twin_actors.runtime.clock import Clock
from twin_actors.runtime.numbering import numbers_for
from twin_actors.runtime.placement import (
    ACTOR_BYTES,
    CONTROLLER_BYTES,
    OTHER_BYTES,
    ActorPlan,
    LaunchRefused,
    check_memory,
    free_memory_bytes,
    plan_actors,
)
from twin_actors.runtime.plan import PLAN_FILE, ROUTER, SCENARIO_FILE, CityPlan, Plan, Reach, decoders_of
from twin_actors.runtime.processes import (
    RECORD_FILE,
    Record,
    Running,
    end_tree,
    home,
    remove_ray_folder,
    start_devices,
    start_head,
    use_token,
)
from twin_actors.runtime.repacking import PLAN_KEY, KeptPlan, repack, same_packing
from twin_actors.runtime.sessions import divide_anew
from twin_actors.runtime.stores import STORE_FOLDER, StoreAddress, store_of
from twin_actors.runtime.waiting import answer, why_silent
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.scenario.model import Scenario
from twin_actors.store import LogTrimmed, Store, StoreDamaged, StoreUnavailable, erase_store
from twin_actors.wire.broker import EmbeddedBroker
from twin_actors.wire.client import BrokerUnreachable

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told (what is going on, how many are done, of how many)."""

LOCK_FILE = "launch.lock"
CALL_DEADLINE_S = 15.0
BROKER_PATIENCE_S = 6.0
"""How long a launch bears a broker that refuses or is not there; a city that runs goes on trying for ever."""


class CityNotFound(LookupError):
    """No city of this name runs here; the message says what to do."""


def folder_of(city: str) -> Path:
    return home() / city


def running(city: str, *, look_for_whole: bool = False) -> Record | None:
    """The record of a city whose Ray head is alive (or which borrowed somebody's), else None.

    ``look_for_whole``: a city in a borrowed Ray counts only while its controller is there.
    """
    record = Record.load(folder_of(city))
    if record is None:
        return None
    for needed in (record.head, record.owner):
        if needed is not None and needed.process() is None:
            return None
    if look_for_whole and record.head is None and not _controller_lives(record):
        return None
    return record


def _controller_lives(record: Record) -> bool:
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return True  # it cannot be asked from here
    try:
        ray.get_actor("controller", namespace=record.namespace)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def alone(folder: Path, city: str) -> Iterator[None]:
    """Nobody else launches or deletes this city meanwhile. Raises LaunchRefused when somebody does."""
    with (folder / LOCK_FILE).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LaunchRefused(
                f"{city} is being launched or deleted by another process at this moment: wait for it, then try again"
            ) from error
        yield


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
    plans = plan_actors(scenario, _cores_of_cluster(scenario, address))
    if scenario.cluster is None:  # the memory of a cluster is its nodes', which Ray watches over
        check_memory(scenario, plans, free_memory_bytes())
    folder = folder_of(scenario.city)
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    with alone(folder, scenario.city):
        _refuse_second(scenario.city)
        return _launch(scenario, plans, folder, address, tell, deadline_s)


def _cores_of_cluster(scenario: Scenario, address: str | None) -> int | None:
    """How many twin actors 'auto' makes in a cluster: one a core, of all nodes that may hold them, as memory allows.

    None where nothing is 'auto', or the city has this machine alone.
    """
    if address in (None, "local") or "auto" not in map(scenario.placement.of, scenario.kinds_used()):
        return None
    connect_ray(_record_of(scenario, address))
    from twin_actors.runtime.nodes import living_nodes

    nodes = [node for node in living_nodes() if node.holds_twins]
    fitting = sum(node.free_bytes // ACTOR_BYTES for node in nodes)
    return max(1, min(sum(max(int(node.cores), 1) for node in nodes), fitting))


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
    folder: Path,
    address: str | None,
    tell: Progress,
    deadline_s: float,
) -> Record:
    _end_remains(folder)
    _clear(folder, keep=store_of(scenario.store_url, folder, scenario.city).durable)
    record = _record_of(scenario, address)
    try:
        _start(record, scenario, plans, folder, address, tell, deadline_s)
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
    plan, before, resumed_s = _take_over(where, scenario, plan, tell)
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
        _divide_anew(where, before, CityPlan(scenario, plan, before.catalogue))
    tell("starting Ray", 0, 1)
    if address is None:
        record.token = secrets.token_hex(32)
        record.head, record.address, record.ray_folder = start_head(
            folder, token=record.token, cores=os.cpu_count() or 1
        )
    record.save(folder)
    connect_ray(record)
    _start_controller(record, folder)
    _create_all(record, plans, tell, deadline_s)
    wait_for_routers(record, deadline_s=30.0)
    wait_for_first_look(record, deadline_s=30.0)
    if scenario.sources:
        tell("starting the devices", 0, 1)
        record.devices = start_devices(folder)
        record.save(folder)


def _take_over(
    where: StoreAddress, scenario: Scenario, plan: Plan, tell: Progress
) -> tuple[Plan, CityPlan | None, float | None]:
    """The plan with lasting numbers, the city before it, and when that stopped (None, None for a new city).

    Where entities or packing have changed since, the twins of the earlier life move to their new places. Raises
    LaunchRefused when the store cannot be used.
    """
    try:
        store = where.open()
    except (StoreUnavailable, StoreDamaged, ValueError) as error:
        raise LaunchRefused(f"the store of {scenario.city} cannot be used: {error}") from error
    try:
        said, before = store.get(PLAN_KEY), None
        catalogue = load_catalogue()
        ids = [entity.id for entity in scenario.entities]
        if said is None:
            known = {entity: number for number, entity in enumerate(ids)}
        else:
            kept = msgspec.msgpack.decode(said, type=KeptPlan)
            before = kept.plan(catalogue, where.url)
            numbers, known = numbers_for(ids, kept.known)
            if known != {entity: number for number, entity in enumerate(ids)}:
                plan = msgspec.structs.replace(plan, numbers=numbers)
            now = CityPlan(scenario, plan, catalogue)
            if not same_packing(before, now):
                tell("moving twins to their new places", 0, 1)
                moved = repack(store, before, now)
                tell(f"{len(moved.kept)} twins kept, {len(moved.added)} new, {len(moved.removed)} gone", 1, 1)
        store.put(PLAN_KEY, msgspec.msgpack.encode(KeptPlan.of(scenario, plan, known)))
        return plan, before, _stopped_s(store)
    except (StoreUnavailable, StoreDamaged, LogTrimmed, ValueError) as error:
        raise LaunchRefused(
            f"what {scenario.city} has kept in {where.shown} cannot be taken over: {error}. Launch it under another "
            f"name, or begin anew with 'twin-actors down --volumes {scenario.city}', which deletes what it holds"
        ) from error
    finally:
        store.close()


def _divide_anew(where: StoreAddress, before: CityPlan, now: CityPlan) -> None:
    if before.routers == now.routers == (ROUTER,) and before.scenario.fleets == now.scenario.fleets:
        return
    store = where.open()
    try:
        left = divide_anew(store, before, now)
    except BrokerUnreachable as error:
        raise LaunchRefused(f"the routers of {now.scenario.city} cannot share their topics anew: {error}") from error
    finally:
        store.close()
    if left:
        log.warning("%d messages that waited for a router that is no more are dead letters now: replay them", left)


def _stopped_s(store: Store) -> float | None:
    """The newest moment that the logs know of."""
    moments = []
    for share in store.shares():
        logged = store.log(share)
        last = logged.read(logged.next_offset - 1, 1) if logged.next_offset > logged.kept_from else []
        snapshot = store.load_snapshot(share)
        moments += [entry.received_at_s for _, entry in last] + ([snapshot.at_s] if snapshot else [])
    return max(moments, default=None)


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


def _start_controller(record: Record, folder: Path) -> None:
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
        .remote(str(folder), record.namespace)
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
                f"{_first_silent(record, plans)}"
            )
        time.sleep(0.1)  # progress is a question, not an event; the loop has a deadline


def _first_silent(record: Record, plans: Sequence[ActorPlan]) -> str:
    """Which twin actor has not come to life, and why; of several the first stands for all."""
    import ray

    from twin_actors.runtime.nodes import life_of

    for plan in plans:
        try:
            handle = ray.get_actor(plan.name, namespace=record.namespace)
        except ValueError:
            return f"{plan.name} has not even been created: allow more time"
        if life_of(handle).state != "ALIVE":
            return f"{plan.name}: {why_silent(handle, ACTOR_BYTES)}"
    return "all of them live: allow more time"


def wait_for_routers(record: Record, *, deadline_s: float) -> None:
    """Return when every router has its subscriptions and all its twin actors have introduced themselves to it."""
    began = time.monotonic()
    for name in CityPlan.load(folder_of(record.city)).routers:
        _wait_for_router(record, name, began, began + deadline_s)


def _wait_for_router(record: Record, name: str, began: float, deadline: float) -> None:
    while True:
        left_s = max(deadline - time.monotonic(), CALL_DEADLINE_S)
        status = answer(name, record.namespace, "status", within_s=left_s, needs_bytes=OTHER_BYTES)
        standing = [actor["standing"] for actor in status["actors"].values()]
        if status["connected"] and all(each == "up" for each in standing):
            return
        refused = bool(status["broker_error"]) and not status["connected"]
        patience = began + BROKER_PATIENCE_S if refused else deadline
        if time.monotonic() > min(deadline, patience):
            why = status["broker_error"] if not status["connected"] else f"{standing.count('up')} of {len(standing)} up"
            raise TimeoutError(f"the {name} is not ready after {time.monotonic() - began:.0f} s: {why}")
        time.sleep(0.05)  # the same: asked until the deadline


def wait_for_first_look(record: Record, *, deadline_s: float) -> None:
    """Return when the aggregator has seen every twin once, so that frames and queries have all their columns."""
    deadline = time.monotonic() + deadline_s
    while True:
        left_s = max(deadline - time.monotonic(), CALL_DEADLINE_S)
        status = answer("aggregator", record.namespace, "status", within_s=left_s, needs_bytes=OTHER_BYTES)
        if status["tick"] and all(kind["oldest_look_s"] is not None for kind in status["kinds"].values()):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the aggregator has not seen all twins after {deadline_s:.0f} s: {status['errors']}")
        time.sleep(0.05)  # the same


def connect_ray(record: Record) -> None:
    """Make this process a driver of the city's Ray. Raises CityNotFound when the head does not answer."""
    if record.token:
        use_token(record.token)
    import ray

    if ray.is_initialized():
        if record.address == "local" or ray.get_runtime_context().gcs_address.endswith(record.address.split(":")[-1]):
            return
        raise CityNotFound(
            "this process is connected to another Ray cluster; call ray.shutdown() first, or use a new process"
        )
    if record.address == "local":
        if "RAY_AUTH_TOKEN" not in os.environ:
            use_token(secrets.token_hex(32))  # without one Ray would write its own into the user's home
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100_000_000,
            log_to_driver=False,
        )
        return
    try:
        ray.init(record.address, namespace=record.namespace, log_to_driver=False, configure_logging=False)
    except ConnectionError as error:
        raise CityNotFound(
            f"the Ray head of {record.city!r} at {record.address} does not answer: it may have ended; see "
            f"'twin-actors ps' and {folder_of(record.city)}/head.log ({str(error).splitlines()[0]})"
        ) from error


def end(record: Record, folder: Path) -> None:
    """End exactly what this city started: devices first, then the actors, Ray, the broker."""
    held = Record.load(folder)
    same = held is not None and held.launched_at_s == record.launched_at_s  # not that of a city launched since
    end_tree(held.devices if held is not None and same else record.devices)  # a change may have started others
    _end_actors(record)
    if record.head is not None:
        _disconnect()  # before the head goes: afterwards Ray would wait for it for seconds
        end_tree(record.head, deadline_s=1.0)  # its actors have stopped; a drain would take half a minute
        remove_ray_folder(record.ray_folder)
    if record.broker is not None:
        EmbeddedBroker.attach(record.broker).stop()
    if same:
        (folder / RECORD_FILE).unlink(missing_ok=True)


def renew_devices(city: str) -> None:
    """Start the device host of a city anew, by the plan in force; none where nothing is simulated any more."""
    folder = folder_of(city)
    record = Record.load(folder)
    if record is None:
        return
    end_tree(record.devices)
    record.devices = start_devices(folder) if CityPlan.load(folder).scenario.sources else None
    record.save(folder)


def delete(city: str) -> bool:
    """Delete what an ended city keeps: store, broker's queue, folder. False when there is nothing.

    Raises LaunchRefused while it runs or is being launched.
    """
    folder = folder_of(city)
    if not folder.exists():
        return False
    if running(city, look_for_whole=True) is not None:
        raise LaunchRefused(f"{city} is running: end it first with 'twin-actors down {city}'")
    with alone(folder, city):
        try:
            plan = CityPlan.load(folder)
        except FileNotFoundError:
            plan = None
        if plan is not None:
            erase_store(plan.store_url)
        shutil.rmtree(folder)
    return True


def _disconnect() -> None:
    ray: Any = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


def _end_actors(record: Record) -> None:
    """Stop the actors in good order where this process can reach them; a head of our own takes them with it."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    try:
        controller = ray.get_actor("controller", namespace=record.namespace)
        ray.get(controller.stop.remote(record.head is None), timeout=40.0)
        ray.kill(controller)
    except (ValueError, ray.exceptions.RayError, TimeoutError) as error:
        log.warning("the controller of %s did not end its actors: %s", record.city, str(error).splitlines()[0])
        if record.head is None:  # nobody else would: the Ray that they live in goes on
            _kill_by_name(record)


def _kill_by_name(record: Record) -> None:
    """End every actor of a city in a borrowed Ray; those that were never created, or are gone, are none to end."""
    ray: Any = sys.modules["ray"]
    try:
        plan = CityPlan.load(folder_of(record.city))
        names = [*plan.routers, *(actor.name for actor in plan.actors)]
    except FileNotFoundError:
        names = []
    for name in ("controller", "aggregator", *names):
        try:
            ray.kill(ray.get_actor(name, namespace=record.namespace))
        except ValueError:
            continue


def cities() -> Mapping[str, Record]:
    """Every city that runs on this machine, by name."""
    if not home().is_dir():
        return {}
    found = {path.name: running(path.name) for path in sorted(home().iterdir()) if path.is_dir()}
    return {name: record for name, record in found.items() if record is not None}
