"""What a twin's own model says of the time ahead: its state rolled forward, and what its device would then report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_actors.core import estimation as est
from twin_actors.core.columns import Column
from twin_actors.core.kind import Kind


class Outlook(NamedTuple):
    """One twin at ``H`` moments: state ``x`` and its ``sd (S, H)``; ``expected`` readings and their ``spread (R, H)``;
    the kind's headline indicators and their sd ``(H,)`` by name, without ratings.

    ``spread`` is the standard deviation with which a reading would differ from the expected one: state and sensor
    together. Both are NaN in rows that nothing expects.
    """

    x: Column
    sd: Column
    expected: Column
    spread: Column
    indicators: Mapping[str, tuple[Column, Column]]


def of_rolled(
    plan: est.MeasurementPlan,
    joint: est.JointPlan | None,
    x: Column,
    variance: Column,
    covariances: list[Column],
    noise: Column,
    observed: Callable[[Column], Mapping[str, Column]],
    places: Mapping[str, slice],
    indicators: Callable[[Column], Mapping[str, Column]],
) -> Outlook:
    """From rolled columns ``x``, ``variance (S, H)``, ``covariances`` of a joint filter and sensor ``noise (R, H)``.

    ``observed`` and ``indicators`` say what readings and indicators would be at points ``(S, points, H)``.

    A reading of a state field has the variance of that field. One that is observed gets HPHᵀ by central differences
    along the columns of the covariance's factor, as the filter does (see estimation), and so does an indicator; with a
    diagonal filter these are the state's rows.
    """
    expected = plan.measured_of(x)
    spread2 = plan.measured_of(variance)
    points = _diagonal_points(x, variance)
    if joint is not None:
        points = est.spread_points(joint, x, [est.cholesky(covariance) for covariance in covariances])
    for name, seen in observed(points).items():
        expected[places[name]], spread2[places[name]] = _moments(seen)
    shown = {name: _moments(column[None]) for name, column in indicators(points).items()}
    return Outlook(
        x=x,
        sd=np.sqrt(np.maximum(variance, 0.0)),
        expected=expected,
        spread=np.sqrt(np.maximum(spread2, 0.0) + noise),
        indicators={name: (mean[0], np.sqrt(variance[0])) for name, (mean, variance) in shown.items()},
    )


def headline(kind: Kind, points: Column, attributes: Column, command: Column, windows: Any) -> dict[str, Column]:
    """The headline indicators that are numbers ``(points, H)`` at ``points (S, points, H)`` of one twin.

    ``attributes`` and ``command (rows, H)`` and the record of ``windows (…, H)`` are those of the moments. A kind's
    indicators take no samples: points are laid side by side as if they were twins.
    """
    wanted = [shown.name for shown in kind.shows if shown.name in kind.headline and not shown.labels]
    if not wanted:
        return {}
    _, count, moments = points.shape

    def beside(matrix: NDArray[Any]) -> NDArray[Any]:
        return np.tile(matrix, count)

    said = kind.indicators(
        kind.state.of_block(points.reshape(len(points), -1)),
        kind.attributes.of_block(beside(attributes)),
        kind.command.of_block(beside(command)),
        kind.windows.of_fields({name: beside(getattr(windows, name)) for name in kind.windows.layout.fields}),
    )
    shape = (count, moments)
    return {name: np.broadcast_to(said[name], count * moments).reshape(shape) for name in wanted}


def _moments(seen: Column) -> tuple[Column, Column]:
    """Value and variance ``(m, H)`` of what was seen at ``(m, 1 + 2 directions, H)``."""
    directions = (seen.shape[1] - 1) // 2
    slope = (seen[:, 1 : 1 + directions] - seen[:, 1 + directions :]) / (2 * est.DIFFERENCE)
    return seen[:, 0], (slope**2).sum(axis=1)


def _diagonal_points(x: Column, variance: Column) -> Column:
    """``(S, 1 + 2 S, H)``: the state, then every row by itself a step forth and back."""
    rows = len(x)
    step = est.DIFFERENCE * np.sqrt(np.maximum(variance, 0.0))
    points = np.repeat(x[:, None], 1 + 2 * rows, axis=1)
    every = np.arange(rows)
    points[every, 1 + every] += step
    points[every, 1 + rows + every] -= step
    return points
