"""Rolling twins forward: ensembles with declared noise, whose draws depend on seed and entity alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.rolling import Held, roll
from twin_actors.core.table import TwinTable


def stream(seed: int, entity: str) -> np.random.Generator:
    """The random stream of one entity: the same whatever other entities share its table."""
    name = int.from_bytes(hashlib.blake2b(entity.encode(), digest_size=8).digest(), "little")
    key = np.array([seed % 2**64, name], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def draw(seed: int, entities: Sequence[str], shape: tuple[int, ...]) -> Column:
    """Standard normal numbers ``(*shape, n)``, one stream an entity."""
    return np.stack([stream(seed, entity).standard_normal(shape) for entity in entities], axis=-1)


def ensemble(
    table: TwinTable,
    twins: NDArray[np.intp],
    *,
    now_s: float,
    samples: int,
    steps: int,
    dt_s: float,
    seed: int,
) -> Column:
    """Futures ``(S, steps, samples, b)`` of some twins: initial states from their uncertainty, then ``predict`` with
    noise of ``drift``·√(dt/h) after every step, clipped to the declared limits. The twins stay as they are."""
    kind = table.kind
    state = kind.state.layout
    x, variance = table.at(now_s)
    x, variance = x[:, twins], variance[:, twins]
    ids = [table.ids[twin] for twin in twins]
    noise = draw(seed, ids, (steps + 1, state.rows, samples))
    low, high = state.per_row("minimum")[:, None], state.per_row("maximum")[:, None]
    shake = np.sqrt(table.drift2_h[:, twins])[:, None] * np.sqrt(dt_s / 3600.0)
    points = np.clip(x[:, None] + np.sqrt(variance)[:, None] * noise[0], low, high)
    command: Held = table.command.gather(twins)
    coupling: Held = table.coupling.gather(twins)
    at_s = np.maximum(table.time_s[twins], now_s)
    at_s = np.where(np.isfinite(at_s), at_s, now_s)
    futures = np.empty((state.rows, steps, samples, len(twins)))
    for step in range(steps):
        points, command, coupling = roll(kind, points, table.attributes[:, twins], command, coupling, at_s, at_s + dt_s)
        points = np.clip(points + shake * noise[step + 1], low, high)
        at_s = at_s + dt_s
        futures[:, step] = points
    return futures
