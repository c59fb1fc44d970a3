"""Clock hours and usual courses of a reading, with means worked by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.streams import NAN, UNHURRIED, column, tanks, told
from tests.unit.core.toy import PIPE, TankReading, TankState, tank
from twin_actors.core.columns import Column, Windows, hourly, profile
from twin_actors.core.windows import PROFILE_MEMORY, WindowTable

HOUR_S = 3600.0
NOON_S = 495_000 * HOUR_S  # a full hour
DAY_S = 86_400.0


class Kept(Windows):
    level_hourly_m: Column = hourly("m", of="level_m", keep=3)
    inflow_hourly_m3s: Column = hourly("m3/s", PIPE, of="inflow_m3s", keep=2)


class Usual(Windows):
    level_usual_m: Column = profile("m", of="level_m", period="day", bins=24)


KEPT = tank(windows=Kept)
USUAL = tank(windows=Usual)


def tell(
    table: WindowTable,
    at_s: float,
    level: float = NAN,
    inflow: Sequence[float] = (NAN, NAN, NAN),
    twin: int = 0,
) -> None:
    values = column(level, *inflow, NAN)[:, None]
    table.record(values, ~np.isnan(values), column(at_s), np.array([twin]))


def hours(table: WindowTable, now_s: float, twin: int = 0) -> Kept:
    shown: Kept = table.at(np.full(table.hour.shape[1], now_s))
    return Kept.of_fields({name: getattr(shown, name)[..., twin : twin + 1] for name in Kept.layout.fields})


def level_hours(table: WindowTable, now_s: float, twin: int = 0) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), 9) for v in hours(table, now_s, twin).level_hourly_m[:, 0]]


def test_an_hour_is_the_mean_of_what_was_said_in_it() -> None:
    table = WindowTable(KEPT, 1)
    for minute, level in ((0, 1.0), (10, 2.0), (59, 6.0)):
        tell(table, NOON_S + 60 * minute, level)
    assert level_hours(table, NOON_S + 3599) == [3.0, None, None]  # (1 + 2 + 6)/3


def test_hours_pass_and_the_oldest_is_forgotten() -> None:
    table = WindowTable(KEPT, 1)
    tell(table, NOON_S, 1.0)
    tell(table, NOON_S + HOUR_S, 2.0)
    tell(table, NOON_S + HOUR_S + 60, 4.0)
    assert level_hours(table, NOON_S + HOUR_S + 60) == [3.0, 1.0, None]
    tell(table, NOON_S + 3 * HOUR_S, 7.0)  # nothing was said in the hour before
    assert level_hours(table, NOON_S + 3 * HOUR_S) == [7.0, None, 3.0]


def test_hours_pass_while_nothing_is_said() -> None:
    table = WindowTable(KEPT, 1)
    tell(table, NOON_S, 1.0)
    assert level_hours(table, NOON_S + 2 * HOUR_S) == [None, None, 1.0]
    assert level_hours(table, NOON_S + 3 * HOUR_S) == [None, None, None]
    assert level_hours(table, NOON_S) == [1.0, None, None]  # being asked writes nothing
    tell(table, NOON_S + 600 * HOUR_S, 5.0)
    assert level_hours(table, NOON_S + 600 * HOUR_S) == [5.0, None, None]


def test_the_first_second_of_an_hour_belongs_to_it() -> None:
    table = WindowTable(KEPT, 1)
    tell(table, NOON_S - 1e-3, 1.0)
    tell(table, NOON_S, 5.0)
    assert level_hours(table, NOON_S) == [5.0, 1.0, None]


def test_an_older_reading_goes_into_its_own_hour() -> None:
    table = WindowTable(KEPT, 1)
    tell(table, NOON_S, 1.0)
    tell(table, NOON_S + 2 * HOUR_S, 5.0)
    tell(table, NOON_S + 60, 3.0)  # into the hour of 1.0
    tell(table, NOON_S + HOUR_S, 8.0)  # into an hour that had none
    tell(table, NOON_S - HOUR_S, 9.0)  # into an hour that is no longer kept
    assert level_hours(table, NOON_S + 2 * HOUR_S) == [5.0, 8.0, 2.0]


def test_components_have_hours_of_their_own() -> None:
    table = WindowTable(KEPT, 1)
    tell(table, NOON_S, inflow=(1, NAN, 3))
    tell(table, NOON_S + HOUR_S, inflow=(2, 4, NAN))
    shown = hours(table, NOON_S + HOUR_S)
    np.testing.assert_array_equal(shown.inflow_hourly_m3s[0, :, 0], [2, 4, NAN])
    np.testing.assert_array_equal(shown.inflow_hourly_m3s[1, :, 0], [1, NAN, 3])
    assert level_hours(table, NOON_S + HOUR_S) == [None, None, None]


def test_twins_have_hours_of_their_own() -> None:
    table = WindowTable(KEPT, 2)
    tell(table, NOON_S, 1.0, twin=0)
    tell(table, NOON_S + HOUR_S, 2.0, twin=1)
    assert level_hours(table, NOON_S + HOUR_S, twin=0) == [None, 1.0, None]
    assert level_hours(table, NOON_S + HOUR_S, twin=1) == [2.0, None, None]


def test_what_cannot_be_used_is_in_no_mean() -> None:
    table = WindowTable(KEPT, 1)
    values = column(9.0, NAN, NAN, NAN, NAN)[:, None]
    table.record(values, np.zeros((5, 1), np.bool_), column(NOON_S), np.array([0]))
    assert level_hours(table, NOON_S) == [None, None, None]


@UNHURRIED
@given(st.lists(st.tuples(st.integers(0, 6 * 3600), st.floats(-10, 10)), min_size=1, max_size=40))
def test_the_hours_are_the_means_whatever_the_order(said: list[tuple[int, float]]) -> None:
    """No reading that is kept at the end depends on the order of arrival, as long as its hour was still kept."""
    table = WindowTable(KEPT, 1)
    kept: dict[int, list[float]] = {}
    latest = -1
    for after_s, level in said:
        hour = after_s // 3600
        latest = max(latest, hour)
        if hour > latest - 3:
            kept.setdefault(hour, []).append(level)
        tell(table, NOON_S + after_s, level)
    shown = hours(table, NOON_S + latest * HOUR_S).level_hourly_m[:, 0]
    for slot in range(3):
        levels = kept.get(latest - slot)
        if levels is None:
            assert np.isnan(shown[slot])
        else:
            assert shown[slot] == pytest.approx(np.mean(levels), rel=1e-9, abs=1e-9)


def test_a_profile_learns_each_bin_of_its_period() -> None:
    table = WindowTable(USUAL, 1)
    midnight_s = 20_000 * DAY_S
    for day, level in enumerate((1.0, 2.0, 6.0)):
        tell(table, midnight_s + day * DAY_S + 7.5 * HOUR_S, level)
    tell(table, midnight_s + 8 * HOUR_S, 4.0)
    usual = table.at(column(midnight_s)).level_usual_m[:, 0]
    assert usual[7] == pytest.approx(3.0)  # (1 + 2 + 6)/3
    assert usual[8] == 4.0
    assert np.isnan(np.delete(usual, [7, 8])).all()


def test_a_profile_forgets_slowly() -> None:
    table = WindowTable(USUAL, 1)
    for _ in range(20):
        tell(table, NOON_S, 0.0)
    tell(table, NOON_S, 8.0)
    usual = table.at(column(NOON_S)).level_usual_m
    assert np.nanmax(usual) == 8.0 / PROFILE_MEMORY  # the newest always weighs an eighth


def test_a_kind_without_windows_has_none() -> None:
    table = WindowTable(tank(windows=Windows), 3)
    assert table.empty
    assert isinstance(table.at(np.zeros(3)), Windows)
    assert not WindowTable(KEPT, 1).empty


def test_a_twin_shows_its_hours() -> None:
    table = tanks()
    for after_s, level in ((0, 2.0), (1800, 3.0), (3600, 3.5)):
        table.apply(told(NOON_S + after_s, level=level))
    shown = table.windows.at(np.array([NOON_S + 3600])).level_hourly_m[:, 0]
    np.testing.assert_array_equal(shown, [3.5, 2.5, NAN, NAN])
    assert TankReading.layout.rows == 5
    assert TankState.layout.rows == 6


def test_what_a_twin_shows_cannot_be_written_to_by_a_model() -> None:
    table = WindowTable(USUAL, 1)
    tell(table, NOON_S, 3.0)
    with pytest.raises(ValueError, match="read-only"):
        table.at(column(NOON_S)).level_usual_m[0] = 1.0
    hours_now = WindowTable(KEPT, 1)
    tell(hours_now, NOON_S, 3.0)
    hours_now.at(column(NOON_S)).level_hourly_m[0] = 1.0  # a copy
    assert level_hours(hours_now, NOON_S) == [3.0, None, None]
