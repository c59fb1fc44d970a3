"""Stage *estimate*: fold cleaned values into the state, with the variance as part of the state.

The diagonal filter treats every state field by itself and serves kinds whose states are measured. The joint
filter keeps one covariance per component and corrects latent fields as well; it is the divided-difference
filter DD1 of Nørgaard, Poulsen and Ravn (Automatica 36, 2000): central differences of the kind's own ``predict``
and ``observe`` along the columns of a Cholesky factor, laid on the sample axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column, Role
from twin_actors.core.kind import Kind
from twin_actors.core.places import Places, run_of

DIFFERENCE = np.sqrt(3.0)
"""Half the interval of the central differences in standard deviations; h² = 3 is best for Gaussian errors."""

TINY = 1e-300
"""What a quotient of variances is divided by at least."""


@dataclass(frozen=True, slots=True)
class MeasurementPlan:
    """Which state row each reading row measures, split so that no group names a state row twice."""

    groups: tuple[tuple[Places, Places], ...]
    measured: NDArray[np.intp]  # (reading rows,) state row or -1
    unmeasured: NDArray[np.intp]  # reading rows that measure no state
    reader: NDArray[np.intp]  # (state rows,) the first reading row that measures it or -1
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
        reader = np.full(state.rows, -1, np.intp)
        for row, target_row in reversed(list(enumerate(measured))):
            if target_row >= 0:
                reader[target_row] = row
        state_drift2_h = state.per_row("drift") ** 2
        drift2_h = np.where(index[:, None] >= 0, state_drift2_h[index], 0.0) if len(index) else np.zeros((0, 1))
        return cls(
            groups=tuple(
                (run_of(np.array(rows, np.intp)), run_of(np.array(targets, np.intp))) for rows, targets in groups
            ),
            measured=index,
            unmeasured=np.flatnonzero(index < 0),
            reader=reader,
            sd2=reading.per_row("sd") ** 2,
            drift2_h=drift2_h,
            unsure2=state.per_row("unsure_sd") ** 2,
            state_drift2_h=state_drift2_h,
        )

    def measured_of(self, x: Column) -> Column:
        """The state of each reading row ``(R, …, b)`` (a copy), NaN for a row that measures none."""
        seen = x[self.measured]
        seen[self.unmeasured] = np.nan
        return seen


@dataclass(frozen=True, slots=True)
class Estimate:
    """The corrected state and, per reading row, the innovation with its variance (NaN where nothing came)."""

    x: Column
    variance: Column
    innovation: Column
    innovation_variance: Column


def grow_variance(variance: Column, drift2_h: Column, unsure2: Column, elapsed_s: Column) -> Column:
    """Variance after ``elapsed_s`` of silence: + drift²·t/h, never more than that of a value never measured."""
    first_s = elapsed_s[0]
    if drift2_h.strides[-1] == 0 and (elapsed_s == first_s).all():  # one growth for all, as the kind declares it
        grown: Column = variance + drift2_h[:, :1] * (first_s / 3600.0)
    else:
        grown = drift2_h * (elapsed_s / 3600.0)
        grown += variance
    return np.minimum(grown, unsure2, out=grown)


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
    x, variance = x.copy(), variance.copy()
    innovation, spread = fold_diagonal(plan, x, variance, expected, values, usable, noise)
    return Estimate(x, variance, innovation, spread)


def fold_diagonal(
    plan: MeasurementPlan,
    x: Column,
    variance: Column,
    expected: Column,
    values: Column,
    usable: NDArray[np.bool_],
    noise: Column,
) -> tuple[Column, Column]:
    """As ``estimate_diagonal``, with ``x`` and ``variance`` in place; returns innovations and their variances."""
    start = x.copy() if len(plan.groups) > 1 else x
    silent = None if usable.all() else ~usable
    innovation = spread = np.empty((0, 0))
    for number, (rows, targets) in enumerate(plan.groups):
        prior = variance[targets]
        nu, total = values[rows] - expected[rows], prior + noise[rows]
        if number:
            nu -= x[targets] - start[targets]  # what an earlier sensor of the same state has corrected
        gain = prior / np.maximum(total, TINY)
        if silent is not None:
            still = silent[rows]
            gain[still] = 0.0
            step = np.where(still, 0.0, nu)
            step *= gain
            nu[still] = total[still] = np.nan
        else:
            step = gain * nu
        x[targets] += step
        np.subtract(1.0, gain, out=gain)
        variance[targets] *= gain
        if len(nu) == len(values):  # all readings measure a state, each another
            return nu, total
        if not number:
            innovation, spread = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
        innovation[rows], spread[rows] = nu, total
    if not plan.groups:
        return np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    return innovation, spread


@dataclass(frozen=True, slots=True)
class Block:
    """State fields that share their axes: row ``rows[i, c]`` is field ``i`` of component ``c``."""

    rows: NDArray[np.intp]  # (k, m)
    first: int  # its first direction on the sample axis

    @property
    def size(self) -> int:
        return int(self.rows.shape[0])


@dataclass(frozen=True, slots=True)
class Sensor:
    """One reading field of a joint filter: all its components correct those of one block at once.

    ``field`` is the place in the block of the state field that it measures, -1 where only ``observe`` says how.
    """

    name: str
    rows: slice
    block: int
    field: int


@dataclass(frozen=True, slots=True)
class JointPlan:
    """How the joint filter lays out its covariances and its directions on the sample axis."""

    blocks: tuple[Block, ...]
    exact: Places  # rows of the state that are in no block: memory, which no point moves
    directions: int
    sensors: tuple[Sensor, ...]  # in the order of the reading; what is reported only is left out

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
        sensors: list[Sensor] = []
        for name, declared in reading.fields.items():
            axes = tuple(axis.name for axis in declared.axes)
            if axes in order:
                of, names = declared.of or name, by_axes[axes]
                place = names.index(of) if of in names else -1
                sensors.append(Sensor(name, reading.places[name], order.index(axes), place))
        moved = np.concatenate([block.rows.ravel() for block in blocks]) if blocks else np.zeros(0, np.intp)
        exact = run_of(np.setdiff1d(np.arange(state.rows, dtype=np.intp), moved))
        return cls(tuple(blocks), exact, first, tuple(sensors))


def cholesky(covariance: Column) -> Column:
    """Lower factor of ``(k, k, …)`` matrices, column by column, with lost pivots clipped to zero.

    A plain loop over the few fields of a component: one twin whose covariance has degenerated must not stop its
    neighbours, which ``numpy.linalg.cholesky`` of the whole stack would.
    """
    k = covariance.shape[0]
    factor = np.zeros_like(covariance)
    for j in range(k):
        for i in range(j, k):
            rest = factor[i, j]
            rest += covariance[i, j]
            for earlier in range(j):
                rest -= factor[i, earlier] * factor[j, earlier]
            if i == j:
                root = np.sqrt(np.maximum(rest, 0.0, out=rest), out=rest)
                extent = root > 0
                settled = bool(extent.all())
            elif settled:
                rest /= root
            else:
                rest[...] = np.divide(rest, root, out=np.zeros_like(rest), where=extent)
    return factor


def spread_points(plan: JointPlan, x: Column, factors: list[Column]) -> Column:
    """``(S, 1 + 2·directions, b)``: the state itself, then a step forth and back along every direction, which are the
    columns of the covariances' factors."""
    d = plan.directions
    points = np.empty((x.shape[0], 1 + 2 * d, x.shape[1]))
    points[:, 0] = x
    points[plan.exact, 1:] = x[plan.exact, None]
    for block, factor in zip(plan.blocks, factors, strict=True):
        for i, of_field in enumerate(block.rows):
            rows = run_of(of_field)
            own, mine = points[rows], x[rows]
            first, end = block.first, block.first + i + 1  # the directions along which this field is moved
            for still in (slice(1, 1 + first), slice(1 + end, 1 + d + first), slice(1 + d + end, None)):
                own[:, still] = mine[:, None]
            for j in range(i + 1):
                step = DIFFERENCE * factor[i, j]  # (m, b)
                np.add(mine, step, out=own[:, 1 + first + j])
                np.subtract(mine, step, out=own[:, 1 + d + first + j])
            if not isinstance(rows, slice):
                points[rows] = own
    return points


