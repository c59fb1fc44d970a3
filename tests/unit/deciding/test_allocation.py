"""Allocation: hand-made cases, brute force on small ones, and what holds for every plan."""

import itertools
import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import asdict

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_actors.core.allocation import Allocation, Demand, allocate
from twin_actors.core.fairness import dominant_resource_fairness
from twin_actors.core.resources import Fleet, Unit, travel_s

NOW_S = 1_700_000_000.0


def unit(name: str, pool: str = "crew", **changes: object) -> Unit:
    return Unit(**{"id": name, "pool": pool} | changes)


def demand(name: str, amount: float = 1.0, urgency: float = 1.0, resource: str = "crew", **changes: object) -> Demand:
    return Demand(
        **{"id": name, "entity": f"pump/{name}", "resource": resource, "amount": amount, "urgency": urgency}
        | {"duration_s": 600.0}
        | changes
    )


def pairs(plan: Allocation) -> list[tuple[str, str]]:
    return [(one.unit, one.demand) for one in plan.assignments]


def test_nothing_to_divide():
    for demands, units in (([], []), ([demand("a")], []), ([], [unit("crew/1")])):
        plan = allocate(demands, units, now_s=NOW_S)
        assert (plan.assignments, plan.objective, plan.bound, plan.gap, plan.runner_up) == (
            (),
            0.0,
            0.0,
            0.0,
            None,
        )
    assert plan.binding == ()


def test_the_more_urgent_demand_goes_first_and_the_reason_is_plain():
    plan = allocate([demand("a", urgency=1.0), demand("b", urgency=3.0)], [unit("crew/1")], now_s=NOW_S)
    assert pairs(plan) == [("crew/1", "b")]
    assert (plan.objective, plan.bound, plan.gap, plan.runner_up) == (3.0, 3.0, 0.0, 1.0)
    assert plan.binding == ("all 1 crew in use", "crew: 1 short")
    assert (plan.served, plan.unserved) == ((("b", 1.0),), (("a", 1.0),))


def test_shortage_is_said_in_the_measure_of_the_resource():
    plan = allocate(
        [demand("a", 4.0, resource="mobile_generator")],
        [unit(f"gen/{i}", "mobile_generator", capacity=0.5) for i in range(3)],
        now_s=NOW_S,
        measures={"mobile_generator": "MW"},
    )
    assert plan.binding == ("all 3 mobile_generator in use", "mobile_generator: 2.5 MW short")
    assert sum(one.amount for one in plan.assignments) == 1.5


def test_everything_met_and_the_last_unit_counts_only_what_is_left():
    plan = allocate([demand("a", 2.5)], [unit(f"crew/{i}") for i in range(5)], now_s=NOW_S)
    assert pairs(plan) == [("crew/0", "a"), ("crew/1", "a"), ("crew/2", "a")]
    assert [one.amount for one in plan.assignments] == [1.0, 1.0, 0.5]
    assert plan.binding == ("every demand is met in full",)
    assert plan.unserved == ()


def test_skills_stand_in_and_strangers_do_not():
    units = [unit("bus/1", "bus"), unit("van/1", "van", skills=("crew",))]
    plan = allocate([demand("a", 2.0), demand("b", resource="boat")], units, now_s=NOW_S)
    assert pairs(plan) == [("van/1", "a")]
    assert "boat: no unit can serve it" in plan.binding
    assert "all 1 van in use" in plan.binding


def test_nobody_is_sent_where_the_way_costs_more_than_it_gains():
    far = demand("a", urgency=0.5, lat_deg=0.0, lon_deg=1.0)
    one = unit("crew/1", lat_deg=0.0, lon_deg=0.0, speed_kmh=60.0)  # 1.85 h away
    plan = allocate([far], [one], now_s=NOW_S, travel_cost_per_h=1.0)
    assert plan.assignments == ()
    assert plan.bound == 0.0
    assert plan.binding == ("crew: 1 short", "crew: sending more would cost more than it gains")
    cheap = allocate([far], [one], now_s=NOW_S, travel_cost_per_h=0.1)
    assert cheap.objective == pytest.approx(0.5 - 0.1 * 1.8532513)
    assert cheap.runner_up == 0.0
    (sent,) = cheap.assignments
    assert sent.arrives_at_s - NOW_S == pytest.approx(1.8532513 * 3600.0)
    assert sent.until_s == sent.arrives_at_s + 600.0


def test_worthless_demands_move_nobody():
    plan = allocate([demand("a", urgency=0.0), demand("b", amount=0.0)], [unit("crew/1")], now_s=NOW_S)
    assert plan.assignments == ()
    assert allocate([demand("a")], [unit("crew/1", capacity=0.0)], now_s=NOW_S).assignments == ()


