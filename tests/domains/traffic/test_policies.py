"""City-wide rules on a view made by hand: who is told what, in which order, and who is left alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from domains.traffic import DOMAIN
from twin_actors.core.view import CommandTo, CoupleTo, KindView, Links, Proposal, View

Make = Callable[..., Any]
Only = Callable[..., np.ndarray]


def _view(b: Any, *, age_s: Any = 1.0, links: Links | None = None) -> View:
    ids = tuple(f"intersection/{i}" for i in range(b.n))
    indicators = b.indicators()
    seen = KindView(
        kind=b.kind,
        ids=ids,
        attributes=b.attributes,
        state=b.state,
        sd=b.state,
        command=b.command,
        desired=b.command,
        couplings=b.couplings,
        proposed=b.kind.control(b.state, b.attributes, b.command, indicators),
        indicators=indicators,
        alerts={},
        needs={},
        age_s=np.broadcast_to(np.asarray(age_s, dtype=np.float64), (b.n,)),
        revision=np.zeros(b.n, np.int64),
        tags=tuple({} for _ in ids),
        lat_deg=np.zeros(b.n),
        lon_deg=np.zeros(b.n),
    )
    relations = {} if links is None else {("feeds", "intersection", "intersection"): links}
    return View(now_s=0.0, kinds={"intersection": seen}, relations=relations)


def _ask(name: str, view: View, **parameters: float) -> list[Proposal]:
    policy = DOMAIN.policies[name]
    return list(policy.propose(view, {**policy.defaults, **parameters}))


def _values(proposal: Proposal) -> Mapping[str, Any]:
    (effect,) = proposal.effects
    assert isinstance(effect, CommandTo | CoupleTo)
    return effect.values


def _three(bench: Make, only: Only) -> Any:
    """One balanced junction, one with a long queue in the north, one with a longer one in the east."""
    b = bench("intersection", 3)
    queue = np.stack([np.full(8, 5.0), only(nt=20, st=20), only(et=60, wt=60)], axis=1)
    b.state = b.state.replace(queue_veh=queue, demand_vph=np.full((8, 3), 100.0))
    return b


def test_max_pressure_tells_those_that_differ_largest_gain_first(bench: Make, only: Only) -> None:
    proposals = _ask("max_pressure", _view(_three(bench, only)))
    assert [p.key for p in proposals] == ["max_pressure:intersection/2", "max_pressure:intersection/1"]
    first = _values(proposals[0])["green_split"]
    assert isinstance(first, tuple)
    assert len(first) == 4
    assert max(first) == first[3]
    assert sum(first) == pytest.approx(78 / 90, abs=1e-3)
    assert proposals[0].because == ("intersection/2",)
    gains = [p.objective for p in proposals]
    assert gains == sorted(gains, reverse=True)


def test_at_most_and_change_min(bench: Make, only: Only) -> None:
    view = _view(_three(bench, only))
    assert [p.because[0] for p in _ask("max_pressure", view, at_most=1.0)] == ["intersection/2"]
    assert _ask("max_pressure", view, at_most=0.0) == []
    assert _ask("max_pressure", view, change_min=0.9) == []


def test_twins_not_heard_of_are_left_alone(bench: Make, only: Only) -> None:
    view = _view(_three(bench, only), age_s=[1.0, 10.0, np.inf])
    assert [p.because[0] for p in _ask("max_pressure", view)] == ["intersection/1"]
    assert _ask("webster", _view(_three(bench, only), age_s=1e6)) == []


@pytest.mark.parametrize("name", ["max_pressure", "webster"])
def test_a_plan_in_force_is_not_ordered_again(name: str, bench: Make, only: Only) -> None:
    b = _three(bench, only)
    b.state = b.state.replace(demand_vph=np.repeat(only(nt=700, et=400)[:, None], 3, axis=1))
    proposals = _ask(name, _view(b))
    assert proposals
    for proposal in proposals:
        row = int(proposal.because[0].split("/")[1])
        for field, value in _values(proposal).items():
            column = getattr(b.command, field).copy()
            column[..., row] = value
            b.command = b.command.replace(**{field: column})
    again = _ask(name, _view(b))
    assert not {p.key for p in again} & {p.key for p in proposals}


def test_webster_sets_cycle_and_splits_that_save_delay(bench: Make, only: Only) -> None:
    b = bench("intersection").set("state", demand_vph=only(nt=720, et=540))
    (proposal,) = _ask("webster", _view(b))
    values = _values(proposal)
    # y 0.4 and 0.3: C0 = 23/0.3 = 76.7 s; the left phases have no flow but their least green, 6 s
    assert values["cycle_s"] == pytest.approx(76.7)
    split = values["green_split"]
    assert split[0] == split[2] == pytest.approx(6 / 76.667, abs=1e-4)
    assert split[1] / split[3] == pytest.approx(4 / 3, abs=1e-3)
    assert proposal.objective is not None
    assert proposal.objective > 0


def test_webster_leaves_a_plan_alone_that_it_cannot_better(bench: Make) -> None:
    b = bench("intersection").set("state", demand_vph=0.0)
    assert _ask("webster", _view(b)) == []


def test_coupled_traffic_counts_in_a_plan(bench: Make, only: Only) -> None:
    b = bench("intersection").set("state", demand_vph=50.0).set("couplings", upstream_vph=only(wt=700))
    (proposal,) = _ask("max_pressure", _view(b))
    split = _values(proposal)["green_split"]
    assert max(split) == split[3]


def test_flows_carry_what_leaves_to_the_next_junction(bench: Make, only: Only) -> None:
    b = bench("intersection", 3).set("state", demand_vph=0.0)
    demand = np.zeros((8, 3))
    demand[1, 0], demand[3, 1] = 200.0, 300.0
    b.state = b.state.replace(demand_vph=demand)
    b.set("attributes", saturation_vph=only(nt=1800, st=900))
    b.attributes = b.attributes.replace(saturation_vph=np.where(demand > 0, 1800.0, b.attributes.saturation_vph))
    links = Links(
        source=np.array([0, 1], np.intp),
        target=np.array([2, 2], np.intp),
        share=np.array([0.5, 1.0]),
        delay_s=np.array([20.0, 40.0]),
    )
    (proposal,) = _ask("flows", _view(b, links=links))
    # 0.5·200 + 300 = 400, two thirds of it to nt
    assert _values(proposal)["upstream_vph"] == pytest.approx(only(nt=400 * 2 / 3, st=400 / 3), abs=1e-3)
    assert proposal.effects[0].after_s == pytest.approx(30.0)
    assert proposal.because == ("intersection/0", "intersection/1")


def test_flows_that_end_are_told_and_silence_is_not(bench: Make) -> None:
    b = bench("intersection", 2).set("state", demand_vph=0.0)
    links = Links(source=np.array([0], np.intp), target=np.array([1], np.intp), share=np.ones(1), delay_s=np.zeros(1))
    assert _ask("flows", _view(b, links=links)) == []
    upstream = np.zeros((8, 2))
    upstream[1, 1] = 100.0
    b.couplings = b.couplings.replace(upstream_vph=upstream)
    (proposal,) = _ask("flows", _view(b, links=links))
    assert sum(_values(proposal)["upstream_vph"]) == 0.0
    assert _ask("flows", _view(b)) == []


@pytest.mark.parametrize("name", ["max_pressure", "webster", "flows"])
def test_a_city_without_intersections_gets_no_proposals(name: str) -> None:
    assert _ask(name, View(now_s=0.0, kinds={})) == []
