"""The filter's loops over many twins, compiled where the kernels are there, else by numpy, to the bit the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from twin_actors.core import estimation as est
from twin_actors.core.columns import Column
from twin_actors.core.kernels import dense_rows, kernels, pointer, rows

_MOST_FIELDS = 8  # of a block, as the kernel has room for


def advance(
    plan: est.MeasurementPlan,
    moved: Column,
    x: Column,
    variance: Column,
    drift2_h: Column,
    elapsed_s: Column,
    limits: tuple[Column, Column],
) -> bool:
    """Take ``moved (S, b)`` over into ``x`` within its limits, and let ``variance`` grow, both in place.

    False, and nothing has changed: a number is not finite.
    """
    library = kernels().loops
    if library is None:
        grown = est.grow_variance(variance, drift2_h, plan.unsure2, elapsed_s)
        if not (np.isfinite(moved.sum()) and np.isfinite(grown.sum())):
            return False
        np.clip(moved, *limits, out=x)
        variance[...] = grown
        return True
    moved, drift2_h, elapsed_h = dense_rows(moved, np.float64), _dense_noise(drift2_h), elapsed_s / 3600.0
    states, b = moved.shape
    return bool(
        library.advance(
            states, b, *rows(moved), *rows(x), *rows(variance), *_by_twin(drift2_h), pointer(elapsed_h),
            pointer(plan.unsure2), *map(pointer, limits),
        )
    )  # fmt: skip


def fold_diagonal(
    plan: est.MeasurementPlan,
    x: Column,
    variance: Column,
    values: Column,
    usable: NDArray[np.bool_],
    noise: Column,
    limits: tuple[Column, Column],
    expected: Column | None = None,
) -> tuple[Column, Column]:
    """As ``estimation.fold_diagonal``, and then ``x`` within its limits.

    ``expected (R, b)`` is what the readings should say; None: the state that each measures.
    """
    library = kernels().loops
    if library is None or expected is not None or len(plan.groups) > 1:
        if expected is None:
            expected = plan.measured_of(x)
        folded = est.fold_diagonal(plan, x, variance, expected, values, usable, noise)
        np.clip(x, *limits, out=x)
        return folded
    values, usable, noise = dense_rows(values, np.float64), dense_rows(usable, np.bool_), _dense_noise(noise)
    innovation, spread = np.empty(values.shape), np.empty(values.shape)
    library.fold_diagonal(
        len(x), *values.shape, pointer(plan.reader), pointer(plan.measured), *rows(x), *rows(variance),
        *rows(values), *rows(usable), *_by_twin(noise), *map(pointer, limits), est.TINY,
        pointer(innovation), pointer(spread),
    )  # fmt: skip
    return innovation, spread


def fold_joint(
    plan: est.JointPlan,
    x: Column,
    covariances: list[Column],
    values: Column,
    usable: NDArray[np.bool_],
    noise: Column,
    observed: Callable[[Column], Mapping[str, Column]] | None = None,
) -> tuple[Column, Column]:
    """As ``estimation.fold_joint``; ``observed`` tells of points what fields should say there, None: it knows none."""
    if observed is not None:
        factors = [cholesky(covariance) for covariance in covariances]
        unlimited = np.full((len(x), 1), np.inf)
        seen = observed(spread_points(plan, x, factors, (-unlimited, unlimited)))
        return est.fold_joint(plan, x, covariances, factors, seen, values, usable, noise)
    library = kernels().loops
    if library is None or any(block.size > _MOST_FIELDS for block in plan.blocks):
        return est.fold_joint(plan, x, covariances, [], {}, values, usable, noise)
    values, usable, noise = dense_rows(values, np.float64), dense_rows(usable, np.bool_), _dense_noise(noise)
    innovation, spread = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for sensor in plan.sensors:
        if sensor.field < 0:
            continue  # nothing expects it: it is reported only
        block, covariance, read = plan.blocks[sensor.block], covariances[sensor.block], sensor.rows
        library.fold_joint(
            *block.rows.shape, values.shape[1], sensor.field, pointer(block.rows), *rows(x), *rows(covariance),
            *rows(values[read]), *rows(usable[read]), *_by_twin(noise[read]), est.TINY,
            pointer(innovation[read]), pointer(spread[read]),
        )  # fmt: skip
    return innovation, spread


def cholesky(covariance: Column) -> Column:
    """As ``estimation.cholesky``."""
    library = kernels().loops
    if library is None:
        return est.cholesky(covariance)
    covariance = dense_rows(covariance, np.float64)
    factor = np.zeros(covariance.shape)
    library.cholesky(*covariance.shape[1:], *rows(covariance), pointer(factor))
    return factor


def spread_points(plan: est.JointPlan, x: Column, factors: list[Column], limits: tuple[Column, Column]) -> Column:
    """As ``estimation.spread_points``, within the states' limits."""
    library = kernels().loops
    if library is None:
        points = est.spread_points(plan, x, factors)
        return np.clip(points, *(limit[:, None] for limit in limits), out=points)
    x = dense_rows(x, np.float64)
    b = x.shape[1]
    points = np.empty((len(x), 1 + 2 * plan.directions, b))
    still = np.arange(len(x), dtype=np.intp)[plan.exact]
    blocks = [
        (*block.rows.shape, block.first, block.rows, np.ascontiguousarray(factor))
        for block, factor in zip(plan.blocks, factors, strict=True)
    ]
    for k, m, first, of_block, factor in (*blocks, (0, len(still), 0, still, points)):
        library.spread_points(
            k, m, b, plan.directions, first, pointer(of_block), pointer(points), *rows(x), pointer(factor),
            est.DIFFERENCE, *map(pointer, limits),
        )  # fmt: skip
    return points


def _dense_noise(noise: Column) -> Column:
    return noise if noise.strides[-1] == 0 else dense_rows(noise, np.float64)


def _by_twin(column: Column) -> tuple[int, int, int]:
    """Where a matrix begins, how far its rows and its twins are apart: 0 where all twins have the same."""
    b = column.shape[-1]
    return (*rows(column), int(column.strides[-1] != 0 or b == 1))
