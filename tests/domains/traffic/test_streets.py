"""Streets between intersections: who gets what by direction and turning shares, and what a full street keeps back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.traffic import DOMAIN
from domains.traffic.streets import blocked_by_fill, street_flows
from domains.traffic.turning import LEADS, divide, left_share, side_of
from twin_actors.core.view import KindView, Links, View

Make = Callable[..., Any]
Only = Callable[..., np.ndarray]


def seen(b: Any, lat_deg: list[float], lon_deg: list[float]) -> KindView:
    return KindView(
        kind=b.kind, ids=tuple(f"intersection/{i}" for i in range(b.n)), attributes=b.attributes, state=b.state,
        sd=b.state, command=b.command, desired=b.command, couplings=b.couplings, proposed=None,
        indicators=b.indicators(), alerts={}, needs={}, age_s=np.zeros(b.n), revision=np.zeros(b.n, np.int64),
        tags=tuple({} for _ in range(b.n)), lat_deg=np.array(lat_deg), lon_deg=np.array(lon_deg),
    )  # fmt: skip


def street(source: int, target: int) -> Links:
    return Links(
        source=np.array([source], np.intp), target=np.array([target], np.intp), share=np.ones(1),
        delay_s=np.full(1, 25.0),
    )  # fmt: skip


def test_every_movement_leads_somewhere_and_left_is_left() -> None:
    assert LEADS.sum(axis=0) == pytest.approx(np.ones(8))
    # from the north straight on leads south, a left turn east, a right turn west
    assert LEADS[:, 0].tolist() == [0, 1, 0, 0]
    assert LEADS[:, 1].tolist() == [0, 0, 0.8, 0.2]


def test_sides_by_position() -> None:
    north_of = side_of(np.array([53.5]), np.array([10.0]), np.array([53.6]), np.array([10.1]))
    assert north_of == [0.0], "0.1° of longitude is 6.6 km here, 0.1° of latitude 11.1 km"
    assert side_of(np.array([53.5]), np.array([10.0]), np.array([53.5]), np.array([9.9])) == [3.0]
    assert np.isnan(side_of(np.array([np.nan]), np.array([10.0]), np.array([53.5]), np.array([9.9])))[0]


def test_a_street_carries_the_movements_that_lead_there_to_the_approach_that_faces_them(
    bench: Make, only: Only
) -> None:
    b = bench("intersection", 2).set("attributes", saturation_vph=1800.0).set("state", demand_vph=0.0)
    demand = np.zeros((8, 2))
    demand[:, 0] = only(nt=200, el=60, wt=100)  # 160 on, 60 to the left, 20 to the right: 240 leave to the south
    demand[:, 1] = only(nl=90, nt=150)
    b.state = b.state.replace(demand_vph=demand)
    # intersection 1 lies south of 0
    upstream, blocked, delay_s = street_flows(seen(b, [53.55, 53.54], [9.97, 9.97]), street(0, 1), 0.9)
    left = (90 + 60 * 0.22) / (90 + 150 + 60)
    assert upstream[:, 1] == pytest.approx(only(nl=240 * left, nt=240 * (1 - left)))
    assert upstream[:, 0].sum() == 0
    assert not blocked.any()
    assert delay_s.tolist() == [0.0, 25.0]


def test_a_full_street_blocks_the_movements_that_lead_to_it(bench: Make, only: Only) -> None:
    b = bench("intersection", 2).set("state", demand_vph=0.0).set("attributes", storage_veh=40.0)
    queue = np.zeros((8, 2))
    queue[:, 1] = only(nl=40, nt=36)  # 95 % of 80
    b.state = b.state.replace(queue_veh=queue)
    _, blocked, _ = street_flows(seen(b, [53.55, 53.54], [9.97, 9.97]), street(0, 1), 0.9)
    assert blocked[:, 0] == pytest.approx(only(nt=0.8 * 0.5, el=0.5, wt=0.2 * 0.5))

    told = {("feeds", "intersection", "intersection"): street(0, 1)}
    view = View(now_s=0.0, kinds={"intersection": seen(b, [53.55, 53.54], [9.97, 9.97])}, relations=told)
    policy = DOMAIN.policies["street_flows"]
    by_key = {proposal.key: proposal for proposal in policy.propose(view, policy.defaults)}
    assert by_key["blocked:intersection/0"].because == ("intersection/1",)
    assert by_key["blocked:intersection/0"].effects[0].values["blocked_share"][2] == 0.5


def test_blocked_vehicles_wait_in_their_queue(bench: Make, only: Only) -> None:
    b = bench("intersection").set("state", demand_vph=0.0, queue_veh=only(nt=20, st=20))
    b.set("couplings", blocked_share=only(nt=1.0))
    b.step(60)
    assert b.state.queue_veh[1, 0] == 20.0
    assert b.state.queue_veh[5, 0] < 20.0
    assert b.indicators()["blocked_share"][0] == 1.0
    assert b.state.served_veh[0] == pytest.approx(20.0 - b.state.queue_veh[5, 0])


def test_fill_blocks_from_its_limit_on() -> None:
    assert blocked_by_fill(np.array([0.5, 0.9, 0.95, 1.0, 1.4]), 0.9) == pytest.approx([0, 0, 0.5, 1, 1])


def test_without_positions_nothing_is_guessed(bench: Make) -> None:
    b = bench("intersection", 2)
    upstream, blocked, _ = street_flows(seen(b, [np.nan, 53.5], [np.nan, 9.9]), street(0, 1), 0.9)
    assert not upstream.any()
    assert not blocked.any()


@settings(deadline=None, max_examples=50)
@given(
    arriving=st.lists(st.floats(0, 3000), min_size=4, max_size=4),
    demand=st.lists(st.floats(0, 2000), min_size=8, max_size=8),
    exists=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_turning_shares_divide_and_keep_every_vehicle(
    arriving: list[float], demand: list[float], exists: list[bool]
) -> None:
    saturation = np.where(exists, 1800.0, 0.0)[:, None]
    share = left_share(np.array(demand)[:, None], saturation)
    assert ((share >= 0) & (share <= 1)).all()
    flows = np.array(arriving)[:, None]
    divided = divide(flows, share)
    assert divided[0::2] + divided[1::2] == pytest.approx(flows)
    for approach in range(4):
        left, ahead = exists[2 * approach], exists[2 * approach + 1]
        if left and not ahead:
            assert divided[2 * approach + 1, 0] == 0
        if ahead and not left:
            assert divided[2 * approach, 0] == 0