def test_branch_and_bound_finds_what_single_moves_cannot():
    # one 3 and three 2s for amounts 4 and 5: only 2+2 and 3+2 covers all
    units = [unit("u/1", capacity=3.0), *(unit(f"u/{i}", capacity=2.0) for i in (2, 3, 4))]
    plan = allocate([demand("a", 4.0), demand("b", 5.0)], units, now_s=NOW_S)
    assert plan.objective == pytest.approx(9.0)
    assert plan.gap == pytest.approx(0.0, abs=1e-9)


def test_a_fast_plan_with_its_honest_gap_when_the_search_is_not_allowed():
    units = [unit(f"u/{i}", capacity=3.0) for i in range(3)]
    demands = [demand(f"d{i}", 4.0, urgency=1.0 + i / 10) for i in range(3)]
    fast = allocate(demands, units, now_s=NOW_S, exact_pairs=0, tolerance=0.0)
    exact = allocate(demands, units, now_s=NOW_S, tolerance=0.0)
    assert fast.objective <= exact.objective + 1e-9 <= fast.bound + 1e-8
    assert exact.bound <= fast.bound
    assert fast.gap == pytest.approx((fast.bound - fast.objective) / fast.bound)


def test_the_bound_is_the_relaxed_optimum():
    # one unit each covers 3 + 2; the relaxation sends 4/3 units to a and 2/3 of one to b: 4 + 4/3
    units = [unit("u/1", capacity=3.0), unit("u/2", capacity=3.0)]
    plan = allocate([demand("a", 4.0), demand("b", 2.0)], units, now_s=NOW_S, exact_pairs=0)
    assert plan.objective == pytest.approx(5.0)
    assert plan.bound == pytest.approx(16.0 / 3.0)
    assert plan.gap == pytest.approx(1.0 / 16.0)


def test_the_local_search_moves_units_that_slots_had_misjudged():
    # slots count on the small unit first and so send both large ones to a, where one is enough
    units = [unit("u/1", capacity=0.5), unit("u/2", capacity=2.0), unit("u/3", capacity=2.0)]
    demands = [demand("a", 2.0, urgency=1.0), demand("b", 2.0, urgency=0.1)]
    plan = allocate(demands, units, now_s=NOW_S, exact_pairs=0)
    assert plan.objective == pytest.approx(2.2)


def test_units_that_are_alike_take_demands_in_the_order_of_ids():
    demands = [demand("a", urgency=1.0), demand("b", urgency=3.0), demand("c", urgency=2.0)]
    plan = allocate(demands, [unit(f"crew/{i}") for i in range(5)], now_s=NOW_S)
    assert pairs(plan) == [("crew/0", "a"), ("crew/1", "b"), ("crew/2", "c")]
    units = [unit("crew/1", capacity=2.0), unit("crew/2", capacity=2.0)]
    assert pairs(allocate([demand("a", 1.0), demand("b", 3.0)], units, now_s=NOW_S)) == [
        ("crew/1", "a"),
        ("crew/2", "b"),
    ]


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="demand id 'a' appears twice"):
        allocate([demand("a"), demand("a")], [], now_s=NOW_S)
    with pytest.raises(ValueError, match="unit id 'u' appears twice"):
        allocate([], [unit("u"), unit("u")], now_s=NOW_S)
    with pytest.raises(ValueError, match="travel_cost_per_h"):
        allocate([], [], now_s=NOW_S, travel_cost_per_h=-1.0)
    with pytest.raises(ValueError, match="urgency"):
        demand("a", urgency=math.nan)


def test_a_plan_is_json_and_fits_the_fleet():
    units = [unit("crew/1", lat_deg=1.0, lon_deg=2.0), unit("crew/2")]
    plan = allocate([demand("a", 2.0)], units, now_s=NOW_S)
    assert msgspec.json.decode(json.dumps(asdict(plan), allow_nan=False), type=Allocation) == plan
    fleet = Fleet.of(units).assign(plan.assignments)
    assert fleet.free(NOW_S) == ()


def test_importing_the_module_loads_no_solver():
    code = "import sys, twin_actors.core.allocation; sys.exit('scipy' in {n.split('.')[0] for n in sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_two_hundred_units_and_sixty_demands():
    chance = np.random.default_rng(7)
    units = [
        unit(
            f"u/{i:03d}",
            "abc"[i % 3],
            skills=("abc"[i % 2],),
            capacity=float(chance.choice([0.5, 1.0, 2.3])),
            speed_kmh=40.0,
            lat_deg=float(chance.uniform(0.0, 0.3)),
            lon_deg=float(chance.uniform(0.0, 0.3)),
        )
        for i in range(200)
    ]
    demands = [
        demand(
            f"d{i:02d}",
            float(chance.uniform(0.5, 6.0)),
            float(chance.uniform(0.1, 3.0)),
            "abc"[i % 3],
            lat_deg=float(chance.uniform(0.0, 0.3)),
            lon_deg=float(chance.uniform(0.0, 0.3)),
        )
        for i in range(60)
    ]
    plan = allocate(demands, units, now_s=NOW_S)
    check(plan, demands, units, 1.0)
    assert plan.gap < 0.1
    assert plan.runner_up <= plan.objective + 1e-9


