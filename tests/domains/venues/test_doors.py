"""Door counters that err: reflection, empty nights, the learnt share, and a real door of 105 days."""

from __future__ import annotations

import csv
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.venues.doors import counted, history_of_a_day, inside_persons, net_persons
from domains.venues.venue import VENUE, VenueAttributes, VenueCommand, VenueCouplings, VenueState, predict
from twin_actors.core.columns import Column
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Step
from twin_actors.core.table import TwinTable

DATA = Path(os.environ.get("TWIN_ACTORS_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
DOOR = DATA / "calit2" / "calit2_in_out.csv"
needs_door = pytest.mark.skipif(not DOOR.exists(), reason=f"the CalIt2 counts are not at {DOOR}")
SLOTS, EMPTY_AT_H = 48, 4

HALL = VenueAttributes(
    area_m2=[1000.0],
    capacity_persons=[2000.0],
    exit_width_m=[5.0],
    gates=[100.0],
    empty_at_h=[4.0],
    counter_learning=[0.5],
)


def at(entered: float, left: float, **more: float) -> VenueState:
    columns = {name: np.array([value]) for name, value in more.items()}
    return VenueState(
        entered_persons=np.array([entered]),
        left_persons=np.array([left]),
        inflow_pmin=columns.pop("inflow_pmin", np.zeros(1)),
        outflow_pmin=columns.pop("outflow_pmin", np.zeros(1)),
        **columns,
    )


def moved(state: VenueState, dt_s: float, hour: float, attributes: VenueAttributes = HALL) -> VenueState:
    step = Step(dt_s=np.array([dt_s]), at_s=np.array([86_400.0 * 20_000 + 3600.0 * hour]))
    return predict(state, attributes, VenueCommand(), VenueCouplings(), step)


def test_the_empty_hour_is_the_new_zero_and_only_the_second_one_teaches() -> None:
    evening = at(1100.0, 1000.0)
    morning = moved(evening, 3600.0, 4.5)
    assert inside_persons(morning, HALL) == pytest.approx([0.0])
    assert morning.miscount == pytest.approx([0.0])
    assert morning.nights == pytest.approx([1.0])
    day = morning.replace(entered_persons=np.array([1500.0]), left_persons=np.array([1360.0]))
    next_morning = moved(day, 3600.0, 24 + 4.5)
    # 400 came, 360 went: 10 % too many; weight 0.5 · 400/(400 + 100)
    assert next_morning.miscount == pytest.approx([0.4 * 0.1])
    assert inside_persons(next_morning, HALL) == pytest.approx([0.0])
    noon = next_morning.replace(entered_persons=np.array([1600.0]))
    assert inside_persons(noon, HALL) == pytest.approx([96.0])


def test_a_deficit_is_people_who_came_in_uncounted() -> None:
    state = moved(at(50.0, 60.0), 60.0, 12.0)
    assert state.uncounted_persons == pytest.approx([10.0])
    later = state.replace(entered_persons=np.array([55.0]))
    assert inside_persons(later, HALL) == pytest.approx([5.0])
    never_empty = HALL.replace(empty_at_h=np.array([-1.0]))
    assert moved(at(50.0, 60.0), 60.0, 12.0, never_empty).uncounted_persons == pytest.approx([0.0])


def test_the_zero_is_taken_at_the_hour_itself_within_a_step() -> None:
    """60 in a minute, a step of 300 s of which 100 s lie after 4:00: 100 persons of the new day."""
    step_end = 4.0 + 100.0 / 3600.0
    state = moved(at(0.0, 0.0, inflow_pmin=60.0), 300.0, step_end)
    assert state.entered_persons == pytest.approx([300.0])
    assert state.entered_before_persons == pytest.approx([200.0])
    assert inside_persons(state, HALL) == pytest.approx([100.0])


@settings(max_examples=60, deadline=None)
@given(
    start=st.floats(0, 500),
    gone=st.floats(0, 500),
    inflow=st.floats(0, 100),
    outflow=st.floats(0, 100),
    hour=st.floats(3.9, 4.2),
    pieces=st.integers(2, 12),
)
def test_any_cut_of_time_gives_the_same_account(
    start: float, gone: float, inflow: float, outflow: float, hour: float, pieces: int
) -> None:
    once = moved(at(start, gone, inflow_pmin=inflow, outflow_pmin=outflow), 300.0, hour)
    parts = at(start, gone, inflow_pmin=inflow, outflow_pmin=outflow)
    for piece in range(pieces):
        parts = moved(parts, 300.0 / pieces, hour - (300.0 - 300.0 * (piece + 1) / pieces) / 3600.0)
    assert inside_persons(parts, HALL)[0] >= 0.0
    # the flows only stop where the hall runs empty; until then both are exact
    if once.left_persons[0] == pytest.approx(gone + outflow * 5.0):
        np.testing.assert_allclose(inside_persons(parts, HALL), inside_persons(once, HALL), rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=48))
def test_looking_back_a_day_is_never_negative_and_ends_empty(counts: list[tuple[int, int]]) -> None:
    entered, left = np.array(counts, dtype=np.float64).T[:, :, None]
    inside = history_of_a_day(entered, left)
    assert (inside >= -1e-9).all()
    if (entered + left).sum():
        assert inside[-1] == pytest.approx(0.0, abs=1e-9)
    net = np.cumsum(entered - left, axis=0)
    if net[-1] == 0.0 and (net >= 0.0).all():
        np.testing.assert_allclose(inside, net, atol=1e-9)  # honest counters are believed


def door() -> tuple[Column, Column, Column]:
    """Slot ends in s (local time taken for UTC) and both counts; the one blank slot counts nobody."""
    with DOOR.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    at_s = [datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp() + 1800.0 for row in rows]
    counts = np.array([[float(row[name] or 0.0) for row in rows] for name in ("in_count", "out_count")])
    return np.array(at_s), counts[0], counts[1]


@needs_door
@pytest.mark.parametrize("days", [40, pytest.param(105, marks=pytest.mark.slow)])
def test_the_real_door_stays_above_zero_and_is_near_nobody_every_night(days: int) -> None:
    """CalIt2: by plain counting −89 in the middle of a day and 819 in the end. Three twins see the same totals."""
    at_s, came, went = door()
    plain = np.cumsum(came - went)
    assert plain[-1] == 819.0
    assert np.cumsum((came - went).reshape(-1, SLOTS), axis=1).min() == -89.0
    at_s, came, went = (column[: days * SLOTS] for column in (at_s, came, went))

    n = 3  # as it is by default; empty at 4:00; empty at 4:00 and learning
    attributes = VenueAttributes.defaults(n).replace(
        area_m2=np.full(n, 2000.0),
        capacity_persons=np.full(n, 500.0),
        exit_width_m=np.full(n, 4.0),
        empty_at_h=np.array([-1.0, EMPTY_AT_H, EMPTY_AT_H]),
        counter_learning=np.array([0.0, 0.0, 0.15]),
    )
    table = TwinTable(VENUE, [f"venue/{k}" for k in range(n)], attributes.block((n,)))
    layout = VENUE.reading.layout
    totals, hour = (np.cumsum(came), np.cumsum(went)), (at_s / 3600.0) % 24.0
    inside = np.full((len(at_s), n), np.nan)
    for slot, now_s in enumerate(at_s):
        values = np.full((layout.rows, n), np.nan)
        values[layout.places["in_persons"]], values[layout.places["out_persons"]] = totals[0][slot], totals[1][slot]
        table.apply(Batch(rows=np.arange(n), observed_at_s=np.full(n, now_s), values=values))
        if slot % 5 == 0 or abs(hour[slot] - EMPTY_AT_H) == 0.5:
            inside[slot] = table.show(float(now_s), with_control=False).indicators["occupancy_persons"]
    assert (inside[~np.isnan(inside)] >= 0.0).all()
    night = hour == EMPTY_AT_H + 0.5  # half an hour after the house was empty
    before = hour == EMPTY_AT_H - 0.5
    assert inside[night, 1:].max() < 5.0
    assert inside[before, 0][-1] > 6.0 * days  # by default the counters are believed
    late = np.flatnonzero(before)[5:]
    left_over = inside[late].mean(axis=0)
    assert left_over[2] < 0.85 * left_over[1] < 20.0  # learning takes a quarter of what is left each night
    assert np.median(inside[late, 2]) < 10.0
    state = VENUE.state.of_block(table.x)
    assert 0.0 < state.miscount[2] < 0.06

    whole = np.roll(came, -2 * EMPTY_AT_H).reshape(-1, SLOTS).T, np.roll(went, -2 * EMPTY_AT_H).reshape(-1, SLOTS).T
    history = history_of_a_day(*whole)
    assert (history >= 0.0).all()
    np.testing.assert_allclose(history[-1], 0.0, atol=1e-9)


def test_the_account_does_not_depend_on_samples() -> None:
    before = VenueState.defaults(2)
    after = before.replace(entered_persons=np.full((3, 2), 5.0), left_persons=np.full((3, 2), 7.0))
    attributes = VenueAttributes.defaults(2).replace(empty_at_h=np.array([4.0, -1.0]))
    done = counted(before, after, attributes, np.full(2, 60.0), np.full(2, 86_400.0 * 9 + 12 * 3600.0))
    assert net_persons(done, attributes).shape == (3, 2)
    np.testing.assert_allclose(done.uncounted_persons, [[2.0, 0.0]] * 3)
