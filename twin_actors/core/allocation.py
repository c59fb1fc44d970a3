"""Stage *allocate*: send units where they are worth most, with a proven bound on what any plan could gain.

The plan maximises Σ_d urgency_d · min(amount_d, Σ_i capacity_i x_id) − travel_cost_per_h · Σ travel_h_id x_id
with at most one demand per unit, a generalised assignment with concave gains. A fast plan comes from an exact
assignment of units to slots and a local search; the bound from the prices of the LP relaxation; where the two
are too far apart and the problem is small, branch and bound, limited by nodes and gap and never by time, so
that replaying the recorded inputs gives the same plan.

scipy is imported inside functions: whoever only needs the records does not load it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.demands import TINY, Demand, Plan, Problem
from twin_actors.core.resources import Assignment, Unit

__all__ = ["Allocation", "Demand", "allocate"]

SLOT_CELLS = 4_000_000
"""Largest matrix of units × slots; past it demands get fewer slots and the local search fills them up."""

GREEDY_CELLS = 50_000
"""Up to this many units × demands the search also starts from nothing, which sometimes ends higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """A plan and why: ``objective`` reached, ``bound`` no plan can pass, ``gap`` as a part of the bound.

    ``binding`` says in plain words what holds the objective back. ``runner_up`` is the objective reached when
    the most valuable assignment is forbidden; None when nobody is sent. ``served`` and ``unserved`` hold
    (demand id, amount) where the amount is not zero. Assignments are ordered by demand and unit.
    """

    assignments: tuple[Assignment, ...]
    objective: float
    bound: float
    gap: float
    binding: tuple[str, ...]
    runner_up: float | None
    served: tuple[tuple[str, float], ...]
    unserved: tuple[tuple[str, float], ...]


def allocate(
    demands: Iterable[Demand],
    units: Iterable[Unit],
    *,
    now_s: float,
    travel_cost_per_h: float = 1.0,
    tolerance: float = 0.01,
    exact_pairs: int = 2_000,
    node_limit: int = 200,
    measures: Mapping[str, str] | None = None,
) -> Allocation:
    """Divide free ``units`` among ``demands``; deterministic, and independent of the order of both.

    A unit serves one demand whose resource is its pool or one of its skills, and is sent only where the plan
    gains by it. ``travel_cost_per_h`` is what an hour on the way there costs, in the unit of urgency × amount
    (the way back binds the unit in its Fleet but is not priced). When the gap of the fast plan is above
    ``tolerance`` and at most ``exact_pairs`` pairs of unit and demand are possible, branch and bound follows,
    through at most ``node_limit`` nodes. ``measures`` names the unit of a resource for ``binding``, e.g.
    ``{"mobile_generator": "MW"}``. Times of the assignments count from ``now_s``.

    ValueError for ids that appear twice and for parameters that are negative or not finite.
    """
    for name, value in (("travel_cost_per_h", travel_cost_per_h), ("tolerance", tolerance)):
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name} must be finite and not negative, not {value}")
    problem = Problem.of(demands, units, travel_cost_per_h)
    plan, bound = _solve(problem, tolerance, exact_pairs, node_limit)
    runner_up: float | None = None
    while (plan >= 0).any():
        plan = _smallest_ids_first(problem, plan)
        first = _first_choice(problem, plan)
        other, _ = _solve(problem.forbid(*first), tolerance, exact_pairs, node_limit)
        runner_up = problem.objective(other)
        if runner_up <= problem.objective(plan) + problem.tiny:
            break
        plan = other  # a search without its first choice found more: it is the plan; gains grow, so this ends

    objective = problem.objective(plan)
    bound = max(bound, objective)  # a true bound is not below what is reached: only rounding differs
    covered = np.minimum(problem.amount, problem.carried(plan))
    short = problem.amount - covered
    return Allocation(
        assignments=_assignments(problem, plan, now_s),
        objective=objective,
        bound=bound,
        gap=(bound - objective) / max(abs(bound), np.finfo(np.float64).tiny),
        binding=_binding(problem, plan, short, measures or {}),
        runner_up=runner_up,
        served=_amounts(problem, covered),
        unserved=_amounts(problem, short),
    )


