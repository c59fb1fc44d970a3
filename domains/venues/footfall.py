"""Footfall: passers-by counted on a walkway per interval, compared with the usual course of the week."""

from __future__ import annotations

from typing import Any

import numpy as np

from domains.venues import devices
from domains.venues.forecast import flow_ahead_pph
from domains.venues.pedestrians import LEVELS, WALKWAY_PER_M_MIN, level_of_service
from twin_actors.core.columns import (
    Attributes,
    Column,
    Reading,
    State,
    Windows,
    attribute,
    memory,
    profile,
    reading,
    state,
)
from twin_actors.core.courses import usual
from twin_actors.core.kind import Alert, Indicator, Indicators, Kind, Step

WEEK_S = 604_800.0
BINS = 168
AHEAD_H = np.arange(1.0, 25.0)


class FootfallAttributes(Attributes):
    """The walkway under the counter."""

    width_m: Column = attribute("m", default=4.0, minimum=0.1)  # effective: clear width less boundary layers


class FootfallReading(Reading):
    """What the counter reports: passers-by of the last interval, as a rate."""

    flow_pph: Column = reading("persons/h", minimum=0.0, maximum=60_000.0, sd=60.0)


class FootfallState(State):
    """The flow, and the place in the week that the weekly profile is read at."""

    flow_pph: Column = state("persons/h", minimum=0.0, maximum=60_000.0, default=300.0, unsure_sd=800.0, drift=400.0)
    hour_of_week_h: Column = memory("h", default=0.0, minimum=0.0, maximum=168.0)


class FootfallWindows(Windows):
    """The usual course of a week, hour by hour."""

    usual_pph: Column = profile("persons/h", of="flow_pph", period="week", bins=BINS)


def predict(
    state: FootfallState, attributes: FootfallAttributes, command: Any, couplings: Any, step: Step
) -> FootfallState:
    """The flow stays as it is (its uncertainty grows); the place in the week follows the clock.

    Weeks are counted from the epoch as the core counts its profiles (a Thursday, 00:00 UTC).
    """
    hour_h = np.mod(step.at_s, WEEK_S) / 3600
    return state.replace(hour_of_week_h=np.broadcast_to(hour_h, np.shape(state.flow_pph)))


def usual_pph(state: FootfallState, windows: FootfallWindows) -> Column:
    """The profile's value for the present hour of the week, shape of ``state.flow_pph``.

    Where that hour has never been seen the present flow stands in: nothing looks unusual for want of data.
    """
    seen = usual(windows.usual_pph, state.hour_of_week_h)
    return np.where(np.isnan(seen), state.flow_pph, seen)


def indicators(
    state: FootfallState, attributes: FootfallAttributes, command: Any, windows: FootfallWindows
) -> Indicators:
    """Flow, flow per metre, Fruin's level by flow, and what is usual at this hour of the week."""
    specific = state.flow_pph / 3600 / attributes.width_m
    ahead = flow_ahead_pph(np.asarray(state.flow_pph), state.hour_of_week_h, windows.usual_pph, AHEAD_H)
    return {
        "specific_flow": specific,
        "los": level_of_service(specific * 60, WALKWAY_PER_M_MIN),
        "usual_pph": usual_pph(state, windows),
        "expected_next_hour_pph": ahead[0],
        "expected_peak_pph": ahead.max(axis=0),
    }


FOOTFALL = Kind(
    name="footfall",
    doc="A counted walkway: passers-by per hour against the usual week, and its level of service by flow.",
    attributes=FootfallAttributes,
    reading=FootfallReading,
    state=FootfallState,
    windows=FootfallWindows,
    predict=predict,
    indicators=indicators,
    max_step_s=3600.0,
    stale_after_s=7200.0,
    shows=(
        Indicator(name="specific_flow", unit="persons/m/s", doc="passers-by per metre of width and second"),
        Indicator(name="los", unit="1", doc="Fruin's walkway level of service by flow", labels=LEVELS),
        Indicator(name="usual_pph", unit="persons/h", doc="usual at this hour of the week; unseen: flow_pph"),
        Indicator(name="expected_next_hour_pph", unit="persons/h", doc="by the usual week and today's deviation"),
        Indicator(name="expected_peak_pph", unit="persons/h", doc="highest flow expected in the next 24 hours"),
    ),
    alerts=(
        Alert(
            name="crowded_walkway",
            of="specific_flow",
            above=WALKWAY_PER_M_MIN[3] / 60,
            clear=WALKWAY_PER_M_MIN[2] / 60,
            for_s=120.0,
            severity="warning",
            says="level of service E or worse: frequent stops, walking against the stream is hard",
        ),
    ),
    devices=devices.FOOTFALL_DEVICES,
    headline=("flow_pph", "usual_pph", "los"),
)
