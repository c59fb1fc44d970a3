"""The twin table: inputs in log order, commands that lapse, and what is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.core.streams import (
    NAN,
    ROWS,
    asked,
    column,
    commanded,
    joined,
    rained,
    tanks,
    told,
)
from tests.unit.core.toy import JOINT, PIPE, TANK, TankCommand, TankReading, TankState, predict, tank
from twin_actors.core.cleaning import Fate
from twin_actors.core.columns import Attributes, Column, attribute, reading, state
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.table import FATES, TwinTable

T0 = 1_780_000_000.0
LEVEL, INFLOW, OPENINGS, PUMPED = 0, slice(1, 4), 4, 5
BOTH = pytest.mark.parametrize("kind", [TANK, JOINT], ids=["diagonal", "joint"])


def level(table: TwinTable, twin: int = 0) -> float:
    return float(table.x[LEVEL, twin])


def unchanged(table: TwinTable, before: dict[str, Any], *, but: tuple[str, ...] = ()) -> None:
    """Assert that nothing of a table differs from its snapshot, save what is named."""
    for name, array in table.snapshot().items():
        if name not in but:
            np.testing.assert_array_equal(array, before[name], err_msg=name)


# -- beginning ---------------------------------------------------------------------------------------------------


@BOTH
def test_a_new_twin_is_at_its_defaults_and_unsure(kind: Kind) -> None:
    table = tanks(2, kind)
    assert len(table) == 2
    np.testing.assert_array_equal(table.x[:, 0], [2, 0.01, 0.01, 0.01, 0, 0])
    np.testing.assert_allclose(table.variance[:, 1], [1, 0.04, 0.04, 0.04, 1e4, 0])
    shown = table.show(T0)
    np.testing.assert_array_equal(shown.age_s, [np.inf, np.inf])
    np.testing.assert_array_equal(shown.x, table.x)  # its time has not begun
    np.testing.assert_array_equal(shown.command, [[0, 0]])
    assert np.isnan(shown.desired).all()


def test_missing_attributes_are_named_with_their_entity() -> None:
    with pytest.raises(ValueError, match="tank/b: attribute alarm_m is missing or not finite"):
        TwinTable(TANK, ["tank/a", "tank/b"], np.array([[10.0, 10.0], [4.0, NAN]]))


def test_a_missing_component_of_an_attribute_is_named() -> None:
    class Wide(Attributes):
        area_m2: Column = attribute("m2", default=10)
        alarm_m: Column = attribute("m", default=4)
        bore_m: Column = attribute("m", PIPE)

    with pytest.raises(ValueError, match=r"tank/a: attribute bore_m\[b\] is missing or not finite"):
        TwinTable(tank(attributes=Wide), ["tank/a"], column(10, 4, 1, NAN, 1)[:, None])


def test_attributes_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kind tank: attributes have shape \(2, 1\), expected \(2, 2\)"):
        TwinTable(TANK, ["tank/a", "tank/b"], np.ones((2, 1)))


def test_an_empty_batch_changes_nothing() -> None:
    table = tanks()
    before = table.snapshot()
    nothing = Batch(rows=np.zeros(0, np.intp), observed_at_s=np.zeros(0), values=np.zeros((ROWS, 0)))
    applied = table.apply(nothing)
    assert (len(applied.fates), applied.rejections) == (0, ())
    unchanged(table, before)


# -- readings ----------------------------------------------------------------------------------------------------


def test_a_reading_moves_the_twin_by_its_gain() -> None:
    table = tanks()
    table.apply(told(T0, level=3.0))
    # P = 1, R = 0.1²: K = 1/1.01
    assert level(table) == pytest.approx(2 + 1 / 1.01)
    assert table.variance[LEVEL, 0] == pytest.approx(0.01 / 1.01)
    assert (table.time_s[0], table.heard_at_s[0], table.revision[0]) == (T0, T0, 1)
    assert 0 <= table.score[LEVEL, 0] <= 1
    assert np.isnan(table.score[1:, 0]).all()


class UnwatchedLevel(TankReading):
    level_m: Column = reading("m", minimum=0, maximum=10, sd=0.1, max_rate=1.0, stuck_after_s=600, watched=False)


def test_a_field_that_is_not_watched_has_no_score_and_is_estimated_all_the_same() -> None:
    watched, unwatched = tanks(), tanks(kind=tank(reading=UnwatchedLevel))
    for number in range(70):
        for table in (watched, unwatched):
            table.apply(told(T0 + 60 * number, level=3.0 + number % 3, inflow=(0.1, 0.2, 0.3)))
    said_too_much = told(T0 + 6000, level=99.0, inflow=(0.1, 0.2, 0.3))
    for table in (watched, unwatched):
        table.apply(said_too_much)
        assert table.rejected_fields[0] == 1
    np.testing.assert_array_equal(unwatched.x, watched.x)
    np.testing.assert_array_equal(unwatched.variance, watched.variance)
    np.testing.assert_array_equal(unwatched.fidelity.error2, watched.fidelity.error2)
    np.testing.assert_array_equal(unwatched.score[1:], watched.score[1:])
    assert (watched.score[LEVEL, 0], set(watched.explain("tank/0"))) == (1.0, {"level_m"})
    assert (np.isnan(unwatched.score[LEVEL, 0]), unwatched.explain("tank/0")) == (True, {})


def test_between_readings_the_twin_follows_its_model() -> None:
    table = tanks()
    table.apply(told(T0, level=3.0))
    before = level(table)
    x, _ = table.at(T0 + 600)
    # 3 · 0.01 m³/s for 600 s on 10 m²
    assert x[LEVEL, 0] == pytest.approx(before + 0.03 * 600 / 10)
    table.apply(told(T0 + 600, opened=3))
    assert level(table) == x[LEVEL, 0]


def test_an_older_reading_that_is_news_for_its_field_is_applied_with_wider_noise() -> None:
    table = tanks()
    table.apply(told(T0 + 3600, level=3.0))
    before = level(table)
    assert table.apply(told(T0, inflow=(0.2, NAN, NAN))).fates.tolist() == [Fate.APPLIED]
    assert (table.time_s[0], table.heard_at_s[0]) == (T0 + 3600, T0 + 3600)  # time never goes back
    # P = 0.2², R = 0.05² + 0.1²·1 h = 0.0125: K = 0.04/0.0525
    assert table.x[1, 0] == pytest.approx(0.01 + 0.04 / 0.0525 * 0.19)
    assert table.variance[1, 0] == pytest.approx(0.04 * 0.0125 / 0.0525)
    assert level(table) == before


@BOTH
def test_an_older_reading_weighs_less_than_a_new_one(kind: Kind) -> None:
    fresh, old = tanks(1, kind), tanks(1, kind)
    for table, at_s in ((fresh, T0 + 3600), (old, T0)):
        table.apply(told(T0 + 3600, level=3.0))
        table.apply(told(at_s, inflow=(0.2, NAN, NAN)))
    assert 0.01 < old.x[1, 0] < fresh.x[1, 0] < 0.2
    assert old.variance[1, 0] > fresh.variance[1, 0]


def test_states_stay_within_their_limits() -> None:
    table = tanks()
    table.apply(told(T0, level=9.9, inflow=(5, 5, 5)))
    assert table.at(T0 + 600)[0][LEVEL, 0] == 10
    table.apply(told(T0 + 1, inflow=(0, 0, 0)))
    assert (table.x[INFLOW] >= 0).all()


@BOTH
def test_a_reading_beyond_the_limits_of_its_state_moves_it_up_to_them(kind: Kind) -> None:
    class Low(TankState):
        level_m: Column = state("m", minimum=0, maximum=3, default=2, unsure_sd=1.0, drift=0.5)

    table = tanks(1, tank(state=Low, filter=kind.filter))
    table.apply(told(T0, level=9.0))
    assert level(table) == 3.0


def test_a_counter_that_restarts_leaves_the_level_where_it_was() -> None:
    table = tanks()
    for hour, total in enumerate((100, 110, 120, 5, 15)):
        table.apply(told(T0 + 3600 * hour, opened=total))
    # 120 + 15; the gain is 100/100.25 after an hour of drift 10/√h against a noise of 0.5
    assert table.x[OPENINGS, 0] == pytest.approx(135, abs=0.05)


def test_a_stuck_sensor_makes_its_state_uncertain_and_not_wrong() -> None:
    table = tanks()
    for minute in range(11):
        table.apply(told(T0 + 60 * minute, level=3.0))  # stuck from 600 s on
    sure = table.variance[LEVEL, 0]
    applied = table.apply(told(T0 + 4200, level=3.0))
    assert applied.fates.tolist() == [Fate.APPLIED]
    assert table.variance[LEVEL, 0] == pytest.approx(sure + 0.25)  # an hour of drift 0.5/√h
    assert level(table) == table.at(T0 + 4200)[0][LEVEL, 0]
    assert table.heard_at_s[0] == T0 + 4200


# -- fates -------------------------------------------------------------------------------------------------------


def test_a_duplicate_changes_no_estimate() -> None:
    table = tanks()
    table.apply(told(T0, level=3.0, key=7))
    before = table.snapshot()
    assert table.apply(told(T0, level=3.0, key=7)).fates.tolist() == [Fate.DUPLICATE]
    unchanged(table, before, but=("fates", "revision"))
    assert dict(zip(FATES, table.fates[:, 0].tolist(), strict=True)) == {
        "applied": 1,
        "duplicate": 1,
        "late": 0,
        "rejected": 0,
    }


def test_a_late_reading_changes_no_estimate() -> None:
    table = tanks()
    table.apply(told(T0, level=3.0))
    before = table.snapshot()
    assert table.apply(told(T0 - 1, level=4.0)).fates.tolist() == [Fate.LATE]
    unchanged(table, before, but=("fates", "revision"))


def test_a_rejection_says_what_was_wrong_with_it() -> None:
    table = tanks(2)
    applied = table.apply(
        joined(
            told(T0, level=3.0),
            told(T0, level=11.0, twin=1),
            told(T0 + 1, level=4.5),
            told(T0 + 2, inflow=(NAN, 6.0, NAN)),
        )
    )
    assert applied.fates.tolist() == [Fate.APPLIED, Fate.REJECTED, Fate.REJECTED, Fate.REJECTED]
    assert [(r.position, r.reason, r.detail) for r in applied.rejections] == [
        (1, "out_of_range", "level_m = 11 is outside 0 to 10"),
        (2, "rate", "level_m = 4.5 after 3 changes faster than 1 per second"),
        (3, "out_of_range", "inflow_m3s[b] = 6 is outside 0 to 5"),
    ]
    assert table.rejected_fields.tolist() == [2, 1]
    assert table.time_s.tolist() == [T0, -np.inf]  # nothing of a rejected reading is taken, nor its time


def test_rejected_fields_of_an_applied_reading_are_counted() -> None:
    table = tanks()
    applied = table.apply(told(T0, level=3.0, inflow=(9.0, -1.0, 0.1)))
    assert applied.fates.tolist() == [Fate.APPLIED]
    assert applied.rejections == ()
    assert table.rejected_fields.tolist() == [2]
    assert table.fates[:, 0].tolist() == [1, 0, 0, 0]


# -- commands and couplings --------------------------------------------------------------------------------------


def test_a_command_takes_effect_at_its_time_and_falls_back() -> None:
    table = tanks()
    table.apply(joined(told(T0, level=5.0, inflow=(0.0, 0.0, 0.0)), commanded(T0 + 60, 0.01)))
    drained = [float(table.at(T0 + after_s)[0][PUMPED, 0]) * 3600 for after_s in (60, 360, 660, 5000)]
    assert drained == pytest.approx([0, 300, 600, 600], abs=1e-4)  # hold_s = 600
    assert [float(table.show(T0 + s).command[0, 0]) for s in (60, 659, 660, 5000)] == [0.01, 0.01, 0, 0]


def test_a_command_older_than_the_twin_takes_effect_at_the_time_of_the_twin() -> None:
    table = tanks()
    table.apply(joined(told(T0, level=5.0), commanded(T0 - 500, 0.01)))
    assert table.time_s[0] == T0
    assert table.command.until_s[0, 0] == T0 + 600  # held from then on: none of it is lost
    assert table.at(T0 + 5000)[0][PUMPED, 0] * 3600 == pytest.approx(600, abs=1e-4)


def test_a_command_starts_the_time_of_a_twin_that_was_never_heard() -> None:
    table = tanks()
    table.apply(commanded(T0, 0.01))
    assert (table.time_s[0], table.heard_at_s[0]) == (T0, -np.inf)
    assert table.at(T0 + 100)[0][PUMPED, 0] * 3600 == pytest.approx(100, abs=1e-4)


def test_a_newer_command_takes_the_place_of_the_older_one() -> None:
    table = tanks()
    table.apply(joined(told(T0, level=5.0), commanded(T0, 0.01), commanded(T0 + 100, 0.02)))
    assert table.command.value[0, 0] == 0.02
    assert table.command.until_s[0, 0] == T0 + 700


def test_a_coupling_rains_until_its_news_are_old() -> None:
    dry, wet = tanks(), tanks()
    for table in (dry, wet):
        table.apply(told(T0, level=3.0))
    wet.apply(rained(T0, 0.02))
    more = [float((wet.at(T0 + s)[0] - dry.at(T0 + s)[0])[LEVEL, 0]) for s in (100, 300, 1000)]
    assert more == pytest.approx([0.2, 0.6, 0.6], abs=1e-6)  # 0.02 m³/s on 10 m² for at most 300 s
    assert wet.show(T0 + 299).couplings.tolist() == [[0.02]]
    assert wet.show(T0 + 300).couplings.tolist() == [[0.0]]


def test_what_was_asked_is_kept_apart_from_what_is_in_force() -> None:
    table = tanks()
    table.apply(joined(told(T0, level=5.0), asked(T0 + 60, 0.5)))
    shown = table.show(T0 + 60)
    assert (shown.desired[0, 0], shown.command[0, 0]) == (0.5, 0.0)
    assert table.time_s[0] == T0  # asking moves no twin
    table.apply(commanded(T0 + 90, 0.4))
    shown = table.show(T0 + 90)
    assert (shown.desired[0, 0], shown.command[0, 0]) == (0.5, 0.4)
    table.apply(asked(T0 + 95, NAN))
    assert table.desired[0, 0] == 0.5


def test_commands_are_always_applied() -> None:
    table = tanks()
    applied = table.apply(joined(commanded(T0, 0.1), commanded(T0 - 1e6, 0.2), asked(T0, 0.3), rained(T0, 0.1)))
    assert applied.fates.tolist() == [Fate.APPLIED] * 4
    assert table.fates.sum() == 0  # the ledger counts readings
    assert table.revision[0] == 4


# -- looking -----------------------------------------------------------------------------------------------------


@BOTH
def test_looking_writes_nothing_back_but_latches(kind: Kind) -> None:
    table = tanks(2, kind)
    table.apply(joined(told(T0, level=4.5), commanded(T0, 0.01), rained(T0, 0.01), told(T0 + 5, level=2.0, twin=1)))
    before = table.snapshot()
    latches = ("latches.active", "latches.since_s", "latches.raised_at_s")
    table.at(T0 + 10_000)
    unchanged(table, before)
    table.show(T0 + 10_000)
    unchanged(table, before, but=latches)
    assert any(not np.array_equal(table.snapshot()[name], before[name], equal_nan=True) for name in latches)


def test_what_is_shown_is_nobodys_to_change() -> None:
    table = tanks()
    table.apply(joined(told(T0, level=3.0), asked(T0, 0.5)))
    before = table.snapshot()
    shown = table.show(T0)
    for array in (shown.x, shown.sd, shown.command, shown.desired, shown.couplings, shown.revision):
        array[...] = -7
    unchanged(table, before)


def test_twins_ahead_of_now_are_shown_at_their_own_time() -> None:
    table = tanks()
    table.apply(told(T0 + 100, level=3.0))
    x, variance = table.at(T0)
    np.testing.assert_array_equal(x, table.x)
    np.testing.assert_array_equal(variance, table.variance)
    assert table.show(T0).age_s[0] == -100


def test_a_tank_shows_its_indicators_alerts_and_needs() -> None:
    table = tanks(2)
    table.apply(joined(told(T0, level=5.0, inflow=(0, 0, 0)), told(T0, level=1.0, twin=1)))
    shown = table.show(T0)
    np.testing.assert_allclose(shown.indicators["volume_m3"], 10 * table.x[LEVEL])
    assert shown.needs["pump"].amount.tolist() == [1, 0]
    assert shown.needs["pump"].duration_s.tolist() == [600, 0]
    np.testing.assert_allclose(shown.sd, np.sqrt(table.variance))
    assert shown.alerts["full"].tolist() == [False, False]  # above 4 m for 10 s
    assert table.show(T0 + 10).alerts["full"].tolist() == [True, False]
    table.apply(told(T0 + 3600, level=3.7))
    assert 3.5 < level(table) < 4
    assert bool(table.show(T0 + 3600).alerts["full"][0]) is True  # it clears at 3.5 m
    table.apply(told(T0 + 7200, level=3.2))
    assert bool(table.show(T0 + 7200).alerts["full"][0]) is False


def test_what_a_controller_would_set_is_proposed() -> None:
    def control(state: Any, attributes: Any, command: Any, indicators: Any) -> TankCommand:
        """Lets out a hundredth of the volume."""
        return TankCommand(outflow_m3s=indicators["volume_m3"] / 100)

    table = tanks(2, tank(control=control))
    proposed = table.show(T0).proposed
    assert proposed is not None
    np.testing.assert_allclose(proposed, np.array([[0.2, 0.2]]))  # 2 m on 10 m²
    assert table.show(T0, with_control=False).proposed is None
    assert tanks().show(T0).proposed is None


def test_a_model_that_fails_leaves_the_twin_where_it_was_and_is_counted() -> None:
    def breaks(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
        """Gives no number for tanks of more than 20 m²."""
        moved: Any = predict(state, attributes, command, couplings, step)
        return moved.replace(level_m=np.where(attributes.area_m2 > 20, NAN, moved.level_m))

    table = TwinTable(tank(predict=breaks), ["tank/a", "tank/b"], np.array([[10.0, 30.0], [4.0, 4.0]]))
    table.apply(joined(told(T0, level=3.0), told(T0, level=3.0, twin=1)))
    x, _ = table.at(T0 + 60)
    assert x[LEVEL, 0] > level(table)
    np.testing.assert_array_equal(x[:, 1], table.x[:, 1])
    table.apply(joined(told(T0 + 60, opened=1), told(T0 + 60, opened=1, twin=1)))
    assert table.model_errors.tolist() == [0, 1]
    assert np.isfinite(table.x).all()
