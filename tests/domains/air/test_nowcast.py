"""NowCast against values of EPA's own sensortoolkit (MIT, ``nowcast_pm25``), oldest hour first as published there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.air.nowcast import mean_of_hours, nowcast

NAN = float("nan")
VECTORS = [
    ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 71], 35.508669),
    ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 71, 0], 17.754335),
    ([10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21], 20.00293),
    ([13, 16, 10, 21, 74, 64, 53, 82, 90, 75, 80, 50], 64.257143),
    ([30, NAN, 28, 25, NAN, 22, 20, 24, 26, NAN, 27, 29], 26.891312),
    ([30, 30, 30, 30, 30, 30, 30, 30, 30, 31, NAN, NAN], NAN),
]


@pytest.mark.parametrize(("oldest_first", "expected"), VECTORS)
def test_published_vectors(oldest_first: list[float], expected: float) -> None:
    hours = np.array(oldest_first, dtype=np.float64)[::-1, None]
    np.testing.assert_allclose(nowcast(hours), [expected], atol=5e-7)


def test_entities_and_samples_do_not_mix() -> None:
    each = np.array([vector for vector, _ in VECTORS]).T[::-1]  # (12, 6)
    expected = [value for _, value in VECTORS]
    lifted = np.repeat(each[:, None, :], 3, axis=1)
    np.testing.assert_allclose(nowcast(lifted), np.tile(expected, (3, 1)), atol=5e-7)


def test_clean_air_has_no_division_by_zero() -> None:
    assert nowcast(np.zeros((12, 1)))[0] == 0.0


@pytest.mark.parametrize(
    ("newest_three", "known"),
    [
        ((5.0, 5.0, 5.0), True),
        ((5.0, 5.0, NAN), True),
        ((5.0, NAN, 5.0), True),
        ((NAN, 5.0, 5.0), True),
        ((5.0, NAN, NAN), False),
        ((NAN, NAN, 5.0), False),
        ((NAN, NAN, NAN), False),
    ],
)
def test_two_of_the_newest_three_hours_are_needed(newest_three: tuple[float, ...], known: bool) -> None:
    for rest in (5.0, NAN):
        value = nowcast(np.array([*newest_three, *[rest] * 9])[:, None])[0]
        assert value == 5.0 if known else np.isnan(value)


def test_other_than_twelve_hours_is_an_error() -> None:
    with pytest.raises(ValueError, match="12 hours"):
        nowcast(np.zeros((13, 1)))


@given(st.lists(st.floats(0.0, 1000.0) | st.just(NAN), min_size=12, max_size=12))
def test_lies_between_the_lowest_and_the_highest_hour(hours: list[float]) -> None:
    value = nowcast(np.array(hours)[:, None])[0]
    if np.isfinite(value):
        assert np.nanmin(hours) * (1 - 1e-12) <= value <= np.nanmax(hours) * (1 + 1e-12)


def test_mean_of_hours_needs_its_hours() -> None:
    hours = np.array([[1.0, 1.0], [3.0, NAN], [NAN, NAN]])
    np.testing.assert_array_equal(mean_of_hours(hours, 2), [2.0, NAN])
