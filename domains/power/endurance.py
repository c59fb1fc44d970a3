"""How long a load can last: the time until the hot spot or the top oil reaches its limit."""

from __future__ import annotations

import numpy as np

from domains.power.thermal import Course
from twin_actors.core.columns import Column

ENDLESS_H = 72.0
"""A load that keeps the limits this long is said to last for ever: weather and demand change before."""

# Looked at first, from a minute to three days in equal steps of the logarithm; the first look beyond a limit is then
# narrowed down. A hot spot overshoots for tens of minutes (Δθh1 is quick, Δθh2 slow), never between two of these looks.
_LOOKS_S = np.geomspace(60.0, ENDLESS_H * 3600.0, 40)
_HALVINGS = 14


def _beyond_k(course: Course, dt_s: Column, hot_spot_limit_c: Column, oil_limit_c: Column) -> Column:
    """Kelvin beyond the nearer limit ``dt_s`` after the start; negative: below both."""
    there = course.after(dt_s)
    return np.maximum(there.hot_spot_c - hot_spot_limit_c, there.oil_c - oil_limit_c)


def time_to_limit_h(course: Course, hot_spot_limit_c: Column, oil_limit_c: Column) -> Column:
    """Hours until the course first reaches a limit: 0 where it is there already, ``ENDLESS_H`` where it never does.

    Exact on the closed form by bisection, to 0.01 % of the time. With IEEE C57.91 the time constant is that of the
    whole load period (its clause 7.2.6), as the guide reckons a period of constant load. Entities whose settled
    temperatures stay below their limits are not searched, so a city where all is well costs one comparison.
    """
    start = course.start
    warmest_k = np.maximum(start.ambient_c - course.usual_c, 0.0)
    oil_c = np.maximum(start.oil_c, course.settled_oil_c + warmest_k)
    hot_spot_c = oil_c + np.maximum(start.h1_k, course.settled_h1_k) - np.minimum(start.h2_k, course.settled_h2_k)
    at_risk = (hot_spot_c > hot_spot_limit_c) | (oil_c > oil_limit_c)
    lasts_h = np.full(at_risk.shape, ENDLESS_H)
    if not at_risk.any():
        return lasts_h
    some = course.chosen(at_risk)
    limits = tuple(np.broadcast_to(limit, at_risk.shape)[at_risk] for limit in (hot_spot_limit_c, oil_limit_c))
    none_s = np.zeros(len(limits[0]))
    low_s, high_s = none_s.copy(), np.full_like(none_s, np.inf)
    high_s = np.where(_beyond_k(some, none_s, *limits) >= 0.0, 0.0, high_s)
    before_s = none_s
    for look_s in _LOOKS_S:
        now_s = np.full_like(none_s, look_s)
        first = np.isinf(high_s) & (_beyond_k(some, now_s, *limits) >= 0.0)
        low_s, high_s = np.where(first, before_s, low_s), np.where(first, now_s, high_s)
        before_s = now_s
    reached = np.isfinite(high_s)
    high_s = np.where(reached, high_s, 0.0)
    for _ in range(_HALVINGS):
        middle_s = 0.5 * (low_s + high_s)
        beyond = _beyond_k(some, middle_s, *limits) >= 0.0
        low_s, high_s = np.where(beyond, low_s, middle_s), np.where(beyond, middle_s, high_s)
    lasts_h[at_risk] = np.where(reached, high_s / 3600.0, ENDLESS_H)
    return lasts_h
