"""The road section: a trajectory by hand, exact cuts, indicators that stay finite, speed limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.traffic.road import EASE_S

Make = Callable[..., Any]


def test_trajectory_speed_eases_back_and_an_event_slows_it(bench: Make) -> None:
    b = bench("road").set("state", speed_kmh=50.0, flow_vph=0.0, occupancy=0.2)
    b.step(EASE_S)
    # nobody there: 100 − 50/e
    assert b.state.speed_kmh[0] == pytest.approx(100 - 50 / math.e)
    assert b.state.occupancy[0] == pytest.approx(0.2 / math.e)
    b.set("state", speed_kmh=100.0, flow_vph=2000.0).set("couplings", event_vph=2000.0)
    b.step(EASE_S)
    # 4000 veh/h is the capacity: BPR speed 100/1.15 = 86.957, and 13.043/e left of the rest
    assert b.state.flow_vph[0] == pytest.approx(4000)
    assert b.state.speed_kmh[0] == pytest.approx(86.957 + 13.043 / math.e, abs=1e-3)
    b.set("couplings", event_vph=3000.0)
    b.step(60)
    # not more than the capacity passes …
    assert b.state.flow_vph[0] == pytest.approx(4000)
    b.set("couplings", event_vph=0.0)
    b.step(60)
    # … and when the event is over the usual traffic is left
    assert b.state.flow_vph[0] == pytest.approx(2000)


numbers = {"allow_nan": False, "allow_infinity": False, "allow_subnormal": False}


@given(
    speed=st.floats(0, 200, **numbers),
    flow=st.floats(0, 9000, **numbers),
    occupancy=st.floats(0, 1, **numbers),
    limit=st.floats(20, 130, **numbers),
    event=st.floats(0, 5000, **numbers),
    cuts=st.lists(st.floats(0, 1800, **numbers), min_size=2, max_size=5),
)
def test_any_cut_of_time_gives_the_same_road(
    bench: Make,
    speed: float,
    flow: float,
    occupancy: float,
    limit: float,
    event: float,
    cuts: list[float],
) -> None:
    whole, parts = (
        bench("road")
        .set("state", speed_kmh=speed, flow_vph=flow, occupancy=occupancy)
        .set("command", speed_limit_kmh=limit)
        .set("couplings", event_vph=event)
        for _ in range(2)
    )
    whole.step(sum(cuts))
    for dt_s in cuts:
        parts.step(dt_s)
    for name in ("speed_kmh", "flow_vph", "occupancy", "event_flow_vph"):
        one, other = getattr(whole.state, name), getattr(parts.state, name)
        assert other == pytest.approx(one, rel=1e-9, abs=1e-9), name
    assert 0 <= parts.state.speed_kmh[0] <= limit + 1e-9
    assert 0 <= parts.state.occupancy[0] <= 1


def test_a_speed_limit_is_obeyed_at_once_and_does_not_speed_anybody_up(bench: Make) -> None:
    b = bench("road", 2).set("command", speed_limit_kmh=80.0)
    b.state = b.state.replace(speed_kmh=np.array([110.0, 30.0]), flow_vph=np.zeros(2))
    b.step(0)
    assert b.state.speed_kmh == pytest.approx([80, 30])


def test_indicators_by_hand(bench: Make) -> None:
    b = bench("road", 3).set("attributes", length_km=2.0)
    b.state = b.state.replace(speed_kmh=np.array([100.0, 40.0, 0.0]), flow_vph=np.array([1400.0, 2000.0, 0.0]))
    shown = b.indicators()
    assert shown["travel_time_s"] == pytest.approx([72, 180, 7200])
    assert shown["delay_s"] == pytest.approx([0, 108, 7128])
    assert shown["density_veh_km"] == pytest.approx([7, 25, 0])
    assert shown["congestion"] == pytest.approx([0, 0.6, 1])
    assert shown["saturation"] == pytest.approx([0.35, 0.5, 0])
    assert shown["los"] == pytest.approx([0, 4, 0])


def test_faster_than_free_speed_is_neither_delay_nor_congestion(bench: Make) -> None:
    shown = bench("road").set("state", speed_kmh=130.0).indicators()
    assert shown["delay_s"] == pytest.approx([0])
    assert shown["congestion"] == pytest.approx([0])
