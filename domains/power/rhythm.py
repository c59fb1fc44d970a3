"""The usual week of a substation: what its load is expected to be, and what follows neither hour nor weather."""

from __future__ import annotations

import numpy as np

from domains.power.records import SubstationAttributes, SubstationState, SubstationWindows
from twin_actors.core.columns import Column
from twin_actors.core.courses import usual, usual_ahead

WEEK_H = 168
DAY_H = 24

DEVIATION_MEMORY_H = 12.0
"""A load that is above its usual course stays so for hours: e-folding time of the deviation in a forecast."""

ENOUGH_HOURS = 126
"""Three quarters of the week must have been seen before anything is said about the rhythm."""

LEAST_SHARE = 1e-3  # of the usual load: keeps ratios of an unloaded transformer finite


def weather_mw(ambient_c: Column, attributes: SubstationAttributes) -> Column:
    """Load that heating and cooling add at an outdoor temperature, MW: two straight lines with a comfort zone between.

    The change-point model of energy signatures (ASHRAE Guideline 14-2014, five-parameter model).
    """
    heating = attributes.heating_mw_per_k * np.maximum(attributes.heating_below_c - ambient_c, 0.0)
    cooling = attributes.cooling_mw_per_k * np.maximum(ambient_c - attributes.cooling_above_c, 0.0)
    return np.asarray(heating + cooling)


def load_ahead_mw(load_mw: Column, state: SubstationState, windows: SubstationWindows, hours_h: Column) -> Column:
    """Expected load ``(k, …, n)`` in ``hours_h (k,)`` hours: the usual one of that hour, and today's deviation fading.

    L(h) = usual(t + h) + (L − usual(t))·e^(−h/12). Where an hour of the week was never seen the present load stands in.
    """
    ahead = hours_h.reshape(-1, *(1,) * load_mw.ndim)
    coming = usual_ahead(windows.usual_load_mw, state.hour_of_week_h, hours_h)
    now = usual(windows.usual_load_mw, state.hour_of_week_h)
    kept = np.exp(-ahead / DEVIATION_MEMORY_H)
    return np.maximum(np.where(np.isnan(coming) | np.isnan(now), load_mw, coming + (load_mw - now) * kept), 0.0)


def unexplained_mw(
    load_mw: Column, state: SubstationState, attributes: SubstationAttributes, windows: SubstationWindows
) -> Column:
    """Load beyond what is usual at this hour of the week and what today's weather adds to it, MW ``(…, n)``.

    Zero where this hour has not been seen yet: nothing looks wasteful for want of data. Without a usual temperature
    the weather is taken for usual.
    """
    hour_h = state.hour_of_week_h
    usual_mw, usual_c = usual(windows.usual_load_mw, hour_h), usual(windows.usual_ambient_c, hour_h)
    usual_c = np.where(np.isnan(usual_c), state.ambient_temp_c, usual_c)
    weather = weather_mw(state.ambient_temp_c, attributes) - weather_mw(usual_c, attributes)
    return np.where(np.isnan(usual_mw), 0.0, load_mw - usual_mw - weather)


def base_load_ratio(windows: SubstationWindows) -> Column:
    """Load of the quietest six hours of an average day over that of the busiest six, ``(n,)``: 1 is no rhythm at all.

    Hours are found by the load itself, so no time zone is needed. Zero until ``ENOUGH_HOURS`` of the week are known.
    """
    week = windows.usual_load_mw
    seen = ~np.isnan(week)
    days = (WEEK_H // DAY_H, DAY_H, *week.shape[1:])
    total = np.where(seen, week, 0.0).reshape(days).sum(axis=0, dtype=np.float64)
    count = seen.reshape(days).sum(axis=0)
    ordered = np.sort(total / np.maximum(count, 1), axis=0)
    quiet, busy = ordered[:6].mean(axis=0), ordered[-6:].mean(axis=0)
    enough = (seen.sum(axis=0) >= ENOUGH_HOURS) & (count > 0).all(axis=0) & (busy > 0.0)
    return np.where(enough, np.maximum(quiet, 0.0) / np.where(enough, busy, 1.0), 0.0)
