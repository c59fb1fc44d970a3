"""IEC 60076-7 through the kind's own ``predict``: its worked example, ageing, exactness and steady states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.power import thermal
from domains.power.records import (
    SubstationAttributes,
    SubstationCommand,
    SubstationCouplings,
    SubstationState,
)
from domains.power.substation import MAX_STEP_S, predict, temperatures
from twin_actors.core.kind import Step

ONAF_EXAMPLE = {
    "rated_mva": 100.0,
    "power_factor": 1.0,
    "oil_rise_k": 38.3,
    "hotspot_factor": 1.4,
    "gradient_k": 14.5,
    "loss_ratio": 1000.0,
    "oil_exponent": 0.8,
    "winding_exponent": 1.3,
    "oil_tau_min": 150.0,
    "winding_tau_min": 7.0,
    "k11": 0.5,
    "k21": 2.0,
    "k22": 2.0,
    "ambient_default_c": 25.6,
}
ONAN_DISTRIBUTION = {
    "oil_rise_k": 55.0,
    "hotspot_factor": 1.1,
    "gradient_k": 23.0 / 1.1,
    "loss_ratio": 5.0,
    "winding_exponent": 1.6,
    "oil_tau_min": 180.0,
    "winding_tau_min": 4.0,
    "k11": 1.0,
    "k21": 1.0,
    "k22": 2.0,
}


def transformer(n: int = 1, **changed: float) -> SubstationAttributes:
    attributes = SubstationAttributes.defaults(n)
    return attributes.replace(**{name: np.full(n, value) for name, value in changed.items()})


def moved(state: SubstationState, attributes: SubstationAttributes, dt_s: float) -> SubstationState:
    n = state.demand_mw.shape[-1]
    step = Step(dt_s=np.full(n, dt_s), at_s=np.full(n, 1.78e9))
    commands, couplings = SubstationCommand.defaults(n), SubstationCouplings.defaults(n)
    result = predict(state, attributes, commands, couplings, step)
    return SubstationState.of_block(result.block((n,)))


def start(**values: float) -> SubstationState:
    state = SubstationState.defaults(1)
    return state.replace(**{name: np.array([value]) for name, value in values.items()})


@pytest.mark.parametrize("step_min", [1.0, 5.0, None])
def test_worked_example_of_the_standard(step_min: float | None) -> None:
    """IEC 60076-7 step-load example (ONAF), as carried in alliander-opensource/transformer-thermal-model."""
    published = [
        (190, 1.0, 61.9, 83.8),
        (365, 0.6, 44.4, 54.0),
        (500, 1.5, 89.2, 127.0),
        (705, 0.3, 35.0, 37.5),
        (730, 2.1, 67.9, 138.6),
        (745, 0.0, 60.3, 75.3),
    ]
    attributes = transformer(**ONAF_EXAMPLE)
    state = start(oil_temp_c=38.3, ambient_temp_c=25.6, h1_k=0.0, h2_k=0.0)
    since = 0
    for until, factor, oil_c, hot_spot_c in published:
        state = state.replace(demand_mw=np.array([100.0 * factor]))
        parts = 1 if step_min is None else round((until - since) / step_min)
        for _ in range(parts):
            state = moved(state, attributes, (until - since) * 60.0 / parts)
        tolerance_k = 1.1 if until == 500 else 0.1
        assert state.oil_temp_c[0] == pytest.approx(oil_c, abs=tolerance_k)
        assert temperatures(state).hot_spot_c[0] == pytest.approx(hot_spot_c, abs=tolerance_k)
        since = until


def test_ageing_rates_of_the_standard() -> None:
    plain, upgraded = np.zeros(1), np.ones(1)
    assert thermal.ageing_rate(np.array([98.0]), plain)[0] == 1.0
    assert thermal.ageing_rate(np.array([100.0]), plain)[0] == pytest.approx(1.259921, abs=1e-6)
    assert thermal.ageing_rate(np.array([110.0]), upgraded)[0] == pytest.approx(1.0, abs=1e-12)
    assert thermal.ageing_rate(np.array([100.0]), upgraded)[0] == pytest.approx(0.349942, abs=1e-6)
    both = thermal.ageing_rate(np.array([100.0, 100.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(both, [1.259921, 0.349942], atol=1e-6)


def test_ageing_of_a_wild_temperature_is_finite() -> None:
    hot_spots = np.array([-1e6, 1e6])
    assert np.isfinite(thermal.ageing_rate(hot_spots, np.zeros(2))).all()
    assert np.isfinite(thermal.ageing_rate(hot_spots, np.ones(2))).all()


@pytest.mark.parametrize("constants", [{}, ONAN_DISTRIBUTION])
@pytest.mark.parametrize(("before", "after"), [(0.0, 2.0), (2.0, 0.0), (0.5, 1.2)])
def test_ageing_is_integrated_well_in_the_longest_step(
    constants: dict[str, float], before: float, after: float
) -> None:
    """One MAX_STEP_S of Gauss-Legendre against a thousand, right after the load has leapt."""
    attributes = transformer(**constants)
    rated = float(attributes.rated_mva[0] * attributes.power_factor[0])
    settled = moved(start(demand_mw=before * rated), attributes, 1e6)
    leapt = settled.replace(demand_mw=np.array([after * rated]), ageing_h=np.zeros(1))
    once, fine = leapt, leapt
    for _ in range(10):
        once = moved(once, attributes, MAX_STEP_S)
    for _ in range(10_000):
        fine = moved(fine, attributes, MAX_STEP_S / 1000)
    assert once.ageing_h[0] == pytest.approx(fine.ageing_h[0], rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    factor=st.floats(0.0, 2.0),
    ambient_c=st.floats(-30.0, 45.0),
    usual_c=st.floats(-30.0, 45.0),
    oil_c=st.floats(-20.0, 120.0),
    h1_k=st.floats(0.0, 80.0),
    h2_k=st.floats(0.0, 40.0),
    parts_s=st.lists(st.floats(0.0, 20_000.0), min_size=2, max_size=8),
    onan=st.booleans(),
)
def test_any_split_of_time_gives_the_same_temperatures(
    factor: float,
    ambient_c: float,
    usual_c: float,
    oil_c: float,
    h1_k: float,
    h2_k: float,
    parts_s: list[float],
    onan: bool,
) -> None:
    attributes = transformer(ambient_default_c=usual_c, **(ONAN_DISTRIBUTION if onan else {}))
    begin = start(demand_mw=38.0 * factor, ambient_temp_c=ambient_c, oil_temp_c=oil_c, h1_k=h1_k, h2_k=h2_k)
    pieces = begin
    for part_s in parts_s:
        pieces = moved(pieces, attributes, part_s)
    once = moved(begin, attributes, sum(parts_s))
    for name in ("demand_mw", "voltage_pu", "ambient_temp_c", "oil_temp_c", "h1_k", "h2_k"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(once, name), rtol=1e-9, atol=1e-9, err_msg=name)


def test_oil_follows_a_changing_ambient_as_a_fine_numerical_solution_does() -> None:
    """The term for an ambient that fades, against a thousandfold midpoint rule on dθo/dt = (θa + ΔU − θo)/τ."""
    attributes = transformer(ambient_default_c=10.0)
    state = start(demand_mw=19.0, ambient_temp_c=30.0, oil_temp_c=50.0)
    rise_k = float(thermal.oil_rise(np.array([0.5]), attributes)[0])
    tau_s, parts, span_s = 0.5 * 150 * 60.0, 20_000, 4 * 3600.0
    oil_c, dt_s = 50.0, span_s / parts
    for part in range(parts):
        ambient_c = 10.0 + 20.0 * np.exp(-(part + 0.5) * dt_s / thermal.AMBIENT_MEMORY_S)
        half_c = oil_c + (ambient_c + rise_k - oil_c) * dt_s / 2 / tau_s
        oil_c += (ambient_c + rise_k - half_c) * dt_s / tau_s
    assert moved(state, attributes, span_s).oil_temp_c[0] == pytest.approx(oil_c, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    limit_c=st.floats(60.0, 160.0),
    ambient_c=st.floats(-40.0, 59.0),
    ratio=st.floats(0.1, 1000.0),
    x=st.floats(0.5, 1.2),
    y=st.floats(1.0, 2.5),
)
def test_permissible_load_leads_to_the_limit_and_not_beyond(
    limit_c: float, ambient_c: float, ratio: float, x: float, y: float
) -> None:
    attributes = transformer(loss_ratio=ratio, oil_exponent=x, winding_exponent=y)
    ambient, limit = np.array([ambient_c]), np.array([limit_c])
    factor = thermal.permissible_load_factor(limit, ambient, attributes)
    idle_c = thermal.steady_hot_spot(np.zeros(1), ambient, attributes)
    if factor[0] == 0.0:
        assert idle_c[0] >= limit_c
    else:
        reached = thermal.steady_hot_spot(factor, ambient, attributes)
        assert reached[0] == pytest.approx(limit_c, abs=1e-6)


def test_default_state_is_steady() -> None:
    state = SubstationState.defaults(1)
    later = moved(state, transformer(), 1e6)
    for name in ("oil_temp_c", "h1_k", "h2_k"):
        assert getattr(later, name)[0] == pytest.approx(getattr(state, name)[0], abs=0.1)


@pytest.mark.parametrize("moved", [(), (1, 3), (1, 2, 3, 4)])
def test_samples_of_one_load_are_as_each_alone(moved: tuple[int, ...]) -> None:
    attributes = SubstationAttributes.of_block(np.repeat(SubstationAttributes.layout.per_row("default"), 4, axis=1))
    load = np.repeat(np.array([[0.0, 0.4, 1.0, np.nan]]), 5, axis=0)
    load[list(moved)] *= np.linspace(0.5, 1.5, len(moved))[:, None]
    warm = np.full((5, 4), 40.0)
    course = thermal.Course.of(thermal.Temperatures(warm, warm, warm, warm), load, attributes)
    for sample in range(len(load)):
        alone = thermal.Course.of(
            thermal.Temperatures(warm[sample], warm[sample], warm[sample], warm[sample]), load[sample], attributes
        )
        np.testing.assert_array_equal(course.settled_oil_c[sample], alone.settled_oil_c)
        np.testing.assert_array_equal(course.settled_h1_k[sample], alone.settled_h1_k)
