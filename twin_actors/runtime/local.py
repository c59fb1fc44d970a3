"""Which cities run on this machine: their records, their folders, and the lock that keeps two launches apart."""

from __future__ import annotations

import contextlib
import fcntl
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twin_actors.runtime.placement import LaunchRefused
from twin_actors.runtime.processes import Record, home

LOCK_FILE = "launch.lock"


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


def cities() -> Mapping[str, Record]:
    """Every city that runs on this machine, by name."""
    if not home().is_dir():
        return {}
    found = {path.name: running(path.name) for path in sorted(home().iterdir()) if path.is_dir()}
    return {name: record for name, record in found.items() if record is not None}
