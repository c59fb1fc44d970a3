"""Venue twins in a table: lost messages heal, restarted counters go on, the hidden flows are found."""

from __future__ import annotations

import numpy as np
import pytest

from domains.venues.footfall import FOOTFALL
from domains.venues.venue import VENUE, VenueAttributes
from twin_actors.core.columns import Column
from twin_actors.core.inputs import Batch
from twin_actors.core.table import TwinTable

START_S = 1_800_000_000.0
PERIOD_S = 10.0


def table(n: int = 1) -> TwinTable:
    attributes = VenueAttributes(area_m2=20_000.0, capacity_persons=25_000.0, exit_width_m=60.0, gates=120.0)
    return TwinTable(VENUE, [f"venue/v{i}" for i in range(n)], attributes.block((n,)))


def match_day(chance: np.random.Generator) -> tuple[Column, Column, Column]:
    """Times and true totals of a match: 90 minutes of arrivals, the match, everybody home, a quiet end."""
    at_s = START_S + PERIOD_S * np.arange(1, 1801)
    minute = (at_s - START_S) / 60
    came = chance.poisson(np.where(minute < 90, 220.0, 0.0) * PERIOD_S / 60)
    entered = np.cumsum(came).astype(np.float64)
    wish = chance.poisson(np.where((minute > 190) & (minute < 270), 420.0, 2.0) * PERIOD_S / 60)
    left = np.zeros_like(entered)
    for k in range(1, len(at_s)):
        left[k] = min(left[k - 1] + wish[k], entered[k])
    return at_s, entered, left


def apply(twins: TwinTable, at_s: Column, entered: Column, left: Column) -> None:
    twins.apply(Batch(rows=np.zeros(len(at_s), np.intp), observed_at_s=at_s, values=np.stack([entered, left])))


def test_lost_messages_heal_and_occupancy_ends_exact() -> None:
    chance = np.random.default_rng(11)
    at_s, entered, left = match_day(chance)
    heard = chance.random(len(at_s)) >= 0.03
    assert not heard.all()
    twins = table()
    half = len(at_s) // 2
    for part in (slice(0, half), slice(half, None)):
        kept = heard[part]
        apply(twins, at_s[part][kept], entered[part][kept], left[part][kept])
        now = twins.show(float(at_s[part][-1]))
        truth = entered[part][-1] - left[part][-1]
        assert now.indicators["occupancy_persons"][0] == pytest.approx(truth, abs=6)
    assert truth == 0
    assert now.indicators["occupancy_persons"][0] == pytest.approx(0, abs=0.5)
    state = VENUE.state.of_block(now.x)
    assert state.entered_persons[0] == pytest.approx(entered[-1], abs=0.5)


def test_a_restarted_counter_goes_on_from_where_it_was() -> None:
    twins = table()
    at_s = START_S + PERIOD_S * np.arange(60)
    entered = np.minimum(np.arange(60) * 20.0, 800.0)
    device = np.where(np.arange(60) < 50, entered, 0.0)  # switched off and on after everybody had come in
    apply(twins, at_s, device, np.zeros(60))
    assert twins.show(float(at_s[-1])).indicators["occupancy_persons"][0] == pytest.approx(800, abs=3)


def test_the_hidden_flows_are_found_from_the_totals() -> None:
    twins = table()
    at_s = START_S + PERIOD_S * np.arange(90)
    seconds = at_s - START_S
    apply(twins, at_s, 1000 + 120 / 60 * seconds, 100 + 30 / 60 * seconds)
    now = twins.show(float(at_s[-1]))
    state = VENUE.state.of_block(now.x)
    assert state.inflow_pmin[0] == pytest.approx(120, abs=3)
    assert state.outflow_pmin[0] == pytest.approx(30, abs=3)
    ahead = twins.show(float(at_s[-1]) + 600)
    grown = ahead.indicators["occupancy_persons"] - now.indicators["occupancy_persons"]
    assert grown[0] == pytest.approx(900, abs=40)
    assert (ahead.sd[:2] > now.sd[:2]).all()


def test_the_forecast_of_a_silent_venue_stops_at_nobody() -> None:
    twins = table()
    at_s = START_S + PERIOD_S * np.arange(60)
    apply(twins, at_s, np.full(60, 5000.0), 10 * np.arange(60) * 5.0)
    much_later = twins.show(float(at_s[-1]) + 6 * 3600)
    assert much_later.indicators["occupancy_persons"][0] == pytest.approx(0, abs=1e-6)
    assert much_later.indicators["emptying"][0] == 0


def test_the_usual_week_is_learnt_and_read_at_the_right_hour() -> None:
    twins = TwinTable(FOOTFALL, ["footfall/a"], FOOTFALL.attributes.defaults(1).block((1,)))
    hour_s = START_S - START_S % 604_800 + 3600 * np.arange(2 * 168) + 1800
    usual = 500 + 10.0 * (np.arange(2 * 168) % 168)
    twins.apply(Batch(rows=np.zeros(2 * 168, np.intp), observed_at_s=hour_s, values=usual[None]))
    later = twins.show(float(hour_s[-1]) + 31 * 3600)
    assert later.indicators["usual_pph"][0] == pytest.approx(500 + 10 * 30)
