"""Crowds to come: a real year of walkways against baselines, events that conserve visitors, gates and stewards."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.venues import DOMAIN
from domains.venues.forecast import event_arrivals, event_departures, flow_ahead_pph
from domains.venues.gates import HOLD_GATES, propose
from domains.venues.venue import (
    VENUE,
    VenueAttributes,
    VenueCommand,
    VenueCouplings,
    VenueState,
    control,
    indicators,
    needs,
    occupancy_persons,
    predict,
)
from twin_actors.core.columns import Column, Windows
from twin_actors.core.kind import Step
from twin_actors.core.view import CommandTo, KindView, View

DATA = Path(os.environ.get("TWIN_ACTORS_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
COUNTS = DATA / "melbourne_ped" / "ped_2014_hourly.csv"
SPARSE = "Birrarung Marr"
EIGHT_PM = 1.8e9


@pytest.mark.skipif(not COUNTS.exists(), reason=f"the Melbourne counts are not at {COUNTS}")
def test_the_forecast_beats_the_weekly_naive_on_unseen_months() -> None:
    """September to December, 1 to 24 hours ahead from every sixth hour; constants were chosen on what came before."""
    with COUNTS.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    places = [name for name in rows[0] if name not in ("timestamp", SPARSE)]
    counts = np.array([[float(row[name] or "nan") for name in places] for row in rows])
    n, first, ahead = counts.shape[1], 24 * 243, np.arange(1.0, 25.0)
    week, number = np.full((168, n), np.nan), np.zeros((168, n))
    errors: dict[str, list[Column]] = {"mine": [], "week": [], "last": []}
    for hour in range(len(counts) - 24):
        slot, said = hour % 168, ~np.isnan(counts[hour])
        number[slot] = np.where(said, np.minimum(number[slot] + 1, 8.0), number[slot])
        before = np.where(np.isnan(week[slot]), counts[hour], week[slot])
        week[slot] = np.where(said, before + (counts[hour] - before) / np.maximum(number[slot], 1), week[slot])
        if hour >= first and hour % 6 == 0:
            coming = counts[hour + 1 : hour + 25]
            now = np.where(said, counts[hour], week[slot])
            errors["mine"].append(np.abs(flow_ahead_pph(now, np.full(n, float(slot)), week, ahead) - coming))
            errors["week"].append(np.abs(counts[hour - 167 : hour - 143] - coming))
            errors["last"].append(np.abs(counts[hour] - coming))
    mae = {name: np.nanmean(np.array(error), axis=(0, 2)) for name, error in errors.items()}
    assert mae["mine"][0] < 0.75 * mae["week"][0], mae
    assert mae["mine"][0] < 0.5 * mae["last"][0]
    assert mae["mine"][2] < 0.95 * mae["week"][2]
    assert mae["mine"].mean() < mae["week"].mean()


@given(persons=st.floats(1, 1e5), start=st.floats(1e9, 2e9), cuts=st.lists(st.floats(-9000, 9000), max_size=6))
def test_an_event_brings_and_releases_exactly_its_visitors(persons: float, start: float, cuts: list[float]) -> None:
    edges = np.array([start - 1e4, *sorted(start + cut for cut in cuts), start + 1e4])[:, None]
    coming = event_arrivals(edges[:-1], edges[1:], np.array([start]), np.array([persons]))
    assert (coming >= -1e-6 * persons).all()
    assert coming.sum() == pytest.approx(persons, rel=1e-6)
    for_ever = np.where(edges[1:] == edges[-1], np.inf, edges[1:])
    going = event_departures(edges[:-1], for_ever, np.array([start]), np.array([persons]))
    assert going.sum() == pytest.approx(persons, rel=1e-6)
    assert not event_arrivals(edges[:-1], edges[1:], np.zeros(1), np.array([persons])).any()


def test_a_forecast_of_an_empty_hall_fills_for_its_event_and_empties_after() -> None:
    """5,000 visitors from 20:00 to 22:00; nobody has come yet at 17:30. Exits let out 1.32 × 12 m = 15.8 a second."""
    hall = VenueAttributes.defaults(1).replace(
        area_m2=np.array([6000.0]),
        capacity_persons=np.array([6000.0]),
        exit_width_m=np.array([12.0]),
        event_start_s=np.array([EIGHT_PM]),
        event_end_s=np.array([EIGHT_PM + 7200.0]),
        event_persons=np.array([5000.0]),
    )
    state, course = VenueState.defaults(1), {}
    for minute in range(-150, 240):
        step = Step(dt_s=np.array([60.0]), at_s=np.array([EIGHT_PM + 60.0 * minute]))
        state = predict(state, hall, VenueCommand.defaults(1), VenueCouplings.defaults(1), step)
        course[minute] = float(occupancy_persons(state, hall)[0])
    assert course[-121] == 0.0
    assert 1000.0 < course[-45] < 3500.0
    assert course[30] == pytest.approx(5000.0)
    assert course[120] == pytest.approx(5000.0, rel=0.02)
    assert course[150] < 1000.0
    shown = indicators(
        VenueState.defaults(1).replace(clock_s=np.array([EIGHT_PM - 3600.0])), hall, VenueCommand.defaults(1), Windows()
    )
    assert 3000.0 < shown["expected_arrivals_persons"][0] < 5000.0


def city(entered: list[float], gates_open: list[float], age_s: float = 0.0) -> View:
    n = len(entered)
    attributes = VenueAttributes.defaults(n).replace(
        area_m2=np.full(n, 1000.0), capacity_persons=np.full(n, 2000.0), exit_width_m=np.full(n, 5.0)
    )
    state = VenueState.defaults(n).replace(entered_persons=np.array(entered))
    command = VenueCommand(gates_open=np.array(gates_open))
    shown = indicators(state, attributes, command, Windows())
    seen: dict[str, Any] = {
        "kind": VENUE,
        "ids": tuple(f"venue/{k}" for k in range(n)),
        "attributes": attributes,
        "state": state,
        "sd": state,
        "command": command,
        "desired": command,
        "couplings": VenueCouplings.defaults(n),
        "proposed": control(state, attributes, command, shown),
        "indicators": shown,
        "alerts": {},
        "needs": needs(state, attributes, shown),
        "age_s": np.full(n, age_s),
        "revision": np.zeros(n, np.int64),
        "tags": ({},) * n,
        "lat_deg": np.zeros(n),
        "lon_deg": np.zeros(n),
    }
    return View(now_s=1.8e9, kinds={"venue": KindView(**seen)})


def test_gates_close_as_a_venue_fills_and_open_when_it_is_empty_again() -> None:
    first, second, third = propose(city([1900.0, 100.0, 1000.0], [1.0, 0.3, 1.0]), HOLD_GATES.defaults)
    assert isinstance(first.effects[0], CommandTo)
    # 100 places in five minutes are 20 a minute; 20 gates let 220 in
    assert first.effects[0].values["gates_open"] == pytest.approx(0.09)
    assert "95% full" in first.reason
    assert second.effects[0].values["gates_open"] == 1.0
    assert third.key == "hold_gates/venue/0/stewards/D"
    assert "8 stewards for 1900 persons" in third.reason
    assert not third.effects
    assert not list(propose(city([1900.0], [1.0], age_s=1e4), HOLD_GATES.defaults))
    assert DOMAIN.policies["hold_gates"] is HOLD_GATES
