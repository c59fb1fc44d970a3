"""A usual course read at places of its period: by rows where all stand at one, one by one where they do not."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twin_actors.core.courses import usual, usual_ahead

BINS = 6


@given(
    places=st.lists(st.floats(0.0, 20.0), min_size=1, max_size=4),
    ahead=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    samples=st.integers(0, 2),
)
def test_every_twin_reads_its_own_course_in_its_own_bin(places: list[float], ahead: list[int], samples: int) -> None:
    n = len(places)
    course = np.arange(BINS * n, dtype=np.float32).reshape(BINS, n)
    place = np.array(places) if not samples else np.tile(places, (samples, 1))
    found = usual_ahead(course, place, np.array(ahead, dtype=np.float64))
    assert found.shape == (len(ahead), *place.shape)
    for at in np.ndindex(found.shape):
        twin = at[-1]
        assert found[at] == course[int(np.floor(place[at[1:]] + ahead[at[0]])) % BINS, twin]


def test_all_at_one_place_read_a_row() -> None:
    course = np.array([[1.0, 2.0], [3.0, np.nan]], np.float32)
    np.testing.assert_array_equal(usual(course, np.array([1.5, 1.5])), [3.0, np.nan])
    np.testing.assert_array_equal(usual(course, np.array([1.5, 0.0])), [3.0, 2.0])
    np.testing.assert_array_equal(usual(course, np.full((2, 2), 2.2)), [[1.0, 2.0], [1.0, 2.0]])


def test_no_twin_has_no_course() -> None:
    assert usual(np.zeros((BINS, 0)), np.zeros(0)).shape == (0,)
