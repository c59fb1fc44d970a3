"""The twin of a signal: conservation, spillback, what the stage serves, and answers to observations of a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.traffic.axes import LANE, STAGE
from domains.traffic.signal import SIGNAL
from domains.traffic.sumo.loop import TwinLoop
from domains.traffic.sumo.mapping import readings_of
from domains.traffic.sumo.network import Signal, read_network
from domains.traffic.sumo.simulation import Observation
from twin_actors.core.kind import Step

Make = Callable[..., Any]
FILE = Path(__file__).parent / "sumo" / "crossing.net.xml"


def lanes(*numbers: float) -> np.ndarray:
    return np.array([*numbers, *[0.0] * (len(LANE) - len(numbers))])


def crossing(bench: Make, **state: Any) -> Any:
    serves = np.zeros((len(STAGE), len(LANE), 1))
    serves[0, 0], serves[1, 1] = 1.0, 1.0
    b = bench("signal").set("attributes", saturation_vph=lanes(1800, 1800), storage_veh=26.0)
    b.attributes = b.attributes.replace(serves=serves)
    return b.set("state", arrival_vph=0.0, **state)


def test_the_stage_that_shows_serves_its_lane_at_saturation_flow(bench: Make) -> None:
    b = crossing(bench, count_veh=lanes(10, 10), near_veh=lanes(6, 6), queue_veh=lanes(6, 6), stage=1.0)
    b.step(10)
    assert b.state.count_veh[:2, 0].tolist() == [10.0, 5.0]
    assert b.state.near_veh[:2, 0].tolist() == [6.0, 1.0]
    assert b.state.served_veh[0] == 5.0
    assert b.state.red_veh_s[:2, 0].tolist() == [60.0, 0.0]


def test_a_full_exit_keeps_its_lane(bench: Make) -> None:
    b = crossing(bench, count_veh=lanes(10), near_veh=lanes(6), stage=0.0, exit_share=lanes(0.95))
    b.step(10)
    assert b.state.count_veh[0, 0] == 10.0
    assert b.indicators()["exit_blocked"][0] == pytest.approx(0.95)


def test_arrivals_that_find_the_approach_full_wait_on_the_road_behind(bench: Make) -> None:
    b = crossing(bench, count_veh=lanes(25, 0), stage=1.0).set("state", arrival_vph=lanes(720))
    b.step(30)
    assert b.state.count_veh[0, 0] == 26.0
    assert b.state.blocked_veh[0] == pytest.approx(5.0)
    assert b.indicators()["spillback"][0] == 1.0


@settings(deadline=None, max_examples=50)
@given(
    counts=st.lists(st.floats(0, 60), min_size=2, max_size=2),
    flows=st.lists(st.floats(0, 1800), min_size=2, max_size=2),
    full=st.lists(st.floats(0, 1), min_size=2, max_size=2),
    stage=st.sampled_from([-1.0, 0.0, 1.0]),
    cuts=st.lists(st.floats(0.1, 30), min_size=1, max_size=5),
)
def test_vehicles_are_conserved_and_bounded(
    counts: list[float], flows: list[float], full: list[float], stage: float, cuts: list[float]
) -> None:
    n = 1
    serves = np.zeros((len(STAGE), len(LANE), n))
    serves[0, 0], serves[1, 1] = 1.0, 0.6
    column = lanes(1800, 1800)[:, None]
    attributes = SIGNAL.attributes.defaults(n).replace(
        serves=serves, saturation_vph=column, storage_veh=np.full((len(LANE), n), 26.0)
    )
    state = SIGNAL.state.defaults(n).replace(
        count_veh=lanes(*counts)[:, None],
        near_veh=lanes(*(min(each, 6.0) for each in counts))[:, None],
        arrival_vph=lanes(*flows)[:, None],
        exit_share=lanes(*full)[:, None],
        stage=np.full(n, stage),
    )
    command, couplings = SIGNAL.command.defaults(n), SIGNAL.couplings.defaults(n)
    began = state
    at_s = 1e9
    for dt_s in cuts:
        at_s += dt_s
        step = Step(dt_s=np.full(n, dt_s), at_s=np.full(n, at_s))
        before = state
        state = SIGNAL.predict(state, attributes, command, couplings, step)
        could_veh = (1800 * 2) * dt_s / 3600
        assert 0 <= (state.served_veh - before.served_veh)[0] <= could_veh + 1e-9, "no more than capacity"
    came = sum(flows) * sum(cuts) / 3600
    left = (state.served_veh + state.blocked_veh - began.served_veh - began.blocked_veh)[0]
    assert state.count_veh.sum() - began.count_veh.sum() + left == pytest.approx(came, abs=1e-6)
    assert (state.count_veh >= 0).all()
    assert (state.near_veh <= state.count_veh + 1e-9).all()
    assert (state.count_veh <= np.maximum(26.0, began.count_veh) + 1e-9).all()


def observation(signal: Signal, *, at_s: float = 0.0, since_s: float = 10.0, **columns: Any) -> Observation:
    nothing = np.zeros(len(signal.lanes))
    facts: dict[str, Any] = dict.fromkeys(
        ("queue_veh", "stopped_veh", "count_veh", "near_veh", "came_veh", "speed_mps", "exit_share", "box_veh"), nothing
    )
    facts.update({name: np.array(column, dtype=float) for name, column in columns.items()})
    return Observation(at_s=at_s, stage=0, stage_s=20.0, since_s=since_s, **facts)


def test_twins_answer_every_observation_of_a_network_once() -> None:
    network = read_network(FILE)
    west, east = network.signals["west"], network.signals["east"]
    loop = TwinLoop(network, {"answer_all": True})
    first = loop.decide({"west": observation(west, near_veh=[0, 0, 4], count_veh=[0, 0, 4]), "east": observation(east)})
    assert first == {"west": (1, 0.0), "east": (0, 0.0)}
    blocked = loop.decide(
        {
            "west": observation(west, at_s=10, near_veh=[3, 0, 4], count_veh=[3, 0, 4], exit_share=[0, 0, 0.97]),
            "east": observation(east, at_s=10, near_veh=[1, 5], count_veh=[1, 9]),
        }
    )
    assert blocked == {"west": (0, 0.0), "east": (1, 0.0)}
    assert loop.table.fates[0].tolist() == [2, 2], "both twins took both readings"


def test_arrivals_are_a_flow_and_not_said_on_the_first_look() -> None:
    west = read_network(FILE).signals["west"]
    assert "arrival_vph" not in readings_of(observation(west, since_s=0.0, came_veh=[1, 0, 0]))
    assert readings_of(observation(west, came_veh=[1, 0, 2]))["arrival_vph"][:4] == [360.0, 0.0, 720.0, 0.0]


def test_a_silent_neighbour_is_not_decided_on() -> None:
    network = read_network(FILE)
    loop = TwinLoop(network, {"answer_all": True, "fresh_s": 5.0})
    both = {name: observation(signal) for name, signal in network.signals.items()}
    assert set(loop.decide(both)) == {"west", "east"}
    later = {**both, "west": observation(network.signals["west"], at_s=10.0)}
    assert set(loop.decide(later)) == {"west"}, "east still says what it said ten seconds ago"
