"""Simulated air stations: a day of traffic emissions and sunlight, weather that moves all pollutants at once.

The truth moves by the kind's own ``predict``. What it does not know (local emissions, weather) is put into
the state beforehand, larger by e^(dt/τ), so that after the decay of ``predict`` the box holds exactly what the
exponential step with that emission gives, whatever the period of the device.
"""

from __future__ import annotations

import numpy as np

from domains.air.records import AirAttributes, AirCouplings, AirState
from twin_actors.core.columns import Column, Command, Drivers, driver
from twin_actors.core.kind import Devices, Step

TRAFFIC_BY_HOUR = np.array(
    [
        *(0.25, 0.18, 0.14, 0.14, 0.22, 0.55, 1.10, 1.75, 1.85, 1.45, 1.20, 1.15),
        *(1.20, 1.20, 1.25, 1.40, 1.65, 1.90, 1.75, 1.30, 0.95, 0.70, 0.50, 0.35),
    ]
)
"""Traffic of a working day at each full local hour, relative to the mean of the day (about 1)."""

# Emission at mean traffic in µg/m³ per hour (CO: mg/m³). Ozone is destroyed by fresh NO: a negative source.
TRAFFIC_EMISSION = {
    "pm25_ugm3": 2.0,
    "pm10_ugm3": 4.5,
    "so2_ugm3": 0.6,
    "no2_ugm3": 8.0,
    "co_mgm3": 0.12,
    "o3_ugm3": -5.0,
}
NOON_OZONE_UGM3_H = 18.0

# Part of the background by which the weather moves a pollutant (one sd), and its share in common with the others.
WEATHER_SD = {
    "pm25_ugm3": 0.35,
    "pm10_ugm3": 0.30,
    "so2_ugm3": 0.25,
    "no2_ugm3": 0.30,
    "co_mgm3": 0.20,
    "o3_ugm3": -0.20,  # stagnant air collects NO, which eats ozone: the common part counts downwards
}
COMMON_SHARE = 0.8

WEATHER_MEMORY_H = 1.0
WIND_SD_MS = 0.8
TEMP_SD_C = 0.5
TEMP_SWING_C = 5.0


class AirDrivers(Drivers):
    """What the outside world does; a story may set it.

    ``emission_factor`` multiplies all traffic emissions, ``smoke_pm25_ugm3_h`` is a plume (fire, industry) that
    raises PM2.5 and PM10, ``wind_ms`` and ``temp_c`` are the means of the day, ``utc_offset_h`` sets local time.
    """

    emission_factor: Column = driver("1", default=1.0, minimum=0.0, maximum=100.0)
    smoke_pm25_ugm3_h: Column = driver("ug/m3/h", default=0.0, minimum=0.0, maximum=5000.0)
    wind_ms: Column = driver("m/s", default=2.5, minimum=0.0, maximum=50.0)
    wind_from_deg: Column = driver("deg", default=270.0, minimum=0.0, maximum=360.0)
    temp_c: Column = driver("degC", default=15.0, minimum=-50.0, maximum=50.0)
    utc_offset_h: Column = driver("h", default=0.0, minimum=-12.0, maximum=14.0)


def local_hour(at_s: Column, utc_offset_h: Column) -> Column:
    """Hour of the local day, 0 ≤ hour < 24, from seconds since the epoch."""
    return np.asarray((at_s / 3600.0 + utc_offset_h) % 24.0)


def traffic_of(hour: Column) -> Column:
    """Traffic relative to the mean of the day, linear between full hours."""
    return np.asarray(np.interp(hour, np.arange(24.0), TRAFFIC_BY_HOUR, period=24.0))


def drive(
    state: AirState,
    attributes: AirAttributes,
    command: Command,
    couplings: AirCouplings,
    drivers: AirDrivers,
    step: Step,
    chance: np.random.Generator,
) -> AirState:
    """Emissions of the hour and the weather of the step, for ``predict`` to mix and carry off."""
    dt_h = step.dt_s / 3600.0
    hour = local_hour(step.at_s, drivers.utc_offset_h)
    traffic = drivers.emission_factor * traffic_of(hour)
    sunlight = np.maximum(np.sin(np.pi * (hour - 6.0) / 12.0), 0.0)

    # Beyond e⁵⁰ the box has been exchanged many times over; the limit keeps absurd steps finite.
    ventilated = np.minimum(dt_h / attributes.tau_h, 50.0)
    raised = attributes.tau_h * np.expm1(ventilated)
    swayed = np.exp(ventilated) * np.sqrt(-np.expm1(-2.0 * ventilated))
    shape = state.pm25_ugm3.shape
    common = chance.standard_normal(shape)

    moved: dict[str, Column] = {}
    for name, per_h in TRAFFIC_EMISSION.items():
        emission = per_h * traffic
        if name in ("pm25_ugm3", "pm10_ugm3"):
            emission = emission + drivers.smoke_pm25_ugm3_h
        elif name == "o3_ugm3":
            emission = emission + NOON_OZONE_UGM3_H * sunlight
        own = chance.standard_normal(shape)
        weather = COMMON_SHARE * common + np.sqrt(1.0 - COMMON_SHARE**2) * own
        sd = WEATHER_SD[name] * getattr(attributes, f"background_{name}")
        moved[name] = np.maximum(getattr(state, name) + emission * raised + sd * weather * swayed, 0.0)

    kept = np.exp(-dt_h / WEATHER_MEMORY_H)
    fresh = np.sqrt(-np.expm1(-2.0 * dt_h / WEATHER_MEMORY_H))
    wind = drivers.wind_ms + (state.wind_ms - drivers.wind_ms) * kept
    moved["wind_ms"] = np.maximum(wind + WIND_SD_MS * fresh * chance.standard_normal(shape), 0.0)
    blows_to = np.radians(drivers.wind_from_deg + 180.0)
    moved["wind_east_ms"] = moved["wind_ms"] * np.sin(blows_to)
    moved["wind_north_ms"] = moved["wind_ms"] * np.cos(blows_to)
    warm = drivers.temp_c + TEMP_SWING_C * np.cos(2.0 * np.pi * (hour - 15.0) / 24.0)
    moved["temp_c"] = warm + (state.temp_c - warm) * kept + TEMP_SD_C * fresh * chance.standard_normal(shape)
    return state.replace(**moved)


DEVICES = Devices(drivers=AirDrivers, drive=drive, period_s=30.0)
