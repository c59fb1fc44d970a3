"""Simulated entities: devices report the truth with the declared noise, fail as told, and obey."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.core.toy import TANK, tank
from twin_actors.core.inputs import Batch
from twin_actors.core.simulation import SimulatedFleet
from twin_actors.core.table import TwinTable
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.testing.domains import plausible_attributes

START_S = 1_700_000_000.0
LEVEL, INFLOW, OPENED = 0, slice(1, 4), 4


def fleet(n: int = 3, **settings) -> SimulatedFleet:
    attributes = np.repeat([[10.0], [4.0]], n, axis=1)
    made = SimulatedFleet(TANK, [f"tank/{i}" for i in range(n)], attributes, **settings)
    made.step(START_S)
    return made


def everyone(made: SimulatedFleet) -> np.ndarray:
    return np.arange(len(made))


def test_readings_centre_on_the_truth_with_the_declared_sd():
    made = fleet(4000)
    said = made.readings(START_S)
    level = made.x[0]
    assert said[LEVEL].mean() == pytest.approx(level.mean(), abs=4 * 0.1 / np.sqrt(4000))
    assert (said[LEVEL] - level).std() == pytest.approx(0.1, rel=0.06)


def test_noise_scales_the_sd_and_zero_is_the_truth():
    still = fleet(noise=0.0)
    np.testing.assert_array_equal(still.readings(START_S)[LEVEL], still.x[0])
    loud = fleet(4000, noise=3.0)
    assert (loud.readings(START_S)[LEVEL] - loud.x[0]).std() == pytest.approx(0.3, rel=0.06)


def test_readings_stay_within_the_limits_of_their_fields():
    made = fleet(2000, noise=50.0)
    said = made.readings(START_S)
    assert said[LEVEL].min() == 0.0
    assert said[LEVEL].max() == 10.0


def test_running_totals_never_fall_and_carry_no_noise():
    made = fleet(noise=10.0)
    made.set_state(everyone(made), {"openings": 7.0}, START_S)
    np.testing.assert_array_equal(made.readings(START_S)[OPENED], 7.0)
    made.set_state(everyone(made), {"openings": 5.0}, START_S)
    np.testing.assert_array_equal(made.readings(START_S)[OPENED], 7.0)


def test_the_truth_moves_by_predict_under_what_drives_it():
    made = fleet()
    made.set_drivers(np.array([1]), {"inflow_m3s": 0.2}, START_S)
    made.step(START_S + 100)
    risen = made.x[0] - 2.0
    assert risen[0] == pytest.approx(0.02 * 100 / 10, rel=0.3)
    assert risen[1] == pytest.approx(0.2 * 100 / 10, rel=0.05)
    made.clear_drivers(np.array([1]), START_S + 100)
    np.testing.assert_array_equal(made.drivers[:, 0], made.drivers[:, 1])


def test_only_the_entities_due_move_and_time_never_goes_back():
    made = fleet()
    made.step(START_S + 60, np.array([2]))
    assert made.time_s.tolist() == [START_S, START_S, START_S + 60]
    before = made.x.copy()
    made.step(START_S + 30, np.array([2]))
    np.testing.assert_array_equal(made.x, before)


def test_the_first_step_lets_the_outside_world_set_the_state():
    made = fleet()
    np.testing.assert_allclose(made.x[1:4].sum(axis=0), 0.02, atol=0.02)
    assert (made.x[1:4] != 0.01).all()


def test_obeying_changes_the_truth_until_the_command_lapses():
    made = fleet()
    in_force = made.obey(np.array([0]), np.array([[1.5]]), START_S)
    assert in_force.tolist() == [[1.5]]
    made.step(START_S + 10)
    assert made.x[0, 0] < made.x[0, 1] - 1.0
    pumped_h = made.kind.state.layout.places["pumped_h"].start
    made.step(START_S + 3600)
    assert made.x[pumped_h, 0] == pytest.approx(600 / 3600)  # hold_s of the command
    assert made.command.value[0, 0] == 0.0


def test_commands_are_clipped_and_what_is_not_commanded_stays():
    made = fleet()
    assert made.obey(np.array([0, 1]), np.array([[9.0, np.nan]]), START_S).tolist() == [[2.0, 0.0]]


def test_the_same_seed_tells_the_same_story_and_another_one_does_not():
    def told(**settings) -> np.ndarray:
        made = fleet(**settings)
        made.step(START_S + 300)
        return made.readings(START_S + 300)

    np.testing.assert_array_equal(told(seed=4), told(seed=4))
    assert (told(seed=4)[LEVEL] != told(seed=5)[LEVEL]).all()
    assert (told(seed=4, number=0)[LEVEL] != told(seed=4, number=1)[LEVEL]).all()


def test_faults_and_noise_leave_the_truth_alone():
    sound, broken = fleet(), fleet(noise=5.0, gap_share=0.5)
    broken.set_fault(everyone(broken), "spike", START_S, value=100.0)
    for at_s in START_S + np.arange(10.0) * 30:
        for made in (sound, broken):
            made.step(at_s)
            made.readings(at_s)
    np.testing.assert_array_equal(sound.x, broken.x)


def test_a_silent_device_says_nothing():
    made = fleet()
    made.set_fault(np.array([1]), "silent", START_S)
    made.set_fault(np.array([2]), "silent", START_S, reading="inflow_m3s[b]")
    said = made.readings(START_S)
    assert not np.isnan(said[:, 0]).any()
    assert np.isnan(said[:, 1]).all()
    assert np.isnan(said[:, 2]).tolist() == [False, False, True, False, False]
    made.clear_faults(everyone(made))
    assert not np.isnan(made.readings(START_S)).any()


def test_a_stuck_device_repeats_its_last_value():
    made = fleet()
    before = made.readings(START_S)
    made.set_fault(np.array([0]), "stuck", START_S, reading="level_m")
    made.step(START_S + 300)
    after = made.readings(START_S + 300)
    assert after[LEVEL, 0] == before[LEVEL, 0]
    assert after[LEVEL, 1] != before[LEVEL, 1]
    assert (after[INFLOW, 0] != before[INFLOW, 0]).all()


def test_bias_and_drift_add_to_the_reading():
    made = fleet(noise=0.0)
    made.set_fault(np.array([0]), "bias", START_S, value=20.0, reading="level_m")
    made.set_fault(np.array([1]), "drift", START_S, value=4.0, reading="level_m")
    made.step(START_S + 1800)
    said = made.readings(START_S + 1800)[LEVEL] - made.x[0]
    np.testing.assert_allclose(said, [20.0, 2.0, 0.0], atol=1e-12)  # a fault knows no limits


def test_a_spike_befalls_one_reading_in_twenty():
    made = fleet(4000, noise=0.0)
    made.set_fault(everyone(made), "spike", START_S, value=50.0, reading="level_m")
    struck = made.readings(START_S)[LEVEL] - made.x[0] > 49
    assert struck.mean() == pytest.approx(0.05, abs=0.015)


def test_gaps_take_whole_readings():
    made = fleet(4000, gap_share=0.25)
    lost = np.isnan(made.readings(START_S))
    assert (lost.all(axis=0) == lost.any(axis=0)).all()
    assert lost.any(axis=0).mean() == pytest.approx(0.25, abs=0.03)


def test_a_model_that_fails_leaves_the_truth_and_is_counted():
    def broken(state, attributes, command, couplings, step):
        return state.replace(level_m=np.where(step.dt_s > 0, np.nan, state.level_m))

    made = SimulatedFleet(tank(predict=broken), ["tank/0"], np.array([[10.0], [4.0]]))
    made.step(START_S)
    made.step(START_S + 10)
    assert made.x[0, 0] == 2.0
    assert made.model_errors.tolist() == [1]


def test_what_cannot_be_simulated_is_refused():
    with pytest.raises(ValueError, match="has no simulated devices"):
        SimulatedFleet(tank(devices=None), ["tank/0"], np.array([[10.0], [4.0]]))
    with pytest.raises(ValueError, match="attribute area_m2 is missing"):
        SimulatedFleet(TANK, ["tank/0"], np.array([[np.nan], [4.0]]))
    with pytest.raises(KeyError, match="no field or row 'depth'"):
        fleet().set_fault(np.array([0]), "silent", START_S, reading="depth")


SIMULATED = [kind for kind in load_catalogue().kinds.values() if kind.devices is not None]


@pytest.mark.parametrize("kind", SIMULATED, ids=lambda kind: kind.name)
def test_twins_accept_what_simulated_devices_say(kind):
    ids, at_s = [f"{kind.name}/{i}" for i in range(3)], START_S
    attributes = plausible_attributes(kind, 3, np.random.default_rng(2))
    made, table = SimulatedFleet(kind, ids, attributes, seed=9), TwinTable(kind, ids, attributes)
    for _ in range(100):
        at_s += kind.devices.period_s
        made.step(at_s)
        said = made.readings(at_s)
        table.apply(Batch(rows=np.arange(3), observed_at_s=np.full(3, at_s), values=said))
    assert made.model_errors.sum() == 0
    assert table.fates[0].tolist() == [100, 100, 100]
    assert table.rejected_fields.sum() == 0
