"""Every single detector against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.streams import NAN, UNHURRIED, column
from twin_actors.core.detection import charts


def test_an_ewma_of_ones_from_zero() -> None:
    mean = column(0)
    for _ in range(3):
        mean = charts.ewma(mean, column(1), 0.2)
    assert mean[0] == pytest.approx(1 - 0.8**3)
    assert charts.ewma_z(column(1), 0.2)[0] == pytest.approx(3.0)  # √(1.8/0.2)
    assert charts.ewma(column(0.7), column(NAN), 0.2)[0] == 0.7


def test_a_cusum_by_hand() -> None:
    # z = 1, 2, −1, 3 with k = 0.5: C⁺ = 0.5, 2.0, 0.5, 3.0; C⁻ = 0, 0, 0.5, 0
    high = low = column(0)
    highs, lows = [], []
    for z in (1, 2, -1, 3):
        high, low = charts.cusum(high, low, column(z), 0.5)
        highs.append(high[0])
        lows.append(low[0])
    assert highs == [0.5, 2.0, 0.5, 3.0]
    assert lows == [0, 0, 0.5, 0]
    assert [side[0] for side in charts.cusum(high, low, column(NAN), 0.5)] == [3.0, 0]


def test_page_hinkley_by_hand() -> None:
    # x = 0, 0, 3, 3, δ = 0: means 0, 0, 1, 1.5; U = 0, 0, 2, 3.5, least 0: distances 0, 0, 2, 3.5
    state = charts.PageHinkley.empty((1,))
    seen = []
    for x in (0, 0, 3, 3):
        distance, state = charts.page_hinkley(state, column(x), 0.0)
        seen.append(distance[0])
    assert seen == pytest.approx([0, 0, 2, 3.5])
    assert charts.page_hinkley(state, column(NAN), 0.0)[1] == state


@UNHURRIED
@given(st.lists(st.floats(-1e3, 1e3), max_size=20), st.floats(0, 10))
def test_page_hinkley_does_not_know_up_from_down(values: list[float], tolerance: float) -> None:
    one = other = charts.PageHinkley.empty((1,))
    for value in values:
        up, one = charts.page_hinkley(one, column(value), tolerance)
        down, other = charts.page_hinkley(other, column(-value), tolerance)
        assert up[0] == pytest.approx(down[0], abs=1e-6)


def test_a_record_is_a_ratio_to_the_largest_before() -> None:
    largest = column(0)
    ratios = [charts.record(largest, column(magnitude))[0] for magnitude in (2, 1, 3, 6)]
    assert ratios == [0, 0.5, 1.5, 2]
    largest = column(4)
    charts.record(largest, column(1), keep=0.5)
    assert largest[0] == 2  # it fades


def test_the_tail_learns_a_quantile_and_a_mean_excess() -> None:
    chance = np.random.default_rng(0)
    sample = chance.exponential(2.0, (20_000, 50))
    state = charts.Tail(*np.zeros((4, 50)))
    beyond = 0
    for number, magnitude in enumerate(sample, 1):
        statistic = charts.tail(state, magnitude, max(1 / number, 1 / 4000))
        if number > 2000:
            beyond += int((statistic > 2).sum())
    assert np.mean(state.quantile) == pytest.approx(2 * math.log(20), rel=0.05)
    assert np.mean(state.excess) == pytest.approx(2.0, rel=0.05)  # an exponential tail looks like its beginning
    assert beyond / 18_000 / 50 == pytest.approx(0.05 * math.exp(-2), rel=0.15)


def test_a_tail_step_by_hand() -> None:
    # q = 1, mean excess 2 of 10, mean 0.5, weight 0.01; f = 5: excess 4, statistic 2, count 11,
    # mean 0.545; faster = max(1/11, 0.2): excess 2 + 0.2·(4 − 2); q + 0.01·3·0.545·0.95
    state = charts.Tail(column(1), column(2), column(10), column(0.5))
    assert charts.tail(state, column(NAN), column(0.01))[0] == 0  # nothing was said
    assert [part[0] for part in state] == [1, 2, 10, 0.5]
    assert charts.tail(state, column(5), column(0.01))[0] == 2
    assert [part[0] for part in state] == pytest.approx([1.0155325, 2.4, 11, 0.545])


def test_run_lengths() -> None:
    last, length, longest, lengths = column(NAN), column(0), column(0), []
    for value in (3, 3, 3, 4, 4):
        charts.run_length(last, length, longest, column(value))
        last = column(value)
        lengths.append((length[0], longest[0]))
    assert lengths == [(1, 0), (2, 0), (3, 0), (1, 3), (2, 3)]


def test_a_latch_lets_an_event_through_once() -> None:
    peak, age = column(0), column(0)
    out = [charts.latch(peak, age, column(statistic), hold=2, worse=1.2)[0] for statistic in (5, 5, 5.5, 6.1, 1, 1, 1)]
    # 6.1 > 1.2·5 is news; 6.1 holds for two readings, the third is let through
    assert out == [5, 0, 0, 6.1, 0, 0, 1]
