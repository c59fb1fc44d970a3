"""IEEE C57.91 beside IEC 60076-7, and how long a load can last, against tables, an ODE solver and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from domains.power import thermal
from domains.power.advice import load_factor_for
from domains.power.endurance import ENDLESS_H, time_to_limit_h
from domains.power.records import SubstationAttributes, SubstationCommand, SubstationCouplings, SubstationState
from domains.power.substation import MAX_STEP_S, predict, temperatures
from twin_actors.core.columns import Column
from twin_actors.core.kind import Step

IEEE = {"thermal_standard": 1.0, "oil_rise_k": 55.0, "loss_ratio": 4.0, "oil_exponent": 0.8, "winding_exponent": 1.6}


def transformer(n: int = 1, **changed: float) -> SubstationAttributes:
    return SubstationAttributes.defaults(n).replace(**{name: np.full(n, value) for name, value in changed.items()})


def start(oil_c: float, h1_k: float, h2_k: float, ambient_c: float = 20.0, n: int = 1) -> thermal.Temperatures:
    return thermal.Temperatures(
        ambient_c=np.full(n, ambient_c), oil_c=np.full(n, oil_c), h1_k=np.full(n, h1_k), h2_k=np.full(n, h2_k)
    )


def run(attributes: SubstationAttributes, state: SubstationState, seconds: float, step_s: float) -> SubstationState:
    for _ in range(round(seconds / step_s)):
        state = predict(
            state,
            attributes,
            SubstationCommand.defaults(1),
            SubstationCouplings.defaults(1),
            Step(dt_s=np.array([step_s]), at_s=np.array([1.78e9])),
        )
    return state


# IEEE C57.91, ageing acceleration factor of thermally upgraded paper (65 °C rise), as its table prints them.
@pytest.mark.parametrize(
    ("hot_spot_c", "printed"),
    [(80, 0.036), (90, 0.116), (100, 0.350), (110, 1.00), (120, 2.71), (130, 6.98), (140, 17.2), (150, 40.6)],
)
def test_ageing_acceleration_of_the_ieee_table(hot_spot_c: float, printed: float) -> None:
    for standard in (thermal.IEC_60076_7, thermal.IEEE_C57_91):
        rate = float(thermal.ageing_rate(np.array(float(hot_spot_c)), np.array(1.0), standard))
        assert rate == pytest.approx(printed, rel=0.006)


def test_paper_of_55_degrees_rise_ages_normally_at_95() -> None:
    assert float(thermal.ageing_rate(np.array(95.0), np.array(0.0), thermal.IEEE_C57_91)) == pytest.approx(1.0)
    both = thermal.ageing_rate(np.array([98.0, 95.0]), np.zeros(2), np.array([0.0, 1.0]))
    np.testing.assert_allclose(both, [1.0, 1.0])


@pytest.mark.parametrize(("load_mw", "oil_c"), [(57.0, 30.0), (19.0, 85.0), (38.0, 75.1)])
def test_ieee_oil_solves_its_own_nonlinear_equation(load_mw: float, oil_c: float) -> None:
    """τR·du/dt = U^(1/n) − u^(1/n), by an ODE solver; the rated constant alone would be kelvins off."""
    attributes = transformer(**IEEE)
    factor = load_mw / 38.0
    settled = float(thermal.oil_rise(np.array(factor), transformer(**IEEE))[0]) / 55.0

    def slope(_: float, rise: Column) -> Column:
        return (settled ** (1 / 0.8) - np.maximum(rise, 0.0) ** (1 / 0.8)) / (150.0 * 60.0)

    exact = solve_ivp(slope, (0.0, 3 * 3600.0), [(oil_c - 20.0) / 55.0], rtol=1e-10, atol=1e-12).y[0, -1]
    state = SubstationState.defaults(1).replace(demand_mw=np.array([load_mw]), oil_temp_c=np.array([oil_c]))
    moved = run(attributes, state, 3 * 3600.0, MAX_STEP_S)
    assert float(moved.oil_temp_c[0]) == pytest.approx(20.0 + 55.0 * exact, abs=0.1)


def test_ieee_has_one_gradient_and_settles_where_iec_does() -> None:
    """Both standards share the steady state: top oil rise with n = x, gradient with 2m = y."""
    state = SubstationState.defaults(1).replace(demand_mw=np.array([45.6]))
    settled = [
        run(transformer(**{**IEEE, "thermal_standard": kind}), state, 48 * 3600.0, MAX_STEP_S) for kind in (0, 1)
    ]
    hot = [float(temperatures(one).hot_spot_c[0]) for one in settled]
    assert hot[0] == pytest.approx(hot[1], abs=0.05)
    assert float(settled[1].h2_k[0]) == pytest.approx(0.0, abs=1e-9)


def test_the_two_standards_side_by_side_do_not_mix() -> None:
    mixed = SubstationAttributes.defaults(2).replace(thermal_standard=np.array([0.0, 1.0]))
    state = SubstationState.defaults(2).replace(demand_mw=np.full(2, 50.0))
    step = Step(dt_s=np.full(2, 180.0), at_s=np.full(2, 1.78e9))
    both = predict(state, mixed, SubstationCommand.defaults(2), SubstationCouplings.defaults(2), step)
    for place, standard in enumerate((0.0, 1.0)):
        alone = run(
            transformer(thermal_standard=standard),
            SubstationState.defaults(1).replace(demand_mw=np.full(1, 50.0)),
            180.0,
            180.0,
        )
        assert both.oil_temp_c[place] == pytest.approx(float(alone.oil_temp_c[0]), rel=1e-12)
        assert both.h1_k[place] == pytest.approx(float(alone.h1_k[0]), rel=1e-12)


def test_time_to_the_oil_limit_is_that_of_the_single_exponential() -> None:
    """Only the oil can reach its limit: t = τ ln((θu − θ0)/(θu − limit)), k11·τo = 75 min."""
    attributes = transformer(hot_spot_limit_c=200.0, oil_limit_c=90.0)
    course = thermal.Course.of(start(60.0, 30.0, 15.0), np.array([1.4]), attributes)
    settled = 20.0 + float(thermal.oil_rise(np.array([1.4]), attributes)[0])
    wanted = 75.0 / 60.0 * np.log((settled - 60.0) / (settled - 90.0))
    lasts = time_to_limit_h(course, attributes.hot_spot_limit_c, attributes.oil_limit_c)
    assert lasts[0] == pytest.approx(wanted, rel=1e-3)


def test_a_bearable_load_lasts_for_ever_and_a_hot_transformer_has_no_time() -> None:
    attributes = transformer(2)
    course = thermal.Course.of(
        thermal.Temperatures(
            ambient_c=np.full(2, 20.0), oil_c=np.array([50.0, 106.0]), h1_k=np.full(2, 25.0), h2_k=np.full(2, 12.0)
        ),
        np.array([0.8, 0.8]),
        attributes,
    )
    np.testing.assert_array_equal(
        time_to_limit_h(course, attributes.hot_spot_limit_c, attributes.oil_limit_c), [ENDLESS_H, 0.0]
    )


@settings(max_examples=60, deadline=None)
@given(
    factor=st.floats(0.0, 2.2),
    oil_c=st.floats(20.0, 100.0),
    h1_k=st.floats(0.0, 60.0),
    h2_share=st.floats(0.0, 0.5),
    ambient_c=st.floats(-10.0, 40.0),
    samples=st.integers(1, 3),
)
def test_the_limit_is_first_reached_at_that_time(
    factor: float, oil_c: float, h1_k: float, h2_share: float, ambient_c: float, samples: int
) -> None:
    """A fine scan of the same course reaches a limit where the answer says, and not earlier; samples lift."""
    attributes = transformer()
    at = start(oil_c, h1_k, h2_share * h1_k, ambient_c)
    lifted = thermal.Temperatures(
        *(np.full((samples, 1), float(v[0])) for v in (at.ambient_c, at.oil_c, at.h1_k, at.h2_k))
    )
    lasts = time_to_limit_h(
        thermal.Course.of(lifted, np.full((samples, 1), factor), attributes),
        attributes.hot_spot_limit_c,
        attributes.oil_limit_c,
    )
    assert lasts.shape == (samples, 1)
    times_s = np.linspace(0.0, ENDLESS_H * 3600.0, 20_000)
    there = thermal.Course.of(at, np.array([factor]), attributes).after(times_s)
    beyond = (there.hot_spot_c >= 120.0) | (there.oil_c >= 105.0)
    if beyond.any():
        first_h = times_s[int(beyond.argmax())] / 3600.0
        assert float(lasts[0, 0]) == pytest.approx(first_h, abs=0.005)
    else:
        assert float(lasts[0, 0]) > 71.0


@settings(max_examples=30, deadline=None)
@given(hours=st.floats(0.25, 8.0), oil_c=st.floats(30.0, 95.0))
def test_the_load_for_some_hours_lasts_just_so_long(hours: float, oil_c: float) -> None:
    attributes = transformer()
    state = SubstationState.defaults(1).replace(oil_temp_c=np.array([oil_c]))
    factor = load_factor_for(state, attributes, hours)

    def lasts_h(times: float) -> float:
        course = thermal.Course.of(temperatures(state), factor * times, attributes)
        return float(time_to_limit_h(course, attributes.hot_spot_limit_c, attributes.oil_limit_c)[0])

    assert lasts_h(1.001) <= hours * 1.01
    assert lasts_h(0.999) >= hours * 0.99
