"""Stations as twins and as simulated devices: readings become hours, hours an index, an index an alert and advice."""

from __future__ import annotations

import numpy as np
import pytest

from domains.air import DOMAIN
from domains.air.devices import COMMON_SHARE, DEVICES, TRAFFIC_EMISSION, AirDrivers, local_hour, traffic_of
from domains.air.records import AirAttributes, AirCouplings, AirReading, AirState
from domains.air.station import AIR_STATION, predict
from twin_actors.core.columns import Command
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Step
from twin_actors.core.table import Shown, TwinTable
from twin_actors.core.view import KindView, Proposal, View

FULL_HOUR_S = 1_780_002_000.0
COMMAND = Command.defaults(1)


def table_of(n: int, standard: float = 0.0) -> TwinTable:
    attributes = AirAttributes.defaults(n).replace(standard=np.full(n, standard)).block((n,))
    return TwinTable(AIR_STATION, [f"air_station/{i}" for i in range(n)], attributes)


def say(table: TwinTable, twin: int, at_s: float, **values: float) -> None:
    column = np.full((AirReading.layout.rows, 1), np.nan)
    for name, value in values.items():
        column[AirReading.layout.places[name]] = value
    table.apply(Batch(rows=np.array([twin]), observed_at_s=np.array([at_s]), values=column))


def hours_of(table: TwinTable, twin: int, oldest_first: list[float]) -> float:
    """Feed hourly PM2.5 and return the first moment of the hour after them."""
    for hour, value in enumerate(oldest_first):
        say(table, twin, FULL_HOUR_S + 3600.0 * hour + 1800.0, pm25_ugm3=value)
    return FULL_HOUR_S + 3600.0 * len(oldest_first)


def test_twelve_hours_of_readings_give_the_published_nowcast() -> None:
    table = table_of(2)
    now_s = hours_of(table, 1, [13, 16, 10, 21, 74, 64, 53, 82, 90, 75, 80, 50])
    result = table.show(now_s)
    assert result.indicators["nowcast_pm25_ugm3"][1] == 64.2  # 64.257143, truncated
    assert result.indicators["averaged_pollutants"].tolist() == [0, 1]


def test_unhealthy_air_is_raised_above_150_and_cleared_below_140() -> None:
    table = table_of(1)

    def alerts(pm25: float, at_s: float) -> tuple[bool, bool]:
        for second in range(5):
            say(table, 0, at_s + second, pm25_ugm3=pm25)
        active = table.show(at_s + 5).alerts
        return bool(active["unhealthy_air"][0]), bool(active["hazardous"][0])

    assert alerts(20.0, FULL_HOUR_S) == (False, False)
    assert alerts(80.0, FULL_HOUR_S + 600) == (True, False)
    assert alerts(54.5, FULL_HOUR_S + 1200) == (True, False)  # 148: below the limit, not below the clearing
    assert alerts(250.0, FULL_HOUR_S + 1800) == (True, True)
    assert alerts(20.0, FULL_HOUR_S + 2400) == (False, False)


def test_a_mobile_laboratory_is_wanted_where_the_air_is_bad() -> None:
    table = table_of(3)
    for twin, pm25 in ((0, 10.0), (1, 100.0), (2, 300.0)):
        for second in range(5):
            say(table, twin, FULL_HOUR_S + second, pm25_ugm3=pm25)
    need = table.show(FULL_HOUR_S + 5).needs["mobile_lab"]
    assert need.amount.tolist() == [0, 1, 1]
    assert need.urgency[0] == 0 < need.urgency[1] < need.urgency[2]


def test_six_equal_hours_are_a_stuck_sensor() -> None:
    limits = AirReading.layout.per_row("stuck_after_s")[:6, 0]
    assert limits.tolist() == [6 * 3600.0] * 6


def driven(n: int, dt_s: float, hour: float, drivers: AirDrivers, state: AirState, **attributes: float) -> AirState:
    constants = AirAttributes.defaults(n).replace(**{k: np.full(n, v) for k, v in attributes.items()})
    step = Step(dt_s=np.full(n, dt_s), at_s=np.full(n, hour * 3600.0))
    couplings = AirCouplings.defaults(n)
    pushed = DEVICES.drive(state, constants, COMMAND, couplings, drivers, step, np.random.default_rng(7))
    return predict(pushed, constants, COMMAND, couplings, step)


