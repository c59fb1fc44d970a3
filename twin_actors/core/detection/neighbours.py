"""Sensor faults that only the neighbours give away: bias, drift, gain and spikes against entities that see the same.

For a policy or an aggregator, on columns merged over twin actors: one value per entity and tick. A station is compared
with the median of its neighbours, which one faulty neighbour cannot move far. Lasting faults are found by a two-sided
CUSUM of the residual on the logarithmic scale of the ensemble, because what differs between places is rather a share
than an amount; spikes by a jump of the plain residual away and back, known one reading later. Both are normalised by
the entity's own past.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.detection import charts

SLACK = 1.0
"""k of the CUSUM, in standard deviations of the residual: lasting shifts of twice that are found fastest."""

LASTING = 27.0
"""h of the CUSUM: its sum at a score of one half. Residuals of neighbouring hours are alike, so it is not small."""

SPIKE = 6.0
"""A jump away and back, the smaller of the two in standard deviations of the residual's steps, at a score of ½."""

_LARGEST_Z = 4.0  # what one residual may add to the CUSUM
_LEARNT_Z = 3.0  # and what it may teach: a fault must not become the rule
_LARGEST_STEP = 10.0
_MEMORY = 720.0
_LEARNING = 48.0


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Whom each of ``n`` entities is compared with: ``index (n, k)`` and ``weight (n, k)`` ≥ 0, 0: nobody."""

    index: NDArray[np.intp]
    weight: Column

    @classmethod
    def of_weights(cls, weights: Column, k: int = 5) -> Self:
        """The ``k`` heaviest neighbours by a matrix ``(n, n)``, row: who is compared; its diagonal is ignored."""
        n = weights.shape[0]
        if weights.shape != (n, n) or not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(f"weights must be a square matrix of finite numbers from 0 up, not {weights.shape}")
        own = np.where(np.eye(n, dtype=np.bool_), 0.0, weights)
        index = np.argsort(-own, axis=1, kind="stable")[:, : min(k, n)]
        return cls(index, np.take_along_axis(own, index, axis=1))

    @classmethod
    def of_places(cls, lat_deg: Column, lon_deg: Column, k: int = 5, reach_km: float = np.inf) -> Self:
        """The ``k`` nearest within ``reach_km``, all alike; a flat earth is good enough over a city."""
        north_km = 111.2 * (lat_deg[:, None] - lat_deg)
        east_km = 111.2 * np.cos(np.radians(lat_deg))[:, None] * (lon_deg[:, None] - lon_deg)
        away_km = np.hypot(north_km, east_km)
        near = cls.of_weights(np.where(away_km <= reach_km, 1.0 / (away_km + 1e-3), 0.0), k)
        return cls(near.index, (near.weight > 0).astype(np.float64))


@dataclass(frozen=True, slots=True)
class NeighbourMemory:
    """What is remembered of each entity, columns ``(n,)``; ``magnitude`` is how large its reference usually is."""

    count: Column
    magnitude: Column
    mean: Column
    variance: Column
    step_variance: Column  # of the plain residual from one reading to the next
    last: Column  # plain residual, NaN: the last tick had none
    step: Column  # its last step
    high: Column
    low: Column

    @classmethod
    def empty(cls, n: int) -> Self:
        zeros = {field.name: np.zeros(n) for field in fields(cls)}
        return cls(**(zeros | {"last": np.full(n, np.nan)}))


@dataclass(frozen=True, slots=True)
class NeighbourScores:
    """``score (n,)`` in [0, 1] (NaN: no value or nobody to compare with) and what is behind it.

    ``expected`` is what the neighbours make of the value; ``lasting`` is of the value, ``spike`` of the one before it:
    the statistics over their limits.
    """

    score: Column
    expected: Column
    lasting: Column
    spike: Column


def neighbour_residual(
    memory: NeighbourMemory, values: Column, neighbours: Neighbours
) -> tuple[NeighbourScores, NeighbourMemory]:
    """Score one value per entity, ``values (n,)`` with NaN for what is not known or too old to compare."""
    values = np.clip(values, -charts.LARGEST, charts.LARGEST)
    around = np.where(neighbours.weight > 0, values[neighbours.index], np.nan)
    reference = weighted_median(around, neighbours.weight)
    new = ~np.isnan(values) & ~np.isnan(reference)
    count = memory.count + new
    weight = np.maximum(1.0 / np.maximum(count, 1.0), 1.0 / _MEMORY)
    magnitude = np.where(new, memory.magnitude + weight * (np.abs(reference) - memory.magnitude), memory.magnitude)
    scale = np.where(magnitude > 0, np.maximum(0.3 * magnitude, 1.0 / charts.LARGEST), 1.0)
    residual = np.where(new, np.arcsinh(values / scale) - np.arcsinh(reference / scale), np.nan)

    sd = np.sqrt(np.maximum(memory.variance, 1e-12))
    ready = new & (memory.count >= _LEARNING)
    z = np.where(ready, np.clip((residual - memory.mean) / sd, -1e6, 1e6), np.nan)
    high, low = charts.cusum(memory.high, memory.low, np.clip(z, -_LARGEST_Z, _LARGEST_Z), SLACK)
    high, low = np.minimum(high, 1.5 * LASTING), np.minimum(low, 1.5 * LASTING)  # so that it also ends
    lasting = np.maximum(high, low) / LASTING

    off = np.where(new, values - reference, np.nan)
    step = np.where(new & ~np.isnan(memory.last), off - memory.last, 0.0)  # none across a gap
    back = ready & (step * memory.step < 0)
    returned = np.where(back, np.minimum(np.abs(step), np.abs(memory.step)), 0.0)
    spike = returned / np.sqrt(np.maximum(memory.step_variance, 1e-24)) / SPIKE

    # Learning: a residual far out teaches as if it were less far out, once there is a scale to say so.
    taught = np.where(ready, memory.mean + np.clip(z, -_LEARNT_Z, _LEARNT_Z) * sd, residual)
    moved = taught - memory.mean
    mean = np.where(new, memory.mean + weight * moved, memory.mean)
    variance = np.where(new, memory.variance + weight * ((1 - weight) * moved**2 - memory.variance), memory.variance)
    stepped = new & ~np.isnan(memory.last)
    step2 = np.minimum(step**2, np.where(ready, _LARGEST_STEP**2 * memory.step_variance, np.inf))
    steps = np.where(stepped, memory.step_variance + weight * (step2 - memory.step_variance), memory.step_variance)
    score = np.where(new, -np.expm1(-np.log(2.0) * np.maximum(lasting, spike) ** 2), np.nan)
    with np.errstate(over="ignore"):
        suggested = np.sinh(np.arcsinh(reference / scale) + memory.mean) * scale
    expected = np.where(new, np.clip(suggested, -charts.LARGEST, charts.LARGEST), np.nan)
    return (
        NeighbourScores(score, expected, lasting, spike),
        NeighbourMemory(count, magnitude, mean, variance, steps, off, np.where(new, step, 0.0), high, low),
    )


def weighted_median(values: Column, weight: Column) -> Column:
    """The lower weighted median along the last axis, ``(n, k) -> (n,)``, over what is said; NaN: nothing is."""
    said = ~np.isnan(values) & (weight > 0)
    order = np.argsort(np.where(said, values, np.inf), axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    share = np.cumsum(np.take_along_axis(np.where(said, weight, 0.0), order, axis=1), axis=1)
    middle = (share >= 0.5 * share[:, -1:] - 1e-12).argmax(axis=1)
    return np.where(said.any(axis=1), np.take_along_axis(ordered, middle[:, None], axis=1)[:, 0], np.nan)


def neighbour_reason(label: str, unit: str, value: float, scores: NeighbourScores, entity: int) -> str:
    """One sentence on why an entity's score is high."""
    expected = float(scores.expected[entity])
    if scores.spike[entity] > scores.lasting[entity]:
        return f"{label} jumped and came back, which its neighbours did not"
    side = "above" if value > expected else "below"
    return f"{label} stays {side} what its neighbours suggest: {value:.4g} {unit} where {expected:.4g} is expected"
