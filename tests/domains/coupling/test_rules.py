"""The rules between domains on small cities: causes, thresholds, delays, silence, ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from domains.air.station import AIR_STATION
from domains.coupling import CLEAN_AIR, CONGESTION_EMISSIONS, DOMAIN, VENUE_EMPTYING
from domains.traffic.intersection import INTERSECTION
from domains.traffic.road import ROAD
from domains.venues.venue import VENUE
from twin_actors.core.columns import Columns
from twin_actors.core.kind import Kind
from twin_actors.core.view import KindView, Links, Policy, Proposal, View
from twin_actors.testing.domains import check_domain

NOW_S = 1_800_000_000.0


def record(made_of: type[Columns], n: int, given_fields: Mapping[str, Any], *, nothing: bool = False) -> Any:
    block = np.full((made_of.layout.rows, n), np.nan) if nothing else made_of.defaults(n).block((n,))
    fields = {name: np.asarray(value, dtype=np.float64) for name, value in given_fields.items()}
    return made_of.of_block(block).replace(**fields)


def view_of(
    kind: Kind,
    ids: Sequence[str],
    indicators: Mapping[str, Any],
    *,
    couplings: Mapping[str, Any] | None = None,
    command: Mapping[str, Any] | None = None,
    desired: Mapping[str, Any] | None = None,
    age_s: Any = 5.0,
) -> KindView:
    """A view of real records at their defaults, with what a test wants set."""
    n = len(ids)

    def column(value: Any) -> NDArray[np.float64]:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (n,))

    return KindView(
        kind=kind,
        ids=tuple(ids),
        attributes=record(kind.attributes, n, {}),
        state=record(kind.state, n, {}),
        sd=record(kind.state, n, {}),
        command=record(kind.command, n, command or {}),
        desired=record(kind.command, n, desired or {}, nothing=True),
        couplings=record(kind.couplings, n, couplings or {}),
        proposed=None,
        indicators={name: column(value) for name, value in indicators.items()},
        alerts={},
        needs={},
        age_s=column(age_s),
        revision=np.ones(n, np.int64),
        tags=({},) * n,
        lat_deg=column(52.0),
        lon_deg=column(13.0),
    )


def city(relation: str, source: KindView, target: KindView, *each: tuple[int, int, float, float]) -> View:
    """Two kinds and the links between them as (source, target, share, delay_s)."""
    sources, targets, share, delay_s = zip(*each, strict=True)
    links = Links(
        source=np.array(sources, np.intp),
        target=np.array(targets, np.intp),
        share=np.array(share, np.float64),
        delay_s=np.array(delay_s, np.float64),
    )
    return View(
        now_s=NOW_S,
        kinds={source.kind.name: source, target.kind.name: target},
        relations={(relation, source.kind.name, target.kind.name): links},
    )


def decide(policy: Policy, view: View, **parameters: float) -> list[Proposal]:
    return list(policy.propose(view, {**policy.defaults, **parameters}))


def junctions(n: int = 2, **keywords: Any) -> KindView:
    indicators = keywords.pop("indicators", {"waiting_veh": 0.0})
    return view_of(INTERSECTION, [f"intersection/i{k}" for k in range(n)], indicators, **keywords)


def venues(*net_flow_pmin: float, age_s: Any = 5.0) -> KindView:
    ids = [f"venue/v{k}" for k in range(len(net_flow_pmin))]
    return view_of(VENUE, ids, {"net_flow_pmin": net_flow_pmin}, age_s=age_s)


def stations(*aqi: float, age_s: Any = 60.0, **keywords: Any) -> KindView:
    ids = [f"air_station/a{k}" for k in range(len(aqi))]
    return view_of(AIR_STATION, ids, {"aqi": aqi}, age_s=age_s, **keywords)


def test_the_rules_keep_the_contract_of_a_domain() -> None:
    check_domain(DOMAIN)


@pytest.mark.parametrize("policy", DOMAIN.policies.values(), ids=lambda policy: policy.name)
def test_no_relation_no_decision(policy: Policy) -> None:
    full = [venues(-500.0), junctions(indicators={"waiting_veh": 500.0}), stations(400.0)]
    view = View(now_s=NOW_S, kinds={each.kind.name: each for each in full})
    assert decide(policy, view) == []
    assert decide(policy, View(now_s=NOW_S, kinds={})) == []


# -- venue_emptying ----------------------------------------------------------------------------------------------


def test_a_crowd_that_leaves_is_traffic_nearby_after_its_walk() -> None:
    view = city("empties_to", venues(-100.0), junctions(), (0, 0, 0.7, 300.0), (0, 1, 0.3, 120.0))
    (proposal,) = decide(VENUE_EMPTYING, view)
    # 100 persons/min × 60 × 0.5 by car / 2.5 in each = 1,200 veh/h
    assert [(e.entity, e.after_s) for e in proposal.effects] == [("intersection/i0", 300.0), ("intersection/i1", 120.0)]
    assert [e.values["event_vph"] for e in proposal.effects] == pytest.approx([840.0, 360.0])
    assert proposal.because == ("venue/v0",)
    assert proposal.cooldown_s == 300.0  # while it travels, the same level is not decided again
    assert "1200 veh/h" in proposal.reason


@pytest.mark.parametrize("net_flow_pmin", [500.0, 0.0, -60.0])
def test_a_venue_that_does_not_empty_is_no_cause(net_flow_pmin: float) -> None:
    view = city("empties_to", venues(net_flow_pmin), junctions(), (0, 0, 1.0, 300.0))
    assert decide(VENUE_EMPTYING, view) == []


def test_cars_go_to_roads_as_well() -> None:
    road = view_of(ROAD, ["road/r0"], {"delay_s": 0.0})
    (proposal,) = decide(VENUE_EMPTYING, city("empties_to", venues(-100.0), road, (0, 0, 0.5, 60.0)))
    assert proposal.effects[0].entity == "road/r0"
    assert proposal.effects[0].values == {"event_vph": pytest.approx(600.0)}


def test_a_silent_venue_makes_no_decision() -> None:
    for age_s in (3600.0, np.inf):
        view = city("empties_to", venues(-100.0, age_s=age_s), junctions(), (0, 0, 1.0, 300.0))
        assert decide(VENUE_EMPTYING, view) == []
    running = junctions(couplings={"event_vph": [900.0, 0.0]})
    assert decide(VENUE_EMPTYING, city("empties_to", venues(0.0, age_s=3600.0), running, (0, 0, 1.0, 300.0))) == []


def test_what_is_in_force_is_not_decided_again_but_renewed() -> None:
    running = junctions(couplings={"event_vph": [1190.0, 0.0]})
    (proposal,) = decide(VENUE_EMPTYING, city("empties_to", venues(-100.0), running, (0, 0, 1.0, 300.0)))
    assert proposal.key == "venue_emptying/venue/v0/intersection/renewed"
    assert proposal.cooldown_s == INTERSECTION.couplings.layout.fields["event_vph"].hold_s / 3
    changed = junctions(couplings={"event_vph": [700.0, 0.0]})
    (news,) = decide(VENUE_EMPTYING, city("empties_to", venues(-100.0), changed, (0, 0, 1.0, 300.0)))
    assert news.key == "venue_emptying/venue/v0/intersection/24"


def test_the_end_is_said_and_comes_below_half_the_threshold() -> None:
    running = junctions(couplings={"event_vph": [500.0, 0.0]})
    still = decide(VENUE_EMPTYING, city("empties_to", venues(-40.0), running, (0, 0, 1.0, 300.0)))
    assert [e.values for p in still for e in p.effects] == [{"event_vph": pytest.approx(480.0)}]
    (over,) = decide(VENUE_EMPTYING, city("empties_to", venues(-20.0), running, (0, 0, 1.0, 300.0)))
    assert [e.values for e in over.effects] == [{"event_vph": 0.0}]
    assert over.reason == "venue/v0: no longer emptying"


def test_two_venues_at_one_intersection_are_added() -> None:
    both = venues(-100.0, -200.0)
    view = city("empties_to", both, junctions(), (0, 0, 1.0, 100.0), (1, 0, 0.5, 400.0), (0, 1, 0.2, 50.0))
    by_key = {proposal.key.split("/")[2]: proposal for proposal in decide(VENUE_EMPTYING, view)}
    effects = {e.entity: e.values["event_vph"] for p in by_key.values() for e in p.effects}
    assert effects == {"intersection/i0": pytest.approx(2400.0), "intersection/i1": pytest.approx(240.0)}
    assert {who for p in by_key.values() for who in p.because} == {"venue/v0", "venue/v1"}


@given(
    st.lists(st.floats(-2000, 500), min_size=3, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.floats(0.1, 1)), min_size=1, max_size=12),
)
def test_cars_are_shares_of_those_who_leave(flows: list[float], each: list[tuple[int, int, float]]) -> None:
    view = city("empties_to", venues(*flows), junctions(4), *[(s, t, share, 60.0) for s, t, share in each])
    decided = decide(VENUE_EMPTYING, view, noticeable_vph=1e-6)
    said = sum(e.values["event_vph"] for proposal in decided for e in proposal.effects)
    leaving = [-flow * 60 * 0.5 / 2.5 if -flow > 60 else 0.0 for flow in flows]
    assert said == pytest.approx(sum(share * leaving[s] for s, _, share in each), abs=1e-6)
    told = [e.entity for proposal in decided for e in proposal.effects]
    assert len(told) == len(set(told))


# -- congestion_emissions ----------------------------------------------------------------------------------------


def test_waiting_vehicles_pollute_the_station_they_are_linked_to() -> None:
    jam = junctions(indicators={"waiting_veh": [120.0, 60.0]})
    view = city("pollutes", jam, stations(50.0, 50.0), (0, 0, 1.0, 600.0), (1, 0, 0.5, 600.0), (1, 1, 0.05, 0.0))
    proposals = decide(CONGESTION_EMISSIONS, view)
    # 100 + 20 vehicles too many: 120 × 0.1 g/h in 2e7 m³ are 0.6 µg/m³/h; the second station's 2 go unnoticed.
    assert len(proposals) == 1
    (effect,) = proposals[0].effects
    assert effect.entity == "air_station/a0"
    assert effect.values == {
        "traffic_pm25_ugm3_h": pytest.approx(0.6),
        "traffic_no2_ugm3_h": pytest.approx(6.0),
    }
    assert effect.after_s == pytest.approx(600.0)
    assert proposals[0].because == ("intersection/i0", "intersection/i1")


def test_roads_pollute_by_the_vehicles_that_delay_keeps_on_them() -> None:
    roads = view_of(ROAD, ["road/r0", "road/r1"], {"delay_s": [180.0, 0.0]})  # 1,500 veh/h by default: 75 vehicles
    jam = junctions(indicators={"waiting_veh": [0.0, 65.0]})
    air = stations(50.0)
    one, two = (
        city("pollutes", roads, air, (0, 0, 1.0, 100.0), (1, 0, 1.0, 900.0)),
        city("pollutes", jam, air, (1, 0, 1.0, 200.0)),
    )
    both = View(now_s=NOW_S, kinds={**one.kinds, **two.kinds}, relations={**one.relations, **two.relations})
    (proposal,) = decide(CONGESTION_EMISSIONS, both)
    assert proposal.effects[0].values["traffic_no2_ugm3_h"] == pytest.approx((55 + 45) * 1e6 / 2e7)
    assert proposal.effects[0].after_s == pytest.approx(0.55 * 100 + 0.45 * 200)
    assert proposal.because == ("intersection/i1", "road/r0")


def test_free_traffic_pollutes_nothing_and_the_end_of_a_jam_is_said() -> None:
    free = junctions(indicators={"waiting_veh": 15.0})
    assert decide(CONGESTION_EMISSIONS, city("pollutes", free, stations(50.0), (0, 0, 1.0, 0.0))) == []
    smelly = stations(50.0, couplings={"traffic_pm25_ugm3_h": [0.05], "traffic_no2_ugm3_h": [0.1]})
    (over,) = decide(CONGESTION_EMISSIONS, city("pollutes", free, smelly, (0, 0, 1.0, 0.0)))
    assert over.effects[0].values == {"traffic_pm25_ugm3_h": 0.0, "traffic_no2_ugm3_h": 0.0}
    silent = junctions(indicators={"waiting_veh": 500.0}, age_s=np.inf)
    assert decide(CONGESTION_EMISSIONS, city("pollutes", silent, smelly, (0, 0, 1.0, 0.0))) == []


def test_emissions_that_go_on_are_renewed() -> None:
    jam = junctions(indicators={"waiting_veh": [120.0, 0.0]})
    same = stations(50.0, couplings={"traffic_pm25_ugm3_h": [0.5], "traffic_no2_ugm3_h": [5.0]})
    (proposal,) = decide(CONGESTION_EMISSIONS, city("pollutes", jam, same, (0, 0, 1.0, 0.0)))
    assert proposal.key == "congestion_emissions/air_station/a0/renewed"


# -- clean_air ---------------------------------------------------------------------------------------------------


def asked(proposals: list[Proposal]) -> dict[str, float]:
    return {e.entity: e.values["inflow_share"] for proposal in proposals for e in proposal.effects}


def test_bad_air_lets_less_traffic_in() -> None:
    def of(aqi: float) -> dict[str, float]:
        view = city("restrains", stations(aqi), junctions(), (0, 0, 1.0, 0.0), (0, 1, 0.5, 0.0))
        return asked(decide(CLEAN_AIR, view))

    assert of(150.0) == {}
    assert of(225.0) == {"intersection/i0": pytest.approx(0.8), "intersection/i1": pytest.approx(0.9)}
    assert of(300.0) == of(450.0) == {"intersection/i0": pytest.approx(0.6), "intersection/i1": pytest.approx(0.8)}


def test_the_strictest_station_decides_and_silent_ones_do_not() -> None:
    def of(age_s: list[float]) -> list[Proposal]:
        air = stations(200.0, 280.0, age_s=age_s)
        return decide(CLEAN_AIR, city("restrains", air, junctions(), (0, 0, 1.0, 0.0), (1, 0, 1.0, 0.0)))

    (both,) = of([60.0, 60.0])
    assert both.because == ("air_station/a1",)
    assert asked([both]) == {"intersection/i0": pytest.approx(1 - 0.4 * 130 / 150)}
    (one,) = of([60.0, np.inf])
    assert one.because == ("air_station/a0",)
    assert of([np.inf, 90_000.0]) == []


@pytest.mark.parametrize(
    ("aqi", "expected"),
    [(170.0, 1 - 0.4 * 20 / 150), (149.0, None), (136.0, None), (134.0, 1.0)],
)
def test_a_restrained_intersection_is_opened_only_well_below_the_limit(aqi: float, expected: float | None) -> None:
    restrained = junctions(command={"inflow_share": [0.8, 1.0]}, desired={"inflow_share": [0.8, np.nan]})
    proposals = decide(CLEAN_AIR, city("restrains", stations(aqi), restrained, (0, 0, 1.0, 0.0)))
    changes = [proposal for proposal in proposals if not proposal.key.endswith("renewed")]
    if expected is None:
        assert changes == []
        assert asked(proposals) == {"intersection/i0": 0.8}  # said again, or the gate would open by itself
        assert proposals[0].cooldown_s == 600.0
    else:
        assert asked(changes) == {"intersection/i0": pytest.approx(expected)}


def test_an_order_on_its_way_is_not_given_again() -> None:
    ordered = junctions(desired={"inflow_share": [0.8, np.nan]})  # the device has not followed yet
    proposals = decide(CLEAN_AIR, city("restrains", stations(225.0), ordered, (0, 0, 1.0, 0.0)))
    assert [proposal.key for proposal in proposals] == ["clean_air/air_station/a0/renewed"]
