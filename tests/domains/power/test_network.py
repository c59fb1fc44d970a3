"""What substations do for each other: transfer over ties, shedding for a feeder, under-voltage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.power.feeders import close_within_room, open_for_feeder
from domains.power.records import SubstationCommand
from domains.power.shedding import SHED_LOAD, shed_load
from domains.power.transfer import SWITCHING_COST, TRANSFER_LOAD, plan_ties, propose
from tests.domains.power.substations import city, links
from twin_actors.core.view import CommandTo

TIE = ("tie", "substation", "substation")
FEEDS = ("feeds", "substation", "substation")


def test_load_goes_where_there_is_room_and_no_further() -> None:
    plan = plan_ties(
        np.array([50.0, 30.0, 36.0]), np.array([40.0, 38.0, 38.0]), np.array([[0, 1], [1, 2]]), np.array([10.0, 10.0])
    )
    np.testing.assert_allclose(plan.flow_mw, [10.0, 2.0], atol=1e-6)
    np.testing.assert_allclose(plan.net_mw, [-10.0, 8.0, 2.0], atol=1e-6)
    np.testing.assert_allclose(plan.overload_mw, 0.0, atol=1e-6)
    assert plan.objective == pytest.approx(12 * SWITCHING_COST)
    assert plan.bound == pytest.approx(plan.objective)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(2, 6))
def test_transfer_conserves_load_and_is_as_good_as_its_bound(data: st.DataObject, n: int) -> None:
    number = st.floats(0.0, 60.0)
    load = np.array(data.draw(st.lists(number, min_size=n, max_size=n)))
    permissible = np.array(data.draw(st.lists(number, min_size=n, max_size=n)))
    pairs = [(a, b) for a in range(n) for b in range(a + 1, n)]
    chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    capacity = np.array(data.draw(st.lists(st.floats(0.0, 20.0), min_size=len(chosen), max_size=len(chosen))))
    plan = plan_ties(load, permissible, np.array(chosen).T, capacity)
    assert plan.net_mw.sum() == pytest.approx(0.0, abs=1e-9)
    assert (np.abs(plan.flow_mw) <= capacity + 0.001).all()
    assert (load + plan.net_mw >= -0.01).all()
    before = np.maximum(load - permissible, 0.0)
    assert plan.overload_mw.sum() <= before.sum() + 0.01
    healthy = load <= permissible
    assert (plan.overload_mw[healthy] <= 0.01).all() or plan.overload_mw.sum() < before.sum()
    # the dual bound proves the plan, up to the rounding to kilowatts
    assert plan.bound - 1e-6 <= plan.objective + 0.01
    assert plan.objective <= plan.bound + 0.001 * (len(chosen) + 1) * n


def test_an_overloaded_substation_hands_load_over_and_takes_it_back() -> None:
    relations = {TIE: links((0, 1), (1, 0), (1, 2), share=0.3)}
    (proposal,) = propose(city([55.0, 20.0, 20.0], relations=relations), TRANSFER_LOAD.defaults)
    effects = {effect.entity: effect.values["tie_mw"] for effect in proposal.effects if isinstance(effect, CommandTo)}
    assert effects["substation/0"] < -2.0
    assert effects["substation/1"] == -effects["substation/0"]
    assert "substation/2" not in effects
    assert "from substation/0 to substation/1" in proposal.reason
    assert proposal.objective is not None
    assert proposal.bound == pytest.approx(proposal.objective, abs=0.01)

    moved = SubstationCommand.defaults(3).replace(
        tie_mw=np.array([effects["substation/0"], effects["substation/1"], 0.0])
    )
    settled = city([55.0, 20.0, 20.0], relations=relations, command=moved)
    assert not list(propose(settled, TRANSFER_LOAD.defaults))
    (back,) = propose(city([20.0, 20.0, 20.0], relations=relations, command=moved), TRANSFER_LOAD.defaults)
    assert {effect.values["tie_mw"] for effect in back.effects} == {0.0}


def test_a_silent_neighbour_is_neither_burdened_nor_relieved() -> None:
    relations = {TIE: links((0, 1), share=0.3)}
    assert not [
        effect
        for proposal in propose(city([55.0, 20.0], relations=relations, age_s=[0.0, 1e4]), TRANSFER_LOAD.defaults)
        for effect in proposal.effects
    ]
    assert not list(propose(city([55.0, 20.0]), TRANSFER_LOAD.defaults))


BLOCKS = np.repeat(np.array([[4.0], [6.0], [5.0], [3.0], [8.0]]), 3, axis=1)
PRIORITY = np.array([[3.0, 9, 1], [1, 9, 2], [5, 9, 9], [2, 9, 9], [4, 9, 9]])


def test_a_feeder_sheds_the_least_important_blocks_of_all_that_it_feeds() -> None:
    shed = np.zeros((5, 3))
    opened = open_for_feeder(shed, shed, BLOCKS, PRIORITY, np.array([1, 2]), 9.0)
    np.testing.assert_array_equal(opened[:, 2], [1, 1, 0, 0, 0])  # priorities 1 and 2 of the second one: 10 MW
    np.testing.assert_array_equal(opened[:, :2], 0.0)
    own = shed.copy()
    own[0, 2] = 1.0  # it sheds 4 MW for reasons of its own: 5 MW are missing
    np.testing.assert_array_equal(
        open_for_feeder(shed, own, BLOCKS, PRIORITY, np.array([1, 2]), 9.0)[:, 2], [1, 1, 0, 0, 0]
    )


@settings(max_examples=80, deadline=None)
@given(excess=st.floats(0.0, 80.0), data=st.data())
def test_shedding_for_a_feeder_is_enough_and_least(excess: float, data: st.DataObject) -> None:
    shed = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=15, max_size=15))).reshape(5, 3)
    fed = np.array([0, 2])
    opened = open_for_feeder(shed, shed, BLOCKS, PRIORITY, fed, excess)
    gone = float(((opened - shed) * BLOCKS)[:, fed].sum())
    left = float((BLOCKS * (1 - opened))[:, fed].sum())
    assert gone >= excess - 1e-9 or left == 0.0
    assert gone - 8.0 < excess or gone == 0.0  # without the largest block it would not be enough; exact for any excess
    np.testing.assert_array_equal(opened[:, 1], shed[:, 1])
    assert (opened >= shed).all()
    # what comes back within the same room is never more than the room
    closed = close_within_room(opened, np.zeros((5, 3)), BLOCKS, PRIORITY, fed, excess)
    assert float(((opened - closed) * BLOCKS)[:, fed].sum()) <= excess + 1e-9


def test_a_hot_bulk_station_sheds_blocks_of_the_stations_it_feeds() -> None:
    blocks = {"block_mw": BLOCKS, "block_priority": PRIORITY}
    blocks["block_mw"] = BLOCKS * np.array([0.0, 1.0, 1.0])
    relations = {FEEDS: links((0, 1), (0, 2))}
    hot = {"oil_temp_c": [100.0, 50.0, 50.0], "h1_k": [30.0, 20.0, 20.0], "h2_k": [5.0, 10.0, 10.0]}
    (proposal,) = shed_load(
        city([54.0, 25.0, 30.0], attributes=blocks, state=hot, relations=relations), SHED_LOAD.defaults
    )
    (effect,) = proposal.effects
    assert effect.entity == "substation/2"
    assert effect.values["block_shed"] == (1.0, 1.0, 0.0, 0.0, 0.0)
    assert not list(shed_load(city([54.0, 25.0, 30.0], attributes=blocks, state=hot), SHED_LOAD.defaults))


def test_a_warm_bulk_station_keeps_blocks_from_coming_back() -> None:
    blocks = {"block_mw": BLOCKS * np.array([0.0, 1.0, 1.0]), "block_priority": PRIORITY}
    off = SubstationCommand.defaults(3).replace(block_shed=np.array([[0.0, 0, 1]] + [[0.0, 0, 0]] * 4))
    relations = {FEEDS: links((0, 1), (0, 2))}
    warm = {"oil_temp_c": [80.0, 50.0, 50.0], "h1_k": [34.0, 20.0, 20.0], "h2_k": [5.0, 10.0, 10.0]}
    view = city([45.0, 25.0, 30.0], attributes=blocks, state=warm, command=off, relations=relations)
    assert not list(shed_load(view, SHED_LOAD.defaults))
    (back,) = shed_load(city([45.0, 25.0, 30.0], attributes=blocks, state=warm, command=off), SHED_LOAD.defaults)
    assert back.effects[0].entity == "substation/2"


def test_low_voltage_sheds_what_raises_it_to_the_target() -> None:
    blocks = {"block_mw": BLOCKS[:, :1], "block_priority": PRIORITY[:, :1], "sag_pu": 0.1}
    (proposal,) = shed_load(city([35.0], attributes=blocks, state={"voltage_pu": 0.87}), SHED_LOAD.defaults)
    # 0.05 pu are 19 MW at 0.1 pu for 38 MW: b2, b4, b1 are 13 MW, b5 makes it 21
    assert proposal.effects[0].values["block_shed"] == (1.0, 1.0, 0.0, 1.0, 1.0)
    assert not list(shed_load(city([35.0], attributes=blocks, state={"voltage_pu": 0.89}), SHED_LOAD.defaults))
    off = SubstationCommand.defaults(1).replace(block_shed=np.array([[1.0], [1], [0], [1], [1]]))
    waits = city([35.0], attributes=blocks, state={"voltage_pu": 0.945}, command=off)
    assert not list(shed_load(waits, SHED_LOAD.defaults))  # room of 0.005 pu is 1.9 MW: the 8 MW of b5 do not fit
    with pytest.raises(ValueError, match="must rise"):
        list(shed_load(waits, {**SHED_LOAD.defaults, "voltage_limit_pu": 0.93}))
