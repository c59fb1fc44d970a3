"""The kind ``pressure_zone``: a metered part of the network, its pressure at the critical point, its leaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from domains.water import hydraulics
from twin_actors.core.columns import (
    Attributes,
    Column,
    Command,
    Drivers,
    Reading,
    State,
    Windows,
    attribute,
    command,
    driver,
    memory,
    profile,
    reading,
    state,
)
from twin_actors.core.courses import usual
from twin_actors.core.kind import Alert, Devices, Indicator, Indicators, Kind, Step

WEEK_S, WEEK_H, DAY_H = 604_800.0, 168, 24
VALVE_S = 60.0
ENOUGH_HOURS = 126
ZONE_BY_HOUR = np.array(
    [
        0.4,
        0.3,
        0.3,
        0.3,
        0.4,
        0.8,
        1.5,
        1.8,
        1.5,
        1.2,
        1.1,
        1.1,
        1.1,
        1.0,
        0.9,
        0.9,
        1.1,
        1.4,
        1.6,
        1.5,
        1.3,
        1.0,
        0.8,
        0.6,
    ]
)


class ZoneAttributes(Attributes):
    """One equivalent main from the inlet to the critical point, and what customers may draw at night."""

    critical_elevation_m: Column = attribute("m", default=20.0)
    main_length_m: Column = attribute("m", default=2000.0, minimum=0.0)
    main_diameter_m: Column = attribute("m", default=0.3, minimum=0.01)
    main_roughness: Column = attribute("1", default=110.0, minimum=10.0, maximum=200.0)
    least_pressure_m: Column = attribute("m", default=20.0, minimum=0.0)
    night_use_m3s: Column = attribute("m3/s", default=0.002, minimum=0.0)


class ZoneReading(Reading):
    """The meter and gauge at the inlet's logger, and the gauge at the critical point."""

    inflow_m3s: Column = reading("m3/s", minimum=0.0, maximum=20.0, sd=0.001)
    pressure_m: Column = reading("m", minimum=-10.0, maximum=300.0, sd=0.3)


class ZoneState(State):
    """Inflow, and the head at the inlet, which the pressure at the critical point tells."""

    inflow_m3s: Column = state("m3/s", default=0.03, minimum=0.0, maximum=20.0, unsure_sd=0.03, drift=0.01)
    inlet_head_m: Column = state("m", default=70.0, minimum=0.0, maximum=500.0, unsure_sd=15.0, drift=1.0)
    hour_of_week_h: Column = memory("h", minimum=0.0, maximum=168.0)


class ZoneWindows(Windows):
    """The usual week of the inflow (UTC)."""

    usual_m3s: Column = profile("m3/s", of="inflow_m3s", period="week", bins=WEEK_H)


class ZoneCommand(Command):
    """Set point of the reducing valve at the inlet, m of head."""

    inlet_head_m: Column = command("m", default=70.0, minimum=0.0, maximum=500.0)


class ZoneDrivers(Drivers):
    """Mean draw of customers, water lost by leaks, and local time."""

    demand_m3s: Column = driver("m3/s", default=0.03, minimum=0.0)
    leak_m3s: Column = driver("m3/s", default=0.002, minimum=0.0)
    utc_offset_h: Column = driver("h", default=0.0, minimum=-12.0, maximum=14.0)


def pressure_m(state: ZoneState, attributes: ZoneAttributes) -> Column:
    """Pressure at the critical point: inlet head − Hazen-Williams loss of the inflow − its elevation, m."""
    loss_m = hydraulics.head_loss_m(
        state.inflow_m3s, attributes.main_length_m, attributes.main_diameter_m, attributes.main_roughness
    )
    return np.asarray(state.inlet_head_m - loss_m - attributes.critical_elevation_m)


def predict(
    state: ZoneState, attributes: ZoneAttributes, command: ZoneCommand, couplings: Any, step: Step
) -> ZoneState:
    """The valve brings the inlet to its set point (time constant a minute); the inflow stays; the week goes on."""
    kept = np.exp(-step.dt_s / VALVE_S)
    hour_h = np.mod(step.at_s, WEEK_S) / 3600.0
    return state.replace(
        inlet_head_m=command.inlet_head_m + (state.inlet_head_m - command.inlet_head_m) * kept,
        hour_of_week_h=np.broadcast_to(hour_h, np.shape(state.inflow_m3s)),
    )


def observe(state: ZoneState, attributes: ZoneAttributes, command: ZoneCommand) -> Mapping[str, Column]:
    """The gauge at the critical point sees the inlet's head less loss and elevation."""
    return {"pressure_m": pressure_m(state, attributes)}


