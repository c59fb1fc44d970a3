"""Which stage a signal should show next: fixed time, max pressure, largest wave, SOTL and a look ahead.

Columns have lanes ``(l, n)`` or stages ``(p, n)`` first and the signal last; ``serves`` is ``(p, l, n)``. Every rule
returns the stage ``(n,)`` as whole numbers; a stage that serves nobody does not exist and is never chosen.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domains.traffic.equations import S_PER_H
from twin_actors.core.columns import Column

Stages = NDArray[np.intp]

MOST_PLANS = 512
"""Sequences of stages that the look ahead compares for one signal; more stages look less far."""
CHUNK = 64
"""Signals that are compared at once, so that memory stays bounded."""


def stage_mask(serves: Column) -> NDArray[np.bool_]:
    """Which stages exist ``(p, …)``: those that serve any lane."""
    exists: NDArray[np.bool_] = serves.max(axis=1) > 0
    return exists


def shown_serves(serves: Column, stage: Column, green: NDArray[np.bool_] | None = None) -> Column:
    """How far the stage that shows serves each lane ``(l, …)``; before the first command (−1) all stages share.

    ``green (p, l, …)`` is ``serves > 0`` where the caller has it.
    """
    labels = np.arange(serves.shape[0]).reshape(-1, *[1] * np.ndim(stage))
    shown = np.rint(stage)
    weight = (labels == shown).astype(np.float64)
    if (shown < 0).any():
        exists = stage_mask(serves) if green is None else green.any(axis=1)
        weight = np.where(shown >= 0, weight, exists / np.maximum(exists.sum(axis=0), 1))
    served: Column = np.einsum("p...,pl...->l...", weight, serves)
    return served


def kappa_step(kappa: Column, near_veh: Column, green: NDArray[np.bool_], stage: Column, dt_s: Column) -> Column:
    """SOTL's counter κ ``(p, …)`` in veh·s: grows with what is near a stage's red lanes, zero while the stage shows.

    ``green (p, l, …)`` says which stage serves which lane at all. Source: Gershenson (2005), Self-organizing traffic
    lights, Complex Systems 16.
    """
    grown: Column = np.einsum("l...,pl...->p...", near_veh, green.astype(np.float64))
    grown *= dt_s
    grown += kappa
    labels = np.arange(green.shape[0]).reshape(-1, *[1] * np.ndim(stage))
    grown *= labels != np.rint(stage)
    return grown


def _largest(score: Column, serves: Column, stage: Column) -> Stages:
    """The existing stage with the largest score; the one that shows wins a tie, then the first."""
    score = np.where(stage_mask(serves), score, -np.inf)
    best = score.max(axis=0)
    now = np.rint(stage).astype(np.intp)
    kept = np.take_along_axis(score, np.maximum(now, 0)[None], axis=0)[0]
    chosen: Stages = np.where((now >= 0) & (kept >= best), np.maximum(now, 0), score.argmax(axis=0))
    return chosen


def max_wave(near_veh: Column, serves: Column, stage: Column) -> Stages:
    """The stage with most vehicles within 50 m of the lines it serves (MAXWAVE of Ault and Sharon 2021, RESCO)."""
    return _largest(np.einsum("l...,pl...->p...", near_veh, (serves > 0).astype(np.float64)), serves, stage)


def max_pressure(
    queue_veh: Column, downstream_veh: Column, saturation_vph: Column, serves: Column, stage: Column
) -> Stages:
    """The stage with the largest pressure Σ c(l) (x(l) − x downstream) (Varaiya 2013, Equation 9, per lane)."""
    pressure = saturation_vph / S_PER_H * (queue_veh - downstream_veh)
    return _largest(np.einsum("l...,pl...->p...", pressure, serves), serves, stage)


def fixed_time(at_s: float, serves: Column, green_s: float) -> Stages:
    """Every stage in turn for ``green_s``, by the clock."""
    stages = np.maximum(stage_mask(serves).sum(axis=0), 1)
    order = np.argsort(~stage_mask(serves), axis=0, kind="stable")
    turn = np.mod(np.floor(at_s / green_s), stages).astype(np.intp)
    chosen: Stages = np.take_along_axis(order, turn[None], axis=0)[0]
    return chosen


def sotl(
    kappa: Column,
    moving_veh: Column,
    serves: Column,
    stage: Column,
    stage_s: Column,
    *,
    threshold_veh_s: float,
    min_green_s: Column,
    platoon_veh: float,
) -> Stages:
    """Self-organising: change to the stage whose κ passed the threshold, after the minimum green.

    A platoon of 1 to ``platoon_veh`` vehicles that move near the line (``moving_veh``, per lane) is not cut in two; who
    stands there in spite of green, waiting for a gap, holds nobody up. Source: Gershenson (2005) and
    Cools, Gershenson and D'Hooghe (2013), "SOTL-platoon".
    """
    exists = stage_mask(serves)
    now = np.maximum(np.rint(stage).astype(np.intp), 0)
    labels = np.arange(serves.shape[0]).reshape(-1, *[1] * np.ndim(stage))
    asking = np.where(exists & (labels != now), kappa, -np.inf)
    crossing = (moving_veh * (shown_serves(serves, now.astype(np.float64)) > 0)).sum(axis=0)
    platoon = (crossing > 0) & (crossing <= platoon_veh)
    change = (asking.max(axis=0) >= threshold_veh_s) & (stage_s >= min_green_s) & ~platoon
    chosen: Stages = np.where(change | (np.rint(stage) < 0), np.where(change, asking.argmax(axis=0), now), now)
    return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a look ahead starts from, per lane ``(l, n)`` and per signal ``(n,)``."""

    near_veh: Column
    far_veh: Column
    """Within the detectors' reach and not near."""
    arrival_vph: Column
    box_veh: Column
    exit_share: Column
    saturation_vph: Column
    serves: Column
    stage: Column
    stage_s: Column
    lost_time_s: Column
    min_green_s: Column
    max_green_s: Column


