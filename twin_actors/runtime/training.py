"""From recordings to parameters: the history of a kind's twins, their calibration, and its versions in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from twin_actors.core.calibration import Calibration, calibrate, changes
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.parameters import Parameters
from twin_actors.runtime import past
from twin_actors.runtime.plan import CityPlan, attribute_matrix, noise_matrices
from twin_actors.runtime.recording import Recording
from twin_actors.scenario.model import Entity
from twin_actors.store.base import Store
from twin_actors.wire.identity import time_key

__all__ = [
    "calibrate_entities",
    "changes",
    "history_of",
    "history_of_store",
    "keep_versions",
    "version_of",
]

TABLE = "calibrations"


def history_of(recordings: Sequence[Recording], kind: Kind, ids: Sequence[str]) -> Batch:
    """The readings of the twins ``ids`` in all recordings of the kind, in the order of time.

    Readings of other entities are left out. Raises ValueError when no recording is of this kind.
    """
    own = [each for each in recordings if each.kind == kind.name]
    if not own:
        raise ValueError(
            f"no recording is of kind {kind.name}; there are {', '.join(sorted({r.kind for r in recordings}))}"
        )
    column = {entity: place for place, entity in enumerate(ids)}
    labels = kind.reading.layout.labels
    rows, times, values, keys = [], [], [], []
    for source, recording in enumerate(own):
        place = np.array([column.get(entity, -1) for entity in recording.entity.tolist()], dtype=np.intp)
        known = np.flatnonzero(place >= 0)
        said = np.full((len(labels), len(known)), np.nan)
        for name, numbers in zip(recording.fields, recording.values, strict=True):
            said[labels.index(name)] = numbers[known]
        at_s = recording.at_s[known]
        rows.append(place[known])
        times.append(at_s)
        values.append(said)
        keys.append(np.array([time_key(source, one) for one in at_s.tolist()], dtype=np.int64))
    at_s = np.concatenate(times)
    order = np.argsort(at_s, kind="stable")
    return Batch(
        rows=np.concatenate(rows)[order],
        observed_at_s=at_s[order],
        values=np.concatenate(values, axis=1)[:, order],
        keys=np.concatenate(keys)[order],
    )


def history_of_store(plan: CityPlan, store: Store, numbers: Sequence[int], since_s: float) -> Batch:
    """The readings that a city's store has of some entities of one kind since a moment, in the order of time.

    Raises ValueError when there are none.
    """
    rows, times, values, keys = [], [], [], []
    for row, number in enumerate(numbers):
        found = past.readings(plan, store, number, since_s=since_s)
        rows.append(np.full(len(found.observed_at_s), row, np.intp))
        times.append(found.observed_at_s)
        values.append(found.values)
        keys.append(np.array([time_key(0, one) for one in found.observed_at_s.tolist()], dtype=np.int64))
    at_s = np.concatenate(times)
    if not len(at_s):
        raise ValueError("the city's history has no readings of these twins in that time")
    order = np.argsort(at_s, kind="stable")
    return Batch(
        rows=np.concatenate(rows)[order],
        observed_at_s=at_s[order],
        values=np.concatenate(values, axis=1)[:, order],
        keys=np.concatenate(keys)[order],
    )


def calibrate_entities(
    kind: Kind,
    entities: Sequence[Entity],
    history: Batch,
    *,
    fit: Sequence[str] = (),
    noises: bool = True,
    validation: float = 0.3,
) -> Calibration:
    """Fit the entities' parameters from what the scenario says of them now; see ``core.calibration.calibrate``."""
    sd, drift = noise_matrices(kind, entities)
    start = Parameters(attributes=attribute_matrix(kind, entities), sd=sd, drift=drift)
    return calibrate(
        kind, [entity.id for entity in entities], start, history, fit=fit, noises=noises, validation=validation
    )


def keep_versions(store: Store, calibration: Calibration, kind: Kind, *, at_s: float) -> Mapping[str, int]:
    """Record the evidence of every entity and put new parameters under ``parameters/{entity}/{version}``.

    Returns the version of each entity that got new ones; older versions stay, and can be taken again.
    """
    said = changes(calibration, kind)
    versions: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for evidence in calibration.evidence():
        entity = str(evidence["entity"])
        older = store.keys(f"parameters/{entity}/")
        version = len(older) + 1 if entity in said else len(older)
        if entity in said:
            versions[entity] = version
            kept = {"at_s": at_s, "parameters": said[entity], "evidence": evidence}
            store.put(f"parameters/{entity}/{version:06d}", msgspec.json.encode(kept))
        rows.append(
            {
                "id": f"{entity}@{at_s:.3f}",
                "at_s": at_s,
                "kind": calibration.kind,
                "version": version,
                "parameters": said.get(entity, {}),
                **evidence,
            }
        )
    store.record(TABLE, rows)
    return versions


def version_of(store: Store, entity: str, version: int | None = None) -> Mapping[str, Any] | None:
    """The parameters of an entity as they were kept, the newest by default; None where there are none."""
    keys = sorted(store.keys(f"parameters/{entity}/"))
    if not keys:
        return None
    key = keys[-1] if version is None else f"parameters/{entity}/{version:06d}"
    found = store.get(key)
    return None if found is None else msgspec.json.decode(found)
