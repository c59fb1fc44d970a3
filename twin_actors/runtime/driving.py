"""This process as a Ray driver of a city: joining its Ray, leaving it, waiting until the city is whole."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

from twin_actors.runtime.local import CityNotFound, folder_of
from twin_actors.runtime.placement import OTHER_BYTES
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.processes import Record, use_token
from twin_actors.runtime.waiting import answer

Progress = Callable[[str, int, int], None]
"""Told (what is going on, how many are done, of how many)."""

CALL_DEADLINE_S = 15.0
BROKER_PATIENCE_S = 6.0
"""How long a launch bears a broker that refuses or is not there; a city that runs goes on trying for ever."""


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


def disconnect() -> None:
    ray: Any = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


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
