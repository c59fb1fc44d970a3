"""The filters against hand-computed numbers and against a textbook Kalman filter in matrices."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.unit.core.streams import NAN, UNHURRIED, column, tanks, told
from tests.unit.core.toy import JOINT, TANK
from twin_actors.core.columns import (
    Attributes,
    Column,
    Reading,
    State,
    memory,
    reading,
    state,
)
from twin_actors.core.estimation import (
    JointPlan,
    MeasurementPlan,
    cholesky,
    covariances_of,
    estimate_diagonal,
    estimate_joint,
    grow_variance,
    limit_covariances,
    slopes,
    spread_points,
    variance_of,
)
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable

# -- a linear kind: a cart whose place is measured, and a mix of place and speed that observe expects -----------------


class CartReading(Reading):
    place_m: Column = reading("m", sd=0.5)
    again_m: Column = reading("m", sd=0.8, of="place_m")
    mix: Column = reading("1", sd=0.3)
    battery_v: Column = reading("V", sd=0.1)


class CartState(State):
    place_m: Column = state("m", default=0, unsure_sd=1000, drift=2)
    run_s: Column = memory("s")
    speed_ms: Column = state("m/s", default=0, unsure_sd=1000, drift=0.6)


def move(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
    """x' = x + v·dt, v' = v."""
    return state.replace(place_m=state.place_m + state.speed_ms * step.dt_s, run_s=state.run_s + step.dt_s)


def mixed(state: Any, attributes: Any, command: Any) -> dict[str, Column]:
    """A sensor that sees 2x + v."""
    return {"mix": 2 * state.place_m + state.speed_ms}


CART = Kind(
    name="cart",
    doc="A cart on a straight track.",
    attributes=Attributes,
    reading=CartReading,
    state=CartState,
    predict=move,
    observe=mixed,
    indicators=lambda state, attributes, command, windows: {},
    shows=(),
    filter="joint",
    max_step_s=3600,
)
PLACE, RUN, SPEED = 0, 1, 2
SEEN = np.array([[1.0, 0.0], [1.0, 0.0], [2.0, 1.0]])  # H of place, again, mix
NOISE = np.array([0.5, 0.8, 0.3]) ** 2


def cart() -> TwinTable:
    return TwinTable(CART, ["cart/1"], np.zeros((0, 1)))


def tell(table: TwinTable, at_s: float, *values: float) -> None:
    table.apply(Batch(rows=np.zeros(1, np.intp), observed_at_s=column(at_s), values=column(*values)[:, None]))


def begin(table: TwinTable, at_s: float, x: Column, covariance: Column) -> None:
    """Put a cart to a place and speed with a covariance, through a snapshot."""
    arrays = table.snapshot()
    arrays["x"][[PLACE, SPEED], 0] = x
    arrays["variance"][[PLACE, SPEED], 0] = np.diag(covariance)
    arrays["covariance.0"][:, :, 0, 0] = covariance
    arrays["time_s"][:] = at_s
    table.restore(arrays)


def test_the_joint_filter_is_the_kalman_filter_of_a_linear_system() -> None:
    """Twenty random steps with missing values, against x = Fx, P = FPFᵀ + Q, K = PHᵀ(HPHᵀ + R)⁻¹ in matrices.

    The textbook takes its independent readings one by one and P in Joseph's form (I − KH)P(I − KH)ᵀ + KRKᵀ:
    all at once with P = (I − KH)P it loses up to eight digits here, the place being ten thousand times less
    certain before a reading than after it.
    """
    chance = np.random.default_rng(3)
    x, covariance = np.array([1.0, -0.5]), np.array([[4.0, 0.7], [0.7, 2.0]])
    table, now_s, start_s = cart(), 1_780_000_000.0, 1_780_000_000.0
    begin(table, now_s, x, covariance)
    for _ in range(20):
        dt_s = float(chance.integers(1, 90))
        now_s += dt_s
        move_by = np.array([[1.0, dt_s], [0.0, 1.0]])
        x = move_by @ x
        covariance = move_by @ covariance @ move_by.T + np.diag([2.0**2, 0.6**2]) * dt_s / 3600

        said = chance.uniform(size=3) < 0.6
        said[chance.integers(3)] = True
        values = SEEN @ x + 3 * chance.standard_normal(3)
        for row in np.flatnonzero(said):
            seen = SEEN[row : row + 1]
            gain = covariance @ seen.T / (seen @ covariance @ seen.T + NOISE[row])
            x = x + gain @ (values[row : row + 1] - seen @ x)
            keep = np.eye(2) - gain @ seen
            covariance = keep @ covariance @ keep.T + NOISE[row] * gain @ gain.T

        tell(table, now_s, *np.where(said, values, NAN), 12.0)
        np.testing.assert_allclose(table.x[[PLACE, SPEED], 0], x, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(table.covariances[0][:, :, 0, 0], covariance, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(table.variance[[PLACE, SPEED], 0], np.diag(covariance), rtol=1e-9)
    assert table.variance[RUN, 0] == 0.0
    assert table.x[RUN, 0] == now_s - start_s  # memory is exact


def test_the_joint_filter_corrects_a_state_that_nothing_measures() -> None:
    """Places 0, 20, 40, … every 10 s: the speed is 2 m/s, though no reading says so."""
    table = cart()
    for step in range(12):
        tell(table, 10.0 * step, 20.0 * step, NAN, NAN, NAN)
    assert table.x[SPEED, 0] == pytest.approx(2.0, abs=0.05)
    assert np.sqrt(table.variance[SPEED, 0]) < 0.1
    assert table.covariances[0][0, 1, 0, 0] > 0  # a cart further on is a faster cart


def test_the_diagonal_filter_leaves_a_state_that_nothing_measures_alone() -> None:
    table = TwinTable(dataclasses.replace(CART, filter="diagonal"), ["cart/1"], np.zeros((0, 1)))
    for step in range(5):
        tell(table, 10.0 * step, 20.0 * step, NAN, NAN, NAN)
    assert table.x[SPEED, 0] == 0.0
    assert table.variance[SPEED, 0] == 1000.0**2


def test_the_variance_of_the_joint_filter_never_passes_that_of_one_never_measured() -> None:
    table = cart()
    tell(table, 0.0, 1.0, NAN, NAN, NAN)
    grown = []
    for now_s in (0.0, 1.0, 60.0, 3600.0, 30 * 86_400.0):
        x, variance = table.at(now_s)
        assert np.isfinite(x).all()
        assert (variance[[PLACE, SPEED]] <= 1000.0**2 * (1 + 1e-12)).all()
        grown.append(float(variance[PLACE, 0]))
    assert grown[0] == pytest.approx(0.25, rel=1e-3)  # one measurement of sd 0.5
    # After 1 s the unknown speed has made the place as uncertain as it ever gets.
    np.testing.assert_allclose(grown[1:], 1000.0**2, rtol=1e-12)


def test_a_reading_that_nothing_expects_is_reported_only() -> None:
    for kind in (CART, dataclasses.replace(CART, filter="diagonal")):
        table = TwinTable(kind, ["cart/1"], np.zeros((0, 1)))
        before = table.x.copy()
        tell(table, 0.0, NAN, NAN, NAN, 12.0)
        np.testing.assert_array_equal(table.x, before)
        assert table.cleaning.value[3, 0] == 12.0
        assert table.score[3, 0] == 0  # watched all the same


# -- plans -------------------------------------------------------------------------------------------------------


def test_a_plan_finds_the_state_row_of_every_reading_row() -> None:
    plan = MeasurementPlan.of(TANK)
    assert plan.measured.tolist() == [0, 1, 2, 3, 4]  # opened measures openings
    assert len(plan.groups) == 1
    np.testing.assert_allclose(plan.sd2[:, 0], [0.01, *[0.0025] * 3, 0.25])
    np.testing.assert_allclose(plan.drift2_h[:, 0], [0.25, *[0.01] * 3, 100])
    np.testing.assert_allclose(plan.unsure2[:, 0], [1, *[0.04] * 3, 1e4, 0])
    np.testing.assert_allclose(plan.state_drift2_h[:, 0], [0.25, *[0.01] * 3, 100, 0])


def test_no_group_names_a_state_row_twice() -> None:
    plan = MeasurementPlan.of(CART)
    assert plan.measured.tolist() == [PLACE, PLACE, -1, -1]
    assert plan.groups == ((slice(0, 1), slice(PLACE, PLACE + 1)), (slice(1, 2), slice(PLACE, PLACE + 1)))
    assert plan.drift2_h[:, 0].tolist() == [4, 4, 0, 0]


def test_the_joint_plan_puts_fields_of_the_same_axes_together() -> None:
    plan = JointPlan.of(JOINT)
    scalars, pipes = plan.blocks
    assert scalars.rows.tolist() == [[0], [4]]  # level and openings; memory has no variance
    assert pipes.rows.tolist() == [[1, 2, 3]]
    assert (scalars.first, pipes.first, plan.directions) == (0, 2, 3)
    assert [(sensor.rows, sensor.block, sensor.field) for sensor in plan.sensors] == [
        (slice(0, 1), 0, 0),
        (slice(1, 4), 1, 0),
        (slice(4, 5), 0, 1),
    ]


# -- the diagonal filter -----------------------------------------------------------------------------------------


def diagonal(
    x: float, variance: float, value: float, noise: float, usable: bool = True
) -> tuple[float, float, float, float]:
    """Level of a tank after one measurement; the other rows are not measured."""
    plan = MeasurementPlan.of(TANK)
    values = np.full((5, 1), NAN)
    values[0] = value
    use = np.zeros((5, 1), np.bool_)
    use[0] = usable
    estimate = estimate_diagonal(
        plan,
        np.full((6, 1), 1.0 * x),
        np.full((6, 1), 1.0 * variance),
        np.full((5, 1), 1.0 * x),
        values,
        use,
        np.full((5, 1), 1.0 * noise),
    )
    np.testing.assert_array_equal(estimate.x[1:], x)
    np.testing.assert_array_equal(estimate.variance[1:], variance)
    return (
        float(estimate.x[0, 0]),
        float(estimate.variance[0, 0]),
        float(estimate.innovation[0, 0]),
        float(estimate.innovation_variance[0, 0]),
    )


def test_a_measurement_by_hand() -> None:
    # P = 4, R = 1: S = 5, K = 0.8, ν = 7 − 2 = 5, x = 2 + 0.8·5 = 6, P = 0.2·4 = 0.8
    assert diagonal(2, 4, 7, 1) == pytest.approx((6, 0.8, 5, 5))


def test_what_cannot_be_used_changes_nothing() -> None:
    x, variance, innovation, spread = diagonal(2, 4, 7, 1, usable=False)
    assert (x, variance) == (2, 4)
    assert np.isnan([innovation, spread]).all()


def test_a_certain_state_without_noise_stays() -> None:
    assert diagonal(2, 0, 7, 0)[:2] == (2, 0)


@UNHURRIED
@given(st.floats(-100, 100), st.floats(1e-3, 1e3), st.floats(-100, 100), st.floats(1e-3, 1e3))
def test_the_update_weighs_by_precision(x: float, p: float, z: float, r: float) -> None:
    """1/P⁺ = 1/P + 1/R and x⁺/P⁺ = x/P + z/R: the scalar Kalman update in information form."""
    got, variance, *_ = diagonal(x, p, z, r)
    assert variance == pytest.approx(1 / (1 / p + 1 / r), rel=1e-9)
    assert got == pytest.approx((x / p + z / r) * variance, rel=1e-9, abs=1e-9)


def test_variance_grows_with_silence_up_to_that_of_one_never_measured() -> None:
    # drift 0.5 unit/√h: after 4 h 0.25·4 = 1 more; a cap of 3 holds from 8 h on
    elapsed_s = column(0, 4 * 3600, 8 * 3600, 1e9)
    grown = grow_variance(np.ones((1, 4)), column(0.25)[:, None], column(3.0)[:, None], elapsed_s)
    assert grown.tolist() == [[1, 2, 3, 3]]


def test_variance_of_a_silent_twin_grows() -> None:
    table = tanks()
    table.apply(told(0.0, level=2.0))
    after = [float(table.at(now_s)[1][0, 0]) for now_s in (0, 3600, 7200, 100 * 3600)]
    first = 1 * 0.01 / 1.01  # unsure_sd 1, sd 0.1
    assert after == pytest.approx([first, first + 0.25, first + 0.5, 1.0])


# -- the pieces of the joint filter ------------------------------------------------------------------------------


def covariances(k: int, chance: np.random.Generator, *tail: int) -> Column:
    root = chance.normal(size=(*tail, k, k))
    return np.moveaxis(root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(k), (-2, -1), (0, 1))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_cholesky_is_that_of_numpy(k: int) -> None:
    stack = covariances(k, np.random.default_rng(k), 4, 7)
    expected = np.linalg.cholesky(np.moveaxis(stack, (0, 1), (-2, -1)))
    np.testing.assert_allclose(np.moveaxis(cholesky(stack), (0, 1), (-2, -1)), expected, rtol=1e-9, atol=1e-12)


def test_cholesky_of_degenerate_matrices_still_squares_to_them() -> None:
    one = np.array([2.0, -1.0, 0.5])
    degenerate = np.stack([np.zeros((3, 3)), np.outer(one, one), np.diag([0.0, 4.0, 0.0])], axis=-1)
    factor = cholesky(degenerate)
    assert np.isfinite(factor).all()
    np.testing.assert_allclose(np.einsum("ikb,jkb->ijb", factor, factor), degenerate, atol=1e-12)


def test_a_matrix_that_is_no_covariance_leaves_its_neighbours_alone() -> None:
    good = covariances(2, np.random.default_rng(0), 1)
    both = np.concatenate([good, np.array([[[-1.0], [0.5]], [[0.5], [-2.0]]])], axis=-1)
    np.testing.assert_array_equal(cholesky(both)[..., :1], cholesky(good))
    assert np.isfinite(cholesky(both)).all()


def spread_tanks(n: int = 4) -> tuple[JointPlan, Column, list[Column]]:
    chance = np.random.default_rng(1)
    plan = JointPlan.of(JOINT)
    return plan, chance.normal(size=(6, n)), [covariances(2, chance, 1, n), covariances(1, chance, 3, n)]


def factors(parts: list[Column]) -> list[Column]:
    return [cholesky(part) for part in parts]


def test_points_spread_as_the_covariances_say() -> None:
    plan, x, parts = spread_tanks()
    points = spread_points(plan, x, factors(parts))
    assert points.shape == (6, 1 + 2 * plan.directions, 4)
    np.testing.assert_array_equal(points[:, 0], x)
    np.testing.assert_allclose(points.mean(axis=1), x, atol=1e-12)  # forth and back
    np.testing.assert_array_equal(points[5], np.repeat(x[5][None], 7, axis=0))  # memory is certain
    for got, expected in zip(covariances_of(plan, points), parts, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_slopes_are_exact_for_a_linear_function() -> None:
    plan, x, parts = spread_tanks()
    points = spread_points(plan, x, factors(parts))
    twice = slopes(plan, (2 * points[0] + points[4])[None])
    factor = cholesky(parts[0])[:, :, 0]
    np.testing.assert_allclose(twice[0, :2], 2 * factor[0] + factor[1], rtol=1e-9)
    np.testing.assert_allclose(twice[0, 2], 0, atol=1e-9)  # no pipe has a part in it


def test_variances_are_the_diagonals() -> None:
    plan, _, parts = spread_tanks()
    variance = variance_of(plan, parts, 6)
    np.testing.assert_array_equal(variance[0], parts[0][0, 0, 0])
    np.testing.assert_array_equal(variance[4], parts[0][1, 1, 0])
    np.testing.assert_array_equal(variance[1:4], parts[1][0, 0])
    np.testing.assert_array_equal(variance[5], 0)


def test_limited_covariances_keep_their_correlation() -> None:
    plan, _, _ = spread_tanks()
    wide = np.array([[16.0, 6.0], [6.0, 9.0]])[:, :, None, None]  # correlation 6/(4·3) = 0.5
    unsure2 = column(4, 1, 1, 1, 100, 0)[:, None]  # level at most 4, openings at most 100
    limited, pipes = limit_covariances(plan, [wide, np.full((1, 1, 3, 1), 0.5)], unsure2)
    np.testing.assert_allclose(limited[:, :, 0, 0], [[4, 3], [3, 9]])  # 0.5·2·3 = 3
    np.testing.assert_array_equal(pipes, 0.5)


def joint_update(
    values: NDArray[np.float64], usable: NDArray[np.bool_], covariance: Column, *, observed: bool
) -> tuple[Column, Column, Column]:
    """Two readings of a cart's place, from place 0 and speed 0; ``observed``: by what points show of it."""
    plan = JointPlan.of(CART)
    x, parts = np.zeros((3, 1)), [covariance[:, :, None, None]]
    points = spread_points(plan, x, factors(parts))
    estimate, changed = estimate_joint(
        plan,
        x,
        parts,
        factors(parts) if observed else [],
        {"place_m": points[[PLACE]], "again_m": points[[PLACE]]} if observed else {},
        values[:, None],
        usable[:, None],
        np.array([0.25, 0.64, 1.0, 1.0])[:, None],
    )
    return estimate.x[:, 0], changed[0][:, :, 0, 0], estimate.innovation[:, 0]


