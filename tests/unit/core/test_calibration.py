"""Training: parameters of a truth that is known are found again, judged on unseen time, and kept only where better."""

from __future__ import annotations

import numpy as np
import pytest

from twin_actors.core.calibration import Calibration, calibrate, changes
from twin_actors.core.columns import Attributes, Axis, Column, Reading, State, attribute, reading, state
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind, Step
from twin_actors.core.parameters import Parameters


class PotAttributes(Attributes):
    tau_h: Column = attribute("h", default=5.0, minimum=0.1, maximum=50)
    room_c: Column = attribute("degC", default=20.0)


class PotReading(Reading):
    temp_c: Column = reading("degC", sd=1.0)


class PotState(State):
    temp_c: Column = state("degC", default=20, unsure_sd=50, drift=3.0)


def cool(state: PotState, attributes: PotAttributes, command: object, couplings: object, step: Step) -> PotState:
    """Newton's cooling towards the room."""
    left = np.exp(-step.dt_s / 3600 / attributes.tau_h)
    return state.replace(temp_c=attributes.room_c + (state.temp_c - attributes.room_c) * left)


POT = Kind(
    name="pot", doc="A pot that cools.", attributes=PotAttributes, reading=PotReading, state=PotState, predict=cool,
    indicators=lambda *records: {}, shows=(), max_step_s=3600.0,
)  # fmt: skip
IDS = ("pot/a", "pot/b")


def truth(rows: int, tau_h: np.ndarray, sd: np.ndarray, drift: np.ndarray, seed: int = 0) -> Batch:
    """Pots that the world shakes by ``drift``, read every half hour with ``sd``, heated by chance."""
    chance = np.random.default_rng(seed)
    n = len(tau_h)
    temp = np.full(n, 60.0)
    said = np.empty((rows, n))
    for row in range(rows):
        temp = 20 + (temp - 20) * np.exp(-0.5 / tau_h) + drift * np.sqrt(0.5) * chance.normal(size=n)
        said[row] = temp + sd * chance.normal(size=n)
    return Batch(
        rows=np.tile(np.arange(n), rows), observed_at_s=1e9 + 1800.0 * np.repeat(np.arange(rows), n),
        values=said.reshape(1, -1), keys=np.arange(rows * n),
    )  # fmt: skip


def start(n: int = 2) -> Parameters:
    return Parameters.declared(POT, np.repeat(POT.attributes.layout.per_row("default"), n, axis=1))


@pytest.fixture(scope="module")
def found() -> Calibration:
    history = truth(240, np.array([2.0, 10.0]), np.array([0.5, 0.2]), np.array([8.0, 6.0]))
    return calibrate(POT, IDS, start(), history, fit=("tau_h",), sweeps=6)


def test_the_parameters_of_the_truth_are_found_by_entity(found: Calibration) -> None:
    assert found.better.tolist() == [True, True]
    np.testing.assert_allclose(found.after.attributes[0], [2.0, 10.0], rtol=0.4)
    np.testing.assert_allclose(found.after.drift[0], [8.0, 6.0], rtol=0.3)
    np.testing.assert_array_equal(found.after.attributes[1], found.before.attributes[1])


def test_intervals_hold_what_they_promise_on_unseen_time(found: Calibration) -> None:
    before, after = (score.coverage[0] for score in found.validation)
    assert (before < 0.8).all(), "the declared noises were too small for this truth"
    assert ((after > 0.83) & (after < 0.96)).all()
    assert found.train_s[1] == found.validation_s[0]
    assert (found.validation[1].likelihood < found.validation[0].likelihood).all()


def test_parameters_that_are_right_already_are_kept() -> None:
    right = start()
    history = truth(240, np.array([5.0, 5.0]), np.array([1.0, 1.0]), np.array([3.0, 3.0]), seed=4)
    # the second pot changes its nature half way: what the first part teaches is wrong for the second
    values = history.values.copy()
    second = (history.rows == 1) & (history.observed_at_s < 1e9 + 1800 * 160)
    values[0, second] = 40.0 + 0.01 * np.random.default_rng(0).normal(size=int(second.sum()))
    changed = Batch(rows=history.rows, observed_at_s=history.observed_at_s, values=values, keys=history.keys)
    kept = calibrate(POT, IDS, right, changed, fit=("tau_h",), sweeps=3)
    assert not kept.better[1]
    for record in ("attributes", "sd", "drift"):
        np.testing.assert_array_equal(getattr(kept.after, record)[:, 1], getattr(right, record)[:, 1])
    assert "pot/b" not in changes(kept, POT)
    evidence = kept.evidence()[1]
    assert evidence["entity"] == "pot/b"
    assert not evidence["better"]


