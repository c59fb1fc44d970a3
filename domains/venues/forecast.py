"""Crowds to come: the usual week corrected by today, and the people whom an event brings and releases."""

from __future__ import annotations

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.courses import usual, usual_ahead

DEVIATION_MEMORY_H = 4.0
"""How long a walkway stays busier or quieter than usual (e-folding; Melbourne 2014, January to August)."""

FEW_PPH = 50.0
"""Added to both sides of today's ratio: at night three people instead of one are not three times the usual."""

RATIO_RANGE = (0.25, 4.0)

# Of those who come to an event: first two hours before its start, most half an hour before, last a quarter after.
EARLY_S, PEAK_S, LATE_S = 7200.0, 1800.0, -900.0

RELEASE_S = 900.0
"""After the end the crowd rises to go with this time constant; doors and stairs then hold it back."""


def flow_ahead_pph(flow_pph: Column, hour_of_week_h: Column, week: Column, hours_h: Column) -> Column:
    """Expected flow ``(k, …, n)`` in ``hours_h (k,)`` hours.

    usual(t + h)·(1 + (r − 1)·e^(−h/4)) with today's ratio r = (flow + 50)/(usual(t) + 50) between ¼ and 4. Where an
    hour of the week was never seen, the present flow stands in.
    """
    ahead = hours_h.reshape(-1, *(1,) * flow_pph.ndim)
    coming = usual_ahead(week, hour_of_week_h, hours_h)
    now = usual(week, hour_of_week_h)
    ratio = np.clip((flow_pph + FEW_PPH) / (now + FEW_PPH), *RATIO_RANGE)
    expected = coming * (1.0 + (ratio - 1.0) * np.exp(-ahead / DEVIATION_MEMORY_H))
    return np.where(np.isnan(expected), flow_pph, expected)


def arrived_share(at_s: Column, start_s: Column) -> Column:
    """Share of an event's visitors who have come by ``at_s``: a triangular distribution of arrivals about its start."""
    first, peak, last = start_s - EARLY_S, start_s - PEAK_S, start_s - LATE_S
    rise = np.clip(at_s - first, 0.0, peak - first) ** 2 / ((last - first) * (peak - first))
    rest = np.clip(last - at_s, 0.0, last - peak) ** 2 / ((last - first) * (last - peak))
    return np.where(at_s <= peak, rise, 1.0 - rest)


def event_arrivals(from_s: Column, until_s: Column, start_s: Column, persons: Column) -> Column:
    """Persons who come to an event between two moments; over all time exactly ``persons``. None without an event."""
    share = arrived_share(until_s, start_s) - arrived_share(from_s, start_s)
    return np.where((persons > 0.0) & (start_s > 0.0), persons * share, 0.0)


def event_departures(from_s: Column, until_s: Column, end_s: Column, persons: Column) -> Column:
    """Persons who want to go after an event between two moments: ``persons``·(1 − e^(−t/15 min)) from its end on."""

    def gone(at_s: Column) -> Column:
        return -np.expm1(-np.maximum(at_s - end_s, 0.0) / RELEASE_S)

    return np.where((persons > 0.0) & (end_s > 0.0), persons * (gone(until_s) - gone(from_s)), 0.0)