# --- what holds for every plan ---------------------------------------------------------------------------

amounts = st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.7])
places = st.none() | st.floats(0.0, 0.5)


def worlds(most_units: int, most_demands: int) -> st.SearchStrategy[tuple[list[Demand], list[Unit]]]:
    skills = st.sampled_from([(), ("crew",), ("boat",)])
    units = st.lists(
        st.tuples(st.sampled_from(["crew", "boat"]), skills, amounts, st.sampled_from([0.0, 30.0]), places),
        max_size=most_units,
    )
    demands = st.lists(
        st.tuples(st.sampled_from(["crew", "boat"]), st.floats(0.0, 5.0), st.floats(0.0, 4.0), places),
        max_size=most_demands,
    )
    return st.tuples(demands, units).map(
        lambda world: (
            [
                demand(f"d{i}", amount, urgency, resource, lat_deg=0.0, lon_deg=lon)
                for i, (resource, amount, urgency, lon) in enumerate(world[0])
            ],
            [
                unit(f"u/{i}", pool, skills=skill, capacity=size, speed_kmh=speed, lat_deg=0.0, lon_deg=lon)
                for i, (pool, skill, size, speed, lon) in enumerate(world[1])
            ],
        )
    )


def travel_h(one: Unit, to: Demand) -> float:
    places = (one.lat_deg, one.lon_deg, to.lat_deg, to.lon_deg)
    known = [math.nan if place is None else place for place in places]
    return float(travel_s(*known, one.speed_kmh)) / 3600.0


def value(choice: dict[str, str], demands: list[Demand], units: list[Unit], cost_per_h: float) -> float:
    """The objective, written down a second time, without arrays."""
    fleet, total = {one.id: one for one in units}, 0.0
    for one in demands:
        sent = [fleet[name] for name, wanted in choice.items() if wanted == one.id]
        total += one.urgency * min(one.amount, sum(each.capacity for each in sent))
        total -= cost_per_h * sum(travel_h(each, one) for each in sent)
    return total


def best(
    demands: list[Demand], units: list[Unit], cost_per_h: float, forbidden: tuple[str, str] | None = None
) -> float:
    options = [
        [None, *(d.id for d in demands if d.resource in (u.pool, *u.skills) and (u.id, d.id) != forbidden)]
        for u in units
    ]
    return max(
        value({u.id: d for u, d in zip(units, choice, strict=True) if d}, demands, units, cost_per_h)
        for choice in itertools.product(*options)
    )


def check(plan: Allocation, demands: list[Demand], units: list[Unit], cost_per_h: float) -> None:
    fleet, wanted = {one.id: one for one in units}, {one.id: one for one in demands}
    assert max(Counter(one.unit for one in plan.assignments).values(), default=1) == 1
    given_to: Counter[str] = Counter()
    for one in plan.assignments:
        to = wanted[one.demand]
        assert to.resource in (fleet[one.unit].pool, *fleet[one.unit].skills)
        assert 0.0 < one.amount <= fleet[one.unit].capacity
        assert one.entity == to.entity
        given_to[one.demand] += one.amount
    served, unserved = dict(plan.served), dict(plan.unserved)
    for name, to in wanted.items():
        assert given_to[name] <= to.amount + 1e-9
        assert served.get(name, 0.0) == pytest.approx(given_to[name], abs=1e-9)
        assert served.get(name, 0.0) + unserved.get(name, 0.0) == pytest.approx(to.amount, abs=1e-9)
    choice = dict(pairs(plan))
    assert plan.objective == pytest.approx(value(choice, demands, units, cost_per_h), rel=1e-9, abs=1e-9)
    assert plan.objective <= plan.bound
    assert plan.gap >= 0.0
    for name in choice:  # nobody is sent in vain
        without = {one: to for one, to in choice.items() if one != name}
        assert value(without, demands, units, cost_per_h) < plan.objective + 1e-9


