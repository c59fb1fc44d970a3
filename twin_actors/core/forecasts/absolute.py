"""Linear regression by least absolute deviations for many entities at once: iteratively reweighted ridge regression.

The median, not the mean, is what the mean absolute error asks for, and a jam or an event among the training rows does
not bend the weights. Each round solves a ridge regression whose rows weigh 1/max(|residual|, ε) (Schlossmacher,
"An iterative technique for absolute deviations curve fitting", JASA 68, 1973).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column

ROUNDS = 8
FARTHEST = 4.0
"""Inputs are cut at this many standard deviations of the training rows: no forecast rests on extrapolation."""

_STILL = 1e-7  # below, an input that comes in units of about one varies by rounding only
_NEAREST = 0.1  # ε in medians of |residual|


@dataclass(frozen=True, slots=True)
class AbsoluteFit:
    """``m`` regressions of ``p`` inputs; weights belong to centred and scaled inputs."""

    centre: Column  # (m, p)
    spread: Column  # (m, p)
    weights: Column  # (m, p)
    intercept: Column  # (m,)

    def __call__(self, inputs: Column) -> Column:
        """Of inputs ``(m, rows, p)`` the outcomes ``(m, rows)``."""
        z = np.clip((inputs - self.centre[:, None]) / self.spread[:, None], -FARTHEST, FARTHEST)
        outcome: Column = (z @ self.weights[..., None])[..., 0] + self.intercept[:, None]
        return outcome


def fit_absolute(
    inputs: Column, outcome: Column, use: NDArray[np.bool_], ridge: float, worth: Column | None = None
) -> AbsoluteFit:
    """Fit ``outcome (m, rows)`` to finite ``inputs (m, rows, p)`` on the rows in ``use (m, rows)``.

    ``ridge`` is the penalty relative to the weighted mean square of a scaled input; ``worth (m, rows)`` says how much a
    deviation in each row counts (default: 1). A regression without any row gives nought.
    """
    count = np.maximum(use.sum(axis=1), 1)[:, None]
    outcome = np.where(use, outcome, 0.0)
    used = use[..., None]
    centre = np.where(used, inputs, 0.0).sum(axis=1) / count
    spread = np.sqrt((np.where(used, inputs - centre[:, None], 0.0) ** 2).sum(axis=1) / count)
    spread = np.where(spread > _STILL, spread, np.inf)  # an input that never varies says nothing
    z = np.where(used, np.clip((inputs - centre[:, None]) / spread[:, None], -FARTHEST, FARTHEST), 0.0)
    p = z.shape[-1]
    every = use | ~use.any(axis=1, keepdims=True)
    middle = np.nanmedian(np.where(every, outcome, np.nan), axis=1, keepdims=True)
    value = np.ones_like(outcome) if worth is None else worth
    weight = value * _weights(np.abs(outcome - middle), use, every)
    for _ in range(ROUNDS):
        total = np.maximum(weight.sum(axis=1), 1e-300)[:, None]
        mean_z = (weight[:, None] @ z)[:, 0] / total
        mean_y = (weight * outcome).sum(axis=1, keepdims=True) / total
        weighted = z * weight[..., None]
        gram = z.transpose(0, 2, 1) @ weighted / total[..., None] - mean_z[:, :, None] * mean_z[:, None]
        gram[:, np.arange(p), np.arange(p)] += ridge + 1e-9
        cross = (weighted.transpose(0, 2, 1) @ outcome[..., None])[..., 0] / total - mean_z * mean_y
        weights = np.linalg.solve(gram, cross[..., None])[..., 0]
        intercept = mean_y - (mean_z * weights).sum(axis=1, keepdims=True)
        rest = np.abs(outcome - (z @ weights[..., None])[..., 0] - intercept)
        weight = value * _weights(rest, use, every)
    return AbsoluteFit(centre, spread, weights, intercept[:, 0])


def _weights(rest: Column, use: NDArray[np.bool_], every: NDArray[np.bool_]) -> Column:
    """1/max(|residual|, ε) of the rows in use; ε a tenth of the median."""
    middle = np.nanmedian(np.where(every, rest, np.nan), axis=1, keepdims=True)
    return np.where(use, 1.0 / np.maximum(rest, _NEAREST * middle + 1e-12), 0.0)
