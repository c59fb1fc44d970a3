"""Ending a city: exactly what its launch started; and deleting what it keeps."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from twin_actors.runtime.driving import disconnect
from twin_actors.runtime.local import alone, folder_of, running
from twin_actors.runtime.placement import LaunchRefused
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.processes import RECORD_FILE, Record, end_tree, remove_ray_folder, start_devices
from twin_actors.runtime.shelf import RayShelf, place_of, shelf_of
from twin_actors.store import erase_store
from twin_actors.wire.broker import EmbeddedBroker

log = logging.getLogger(__name__)


def end(record: Record, folder: Path) -> None:
    """End exactly what this city started: devices first, then the actors, Ray, the broker."""
    held = Record.load(folder)
    same = held is not None and held.launched_at_s == record.launched_at_s  # not that of a city launched since
    end_tree(held.devices if held is not None and same else record.devices)  # a change may have started others
    _end_actors(record)
    if record.head is not None:
        disconnect()  # before the head goes: afterwards Ray would wait for it for seconds
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
    shelf = shelf_of(place_of(record, folder_of(record.city)))
    if isinstance(shelf, RayShelf):
        shelf.clear()


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
