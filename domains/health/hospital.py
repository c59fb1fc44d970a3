"""The kind ``hospital``: beds that fill and empty, and how likely the next patient finds none."""

from __future__ import annotations

from typing import Any

import numpy as np

from domains.health.queues import erlang_b, erlang_c, stay
from twin_actors.core.columns import (
    Attributes,
    Column,
    Command,
    Couplings,
    Drivers,
    Reading,
    State,
    attribute,
    coupling,
    driver,
    memory,
    reading,
    state,
)
from twin_actors.core.kind import Alert, Devices, Indicator, Indicators, Kind, Step
from twin_actors.core.units import register_unit

register_unit("beds", "beds")

LONGEST_H = 240.0


class HospitalAttributes(Attributes):
    """Staffed beds of one ward or house, and how long a patient stays on average."""

    beds: Column = attribute("beds", default=120.0, minimum=1.0, maximum=5000.0)
    mean_stay_h: Column = attribute("h", default=72.0, minimum=0.1, maximum=2000.0)


class HospitalReading(Reading):
    """What the bed board and the admission desk say."""

    occupied_beds: Column = reading("beds", minimum=0.0, maximum=10_000.0, sd=1.0)
    arrivals_ph: Column = reading("persons/h", minimum=0.0, maximum=1000.0, sd=0.6)


class HospitalState(State):
    """Occupied beds and arrivals; patients turned away for want of a bed are counted exactly."""

    occupied_beds: Column = state("beds", default=90.0, minimum=0.0, maximum=10_000.0, unsure_sd=40.0, drift=4.0)
    arrivals_ph: Column = state("persons/h", default=1.3, minimum=0.0, maximum=1000.0, unsure_sd=2.0, drift=0.4)
    turned_away_persons: Column = memory("persons", minimum=0.0)


class HospitalCouplings(Couplings):
    """Patients an hour whom others send here (negative: sent away from here)."""

    diverted_ph: Column = coupling("persons/h", default=0.0, hold_s=1800.0)


class HospitalDrivers(Drivers):
    """How many patients come an hour."""

    arrivals_ph: Column = driver("persons/h", default=1.3, minimum=0.0)


def predict(
    state: HospitalState, attributes: HospitalAttributes, command: Command, couplings: HospitalCouplings, step: Step
) -> HospitalState:
    """Beds by the fluid limit of M/G/c/c (``queues.stay``), exact for any step while arrivals hold."""
    coming = np.maximum(state.arrivals_ph + couplings.diverted_ph, 0.0)
    moved = stay(state.occupied_beds, coming, attributes.mean_stay_h, attributes.beds, step.dt_s)
    return state.replace(
        occupied_beds=moved.occupied, turned_away_persons=state.turned_away_persons + moved.turned_away
    )


def indicators(state: HospitalState, attributes: HospitalAttributes, command: Command, windows: Any) -> Indicators:
    """Occupancy, Erlang's probabilities at the present arrivals, and the time until the last bed is taken."""
    load = state.arrivals_ph * attributes.mean_stay_h
    fills = (load > attributes.beds) & (state.occupied_beds < attributes.beds)
    ratio = np.where(fills, (load - state.occupied_beds) / np.where(fills, load - attributes.beds, 1.0), 1.0)
    until_h = np.minimum(attributes.mean_stay_h * np.log(np.maximum(ratio, 1.0)), LONGEST_H)
    return {
        "occupancy": state.occupied_beds / attributes.beds,
        "free_beds": np.maximum(attributes.beds - state.occupied_beds, 0.0),
        "offered_load": load,
        "blocking": erlang_b(attributes.beds, load),
        "waiting": erlang_c(attributes.beds, load),
        "full_in_h": np.where(fills, until_h, np.where(state.occupied_beds >= attributes.beds, 0.0, LONGEST_H)),
    }


def drive(
    state: HospitalState,
    attributes: HospitalAttributes,
    command: Command,
    couplings: HospitalCouplings,
    drivers: HospitalDrivers,
    step: Step,
    chance: np.random.Generator,
) -> HospitalState:
    """Arrivals wander about the driver's mean with 10 % and a memory of an hour."""
    kept = np.exp(-step.dt_s / 3600.0)
    fresh = np.sqrt(-np.expm1(-2.0 * step.dt_s / 3600.0))
    noise = 0.1 * drivers.arrivals_ph * fresh * chance.standard_normal(np.shape(state.arrivals_ph))
    wanted = drivers.arrivals_ph + (state.arrivals_ph - drivers.arrivals_ph) * kept + noise
    return state.replace(arrivals_ph=np.maximum(wanted, 0.0))


HOSPITAL = Kind(
    name="hospital",
    doc="Hospital beds as a loss system: occupancy, the risk that the next patient finds no bed, patients turned away.",
    attributes=HospitalAttributes,
    reading=HospitalReading,
    state=HospitalState,
    couplings=HospitalCouplings,
    predict=predict,
    indicators=indicators,
    max_step_s=3600.0,
    stale_after_s=3600.0,
    shows=(
        Indicator(name="occupancy", unit="1", doc="occupied beds over beds"),
        Indicator(name="free_beds", unit="beds", doc="beds that are free"),
        Indicator(name="offered_load", unit="beds", doc="arrivals times mean stay: beds that they would fill"),
        Indicator(name="blocking", unit="1", doc="Erlang B: share of patients who find no bed in the long run"),
        Indicator(name="waiting", unit="1", doc="Erlang C: share who wait, if nobody is turned away"),
        Indicator(name="full_in_h", unit="h", doc="until the last bed is taken at the present arrivals; 240: never"),
    ),
    alerts=(
        Alert(name="nearly_full", of="occupancy", above=0.92, clear=0.88, for_s=1800.0, says="fewer than 8 % are free"),
        Alert(
            name="no_bed",
            of="free_beds",
            below=1.0,
            clear=3.0,
            severity="critical",
            says="no bed is free: patients have to be sent on",
            emergency=True,
        ),
    ),
    devices=Devices(drivers=HospitalDrivers, drive=drive, period_s=60.0),
    headline=("occupied_beds", "occupancy", "blocking", "full_in_h"),
)
