"""The default ensemble: what it finds, what it leaves alone, and that nothing but a row's own past matters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.streams import NAN, UNHURRIED
from twin_actors.core.cleaning import Quality
from twin_actors.core.columns import Column
from twin_actors.core.detection.ensemble import ALARM_EVIDENCE, LEARNING, detect, flag, hour_bins, score_of
from twin_actors.core.detection.memory import DetectionMemory, View
from twin_actors.core.detection.reasons import reason

HOUR_S = 3600.0
MONDAY_S = 4 * 86_400.0  # 5 January 1970


def scores(values: Column, memory: DetectionMemory | None = None, first: int = 0) -> Column:
    """Scores ``(T, n)`` of hourly values ``(T, n)`` of one row whose model expects the value before."""
    memory = DetectionMemory.empty(1, values.shape[1]) if memory is None else memory
    made = []
    for hour in range(first, len(values)):
        before = values[hour - 1] if hour else values[0]
        made.append(told(memory, hour, values[hour], before))
    return np.array(made)


def told(memory: DetectionMemory, hour: int, value: Column, before: Column, twins: Sequence[int] = ()) -> Column:
    whose = np.array(twins or range(len(value)), np.intp)
    return detect(
        memory,
        whose,
        np.full(len(whose), MONDAY_S + HOUR_S * hour),
        value[None],
        (value - before)[None],
        np.ones((1, len(whose))),
        np.zeros((1, 1), np.bool_),
    )[0]


def quiet(hours: int, twins: int = 1, seed: int = 0) -> Column:
    """A daily course with noise."""
    hour = np.arange(hours)[:, None]
    chance = np.random.default_rng(seed)
    return 50 + 10 * np.sin(hour / 24 * 2 * np.pi) + chance.normal(0, 1, (hours, twins))


def test_scores_are_none_half_and_towards_one() -> None:
    np.testing.assert_allclose(
        score_of(np.array([0, ALARM_EVIDENCE, 2 * ALARM_EVIDENCE])), [0, 0.5, 1 - 2.0**-4], rtol=1e-12
    )


def test_hours_of_working_days_and_weekends() -> None:
    at_s = np.array([0.0, 2 * 86_400 + HOUR_S, 3 * 86_400 + 23 * HOUR_S, MONDAY_S + 0.5 * HOUR_S])
    day, week = hour_bins(at_s)  # Thursday 00, Saturday 01, Sunday 23, Monday 00
    assert day.tolist() == [0, 1, 23, 0]
    assert week.tolist() == [24, 24 + 24 + 1, 24 + 24 + 23, 24]


def test_a_quiet_series_is_rarely_surprising() -> None:
    made = scores(quiet(2000, 20))
    assert (made[300:] >= 0.5).mean() < 3e-3
    assert (made[300:] >= 0.9).mean() < 3e-4
    assert not made[: int(LEARNING)].any()  # nothing is known yet


@pytest.mark.parametrize("off", [40.0, -40.0])
def test_a_spike_and_a_shift_are_found_at_once(off: float) -> None:
    values = quiet(1001, 20)
    values[1000] += off
    found = scores(values)[1000]
    assert (found >= 0.5).all()
    shifted = quiet(1020, 20)
    shifted[1000:] += off / 2
    assert ((scores(shifted)[1000:] >= 0.5).any(axis=0)).mean() >= 0.95


def test_an_event_is_told_once() -> None:
    values = quiet(1030, 20)
    values[1000:] += 60
    assert ((scores(values)[1000:] >= 0.5).sum(axis=0) <= 3).all()


def test_a_value_at_the_wrong_hour_is_out_of_season() -> None:
    values = quiet(1400, 20)
    at = 1350  # 6 in the morning is the day's maximum; the value is one of the night
    assert values[at].mean() > 58
    values[at] = 40.0
    memory = DetectionMemory.empty(1, 20)
    found = scores(values[: at + 1], memory)[at]
    assert (found >= 0.5).mean() > 0.9
    alarm = memory.last_alarm(0, 0)
    assert alarm["usual"] == pytest.approx(60, abs=3)
    assert alarm["value"] == 40.0


def test_stuck_is_twice_the_longest_run_before() -> None:
    chance = np.random.default_rng(0)
    values = np.rint(chance.normal(50, 10, (400, 1)))
    values[100:104] = 51.0  # the longest run so far is four
    values[300:] = 48.0
    values[299] = 49.0
    memory = DetectionMemory.empty(1, 1)
    found = np.flatnonzero(scores(values, memory)[:, 0] >= 0.5)
    assert 307 in found  # the eighth
    alarm = memory.last_alarm(0, 0)
    assert alarm["view"] == View.STUCK
    assert alarm["run"] >= 8


def test_what_was_not_said_changes_nothing() -> None:
    values = quiet(200, 3)
    memory = DetectionMemory.empty(1, 3)
    scores(values, memory)
    before = memory.levels.copy(), memory.scales.copy(), memory.course.copy()
    assert np.isnan(told(memory, 200, np.full(3, NAN), values[-1])).all()
    mixed = told(memory, 201, np.array([NAN, 50.0, NAN]), values[-1])
    assert np.isnan(mixed).tolist() == [True, False, True]
    for part, was in zip((memory.levels, memory.scales, memory.course), before, strict=True):
        np.testing.assert_array_equal(part[..., [0, 2]], was[..., [0, 2]])
        assert not np.array_equal(part[..., 1], was[..., 1], equal_nan=True)


wild = st.one_of(
    st.floats(allow_nan=True, allow_infinity=False),
    st.sampled_from([0.0, 1.0, 1.0, 1.0, -1e300, 1e300, 5e-324, NAN]),
)


@UNHURRIED
@given(st.lists(wild, min_size=1, max_size=90), st.integers(0, 60))
def test_any_number_gets_a_score_and_leaves_neighbours_alone(values: list[float], run_in: int) -> None:
    """Scores lie in [0, 1]; a wild twin's neighbour scores what it does alone; the future changes no score."""
    series = np.array([1.0 + n % 3 for n in range(run_in)] + values)
    calm = quiet(len(series))[:, 0]
    both, alone = DetectionMemory.empty(1, 2), DetectionMemory.empty(1, 1)
    for hour, (value, other) in enumerate(zip(series, calm, strict=True)):
        with np.errstate(over="ignore", invalid="ignore"):
            pair = told(both, hour, np.array([value, other]), np.array([series[hour - 1], calm[hour - 1]]))
        single = told(alone, hour, np.array([other]), np.array([calm[hour - 1]]))
        assert pair[1] == single[0]
        assert np.isnan(pair[0]) if np.isnan(value) else 0 <= pair[0] <= 1
    for name in ("levels", "scales", "course", "alarm", "alarm_at_s"):
        np.testing.assert_array_equal(getattr(both, name)[..., 1:], getattr(alone, name))


