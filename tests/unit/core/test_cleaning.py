"""Cleaning: what is kept of a reading, what it is turned into, and the one fate that it gets."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.streams import NAN, UNHURRIED, column
from tests.unit.core.toy import TankReading
from twin_actors.core.cleaning import (
    NO_KEY,
    REMEMBERED,
    Cleaned,
    CleaningMemory,
    CleaningRules,
    Fate,
    Quality,
    clean,
    level,
    normalise,
    smooth,
)
from twin_actors.core.columns import MOST_COUNTED, Axis, Column, Reading, reading, running_total


class Meter(Reading):
    speed: Column = reading("m/s", minimum=0, maximum=100, sd=1, max_rate=2, stuck_after_s=60)
    count: Column = reading("1", minimum=0, maximum=10, sd=1, integer=True)
    share: Column = reading("%", minimum=20, maximum=120, sd=1, normalise=True)
    soft: Column = reading("m", sd=1, smooth=0.25)
    energy: Column = running_total("kWh", of="energy")
    stock: Column = running_total("kWh", of="stock", resets="never")


FIELDS = tuple(Meter.layout.fields)


class OneMeter:
    """A single meter that is told one reading after the other."""

    def __init__(self) -> None:
        self.rules = CleaningRules.of(Meter)
        self.memory = CleaningMemory.empty(len(FIELDS), 1)

    def tell(self, at_s: float, *, key: int = NO_KEY, **said: float) -> Cleaned:
        values = column(*(said.get(name, NAN) for name in FIELDS))[:, None]
        cleaned = clean(self.rules, self.memory, values, column(at_s), np.array([key], np.int64))
        self.memory.keep(np.array([0]), cleaned, np.array([key], np.int64))
        return cleaned

    def value(self, at_s: float, *, key: int = NO_KEY, **said: float) -> float:
        """The converted value of the only field said; NaN when it is kept from the estimate."""
        (name,) = said
        return float(self.tell(at_s, key=key, **said).values[FIELDS.index(name), 0])


def verdict(cleaned: Cleaned, name: str) -> tuple[Quality, Fate]:
    return Quality(cleaned.verdict[FIELDS.index(name), 0]), Fate(cleaned.fate[0])


# -- judging -----------------------------------------------------------------------------------------------------


def test_a_good_value_is_used_as_it_is() -> None:
    cleaned = OneMeter().tell(0, speed=30)
    assert verdict(cleaned, "speed") == (Quality.GOOD, Fate.APPLIED)
    assert cleaned.values[0, 0] == 30
    assert cleaned.usable[:, 0].tolist() == [True, *[False] * 5]
    assert np.isnan(cleaned.values[1:]).all()
    assert cleaned.verdict[1:, 0].tolist() == [Quality.UNSAID] * 5


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_the_limits_belong_to_the_range(value: float) -> None:
    assert OneMeter().value(0, speed=value) == value


@pytest.mark.parametrize("value", [-0.01, 100.01])
def test_a_value_out_of_range_is_rejected_and_not_remembered(value: float) -> None:
    meter = OneMeter()
    cleaned = meter.tell(10, speed=value)
    assert verdict(cleaned, "speed") == (Quality.OUT_OF_RANGE, Fate.REJECTED)
    assert np.isnan(cleaned.values).all()
    assert np.isnan(meter.memory.value[0, 0])
    assert meter.memory.at_s[0, 0] == -np.inf
    assert verdict(meter.tell(5, speed=30), "speed") == (Quality.GOOD, Fate.APPLIED)  # 10 s was not taken


def test_a_value_that_changes_too_fast_is_rejected_until_time_enough_has_passed() -> None:
    meter = OneMeter()
    meter.tell(0, speed=10)
    # 2 m/s per second: 21 m/s more are impossible within 10 s and just possible within 10.5 s
    assert verdict(meter.tell(10, speed=31), "speed") == (Quality.RATE, Fate.REJECTED)
    assert verdict(meter.tell(10.5, speed=31), "speed") == (Quality.GOOD, Fate.APPLIED)


def test_the_rate_counts_downwards_as_well() -> None:
    meter = OneMeter()
    meter.tell(0, speed=90)
    assert verdict(meter.tell(10, speed=69), "speed")[0] is Quality.RATE
    assert verdict(meter.tell(10, speed=70), "speed")[0] is Quality.GOOD


def test_a_total_beyond_what_counts_one_by_one_is_refused_and_spoils_nothing() -> None:
    meter = OneMeter()
    meter.tell(0, energy=5)
    assert verdict(meter.tell(10, energy=1e308), "energy") == (Quality.OUT_OF_RANGE, Fate.REJECTED)
    meter.tell(20, energy=2)  # the counter restarts
    assert meter.value(30, energy=3) == 8


def test_a_stuck_value_is_applied_but_kept_from_the_estimate() -> None:
    meter = OneMeter()
    assert meter.value(0, speed=30) == 30
    assert meter.value(59, speed=30) == 30
    stuck = meter.tell(60, speed=30)  # unchanged for stuck_after_s = 60 s
    assert verdict(stuck, "speed") == (Quality.STUCK, Fate.APPLIED)
    assert np.isnan(stuck.values[0, 0])
    assert stuck.accepted[0, 0]
    assert not stuck.usable[0, 0]
    assert meter.value(70, speed=31) == 31  # it moves: it is trusted at once, and from then on
    assert meter.value(129, speed=31) == 31


def test_a_value_older_than_the_last_of_its_field_is_late() -> None:
    meter = OneMeter()
    meter.tell(100, speed=30)
    assert verdict(meter.tell(99, speed=31), "speed") == (Quality.LATE, Fate.LATE)
    assert meter.memory.value[0, 0] == 30
    assert verdict(meter.tell(100, speed=31), "speed") == (Quality.GOOD, Fate.APPLIED)  # same time: not late


def test_late_is_judged_per_field() -> None:
    meter = OneMeter()
    meter.tell(100, speed=30)
    cleaned = meter.tell(50, speed=31, count=4)
    assert verdict(cleaned, "speed") == (Quality.LATE, Fate.APPLIED)
    assert verdict(cleaned, "count") == (Quality.GOOD, Fate.APPLIED)
    assert cleaned.values[:2, 0].tolist()[1] == 4
    assert np.isnan(cleaned.values[0, 0])


def test_a_reading_is_applied_when_any_of_its_fields_is() -> None:
    cleaned = OneMeter().tell(0, speed=500, count=3)
    assert verdict(cleaned, "speed") == (Quality.OUT_OF_RANGE, Fate.APPLIED)
    assert verdict(cleaned, "count") == (Quality.GOOD, Fate.APPLIED)


def test_a_reading_with_rejected_and_late_fields_is_rejected() -> None:
    meter = OneMeter()
    meter.tell(100, speed=30)
    assert meter.tell(50, speed=31, count=99).fate[0] == Fate.REJECTED


def test_the_quality_of_a_field_is_remembered_until_it_speaks_again() -> None:
    meter = OneMeter()
    meter.tell(0, speed=500)
    assert meter.memory.quality[0, 0] == Quality.OUT_OF_RANGE
    meter.tell(1, count=3)
    assert meter.memory.quality[0, 0] == Quality.OUT_OF_RANGE
    meter.tell(2, speed=50)
    assert meter.memory.quality[0, 0] == Quality.GOOD


# -- redelivery --------------------------------------------------------------------------------------------------


def test_a_redelivered_reading_is_a_duplicate_whatever_it_says_now() -> None:
    meter = OneMeter()
    meter.tell(0, key=7, speed=30)
    for value in (30, 31):
        assert verdict(meter.tell(0, key=7, speed=value), "speed") == (Quality.DUPLICATE, Fate.DUPLICATE)
    assert meter.memory.value[0, 0] == 30


def test_a_reading_that_comes_in_parts_is_no_duplicate() -> None:
    meter = OneMeter()
    meter.tell(0, key=7, speed=30)
    assert verdict(meter.tell(0, key=7, count=4), "count") == (Quality.GOOD, Fate.APPLIED)
    both = meter.tell(0, key=7, speed=30, count=4)
    assert (verdict(both, "speed")[0], verdict(both, "count")) == (
        Quality.DUPLICATE,
        (Quality.DUPLICATE, Fate.DUPLICATE),
    )
    third = meter.tell(0, key=7, speed=30, soft=1)  # one part is new: the reading is applied
    assert verdict(third, "speed") == (Quality.DUPLICATE, Fate.APPLIED)


def test_a_redelivered_rejection_is_a_duplicate() -> None:
    meter = OneMeter()
    assert meter.tell(0, key=7, speed=500).fate[0] == Fate.REJECTED
    assert meter.tell(0, key=7, speed=500).fate[0] == Fate.DUPLICATE


def test_readings_without_identity_are_applied_each_time() -> None:
    meter = OneMeter()
    assert [int(meter.tell(0, speed=30).fate[0]) for _ in range(3)] == [Fate.APPLIED] * 3


def test_identities_are_remembered_for_sixteen_readings() -> None:
    meter = OneMeter()
    for key in range(REMEMBERED):
        meter.tell(key, key=key, count=1)
    assert meter.tell(0, key=0, count=1).fate[0] == Fate.DUPLICATE
    meter.tell(REMEMBERED, key=REMEMBERED, count=1)  # takes the place of identity 0
    assert meter.tell(1, key=1, count=1).fate[0] == Fate.DUPLICATE
    assert meter.tell(0, key=0, count=1).fate[0] == Fate.LATE


def test_more_than_64_rows_are_remembered_by_field() -> None:
    class Wide(Reading):
        first: Column = reading("1", Axis("many", tuple(map(str, range(70)))), sd=1)
        second: Column = reading("1", sd=1)

    rules = CleaningRules.of(Wide)
    assert set(rules.bit[:70, 0].tolist()) == {1}
    assert rules.bit[70, 0] == 2


# -- converting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "kept"), [(3.4, 3), (3.6, 4), (2.5, 2), (10.4, 10), (-0.4, 0)])
def test_counts_are_rounded_before_they_are_judged(said: float, kept: float) -> None:
    assert OneMeter().value(0, count=said) == kept  # 2.5 goes to the even neighbour, as IEEE 754 rounds


def test_a_running_total_goes_on_where_it_was_when_its_counter_restarts() -> None:
    meter = OneMeter()
    # 10, 15; restart at 3: 15 + 3; 4: 15 + 4; restart at 2: 15 + 4 + 2
    assert [meter.value(t, energy=total) for t, total in enumerate([10, 15, 3, 4, 2])] == [10, 15, 18, 19, 21]
    assert meter.memory.offset[FIELDS.index("energy"), 0] == 19


def test_a_total_that_never_resets_may_fall() -> None:
    meter = OneMeter()
    assert [meter.value(t, stock=total) for t, total in enumerate([10, 15, 3])] == [10, 15, 3]


def test_a_late_or_rejected_total_is_no_restart() -> None:
    meter = OneMeter()
    meter.tell(10, energy=50)
    meter.tell(5, energy=20)  # late
    meter.tell(20, energy=-1)  # out of range
    assert meter.value(30, energy=60) == 60


@UNHURRIED
@given(st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=6), min_size=1, max_size=5))
def test_levels_conserve_the_counts_of_all_lives_of_a_counter(lives: list[list[int]]) -> None:
    """Every life starts at 0, which is below any earlier total, and adds its own increments."""
    meter, counted, now_s = OneMeter(), 0, 0
    for increments in lives:
        for total, increment in zip(np.cumsum([0, *increments]), [0, *increments], strict=True):
            counted += increment
            assert meter.value(now_s, energy=float(total)) == counted
            now_s += 1


def test_level_by_hand() -> None:
    resets = np.array([True, True, False])
    raised, offset = level(column(5, 3, 3), column(4, 4, 4), column(10, 10, 10), resets)
    assert raised.tolist() == [15, 17, 13]  # the second restarted after 10 + 4
    assert offset.tolist() == [10, 14, 10]


def test_level_of_a_first_total_is_the_total() -> None:
    raised, offset = level(column(5), column(NAN), column(0), np.array([True]))
    assert (raised.tolist(), offset.tolist()) == ([5], [0])


def test_a_normalised_value_lies_between_its_limits() -> None:
    assert [OneMeter().value(0, share=share) for share in (20, 45, 120)] == [0, 0.25, 1]


@UNHURRIED
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1))
def test_normalisation_goes_there_and_back(low: float, width: float, part: float) -> None:
    value = low + part * width
    scaled = normalise(column(value), column(low), column(low + width))
    assert -1e-9 <= scaled[0] <= 1 + 1e-9
    assert low + scaled[0] * ((low + width) - low) == pytest.approx(value, rel=1e-9, abs=1e-9 * width)


def test_the_exponential_filter_by_hand() -> None:
    meter = OneMeter()
    # α = 1/4: 8; 4/4 + 3/4·8 = 7; 0/4 + 3/4·7 = 5.25; 21/4 + 3/4·5.25 = 9.1875
    assert [meter.value(t, soft=x) for t, x in enumerate([8, 4, 0, 21])] == [8, 7, 5.25, 9.1875]


def test_a_stuck_value_leaves_the_exponential_filter_alone() -> None:
    class Soft(Reading):
        depth: Column = reading("m", sd=1, smooth=0.5, stuck_after_s=60)

    rules, memory, got = CleaningRules.of(Soft), CleaningMemory.empty(1, 1), []
    for at_s, value in ((0, 8), (10, 4), (40, 4), (70, 4), (80, 6)):
        cleaned = clean(rules, memory, column(value)[:, None], column(at_s), np.array([NO_KEY]))
        memory.keep(np.array([0]), cleaned, np.array([NO_KEY]))
        got.append(float(cleaned.values[0, 0]))
    # α = 1/2: 8, 6, 5; at 70 s stuck for a minute; then (6 + 5)/2
    np.testing.assert_array_equal(got, [8, 6, 5, NAN, 5.5])


def test_smooth_passes_the_first_value() -> None:
    got = smooth(column(8, 8), column(NAN, 4), column(0.5, 0.5))
    assert got.tolist() == [8, 6]


@UNHURRIED
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.floats(0.01, 1))
def test_smoothed_values_stay_within_what_was_said(said: list[float], alpha: float) -> None:
    before = column(NAN)
    for value in said:
        before = smooth(column(value), before, column(alpha))
    assert min(said) - 1e-9 <= before[0] <= max(said) + 1e-9


def test_a_record_without_conversions_passes_through_its_values() -> None:
    class Plain(Reading):
        a: Column = reading("m", sd=1)

    assert not CleaningRules.of(Plain).converts
    assert CleaningRules.of(Meter).converts


# -- properties --------------------------------------------------------------------------------------------------


readings = st.tuples(
    st.integers(0, 3),  # twin
    st.integers(0, 120),  # device time
    st.sampled_from([NO_KEY, 1, 2, 3]),
    st.tuples(*[st.sampled_from([NAN, -5.0, 0.0, 1.4, 30.0, 50.0, 130.0])] * len(FIELDS)),
)


@UNHURRIED
@given(st.lists(readings, min_size=1, max_size=40))
def test_every_reading_has_exactly_one_fate_and_twins_do_not_meet(
    stream: list[tuple[int, int, int, tuple[float, ...]]],
) -> None:
    """Twins cleaned side by side and each by itself: the same fates, values and memory; the fates add up."""
    rules = CleaningRules.of(Meter)
    together = CleaningMemory.empty(len(FIELDS), 4)
    alone = [CleaningMemory.empty(len(FIELDS), 1) for _ in range(4)]
    fates = np.zeros(len(Fate), int)
    for twin, at_s, key, said in stream:
        twins, keys = np.array([twin], np.intp), np.array([key], np.int64)
        values, times = column(*said)[:, None], column(at_s)
        one = clean(rules, together.gather(twins), values, times, keys)
        together.keep(twins, one, keys)
        other = clean(rules, alone[twin], values, times, keys)
        alone[twin].keep(np.array([0]), other, keys)
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.fate, other.fate)
        fates[one.fate[0]] += 1
        # A value is usable only where it was said and accepted, and only then it is handed on.
        assert not (one.usable & (~one.accepted | np.isnan(values))).any()
        np.testing.assert_array_equal(~np.isnan(one.values), one.usable)
        assert (one.verdict[np.isnan(values)] == Quality.UNSAID).all()
        assert (one.verdict[~np.isnan(values)] != Quality.UNSAID).all()
    assert fates.sum() == len(stream)
    for twin, memory in enumerate(alone):
        for field in fields(memory):
            np.testing.assert_array_equal(
                getattr(together, field.name)[:, twin], getattr(memory, field.name)[:, 0], err_msg=field.name
            )


class Judge:
    """The rules for one field, told one value after the other in plain Python."""

    def __init__(self) -> None:
        self.value: float | None = None
        self.at_s = self.changed_at_s = -np.inf
        self.keys: list[int] = []

    def tell(self, at_s: float, key: int, value: float) -> tuple[Fate, Quality]:
        if key != NO_KEY:
            if key in self.keys:
                return Fate.DUPLICATE, Quality.DUPLICATE
            self.keys = [*self.keys, key][-REMEMBERED:]
        if at_s < self.at_s:
            return Fate.LATE, Quality.LATE
        if not 0 <= value <= 100:
            return Fate.REJECTED, Quality.OUT_OF_RANGE
        if self.value is not None and at_s > self.at_s and abs(value - self.value) > 2 * (at_s - self.at_s):
            return Fate.REJECTED, Quality.RATE
        if value != self.value:
            self.changed_at_s = at_s
        self.value, self.at_s = value, at_s
        return Fate.APPLIED, Quality.STUCK if at_s - self.changed_at_s >= 60 else Quality.GOOD


@UNHURRIED
@given(
    st.lists(
        st.tuples(
            st.integers(0, 200),
            st.sampled_from([NO_KEY, *range(20)]),
            st.sampled_from([-1.0, 0.0, 10.0, 30.0, 100.0, 101.0]),
        ),
        max_size=60,
    )
)
def test_the_columns_judge_as_plain_python_does(stream: list[tuple[int, int, float]]) -> None:
    meter, judge = OneMeter(), Judge()
    for at_s, key, value in stream:
        fate, quality = judge.tell(at_s, key, value)
        assert verdict(meter.tell(at_s, key=key, speed=value), "speed") == (quality, fate)


def test_rules_hold_one_number_per_row() -> None:
    rules = CleaningRules.of(TankReading)
    np.testing.assert_array_equal(rules.maximum[:, 0], [10, 5, 5, 5, MOST_COUNTED])
    np.testing.assert_array_equal(rules.max_rate[:, 0], [1, *[np.inf] * 4])
    np.testing.assert_array_equal(rules.total[:, 0], [False] * 4 + [True])
    np.testing.assert_array_equal(rules.resets[:, 0], [False] * 4 + [True])
    assert rules.bit[:, 0].tolist() == [1, 2, 4, 8, 16]
