"""The equations against published worked examples and the tables of their standards."""

from __future__ import annotations

import numpy as np
import pytest

from domains.traffic import equations


@pytest.mark.parametrize(
    ("flow_vph", "saturation_vph", "lost_s", "cycle_s"),
    [
        ((500, 300), (1600, 1600), 16, 58.0),  # byjus.com, worked question
        ((1000, 900), (2500, 3000), 12, 76.67),  # interviewmania.com 92661, printed as 77
    ],
)
def test_webster_cycle(
    flow_vph: tuple[float, ...], saturation_vph: tuple[float, ...], lost_s: float, cycle_s: float
) -> None:
    ratio = np.array(flow_vph) / np.array(saturation_vph)
    assert equations.webster_cycle_s(ratio, lost_s) == pytest.approx(cycle_s, abs=0.005)


def test_webster_cycle_is_infinite_where_demand_exceeds_capacity() -> None:
    ratio = np.array([[0.5, 0.6, 0.4], [0.5, 0.7, 0.3]])
    assert equations.webster_cycle_s(ratio, 10.0).tolist() == [np.inf, np.inf, pytest.approx(20 / 0.3)]


def test_webster_greens_share_the_effective_cycle() -> None:
    # y 0.4 and 0.3, C 77, L 12: greens 65·4/7 and 65·3/7
    green_s = equations.webster_green_s(np.array([0.4, 0.3]), 12.0, 77.0)
    assert green_s == pytest.approx([37.143, 27.857], abs=1e-3)
    assert equations.webster_green_s(np.zeros(4), 10.0, 90.0) == pytest.approx([20, 20, 20, 20])


def test_flow_ratio_takes_the_critical_movement_and_skips_missing_ones() -> None:
    serves = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])[..., None]
    flow, saturation = np.array([[400.0], [300.0], [500.0]]), np.array([[1600.0], [1000.0], [0.0]])
    assert equations.flow_ratio(flow, saturation, serves)[:, 0] == pytest.approx([0.3, 0.0])


def test_hcm_delay() -> None:
    """v 800, c 775, g/C 0.40, C 90 (inputs of a text problem of Roess and Prassas; answer by the formula)."""
    x = np.array(800 / 775)
    uniform = equations.uniform_delay_s(90.0, np.array(0.4), x)
    incremental = equations.incremental_delay_s(x, np.array(775.0))
    total = equations.control_delay_s(np.array(800.0), np.array(775.0), np.array(0.4), 90.0)
    assert float(uniform) == pytest.approx(27.0, abs=0.05)
    assert float(incremental) == pytest.approx(40.9, abs=0.05)
    assert float(total) == pytest.approx(67.9, abs=0.05)


def test_progression_weighs_only_the_uniform_part() -> None:
    delay_s = equations.control_delay_s(np.array(800.0), np.array(775.0), np.array(0.4), 90.0, progression=0.5)
    assert float(delay_s) == pytest.approx(0.5 * 27.0 + 40.9, abs=0.05)


def test_hcm_delay_of_a_closed_or_ever_open_movement_is_finite() -> None:
    flow, capacity, green = np.array([300.0, 900.0, 0.0]), np.array([0.0, 900.0, 0.0]), np.array([0.0, 1.0, 0.0])
    assert np.isfinite(equations.control_delay_s(flow, capacity, green, 90.0)).all()


def test_signal_queue_exact() -> None:
    """Wikibooks, Traffic Signals/Solution: λ 500, s 3000, g 30, C 100; it prints 9.66 and 406 with λ as 0.138."""
    queue = equations.signal_queue(500.0, 3000.0, 30.0, 100.0)
    assert float(queue.share_with_queue) == pytest.approx(0.84)
    assert float(queue.max_queue_veh) == pytest.approx(9.7222, abs=1e-4)
    assert float(queue.total_delay_veh_s) == pytest.approx(408.33, abs=0.01)
    assert float(queue.mean_delay_s) == pytest.approx(29.4)
    assert float(queue.max_delay_s) == 70.0


def test_signal_queue_as_printed_with_the_rounded_arrival_rate() -> None:
    queue = equations.signal_queue(0.138 * 3600, 3000.0, 30.0, 100.0)
    assert float(queue.max_queue_veh) == pytest.approx(9.66)
    assert float(queue.total_delay_veh_s) == pytest.approx(406, abs=1)
    assert float(queue.mean_delay_s) == pytest.approx(29.41, abs=0.1)


def test_signal_queue_that_never_clears_is_infinite() -> None:
    queue = equations.signal_queue(np.array([900.0, 901.0, 3500.0]), 3000.0, 30.0, 100.0)
    assert np.isfinite(queue.mean_delay_s).tolist() == [True, False, False]
    assert queue.share_with_queue == pytest.approx([1.0, 1.0, 1.0])


def test_mean_delay_is_the_total_over_the_arrivals_of_a_cycle() -> None:
    queue = equations.signal_queue(np.array([100.0, 400.0, 800.0]), 3000.0, 30.0, 100.0)
    arrivals = np.array([100.0, 400.0, 800.0]) / 36
    assert queue.mean_delay_s == pytest.approx(queue.total_delay_veh_s / arrivals)


def test_pressure_subtracts_what_waits_downstream() -> None:
    # Two movements; the first feeds queues of 6 and 2 by 3/4 and 1/4 (5), the second an empty exit.
    queue = np.array([9.0, 4.0])
    downstream, share = np.array([[6.0, 2.0], [0.0, 0.0]]), np.array([[0.75, 0.25], [1.0, 0.0]])
    weight = equations.movement_pressure_veh(queue, downstream, share)
    assert weight == pytest.approx([4.0, 4.0])
    assert equations.movement_pressure_veh(queue) is queue
    pressure = equations.phase_pressure(weight, np.array([1800.0, 900.0]), np.eye(2))
    assert pressure == pytest.approx([7200.0, 3600.0])


def test_levels_of_service_at_signals() -> None:
    delay_s = np.array([0, 10, 10.1, 20, 20.1, 35, 35.1, 55, 55.1, 80, 80.1, 1e4])
    letters = [
        equations.LEVELS[int(level)] for level in equations.level_of_service(delay_s, equations.HCM_SIGNAL_LIMITS_S)
    ]
    assert "".join(letters) == "AABBCCDDEEFF"


def test_levels_of_service_on_freeways() -> None:
    density = np.array([7, 7.1, 11, 16, 22, 28, 28.1])
    levels = equations.level_of_service(density, equations.HCM_FREEWAY_LIMITS_VEH_KM)
    assert levels.tolist() == [0, 1, 1, 2, 3, 4, 5]


def test_bpr_takes_15_percent_longer_at_capacity() -> None:
    speed = equations.bpr_speed_kmh(np.array(115.0), np.array([0.0, 4000.0]), np.array(4000.0))
    assert speed == pytest.approx([115.0, 100.0])


def test_density_is_bounded_at_standstill() -> None:
    density = equations.density_veh_km(
        np.array([2000.0, 2000.0, 0.0]), np.array([100.0, 0.0, 0.0]), np.array(2.0), np.array(130.0)
    )
    assert density == pytest.approx([10.0, 130.0, 0.0])
