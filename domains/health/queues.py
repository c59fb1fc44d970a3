"""Queues of many servers: Erlang's formulas, and a house that fills and empties, as pure column functions.

Servers are beds or ambulances. ``load`` is the offered load a = arrival rate × mean service time (erlangs). Everything
broadcasts; loops run over servers, never over entities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twin_actors.core.columns import Column

MOST_SERVERS = 5000


def erlang_b(servers: Column, load: Column) -> Column:
    """Probability that an arrival finds all ``servers`` busy and is turned away (M/G/c/c, Erlang 1917).

    B(0) = 1, B(k) = a B(k−1)/(k + a B(k−1)); a part of a server counts as none. ValueError above ``MOST_SERVERS``.
    """
    whole, a = np.broadcast_arrays(np.floor(np.asarray(servers, dtype=np.float64)), np.asarray(load, dtype=np.float64))
    most = int(whole.max(initial=0.0))
    if most > MOST_SERVERS:
        raise ValueError(f"erlang_b counts up to {MOST_SERVERS} servers, not {most}")
    a = np.maximum(a, 0.0)
    blocked: Column = np.ones(a.shape)
    result = np.ones(a.shape)
    for number in range(1, most + 1):
        blocked = a * blocked / (number + a * blocked)
        result = np.where(whole == number, blocked, result)
    return result


def erlang_c(servers: Column, load: Column) -> Column:
    """Probability that an arrival has to wait (M/M/c): C = B/(1 − (a/c)(1 − B)); 1 where the load is not below c."""
    whole = np.floor(np.asarray(servers, dtype=np.float64))
    blocked = erlang_b(whole, load)
    share = np.asarray(load, dtype=np.float64) / np.maximum(whole, 1e-9)
    stable = (share < 1.0) & (whole >= 1.0)
    return np.where(stable, blocked / (1.0 - np.where(stable, share, 0.0) * (1.0 - blocked)), 1.0)


def servers_for(load: Column, blocking: float, most: int = MOST_SERVERS) -> Column:
    """The least number of servers that turns away at most the share ``blocking`` of arrivals; ``most`` at most."""
    a = np.maximum(np.asarray(load, dtype=np.float64), 0.0)
    blocked: Column = np.ones(a.shape)
    enough = np.zeros(a.shape)
    for number in range(1, most + 1):
        waiting = blocked > blocking
        if not waiting.any():
            break
        blocked = np.where(waiting, a * blocked / (number + a * blocked), blocked)
        enough = np.where(waiting, float(number), enough)
    return enough


@dataclass(frozen=True, slots=True)
class Stay:
    """A stretch of time in a house of limited places: occupied at its end; persons who came, left, were turned away."""

    occupied: Column
    arrived: Column
    left: Column
    turned_away: Column


def stay(occupied: Column, arrivals_ph: Column, mean_stay_h: Column, places: Column, dt_s: Column) -> Stay:
    """The fluid limit of M/G/c/c, exact for any step: dN/dt = λ − N/s up to the number of places.

    N(t) = λs + (N₀ − λs)e^(−t/s) until it meets the places at t* = s ln((λs − N₀)/(λs − c)); from then on the house is
    full and λ − c/s are turned away. A house with more than its places (some were closed) takes nobody until it has
    come down to them.
    """
    dt_h = dt_s / 3600.0
    start = np.asarray(occupied, dtype=np.float64)
    load = arrivals_ph * mean_stay_h
    full, over = start > places, load > places
    # A house without places empties for ever: its logarithm is of a small number, not of zero.
    drained_h = mean_stay_h * np.log(np.where(full, start, 1.0) / np.where(full, np.maximum(places, 1e-9), 1.0))
    drain_h = np.where(full, np.minimum(dt_h, drained_h), 0.0)
    after = start * np.exp(-drain_h / mean_stay_h)
    ratio = np.where(over, load - after, 1.0) / np.where(over, load - places, 1.0)
    full_at_h = np.where(over, mean_stay_h * np.log(np.maximum(ratio, 1.0)), np.inf)
    free_h = np.minimum(dt_h - drain_h, full_at_h)
    full_h = dt_h - drain_h - free_h
    target = np.where(full & (drained_h >= dt_h), after, load)  # still draining: nothing more happens in this step
    end = np.where(full_h > 0.0, places, target + (after - target) * np.exp(-free_h / mean_stay_h))
    turned_away = arrivals_ph * drain_h + np.where(over, arrivals_ph - places / mean_stay_h, 0.0) * full_h
    arrived = arrivals_ph * dt_h + np.zeros_like(end)
    return Stay(occupied=end, arrived=arrived, left=start + arrived - turned_away - end, turned_away=turned_away)
