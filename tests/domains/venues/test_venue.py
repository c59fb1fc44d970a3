"""The venue's model: conservation of people, trajectories worked out by hand, crowding and emptying."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.venues.devices import VenueDrivers, drive_venue
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

HALL = VenueAttributes(area_m2=[1000.0], capacity_persons=[2000.0], exit_width_m=[5.0], gates=[10.0])
OPEN = VenueCommand()
ALONE = VenueCouplings()


def at(entered: float, left: float, inflow: float, outflow: float) -> VenueState:
    return VenueState(entered_persons=[entered], left_persons=[left], inflow_pmin=[inflow], outflow_pmin=[outflow])


def step(dt_s: float) -> Step:
    return Step(dt_s=np.array([dt_s]), at_s=np.array([1.8e9]))


def shown(state: VenueState, command: VenueCommand = OPEN) -> dict[str, Column]:
    return dict(indicators(state, HALL, command, Windows()))


def test_a_filling_hall() -> None:
    # 60 persons a minute in, 12 out, for ten minutes: 600 in, 120 out, 480 more inside.
    after = predict(at(100, 20, 60, 12), HALL, OPEN, ALONE, step(600))
    assert after.entered_persons == pytest.approx([700])
    assert after.left_persons == pytest.approx([140])
    assert occupancy_persons(after, HALL) == pytest.approx([560])


def test_a_hall_that_empties_stops_at_nobody() -> None:
    # 300 inside leave at 100 a minute: empty after three minutes, and nothing leaves in the other two.
    after = predict(at(800, 500, 0, 100), HALL, OPEN, ALONE, step(300))
    assert after.left_persons == pytest.approx([800])
    assert occupancy_persons(after, HALL) == pytest.approx([0])
    assert shown(after)["net_flow_pmin"] == pytest.approx([0])
    assert shown(after)["emptying"] == pytest.approx([0])


def test_gates_limit_the_entry_and_guests_of_other_twins_come_through_them_too() -> None:
    # Ten gates of 11 a minute, half of them open: 55 of 40 + 30 a minute come in; in 4 minutes 220.
    half = VenueCommand(gates_open=[0.5])
    after = predict(at(0, 0, 40, 0), HALL, half, VenueCouplings(arrivals_pmin=[30.0]), step(240))
    assert after.entered_persons == pytest.approx([220])
    shut = predict(at(0, 0, 40, 0), HALL, VenueCommand(gates_open=[0.0]), ALONE, step(240))
    assert shut.entered_persons == pytest.approx([0])


def test_counters_that_disagree_never_turn_a_total_back() -> None:
    # 10 more were counted out than in: the hall is empty, the totals stay as they were counted.
    after = predict(at(90, 100, 6, 50), HALL, OPEN, ALONE, step(60))
    assert after.entered_persons == pytest.approx([96])
    assert after.left_persons == pytest.approx([100])
    assert occupancy_persons(after, HALL) == pytest.approx([0])


people = st.floats(0, 1e5)
flow = st.floats(0, 2000)


@given(people, people, flow, flow, flow, st.floats(0, 1), st.floats(0, 5000), st.floats(0, 86_400))
def test_people_are_conserved(
    inside: float,
    left: float,
    inflow: float,
    outflow: float,
    arrivals: float,
    gates_open: float,
    initial: float,
    dt_s: float,
) -> None:
    hall = HALL.replace(initial_persons=np.array([initial]))
    before = at(left + inside, left, inflow, outflow)
    command, couplings = VenueCommand(gates_open=[gates_open]), VenueCouplings(arrivals_pmin=[arrivals])
    after = predict(before, hall, command, couplings, step(dt_s))
    came = after.entered_persons - before.entered_persons
    went = after.left_persons - before.left_persons
    assert came >= 0
    assert went >= 0
    assert initial + after.entered_persons - after.left_persons >= -1e-6
    assert occupancy_persons(after, hall) == pytest.approx(
        occupancy_persons(before, hall) + came - went, abs=1e-6, rel=1e-9
    )
    assert came <= min(inflow + arrivals, 110 * gates_open) / 60 * dt_s + 1e-6


@given(people, flow, flow, st.floats(0, 7200), st.integers(1, 7))
def test_a_long_step_is_many_short_ones(inside: float, inflow: float, outflow: float, dt_s: float, k: int) -> None:
    long = predict(at(inside, 0, inflow, outflow), HALL, OPEN, ALONE, step(dt_s))
    short = at(inside, 0, inflow, outflow)
    for _ in range(k):
        short = predict(short, HALL, OPEN, ALONE, step(dt_s / k))
    assert short.left_persons == pytest.approx(long.left_persons, abs=1e-6)
    assert short.entered_persons == pytest.approx(long.entered_persons, abs=1e-6)


def test_indicators_of_a_crowd() -> None:
    seen = shown(at(1500, 300, 10, 100))
    assert seen["occupancy_persons"] == pytest.approx([1200])
    assert seen["density_per_m2"] == pytest.approx([1.2])
    assert seen["los"] == pytest.approx([4])  # E: between 1.08 and 2.17 per m²
    assert seen["fill"] == pytest.approx([0.6])
    assert seen["net_flow_pmin"] == pytest.approx([-90])
    assert seen["emptying"] == pytest.approx([1.5])
    # 1,200 through 5 m at 1.316/m/s: 182.4 s; 40 m at 0.935 m/s (table between 0.5 and 1.9): 42.8 s.
    assert seen["egress_s"] == pytest.approx([182.4 + 42.8], abs=0.1)


def test_indicators_take_samples_before_the_entity() -> None:
    forked = VenueState(
        entered_persons=np.full((3, 1), 1500.0),
        left_persons=np.array([[0.0], [300.0], [1500.0]]),
        inflow_pmin=np.zeros((3, 1)),
        outflow_pmin=np.full((3, 1), 30.0),
    )
    seen = indicators(forked, HALL, OPEN, Windows())
    assert seen["occupancy_persons"].tolist() == [[1500.0], [1200.0], [0.0]]
    assert {column.shape for column in seen.values()} == {(3, 1)}


def test_an_emptying_hall_asks_for_stewards_and_buses_and_a_steady_one_for_nothing() -> None:
    crowd = at(1500, 300, 0, 120)
    asked = needs(crowd, HALL, shown(crowd))
    assert asked["steward"].amount == pytest.approx([5])  # 1,200 persons, 250 each
    assert asked["bus"].amount == pytest.approx([3])  # 180 by bus, 60 each
    assert asked["steward"].duration_s == pytest.approx([600])
    calm = at(1500, 300, 20, 30)
    quiet = needs(calm, HALL, shown(calm))
    assert all(need.amount == 0 and need.urgency == 0 and need.duration_s == 0 for need in quiet.values())


def test_the_local_controller_shuts_the_gates_of_a_full_hall() -> None:
    def share(entered: float) -> float:
        state = at(entered, 0, 50, 0)
        return float(control(state, HALL, OPEN, shown(state)).gates_open[0])

    assert share(0) == 1.0
    assert share(2000) == 0.0
    assert share(2500) == 0.0
    assert share(1890) == pytest.approx(110 / 5 / 110)


def test_simulated_people_come_in_whole_and_exits_hold_the_crowd_back() -> None:
    chance = np.random.default_rng(5)
    drivers = VenueDrivers(arrivals_pmin=np.array([45.0]), departures_pmin=np.array([100_000.0]))
    driven = drive_venue(at(2000, 0, 0, 0), HALL, OPEN, ALONE, drivers, step(10), chance)
    came = driven.inflow_pmin / 60 * 10
    assert came == pytest.approx(np.round(came))
    density = 2.0
    assert driven.outflow_pmin == pytest.approx([1.40 * (1 - 0.266 * density) * density * 5.0 * 60])
    still = drive_venue(at(0, 0, 0, 0), HALL, OPEN, ALONE, drivers, step(0), chance)
    assert still.inflow_pmin == pytest.approx([45.0])


def test_the_kind_alarms_at_the_licensed_capacity() -> None:
    over = next(alert for alert in VENUE.alerts if alert.name == "over_capacity")
    assert over.emergency
    assert over.above == 1.0
    assert over.severity == "critical"
