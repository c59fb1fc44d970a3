"""Stage *estimate*: fold cleaned values into the state, with the variance as part of the state.

The diagonal filter treats every state field by itself and serves kinds whose states are measured. The joint
filter keeps one covariance per component and corrects latent fields as well; it is the divided-difference
filter DD1 of Nørgaard, Poulsen and Ravn (Automatica 36, 2000): central differences of the kind's own ``predict``
and ``observe`` along the columns of a Cholesky factor, laid on the sample axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column, Role
from twin_actors.core.kind import Kind

DIFFERENCE = np.sqrt(3.0)
"""Half the interval of the central differences in standard deviations; h² = 3 is best for Gaussian errors."""

_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class MeasurementPlan:
    """Which state row each reading row measures, split so that no group names a state row twice."""

    groups: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]
    measured: NDArray[np.intp]  # (reading rows,) state row or -1
    sd2: Column  # (reading rows, 1)
    drift2_h: Column  # (reading rows, 1) of the measured state, 0 where none
    unsure2: Column  # (state rows, 1)
    state_drift2_h: Column  # (state rows, 1)

    @classmethod
    def of(cls, kind: Kind) -> Self:
        reading, state = kind.reading.layout, kind.state.layout
        measured: list[int] = []
        for name, declared in reading.fields.items():
            target = declared.of or name
            if target in state.fields:
                place = state.places[target]
                measured.extend(range(place.start, place.stop))
            else:
                measured.extend([-1] * declared.size)
        groups: list[tuple[list[int], list[int]]] = []
        for row, target_row in enumerate(measured):
            if target_row < 0:
                continue
            for rows, targets in groups:
                if target_row not in targets:
                    rows.append(row)
                    targets.append(target_row)
                    break
            else:
                groups.append(([row], [target_row]))
        index = np.array(measured, dtype=np.intp)
        state_drift2_h = state.per_row("drift") ** 2
        drift2_h = np.where(index[:, None] >= 0, state_drift2_h[index], 0.0) if len(index) else np.zeros((0, 1))
        return cls(
            groups=tuple((np.array(rows, np.intp), np.array(targets, np.intp)) for rows, targets in groups),
            measured=index,
            sd2=reading.per_row("sd") ** 2,
            drift2_h=drift2_h,
            unsure2=state.per_row("unsure_sd") ** 2,
            state_drift2_h=state_drift2_h,
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """The corrected state and, per reading row, the innovation with its variance (NaN where nothing came)."""

    x: Column
    variance: Column
    innovation: Column
    innovation_variance: Column


def grow_variance(variance: Column, drift2_h: Column, unsure2: Column, elapsed_s: Column) -> Column:
    """Variance after ``elapsed_s`` of silence: + drift²·t/h, never more than that of a value never measured."""
    return np.minimum(variance + drift2_h * (elapsed_s / 3600.0), unsure2)


def estimate_diagonal(
    plan: MeasurementPlan,
    x: Column,
    variance: Column,
    expected: Column,
    values: Column,
    usable: NDArray[np.bool_],
    noise: Column,
) -> Estimate:
    """Kalman update of each measured state field by itself; ``x (S, b)``, ``values (R, b)``."""
    start, x, variance = x, x.copy(), variance.copy()
    innovation = np.full(values.shape, np.nan)
    spread = np.full(values.shape, np.nan)
    for rows, targets in plan.groups:
        use = usable[rows]
        prior = variance[targets]
        total = prior + noise[rows]
        already = x[targets] - start[targets]  # what an earlier sensor of the same state has corrected
        nu = np.where(use, values[rows] - expected[rows] - already, 0.0)
        gain = np.where(use, prior / np.maximum(total, _TINY), 0.0)
        x[targets] += gain * nu
        variance[targets] = prior * (1 - gain)
        innovation[rows] = np.where(use, nu, np.nan)
        spread[rows] = np.where(use, total, np.nan)
    return Estimate(x, variance, innovation, spread)


@dataclass(frozen=True, slots=True)
class Block:
    """State fields that share their axes: row ``rows[i, c]`` is field ``i`` of component ``c``."""

    rows: NDArray[np.intp]  # (k, m)
    first: int  # its first direction on the sample axis

    @property
    def size(self) -> int:
        return int(self.rows.shape[0])


@dataclass(frozen=True, slots=True)
class JointPlan:
    """How the joint filter lays out its covariances and its directions on the sample axis."""

    blocks: tuple[Block, ...]
    directions: int
    block_of_reading: tuple[tuple[int, int], ...]  # per reading row: (block, component), (-1, 0): reported only

    @classmethod
    def of(cls, kind: Kind) -> Self:
        state, reading = kind.state.layout, kind.reading.layout
        by_axes: dict[tuple[str, ...], list[str]] = {}
        for name, declared in state.fields.items():
            if declared.role is Role.STATE:
                by_axes.setdefault(tuple(axis.name for axis in declared.axes), []).append(name)
        blocks: list[Block] = []
        first = 0
        for names in by_axes.values():
            rows = np.array([range(state.places[n].start, state.places[n].stop) for n in names], dtype=np.intp)
            blocks.append(Block(rows, first))
            first += len(names)
        order = list(by_axes)
        where: list[tuple[int, int]] = []
        for declared in reading.fields.values():
            axes = tuple(axis.name for axis in declared.axes)
            block = order.index(axes) if axes in order else -1
            where.extend((block, component if block >= 0 else 0) for component in range(declared.size))
        return cls(tuple(blocks), first, tuple(where))


def cholesky(covariance: Column) -> Column:
    """Lower factor of ``(k, k, …)`` matrices, column by column, with lost pivots clipped to zero.

    A plain loop over the few fields of a component: one twin whose covariance has degenerated must not stop its
    neighbours, which ``numpy.linalg.cholesky`` of the whole stack would.
    """
    k = covariance.shape[0]
    factor = np.zeros_like(covariance)
    for j in range(k):
        pivot = covariance[j, j] - (factor[j, :j] ** 2).sum(axis=0)
        root = np.sqrt(np.maximum(pivot, 0.0))
        factor[j, j] = root
        safe = np.where(root > 0, root, 1.0)
        for i in range(j + 1, k):
            rest = covariance[i, j] - (factor[i, :j] * factor[j, :j]).sum(axis=0)
            factor[i, j] = np.where(root > 0, rest / safe, 0.0)
    return factor


def spread_points(plan: JointPlan, x: Column, covariances: list[Column]) -> Column:
    """``(S, 1 + 2·directions, b)``: the state itself, then a step forth and back along every direction."""
    d = plan.directions
    points = np.repeat(x[:, None, :], 1 + 2 * d, axis=1)
    for block, covariance in zip(plan.blocks, covariances, strict=True):
        factor = DIFFERENCE * cholesky(covariance)  # (k, k, m, b)
        for j in range(block.size):
            for i in range(j, block.size):
                points[block.rows[i], 1 + block.first + j] += factor[i, j]
                points[block.rows[i], 1 + d + block.first + j] -= factor[i, j]
    return points


def slopes(plan: JointPlan, points: Column) -> Column:
    """``(…, directions, b)``: change per direction, by central differences of points that were moved along."""
    d = plan.directions
    change: Column = (points[:, 1 : 1 + d] - points[:, 1 + d :]) / (2 * DIFFERENCE)
    return change


def covariances_of(plan: JointPlan, moved: Column) -> list[Column]:
    """Covariances ``(k, k, m, b)`` from moved points."""
    change = slopes(plan, moved)  # (S, D, b)
    result = []
    for block in plan.blocks:
        part = change[block.rows]  # (k, m, D, b)
        result.append(np.einsum("imdb,jmdb->ijmb", part, part))
    return result


def limit_covariances(plan: JointPlan, covariances: list[Column], unsure2: Column) -> list[Column]:
    """Scale each covariance so that no field is less certain than one never measured."""
    limited = []
    for block, covariance in zip(plan.blocks, covariances, strict=True):
        k = block.size
        own = covariance[np.arange(k), np.arange(k)]  # (k, m, b)
        cap = unsure2[block.rows]  # (k, m, 1)
        scale = np.sqrt(cap / np.maximum(own, np.maximum(cap, _TINY)))
        limited.append(covariance * scale[:, None] * scale[None, :])
    return limited


def variance_of(plan: JointPlan, covariances: list[Column], rows: int) -> Column:
    """The diagonal of all covariances as ``(S, b)``; memory rows are exact (0)."""
    variance = np.zeros((rows, covariances[0].shape[-1])) if covariances else np.zeros((rows, 0))
    for block, covariance in zip(plan.blocks, covariances, strict=True):
        for i in range(block.size):
            variance[block.rows[i]] = covariance[i, i]
    return variance


def estimate_joint(
    plan: JointPlan,
    x: Column,
    covariances: list[Column],
    expected: Column,
    sensitivity: Column,
    values: Column,
    usable: NDArray[np.bool_],
    noise: Column,
) -> tuple[Estimate, list[Column]]:
    """Fold in the reading rows one after the other, each correcting every field of its component.

    ``sensitivity (R, directions, b)`` are the slopes of the expected readings along the directions of the
    covariances' factors; with them H = slope·L⁻¹ stays fixed while the covariances shrink.
    """
    x = x.copy()
    innovation = np.full(values.shape, np.nan)
    spread = np.full(values.shape, np.nan)
    covariances = [covariance.copy() for covariance in covariances]
    factors = [cholesky(covariance) for covariance in covariances]
    start = x.copy()
    for row, (which, component) in enumerate(plan.block_of_reading):
        use = usable[row] & ~np.isnan(expected[row])  # a row that nothing expects is reported only
        if which < 0 or not use.any():
            continue
        block = plan.blocks[which]
        rows = block.rows[:, component]
        slope = sensitivity[row, block.first : block.first + block.size]  # (k, b)
        weights = _solve_lower_transposed(factors[which][:, :, component], slope)  # (k, b): H
        covariance = covariances[which][:, :, component]  # (k, k, b)
        cross = np.einsum("ijb,jb->ib", covariance, weights)
        total = np.einsum("ib,ib->b", weights, cross) + noise[row]
        already = np.einsum("ib,ib->b", weights, x[rows] - start[rows])
        nu = np.where(use, values[row] - expected[row] - already, 0.0)
        gain = np.where(use, cross / np.maximum(total, _TINY), 0.0)
        x[rows] += gain * nu
        covariances[which][:, :, component] = covariance - gain[:, None] * gain[None, :] * total
        innovation[row] = np.where(use, nu, np.nan)
        spread[row] = np.where(use, total, np.nan)
    return Estimate(x, variance_of(plan, covariances, x.shape[0]), innovation, spread), covariances


def _solve_lower_transposed(factor: Column, right: Column) -> Column:
    """h with hᵀL = rightᵀ for lower factors ``(k, k, b)``; directions without extent get weight zero."""
    k = factor.shape[0]
    weights = np.zeros_like(right)
    for j in range(k - 1, -1, -1):
        rest = right[j] - (weights[j + 1 :] * factor[j + 1 :, j]).sum(axis=0)
        pivot = factor[j, j]
        weights[j] = np.where(pivot > 0, rest / np.where(pivot > 0, pivot, 1.0), 0.0)
    return weights