@settings(deadline=None, max_examples=15)
@given(st.integers(60, 140), st.integers(0, 5), st.floats(0.001, 1000))
def test_the_future_changes_no_score_and_the_unit_hardly_any(cut: int, seed: int, unit: float) -> None:
    values = quiet(150, 2, seed)
    values[100] *= 3
    whole = scores(values)
    np.testing.assert_array_equal(scores(values[:cut]), whole[:cut])
    memory = DetectionMemory.empty(1, 2)
    for hour, value in enumerate(values):
        before = unit * values[hour - 1 if hour else 0]
        again = detect(
            memory,
            np.arange(2),
            np.full(2, MONDAY_S + HOUR_S * hour),
            unit * value[None],
            (unit * value - before)[None],
            np.full((1, 2), unit**2),
            np.zeros((1, 1), np.bool_),
        )[0]
        np.testing.assert_allclose(again, whole[hour], atol=1e-4)


def test_the_order_of_twins_in_a_batch_does_not_matter() -> None:
    values = quiet(120, 4)
    together, apart = DetectionMemory.empty(1, 4), DetectionMemory.empty(1, 4)
    for hour in range(120):
        before = values[hour - 1] if hour else values[0]
        one = told(together, hour, values[hour], before)
        # all in order work on the memory in place, others on a copy of it
        turned = told(apart, hour, values[hour, [2, 0]], before[[2, 0]], [2, 0])
        rest = told(apart, hour, values[hour, [3, 1]], before[[3, 1]], [3, 1])
        np.testing.assert_array_equal(one[[2, 0, 3, 1]], np.r_[turned, rest])


