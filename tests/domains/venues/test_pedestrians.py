"""Pedestrian formulas against the tables and worked examples that they come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.venues import pedestrians as ped

# IMO MSC/Circ.1166 (2005), appendix, example of application, 5.3 and 5.4:
# element, length m, width m, specific flow, speed, persons, printed Fc, printed tw (None: a door), printed tF
CIRC_1166 = [
    ("door 1", 0.0, 1.4, 1.3, 0.67, 165, 1.82, None, 91),
    ("corridor 1", 14.0, 4.2, 1.3, 0.67, 165, 5.46, 21, 30),
    ("stairway 1", 4.7, 3.5, 1.1, 0.55, 165, 3.85, 9, 43),
    ("corridor 2", 14.0, 3.0, 1.3, 0.67, 200, 3.90, 21, 51),
    ("door 2A", 0.0, 1.4, 1.3, 0.67, 100, 1.82, None, 55),
]


@pytest.mark.parametrize(("element", "length", "width", "fs", "speed", "n", "fc", "tw", "tf"), CIRC_1166)
def test_flow_and_walking_times_are_those_of_the_imo_example(
    element: str, length: float, width: float, fs: float, speed: float, n: int, fc: float, tw: int, tf: int
) -> None:
    capacity = ped.flow_capacity_per_s(fs, width)
    assert capacity == pytest.approx(fc, abs=1e-9), element
    assert round(float(ped.flow_time_s(n, capacity))) == tf
    if tw is not None:
        assert round(float(ped.walking_time_s(length, speed))) == tw


@pytest.mark.parametrize(
    ("density", "flow", "speed"),
    [(0.0, 0.0, 1.2), (0.5, 0.65, 1.2), (1.9, 1.3, 0.67), (3.2, 0.65, 0.20), (3.5, 0.32, 0.10), (6, 0.32, 0.1)],
)
def test_corridor_table_has_the_points_of_imo_circ_1533(density: float, flow: float, speed: float) -> None:
    assert ped.imo_corridor_flow(density) == pytest.approx(flow)
    assert ped.imo_corridor_speed_mps(density) == pytest.approx(speed)


def test_corridor_table_is_linear_between_its_points() -> None:
    assert ped.imo_corridor_flow(1.2) == pytest.approx((0.65 + 1.3) / 2)
    assert ped.imo_corridor_speed_mps(2.55) == pytest.approx((0.67 + 0.20) / 2)


def test_weidmann_speed_is_free_when_alone_and_zero_in_the_jam() -> None:
    assert ped.weidmann_speed_mps(0.0) == pytest.approx(1.34)
    assert ped.weidmann_speed_mps(5.4) == pytest.approx(0.0, abs=1e-12)
    assert ped.weidmann_speed_mps(9.0) == pytest.approx(0.0, abs=1e-12)
    assert ped.weidmann_speed_mps(1.0) == pytest.approx(1.34 * (1 - np.exp(-1.913 * (1 - 1 / 5.4))))


def test_sfpe_flow_is_greatest_at_the_handbooks_density() -> None:
    density = np.linspace(0, 4, 40_001)
    flow = ped.sfpe_specific_flow(density)
    assert density[flow.argmax()] == pytest.approx(1.88, abs=0.005)
    assert flow.max() == pytest.approx(1.32, abs=0.005)
    assert ped.sfpe_speed_mps(0.2) == pytest.approx(1.19, abs=0.01)  # the handbook's 0.85 k
    assert ped.sfpe_speed_mps(3.8) == 0.0


@pytest.mark.parametrize("limits", [ped.WALKWAY_PER_M2, ped.QUEUING_PER_M2, ped.WALKWAY_PER_M_MIN])
def test_each_level_of_service_ends_at_its_limit(limits: tuple[float, ...]) -> None:
    at_limit = ped.level_of_service(np.array(limits), limits)
    beyond = ped.level_of_service(np.array(limits) * 1.0001, limits)
    assert [ped.LEVELS[int(level)] for level in at_limit] == list("ABCDE")
    assert [ped.LEVELS[int(level)] for level in beyond] == list("BCDEF")


def test_effective_width_is_less_a_boundary_layer_on_each_side() -> None:
    assert ped.effective_width_m(1.0) == pytest.approx(0.70)
    assert ped.effective_width_m(2.0, ped.BOUNDARY_CORRIDOR_M) == pytest.approx(1.60)
    assert ped.effective_width_m(0.2) == 0.0


def test_exit_flow_is_best_until_the_room_is_denser_than_the_best_queue() -> None:
    best = 1.40 / (4 * 0.266)
    assert ped.exit_specific_flow([0.0, 0.5, 1.8]) == pytest.approx(best)
    assert ped.exit_specific_flow(3.0) == pytest.approx(1.40 * (1 - 0.266 * 3) * 3)
    assert ped.exit_specific_flow(5.0) == pytest.approx(0.32)


def test_nobody_needs_no_time_and_a_blocked_exit_needs_for_ever() -> None:
    assert ped.egress_time_s(0.0, 0.0, 5.0, 60.0) == 0.0
    assert ped.flow_time_s([0.0, 3.0], [0.0, 0.0]).tolist() == [0.0, np.inf]


@given(st.floats(0, 100_000), st.floats(0, 8), st.floats(0.5, 200))
def test_a_wider_exit_and_a_smaller_crowd_never_take_longer(n: float, density: float, width: float) -> None:
    here = ped.egress_time_s(n, density, width, 40.0)
    assert ped.egress_time_s(n, density, width * 1.5, 40.0) <= here
    assert ped.egress_time_s(n * 0.5, density, width, 40.0) <= here
    assert np.isfinite(here)
