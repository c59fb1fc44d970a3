"""Green splits keep their budget, their minimum greens and their proportions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.traffic import control
from domains.traffic.intersection import FOUR_PHASES

SERVES = np.array(FOUR_PHASES).reshape(4, 8, 1)
positive = st.floats(0, 1e6, allow_subnormal=False)


@given(
    weight=st.lists(positive, min_size=4, max_size=4),
    floor=st.lists(st.floats(0.01, 0.4), min_size=4, max_size=4),
    available=st.floats(0.3, 1.0),
)
def test_split_spends_what_there_is_and_keeps_floors(weight: list[float], floor: list[float], available: float) -> None:
    least = np.array(floor) * min(available / sum(floor), 1.0)
    split = control.split_with_floor(np.array(weight), np.array(floor), np.array(available))
    assert split.sum() == pytest.approx(available, rel=1e-6)
    assert (split >= least - 1e-9).all()


def test_split_is_proportional_where_no_floor_binds() -> None:
    split = control.split_with_floor(np.array([1.0, 3.0, 2.0, 2.0]), np.full(4, 0.05), np.array(0.8))
    assert split == pytest.approx([0.1, 0.3, 0.2, 0.2], abs=1e-6)


def test_raising_one_phase_lowers_the_others_in_proportion() -> None:
    # 0, 1, 1, 2 of 0.9 with a floor of 0.1: the first gets 0.1, the rest share 0.8 as 1 : 1 : 2
    split = control.split_with_floor(np.array([0.0, 1.0, 1.0, 2.0]), np.full(4, 0.1), np.array(0.9))
    assert split == pytest.approx([0.1, 0.2, 0.2, 0.4], abs=1e-6)


def test_no_weight_at_all_shares_alike_among_phases_in_use() -> None:
    split = control.split_with_floor(np.zeros(4), np.array([0.1, 0.1, 0.0, 0.1]), np.array(0.9))
    assert split == pytest.approx([0.3, 0.3, 0.0, 0.3])


def test_orders_for_too_much_green_are_scaled_down() -> None:
    # C 90, L 12: 78/90 can be green; 0.88 was asked for, so each gets 0.22·(78/90)/0.88 = 0.21667
    split = control.effective_split(np.full((4, 1), 0.22), np.array([12.0]), np.array([90.0]))
    assert split[:, 0] == pytest.approx(np.full(4, 13 / 60))
    assert control.effective_split(np.full((4, 1), 0.1), np.array([12.0]), np.array([90.0])) == pytest.approx(0.1)


def test_max_pressure_prefers_the_long_queue(only: Callable[..., np.ndarray]) -> None:
    split = control.max_pressure_split(
        only(nt=30, et=10)[:, None],
        np.zeros((8, 1)),
        np.full((8, 1), 1800.0),
        SERVES,
        lost_time_s=np.array([12.0]),
        min_green_s=np.array([6.0]),
        cycle_s=np.array([90.0]),
    )
    # Left phases keep 6/90 each; 66/90 are shared 3 : 1.
    assert split[:, 0] == pytest.approx([6 / 90, 49.5 / 90, 6 / 90, 16.5 / 90], abs=1e-6)


def test_phases_that_serve_nobody_get_nothing(only: Callable[..., np.ndarray]) -> None:
    saturation = only(nt=1800, st=1800, et=1800)[:, None]
    cycle_s, split = control.webster_plan(
        only(nt=720, et=540)[:, None],
        saturation,
        SERVES,
        lost_time_s=np.array([12.0]),
        min_green_s=np.array([6.0]),
        shortest_s=40.0,
        longest_s=180.0,
    )
    # y 0.4 and 0.3: C0 = 23/0.3 = 76.67 s, greens (C − 12)·4/7 and ·3/7
    assert cycle_s[0] == pytest.approx(76.667, abs=1e-3)
    green_s = split[:, 0] * cycle_s[0]
    assert green_s == pytest.approx([0, 64.667 * 4 / 7, 0, 64.667 * 3 / 7], abs=1e-3)


@pytest.mark.parametrize(("flow_vph", "cycle_s"), [(10.0, 40.0), (3000.0, 180.0)])
def test_webster_cycle_stays_within_the_controllers_limits(
    flow_vph: float, cycle_s: float, only: Callable[..., np.ndarray]
) -> None:
    found, split = control.webster_plan(
        only(nt=flow_vph)[:, None],
        np.full((8, 1), 1800.0),
        SERVES,
        lost_time_s=np.array([12.0]),
        min_green_s=np.array([6.0]),
        shortest_s=40.0,
        longest_s=180.0,
    )
    assert found[0] == cycle_s
    assert (split * found >= 6.0 - 1e-9).all()