def test_a_running_total_is_judged_by_what_its_model_did_not_expect() -> None:
    memory = DetectionMemory.empty(1, 1)
    total, found = 0.0, []
    chance = np.random.default_rng(1)
    for hour in range(600):
        step = 500.0 if hour == 550 else float(chance.poisson(10))
        total += step
        found.append(
            detect(
                memory,
                np.zeros(1, np.intp),
                np.array([MONDAY_S + HOUR_S * hour]),
                np.array([[total]]),
                np.array([[step - 10.0]]),
                np.ones((1, 1)),
                np.ones((1, 1), np.bool_),
            )[0, 0]
        )
    assert found[550] >= 0.5
    assert (np.array(found[200:550]) >= 0.5).sum() <= 1


def test_what_cleaning_has_found_scores_one() -> None:
    memory = DetectionMemory.empty(2, 3)
    verdict = np.full((2, 3), Quality.GOOD, np.uint8)
    verdict[0, 1], verdict[1, 2] = Quality.OUT_OF_RANGE, Quality.STUCK
    found = flag(memory, np.array([2, 0, 1]), np.array([1.0, 2.0, 3.0]), np.full((2, 3), 7.0), verdict)
    np.testing.assert_array_equal(found, [[False, True, False], [False, False, True]])
    assert memory.last_alarm(0, 0)["view"] == View.RANGE
    assert memory.last_alarm(1, 1)["view"] == View.STUCK_DECLARED
    assert np.isnan(memory.last_alarm(0, 2)["at_s"])


ALARM = {
    "at_s": 7200.0, "score": 0.9, "value": 130.0, "before": 50.0, "before_at_s": 3600.0, "short": 58.0, "long": 40.0,
    "usual": 45.0, "expected": 52.0, "statistic": 1.25, "run": 9.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("view", "changed", "words"),
    [
        (View.SHIFT, {}, "level_m rose by 80 to 130 m within 60 minutes; its last readings are about 58 m where 40 is "
         "usual, the largest shift so far by 25 %"),
        (View.RATIO, {"statistic": 12.0}, "level_m rose by 80 to 130 m within 60 minutes; its last readings are about "
         "58 m where 40 is usual, in proportion the largest shift so far (12 times the largest before)"),
        (View.SEASON, {"statistic": 4.0}, "level_m rose by 80 to 130 m within 60 minutes; at this hour 45 m is usual "
         "(so far off about once in 1.1e+03 readings)"),
        (View.MODEL, {"before": 150.0, "before_at_s": 7195.0, "statistic": 20.0}, "level_m fell by 20 to 130 m within "
         "5 seconds; its model expected 52 m (never so far off before)"),
        (View.STUCK, {}, "level_m has said 130 m 9 times in a row, twice as often as ever before"),
        (View.RANGE, {}, "level_m said 130 m, which is outside its range"),
        (View.RATE, {}, "level_m said 130 m after 50 m within 60 minutes, faster than it can change"),
        (View.STUCK_DECLARED, {}, "level_m has said 130 m for longer than it can stay the same"),
    ],
)  # fmt: skip
def test_reasons_in_words(view: View, changed: dict[str, float], words: str) -> None:
    assert reason("level_m", "m", {**ALARM, **changed, "view": float(view)}) == words