def night_flow_m3s(windows: ZoneWindows) -> Column:
    """Mean inflow of the quietest three hours of an average day, ``(n,)``; NaN until most of a week is known.

    Minimum night flow (IWA Water Loss Task Force): at night customers draw little, so most of it is lost.
    """
    week = windows.usual_m3s
    seen = ~np.isnan(week)
    days = (WEEK_H // DAY_H, DAY_H, *week.shape[1:])
    count = seen.reshape(days).sum(axis=0)
    hours = np.sort(
        np.where(seen, week, 0.0).reshape(days).sum(axis=0, dtype=np.float64) / np.maximum(count, 1), axis=0
    )
    enough = (seen.sum(axis=0) >= ENOUGH_HOURS) & (count > 0).all(axis=0)
    return np.where(enough, hours[:3].mean(axis=0), np.nan)


def indicators(state: ZoneState, attributes: ZoneAttributes, command: ZoneCommand, windows: ZoneWindows) -> Indicators:
    """Pressure, loss, leaks and what is unusual at this hour, columns ``(…, n)``."""
    week = windows.usual_m3s
    expected = usual(week, state.hour_of_week_h)
    night = night_flow_m3s(windows)
    leak = np.where(np.isnan(night), 0.0, np.maximum(night - attributes.night_use_m3s, 0.0))
    mean = np.where(np.isnan(week), 0.0, week).sum(axis=0, dtype=np.float64) / np.maximum(
        (~np.isnan(week)).sum(axis=0), 1
    )
    more = np.where(np.isnan(expected), 0.0, state.inflow_m3s - expected)
    loss_m = hydraulics.head_loss_m(
        state.inflow_m3s, attributes.main_length_m, attributes.main_diameter_m, attributes.main_roughness
    )
    return {
        "pressure_m": pressure_m(state, attributes),
        "pressure_margin_m": pressure_m(state, attributes) - attributes.least_pressure_m,
        "head_loss_m": loss_m,
        "leak_m3s": leak + np.zeros_like(state.inflow_m3s),
        "leak_share": np.where(mean > 0.0, leak / np.maximum(mean, 1e-9), 0.0) + np.zeros_like(state.inflow_m3s),
        "unusual_m3s": more,
        "unusual_share": more / np.maximum(state.inflow_m3s - more, 1e-4),
    }


def drive(
    state: ZoneState,
    attributes: ZoneAttributes,
    command: ZoneCommand,
    couplings: Any,
    drivers: ZoneDrivers,
    step: Step,
    chance: np.random.Generator,
) -> ZoneState:
    """Customers of the hour, with 3 % of noise, and the leaks."""
    hour = (step.at_s / 3600.0 + drivers.utc_offset_h) % 24.0
    drawn = drivers.demand_m3s * np.interp(hour, np.arange(24.0), ZONE_BY_HOUR, period=24.0)
    noise = 1.0 + 0.03 * chance.standard_normal(np.shape(state.inflow_m3s))
    return state.replace(inflow_m3s=np.maximum(drawn * noise + drivers.leak_m3s, 0.0))


PRESSURE_ZONE = Kind(
    name="pressure_zone",
    doc="A metered zone of a water network: pressure at its critical point, minimum night flow, bursts.",
    attributes=ZoneAttributes,
    reading=ZoneReading,
    state=ZoneState,
    command=ZoneCommand,
    windows=ZoneWindows,
    predict=predict,
    observe=observe,
    indicators=indicators,
    filter="joint",
    max_step_s=900.0,
    stale_after_s=900.0,
    shows=(
        Indicator(name="pressure_m", unit="m", doc="pressure at the critical point"),
        Indicator(name="pressure_margin_m", unit="m", doc="pressure less least_pressure_m; negative: too low"),
        Indicator(name="head_loss_m", unit="m", doc="lost in the main at the present inflow"),
        Indicator(name="leak_m3s", unit="m3/s", doc="night flow beyond night_use_m3s; 0: none, or not yet known"),
        Indicator(name="leak_share", unit="1", doc="leak over the mean inflow"),
        Indicator(name="unusual_m3s", unit="m3/s", doc="inflow beyond what is usual at this hour of the week"),
        Indicator(name="unusual_share", unit="1", doc="unusual_m3s over the usual inflow"),
    ),
    alerts=(
        Alert(
            name="low_pressure",
            of="pressure_margin_m",
            below=0.0,
            clear=2.0,
            for_s=120.0,
            severity="critical",
            says="the pressure at the critical point is below least_pressure_m",
        ),
        Alert(
            name="burst",
            of="unusual_share",
            above=0.4,
            clear=0.2,
            for_s=1800.0,
            severity="critical",
            says="half an hour of far more inflow than this hour of the week has: look for a burst main",
            emergency=True,
        ),
    ),
    devices=Devices(drivers=ZoneDrivers, drive=drive, period_s=60.0),
    headline=("pressure_m", "inflow_m3s", "leak_share"),
)