def look_ahead(
    outlook: Outlook,
    *,
    interval_s: float,
    intervals: int = 4,
    far_share: float = 0.5,
    full: float = 0.9,
    box_most_veh: float = 1.0,
    box_weight: float = 10.0,
    keep_veh: float = 1e-3,
) -> Stages:
    """The first stage of the sequence that leaves fewest vehicles waiting over the next ``intervals``.

    Each lane is a store-and-forward queue: what is near can leave at saturation flow where the stage serves the
    lane, a change of stage costs ``lost_time_s``; ``far_share`` of what is within reach arrives in the first
    interval, the rest in the second, later ones bring the estimated arrivals. All sequences of existing stages are
    compared (rolling-horizon control in the manner of Gartner's OPAC, 1983). Guards: a lane whose exits are ``full``
    is not served (spillback); a stage is worth little while ``box_most_veh`` or more from lanes that it stops stand
    inside the junction, so that they can leave first; a green shorter than ``min_green_s`` is not ended; beyond
    ``max_green_s`` another stage that serves anybody waiting is taken.
    """
    n = outlook.stage.shape[-1]
    chosen = np.zeros(n, dtype=np.intp)
    counts = stage_mask(outlook.serves).sum(axis=0)
    for count in np.unique(counts[counts > 0]):
        group = np.flatnonzero(counts == count)
        for start in range(0, len(group), CHUNK):
            rows = group[start : start + CHUNK]
            part = Outlook(**{name: getattr(outlook, name)[..., rows] for name in Outlook.__slots__})
            chosen[rows] = _best_first(
                part,
                int(count),
                interval_s=interval_s,
                intervals=intervals,
                far_share=far_share,
                full=full,
                box_most_veh=box_most_veh,
                box_weight=box_weight,
                keep_veh=keep_veh,
            )
    return chosen


def _best_first(
    see: Outlook,
    count: int,
    *,
    interval_s: float,
    intervals: int,
    far_share: float,
    full: float,
    box_most_veh: float,
    box_weight: float,
    keep_veh: float,
) -> Stages:
    """``look_ahead`` for signals with ``count`` stages each; arrays are (sequence, lane, signal)."""
    depth = max(1, min(intervals, int(np.log(MOST_PLANS) / np.log(count) + 1e-9))) if count > 1 else 1
    plans = np.array(list(itertools.product(range(count), repeat=depth)), dtype=np.intp)
    # the existing stages of each signal in order, so that plans are numbers of existing stages
    order = np.argsort(~stage_mask(see.serves), axis=0, kind="stable")[:count]
    serves = np.take_along_axis(see.serves, order[:, None, :], axis=0)
    now = np.where(np.rint(see.stage) >= 0, (order == np.rint(see.stage)).argmax(axis=0), -1)
    room = see.exit_share < full
    stopped = ((serves <= 0) * see.box_veh).sum(axis=1)
    stopped = np.where(stopped >= box_most_veh, stopped, 0.0)
    full_veh = see.saturation_vph / S_PER_H * interval_s
    cut_veh = see.saturation_vph / S_PER_H * np.maximum(interval_s - see.lost_time_s, 0.0)
    coming_veh = see.arrival_vph / S_PER_H * interval_s

    waiting = np.repeat(see.near_veh[None], len(plans), axis=0)
    cost = np.zeros((len(plans), see.stage.shape[-1]))
    before = np.repeat(now[None], len(plans), axis=0)
    for step in range(depth):
        stage = plans[:, step]
        changes = stage[:, None] != before
        could = serves[stage] * np.where(changes[:, None, :], cut_veh, full_veh)
        if step == 0:
            could = could * room / (1.0 + box_weight * np.where(changes, stopped[stage], 0.0))[:, None, :]
            joining = far_share * see.far_veh
        elif step == 1:
            joining = (1.0 - far_share) * see.far_veh + far_share * coming_veh
        else:
            joining = coming_veh
        waiting = np.maximum(waiting + joining - could, 0.0)
        cost += waiting.sum(axis=1)
        before = np.repeat(stage[:, None], see.stage.shape[-1], axis=1)
    first = plans[:, 0][:, None]
    shows = now >= 0
    cost = cost - keep_veh * (first == now)
    young = shows & (see.stage_s < see.min_green_s)
    cost = np.where(young & (first != now), np.inf, cost)
    wanted = ((serves > 0) * see.near_veh).sum(axis=1) > 0
    others = np.where(np.arange(count)[:, None] != now, wanted, False).any(axis=0)
    old = shows & (see.stage_s >= see.max_green_s) & others
    useful = np.take_along_axis(wanted, np.broadcast_to(first, cost.shape), axis=0)
    cost = np.where(old & ((first == now) | ~useful), np.inf, cost)
    best = plans[cost.argmin(axis=0), 0]
    chosen: Stages = np.take_along_axis(order, best[None], axis=0)[0]
    return chosen
