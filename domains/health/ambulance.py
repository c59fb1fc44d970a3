"""The kind ``ambulance_station``: ambulances that are out or at hand, and the calls of the district around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from domains.health.queues import erlang_b, stay
from twin_actors.core.columns import (
    Attributes,
    Column,
    Command,
    Drivers,
    Reading,
    State,
    attribute,
    command,
    driver,
    memory,
    reading,
    state,
)
from twin_actors.core.kind import Alert, Devices, Indicator, Indicators, Kind, Need, Step
from twin_actors.core.units import register_unit

register_unit("ambulances", "ambulances")

ENOUGH = 0.9
BOUND_S = 3600.0


class StationAttributes(Attributes):
    """Ambulances based here, how long a call binds one, and how far one gets in time."""

    ambulances: Column = attribute("ambulances", default=3.0, minimum=0.0, maximum=500.0)
    job_h: Column = attribute("h", default=1.1, minimum=0.05, maximum=24.0)
    target_min: Column = attribute("min", default=8.0, minimum=0.5, maximum=120.0)
    speed_kmh: Column = attribute("km/h", default=40.0, minimum=1.0)


class StationReading(Reading):
    """What the dispatch centre knows."""

    busy_ambulances: Column = reading("ambulances", minimum=0.0, maximum=1000.0, sd=0.3)
    calls_ph: Column = reading("persons/h", minimum=0.0, maximum=500.0, sd=0.3)


class StationState(State):
    """Ambulances on a call, and calls an hour from this district; calls that found none at hand, exactly."""

    busy_ambulances: Column = state("ambulances", default=1.1, minimum=0.0, maximum=1000.0, unsure_sd=2.0, drift=1.0)
    calls_ph: Column = state("persons/h", default=1.0, minimum=0.0, maximum=500.0, unsure_sd=1.5, drift=0.5)
    missed_persons: Column = memory("persons", minimum=0.0)


class StationCommand(Command):
    """Ambulances that shall stand here when not on a call; below zero: those based here."""

    posted: Column = command("ambulances", default=-1.0, minimum=-1.0, maximum=500.0, hold_s=3600.0)


class StationDrivers(Drivers):
    """Calls an hour from the district."""

    calls_ph: Column = driver("persons/h", default=1.0, minimum=0.0)


def posted_here(attributes: StationAttributes, command: StationCommand) -> Column:
    """Ambulances that belong here just now."""
    return np.where(command.posted >= 0.0, command.posted, attributes.ambulances)


def predict(
    state: StationState, attributes: StationAttributes, command: StationCommand, couplings: Any, step: Step
) -> StationState:
    """Ambulances go out and come back by the fluid limit of M/G/c/c (``queues.stay``), exact for any step."""
    here = posted_here(attributes, command)
    moved = stay(state.busy_ambulances, state.calls_ph, attributes.job_h, here, step.dt_s)
    return state.replace(busy_ambulances=moved.occupied, missed_persons=state.missed_persons + moved.turned_away)


def indicators(state: StationState, attributes: StationAttributes, command: StationCommand, windows: Any) -> Indicators:
    """Who is at hand, and how likely the next call finds one: columns ``(…, n)``."""
    here = posted_here(attributes, command)
    load = state.calls_ph * attributes.job_h
    return {
        "at_hand": np.maximum(here - state.busy_ambulances, 0.0),
        "offered_load": load,
        "busy_share": np.minimum(load / np.maximum(here, 1e-9), 1.0),
        "found_at_hand": 1.0 - erlang_b(here, load),
        "reach_km": attributes.speed_kmh * attributes.target_min / 60.0 + np.zeros_like(load),
    }


def needs(state: StationState, attributes: StationAttributes, indicators: Indicators) -> Mapping[str, Need]:
    """``spare_ambulance``: one for a station whose next call finds none in more than one of ten times."""
    short = ENOUGH - indicators["found_at_hand"]
    return {
        "spare_ambulance": Need(
            amount=(short > 0.0).astype(np.float64),
            urgency=np.where(short > 0.0, 1.0 + 10.0 * short * state.calls_ph, 0.0),
            duration_s=np.full(np.shape(short), BOUND_S),
        )
    }


def drive(
    state: StationState,
    attributes: StationAttributes,
    command: StationCommand,
    couplings: Any,
    drivers: StationDrivers,
    step: Step,
    chance: np.random.Generator,
) -> StationState:
    """Calls wander about the driver's mean with 15 % and a memory of half an hour."""
    kept = np.exp(-step.dt_s / 1800.0)
    fresh = np.sqrt(-np.expm1(-2.0 * step.dt_s / 1800.0))
    noise = 0.15 * drivers.calls_ph * fresh * chance.standard_normal(np.shape(state.calls_ph))
    return state.replace(
        calls_ph=np.maximum(drivers.calls_ph + (state.calls_ph - drivers.calls_ph) * kept + noise, 0.0)
    )


AMBULANCE_STATION = Kind(
    name="ambulance_station",
    doc="An ambulance station: calls of its district, ambulances out and at hand, the risk that none is there.",
    attributes=StationAttributes,
    reading=StationReading,
    state=StationState,
    command=StationCommand,
    predict=predict,
    indicators=indicators,
    needs=needs,
    max_step_s=900.0,
    stale_after_s=600.0,
    shows=(
        Indicator(name="at_hand", unit="ambulances", doc="posted here and not on a call"),
        Indicator(name="offered_load", unit="ambulances", doc="calls times the time that one binds"),
        Indicator(name="busy_share", unit="1", doc="offered load over ambulances"),
        Indicator(name="found_at_hand", unit="1", doc="Erlang B: share of calls that find one here"),
        Indicator(name="reach_km", unit="km", doc="how far an ambulance gets within target_min"),
    ),
    alerts=(
        Alert(
            name="none_at_hand",
            of="at_hand",
            below=0.5,
            clear=0.9,
            for_s=60.0,
            severity="critical",
            says="no ambulance is at hand here",
        ),
    ),
    devices=Devices(drivers=StationDrivers, drive=drive, period_s=30.0),
    headline=("at_hand", "calls_ph", "found_at_hand"),
)
