"""Tanks, pumps and zones against EPANET's solution of two example networks, mass balance, and what the rules say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.water import hydraulics
from domains.water.policies import FIND_LEAKS, SCHEDULE_PUMPS, find_leaks, plan_pump, prices, schedule_pumps
from domains.water.tank import TANK, TankAttributes, TankCommand, TankCouplings, TankState, control, indicators, predict
from domains.water.zone import (
    PRESSURE_ZONE,
    ZoneAttributes,
    ZoneCommand,
    ZoneState,
    ZoneWindows,
    night_flow_m3s,
)
from domains.water.zone import indicators as zone_indicators
from domains.water.zone import predict as predict_zone
from twin_actors.core.columns import Column, Windows
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind, Step
from twin_actors.core.table import TwinTable
from twin_actors.core.view import CommandTo, KindView, View

EPANET = json.loads((Path(__file__).parent / "epanet_reference.json").read_text())
AT_S = 604_800.0 * 2950


def step(dt_s: float, n: int = 1, at_s: float = AT_S) -> Step:
    return Step(dt_s=np.full(n, dt_s), at_s=np.full(n, at_s))


@pytest.mark.parametrize("network", ["Net1", "Net3"])
def test_head_loss_of_every_pipe_is_that_of_epanet(network: str) -> None:
    length, diameter, roughness, flow, loss = np.array(EPANET["pipes"][network]).T
    mine = hydraulics.head_loss_m(flow, length, diameter, roughness)
    np.testing.assert_allclose(mine, loss, atol=2e-4, rtol=2e-5)


def test_the_pump_meets_its_main_where_epanet_says() -> None:
    told = EPANET["Net1"]
    lift, flow = np.array(told["lift_m_flow_m3s"]).T
    running = flow > 0.0
    assert running.sum() >= 12
    pump, main = told["pump"], told["main"]
    mine = hydraulics.pump_flow_m3s(
        lift,
        np.where(running, 1.0, 0.0),
        pump["shutoff_m"],
        pump["slope"],
        pump["power"],
        hydraulics.resistance(main["length_m"], main["diameter_m"], main["roughness"]),
    )
    np.testing.assert_allclose(mine, flow, rtol=2e-5, atol=1e-12)


def test_a_day_of_the_tank_is_that_of_epanet() -> None:
    """Five minutes at a time from EPANET's level with EPANET's flow; it stops its steps where a control acts."""
    told = EPANET["Net1"]
    size = told["tank"]
    level, into = np.array(told["level_m"]), np.array(told["into_tank_m3s"])
    n = len(level) - 1
    attributes = TankAttributes.defaults(n).replace(
        area_m2=np.full(n, np.pi / 4 * size["diameter_m"] ** 2), height_m=np.full(n, size["height_m"])
    )
    state = TankState.defaults(n).replace(level_m=level[:-1], demand_m3s=-into[:-1])
    off = TankCommand(pump_speed=np.zeros(n))
    after = predict(state, attributes, off, TankCouplings.defaults(n), step(float(size["step_s"]), n))
    wrong_m = np.abs(after.level_m - level[1:])
    assert n == 288
    assert (wrong_m > 1e-4).sum() <= 2, np.flatnonzero(wrong_m > 1e-4)


@given(
    level=st.floats(0.0, 45.0),
    demand=st.floats(0.0, 2.0),
    extra=st.floats(0.0, 0.5),
    speed=st.floats(0.0, 1.0),
    dt_s=st.floats(1.0, 300.0),
)
def test_no_drop_is_lost(level: float, demand: float, extra: float, speed: float, dt_s: float) -> None:
    """What the pump brought = what is more in the tank + what was served + what ran over."""
    attributes = TankAttributes.defaults(1)
    state = TankState.defaults(1).replace(level_m=np.array([level]), demand_m3s=np.array([demand]))
    command = TankCommand(pump_speed=np.array([speed]))
    after = predict(state, attributes, command, TankCouplings(extra_demand_m3s=np.array([extra])), step(dt_s))
    pumped = [indicators(s, attributes, command, Windows())["pump_m3s"][0] * dt_s for s in (state, after)]
    served = (demand + extra) * dt_s - float(after.unserved_m3[0])
    gained = float((attributes.area_m2 * (after.level_m - state.level_m))[0])
    brought = gained + served + float(after.spilled_m3[0])
    assert min(pumped) * (1 - 1e-3) - 1e-6 <= brought <= max(pumped) * (1 + 1e-3) + 1e-6
    assert 0.0 <= float(after.level_m[0]) <= 45.72 + 1e-9


@given(
    lift=st.floats(-20.0, 120.0),
    speed=st.one_of(st.just(0.0), st.floats(0.05, 1.0)),
    power=st.floats(1.0, 3.0),
    length=st.floats(0.0, 2e4),
)
def test_the_operating_point_lies_on_both_curves(lift: float, speed: float, power: float, length: float) -> None:
    pipe = hydraulics.resistance(np.array(length), np.array(0.4), np.array(110.0))
    flow = hydraulics.pump_flow_m3s(
        np.array(lift), np.array(speed), np.array(80.0), np.array(900.0), np.array(power), pipe
    )
    if speed**2 * 80.0 <= lift or speed == 0.0:
        assert flow == 0.0
    else:
        head = hydraulics.pump_head_m(flow, np.array(speed), np.array(80.0), np.array(900.0), np.array(power))
        assert float(head) == pytest.approx(lift + float(pipe) * float(flow) ** 1.852, abs=1e-6)


def test_hidden_demand_is_found_from_the_level_alone() -> None:
    """Nobody meters the draw of 0.11 m³/s: two hours of levels tell it, and so how long the water lasts."""
    n = 4
    attributes = TankAttributes.defaults(n)
    table = TwinTable(TANK, [f"tank/{k}" for k in range(n)], attributes.block((n,)))
    truth = TankState.defaults(n).replace(demand_m3s=np.full(n, 0.11))
    chance, layout = np.random.default_rng(4), TANK.reading.layout
    for minute in range(180):
        at_s = AT_S + 60.0 * minute
        truth = predict(truth, attributes, TankCommand.defaults(n), TankCouplings.defaults(n), step(60.0, n, at_s))
        values = np.full((layout.rows, n), np.nan)
        values[layout.places["level_m"]] = truth.level_m + 0.02 * chance.standard_normal(n)
        table.apply(Batch(rows=np.arange(n), observed_at_s=np.full(n, at_s), values=values))
    found = TANK.state.of_block(table.x)
    np.testing.assert_allclose(found.demand_m3s, 0.11, atol=0.012)


def test_the_float_switch_has_two_levels() -> None:
    attributes = TankAttributes.defaults(3)
    state = TankState.defaults(3).replace(level_m=np.array([33.0, 38.0, 43.0]))
    now = TankCommand(pump_speed=np.array([0.0, 0.0, 1.0]))
    shown = indicators(state, attributes, now, Windows())
    np.testing.assert_array_equal(control(state, attributes, now, shown).pump_speed, [1.0, 0.0, 0.0])


def test_the_cheapest_hours_are_found_as_by_trying_all() -> None:
    """Four runs of 24 hours: every choice of four is tried."""
    price = np.where(np.arange(24) % 7 < 3, 0.1, 0.3) + 0.001 * np.arange(24)
    demand = np.full(24, 60.0)
    plan = plan_pump(2000.0, 800.0, 4000.0, 360.0, demand, 50.0, price)
    assert plan is not None
    best = np.inf
    for hours in itertools.combinations(range(24), 4):
        runs = np.zeros(24)
        runs[list(hours)] = 1.0
        volume = 2000.0 + np.cumsum(360.0 * runs - demand)
        if volume.min() >= 800.0 and volume.max() <= 4000.0 and volume[-1] >= 2000.0:
            best = min(best, float(price @ runs * 50.0))
    assert plan.runs.sum() == 4
    assert plan.cost <= best * 1.0101
    assert plan.bound <= plan.cost + 1e-9
    assert plan_pump(800.0, 1000.0, 4000.0, 50.0, demand, 50.0, price) is None


@settings(max_examples=25)
@given(start=st.floats(1000.0, 4000.0), demand=st.floats(50.0, 300.0))
def test_a_plan_keeps_the_tank_between_its_limits(start: float, demand: float) -> None:
    price = np.where(np.arange(24) < 8, 0.12, 0.3)
    plan = plan_pump(start, 900.0, 4500.0, 420.0, np.full(24, demand), 60.0, price)
    if plan is not None:
        volume = start + np.cumsum(420.0 * plan.runs - demand)
        assert volume.min() >= 900.0 - 1e-6
        assert volume.max() <= 4500.0 + 1e-6
        assert plan.bound <= plan.cost + 1e-6


def seen(kind: Kind, state: Any, attributes: Any, command: Any, shown: Any, **changed: Any) -> KindView:
    n = len(np.atleast_1d(next(iter(shown.values()))))
    record: dict[str, Any] = {
        "kind": kind,
        "ids": tuple(f"{kind.name}/{k}" for k in range(n)),
        "state": state,
        "sd": state,
        "attributes": attributes,
        "command": command,
        "desired": command,
        "couplings": None,
        "proposed": None,
        "indicators": shown,
        "alerts": {alert.name: np.zeros(n, np.bool_) for alert in kind.alerts},
        "needs": {},
        "age_s": np.zeros(n),
        "revision": np.zeros(n, np.int64),
        "tags": ({},) * n,
        "lat_deg": np.zeros(n),
        "lon_deg": np.zeros(n),
    }
    return KindView(**{**record, **changed})


def test_pumps_rest_in_dear_hours_and_run_for_a_low_tank() -> None:
    attributes = TankAttributes.defaults(2)
    state = TankState.defaults(2).replace(level_m=np.array([44.0, 31.0]), demand_m3s=np.full(2, 0.05))
    on_off = TankCommand(pump_speed=np.array([1.0, 0.0]))
    shown = indicators(state, attributes, on_off, Windows())
    noon = AT_S + 12 * 3600.0
    view = View(now_s=noon, kinds={"tank": seen(TANK, state, attributes, on_off, shown)})
    first, second = schedule_pumps(view, SCHEDULE_PUMPS.defaults)
    assert isinstance(first.effects[0], CommandTo)
    assert first.effects[0].values == {"pump_speed": 0.0}
    assert second.effects[0].values == {"pump_speed": 1.0}
    assert first.objective is not None
    assert first.bound is not None
    assert first.bound <= first.objective + 1e-9
    np.testing.assert_array_equal(
        prices(noon, SCHEDULE_PUMPS.defaults)[[0, 9, 10, 17, 18]], [0.3, 0.3, 0.12, 0.12, 0.3]
    )


def week_of(leak_m3s: float) -> Column:
    hour = np.arange(168.0) % 24
    return 0.03 * (1 + 0.8 * np.sin(2 * np.pi * (hour - 8) / 24)) + leak_m3s


def test_pressure_night_flow_and_leaks_of_a_zone() -> None:
    windows = ZoneWindows(usual_m3s=np.stack([week_of(0.0), week_of(0.02)], axis=1))
    attributes = ZoneAttributes.defaults(2).replace(night_use_m3s=np.full(2, 0.008))
    state = ZoneState.defaults(2).replace(inflow_m3s=np.array([0.03, 0.09]), hour_of_week_h=np.array([8.3, 8.3]))
    shown = zone_indicators(state, attributes, ZoneCommand.defaults(2), windows)
    night = night_flow_m3s(windows)
    assert night[1] - night[0] == pytest.approx(0.02)
    assert shown["leak_m3s"][0] == pytest.approx(0.0, abs=1e-3)
    assert shown["leak_share"][1] > 0.3
    loss = hydraulics.head_loss_m(np.array([0.03, 0.09]), 2000.0, 0.3, 110.0)
    np.testing.assert_allclose(shown["pressure_m"], 70.0 - 20.0 - loss)
    assert shown["unusual_m3s"][1] == pytest.approx(0.09 - week_of(0.02)[8])

    view = View(
        now_s=AT_S, kinds={"pressure_zone": seen(PRESSURE_ZONE, state, attributes, ZoneCommand.defaults(2), shown)}
    )
    (line,) = find_leaks(view, FIND_LEAKS.defaults)
    assert line.because == ("pressure_zone/1",)
    assert "lost every night" in line.reason


def test_a_zone_finds_its_inlet_head_from_the_far_gauge() -> None:
    """The valve was set to 70 m and hangs at 55: the gauge at the critical point says so."""
    table = TwinTable(PRESSURE_ZONE, ["pressure_zone/0"], ZoneAttributes.defaults(1).block((1,)))
    layout = PRESSURE_ZONE.reading.layout
    truth = ZoneState.defaults(1).replace(inflow_m3s=np.array([0.05]), inlet_head_m=np.array([55.0]))
    gauge = zone_indicators(truth, ZoneAttributes.defaults(1), ZoneCommand.defaults(1), ZoneWindows.defaults(1))
    values = np.full((layout.rows, 1), np.nan)
    values[layout.places["inflow_m3s"]], values[layout.places["pressure_m"]] = 0.05, gauge["pressure_m"]
    table.apply(Batch(rows=np.zeros(1, np.intp), observed_at_s=np.array([AT_S]), values=values))
    assert PRESSURE_ZONE.state.of_block(table.x).inlet_head_m[0] == pytest.approx(55.0, abs=0.5)
    back = predict_zone(truth, ZoneAttributes.defaults(1), ZoneCommand.defaults(1), None, step(600.0))
    assert back.inlet_head_m[0] == pytest.approx(70.0, abs=0.01)
