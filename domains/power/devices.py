"""Simulated substations: a day of demand with noise that lasts, weather, and a voltage that sags with load."""

from __future__ import annotations

import numpy as np

from domains.power import loading
from domains.power.records import (
    SubstationAttributes,
    SubstationCommand,
    SubstationCouplings,
    SubstationState,
)
from twin_actors.core.columns import Column, Drivers, driver
from twin_actors.core.kind import Devices, Step

DEMAND_BY_HOUR = np.array(
    [
        *(0.62, 0.57, 0.54, 0.53, 0.55, 0.62, 0.73, 0.83, 0.88, 0.89, 0.89, 0.90),
        *(0.90, 0.88, 0.87, 0.87, 0.89, 0.94, 0.99, 1.00, 0.97, 0.90, 0.80, 0.70),
    ]
)
"""Demand of a mixed urban substation at each full local hour, relative to the peak of the day."""

DEMAND_MEMORY_S = 900.0
DEMAND_SD = 0.02  # of the rated power
WEATHER_MEMORY_S = 1800.0
AMBIENT_SD_C = 0.4
AMBIENT_SWING_C = 5.0
WARMEST_HOUR = 15.0
VOLTAGE_MEMORY_S = 60.0
VOLTAGE_SD_PU = 0.003
NO_LOAD_VOLTAGE_PU = 1.03


class SubstationDrivers(Drivers):
    """What the outside world does; a story may set it.

    ``load_factor`` is the peak demand of the day over the rated power, ``ambient_temp_c`` the mean of the day,
    ``grid_voltage_pu`` raises or lowers the voltage, ``utc_offset_h`` sets local time.
    """

    load_factor: Column = driver("1", default=0.75, minimum=0.0, maximum=3.0)
    ambient_temp_c: Column = driver("degC", default=20.0, minimum=-50.0, maximum=50.0)
    grid_voltage_pu: Column = driver("pu", default=0.0, minimum=-0.5, maximum=0.5)
    utc_offset_h: Column = driver("h", default=0.0, minimum=-12.0, maximum=14.0)


def local_hour(at_s: Column, utc_offset_h: Column) -> Column:
    """Hour of the local day, 0 ≤ hour < 24, from seconds since the epoch."""
    return np.asarray((at_s / 3600.0 + utc_offset_h) % 24.0)


def demand_of(hour: Column) -> Column:
    """Demand relative to the peak of the day, linear between full hours."""
    return np.asarray(np.interp(hour, np.arange(24.0), DEMAND_BY_HOUR, period=24.0))


def _wander(
    now: Column, towards: Column, sd: Column | float, memory_s: float, dt_s: Column, chance: np.random.Generator
) -> Column:
    """An Ornstein-Uhlenbeck step: noise of stationary ``sd`` that is forgotten with ``memory_s``, exact in dt."""
    kept = np.exp(-dt_s / memory_s)
    fresh = np.sqrt(-np.expm1(-2.0 * dt_s / memory_s))
    return np.asarray(towards + (now - towards) * kept + sd * fresh * chance.standard_normal(np.shape(now)))


def drive(
    state: SubstationState,
    attributes: SubstationAttributes,
    command: SubstationCommand,
    couplings: SubstationCouplings,
    drivers: SubstationDrivers,
    step: Step,
    chance: np.random.Generator,
) -> SubstationState:
    """Demand, ambient and voltage of the moment; ``predict`` then heats the transformer with what is served.

    Demand is what customers want, shed or not: breakers act on what is served, here through the voltage sag.
    """
    hour = local_hour(step.at_s, drivers.utc_offset_h)
    rated = loading.rated_mw(attributes)
    usual_mw = drivers.load_factor * demand_of(hour) * rated
    demand = _wander(state.demand_mw, usual_mw, DEMAND_SD * rated, DEMAND_MEMORY_S, step.dt_s, chance)
    demand = np.maximum(demand, 0.0)
    course = np.cos(2.0 * np.pi * (hour - WARMEST_HOUR) / 24.0)
    usual_c = drivers.ambient_temp_c + AMBIENT_SWING_C * course
    ambient = _wander(state.ambient_temp_c, usual_c, AMBIENT_SD_C, WEATHER_MEMORY_S, step.dt_s, chance)
    served = loading.served_mw(demand, couplings.transfer_mw, attributes, command)
    usual_pu = (
        NO_LOAD_VOLTAGE_PU + drivers.grid_voltage_pu - attributes.sag_pu * loading.load_factor(served, attributes)
    )
    voltage = _wander(state.voltage_pu, usual_pu, VOLTAGE_SD_PU, VOLTAGE_MEMORY_S, step.dt_s, chance)
    return state.replace(demand_mw=demand, ambient_temp_c=ambient, voltage_pu=np.maximum(voltage, 0.0))


DEVICES = Devices(drivers=SubstationDrivers, drive=drive, period_s=10.0)
