"""Calibrated quantiles of forecasts from their own past errors, tracked so that coverage holds when the world drifts.

Adaptive conformal inference (Gibbs and Candès, "Adaptive conformal inference under distribution shift", NeurIPS 2021)
in its form of quantile tracking (Angelopoulos, Candès and Tibshirani, "Conformal PID control", NeurIPS 2023): for each
level τ the offset q to the forecast moves by q ← q + η·(1{outcome > quantile} − (1 − τ)) with every outcome that
becomes known, against the quantile that was promised when its forecast was made. Whatever the errors do, the share of
outcomes below the promised quantiles then comes to τ, within (q_T − q_0)/(η T) after T outcomes. Offsets are in units
of the errors' own recent size, so that quiet hours get narrow intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twin_actors.core.columns import Column

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
STEP = 0.04
"""η in units of the usual error: a shift of the errors by their own size is followed within about 25 targets."""

SLOWER_BEYOND = 72
"""Horizons of more rows than this take smaller steps, in proportion: an outcome that comes after h rows answers for an
offset that has moved on since, and a loop with a long delay and large steps swings."""

_FORGET = 0.97  # of the running size of the errors, per target
_SLOW = 0.995


@dataclass(frozen=True, slots=True)
class Tracked:
    """Quantiles of past forecasts and the offsets to use now.

    ``quantiles (origins, levels, H, n)`` were made at each origin from errors known by then; ``offsets (levels, H, n)``
    are those after the last origin, in units of the field.
    """

    levels: tuple[float, ...]
    quantiles: Column
    offsets: Column

    def around(self, forecast: Column) -> Column:
        """Quantiles ``(levels, H, n)`` of a forecast ``(H, n)`` that is made now."""
        return forecast + self.offsets


def track(
    made: Column,
    came: Column,
    horizons: Sequence[int],
    *,
    levels: Sequence[float] = LEVELS,
    warm: int,
    step: float = STEP,
    usual: Column | None = None,
) -> Tracked:
    """Follow the errors of forecasts ``made`` against outcomes ``came``, both ``(origins, H, n)`` of successive rows.

    At origin ``o`` the error of horizon ``h`` is known for origins up to ``o − h``. The first ``warm`` origins set
    the starting offsets: the empirical quantiles of what is known of them, of all entities together; the quantiles of
    these origins themselves are therefore no evidence. ``usual (origins, H, n)`` is an expected size of the error
    known at each origin (default: 1 everywhere), see ``usual_size``. Raises ValueError where ``warm`` is not above
    the longest horizon.
    """
    levels = tuple(levels)
    if warm <= max(horizons):
        raise ValueError(f"{warm} origins to start from say nothing of a horizon of {max(horizons)} rows: give more")
    origins, steps, n = made.shape
    expected = np.ones_like(made) if usual is None else usual
    error = came - made
    rank = np.array(levels)[:, None]
    base = np.zeros((steps, n))
    offset = np.zeros((len(levels), steps, n))
    start = error[:warm]
    for order, horizon in enumerate(horizons):
        by_then = max(len(start) - horizon, 0)
        known = start[:by_then, order] / expected[:by_then, order]
        size = np.nanmean(np.abs(known)) if np.isfinite(known).any() else np.nan
        size = size if np.isfinite(size) and size > 0 else 1.0
        each = np.abs(np.where(np.isfinite(known), known, 0.0)).sum(axis=0)
        count = np.isfinite(known).sum(axis=0)
        base[order] = (each + size * 10) / (count + 10)
        scores = (known / base[order])[np.isfinite(known)]
        if len(scores):
            offset[:, order] = np.quantile(scores, levels)[:, None]
    fast, slow = base.copy(), base.copy()
    quantiles = np.empty((origins, len(levels), steps, n))
    used = np.empty((origins, steps, n))
    row = np.arange(steps)
    back = np.array(horizons)
    pace = (step * np.minimum(1.0, SLOWER_BEYOND / back))[:, None]
    ordered = np.sort(offset, axis=0)
    for now in range(origins):
        due = now - back
        arrived = due >= 0
        if arrived.any():
            past = np.maximum(due, 0)
            late = error[past, row]  # (H, n): the error that became known with this row
            known = np.isfinite(late) & arrived[:, None]
            learn = known & (due >= warm - back)[:, None]  # those before have set the offsets already
            issued = quantiles[past, :, row].transpose(1, 0, 2)  # (levels, H, n): what was promised at its origin
            above = came[past, row] > issued
            offset = np.where(learn, offset + pace * (above - (1 - rank[..., None])), offset)
            magnitude = np.where(known, np.abs(late) / expected[past, row], 0.0)
            fast = np.where(known, _FORGET * fast + (1 - _FORGET) * magnitude, fast)
            slow = np.where(known, _SLOW * slow + (1 - _SLOW) * magnitude, slow)
            ordered = np.sort(offset, axis=0)
        used[now] = np.maximum(0.5 * (fast + slow), 1e-12) * expected[now]
        quantiles[now] = made[now] + ordered * used[now]
    return Tracked(levels, quantiles, ordered * used[-1])


def usual_size(made: Column, came: Column, horizons: Sequence[int], cycle: int) -> Column:
    """The usual size of errors at each target's place in a cycle (a day), from errors known at the origin.

    ``(origins, H, n)``: the mean of |error| at the same place of earlier cycles (each cycle weighs 0.9 of the next),
    drawn towards the mean of all errors so far by the weight of three cycles. NaN never: 1 where nothing is known yet.
    """
    origins, _, n = made.shape
    wrong = np.abs(came - made)
    result = np.ones_like(made)
    for order, horizon in enumerate(horizons):
        known = np.isfinite(wrong[:, order])
        size = np.where(known, wrong[:, order], 0.0)
        total, count = np.cumsum(size, axis=0), np.cumsum(known, axis=0)
        overall = np.full((origins, n), np.nan)
        overall[horizon:] = (total / np.maximum(count, 1))[: origins - horizon]
        skip = -(-horizon // cycle)  # the first earlier cycle whose error is known at the origin
        cycles = -(-origins // cycle)
        padded, seen = np.zeros((cycles * cycle, n)), np.zeros((cycles * cycle, n))
        padded[:origins], seen[:origins] = size, known
        folded, weight = padded.reshape(cycles, cycle, n), seen.reshape(cycles, cycle, n)
        run, run_weight = np.zeros((cycle, n)), np.zeros((cycle, n))
        place = np.zeros((cycles, cycle, n))
        place_weight = np.zeros((cycles, cycle, n))
        for number in range(cycles):
            if number - skip >= 0:
                run = 0.9 * run + folded[number - skip]
                run_weight = 0.9 * run_weight + weight[number - skip]
            place[number], place_weight[number] = run, run_weight
        place, place_weight = place.reshape(-1, n)[:origins], place_weight.reshape(-1, n)[:origins]
        safe = np.where(np.isfinite(overall) & (overall > 0), overall, 1.0)
        drawn = (place + 3 * safe) / (place_weight + 3)
        result[:, order] = np.where(np.isfinite(overall) & (overall > 0), drawn, 1.0)
    return result


def coverage(quantiles: Column, came: Column, low: int = 0, high: int = -1) -> float:
    """Share of known outcomes ``(origins, H, n)`` within two levels of ``quantiles (origins, levels, H, n)``."""
    known = np.isfinite(came) & np.isfinite(quantiles[:, low])
    inside = (came >= quantiles[:, low]) & (came <= quantiles[:, high])
    return float(inside[known].mean()) if known.any() else float("nan")