def slopes(plan: JointPlan, points: Column) -> Column:
    """``(…, directions, b)``: change per direction, by central differences of points that were moved along."""
    d = plan.directions
    change: Column = points[:, 1 : 1 + d] - points[:, 1 + d :]
    change *= 1 / (2 * DIFFERENCE)
    return change


def covariances_of(plan: JointPlan, moved: Column) -> list[Column]:
    """Covariances ``(k, k, m, b)`` from moved points."""
    result = []
    for block in plan.blocks:
        k, m = block.rows.shape
        change = [slopes(plan, moved[run_of(rows)]) for rows in block.rows]  # k times (m, D, b)
        covariance = np.empty((k, k, m, moved.shape[-1]))
        for i in range(k):
            for j in range(i + 1):
                np.einsum("mdb,mdb->mb", change[i], change[j], out=covariance[i, j])
                if j < i:
                    covariance[j, i] = covariance[i, j]
        result.append(covariance)
    return result


def limit_covariances(plan: JointPlan, covariances: list[Column], unsure2: Column) -> list[Column]:
    """Scale each covariance so that no field is less certain than one never measured."""
    limited = []
    for block, covariance in zip(plan.blocks, covariances, strict=True):
        k = block.size
        own = covariance[np.arange(k), np.arange(k)]  # (k, m, b)
        cap = unsure2[block.rows]  # (k, m, 1)
        if (own <= cap).all():  # scaled by 1 otherwise
            limited.append(covariance)
            continue
        scale = np.sqrt(cap / np.maximum(own, np.maximum(cap, TINY)))
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
    factors: list[Column],
    seen: Mapping[str, Column],
    values: Column,
    usable: NDArray[np.bool_],
    noise: Column,
) -> tuple[Estimate, list[Column]]:
    """Fold in the reading fields one after the other, each correcting every field of its components.

    A field that reads a state takes its gain from that row of the covariance. One that is observed is in ``seen``, by
    name: what it should say ``(m, 1 + 2·directions, b)`` at the points that ``factors`` spread about ``x``. Its slopes
    along the factors' columns give H = slope·L⁻¹, which stays fixed while the covariances shrink. Without observed
    fields the factors are not needed.
    """
    x, covariances = x.copy(), [covariance.copy() for covariance in covariances]
    innovation, spread = fold_joint(plan, x, covariances, factors, seen, values, usable, noise)
    return Estimate(x, variance_of(plan, covariances, x.shape[0]), innovation, spread), covariances