def _solve(problem: Problem, tolerance: float, exact_pairs: int, node_limit: int) -> tuple[Plan, float]:
    """The best plan found and an upper bound on every plan's objective."""
    pairs = np.argwhere(problem.able)
    if not len(pairs):
        return np.full(len(problem.units), -1, np.intp), 0.0
    plan = _climb(problem, _by_slots(problem))
    if problem.able.size <= GREEDY_CELLS:
        plan = _better(problem, plan, _climb(problem, np.full(len(problem.units), -1, np.intp)))
    model = _model(problem, pairs)
    bound = _price_bound(problem, _prices(problem, model))
    objective = problem.objective(plan)
    if bound - objective > tolerance * bound and len(pairs) <= exact_pairs:
        found, exact_bound = _branch_and_bound(problem, model, pairs, tolerance, node_limit)
        bound = min(bound, exact_bound)
        if found is not None:
            plan = _better(problem, plan, _climb(problem, found))
    return plan, bound


def _better(problem: Problem, plan: Plan, other: Plan) -> Plan:
    return other if problem.objective(other) > problem.objective(plan) + problem.tiny else plan


def _by_slots(problem: Problem) -> Plan:
    """Exact assignment of units to slots of demands (Jonker and Volgenant 1987; Crouse 2016, as in scipy).

    A demand has as many slots as units could be useful to it, the smallest ones first; slot k is worth what
    is left after the k smallest. With units of one size these are the true gains and the plan is optimal.
    """
    from scipy.optimize import linear_sum_assignment

    u, d = problem.able.shape
    most = max(1, SLOT_CELLS // (u * d))
    owners: list[NDArray[np.intp]] = []
    left: list[Column] = []
    for demand in range(d):
        sizes = np.sort(problem.capacity[problem.able[:, demand]])[:most]
        rest = problem.amount[demand] - np.concatenate(([0.0], np.cumsum(sizes)[:-1]))[: len(sizes)]
        rest = rest[rest > 0.0]
        owners.append(np.full(len(rest), demand, np.intp))
        left.append(rest)
    owner = np.concatenate(owners)
    gain = problem.urgency[owner] * np.minimum(problem.capacity[:, None], np.concatenate(left))
    gain -= problem.cost[:, owner]
    gain[~problem.able[:, owner]] = 0.0
    np.maximum(gain, 0.0, out=gain)
    rows, slots = linear_sum_assignment(gain, maximize=True)
    plan = np.full(u, -1, np.intp)
    useful = gain[rows, slots] > problem.tiny
    plan[rows[useful]] = owner[slots[useful]]
    return plan


def _climb(problem: Problem, plan: Plan) -> Plan:
    """Move one unit at a time, to another demand or home, by the largest gain; ties to smaller ids."""
    plan = plan.copy()
    u, d = problem.able.shape
    while True:
        carried = problem.carried(plan)
        here = _worth_here(problem, plan, carried)
        move = problem.urgency * np.minimum(problem.capacity[:, None], np.maximum(problem.amount - carried, 0.0))
        move -= problem.cost + here[:, None]
        move[~problem.able] = -np.inf
        sent = np.flatnonzero(plan >= 0)
        move[sent, plan[sent]] = -np.inf
        moves = np.concatenate((move, -here[:, None]), axis=1)
        best = int(np.argmax(moves))
        if moves.flat[best] <= problem.tiny:
            break
        unit, demand = divmod(best, d + 1)
        plan[unit] = demand if demand < d else -1
    for unit in range(u - 1, -1, -1):  # whoever adds nothing stays, larger ids first
        if plan[unit] >= 0 and _worth_here(problem, plan, problem.carried(plan))[unit] <= problem.tiny:
            plan[unit] = -1
    return plan


def _worth_here(problem: Problem, plan: Plan, carried: Column) -> Column:
    """What each unit adds to the objective where it is ``(u,)``: 0 for one that stays."""
    sent = np.flatnonzero(plan >= 0)
    at = plan[sent]
    without = np.maximum(carried[at] - problem.capacity[sent], 0.0)
    lost = np.minimum(problem.amount[at], carried[at]) - np.minimum(problem.amount[at], without)
    worth = np.zeros(len(plan))
    worth[sent] = problem.urgency[at] * lost - problem.cost[sent, at]
    return worth


@dataclass(frozen=True, slots=True)
class _Model:
    """The integer programme, scaled so that the solver's absolute tolerances mean the same in every unit.

    Variables: one x per possible pair, then the covered part y in [0, 1] of each demand. Rows: Σ_d x ≤ 1 per
    unit, then y − Σ_i min(capacity, amount)/amount · x ≤ 0 per demand (the minimum tightens the relaxation).
    """

    costs: Column
    rows: Any  # scipy.sparse array (u + d, pairs + d)
    limits: Column
    scale: float


def _model(problem: Problem, pairs: NDArray[np.intp]) -> _Model:
    from scipy.sparse import csr_array

    (u, d), k = problem.able.shape, len(pairs)
    unit, demand = pairs[:, 0], pairs[:, 1]
    every = np.arange(d)
    amount = np.where(problem.amount > 0.0, problem.amount, 1.0)
    values = np.concatenate((np.ones(k), -np.minimum(problem.capacity[unit] / amount[demand], 1.0), np.ones(d)))
    places = (
        np.concatenate((unit, u + demand, u + every)),
        np.concatenate((np.arange(k), np.arange(k), k + every)),
    )
    worth = problem.urgency * problem.amount
    scale = float(worth.max())  # positive: a possible pair has something to gain
    return _Model(
        costs=np.concatenate((problem.cost[unit, demand], -worth)) / scale,
        rows=csr_array((values, places), shape=(u + d, k + d)),
        limits=np.concatenate((np.ones(u), np.zeros(d))),
        scale=scale,
    )


def _prices(problem: Problem, model: _Model) -> Column:
    """What one more of each demand's amount is worth ``(d,)``, from the LP relaxation (HiGHS)."""
    from scipy.optimize import linprog

    u, d = problem.able.shape
    answer = linprog(model.costs, A_ub=model.rows, b_ub=model.limits, bounds=(0.0, 1.0), method="highs")
    if answer.status != 0:
        return np.zeros(d)  # any prices give a valid bound: these say that every demand is met for nothing
    amount = np.where(problem.amount > 0.0, problem.amount, 1.0)
    prices = -np.asarray(answer.ineqlin.marginals)[u:] * model.scale / amount
    return np.clip(prices, 0.0, problem.urgency)


def _price_bound(problem: Problem, prices: Column) -> float:
    """Upper bound on every plan from prices in [0, urgency]: Σ_d (urgency − price)·amount + Σ_i best net.

    Weak duality: it holds whatever the prices are, so the solver's tolerances cannot make it wrong, only
    loose.
    """
    net = prices * np.minimum(problem.capacity[:, None], problem.amount) - problem.cost
    best = np.max(np.where(problem.able, net, 0.0), axis=1, initial=0.0)
    return float(np.sum((problem.urgency - prices) * problem.amount) + np.sum(best))


def _branch_and_bound(
    problem: Problem, model: _Model, pairs: NDArray[np.intp], tolerance: float, node_limit: int
) -> tuple[Plan | None, float]:
    """The solver's plan (None: it found none within its nodes) and its bound, true to its tolerance of 1e-6.

    No clock takes part.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    k = len(pairs)
    answer = milp(
        model.costs,
        integrality=np.concatenate((np.ones(k), np.zeros(len(problem.demands)))),
        bounds=Bounds(0.0, 1.0),
        constraints=LinearConstraint(model.rows, ub=model.limits),
        options={"node_limit": node_limit, "mip_rel_gap": tolerance},
    )
    proven = answer.mip_dual_bound
    bound = math.inf if proven is None or not math.isfinite(proven) else -float(proven) * model.scale
    if answer.x is None:
        return None, bound
    plan = np.full(len(problem.units), -1, np.intp)
    chosen = pairs[np.asarray(answer.x)[:k] > 0.5]
    plan[chosen[:, 0]] = chosen[:, 1]
    return plan, bound


def _smallest_ids_first(problem: Problem, plan: Plan) -> Plan:
    """Among units that cannot be told apart, smaller ids take the work, by demand id."""
    plan = plan.copy()
    alike: dict[tuple[float, bytes, bytes], list[int]] = {}
    for unit in range(len(plan)):
        seen = (float(problem.capacity[unit]), problem.able[unit].tobytes(), problem.travel_s[unit].tobytes())
        alike.setdefault(seen, []).append(unit)
    for members in alike.values():
        work = np.sort(plan[members])
        plan[members] = np.concatenate((work[work >= 0], work[work < 0]))
    return plan


def _shares(problem: Problem, plan: Plan) -> list[tuple[int, int, float]]:
    """(unit, demand, amount): the nearest covers first, the last only what is left of the demand."""
    left = problem.amount.copy()
    shares: list[tuple[int, int, float]] = []
    order = sorted(np.flatnonzero(plan >= 0).tolist(), key=lambda i: (plan[i], problem.travel_s[i, plan[i]], i))
    for unit in order:
        demand = int(plan[unit])
        amount = float(min(problem.capacity[unit], left[demand]))
        left[demand] -= amount
        shares.append((unit, demand, amount))
    return shares


def _first_choice(problem: Problem, plan: Plan) -> tuple[int, int]:
    """The assignment worth most, of equals the one of the smallest ids."""

    def value(share: tuple[int, int, float]) -> tuple[float, int, int]:
        unit, demand, amount = share
        return float(problem.urgency[demand] * amount - problem.cost[unit, demand]), -demand, -unit

    unit, demand, _ = max(_shares(problem, plan), key=value)
    return unit, demand


def _assignments(problem: Problem, plan: Plan, now_s: float) -> tuple[Assignment, ...]:
    found = []
    for unit, place, amount in sorted(_shares(problem, plan), key=lambda share: (share[1], share[0])):
        demand = problem.demands[place]
        arrives_at_s = now_s + float(problem.travel_s[unit, place])
        found.append(
            Assignment(
                unit=problem.units[unit].id,
                demand=demand.id,
                entity=demand.entity,
                amount=amount,
                assigned_at_s=now_s,
                arrives_at_s=arrives_at_s,
                until_s=arrives_at_s + demand.duration_s,
                lat_deg=demand.lat_deg,
                lon_deg=demand.lon_deg,
            )
        )
    return tuple(found)


def _amounts(problem: Problem, amounts: Column) -> tuple[tuple[str, float], ...]:
    floor = TINY * problem.amount
    return tuple(
        (demand.id, float(amount))
        for demand, amount, least in zip(problem.demands, amounts, floor, strict=True)
        if amount > least
    )


def _binding(problem: Problem, plan: Plan, short: Column, measures: Mapping[str, str]) -> tuple[str, ...]:
    """What holds the objective back: pools in use, amounts short, demands nobody can or should serve."""
    missing = dict(_amounts(problem, np.where(problem.urgency > 0.0, short, 0.0)))
    if not missing:
        return ("every demand is met in full",) if problem.amount.any() else ()
    said: list[str] = []
    lacking = {demand.resource for demand in problem.demands if demand.id in missing}
    for pool in sorted({unit.pool for unit in problem.units}):
        members = [i for i, unit in enumerate(problem.units) if unit.pool == pool]
        wanted = any(problem.units[i].can_serve(resource) for i in members for resource in lacking)
        if wanted and all(plan[i] >= 0 for i in members):
            said.append(f"all {len(members)} {pool} in use")
    for resource in sorted(lacking):
        total = sum(missing.get(one.id, 0.0) for one in problem.demands if one.resource == resource)
        measure = measures.get(resource, "")
        said.append(f"{resource}: {total:.6g} {measure}".rstrip() + " short")
        capable = [i for i, unit in enumerate(problem.units) if unit.can_serve(resource)]
        if not capable:
            said.append(f"{resource}: no unit can serve it")
        elif any(plan[i] < 0 for i in capable):
            said.append(f"{resource}: sending more would cost more than it gains")
    return tuple(said)
