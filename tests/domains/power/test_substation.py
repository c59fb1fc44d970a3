"""The kind ``substation``: trajectories computed by hand, conservation, indicators, alerts, needs, devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.power import loading
from domains.power.devices import DEMAND_BY_HOUR, DEVICES, SubstationDrivers
from domains.power.records import (
    SubstationAttributes,
    SubstationCommand,
    SubstationCouplings,
    SubstationState,
    SubstationWindows,
)
from domains.power.substation import SUBSTATION, indicators, needs, observe, predict
from twin_actors.core.columns import Column
from twin_actors.core.kind import Step

# Numbers that a pocket calculator likes: 100 MW rated, K = load/100, oil rise 60(1 + 5K²)/6, gradient 30K².
PLAIN = {
    "rated_mva": 100.0,
    "power_factor": 1.0,
    "oil_rise_k": 60.0,
    "hotspot_factor": 1.5,
    "gradient_k": 20.0,
    "loss_ratio": 5.0,
    "oil_exponent": 1.0,
    "winding_exponent": 2.0,
    "oil_tau_min": 100.0,
    "winding_tau_min": 10.0,
    "k11": 1.0,
    "k21": 2.0,
    "k22": 1.0,
    "ambient_default_c": 20.0,
}


def plain(n: int = 1, **changed: Any) -> SubstationAttributes:
    attributes = SubstationAttributes.defaults(n)
    columns = {name: np.full(n, value) for name, value in PLAIN.items()}
    columns |= {name: _column(value, n) for name, value in changed.items()}
    return attributes.replace(**columns)


def _column(value: Any, n: int) -> Column:
    number = np.asarray(value, dtype=np.float64)
    return np.repeat(number[:, None], n, axis=1) if number.ndim else np.full(n, float(number))


def cold(n: int = 1, **changed: float) -> SubstationState:
    """Everything at 20 °C, no gradients."""
    columns = {"ambient_temp_c": 20.0, "oil_temp_c": 20.0, "h1_k": 0.0, "h2_k": 0.0} | changed
    return SubstationState.defaults(n).replace(**{name: np.full(n, value) for name, value in columns.items()})


def moved(
    state: SubstationState,
    attributes: SubstationAttributes,
    dt_s: float,
    block_shed: tuple[float, ...] = (0.0,) * 5,
    transfer_mw: float = 0.0,
) -> SubstationState:
    n = state.demand_mw.shape[-1]
    result = predict(
        state,
        attributes,
        SubstationCommand(block_shed=_column(block_shed, n)),
        SubstationCouplings(transfer_mw=np.full(n, transfer_mw)),
        Step(dt_s=np.full(n, dt_s), at_s=np.full(n, 1.78e9)),
    )
    return SubstationState.of_block(result.block((n,)))


def shown(
    state: SubstationState, attributes: SubstationAttributes, block_shed: tuple[float, ...] = (0.0,) * 5
) -> dict[str, Column]:
    n = state.demand_mw.shape[-1]
    command = SubstationCommand(block_shed=_column(block_shed, n))
    return dict(indicators(state, attributes, command, SubstationWindows.defaults(n)))


def test_rated_load_for_one_oil_time_constant() -> None:
    """K = 1 for 100 min: oil 20 + 60(1 − e⁻¹) = 57.9272; h1 = 60(1 − e⁻¹⁰); h2 = 30(1 − e⁻¹)."""
    state = moved(cold(demand_mw=100.0), plain(), 6000.0)
    assert state.oil_temp_c[0] == pytest.approx(57.927234, abs=1e-6)
    assert state.h1_k[0] == pytest.approx(59.997276, abs=1e-6)
    assert state.h2_k[0] == pytest.approx(18.963617, abs=1e-6)
    assert shown(state, plain())["hot_spot_temp_c"][0] == pytest.approx(98.960893, abs=1e-5)


def test_half_load_after_shedding_half() -> None:
    """Demand 100 MW, 50 shed, 10 min: K = 0.5, oil 20 + 60·(2.25/6)(1 − e^−0.1), h1 = 15(1 − e⁻¹)."""
    attributes = plain(block_mw=(20.0, 30.0, 0.0, 0.0, 0.0))
    state = moved(cold(demand_mw=100.0), attributes, 600.0, block_shed=(1.0, 1.0, 0.0, 0.0, 0.0))
    assert state.oil_temp_c[0] == pytest.approx(20 + 22.5 * 0.0951625820, abs=1e-6)
    assert state.h1_k[0] == pytest.approx(15 * 0.6321205588, abs=1e-6)
    assert state.h2_k[0] == pytest.approx(7.5 * 0.0951625820, abs=1e-6)
    assert state.demand_mw[0] == 100.0


def test_cooling_under_load_moved_away_and_ageing_at_98_degrees() -> None:
    """All load moved away: the rise over no-load oil (20 + 10 °C) falls by e^−0.5 in 50 min.

    And 98 °C held for two hours ages two hours: K = 1 with Δθor 48, H·gr 30 and ambient 20 is steady there.
    """
    state = moved(cold(demand_mw=40.0, oil_temp_c=80.0, h1_k=60.0, h2_k=30.0), plain(), 3000.0, transfer_mw=-40.0)
    assert state.oil_temp_c[0] == pytest.approx(30 + 50 * 0.6065306597, abs=1e-6)
    assert state.h1_k[0] == pytest.approx(60 * 0.0067379470, abs=1e-6)
    assert state.h2_k[0] == pytest.approx(30 * 0.6065306597, abs=1e-6)
    assert state.transfer_mw[0] == -40.0

    steady = cold(demand_mw=100.0, oil_temp_c=68.0, h1_k=60.0, h2_k=30.0)
    assert moved(steady, plain(oil_rise_k=48.0), 7200.0).ageing_h[0] == pytest.approx(2.0, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    demand=st.floats(0.0, 500.0),
    transfer=st.floats(-200.0, 200.0),
    block_mw=st.tuples(*[st.floats(0.0, 100.0)] * 5),
    shed=st.tuples(*[st.floats(0.0, 1.0)] * 5),
    dt_s=st.floats(0.0, 7200.0),
)
def test_what_is_asked_for_is_served_or_shed(
    demand: float, transfer: float, block_mw: tuple[float, ...], shed: tuple[float, ...], dt_s: float
) -> None:
    """Energy: demand + transfer = served + shed at every moment, hence over any time that inputs hold."""
    attributes = plain(block_mw=block_mw)
    command = SubstationCommand(block_shed=_column(shed, 1))
    state = moved(cold(demand_mw=demand), attributes, dt_s, shed, transfer)
    seen = shown(state, attributes, shed)
    asked = max(demand + transfer, 0.0)
    assert seen["load_mw"][0] + seen["shed_mw"][0] == pytest.approx(asked, abs=1e-9)
    assert (seen["load_mw"][0] + seen["shed_mw"][0]) * dt_s == pytest.approx(asked * dt_s, abs=1e-6)
    assert seen["load_mw"][0] >= 0.0
    assert 0.0 <= seen["shed_mw"][0] <= sum(block_mw) + 1e-9
    assert 0.0 <= seen["unserved_share"][0] <= 1.0
    assert observe(state, attributes, command)["load_mw"][0] == seen["load_mw"][0]


def test_headroom_is_what_leads_to_the_limit() -> None:
    """Limit 120, ambient 20: 60(1 + 5K²)/6 + 30K² = 100, so K² = 90/80 and 106.066 MW may be carried."""
    seen = shown(cold(demand_mw=70.0), plain())
    assert seen["headroom_mw"][0] == pytest.approx(36.0660172, abs=1e-6)
    assert seen["steady_hot_spot_temp_c"][0] == pytest.approx(20 + 10 + 80 * 0.49, abs=1e-9)


def test_every_alert_watches_what_it_says() -> None:
    limits = {alert.name: alert for alert in SUBSTATION.alerts}
    assert limits["hot_transformer"].emergency
    assert limits["hot_transformer"].severity == "critical"
    attributes = plain(2, hot_spot_limit_c=110.0)
    state = cold(2).replace(oil_temp_c=np.array([80.0, 80.0]), h1_k=np.array([30.5, 29.5]))
    np.testing.assert_allclose(shown(state, attributes)["hot_spot_margin_k"], [-0.5, 0.5])
    np.testing.assert_allclose(shown(state, attributes)["oil_margin_k"], [25.0, 25.0])
    assert set(limits) == {
        "hot_transformer",
        "oil_hot",
        "overload",
        "overload_ends_soon",
        "load_without_reason",
        "undervoltage",
        "overvoltage",
    }


def test_needs_are_unserved_and_overloaded_megawatts_and_a_crew_when_hot() -> None:
    attributes = plain(block_mw=(20.0, 0.0, 0.0, 0.0, 0.0))
    state = cold(demand_mw=130.0, oil_temp_c=100.0, h1_k=26.0)
    wanted = needs(state, attributes, shown(state, attributes, (1.0, 0.0, 0.0, 0.0, 0.0)))
    generator, crew = wanted["mobile_generator"], wanted["crew"]
    assert generator.amount[0] == pytest.approx(30.0)  # 20 MW shed, 10 above the rating
    assert generator.urgency[0] == pytest.approx((20 * 2 + 10 * 1) / 30)
    assert crew.amount[0] == 1.0
    assert crew.urgency[0] == pytest.approx(16.0)  # 10 + 6 K above 120
    calm = needs(cold(demand_mw=50.0), attributes, shown(cold(demand_mw=50.0), attributes))
    assert calm["mobile_generator"].amount[0] == 0.0
    assert calm["crew"].amount[0] == 0.0


def simulate(
    hours: float, *, begin_h: float = 0.0, shed: float = 0.0, n: int = 40, **drivers: float
) -> tuple[SubstationState, SubstationAttributes, SubstationCommand]:
    """Devices alone, a minute a step: the state at the end, with its attributes and command."""
    attributes = SubstationAttributes.defaults(n).replace(block_mw=np.full((5, n), 4.0))
    set_to = SubstationDrivers.defaults(n).replace(**{k: np.full(n, v) for k, v in drivers.items()})
    command = SubstationCommand(block_shed=np.full((5, n), shed))
    state, chance = SubstationState.defaults(n), np.random.default_rng(1)
    couplings = SubstationCouplings.defaults(n)
    for k in range(round(hours * 60)):
        step = Step(dt_s=np.full(n, 60.0), at_s=np.full(n, begin_h * 3600 + 60.0 * (k + 1)))
        state = DEVICES.drive(state, attributes, command, couplings, set_to, step, chance)
        state = predict(state, attributes, command, couplings, step)
    return state, attributes, command


def test_devices_follow_the_day_the_drivers_and_the_breakers() -> None:
    evening, attributes, _ = simulate(3.0, begin_h=16.0, load_factor=0.8, ambient_temp_c=30.0)
    rated = loading.rated_mw(attributes)
    assert (evening.demand_mw / rated).mean() == pytest.approx(0.8 * DEMAND_BY_HOUR[19], abs=0.02)
    assert (evening.demand_mw / rated).std() == pytest.approx(0.02, rel=0.5)
    assert evening.ambient_temp_c.mean() == pytest.approx(30 + 5 * np.cos(2 * np.pi * 4 / 24), abs=1.0)

    shed, attributes, command = simulate(3.0, begin_h=16.0, shed=1.0, load_factor=0.8, ambient_temp_c=30.0)
    assert shed.demand_mw.mean() == pytest.approx(evening.demand_mw.mean(), rel=1e-9)
    served = observe(shed, attributes, command)["load_mw"]
    np.testing.assert_allclose(served, shed.demand_mw - 20.0)
    assert (shed.oil_temp_c < evening.oil_temp_c - 5.0).all()
    assert shed.voltage_pu.mean() > evening.voltage_pu.mean()
