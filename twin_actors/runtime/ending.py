"""Actors of a city coming to an end: in good order, with a last snapshot, for good."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Sequence

import ray
from ray.exceptions import RayError

from twin_actors.runtime.crew import AGGREGATOR, Crew

log = logging.getLogger(__name__)

STOP_DEADLINE_S = 12.0
SAVE_DEADLINE_S = 15.0
END_DEADLINE_S = 20.0


def stop_in_order(crew: Crew) -> None:
    """Stop aggregator and routers; the aggregator first, so that what it has decided still finds its routers."""
    for name in (AGGREGATOR, *crew.routers):
        try:
            ray.get(crew.find(name).stop.remote(), timeout=STOP_DEADLINE_S)
        except (ValueError, RayError, TimeoutError) as error:
            log.warning("%s did not stop in good order: %s", name, str(error).splitlines()[0])


def save_twins(crew: Crew, names: Collection[str]) -> None:
    """Have twin actors keep a last snapshot, so that a launch or a change has little to replay."""
    saving = {}
    for name in names:
        try:
            saving[crew.find(name).save.remote()] = name
        except ValueError:
            log.warning("%s is not there to save its twins; the log has what they need", name)
    done, late = ray.wait(list(saving), num_returns=len(saving), timeout=SAVE_DEADLINE_S) if saving else ([], [])
    for ref in done:
        try:
            ray.get(ref, timeout=1.0)
        except RayError as error:
            log.warning("%s could not save its twins: %s", saving[ref], str(error).splitlines()[0])
    if late:
        log.warning("%d twin actors did not save in time; the log has what they need", len(late))


def end_for_good(crew: Crew, names: Sequence[str]) -> None:
    """End actors and return when Ray has forgotten their names. Raises TimeoutError."""
    for name in names:
        with contextlib.suppress(ValueError):  # it is not there
            ray.kill(crew.find(name))
    deadline = time.monotonic() + END_DEADLINE_S
    waiting = set(names)
    while waiting := waiting & crew.living():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{', '.join(sorted(waiting)[:3])} did not end within {END_DEADLINE_S:g} s")
        time.sleep(0.02)  # Ray tells nobody when a name is free; the loop has a deadline
