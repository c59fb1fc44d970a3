"""The box model against hand computation and its conservation law; the indicators of whole stations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.air import aqi, station
from domains.air.records import AirAttributes, AirCouplings, AirState, AirWindows
from twin_actors.core.columns import Command
from twin_actors.core.kind import Step

HOUR_S = 3600.0
START_S = 1_780_002_000.0  # a full hour
COMMAND = Command.defaults(1)


def moved(state: AirState, hours: float, couplings: AirCouplings | None = None, **attributes: float) -> AirState:
    constants = AirAttributes.defaults(1).replace(**{name: np.array([v]) for name, v in attributes.items()})
    step = Step(dt_s=np.array([hours * HOUR_S]), at_s=np.array([START_S]))
    return station.predict(state, constants, COMMAND, couplings or AirCouplings.defaults(1), step)


def state_of(**columns: float) -> AirState:
    return AirState.defaults(1).replace(**{name: np.array([value]) for name, value in columns.items()})


def emitting(pm25: float = 0.0, no2: float = 0.0) -> AirCouplings:
    return AirCouplings(traffic_pm25_ugm3_h=np.array([pm25]), traffic_no2_ugm3_h=np.array([no2]))


def test_hand_computed_decay_to_the_background() -> None:
    """50 µg/m³ over a background of 10, τ 2 h: after one τ 10 + 40/e = 24.7152."""
    after = moved(state_of(pm25_ugm3=50.0), 2.0, tau_h=2.0, background_pm25_ugm3=10.0)
    assert after.pm25_ugm3[0] == pytest.approx(24.715178, abs=1e-6)


def test_hand_computed_rise_under_traffic() -> None:
    """10 µg/m³/h into a box at its background of 10, τ 2 h: 10 + 20 (1 − e^−½) = 17.8694; in the end 30."""
    clean = state_of(pm25_ugm3=10.0, pm10_ugm3=30.0)
    constants = {"tau_h": 2.0, "background_pm25_ugm3": 10.0, "background_pm10_ugm3": 30.0}
    after = moved(clean, 1.0, emitting(pm25=10.0), **constants)
    assert after.pm25_ugm3[0] == pytest.approx(17.869387, abs=1e-6)
    assert after.pm10_ugm3[0] == pytest.approx(37.869387, abs=1e-6)  # PM2.5 is part of PM10
    assert moved(clean, 500.0, emitting(pm25=10.0), **constants).pm25_ugm3[0] == pytest.approx(30.0)


def test_hand_computed_jam_of_an_hour() -> None:
    """NO2 20 at its background, τ 1 h, 30 µg/m³/h for an hour: 38.9636; an hour later 20 + 18.9636/e = 26.9763."""
    constants = {"tau_h": 1.0, "background_no2_ugm3": 20.0}
    jam = moved(state_of(no2_ugm3=20.0), 1.0, emitting(no2=30.0), **constants)
    assert jam.no2_ugm3[0] == pytest.approx(38.963617, abs=1e-6)
    assert moved(jam, 1.0, **constants).no2_ugm3[0] == pytest.approx(26.976325, abs=1e-6)


def test_only_their_own_pollutants_feel_traffic_and_weather_stays() -> None:
    before = state_of(wind_ms=3.0, temp_c=-4.0)
    with_traffic, without = moved(before, 1.0, emitting(20.0, 20.0)), moved(before, 1.0)
    for name in ("so2_ugm3", "co_mgm3", "o3_ugm3"):
        assert getattr(with_traffic, name) == getattr(without, name)
    assert (with_traffic.wind_ms[0], with_traffic.temp_c[0]) == (3.0, -4.0)


POLLUTANT_FIELDS = [name for name in AirState.layout.fields if name not in ("wind_ms", "temp_c")]
boxes = st.fixed_dictionaries(
    {"tau_h": st.floats(0.1, 240.0), "background_pm25_ugm3": st.floats(0.0, 500.0)},
)


@given(
    hours=st.lists(st.floats(0.0, 30.0), min_size=1, max_size=12),
    start=st.floats(0.0, 2000.0),
    emission=st.floats(0.0, 500.0),
    box=boxes,
)
def test_any_cut_of_a_stretch_of_time_gives_the_same_air(
    hours: list[float], start: float, emission: float, box: dict[str, float]
) -> None:
    couplings = emitting(pm25=emission, no2=emission)
    before = state_of(pm25_ugm3=start, no2_ugm3=start)
    once = moved(before, sum(hours), couplings, **box)
    parts = before
    for piece in hours:
        parts = moved(parts, piece, couplings, **box)
    for name in POLLUTANT_FIELDS:
        np.testing.assert_allclose(getattr(parts, name), getattr(once, name), rtol=1e-9, atol=1e-12)


@given(hours=st.floats(0.01, 6.0), start=st.floats(0.0, 2000.0), emission=st.floats(0.0, 500.0), box=boxes)
def test_mass_is_balanced(hours: float, start: float, emission: float, box: dict[str, float]) -> None:
    """What is in the box more than before was emitted and not carried off: Δc = e Δt − ∫(c − background)/τ dt."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    before, couplings = state_of(pm25_ugm3=start), emitting(pm25=emission)
    along = [moved(before, hours * (node + 1) / 2, couplings, **box).pm25_ugm3[0] for node in nodes]
    carried_off = hours / 2 * np.dot(weights, np.array(along) - box["background_pm25_ugm3"]) / box["tau_h"]
    gained = moved(before, hours, couplings, **box).pm25_ugm3[0] - start
    scale = start + box["background_pm25_ugm3"] + emission * hours + abs(carried_off) + 1.0
    assert abs(gained - (emission * hours - carried_off)) < 1e-8 * scale


