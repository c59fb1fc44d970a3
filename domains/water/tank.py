"""The kind ``tank``: a water tank filled by a pump through a main, drawn on by its customers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from domains.water import hydraulics
from twin_actors.core.columns import (
    Attributes,
    Column,
    Command,
    Couplings,
    Drivers,
    Reading,
    State,
    attribute,
    command,
    coupling,
    driver,
    memory,
    reading,
    state,
)
from twin_actors.core.kind import Alert, Devices, Indicator, Indicators, Kind, Need, Step

LONGEST_H = 240.0
TANKER_WITHIN_H = 2.0
TANKER_BOUND_S = 7200.0

# Demand of a town at each full hour of the day over its mean (shape of EPANET's example network 1, evened out).
DEMAND_BY_HOUR = np.array(
    [
        0.6,
        0.5,
        0.5,
        0.5,
        0.6,
        0.8,
        1.2,
        1.5,
        1.5,
        1.3,
        1.2,
        1.1,
        1.1,
        1.1,
        1.0,
        1.0,
        1.1,
        1.3,
        1.4,
        1.4,
        1.2,
        1.0,
        0.8,
        0.7,
    ]
)
DEMAND_MEMORY_S = 1800.0
DEMAND_SD = 0.05


class TankAttributes(Attributes):
    """A standing tank, the pump that fills it and the main between; the default is tank 2 of EPANET's example 1.

    The pump's curve is H = pump_shutoff_m − pump_slope·q^pump_power at full speed (q in m³/s).
    """

    area_m2: Column = attribute("m2", default=186.1, minimum=0.1)
    bottom_m: Column = attribute("m", default=259.08)
    height_m: Column = attribute("m", default=45.72, minimum=0.1)
    low_m: Column = attribute("m", default=30.48, minimum=0.0)  # below it the pressure of customers fails
    start_below_m: Column = attribute("m", default=33.53, minimum=0.0)  # the local controller's switch
    stop_above_m: Column = attribute("m", default=42.67, minimum=0.0)
    source_head_m: Column = attribute("m", default=243.84)
    pump_shutoff_m: Column = attribute("m", default=101.6, minimum=0.0)
    pump_slope: Column = attribute("1", default=2836.1385, minimum=0.0)
    pump_power: Column = attribute("1", default=2.0, minimum=1.0, maximum=4.0)
    pump_efficiency: Column = attribute("1", default=0.75, minimum=0.05, maximum=1.0)
    main_length_m: Column = attribute("m", default=3209.5, minimum=0.0)
    main_diameter_m: Column = attribute("m", default=0.4572, minimum=0.01)
    main_roughness: Column = attribute("1", default=100.0, minimum=10.0, maximum=200.0)


class TankReading(Reading):
    """Level, and where there are meters the pump's flow and the customers' draw."""

    level_m: Column = reading("m", minimum=0.0, maximum=100.0, sd=0.02, max_rate=0.05)
    demand_m3s: Column = reading("m3/s", minimum=-5.0, maximum=50.0, sd=0.002)


class TankState(State):
    """Level and draw (found from the level where it is not metered), and what ran over or was not served, exactly."""

    level_m: Column = state("m", default=36.58, minimum=0.0, maximum=100.0, unsure_sd=3.0, drift=0.02)
    demand_m3s: Column = state("m3/s", default=0.07, minimum=0.0, maximum=50.0, unsure_sd=0.05, drift=0.02)
    spilled_m3: Column = memory("m3", minimum=0.0)
    unserved_m3: Column = memory("m3", minimum=0.0)


class TankCommand(Command):
    """Speed of the pump as a part of the rated one; 0 stops it."""

    pump_speed: Column = command("1", default=1.0, minimum=0.0, maximum=1.0)


class TankCouplings(Couplings):
    """Draw of zones that this twin does not meter."""

    extra_demand_m3s: Column = coupling("m3/s", default=0.0)


class TankDrivers(Drivers):
    """What customers draw on average of the day, and local time."""

    demand_m3s: Column = driver("m3/s", default=0.07, minimum=0.0)
    utc_offset_h: Column = driver("h", default=0.0, minimum=-12.0, maximum=14.0)


def pump_flow_m3s(level_m: Column, attributes: TankAttributes, command: TankCommand) -> Column:
    """What the pump brings against this level, m³/s."""
    a = attributes
    return hydraulics.pump_flow_m3s(
        a.bottom_m + level_m - a.source_head_m,
        command.pump_speed,
        a.pump_shutoff_m,
        a.pump_slope,
        a.pump_power,
        hydraulics.resistance(a.main_length_m, a.main_diameter_m, a.main_roughness),
    )


def predict(
    state: TankState, attributes: TankAttributes, command: TankCommand, couplings: TankCouplings, step: Step
) -> TankState:
    """Mass balance: area·dlevel/dt = pump(level) − demand; what does not fit runs over, what is not there is missed.

    Heun's method: the pump's flow depends on the level, so it is taken at both ends of a step of five minutes at most.
    """
    draw = state.demand_m3s + couplings.extra_demand_m3s
    begin = pump_flow_m3s(state.level_m, attributes, command)
    tried_m = state.level_m + (begin - draw) * step.dt_s / attributes.area_m2
    end = pump_flow_m3s(np.clip(tried_m, 0.0, attributes.height_m), attributes, command)
    volume = attributes.area_m2 * state.level_m + (0.5 * (begin + end) - draw) * step.dt_s
    most = attributes.area_m2 * attributes.height_m
    return state.replace(
        level_m=np.clip(volume, 0.0, most) / attributes.area_m2,
        spilled_m3=state.spilled_m3 + np.maximum(volume - most, 0.0),
        unserved_m3=state.unserved_m3 + np.maximum(-volume, 0.0),
    )


def indicators(state: TankState, attributes: TankAttributes, command: TankCommand, windows: Any) -> Indicators:
    """Volume, pump and how long the water lasts, columns ``(…, n)``."""
    flow = pump_flow_m3s(state.level_m, attributes, command)
    lift_m = attributes.bottom_m + state.level_m - attributes.source_head_m
    loss_m = hydraulics.head_loss_m(
        flow, attributes.main_length_m, attributes.main_diameter_m, attributes.main_roughness
    )
    full = command.replace(pump_speed=np.ones_like(state.level_m))
    usable_m3 = attributes.area_m2 * np.maximum(state.level_m - attributes.low_m, 0.0)
    return {
        "volume_m3": attributes.area_m2 * state.level_m,
        "fill": state.level_m / attributes.height_m,
        "pump_m3s": flow,
        "pump_full_m3s": pump_flow_m3s(state.level_m, attributes, full),
        "pump_kw": hydraulics.pump_power_kw(flow, lift_m + loss_m, attributes.pump_efficiency),
        "net_m3s": flow - state.demand_m3s,
        "lasts_h": np.minimum(usable_m3 / np.maximum(state.demand_m3s - flow, 1e-9) / 3600.0, LONGEST_H),
    }


def needs(state: TankState, attributes: TankAttributes, indicators: Indicators) -> Mapping[str, Need]:
    """``water_tanker`` in m³/h of demand for a tank that falls dry within two hours; more urgent the sooner."""
    soon = indicators["lasts_h"] < TANKER_WITHIN_H
    return {
        "water_tanker": Need(
            amount=np.where(soon, state.demand_m3s * 3600.0, 0.0),
            urgency=np.where(soon, 1.0 + TANKER_WITHIN_H - indicators["lasts_h"], 0.0),
            duration_s=np.full(np.shape(soon), TANKER_BOUND_S),
        )
    }


def control(state: TankState, attributes: TankAttributes, command: TankCommand, indicators: Indicators) -> TankCommand:
    """The float switch: full speed below ``start_below_m``, stopped above ``stop_above_m``, as it is in between."""
    low, high = state.level_m < attributes.start_below_m, state.level_m > attributes.stop_above_m
    return TankCommand(pump_speed=np.where(low, 1.0, np.where(high, 0.0, command.pump_speed)))


def drive(
    state: TankState,
    attributes: TankAttributes,
    command: TankCommand,
    couplings: TankCouplings,
    drivers: TankDrivers,
    step: Step,
    chance: np.random.Generator,
) -> TankState:
    """Demand of the hour with noise that lasts half an hour (an Ornstein-Uhlenbeck step, exact in dt)."""
    hour = (step.at_s / 3600.0 + drivers.utc_offset_h) % 24.0
    usual = drivers.demand_m3s * np.interp(hour, np.arange(24.0), DEMAND_BY_HOUR, period=24.0)
    kept = np.exp(-step.dt_s / DEMAND_MEMORY_S)
    fresh = np.sqrt(-np.expm1(-2.0 * step.dt_s / DEMAND_MEMORY_S))
    noise = DEMAND_SD * drivers.demand_m3s * fresh * chance.standard_normal(np.shape(state.demand_m3s))
    return state.replace(demand_m3s=np.maximum(usual + (state.demand_m3s - usual) * kept + noise, 0.0))


TANK = Kind(
    name="tank",
    doc="A water tank: mass balance with a pump on its curve against a Hazen-Williams main, and the draw of customers.",
    attributes=TankAttributes,
    reading=TankReading,
    state=TankState,
    command=TankCommand,
    couplings=TankCouplings,
    predict=predict,
    indicators=indicators,
    needs=needs,
    control=control,
    filter="joint",
    max_step_s=300.0,
    stale_after_s=900.0,
    shows=(
        Indicator(name="volume_m3", unit="m3", doc="water in the tank"),
        Indicator(name="fill", unit="1", doc="level over height"),
        Indicator(name="pump_m3s", unit="m3/s", doc="what the pump brings at its speed against this level"),
        Indicator(name="pump_full_m3s", unit="m3/s", doc="what it would bring at full speed"),
        Indicator(name="pump_kw", unit="kW", doc="electric power of the pump"),
        Indicator(name="net_m3s", unit="m3/s", doc="pump less demand; negative: the tank falls"),
        Indicator(name="lasts_h", unit="h", doc="until low_m at the present net draw; 240: for ever"),
    ),
    alerts=(
        Alert(
            name="tank_low",
            of="level_m",
            below="low_m",
            clear="start_below_m",
            for_s=60.0,
            severity="critical",
            says="the level is below low_m: customers lose pressure",
            emergency=True,
        ),
        Alert(name="tank_overflows", of="fill", above=0.995, clear=0.97, for_s=60.0, says="the tank runs over"),
        Alert(
            name="tank_falls_dry_soon",
            of="lasts_h",
            below=2.0,
            clear=4.0,
            for_s=300.0,
            says="at the present draw the tank reaches low_m within two hours",
        ),
    ),
    devices=Devices(drivers=TankDrivers, drive=drive, period_s=30.0),
    headline=("level_m", "fill", "pump_m3s", "lasts_h"),
)
