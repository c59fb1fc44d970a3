"""Inputs of toy twins as batches, tables to apply them to, and how unhurried Hypothesis may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import settings

from tests.unit.core.toy import TANK
from twin_actors.core.cleaning import NO_KEY
from twin_actors.core.columns import Column
from twin_actors.core.inputs import Batch, Channel
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable

NAN = np.nan
ROWS = 5  # as many as the widest record of the toy kinds has: level, three inflows, openings

UNHURRIED = settings(deadline=None, max_examples=60)
"""Timings are never asserted: a busy machine must not fail a property."""


def tanks(n: int = 1, kind: Kind = TANK) -> TwinTable:
    """``n`` tanks of 10 m² that alarm at 4 m."""
    return TwinTable(kind, [f"{kind.name}/{i}" for i in range(n)], np.repeat([[10.0], [4.0]], n, axis=1))


def told(
    at_s: float,
    *,
    level: float = NAN,
    inflow: Sequence[float] = (NAN, NAN, NAN),
    opened: float = NAN,
    twin: int = 0,
    key: int = NO_KEY,
) -> Batch:
    """One reading of a tank."""
    return _one(Channel.READING, at_s, [level, *inflow, opened], twin, key)


def commanded(at_s: float, outflow: float, *, twin: int = 0) -> Batch:
    """An acknowledged set point of a tank's outflow."""
    return _one(Channel.COMMAND, at_s, [outflow], twin)


def asked(at_s: float, outflow: float, *, twin: int = 0) -> Batch:
    """An outflow that was asked for and not yet acknowledged."""
    return _one(Channel.DESIRED, at_s, [outflow], twin)


def rained(at_s: float, rain: float, *, twin: int = 0) -> Batch:
    """Rain that another twin reports."""
    return _one(Channel.COUPLING, at_s, [rain], twin)


def _one(channel: Channel, at_s: float, values: Sequence[float], twin: int, key: int = NO_KEY) -> Batch:
    padded = np.full((ROWS, 1), NAN)
    padded[: len(values), 0] = values
    return Batch(
        rows=np.array([twin], np.intp),
        observed_at_s=np.array([at_s], np.float64),
        values=padded,
        channels=np.array([channel], np.uint8),
        keys=np.array([key], np.int64),
    )


def joined(*batches: Batch) -> Batch:
    """Batches one after the other as one."""
    return Batch(
        rows=np.concatenate([batch.rows for batch in batches]),
        observed_at_s=np.concatenate([batch.observed_at_s for batch in batches]),
        values=np.concatenate([batch.values for batch in batches], axis=1),
        channels=np.concatenate([batch.channels for batch in batches]),
        keys=np.concatenate([batch.keys for batch in batches]),
    )


def column(*numbers: float) -> Column:
    return np.array(numbers, dtype=np.float64)
