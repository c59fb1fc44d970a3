"""Units, travel and the book of assignments."""

import json
from dataclasses import asdict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin_actors.core.resources import Assignment, Fleet, Unit, distance_km, travel_s

NOW_S = 1_700_000_000.0


def crew(number: int, **changes: object) -> Unit:
    return Unit(**{"id": f"crew/{number}", "pool": "crew", "lat_deg": 0.0, "lon_deg": 0.0, "speed_kmh": 36.0} | changes)


def job(unit: str = "crew/1", demand: str = "fix", **changes: object) -> Assignment:
    """100 s there, 50 s of work, 100 s back."""
    times = {"assigned_at_s": NOW_S, "arrives_at_s": NOW_S + 100.0, "until_s": NOW_S + 150.0}
    place = {"lat_deg": 0.0, "lon_deg": 0.01}
    return Assignment(**{"unit": unit, "demand": demand, "entity": "pump/1", "amount": 1.0} | times | place | changes)


def test_distance_matches_known_great_circles():
    # one degree of a meridian of the mean sphere: π/180 · 6371.0088 km
    assert distance_km(0.0, 0.0, 1.0, 0.0) == pytest.approx(111.19508, abs=1e-4)
    # Nashville to Los Angeles airport, the usual haversine example: 2887.26 km on R = 6372.8 km
    assert distance_km(36.12, -86.67, 33.94, -118.40) * 6372.8 / 6371.0088 == pytest.approx(2887.26, abs=0.01)


latitudes = st.floats(-90.0, 90.0)
longitudes = st.floats(-180.0, 180.0)


@given(latitudes, longitudes, latitudes, longitudes)
def test_distance_is_symmetric_and_at_most_half_round_the_earth(lat, lon, to_lat, to_lon):
    there = distance_km(lat, lon, to_lat, to_lon)
    assert there == pytest.approx(distance_km(to_lat, to_lon, lat, lon), abs=1e-6)
    assert 0.0 <= there <= np.pi * 6371.0088 + 1e-6


def test_travel_broadcasts_units_over_demands():
    times_s = travel_s(np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(3), [0.0, 1.0, 2.0], [[36.0], [72.0]])
    assert times_s.shape == (2, 3)
    np.testing.assert_allclose(times_s[0], [0.0, 11119.508, 22239.016], rtol=1e-6)
    np.testing.assert_allclose(times_s[0], 2.0 * times_s[1])


def test_no_speed_or_no_position_takes_no_time():
    np.testing.assert_array_equal(travel_s(0.0, [0.0, np.nan, 0.0], 1.0, [1.0, 1.0, np.nan], [0.0, 30.0, 30.0]), 0.0)


def test_unknown_positions_are_none_and_wrong_ones_refused():
    assert crew(1, lat_deg=float("nan")) == crew(1, lat_deg=None, lon_deg=None)
    with pytest.raises(ValueError, match="not on Earth"):
        crew(1, lat_deg=91.0)
    with pytest.raises(ValueError, match="capacity"):
        crew(1, capacity=float("nan"))


def test_a_unit_serves_its_pool_and_its_skills():
    unit = crew(1, skills=("repair",))
    assert [unit.can_serve(resource) for resource in ("crew", "repair", "bus")] == [True, True, False]


def test_a_trip_there_and_back():
    fleet = Fleet.of([crew(2), crew(1)]).assign([job()])
    assert [unit.id for unit in fleet.free(NOW_S)] == ["crew/2"]
    where = {after: fleet.position("crew/1", NOW_S + after) for after in (0, 50, 100, 149, 200, 250)}
    assert where[0] == (0.0, 0.0)
    assert where[50] == pytest.approx((0.0, 0.005))
    assert where[100] == where[149] == (0.0, 0.01)
    assert where[200] == pytest.approx((0.0, 0.005))
    assert where[250] == (0.0, 0.0)

    same, back = fleet.step(NOW_S + 249.0)
    assert (same, back) == (fleet, ())
    home, back = fleet.step(NOW_S + 250.0)
    assert [unit.id for unit in back] == ["crew/1"]
    assert home == Fleet.of([crew(1), crew(2)])
    assert home.step(NOW_S + 251.0) == (home, ())


