"""The kind ``emitter``: a chimney or another source of fine dust whose emission is reported or only assumed."""

from __future__ import annotations

from typing import Any

import numpy as np

from domains.air.plume import concentration_ugm3, spreads_m
from twin_actors.core.columns import (
    Attributes,
    Column,
    Command,
    Drivers,
    Reading,
    State,
    attribute,
    driver,
    reading,
    state,
)
from twin_actors.core.kind import Devices, Indicator, Indicators, Kind, Step
from twin_actors.core.units import register_unit

register_unit("g/s", "mass flow")

FADES_H = 6.0


class EmitterAttributes(Attributes):
    """``height_m`` is the effective height: the chimney and the rise of its plume."""

    height_m: Column = attribute("m", default=40.0, minimum=0.0, maximum=1000.0)
    usual_gs: Column = attribute("g/s", default=1.0, minimum=0.0)


class EmitterReading(Reading):
    """What the works' own meter says."""

    pm25_gs: Column = reading("g/s", minimum=0.0, maximum=1e5, sd=0.2)


class EmitterState(State):
    """The emission of fine dust (PM2.5)."""

    pm25_gs: Column = state("g/s", default=1.0, unsure_sd=10.0, drift=2.0, minimum=0.0, maximum=1e5)


class EmitterDrivers(Drivers):
    """What the works do."""

    pm25_gs: Column = driver("g/s", default=1.0, minimum=0.0)


def predict(
    state: EmitterState, attributes: EmitterAttributes, command: Command, couplings: Any, step: Step
) -> EmitterState:
    """The emission goes back to the usual one: e ← usual + (e − usual)·e^(−dt/6 h), exact for any step."""
    kept = np.exp(-step.dt_s / 3600.0 / FADES_H)
    return state.replace(pm25_gs=attributes.usual_gs + (state.pm25_gs - attributes.usual_gs) * kept)


def indicators(state: EmitterState, attributes: EmitterAttributes, command: Command, windows: Any) -> Indicators:
    """Emission over the usual one, and the ground-level concentration 1 km downwind in neutral air at 3 m/s."""
    sigma_y, sigma_z = spreads_m(1000.0, "D", urban=True)
    ground = concentration_ugm3(state.pm25_gs, 3.0, sigma_y, sigma_z, 0.0, 0.0, attributes.height_m)
    return {
        "over_usual": state.pm25_gs / np.maximum(attributes.usual_gs, 1e-6),
        "at_1_km_ugm3": ground,
    }


def drive(
    state: EmitterState,
    attributes: EmitterAttributes,
    command: Command,
    couplings: Any,
    drivers: EmitterDrivers,
    step: Step,
    chance: np.random.Generator,
) -> EmitterState:
    """The works emit what the driver says."""
    return state.replace(pm25_gs=np.broadcast_to(drivers.pm25_gs, np.shape(state.pm25_gs)))


EMITTER = Kind(
    name="emitter",
    doc="A source of fine dust at a place and height, for attribution and spread by a Gaussian plume.",
    attributes=EmitterAttributes,
    reading=EmitterReading,
    state=EmitterState,
    predict=predict,
    indicators=indicators,
    shows=(
        Indicator(name="over_usual", unit="1", doc="emission over the usual one"),
        Indicator(name="at_1_km_ugm3", unit="ug/m3", doc="ground level 1 km downwind: urban, neutral air, 3 m/s"),
    ),
    max_step_s=3600.0,
    stale_after_s=3900.0,
    devices=Devices(drivers=EmitterDrivers, drive=drive, period_s=60.0),
    headline=("pm25_gs", "over_usual"),
)
