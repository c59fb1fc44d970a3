"""The declared columns of an air station: constants, readings, state, couplings and hourly windows."""

from __future__ import annotations

from twin_actors.core.columns import (
    Attributes,
    Column,
    Couplings,
    Reading,
    State,
    Windows,
    attribute,
    coupling,
    hourly,
    reading,
    state,
)

SIX_HOURS_S = 21_600.0


class AirAttributes(Attributes):
    """Constants of a station.

    ``standard``: 0 EPA May 2024, 1 HJ 633-2012, 2 HJ 633-2026. ``tau_h`` is the time in which the air around
    the station is exchanged: 20 km of city at 2.5 m/s take 2.2 h. Backgrounds are what the air returns to.
    """

    standard: Column = attribute("1", default=0.0, minimum=0.0, maximum=2.0)
    tau_h: Column = attribute("h", default=2.0, minimum=0.1, maximum=240.0)
    background_pm25_ugm3: Column = attribute("ug/m3", default=8.0, minimum=0.0)
    background_pm10_ugm3: Column = attribute("ug/m3", default=18.0, minimum=0.0)
    background_so2_ugm3: Column = attribute("ug/m3", default=4.0, minimum=0.0)
    background_no2_ugm3: Column = attribute("ug/m3", default=15.0, minimum=0.0)
    background_co_mgm3: Column = attribute("mg/m3", default=0.3, minimum=0.0)
    background_o3_ugm3: Column = attribute("ug/m3", default=60.0, minimum=0.0)
    pm_margin_ugm3: Column = attribute("ug/m3", default=10.0, minimum=0.0)  # PM2.5 may exceed 1.2 PM10 by this


class AirReading(Reading):
    """What a station reports. Slightly negative values are an analyser's noise around zero, not a fault."""

    pm25_ugm3: Column = reading("ug/m3", minimum=-10.0, maximum=2000.0, sd=2.0, max_rate=3.0, stuck_after_s=SIX_HOURS_S)
    pm10_ugm3: Column = reading(
        "ug/m3", minimum=-10.0, maximum=6000.0, sd=4.0, max_rate=10.0, stuck_after_s=SIX_HOURS_S
    )
    so2_ugm3: Column = reading("ug/m3", minimum=-10.0, maximum=5000.0, sd=1.5, max_rate=5.0, stuck_after_s=SIX_HOURS_S)
    no2_ugm3: Column = reading("ug/m3", minimum=-10.0, maximum=4000.0, sd=2.0, max_rate=5.0, stuck_after_s=SIX_HOURS_S)
    co_mgm3: Column = reading("mg/m3", minimum=-0.5, maximum=200.0, sd=0.05, max_rate=0.2, stuck_after_s=SIX_HOURS_S)
    o3_ugm3: Column = reading("ug/m3", minimum=-10.0, maximum=2000.0, sd=3.0, max_rate=5.0, stuck_after_s=SIX_HOURS_S)
    wind_ms: Column = reading("m/s", minimum=0.0, maximum=75.0, sd=0.3, max_rate=10.0)
    wind_east_ms: Column = reading("m/s", minimum=-75.0, maximum=75.0, sd=0.3, max_rate=10.0)
    wind_north_ms: Column = reading("m/s", minimum=-75.0, maximum=75.0, sd=0.3, max_rate=10.0)
    temp_c: Column = reading("degC", minimum=-60.0, maximum=60.0, sd=0.3, max_rate=0.5)


class AirState(State):
    """Estimated concentrations, wind and temperature; ``wind_east_ms`` and ``wind_north_ms`` say where it blows to.

    A direction in degrees has no mean (that of 359 and 1 is not 180), its two components have.

    ``drift`` lies between the robust and the plain standard deviation of hourly steps at twelve Beijing
    stations, March 2014 to February 2015 (PM2.5 8.9 and 19.4, NO2 7.4 and 12.0, O3 8.9 and 17.0 µg/m³).
    """

    pm25_ugm3: Column = state("ug/m3", default=12.0, unsure_sd=25.0, drift=10.0, minimum=0.0, maximum=2000.0)
    pm10_ugm3: Column = state("ug/m3", default=25.0, unsure_sd=40.0, drift=18.0, minimum=0.0, maximum=6000.0)
    so2_ugm3: Column = state("ug/m3", default=6.0, unsure_sd=10.0, drift=3.0, minimum=0.0, maximum=5000.0)
    no2_ugm3: Column = state("ug/m3", default=25.0, unsure_sd=25.0, drift=8.0, minimum=0.0, maximum=4000.0)
    co_mgm3: Column = state("mg/m3", default=0.4, unsure_sd=0.5, drift=0.2, minimum=0.0, maximum=200.0)
    o3_ugm3: Column = state("ug/m3", default=60.0, unsure_sd=35.0, drift=10.0, minimum=0.0, maximum=2000.0)
    wind_ms: Column = state("m/s", default=2.5, unsure_sd=2.0, drift=0.9, minimum=0.0, maximum=75.0)
    wind_east_ms: Column = state("m/s", default=0.0, unsure_sd=3.0, drift=1.2, minimum=-75.0, maximum=75.0)
    wind_north_ms: Column = state("m/s", default=0.0, unsure_sd=3.0, drift=1.2, minimum=-75.0, maximum=75.0)
    temp_c: Column = state("degC", default=15.0, unsure_sd=10.0, drift=1.3, minimum=-60.0, maximum=60.0)


class AirCouplings(Couplings):
    """What linked intersections add to the air here, and what neighbours make of it while the station is silent.

    Traffic: emissions of congested traffic, spread over the box. ``nearby_…``: the background that the air relaxes to
    in the place of the attribute; below zero (the default): nobody says.
    """

    traffic_pm25_ugm3_h: Column = coupling("ug/m3/h")
    traffic_no2_ugm3_h: Column = coupling("ug/m3/h")
    nearby_pm25_ugm3: Column = coupling("ug/m3", default=-1.0)
    nearby_pm10_ugm3: Column = coupling("ug/m3", default=-1.0)
    nearby_so2_ugm3: Column = coupling("ug/m3", default=-1.0)
    nearby_no2_ugm3: Column = coupling("ug/m3", default=-1.0)
    nearby_co_mgm3: Column = coupling("mg/m3", default=-1.0)
    nearby_o3_ugm3: Column = coupling("ug/m3", default=-1.0)


class AirWindows(Windows):
    """Clock-hour means, one slot more than the longest average in use: slot 0 is the hour under way."""

    pm25_hourly_ugm3: Column = hourly("ug/m3", of="pm25_ugm3", keep=25)
    pm10_hourly_ugm3: Column = hourly("ug/m3", of="pm10_ugm3", keep=25)
    so2_hourly_ugm3: Column = hourly("ug/m3", of="so2_ugm3", keep=25)
    no2_hourly_ugm3: Column = hourly("ug/m3", of="no2_ugm3", keep=2)
    co_hourly_mgm3: Column = hourly("mg/m3", of="co_mgm3", keep=9)
    o3_hourly_ugm3: Column = hourly("ug/m3", of="o3_ugm3", keep=9)
