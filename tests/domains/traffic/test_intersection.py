"""The store-and-forward intersection: trajectories by hand, conservation, indicators, needs, control."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Make = Callable[..., Any]
Only = Callable[..., np.ndarray]

# The default plan: 0.88 of the cycle is asked for, 78/90 fits, so each phase has 0.22·(78/90)/0.88 = 13/60 and each
# movement 1800·13/60 = 390 veh/h.
CAPACITY_VPH = 390.0


def test_trajectory_a_queue_grows_and_drains(bench: Make, only: Only) -> None:
    b = bench("intersection").set("state", queue_veh=only(nt=5), demand_vph=only(nt=450))
    b.step(600)
    # 5 + (450 − 390)/6 = 15 wait; 390/6 = 65 crossed
    assert b.state.queue_veh[1, 0] == pytest.approx(15)
    assert b.state.served_veh[0] == pytest.approx(65)
    b.set("state", demand_vph=only(nt=300))
    b.step(300)
    # 15 + (300 − 390)/12 = 7.5; 65 + 390/12 = 97.5
    assert b.state.queue_veh[1, 0] == pytest.approx(7.5)
    assert b.state.served_veh[0] == pytest.approx(97.5)
    b.step(300)
    # empty exactly now: 7.5 − 7.5
    assert b.state.queue_veh[1, 0] == pytest.approx(0, abs=1e-12)
    b.step(3600)
    # from now on all 300 an hour cross at once: 130 + 300
    assert b.state.served_veh[0] == pytest.approx(430)


def test_trajectory_metering_and_an_event(bench: Make, only: Only) -> None:
    b = bench("intersection").set("state", demand_vph=only(nt=600)).set("command", inflow_share=0.5)
    b.step(1800)
    # let in 300/h < 390/h: no queue; in half an hour 150 cross and 150 are turned away
    assert b.state.queue_veh.sum() == pytest.approx(0)
    assert b.state.served_veh[0] == pytest.approx(150)
    assert b.state.turned_away_veh[0] == pytest.approx(150)
    b.set("couplings", event_vph=800.0)
    b.step(1800)
    # 100/h more for each of 8 movements: nt gets 400/h, 10/h too many, so 5 wait; 195 + 7·50 more have crossed
    assert b.state.queue_veh[:, 0] == pytest.approx(only(nt=5))
    assert b.state.served_veh[0] == pytest.approx(150 + 195 + 350)
    assert b.state.turned_away_veh[0] == pytest.approx(300)


def test_trajectory_a_queue_empties_within_a_step(bench: Make, only: Only) -> None:
    b = bench("intersection").set("state", queue_veh=only(wl=10), demand_vph=0.0)
    b.step(60)
    assert b.state.queue_veh[6, 0] == pytest.approx(3.5)  # 390/60 = 6.5 cross in a minute
    b.step(60)
    assert b.state.queue_veh[6, 0] == 0
    assert b.state.served_veh[0] == pytest.approx(10)  # not 13: nobody crosses who was not there


numbers = {"allow_nan": False, "allow_infinity": False, "allow_subnormal": False}
movements = st.lists(st.floats(0, 2000, **numbers), min_size=8, max_size=8)


@settings(deadline=None)
@given(
    queue=movements,
    demand=movements,
    upstream=movements,
    saturation=st.lists(st.sampled_from([0.0, 900.0, 1800.0, 3600.0]), min_size=8, max_size=8),
    split=st.lists(st.floats(0, 1, **numbers), min_size=4, max_size=4),
    inflow=st.floats(0.3, 1, **numbers),
    event=st.floats(0, 5000, **numbers),
    cuts=st.lists(st.floats(0, 1200, **numbers), min_size=1, max_size=6),
)
def test_vehicles_are_conserved_however_time_is_cut(
    bench: Make,
    queue: list[float],
    demand: list[float],
    upstream: list[float],
    saturation: list[float],
    split: list[float],
    inflow: float,
    event: float,
    cuts: list[float],
) -> None:
    exists = np.array(saturation) > 0
    waiting = np.where(exists, queue, 0.0)
    whole, parts = (
        bench("intersection")
        .set("attributes", saturation_vph=saturation)
        .set("state", queue_veh=waiting, demand_vph=demand)
        .set("command", green_split=split, inflow_share=inflow)
        .set("couplings", upstream_vph=upstream, event_vph=event)
        for _ in range(2)
    )
    whole.step(sum(cuts))
    for dt_s in cuts:
        parts.step(dt_s)
    came_vph = np.where(exists, demand, 0.0).sum() + (sum(upstream) + event if exists.any() else 0.0)
    came_veh = came_vph * sum(cuts) / 3600
    for b in (whole, parts):
        changed = b.state.queue_veh.sum() - waiting.sum()
        went = b.state.served_veh[0] + b.state.turned_away_veh[0]
        assert came_veh == pytest.approx(changed + went, rel=1e-9, abs=1e-6)
        assert (b.state.queue_veh >= 0).all()
    assert parts.state.queue_veh == pytest.approx(whole.state.queue_veh, rel=1e-9, abs=1e-6)


def test_flow_to_missing_movements_goes_to_those_that_exist(bench: Make, only: Only) -> None:
    b = bench("intersection").set("attributes", saturation_vph=only(nt=1800, st=3600))
    b.set("state", demand_vph=0.0).set("couplings", upstream_vph=only(nl=300, nt=100))
    b.step(0)
    assert b.state.coupled_vph[:, 0] == pytest.approx(only(nt=100 + 100, st=200))


def test_a_junction_without_movements_is_still_finite(bench: Make) -> None:
    b = bench("intersection").set("attributes", saturation_vph=0.0).set("couplings", event_vph=500.0)
    b.step(600)
    assert b.state.queue_veh.sum() == 0
    assert all(np.isfinite(column).all() for column in b.indicators().values())


def test_indicators_by_hand(bench: Make, only: Only) -> None:
    b = bench("intersection", 2)
    queue = np.stack([only(nt=30, et=12), only()], axis=1)
    demand = np.stack([only(nt=390, et=195), only()], axis=1)
    b.state = b.state.replace(queue_veh=queue, demand_vph=demand)
    shown = b.indicators()
    assert shown["waiting_veh"] == pytest.approx([42, 0])
    assert shown["longest_queue_veh"] == pytest.approx([30, 0])
    assert shown["saturation"] == pytest.approx([1.0, 0])
    assert shown["spillback"] == pytest.approx([0.5, 0])
    # both queues discharge at capacity
    assert shown["throughput_vph"] == pytest.approx([780, 0])
    # Y = 390/1800 + 195/1800 = 0.325: (18 + 5)/0.675 = 34.07, below the controller's 40
    assert shown["webster_cycle_s"] == pytest.approx([40, 40])
    # nt: d1 = 45·(47/60)²/(1 − 13/60) = 35.25, d2 = 225·√(8·0.5/(390·0.25)) = 45.573
    # et: d1 = 45·(47/60)²/(1 − 13/120) = 30.967, d2 = 225·(−0.5 + √(0.25 + 4·0.5/97.5)) = 4.523
    assert shown["delay_s"] == pytest.approx([(80.823 * 390 + 35.490 * 195) / 585, 0], abs=0.01)
    assert shown["los"] == pytest.approx([4, 0])  # 65.7 s: E


def test_arrivals_from_other_twins_show_in_the_indicators(bench: Make, only: Only) -> None:
    b = bench("intersection").set("state", demand_vph=only(nt=300)).set("couplings", upstream_vph=only(nt=285))
    b.step(1)
    assert b.indicators()["saturation"] == pytest.approx([585 / CAPACITY_VPH])


def test_metering_lowers_saturation_and_says_what_it_costs(bench: Make, only: Only) -> None:
    b = bench("intersection").set("state", demand_vph=only(nt=780)).set("command", inflow_share=0.5)
    shown = b.indicators()
    assert shown["saturation"] == pytest.approx([1.0])
    assert shown["turned_away_vph"] == pytest.approx([390])


def test_alerts_have_hysteresis_and_gridlock_is_an_emergency(bench: Make) -> None:
    alerts = {alert.name: alert for alert in bench("intersection").kind.alerts}
    assert alerts["gridlock"].severity == "critical"
    assert alerts["gridlock"].emergency
    for alert in alerts.values():
        assert alert.clear < alert.above
        assert alert.for_s > 0


def test_officers_are_asked_for_where_queues_fill_their_approach(bench: Make) -> None:
    b = bench("intersection", 4)
    queue = np.zeros((8, 4))
    queue[1] = (47, 48, 89, 600)  # storage 60: from 48 one officer, from 90 two
    b.state = b.state.replace(queue_veh=queue)
    need = b.kind.needs(b.state, b.attributes, b.indicators())["traffic_officer"]
    assert need.amount.tolist() == [0, 1, 1, 2]
    assert need.urgency == pytest.approx([0, 0.8, 89 / 60, 5])
    assert (need.duration_s == 1800).all()


def test_control_follows_the_queues_and_keeps_the_rest_of_the_plan(bench: Make, only: Only) -> None:
    b = bench("intersection").set("state", queue_veh=only(el=40, wl=40), demand_vph=0.0)
    b.set("command", cycle_s=120.0, inflow_share=0.6)
    proposed = b.kind.control(b.state, b.attributes, b.command, b.indicators())
    # 120 s: 0.9 of it green, 6/120 for each of the three other phases
    assert proposed.green_split[:, 0] == pytest.approx([0.05, 0.05, 0.75, 0.05], abs=1e-6)
    assert proposed.cycle_s.tolist() == [120.0]
    assert proposed.inflow_share.tolist() == [0.6]


def test_control_clears_what_the_fixed_plan_cannot(bench: Make, only: Only) -> None:
    demand = only(nt=600, st=550, et=300, wt=280, nl=100, sl=100, el=80, wl=80)
    fixed, led = (bench("intersection").set("state", demand_vph=demand) for _ in range(2))
    for _ in range(40):
        led.command = led.kind.control(led.state, led.attributes, led.command, led.indicators())
        led.step(90)
        fixed.step(90)
    assert fixed.state.queue_veh.sum() > 300  # (600 + 550 − 780) an hour, for an hour
    assert led.state.queue_veh.sum() < 5