@settings(deadline=None, max_examples=60)
@given(worlds(5, 3), st.sampled_from([0.0, 0.7, 3.0]))
def test_objective_optimum_bound(world, cost_per_h):
    demands, units = world
    optimum = best(demands, units, cost_per_h)
    near = 1e-6 * max(1.0, optimum)
    fast = allocate(demands, units, now_s=NOW_S, travel_cost_per_h=cost_per_h, exact_pairs=0)
    check(fast, demands, units, cost_per_h)
    choice = dict(pairs(fast))
    for one, to in itertools.product(units, demands):  # no single unit could be better used
        if one.can_serve(to.resource):
            assert value(choice | {one.id: to.id}, demands, units, cost_per_h) <= fast.objective + near
    assert fast.objective <= optimum + near
    assert optimum <= fast.bound + near
    exact = allocate(demands, units, now_s=NOW_S, travel_cost_per_h=cost_per_h, tolerance=1e-6)
    check(exact, demands, units, cost_per_h)
    assert exact.objective == pytest.approx(optimum, abs=2.0 * near)
    assert optimum <= exact.bound + near
    loose = allocate(demands, units, now_s=NOW_S, travel_cost_per_h=cost_per_h, tolerance=0.05)
    assert loose.objective >= optimum - 0.05 * loose.bound - near


@settings(deadline=None, max_examples=40)
@given(worlds(5, 3))
def test_the_runner_up_is_the_best_without_the_first_choice(world):
    demands, units = world
    plan = allocate(demands, units, now_s=NOW_S, tolerance=1e-6)
    assert (plan.runner_up is None) == (not plan.assignments)
    if plan.runner_up is None:
        return
    fleet, wanted = {one.id: one for one in units}, {one.id: one for one in demands}
    worth = {
        (one.unit, one.demand): wanted[one.demand].urgency * one.amount - travel_h(fleet[one.unit], wanted[one.demand])
        for one in plan.assignments
    }
    most = max(worth.values())
    near = 1e-5 * max(1.0, plan.objective)
    assert any(  # of equally valuable assignments any may be the first choice
        plan.runner_up == pytest.approx(best(demands, units, 1.0, forbidden=pair), abs=near)
        for pair, gain in worth.items()
        if gain >= most - near
    )


@settings(deadline=None, max_examples=40)
@given(worlds(8, 6).flatmap(lambda world: st.tuples(st.just(world), *map(st.permutations, world))))
def test_the_order_of_the_inputs_changes_nothing(case):
    (demands, units), shuffled_demands, shuffled_units = case
    plan = allocate(demands, units, now_s=NOW_S)
    assert allocate(shuffled_demands, shuffled_units, now_s=NOW_S) == plan


# --- dominant resource fairness --------------------------------------------------------------------------


def test_the_example_of_ghodsi_2011():
    tasks = dominant_resource_fairness({"cpu": 9, "gb": 18}, {"A": {"cpu": 1, "gb": 4}, "B": {"cpu": 3, "gb": 1}})
    assert tasks == pytest.approx({"A": 3.0, "B": 2.0})  # dominant shares 12/18 and 6/9


def test_who_does_not_need_what_is_used_up_goes_on():
    tasks = dominant_resource_fairness({"x": 10, "y": 10}, {"a": {"x": 1}, "b": {"x": 1}, "c": {"y": 1}, "d": {}})
    assert tasks == pytest.approx({"a": 5.0, "b": 5.0, "c": 10.0, "d": 0.0})


def test_a_resource_that_is_not_there():
    tasks = dominant_resource_fairness({"x": 0, "y": 4}, {"a": {"x": 1, "y": 1}, "b": {"y": 1}})
    assert tasks == pytest.approx({"a": 0.0, "b": 4.0})
    with pytest.raises(KeyError, match="no capacity given for z"):
        dominant_resource_fairness({"x": 1}, {"a": {"z": 1}})
    with pytest.raises(ValueError, match="not negative"):
        dominant_resource_fairness({"x": -1}, {"a": {"x": 1}})
    assert dominant_resource_fairness({"x": 1}, {}) == {}


per_task = st.dictionaries(st.sampled_from("xyz"), st.floats(0.01, 5.0), min_size=1)


@given(
    st.fixed_dictionaries({name: st.floats(0.1, 50.0) for name in "xyz"}),
    st.dictionaries(st.sampled_from("abcd"), per_task),
)
def test_fair_division_is_feasible_efficient_and_envy_free(capacity, demands):
    tasks = dominant_resource_fairness(capacity, demands)
    used = {r: sum(tasks[user] * demands[user].get(r, 0.0) for user in demands) for r in capacity}
    assert all(used[r] <= capacity[r] * (1 + 1e-9) for r in capacity)
    for user, needs in demands.items():
        assert any(used[r] >= capacity[r] * (1 - 1e-9) for r in needs)  # nobody could get more for nothing
        for other in demands:  # another's bundle would not run more of the user's own tasks
            swapped = min(tasks[other] * demands[other].get(r, 0.0) / need for r, need in needs.items())
            assert swapped <= tasks[user] * (1 + 1e-9)
