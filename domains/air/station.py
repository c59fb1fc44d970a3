"""The kind ``air_station``: six pollutants in a well-mixed box, and the air quality index of a standard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from domains.air import aqi
from domains.air.devices import DEVICES
from domains.air.nowcast import HOURS, mean_of_hours, nowcast
from domains.air.records import AirAttributes, AirCouplings, AirReading, AirState, AirWindows
from twin_actors.core.columns import Column, Command
from twin_actors.core.kind import Alert, Indicator, Indicators, Kind, Need, Step

EPA_2024, HJ_633_2012, HJ_633_2026 = 0, 1, 2
"""Numbers of the attribute ``standard``."""

DAY_HOURS_NEEDED = 20  # of 24, GB 3095-2012 Table 4
EIGHT_HOURS_NEEDED = 6  # of 8, GB 3095-2012 Table 4; 75 per cent in 40 CFR 50 Appendix U as well

PM_ORDER_RATIO = 1.2

MOBILE_LAB_FROM_AQI = 150.0
MOBILE_LAB_VISIT_S = 7200.0  # two clock hours, the least from which a NowCast can be computed


def predict(
    state: AirState, attributes: AirAttributes, command: Command, couplings: AirCouplings, step: Step
) -> AirState:
    """Relax every pollutant to its background and raise it by emissions, exactly for any step.

    dc/dt = −(c − background)/τ + emission, so over ``dt`` with constant inputs
    c ← c e^(−dt/τ) + (background + emission τ)(1 − e^(−dt/τ)). This is the one-box model with a single first-order
    loss (Jacob, Introduction to Atmospheric Chemistry, 1999, section 3.1), τ being the time in which the box is
    ventilated. Particles of traffic below 2.5 µm are part of PM10 and raise both. What neighbours say of a silent
    station takes the place of its background. Wind and temperature stay.
    """
    tau_h = attributes.tau_h
    exchanges = step.dt_s / 3600.0 / tau_h
    kept, renewed = np.exp(-exchanges), -np.expm1(-exchanges)

    def mixed(now: Column, background: Column, emission_per_h: Column | float = 0.0) -> Column:
        # A sum of two parts that are never negative, so that nothing cancels when little is left of either.
        return now * kept + (background + emission_per_h * tau_h) * renewed

    def background(name: str) -> Column:
        nearby: Column = getattr(couplings, f"nearby_{name}")
        usual: Column = getattr(attributes, f"background_{name}")
        return np.where(nearby >= 0.0, nearby, usual)

    particles = couplings.traffic_pm25_ugm3_h
    return state.replace(
        pm25_ugm3=mixed(state.pm25_ugm3, background("pm25_ugm3"), particles),
        pm10_ugm3=mixed(state.pm10_ugm3, background("pm10_ugm3"), particles),
        so2_ugm3=mixed(state.so2_ugm3, background("so2_ugm3")),
        no2_ugm3=mixed(state.no2_ugm3, background("no2_ugm3"), couplings.traffic_no2_ugm3_h),
        co_mgm3=mixed(state.co_mgm3, background("co_mgm3")),
        o3_ugm3=mixed(state.o3_ugm3, background("o3_ugm3")),
    )


def hourly_averages(windows: AirWindows) -> aqi.Averages:
    """The averages of the standards from completed clock hours; NaN where too many hours are missing.

    Slot 0 of a window is the hour under way and is left out: a standard's hour is a whole one.
    """
    return aqi.Averages(
        pm25_nowcast=nowcast(windows.pm25_hourly_ugm3[1 : HOURS + 1]),
        pm10_nowcast=nowcast(windows.pm10_hourly_ugm3[1 : HOURS + 1]),
        pm25_24h=mean_of_hours(windows.pm25_hourly_ugm3[1:], DAY_HOURS_NEEDED),
        pm10_24h=mean_of_hours(windows.pm10_hourly_ugm3[1:], DAY_HOURS_NEEDED),
        so2_1h=windows.so2_hourly_ugm3[1],
        so2_24h=mean_of_hours(windows.so2_hourly_ugm3[1:], DAY_HOURS_NEEDED),
        no2_1h=windows.no2_hourly_ugm3[1],
        co_1h=windows.co_hourly_mgm3[1],
        co_8h=mean_of_hours(windows.co_hourly_mgm3[1:], EIGHT_HOURS_NEEDED),
        o3_1h=windows.o3_hourly_ugm3[1],
        o3_8h=mean_of_hours(windows.o3_hourly_ugm3[1:], EIGHT_HOURS_NEEDED),
    )


def current(state: AirState) -> aqi.Averages:
    """The estimate of now in the place of every average: the index if the air stayed as it is."""
    return aqi.Averages(
        pm25_nowcast=state.pm25_ugm3,
        pm10_nowcast=state.pm10_ugm3,
        pm25_24h=state.pm25_ugm3,
        pm10_24h=state.pm10_ugm3,
        so2_1h=state.so2_ugm3,
        so2_24h=state.so2_ugm3,
        no2_1h=state.no2_ugm3,
        co_1h=state.co_mgm3,
        co_8h=state.co_mgm3,
        o3_1h=state.o3_ugm3,
        o3_8h=state.o3_ugm3,
    )


def _filled(averages: aqi.Averages, estimate: aqi.Averages) -> aqi.Averages:
    """Averages where there are enough hours, the estimate of now elsewhere: finite in any case."""
    names = aqi.Averages.__dataclass_fields__
    columns = {name: (getattr(averages, name), getattr(estimate, name)) for name in names}
    return aqi.Averages(**{name: np.where(np.isnan(mean), now, mean) for name, (mean, now) in columns.items()})


def sub_indices(averages: aqi.Averages, standard: Column) -> Column:
    """The six sub-indices of each entity by its own ``standard``, shape ``(6, …, n)``."""
    number = np.rint(standard)
    result = np.zeros((len(aqi.POLLUTANTS), *averages.pm25_24h.shape))
    # A standard that no entity of the table uses is not computed; the others do not depend on that.
    if np.any(number == EPA_2024):
        result = np.where(number == EPA_2024, aqi.epa_sub_indices(averages), result)
    if np.any(number == HJ_633_2012):
        result = np.where(number == HJ_633_2012, aqi.hj_sub_indices(averages, 2012), result)
    if np.any(number == HJ_633_2026):
        result = np.where(number == HJ_633_2026, aqi.hj_sub_indices(averages, 2026), result)
    return result


def _main_pollutant(each: Column, standard: Column) -> Column:
    """Place of the highest sub-index in ``MAIN_POLLUTANT``; HJ 633 names none up to an index of 50."""
    unnamed = (np.rint(standard) != EPA_2024) & (each.max(axis=0) <= 50.0)
    return np.asarray(np.where(unnamed, 0.0, each.argmax(axis=0) + 1.0))


def _averaged_pollutants(averages: aqi.Averages, standard: Column) -> Column:
    """How many of the six sub-indices rest on whole hours as the standard in force wants them."""
    gases = [averages.so2_1h, averages.no2_1h]
    epa = [averages.pm25_nowcast, averages.pm10_nowcast, *gases, averages.co_8h, averages.o3_8h]
    hj = [averages.pm25_24h, averages.pm10_24h, *gases, averages.co_1h, averages.o3_8h]
    of_epa = sum((np.isfinite(column).astype(np.float64) for column in epa), np.float64(0.0))
    of_hj = sum((np.isfinite(column).astype(np.float64) for column in hj), np.float64(0.0))
    return np.asarray(np.where(np.rint(standard) == EPA_2024, of_epa, of_hj))


def pm_order_excess_ugm3(attributes: AirAttributes, windows: AirWindows) -> Column:
    """PM2.5 of the last whole hour above 1.2 PM10 and the margin, µg/m³ ``(n,)``; −1 where one of them is missing.

    Fine dust is part of PM10, but two analysers of different make differ: without a margin 1 to 10 % of the hours of
    twelve Beijing stations would be faults, with it 0.4 to 1 (one station: 4).
    """
    fine, coarse = windows.pm25_hourly_ugm3[1], windows.pm10_hourly_ugm3[1]
    over = fine - PM_ORDER_RATIO * coarse - attributes.pm_margin_ugm3
    return np.where(np.isnan(over), -1.0, over)


def indicators(state: AirState, attributes: AirAttributes, command: Command, windows: AirWindows) -> Indicators:
    """Indices and NowCasts, always finite: an average without enough hours is the estimate of now."""
    averages = hourly_averages(windows)
    estimate = current(state)
    filled = _filled(averages, estimate)
    each = sub_indices(filled, attributes.standard)
    highest = each.max(axis=0)
    return {
        "aqi": highest,
        "aqi_category": aqi.category(highest),
        "main_pollutant": _main_pollutant(each, attributes.standard),
        "aqi_pm25": each[0],
        "aqi_now": sub_indices(estimate, attributes.standard).max(axis=0),
        "nowcast_pm25_ugm3": aqi.truncate(np.maximum(filled.pm25_nowcast, 0.0), 1),
        "nowcast_pm10_ugm3": aqi.truncate(np.maximum(filled.pm10_nowcast, 0.0), 0),
        "pm25_24h_ugm3": filled.pm25_24h,
        "pm_order_excess_ugm3": pm_order_excess_ugm3(attributes, windows) + np.zeros_like(state.pm25_ugm3),
        "averaged_pollutants": _averaged_pollutants(averages, attributes.standard) + np.zeros_like(state.pm25_ugm3),
    }


def needs(state: AirState, attributes: AirAttributes, shown: Indicators) -> Mapping[str, Need]:
    """One mobile laboratory for a station above ``MOBILE_LAB_FROM_AQI``, more urgent the worse the air."""
    wanted = shown["aqi"] > MOBILE_LAB_FROM_AQI
    return {
        "mobile_lab": Need(
            amount=wanted.astype(np.float64),
            urgency=np.where(wanted, shown["aqi"] / 100.0, 0.0),
            duration_s=np.full(wanted.shape, MOBILE_LAB_VISIT_S),
        )
    }


AIR_STATION = Kind(
    name="air_station",
    doc="An air quality station: six pollutants, wind and temperature, and the index of its standard.",
    attributes=AirAttributes,
    reading=AirReading,
    state=AirState,
    couplings=AirCouplings,
    windows=AirWindows,
    predict=predict,
    indicators=indicators,
    shows=(
        Indicator(name="aqi", unit="1", doc="Air quality index by the station's standard, from whole hours."),
        Indicator(name="aqi_category", unit="1", doc="Class of the index.", labels=aqi.CATEGORIES),
        Indicator(
            name="main_pollutant",
            unit="1",
            doc="The pollutant with the highest sub-index; none up to 50 in HJ 633.",
            labels=aqi.MAIN_POLLUTANT,
        ),
        Indicator(name="aqi_pm25", unit="1", doc="Sub-index of PM2.5 by the station's standard."),
        Indicator(name="aqi_now", unit="1", doc="The index if the air stayed as it is estimated now."),
        Indicator(name="nowcast_pm25_ugm3", unit="ug/m3", doc="EPA NowCast of PM2.5, else the estimate of now."),
        Indicator(name="nowcast_pm10_ugm3", unit="ug/m3", doc="EPA NowCast of PM10, else the estimate of now."),
        Indicator(name="pm25_24h_ugm3", unit="ug/m3", doc="24-hour mean of PM2.5, else the estimate of now."),
        Indicator(
            name="pm_order_excess_ugm3",
            unit="ug/m3",
            doc="PM2.5 above 1.2 PM10 and pm_margin_ugm3 in the last whole hour; -1: not known.",
        ),
        Indicator(
            name="averaged_pollutants",
            unit="1",
            doc="How many of the six sub-indices rest on the whole hours that the standard asks for.",
        ),
    ),
    alerts=(
        Alert(
            name="pm25_above_pm10",
            of="pm_order_excess_ugm3",
            above=0.0,
            for_s=7200.0,
            says="PM2.5 above PM10 by more than the margin for hours: one of the analysers is wrong.",
        ),
        Alert(
            name="unhealthy_air",
            of="aqi",
            above=150.0,
            clear=140.0,
            says="Unhealthy air: everyone should spend less time on heavy exertion outdoors.",
        ),
        Alert(
            name="hazardous",
            of="aqi",
            above=300.0,
            clear=280.0,
            severity="critical",
            says="Hazardous air: everyone should avoid exertion outdoors.",
        ),
    ),
    needs=needs,
    max_step_s=3600.0,  # the step is exact; an hour keeps the core's growth of uncertainty fine enough
    stale_after_s=3900.0,  # many stations report once an hour; five minutes of grace
    devices=DEVICES,
    headline=("aqi", "aqi_category", "main_pollutant", "pm25_ugm3"),
)
