"""Incidents on roads: the California test between two sections, speed that flow does not explain, and false alarms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from domains.traffic import DOMAIN
from domains.traffic.road import ROAD, incident_score, slow_for_flow
from twin_actors.core.inputs import Batch, Channel
from twin_actors.core.kind import Step
from twin_actors.core.table import TwinTable
from twin_actors.core.view import CoupleTo, KindView, Links, View

Make = Callable[..., Any]
START_S = 1_780_000_000.0 - 1_780_000_000.0 % 86_400 + 15 * 3600  # 15:00 UTC, before the evening peak


def score(here: float, downstream: float) -> float:
    return float(incident_score(np.array([here]), np.array([downstream]), 0.08, 0.5, 0.15)[0])


def test_all_three_tests_must_pass() -> None:
    assert score(0.40, 0.10) == pytest.approx(min(0.30 / 0.08, 0.75 / 0.5, 0.15 / 0.10))
    assert score(0.14, 0.06) == pytest.approx(1.0), "exactly at T1"
    assert score(0.40, 0.25) < 1, "congestion that reaches on is no incident here (T3)"
    assert score(0.60, 0.36) < 1, "a difference small against the occupancy (T2)"
    assert score(0.05, 0.01) < 1, "a difference that is small (T1)"
    assert score(0.9, -1.0) == 0.0, "nobody downstream"


def test_a_queue_at_capacity_is_explained_and_a_crawl_with_little_traffic_is_not() -> None:
    def slow(speed_kmh: float, flow_vph: float) -> float:
        column = np.array([speed_kmh]), np.array([flow_vph]), np.array([100.0]), np.array([4000.0])
        return float(slow_for_flow(*column)[0])

    assert slow(40.0, 3800.0) == 0.0
    assert slow(20.0, 1200.0) == pytest.approx(0.8, abs=0.01)
    assert slow(99.0, 1200.0) == pytest.approx(0.01, abs=0.01)


def run(closed: float, minutes: int = 40) -> list[dict[str, Any]]:
    """Two simulated sections in a row, the first of them closed from minute 10 on: alerts minute by minute."""
    n = 2
    chance = np.random.default_rng(3)
    attributes = ROAD.attributes.defaults(n)
    table = TwinTable(ROAD, ["road/up", "road/down"], attributes.block((n,)))
    assert ROAD.devices is not None
    drivers = ROAD.devices.drivers.defaults(n)
    state = ROAD.state.defaults(n).replace(flow_vph=np.full(n, 2600.0), speed_kmh=np.full(n, 95.0))
    command, couplings = ROAD.command.defaults(n), ROAD.couplings.defaults(n)
    layout = ROAD.reading.layout
    policy = DOMAIN.policies["road_neighbours"]
    seen_by_minute = []

    for tick in range(minutes * 6):
        at_s = START_S + 10.0 * tick
        shut = np.array([closed if tick >= 60 else 0.0, 0.0])
        step = Step(dt_s=np.full(n, 10.0), at_s=np.full(n, at_s))
        state = ROAD.devices.drive(
            state, attributes, command, couplings, drivers.replace(lanes_closed_share=shut), step, chance
        )
        values = np.full((layout.rows, n), np.nan)
        for name in ("speed_kmh", "flow_vph", "occupancy"):
            values[layout.places[name]] = np.maximum(
                getattr(state, name) + layout.fields[name].sd * chance.standard_normal(n), 0
            )
        table.apply(Batch(rows=np.arange(n), observed_at_s=np.full(n, at_s), values=values))
        shown = table.show(at_s)
        view = _view(table, shown, at_s)
        for proposal in policy.propose(view, policy.defaults):
            (effect,) = proposal.effects
            assert isinstance(effect, CoupleTo)
            told = np.full((max(layout.rows, ROAD.couplings.layout.rows), 1), np.nan)
            told[ROAD.couplings.layout.places["downstream_occupancy"]] = effect.values["downstream_occupancy"]
            table.apply(
                Batch(
                    rows=np.array([table.ids.index(effect.entity)]), observed_at_s=np.array([at_s]), values=told,
                    channels=np.array([Channel.COUPLING], np.uint8),
                )
            )  # fmt: skip
        if tick % 6 == 5:
            seen_by_minute.append({name: active.tolist() for name, active in shown.alerts.items()})
    return seen_by_minute


def _view(table: TwinTable, shown: Any, at_s: float) -> View:
    n = len(table)
    view = KindView(
        kind=ROAD, ids=tuple(table.ids), attributes=ROAD.attributes.of_block(table.attributes),
        state=ROAD.state.of_block(shown.x), sd=ROAD.state.of_block(shown.sd),
        command=ROAD.command.of_block(shown.command), desired=ROAD.command.of_block(shown.desired),
        couplings=ROAD.couplings.of_block(shown.couplings), proposed=None, indicators=shown.indicators,
        alerts=shown.alerts, needs=shown.needs, age_s=shown.age_s, revision=shown.revision,
        tags=tuple({} for _ in range(n)), lat_deg=np.zeros(n), lon_deg=np.zeros(n),
    )  # fmt: skip
    links = Links(source=np.array([0], np.intp), target=np.array([1], np.intp), share=np.ones(1), delay_s=np.zeros(1))
    return View(now_s=at_s, kinds={"road": view}, relations={("feeds", "road", "road"): links})


def test_a_closure_is_found_within_minutes_and_only_where_it_is() -> None:
    minutes = run(closed=0.8)
    assert not any(any(minute["incident"]) or any(minute["incident_suspected"]) for minute in minutes[:10])
    suspected = next(number for number, minute in enumerate(minutes) if minute["incident_suspected"][0])
    found = next(number for number, minute in enumerate(minutes) if minute["incident"][0])
    # simulated speed falls with a time constant of five minutes: below half after four, a filled loop after eleven
    assert 10 <= suspected <= 18
    assert suspected <= found <= 24
    assert minutes[-1]["incident_suspected"] == [True, False]
    assert not any(minute["incident"][1] for minute in minutes)


def test_the_evening_peak_is_no_incident() -> None:
    minutes = run(closed=0.0, minutes=180)
    assert not any(any(minute["incident"]) or any(minute["incident_suspected"]) for minute in minutes)