@pytest.mark.parametrize("dt_s", [10.0, 60.0, 3600.0])
def test_emissions_of_devices_give_the_exact_box_whatever_the_period(dt_s: float) -> None:
    """With no background there is no weather, and E τ (1 − e^(−dt/τ)) comes out as in the exponential step."""
    backgrounds = {f"background_{name}": 0.0 for name in TRAFFIC_EMISSION}
    empty = AirState.of_block(np.zeros((AirState.layout.rows, 1)))
    drivers = AirDrivers.defaults(1).replace(emission_factor=np.array([3.0]), smoke_pm25_ugm3_h=np.array([40.0]))
    after = driven(1, dt_s, 8.0, drivers, empty, tau_h=2.0, **backgrounds)
    grown = 2.0 * -np.expm1(-dt_s / 7200.0)
    traffic = 3.0 * 1.85
    assert after.pm25_ugm3[0] == pytest.approx((2.0 * traffic + 40.0) * grown, rel=1e-12)
    assert after.no2_ugm3[0] == pytest.approx(8.0 * traffic * grown, rel=1e-12)
    assert after.o3_ugm3[0] == 0.0  # fresh NO leaves none


def test_weather_moves_all_pollutants_together_and_ozone_against_them() -> None:
    n = 5000
    after = driven(n, 60.0, 3.0, AirDrivers.defaults(n), AirState.defaults(n))
    columns = [getattr(after, name) for name in TRAFFIC_EMISSION]
    seen = np.corrcoef(columns)
    expected = np.full((6, 6), COMMON_SHARE**2)
    expected[5, :], expected[:, 5] = -(COMMON_SHARE**2), -(COMMON_SHARE**2)
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(seen, expected, atol=0.05)


def test_two_simulated_days_stay_plausible_and_follow_traffic() -> None:
    """Fifty stations, a minute at a time for two days: near the stationary mean background + E τ, never negative."""
    n = 50
    constants, couplings, drivers = AirAttributes.defaults(n), AirCouplings.defaults(n), AirDrivers.defaults(n)
    state, chance = AirState.defaults(n), np.random.default_rng(1)
    no2: list[float] = []
    for minute in range(2 * 24 * 60):
        step = Step(dt_s=np.full(n, 60.0), at_s=np.full(n, FULL_HOUR_S - FULL_HOUR_S % 86_400.0 + 60.0 * minute))
        state = DEVICES.drive(state, constants, COMMAND, couplings, drivers, step, chance)
        state = predict(state, constants, COMMAND, couplings, step)
        no2.append(float(state.no2_ugm3.mean()))
    second_day = np.array(no2[1440:])
    assert second_day.mean() == pytest.approx(15.0 + 8.0 * 2.0 * traffic_of(np.arange(0, 24, 0.1)).mean(), rel=0.1)
    assert second_day[9 * 60] > second_day[4 * 60]
    assert state.block((n,))[:7].min() >= 0.0
    assert abs(float(state.temp_c.mean()) - 15.0) < 7.0


def test_the_day_of_traffic_is_about_one_on_average_and_local() -> None:
    assert traffic_of(np.arange(24.0)).mean() == pytest.approx(1.0, abs=0.05)
    assert traffic_of(np.array([23.5]))[0] == pytest.approx((0.35 + 0.25) / 2)
    assert local_hour(np.array([FULL_HOUR_S]), np.array([8.0]))[0] == (FULL_HOUR_S / 3600 + 8) % 24


def view_of(table: TwinTable, result: Shown) -> View:
    n = len(table)
    stations = KindView(
        kind=AIR_STATION,
        ids=table.ids,
        attributes=AirAttributes.of_block(table.attributes),
        state=AirState.of_block(result.x),
        sd=AirState.of_block(result.sd),
        command=Command.of_block(result.command),
        desired=Command.of_block(result.desired),
        couplings=AirCouplings.of_block(result.couplings),
        proposed=None,
        indicators=result.indicators,
        alerts=result.alerts,
        needs=result.needs,
        age_s=result.age_s,
        revision=result.revision,
        tags=({},) * n,
        lat_deg=np.zeros(n),
        lon_deg=np.zeros(n),
    )
    return View(now_s=result.now_s, kinds={"air_station": stations})


def test_advice_names_station_category_and_pollutant_the_worst_first_and_orders_nothing() -> None:
    table = table_of(3)
    for twin, pm25 in ((0, 5.0), (1, 40.0), (2, 260.0)):
        for second in range(8):
            say(table, twin, FULL_HOUR_S + second, pm25_ugm3=pm25)
    policy = DOMAIN.policies["air_advice"]
    given: list[Proposal] = list(policy.propose(view_of(table, table.show(FULL_HOUR_S + 8)), policy.defaults))
    assert [proposal.because for proposal in given] == [("air_station/2",), ("air_station/1",)]
    assert [proposal.key.rsplit("/", 1)[1] for proposal in given] == ["hazardous", "unhealthy for sensitive groups"]
    assert "PM2.5" in given[0].reason
    assert "avoid all exertion outdoors" in given[0].reason
    assert all(proposal.effects == () for proposal in given)
    assert list(policy.propose(View(now_s=0.0, kinds={}), policy.defaults)) == []