def fold_joint(
    plan: JointPlan,
    x: Column,
    covariances: list[Column],
    factors: list[Column],
    seen: Mapping[str, Column],
    values: Column,
    usable: NDArray[np.bool_],
    noise: Column,
) -> tuple[Column, Column]:
    """As ``estimate_joint``, with ``x`` and ``covariances`` in place; returns innovations and their variances."""
    start = x.copy() if seen else x
    innovation = np.full(values.shape, np.nan)
    spread = np.full(values.shape, np.nan)
    for sensor in plan.sensors:
        block, points = plan.blocks[sensor.block], seen.get(sensor.name)
        if points is None and sensor.field < 0:
            continue  # nothing expects it: it is reported only
        read = sensor.rows
        use, covariance = usable[read], covariances[sensor.block]  # (m, b), (k, k, m, b)
        if points is None:
            nu = values[read] - x[run_of(block.rows[sensor.field])]
            cross = covariance[:, sensor.field].copy()  # (k, m, b)
            total = cross[sensor.field] + noise[read]
        else:
            use = use & ~np.isnan(points[:, 0])
            slope = slopes(plan, points)[:, block.first : block.first + block.size].swapaxes(0, 1)  # (k, m, b)
            weights = _solve_lower_transposed(factors[sensor.block], slope)  # (k, m, b): H
            cross = np.einsum("ijmb,jmb->imb", covariance, weights)
            total = np.einsum("imb,imb->mb", weights, cross) + noise[read]
            nu = values[read] - points[:, 0]
            for i, of_field in enumerate(block.rows):  # less what an earlier reading has corrected
                nu -= weights[i] * (x[run_of(of_field)] - start[run_of(of_field)])
        all_use = bool(use.all())
        if not all_use:
            if not use.any():
                continue
            cross[:, ~use] = 0.0
            nu[~use] = 0.0
        gain = cross / np.maximum(total, TINY)
        for i, of_field in enumerate(block.rows):
            x[run_of(of_field)] += gain[i] * nu
            for j in range(i + 1):
                covariance[i, j] -= gain[i] * cross[j]
                if j < i:
                    covariance[j, i] = covariance[i, j]
        innovation[read] = nu if all_use else np.where(use, nu, np.nan)
        spread[read] = total if all_use else np.where(use, total, np.nan)
    return innovation, spread


def _solve_lower_transposed(factor: Column, right: Column) -> Column:
    """h with hᵀL = rightᵀ for lower factors ``(k, k, …)``; directions without extent get weight zero."""
    k = factor.shape[0]
    weights = np.zeros_like(right)
    for j in range(k - 1, -1, -1):
        rest = right[j].copy()
        for i in range(j + 1, k):
            rest -= weights[i] * factor[i, j]
        pivot = factor[j, j]
        np.divide(rest, pivot, out=weights[j], where=pivot > 0)
    return weights
