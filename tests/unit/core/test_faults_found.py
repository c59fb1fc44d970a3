"""Cases that were wrong once: two sensors of one state, models that fail for a moment, infinities, empty readings."""

import numpy as np
import pytest

from tests.unit.core import toy
from twin_actors.core.cleaning import Fate
from twin_actors.core.columns import Column, Reading, State, reading, state
from twin_actors.core.forecasting import stream
from twin_actors.core.inputs import Batch
from twin_actors.core.table import TwinTable


class TwoSensors(Reading):
    a: Column = reading("m", sd=0.1, of="level_m")
    b: Column = reading("m", sd=0.1, of="level_m")


class Level(State):
    level_m: Column = state("m", default=0, unsure_sd=100, drift=0)


def told(values: list[list[float]], at_s: float = 1000.0) -> Batch:
    return Batch(rows=np.zeros(1, np.intp), observed_at_s=np.array([at_s]), values=np.array(values, dtype=float))


@pytest.mark.parametrize("filter", ["diagonal", "joint"])
def test_two_sensors_of_one_state_agree_with_the_average(filter: str) -> None:
    kind = toy.tank(
        reading=TwoSensors,
        state=Level,
        windows=toy.Windows,
        predict=lambda state, *rest: state,
        indicators=lambda *_: {},
        shows=(),
        alerts=(),
        needs=None,
        devices=None,
        filter=filter,
    )
    table = TwinTable(kind, ["tank/1"], np.array([[10.0], [4.0]]))
    table.apply(told([[10.0], [12.0]]))
    # prior variance 100² against 0.1² each: the mean of the two, pulled to 0 by 1 part in 2,000,000
    assert table.x[0, 0] == pytest.approx(11.0, rel=1e-5)


def test_a_joint_twin_recovers_from_a_model_that_failed_once() -> None:
    failing = [False]

    def predict(state, attributes, command, couplings, step):
        moved = toy.predict(state, attributes, command, couplings, step)
        return moved.replace(level_m=moved.level_m * np.nan) if failing[0] else moved

    table = TwinTable(toy.tank(filter="joint", predict=predict), ["tank/1"], np.array([[10.0], [4.0]]))
    nan = np.nan
    for step, failing[0] in enumerate((False, True, False, False)):
        table.apply(told([[2.0], [nan], [nan], [nan], [nan]], 1000.0 + 60 * step))
    assert np.isfinite(table.x).all()
    assert np.isfinite(table.variance).all()
    assert table.model_errors[0] == 1
    assert table.x[0, 0] == pytest.approx(2.0, abs=0.2)


def test_infinity_is_out_of_range_also_where_there_is_no_limit() -> None:
    table = TwinTable(toy.TANK, ["tank/1"], np.array([[10.0], [4.0]]))
    nan = np.nan
    applied = table.apply(told([[nan], [nan], [nan], [nan], [np.inf]]))
    assert applied.rejections[0].reason == "out_of_range"
    assert np.isfinite(table.x).all()


def test_an_empty_reading_is_called_empty() -> None:
    table = TwinTable(toy.TANK, ["tank/1"], np.array([[10.0], [4.0]]))
    applied = table.apply(told([[np.nan]] * 5))
    assert applied.rejections[0].reason == "empty"


def test_streams_differ_for_every_seed_and_entity() -> None:
    pairs = [(2**63 + 1, "a"), (2**63 + 2, "a"), (-1, "a"), (0, "tank/plumless"), (0, "tank/buckeroo")]
    first = [stream(seed, entity).standard_normal() for seed, entity in pairs]
    assert len(set(first)) == len(pairs)


def test_what_is_shown_is_not_the_table_itself() -> None:
    table = TwinTable(toy.TANK, ["tank/1"], np.array([[10.0], [4.0]]))
    shown = table.show(1000.0)
    shown.alerts["full"][:] = True
    assert not table.latches.active.any()


@pytest.mark.parametrize("filter", ["diagonal", "joint"])
def test_a_model_that_raises_for_one_twin_leaves_its_neighbours_alone(filter: str) -> None:
    def predict(state, attributes, command, couplings, step):
        if (attributes.area_m2 == 13.0).any():
            raise ZeroDivisionError("thirteen")
        return toy.predict(state, attributes, command, couplings, step)

    ids = ["tank/1", "tank/2", "tank/3"]
    broken = TwinTable(toy.tank(filter=filter, predict=predict), ids, np.array([[10.0, 13.0, 20.0], [4.0] * 3]))
    sound = TwinTable(toy.tank(filter=filter), ids, np.array([[10.0, 13.0, 20.0], [4.0] * 3]))
    for step in range(3):
        values = np.full((5, 3), np.nan)
        values[0] = 2.0 + 0.1 * step
        batch = Batch(rows=np.arange(3), observed_at_s=np.full(3, 1000.0 + 60 * step), values=values)
        assert (sound.apply(batch).fates == Fate.APPLIED).all()
        applied = broken.apply(batch)
        # the first reading needs no prediction
        assert applied.fates.tolist() == [Fate.APPLIED, Fate.REJECTED if step else Fate.APPLIED, Fate.APPLIED]
        assert [(r.position, r.reason) for r in applied.rejections] == ([(1, "model_failed")] if step else [])
    np.testing.assert_allclose(broken.x[:, [0, 2]], sound.x[:, [0, 2]], rtol=1e-12)
    assert broken.model_errors.tolist() == [0, 2, 0]
    assert broken.fates[:, 1].tolist() == [1, 0, 0, 2]
    assert list(broken.failures) == ["tank/2"]
    assert "in predict" in broken.failures["tank/2"]
    assert broken.failures["tank/2"].endswith("ZeroDivisionError: thirteen")
    assert broken.cleaning.value[0, 1] == pytest.approx(2.2)
