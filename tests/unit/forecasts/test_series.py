"""Grids from readings at any times, gaps that stay or are held, and days that are alike."""

from __future__ import annotations

import numpy as np
import pytest

from twin_actors.core.forecasts.series import Series, alike_rows, held, held_by_season, resample

NAN = np.nan


def test_readings_become_means_of_periods() -> None:
    series = resample(
        np.array([100.0, 60.0, 61.0, 119.0, 121.0, 180.0]),
        np.array([0, 0, 0, 0, 1, 1]),
        np.array([4.0, 1.0, 2.0, 6.0, 9.0, 11.0]),
        entities=2,
        period_s=60.0,
        until_s=180.0,
        rows=3,
    )
    # rows end at 60, 120 and 180 s; a reading at the end of a period belongs to it
    np.testing.assert_array_equal(series.values, [[1.0, NAN], [4.0, NAN], [NAN, 10.0]])


def test_what_is_later_or_older_than_the_grid_is_left_out() -> None:
    series = resample(
        np.array([-500.0, 200.0, 170.0, 175.0]), np.zeros(4, np.intp), np.array([1.0, 2.0, NAN, 5.0]),
        entities=1, period_s=60.0, until_s=180.0, rows=1,
    )  # fmt: skip
    np.testing.assert_array_equal(series.values, [[5.0]])


def test_gaps_are_held_with_the_last_value_or_that_of_the_season() -> None:
    values = np.array([[NAN], [1.0], [2.0], [NAN], [NAN], [5.0]])
    np.testing.assert_array_equal(held(values)[:, 0], [NAN, 1, 2, 2, 2, 5])
    np.testing.assert_array_equal(held_by_season(values, 3)[:, 0], [NAN, 1, 2, NAN, 1, 5])
    np.testing.assert_array_equal(held_by_season(values, 4)[:, 0], [NAN, 1, 2, NAN, NAN, 5])


def test_like_days_are_weeks_apart_and_known_at_the_origin() -> None:
    series = Series(values=np.zeros((15 * 4, 1)), period_s=21_600.0)  # four rows a day
    rows = alike_rows(series, 1, 2)
    assert rows[57].tolist() == [57 - 28, 57 - 56]
    assert rows[30].tolist() == [2, -1]
    assert alike_rows(series, 29, 1)[57].tolist() == [57 - 56], "a week before is not known 29 rows ahead"


def test_a_holiday_is_like_the_last_sunday() -> None:
    classes = np.arange(15) % 7
    classes[9] = 6  # the tenth day is a holiday; the days 6 and 13 are Sundays
    series = Series(values=np.zeros((14, 1)), period_s=86_400.0, day_class=classes)
    assert alike_rows(series, 1, 1)[9].tolist() == [6]
    assert alike_rows(series, 1, 2)[13].tolist() == [9, 6], "and later Sundays look at the holiday"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": np.zeros(3)}, "rows, entities"),
        ({"period_s": 0.0}, "above 0"),
        ({"values": np.array([[np.inf]])}, "never inf"),
        ({"extras": {"wind": np.zeros((2, 1))}}, "'wind' has shape"),
        ({"day_class": np.zeros(2, np.int64)}, "day_class has 2 rows"),
    ],
)
def test_what_is_no_series_is_refused(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Series(**{"values": np.zeros((3, 1)), "period_s": 60.0, **change})


def test_horizons_are_whole_periods() -> None:
    series = Series(values=np.zeros((3, 1)), period_s=300.0)
    assert series.steps((900.0, 3600.0)) == (3, 12)
    with pytest.raises(ValueError, match="no multiple"):
        series.steps((400.0,))
    with pytest.raises(ValueError, match="does not divide a day"):
        alike_rows(Series(values=np.zeros((3, 1)), period_s=7000.0), 1, 1)
