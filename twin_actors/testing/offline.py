"""Twins computed from a recording by the same pure functions as in a city, without Ray, MQTT or a clock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable
from twin_actors.runtime.recording import Recording
from twin_actors.wire.identity import time_key


def offline_twins(recording: Recording, kind: Kind, ids: Sequence[str], attributes: Column) -> TwinTable:
    """The twins ``ids`` (attributes ``(rows, n)``) after all their readings in the recording, applied in its order.

    A live city that receives the same recording on its own topics holds the same twins to 1e-9. Readings of other
    entities are left out. Raises ValueError when the recording is of another kind.
    """
    if recording.kind != kind.name:
        raise ValueError(f"{recording.file} is a recording of {recording.kind}, not of {kind.name}")
    table = TwinTable(kind, ids, attributes)
    column = {entity: place for place, entity in enumerate(ids)}
    rows = np.array([column.get(entity, -1) for entity in recording.entity.tolist()], dtype=np.intp)
    own = np.flatnonzero(rows >= 0)
    labels = kind.reading.layout.labels
    values = np.full((len(labels), len(own)), np.nan)
    for name, said in zip(recording.fields, recording.values, strict=True):
        values[labels.index(name)] = said[own]
    at_s = recording.at_s[own]
    keys = np.array([time_key(0, one) for one in at_s.tolist()], dtype=np.int64)
    table.apply(Batch(rows=rows[own], observed_at_s=at_s, values=values, keys=keys))
    return table
