"""The running error and coverage of twins, and the alert of those that drift from their entity."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.core.toy import TANK
from twin_actors.core.fidelity import DRIFTING_BELOW, DRIFTS, FORGET, Fidelity, FidelityShown, least_covered, summary
from twin_actors.core.inputs import Batch
from twin_actors.core.table import TwinTable

NAN = np.nan


def test_running_error_and_coverage_by_hand() -> None:
    fidelity = Fidelity.empty(2, 3)
    twins = np.array([2, 0])
    fidelity.record(np.array([[2.0, NAN], [NAN, 1.0]]), np.array([[1.0, 1.0], [1.0, 1.0]]), twins)
    np.testing.assert_allclose(fidelity.rmse(), [[NAN, NAN, 2.0], [1.0, NAN, NAN]])
    covered = np.full((2, 3), 0.9)
    covered[0, 2] -= FORGET * 0.9  # 2 is outside 1.645
    covered[1, 0] += FORGET * 0.1
    np.testing.assert_allclose(fidelity.covered, covered)
    fidelity.record(np.array([[4.0], [NAN]]), np.ones((2, 1)), np.array([2]))
    np.testing.assert_allclose(fidelity.error2[0, 2], 4 + FORGET * (16 - 4))


def test_all_twins_in_order_and_picked_ones_are_folded_alike() -> None:
    chance = np.random.default_rng(0)
    whole, parts = Fidelity.empty(3, 7), Fidelity.empty(3, 7)
    for _ in range(50):
        innovation, variance = chance.normal(size=(3, 7)), chance.uniform(0.5, 2, (3, 7))
        innovation[chance.random((3, 7)) < 0.3] = NAN
        whole.record(innovation, variance, np.arange(7))
        for twins in (np.array([5, 1]), np.array([0, 2, 3, 4, 6])):
            parts.record(innovation[:, twins], variance[:, twins], twins)
    np.testing.assert_array_equal(whole.error2, parts.error2)
    np.testing.assert_array_equal(whole.covered, parts.covered)


def test_a_wild_innovation_is_a_number_and_a_miss() -> None:
    fidelity = Fidelity.empty(1, 1)
    fidelity.record(np.array([[1e300]]), np.ones((1, 1)), np.array([0]))
    assert np.isfinite(fidelity.error2).all()
    assert fidelity.covered[0, 0] < 0.9


def test_a_true_twin_never_drifts_and_a_false_one_does_until_it_is_well_again() -> None:
    chance = np.random.default_rng(1)
    fidelity = Fidelity.empty(1, 2)
    alarms = []
    for reading in range(3000):
        wrong = 4.0 if 1000 <= reading < 1500 else 0.0
        fidelity.record(chance.normal(size=(1, 2)) + np.array([[0.0, wrong]]), np.ones((1, 2)), np.arange(2))
        alarms.append(fidelity.judge())
    alarm = np.array(alarms)
    assert not alarm[:, 0].any(), "a model that is right has no false alarm in 3,000 readings"
    began = int(alarm[:, 1].argmax())
    assert 1020 <= began <= 1060, "25 to 60 misses are enough"
    assert not alarm[-1, 1]
    changes = np.flatnonzero(np.diff(alarm[:, 1].astype(int)))
    assert len(changes) == 2, "the alert has hysteresis and does not flap"


def readings(rows: int, wrong_m: float) -> Batch:
    """Two tanks that hold 3 m; from the 100th reading on the second's sensor jumps about by ``wrong_m``."""
    chance = np.random.default_rng(2)
    values = np.full((TANK.reading.layout.rows, 2 * rows), NAN)
    level = 3 + 0.1 * chance.normal(size=(rows, 2))
    level[100:, 1] += wrong_m * np.where(np.arange(rows - 100) % 2, 1, -1)
    values[0] = level.ravel()
    values[1:4] = 0.0  # nothing flows in
    return Batch(
        rows=np.tile([0, 1], rows), observed_at_s=1e9 + 60.0 * np.repeat(np.arange(rows), 2), values=values,
        keys=np.arange(2 * rows),
    )  # fmt: skip


def test_twins_show_their_fidelity_and_raise_the_alert() -> None:
    table = TwinTable(TANK, ["tank/a", "tank/b"], TANK.attributes.layout.per_row("default").repeat(2, axis=1))
    table.apply(readings(300, wrong_m=3.0))
    shown = table.show(1e9 + 18_000.0)
    assert shown.alerts[DRIFTS.name].tolist() == [False, True]
    assert shown.fidelity.rmse[0, 1] > 5 * shown.fidelity.rmse[0, 0]
    assert np.isnan(shown.fidelity.rmse[4]).all(), "nothing was said of the openings"
    layout = TANK.reading.layout
    said = summary(layout, shown.fidelity)
    assert (said["drifting"], said["compared"]) == (1, 2)
    assert said["worst_coverage_90"] < DRIFTING_BELOW
    least = least_covered(shown.fidelity)
    assert least[1] == said["worst_coverage_90"] < DRIFTING_BELOW < least[0]
    first = next(iter(layout.places))
    rmse = shown.fidelity.rmse[layout.places[first]]
    assert said["innovation_rmse"][first] == pytest.approx(np.sqrt((rmse**2).mean()))
    assert layout.field_of_row()[4] not in said["innovation_rmse"], "a field never compared has no figure"
    reborn = TwinTable(TANK, ["tank/a", "tank/b"], table.attributes)
    reborn.restore(table.snapshot())
    np.testing.assert_array_equal(reborn.fidelity.covered, table.fidelity.covered)


def test_a_kind_that_heard_nothing_has_no_figures() -> None:
    nothing = FidelityShown.of(Fidelity.empty(TANK.reading.layout.rows, 4))
    assert summary(TANK.reading.layout, nothing) == {
        "compared": 0, "innovation_rmse": {}, "coverage_90": None, "worst_coverage_90": None, "drifting": 0,
    }  # fmt: skip
    assert np.isnan(least_covered(nothing)).all()
