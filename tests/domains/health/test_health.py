"""Erlang's tables, houses that fill and empty, postings against trying all, and what the rules say."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.stats import poisson

from domains.health.ambulance import (
    AMBULANCE_STATION,
    StationAttributes,
    StationCommand,
    StationState,
    needs,
)
from domains.health.ambulance import indicators as station_indicators
from domains.health.ambulance import predict as predict_station
from domains.health.hospital import HOSPITAL, HospitalAttributes, HospitalCouplings, HospitalState, indicators, predict
from domains.health.policies import (
    DIVERT_PATIENTS,
    POST_AMBULANCES,
    covered_ph,
    divert,
    divert_patients,
    post,
    post_ambulances,
)
from domains.health.queues import erlang_b, erlang_c, servers_for, stay
from twin_actors.core.columns import Command, Windows
from twin_actors.core.kind import Kind, Step
from twin_actors.core.view import CommandTo, CoupleTo, KindView, Links, View

# Offered load in erlangs at which so many servers turn away that share: the printed Erlang B tables, three digits.
ERLANG_B = [
    (0.001, 10, 3.09),
    (0.001, 20, 9.41),
    (0.01, 5, 1.36),
    (0.01, 10, 4.46),
    (0.01, 20, 12.0),
    (0.01, 30, 20.3),
    (0.01, 50, 37.9),
    (0.01, 100, 84.1),
    (0.02, 10, 5.08),
    (0.02, 20, 13.2),
    (0.05, 10, 6.22),
    (0.05, 20, 15.2),
]


@pytest.mark.parametrize(("blocking", "servers", "erlangs"), ERLANG_B)
def test_erlang_b_is_that_of_the_printed_table(blocking: float, servers: int, erlangs: float) -> None:
    digit = 0.005 if erlangs < 10 else 0.05
    low, high = erlang_b(np.full(2, float(servers)), np.array([erlangs - digit, erlangs + digit]))
    assert low <= blocking <= high
    assert servers_for(np.array(erlangs - digit), blocking) == servers


@settings(max_examples=60)
@given(servers=st.integers(0, 300), load=st.floats(0.01, 400.0))
def test_erlang_b_is_a_ratio_of_poisson_probabilities(servers: int, load: float) -> None:
    """B = P(N = c)/P(N ≤ c) of a Poisson number of mean a, from a library that knows nothing of queues."""
    wanted = np.exp(poisson.logpmf(servers, load) - poisson.logcdf(servers, load))
    assert float(erlang_b(np.array(float(servers)), np.array(load))) == pytest.approx(
        float(wanted), rel=1e-6, abs=1e-12
    )


def test_erlang_c_of_known_systems() -> None:
    """M/M/1: ρ. M/M/2 at a = 1: 1/3, M/M/3 at a = 2: 4/9. A call centre of 10 erlangs with 14 agents: 17.4 %."""
    servers, load = np.array([1.0, 2.0, 3.0, 14.0, 5.0, 0.0]), np.array([0.7, 1.0, 2.0, 10.0, 6.0, 1.0])
    np.testing.assert_allclose(erlang_c(servers, load), [0.7, 1 / 3, 4 / 9, 0.174, 1.0, 1.0], atol=5e-4)


def test_servers_and_entities_do_not_mix() -> None:
    servers, load = np.array([2.0, 30.0, 0.0]), np.array([[1.0, 25.0, 1.0], [0.5, 20.0, 3.0]])
    both = erlang_b(servers, load)
    for place in np.ndindex(load.shape):
        assert both[place] == erlang_b(servers[place[1]], load[place])
    with pytest.raises(ValueError, match="up to 5000"):
        erlang_b(np.array(6000.0), np.array(1.0))


houses = {
    "start": st.floats(0.0, 300.0),
    "arrivals": st.floats(0.0, 30.0),
    "mean_h": st.floats(0.5, 100.0),
    "places": st.floats(1.0, 200.0),
    "hours": st.floats(0.0, 100.0),
}


@given(**houses)
def test_nobody_is_lost(start: float, arrivals: float, mean_h: float, places: float, hours: float) -> None:
    moved = stay(
        np.array([start]), np.array([arrivals]), np.array([mean_h]), np.array([places]), np.array([hours * 3600.0])
    )
    assert moved.occupied + moved.left + moved.turned_away == pytest.approx(start + moved.arrived, rel=1e-9, abs=1e-9)
    assert moved.left[0] >= -1e-6
    assert moved.turned_away[0] >= -1e-6
    assert moved.occupied[0] <= max(start, places) + 1e-6


@settings(max_examples=60)
@given(**houses, pieces=st.integers(2, 9))
def test_any_cut_of_time_gives_the_same_house(
    start: float, arrivals: float, mean_h: float, places: float, hours: float, pieces: int
) -> None:
    def go(occupied: Any, dt_h: float) -> Any:
        return stay(occupied, np.array([arrivals]), np.array([mean_h]), np.array([places]), np.array([dt_h * 3600.0]))

    once = go(np.array([start]), hours)
    occupied, turned = np.array([start]), 0.0
    for _ in range(pieces):
        part = go(occupied, hours / pieces)
        occupied, turned = part.occupied, turned + float(part.turned_away[0])
    np.testing.assert_allclose(occupied, once.occupied, rtol=1e-6, atol=1e-6)
    assert turned == pytest.approx(float(once.turned_away[0]), rel=1e-5, abs=1e-4)


def test_people_who_leave_are_those_of_an_ode() -> None:
    """Free, filling and then full for a while: ∫ N/s dt by an ODE solver gives the patients who go home."""
    start, arrivals, mean_h, places, hours = 40.0, 3.0, 30.0, 70.0, 48.0
    moved = stay(
        np.array([start]), np.array([arrivals]), np.array([mean_h]), np.array([places]), np.array([hours * 3600.0])
    )

    def slope(_: float, y: Any) -> Any:
        inside = min(y[0], places)
        change = arrivals - inside / mean_h
        return [0.0 if y[0] >= places and change > 0.0 else change, inside / mean_h]

    solved = solve_ivp(slope, (0.0, hours), [start, 0.0], rtol=1e-8, atol=1e-8, max_step=0.05).y[:, -1]
    assert moved.occupied[0] == pytest.approx(min(solved[0], places), abs=0.05)
    assert moved.left[0] == pytest.approx(solved[1], abs=0.1)


def test_a_hospital_fills_and_says_when() -> None:
    attributes = HospitalAttributes.defaults(2).replace(beds=np.full(2, 100.0), mean_stay_h=np.full(2, 50.0))
    state = HospitalState.defaults(2).replace(occupied_beds=np.array([80.0, 80.0]), arrivals_ph=np.array([3.0, 1.0]))
    shown = indicators(state, attributes, Command(), Windows())
    full_h = 50.0 * np.log((150.0 - 80.0) / (150.0 - 100.0))
    np.testing.assert_allclose(shown["full_in_h"], [full_h, 240.0])
    step = Step(dt_s=np.full(2, full_h * 3600.0), at_s=np.full(2, 1.78e9))
    after = predict(state, attributes, Command(), HospitalCouplings.defaults(2), step)
    assert after.occupied_beds[0] == pytest.approx(100.0)
    assert after.turned_away_persons[0] == pytest.approx(0.0, abs=1e-6)
    sent = predict(state, attributes, Command(), HospitalCouplings(diverted_ph=np.array([-2.0, 2.0])), step)
    assert sent.occupied_beds[0] < 80.0 < sent.occupied_beds[1]


@settings(max_examples=25)
@given(data=st.data(), busy=st.sampled_from([0.0, 0.3, 0.6]))
def test_a_posting_is_the_best_of_all(data: st.DataObject, busy: float) -> None:
    posts, ambulances = 4, data.draw(st.integers(1, 4))
    calls = np.array(data.draw(st.lists(st.floats(0.1, 5.0), min_size=posts, max_size=posts)))
    reaches = np.array(data.draw(st.lists(st.booleans(), min_size=posts**2, max_size=posts**2))).reshape(posts, posts)
    reaches |= np.eye(posts, dtype=np.bool_)
    plan = post(calls, reaches, ambulances, busy)
    best = max(
        covered_ph(calls, reaches, np.array(split, dtype=np.float64), busy)
        for split in itertools.product(range(ambulances + 1), repeat=posts)
        if sum(split) == ambulances
    )
    assert plan.at_post.sum() == ambulances
    assert plan.covered_ph == pytest.approx(best, rel=2e-3)
    assert plan.bound_ph >= best * (1 - 1e-3)
    now = plan.at_post[::-1].copy()
    staying = post(calls, reaches, ambulances, busy, now)
    assert staying.covered_ph >= best - 0.0101 * calls.sum()  # who stays is worth a hundredth of the calls
    assert np.minimum(staying.at_post, now).sum() >= np.minimum(plan.at_post, now).sum()


def seen(kind: Kind, state: Any, attributes: Any, shown: Any, lat: Any, **changed: Any) -> KindView:
    n = len(lat)
    record: dict[str, Any] = {
        "kind": kind,
        "ids": tuple(f"{kind.name}/{k}" for k in range(n)),
        "state": state,
        "sd": state,
        "attributes": attributes,
        "command": None,
        "desired": None,
        "couplings": None,
        "proposed": None,
        "indicators": shown,
        "alerts": {},
        "needs": {},
        "age_s": np.zeros(n),
        "revision": np.zeros(n, np.int64),
        "tags": ({},) * n,
        "lat_deg": np.asarray(lat),
        "lon_deg": np.zeros(n),
    }
    return KindView(**{**record, **changed})


def stations(calls: list[float], ambulances: list[float], age_s: float = 0.0) -> View:
    """Stations in a row, 4 km apart: at 40 km/h one gets 5.3 km in eight minutes, to the next one and no further."""
    n = len(calls)
    attributes = StationAttributes.defaults(n).replace(ambulances=np.array(ambulances))
    state, command = StationState.defaults(n).replace(calls_ph=np.array(calls)), StationCommand.defaults(n)
    shown = station_indicators(state, attributes, command, Windows())
    view = seen(
        AMBULANCE_STATION,
        state,
        attributes,
        shown,
        np.arange(n) * 4.0 / 111.195,
        command=command,
        age_s=np.full(n, age_s),
    )
    return View(now_s=1.78e9, kinds={"ambulance_station": view})


def test_ambulances_are_posted_where_they_reach_most_calls() -> None:
    (proposal,) = post_ambulances(
        stations([0.05, 0.05, 0.8, 0.9, 0.8], [3.0, 1.0, 0.0, 0.0, 0.0]), POST_AMBULANCES.defaults
    )
    posted = {effect.entity: effect.values["posted"] for effect in proposal.effects if isinstance(effect, CommandTo)}
    assert posted["ambulance_station/0"] == 0.0
    assert posted["ambulance_station/3"] >= 2.0  # its neighbours are within reach
    assert proposal.objective is not None
    assert proposal.bound is not None
    assert proposal.objective <= proposal.bound + 1e-6
    assert "calls/h find one in time" in proposal.reason
    assert not list(post_ambulances(stations([1.0, 1.0], [1.0, 1.0]), POST_AMBULANCES.defaults))
    assert not list(post_ambulances(stations([0.1, 2.0, 2.0], [3.0, 0.0, 0.0], age_s=1e5), POST_AMBULANCES.defaults))


def test_a_station_posts_what_it_is_told_and_asks_when_short() -> None:
    attributes, state = StationAttributes.defaults(2), StationState.defaults(2).replace(calls_ph=np.array([0.2, 4.0]))
    told = StationCommand(posted=np.array([-1.0, 1.0]))
    shown = station_indicators(state, attributes, told, Windows())
    np.testing.assert_allclose(shown["at_hand"], [3.0 - 1.1, 0.0])
    wanted = needs(state, attributes, shown)["spare_ambulance"]
    np.testing.assert_array_equal(wanted.amount, [0.0, 1.0])
    step = Step(dt_s=np.full(2, 900.0), at_s=np.full(2, 1.78e9))
    after = predict_station(state, attributes, told, None, step)
    assert after.busy_ambulances[1] == pytest.approx(1.0)
    assert after.missed_persons[1] > 0.0


@settings(max_examples=40)
@given(data=st.data(), n=st.integers(2, 5))
def test_diverting_conserves_patients_and_is_as_good_as_its_bound(data: st.DataObject, n: int) -> None:
    number = st.floats(0.0, 5.0)
    arrivals, room = (np.array(data.draw(st.lists(number, min_size=n, max_size=n))) for _ in range(2))
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    ends = np.array(data.draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))).T
    most = arrivals[ends[0]] * 0.5
    flow, objective, bound = divert(arrivals, room, ends, most)
    net = np.bincount(ends[1], flow, minlength=n) - np.bincount(ends[0], flow, minlength=n)
    assert net.sum() == pytest.approx(0.0, abs=1e-9)
    assert (arrivals + net >= -0.01).all()
    assert objective <= np.maximum(arrivals - room, 0.0).sum() + 1e-6
    assert bound == pytest.approx(objective, abs=1e-6)


def test_a_full_hospital_sends_patients_to_the_one_that_has_room() -> None:
    attributes = HospitalAttributes.defaults(3).replace(beds=np.full(3, 100.0), mean_stay_h=np.full(3, 50.0))
    state = HospitalState.defaults(3).replace(
        occupied_beds=np.array([98.0, 60.0, 99.0]), arrivals_ph=np.array([2.5, 1.0, 1.0])
    )
    shown = indicators(state, attributes, Command(), Windows())
    links = Links(
        source=np.array([0, 0], np.intp), target=np.array([1, 2], np.intp), share=np.full(2, 0.5), delay_s=np.zeros(2)
    )

    def view(diverted: list[float], occupied: float = 98.0) -> View:
        now = state.replace(occupied_beds=np.array([occupied, 60.0, 99.0]))
        kind = seen(
            HOSPITAL,
            now,
            attributes,
            {**shown, "occupancy": now.occupied_beds / 100.0},
            np.zeros(3),
            couplings=HospitalCouplings(diverted_ph=np.array(diverted)),
        )
        return View(now_s=1.78e9, kinds={"hospital": kind}, relations={("diverts_to", "hospital", "hospital"): links})

    (proposal,) = divert_patients(view([0.0, 0.0, 0.0]), DIVERT_PATIENTS.defaults)
    told = {effect.entity: effect.values["diverted_ph"] for effect in proposal.effects if isinstance(effect, CoupleTo)}
    # 100 beds at 92 % for 50 h take 1.84 an hour: 0.66 are too many
    assert told["hospital/0"] == pytest.approx(-0.66, abs=0.002)
    assert sum(told.values()) == pytest.approx(0.0, abs=1e-6)
    assert "from hospital/0 to hospital/" in proposal.reason
    (back,) = divert_patients(view([-0.66, 0.66, 0.0], occupied=70.0), DIVERT_PATIENTS.defaults)
    assert {effect.values["diverted_ph"] for effect in back.effects} == {0.0}
    assert not list(divert_patients(view([0.0, 0.0, 0.0], occupied=70.0), DIVERT_PATIENTS.defaults))
