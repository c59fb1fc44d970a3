"""Snapshots of a twin table: all its arrays by name, taken, and taken over by a table of the same kind and ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.older_snapshots import CONSTANT, converted
from twin_actors.core.rolling import Held

if TYPE_CHECKING:
    from twin_actors.core.table import TwinTable

SERVICES = ("fidelity", "detection", "windows", "ewma")
"""Parts of a snapshot beside the twins' state that another version may lack (ewma: an older detector)."""

_OWN = (
    "attributes", "x", "variance", "time_s", "heard_at_s", "desired", "score", "revision",
    "fates", "rejected_fields", "model_errors",
)  # fmt: skip
_PARTS = ("cleaning", "detection", "command", "coupling", "latches", "fidelity")
_WINDOWS = ("mean", "count", "course", "weight", "hour")


def take(table: TwinTable) -> dict[str, NDArray[Any]]:
    """Copies of every array of the table, those of its parts as ``part.array``."""
    arrays: dict[str, NDArray[Any]] = {name: getattr(table, name) for name in _OWN}
    for number, covariance in enumerate(table.covariances):
        arrays[f"covariance.{number}"] = covariance
    for name in _PARTS:
        part = getattr(table, name)
        for field in fields(part):
            if not (isinstance(part, Held) and field.name in CONSTANT):
                arrays[f"{name}.{field.name}"] = getattr(part, field.name)
    for name in _WINDOWS:
        arrays[f"windows.{name}"] = getattr(table.windows, name)
    return {name: array.copy() for name, array in arrays.items()}


def restore(table: TwinTable, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Have a table take over a snapshot. Raises ValueError when it was made of another model or number of twins.

    Attributes stay as they are: the scenario says what they are now. Services that one of the two versions does
    not have (see ``SERVICES``) begin anew, so that a version that learns more takes up the twins of an older one;
    so does the detection of a kind that watches other fields now. Columns that earlier versions kept in another
    shape are converted.
    """
    kind, current = table.kind, take(table)
    arrays = converted(arrays, current, watched=table.watched, windows=kind.windows.layout)
    differing = [name for name in current.keys() ^ arrays.keys() if name.partition(".")[0] not in SERVICES]
    if differing:
        raise ValueError(f"snapshot of another model of kind {kind.name}: {', '.join(sorted(differing))}")
    arrays = {name: array for name, array in arrays.items() if name in current}
    for name, array in arrays.items():
        if current[name].shape != array.shape:
            raise ValueError(
                f"snapshot of kind {kind.name}: {name} has shape {array.shape}, expected {current[name].shape}"
            )
    for name, array in arrays.items():
        owner, _, attribute = name.partition(".")
        if name == "attributes":
            continue
        copy = np.array(array, dtype=current[name].dtype, order="C")
        if owner == "covariance":
            table.covariances[int(attribute)] = copy
        elif attribute:
            setattr(getattr(table, owner), attribute, copy)
        else:
            setattr(table, owner, copy)