def windows_of(n: int, **hours: Any) -> AirWindows:
    empty = AirWindows.of_block(np.full((AirWindows.layout.rows, n), np.nan))
    return empty.replace(**{name: np.asarray(column, dtype=np.float64) for name, column in hours.items()})


def shown(state: AirState, windows: AirWindows, standard: Any = 0.0) -> dict[str, np.ndarray]:
    n = state.pm25_ugm3.shape[-1]
    attributes = AirAttributes.defaults(n).replace(standard=np.broadcast_to(np.asarray(standard, float), (n,)))
    return dict(station.indicators(state, attributes, COMMAND, windows))


def test_without_hours_everything_rests_on_the_estimate_and_is_finite() -> None:
    result = shown(state_of(pm25_ugm3=35.97), windows_of(1))
    assert all(np.isfinite(column).all() for column in result.values())
    assert result["aqi_pm25"][0] == result["aqi"][0] == result["aqi_now"][0] == 102
    assert result["nowcast_pm25_ugm3"][0] == 35.9
    assert result["averaged_pollutants"][0] == 0


def test_whole_hours_replace_the_estimate_and_the_hour_under_way_does_not_count() -> None:
    oldest_first = [13, 16, 10, 21, 74, 64, 53, 82, 90, 75, 80, 50]
    hours = np.full((25, 1), np.nan)
    hours[1:13, 0] = oldest_first[::-1]
    hours[0] = 999.0
    result = shown(state_of(pm25_ugm3=5.0), windows_of(1, pm25_hourly_ugm3=hours))
    assert result["nowcast_pm25_ugm3"][0] == 64.2
    assert result["aqi_pm25"][0] == round(151 + 49 * (64.2 - 55.5) / 69.9)
    assert result["averaged_pollutants"][0] == 1
    assert result["aqi_now"][0] < result["aqi"][0]


def test_each_station_follows_its_own_standard() -> None:
    state = AirState.defaults(3).replace(pm25_ugm3=np.full(3, 50.0), o3_ugm3=np.zeros(3))
    result = shown(state, windows_of(3), standard=[0, 1, 2])
    assert result["aqi_pm25"].tolist() == [137, 69, 80]  # EPA 101 + 49·14.5/19.9
    assert result["aqi_category"].tolist() == [2, 1, 1]
    one_by_one = [shown(state_of(pm25_ugm3=50.0, o3_ugm3=0.0), windows_of(1), k)["aqi"][0] for k in range(3)]
    assert result["aqi"].tolist() == one_by_one


def test_hj_day_means_need_twenty_hours() -> None:
    hours = np.full((25, 2), 100.0)
    hours[21:, 0] = np.nan  # 20 hours
    hours[20:, 1] = np.nan  # 19 hours
    state = AirState.defaults(2).replace(pm25_ugm3=np.full(2, 10.0))
    result = shown(state, windows_of(2, pm25_hourly_ugm3=hours), standard=1)
    assert result["aqi_pm25"].tolist() == [132, 15]  # ⌈100 + 50·25/40⌉ and ⌈50·10/35⌉
    assert result["averaged_pollutants"].tolist() == [1, 0]


def test_the_main_pollutant_is_named_and_in_clean_air_only_by_epa() -> None:
    clean = {"pm25_ugm3": 3.0, "pm10_ugm3": 5.0, "so2_ugm3": 2.0, "no2_ugm3": 5.0, "co_mgm3": 0.1, "o3_ugm3": 40.0}
    for values, standard, name in (
        ({**clean, "no2_ugm3": 900.0}, 0, "NO2"),
        ({**clean, "no2_ugm3": 900.0}, 2, "NO2"),
        ({**clean, "pm10_ugm3": 200.0}, 1, "PM10"),
        (clean, 0, "O3"),
        (clean, 1, "none"),
    ):
        place = shown(state_of(**values), windows_of(1), standard)["main_pollutant"][0]
        assert aqi.MAIN_POLLUTANT[int(place)] == name


def test_samples_of_a_fork_keep_their_own_estimates() -> None:
    state = AirState.of_block(np.repeat(AirState.defaults(2).block((2,))[:, None, :], 3, axis=1)).replace(
        pm25_ugm3=np.array([[5.0, 5.0], [60.0, 5.0], [5.0, 200.0]])
    )
    attributes = AirAttributes.of_block(AirAttributes.defaults(2).block((2,))[:, None, :])
    hours = AirWindows.of_block(np.full((AirWindows.layout.rows, 1, 2), np.nan))
    result = station.indicators(state, attributes, COMMAND, hours)
    assert all(column.shape == (3, 2) for column in result.values())
    assert result["aqi_category"].tolist() == [[0, 0], [3, 0], [0, 4]]  # ozone at 60 µg/m³ is 28
