"""Simulated traffic keeps its daily course, its correlation in time, and obeys stories and commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from domains.traffic import devices
from twin_actors.core.kind import Step

Make = Callable[..., Any]

DAY_S = 1_780_012_800.0  # a midnight, UTC
PEAK_S = DAY_S + 17 * 3600


def _drive(b: Any, drivers: Any, at_s: float, dt_s: float, chance: np.random.Generator) -> None:
    step = Step(dt_s=np.full(b.n, dt_s), at_s=np.full(b.n, at_s))
    b.state = b.kind.devices.drive(b.state, b.attributes, b.command, b.couplings, drivers, step, chance)
    b.state = b.kind.predict(b.state, b.attributes, b.command, b.couplings, step)


def test_course_of_a_day() -> None:
    drivers = devices.IntersectionDrivers.defaults(1)
    assert DAY_S % 86_400 == 0
    for hour, share in ((0, 0.16), (7.5, (0.88 + 0.97) / 2), (17, 1.0), (23.5, (0.24 + 0.16) / 2)):
        assert devices.course(drivers, np.array([DAY_S + hour * 3600])) == pytest.approx([share])
    east = drivers.replace(utc_offset_h=np.array([8.0]))
    assert devices.course(east, np.array([DAY_S + 9 * 3600])) == pytest.approx([1.0])


def test_demand_has_the_declared_mean_spread_and_memory(bench: Make) -> None:
    b = bench("intersection", 4000)
    drivers = b.kind.devices.drivers.defaults(b.n)
    chance = np.random.default_rng(3)
    _drive(b, drivers, PEAK_S, 3600, chance)  # long enough to forget the start
    before = b.state.demand_vph[1]
    assert before.mean() == pytest.approx(420, rel=0.01)
    assert before.std() == pytest.approx(0.08 * 420, rel=0.05)
    _drive(b, drivers, PEAK_S, devices.SWING_S, chance)
    correlation = np.corrcoef(before, b.state.demand_vph[1])[0, 1]
    assert correlation == pytest.approx(np.exp(-1), abs=0.05)


def test_missing_movements_have_no_demand(bench: Make, only: Callable[..., np.ndarray]) -> None:
    b = bench("intersection", 3).set("attributes", saturation_vph=only(nt=1800, st=1800))
    _drive(b, b.kind.devices.drivers.defaults(3), PEAK_S, 10, np.random.default_rng(0))
    assert (b.state.demand_vph.sum(axis=1) > 0).tolist() == [False, True, False, False, False, True, False, False]


def test_more_green_from_a_command_shortens_a_simulated_queue(bench: Make) -> None:
    queues = []
    for split in ((0.05, 0.38, 0.05, 0.38), (0.22, 0.22, 0.22, 0.22)):
        b = bench("intersection", 5).set("command", green_split=split)
        drivers = b.kind.devices.drivers.defaults(5).replace(demand_factor=np.full(5, 1.4))
        chance = np.random.default_rng(1)
        for k in range(180):
            _drive(b, drivers, PEAK_S + 10 * k, 10, chance)
        queues.append(b.state.queue_veh[1::2].sum())
    assert queues[0] < 0.1 * queues[1]


def test_an_incident_slows_a_road_and_passes(bench: Make) -> None:
    b = bench("road", 50)
    free = b.kind.devices.drivers.defaults(50)
    closed = free.replace(lanes_closed_share=np.full(50, 0.6))
    chance = np.random.default_rng(2)
    speeds = []
    for k, drivers in enumerate([free] * 90 + [closed] * 90 + [free] * 180):
        _drive(b, drivers, PEAK_S + 10 * k, 10, chance)
        speeds.append(float(b.state.speed_kmh.mean()))
    assert speeds[89] > 85
    assert speeds[179] < 50
    assert speeds[-1] > 85
    assert (b.state.occupancy <= 1).all()


def test_event_traffic_on_a_road_comes_and_goes(bench: Make) -> None:
    b = bench("road", 200)
    drivers = b.kind.devices.drivers.defaults(200).replace(peak_share=np.full(200, 0.3))
    chance = np.random.default_rng(2)
    _drive(b, drivers, PEAK_S, 3600, chance)  # long enough to forget the start
    flows = []
    for event in (0.0, 1000.0, 0.0):
        b.set("couplings", event_vph=event)
        for _ in range(60):
            _drive(b, drivers, PEAK_S, 10, chance)
        flows.append(float(b.state.flow_vph.mean()))
    assert flows == pytest.approx([1200, 2200, 1200], rel=0.03)