@pytest.mark.parametrize("observed", [False, True])
def test_a_joint_measurement_by_hand(observed: bool) -> None:
    # P = [[1, 0.5], [0.5, 2]], R = 0.25: S = 1.25, K = [0.8, 0.4]; ν = 5: x = [4, 2]; P − KKᵀS
    x, covariance, innovation = joint_update(
        column(5, NAN, NAN, NAN),
        np.array([True, False, False, False]),
        np.array([[1.0, 0.5], [0.5, 2.0]]),
        observed=observed,
    )
    np.testing.assert_allclose(x, [4, 0, 2])
    np.testing.assert_allclose(covariance, [[0.2, 0.1], [0.1, 1.8]])
    assert innovation[0] == pytest.approx(5)
    assert np.isnan(innovation[1:]).all()


@pytest.mark.parametrize("observed", [False, True])
def test_two_readings_of_one_state_add_their_precisions(observed: bool) -> None:
    # 1/P⁺ = 1/1 + 1/0.25 + 1/0.64 = 6.5625; x = (5/0.25 + 3/0.64)/6.5625
    x, covariance, innovation = joint_update(
        column(5, 3, NAN, NAN), np.array([True, True, False, False]), np.diag([1.0, 2.0]), observed=observed
    )
    assert covariance[0, 0] == pytest.approx(1 / 6.5625)
    assert x[PLACE] == pytest.approx((20 + 4.6875) / 6.5625)
    assert innovation[1] == pytest.approx(3 - 4)  # the first has moved the expectation to 4
    assert x[SPEED] == 0


@pytest.mark.parametrize("observed", [False, True])
def test_a_certain_state_takes_no_correction(observed: bool) -> None:
    x, covariance, _ = joint_update(
        column(5, NAN, NAN, NAN), np.array([True, False, False, False]), np.zeros((2, 2)), observed=observed
    )
    np.testing.assert_array_equal(x, 0)
    np.testing.assert_array_equal(covariance, 0)