def test_a_unit_called_back_on_its_way_turns_where_it_is():
    fleet = Fleet.of([crew(1)]).assign([job()]).release("fix", NOW_S + 40.0)
    assert fleet.position("crew/1", NOW_S + 40.0) == pytest.approx((0.0, 0.004))
    assert fleet.position("crew/1", NOW_S + 60.0) == pytest.approx((0.0, 0.002))
    assert fleet.assignments[0].back_at_s == NOW_S + 80.0
    assert fleet.free(NOW_S + 79.0) == ()
    assert fleet.free(NOW_S + 80.0) == (crew(1),)


def test_release_touches_only_its_demand_and_only_work_under_way():
    fleet = Fleet.of([crew(1), crew(2)]).assign([job(), job("crew/2", "other")])
    released = fleet.release("fix", NOW_S + 120.0)
    assert [held.until_s - NOW_S for held in released.assignments] == [120.0, 150.0]
    assert released.release("fix", NOW_S + 130.0) == released
    assert released.release("unheard of", NOW_S + 130.0) == released


def test_mistakes_say_what_to_do():
    fleet = Fleet.of([crew(1)])
    with pytest.raises(KeyError, match="did you mean 'crew/1'"):
        fleet.assign([job("crew1")])
    with pytest.raises(KeyError, match="no unit"):
        fleet.position("bus/9", NOW_S)
    with pytest.raises(ValueError, match="release that one first"):
        fleet.assign([job()]).assign([job(demand="other")])
    with pytest.raises(ValueError, match="bound to demand"):
        fleet.assign([job(until_s=NOW_S, arrives_at_s=NOW_S), job(demand="other")])
    with pytest.raises(ValueError, match="appears twice"):
        Fleet.of([crew(1), crew(1)])
    with pytest.raises(ValueError, match="not before assigned_at_s"):
        job(arrives_at_s=NOW_S - 1.0)


def test_a_unit_that_is_back_can_be_sent_again_before_the_next_step():
    fleet = Fleet.of([crew(1)]).assign([job()])
    later = {"assigned_at_s": NOW_S + 250.0, "arrives_at_s": NOW_S + 350.0, "until_s": NOW_S + 400.0}
    assert fleet.assign([job(demand="next", **later)]).assignments == (job(demand="next", **later),)


def test_across_the_date_line_the_short_way():
    fleet = Fleet.of([crew(1, lon_deg=179.0)]).assign([job(lon_deg=-179.0)])
    lat_deg, lon_deg = fleet.position("crew/1", NOW_S + 75.0)
    assert (lat_deg, lon_deg) == pytest.approx((0.0, -179.5))


def test_a_unit_without_a_base_is_known_only_on_site():
    fleet = Fleet.of([crew(1, lat_deg=None)]).assign([job(arrives_at_s=NOW_S)])
    assert fleet.position("crew/1", NOW_S + 1.0) == (0.0, 0.01)
    assert fleet.position("crew/1", NOW_S + 150.0) is None


def test_the_book_survives_json():
    fleet = Fleet.of([crew(1), crew(2, lat_deg=None)]).assign([job()])
    text = json.dumps(asdict(fleet), allow_nan=False)
    assert msgspec.json.decode(text, type=Fleet) == fleet


# in milliseconds: seconds since the epoch as float64 do not resolve much less
times = st.integers(0, 1_000_000).map(lambda ms: ms / 1000)


@given(times, times, st.none() | times, times)
def test_a_unit_is_never_free_while_away_and_never_off_its_way(drive_s, work_s, recalled_after_s, after_s):
    arrives_at_s = NOW_S + drive_s
    fleet = Fleet.of([crew(1)]).assign([job(arrives_at_s=arrives_at_s, until_s=arrives_at_s + work_s)])
    if recalled_after_s is not None:
        fleet = fleet.release("fix", NOW_S + recalled_after_s)
    lat_deg, lon_deg = fleet.position("crew/1", NOW_S + after_s)
    assert lat_deg == 0.0
    assert -1e-9 <= lon_deg <= 0.01 + 1e-9
    stepped, back = fleet.step(NOW_S + after_s)
    assert bool(fleet.free(NOW_S + after_s)) == bool(back) == (not stepped.assignments)
    if back:
        assert (lat_deg, lon_deg) == (0.0, pytest.approx(0.0, abs=1e-9))