def test_an_entity_is_fitted_alike_alone_and_among_others(found: Calibration) -> None:
    history = truth(240, np.array([2.0, 10.0]), np.array([0.5, 0.2]), np.array([8.0, 6.0]))
    own = history.rows == 1
    alone = Batch(
        rows=np.zeros(int(own.sum()), np.intp), observed_at_s=history.observed_at_s[own], values=history.values[:, own],
        keys=history.keys[own],
    )  # fmt: skip
    again = calibrate(POT, IDS[1:], start(1), alone, fit=("tau_h",), sweeps=6)
    np.testing.assert_allclose(again.after.attributes[:, 0], found.after.attributes[:, 1], rtol=1e-6)
    np.testing.assert_allclose(again.after.sd[:, 0], found.after.sd[:, 1], rtol=1e-6)


def test_limits_hold_and_what_is_not_free_stays() -> None:
    history = truth(80, np.array([0.05, 5.0]), np.array([0.1, 0.1]), np.array([1.0, 1.0]))
    free = np.array([[True, False], [False, False]])
    fitted = calibrate(POT, IDS, start(), history, fit=("tau_h", "room_c"), free=free, noises=False, sweeps=6)
    assert fitted.after.attributes[0, 0] >= 0.1
    np.testing.assert_array_equal(fitted.after.attributes[:, 1], [5.0, 20.0])
    np.testing.assert_array_equal(fitted.after.sd, fitted.before.sd)


def test_changes_are_what_a_scenario_says(found: Calibration) -> None:
    said = changes(found, POT)["pot/a"]
    assert said.keys() == {"attributes", "sd", "drift"}
    assert said["attributes"].keys() == {"tau_h"}
    assert said["attributes"]["tau_h"] == pytest.approx(found.after.attributes[0, 0], rel=1e-5)


def test_too_few_readings_change_nothing() -> None:
    history = truth(30, np.array([2.0, 10.0]), np.array([0.5, 0.2]), np.array([8.0, 6.0]))
    assert not calibrate(POT, IDS, start(), history, sweeps=1).better.any()


def test_wrong_questions_are_refused() -> None:
    history = truth(30, np.array([2.0, 10.0]), np.array([0.5, 0.2]), np.array([8.0, 6.0]))
    with pytest.raises(ValueError, match="no attribute 'tau'; it has tau_h, room_c"):
        calibrate(POT, IDS, start(), history, fit=("tau",))
    empty = Batch(rows=np.zeros(0, np.intp), observed_at_s=np.zeros(0), values=np.zeros((1, 0)))
    with pytest.raises(ValueError, match="no readings of kind pot"):
        calibrate(POT, IDS, start(), empty)


def test_noises_of_a_vector_field_are_scaled_by_component() -> None:
    side = Axis("side", ("left", "right"))

    class SideReading(Reading):
        load_mw: Column = reading("MW", side, sd=1.0)

    class SideState(State):
        load_mw: Column = state("MW", side, default=0, unsure_sd=1000, drift=1.0)

    kind = Kind(
        name="line", doc="Two sides.", attributes=Attributes, reading=SideReading, state=SideState,
        predict=lambda state, *rest: state, indicators=lambda *records: {}, shows=(),
    )  # fmt: skip
    chance = np.random.default_rng(0)
    values = chance.normal(size=(2, 150)) * np.array([[5.0], [0.2]])
    history = Batch(
        rows=np.zeros(150, np.intp), observed_at_s=1e9 + 60.0 * np.arange(150), values=values, keys=np.arange(150)
    )
    fitted = calibrate(kind, ("line/a",), Parameters.declared(kind, np.zeros((0, 1))), history, sweeps=5)
    assert fitted.better.all()
    np.testing.assert_allclose(fitted.after.sd[:, 0], [5.0, 0.2], rtol=0.3)
    assert changes(fitted, kind)["line/a"]["sd"]["load_mw"] == pytest.approx(fitted.after.sd[:, 0].tolist(), rel=1e-5)
