"""The policy ``transfer_load``: move load over the ties between neighbouring substations, by a linear programme."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domains.power import loading, thermal
from domains.power.shedding import KIND
from twin_actors.core.columns import Column
from twin_actors.core.view import CommandTo, KindView, Links, Parameters, Policy, Proposal, View

RELATION = "tie"

SWITCHING_COST = 1e-3
"""What moving a megawatt costs against a megawatt of overload: nothing is moved without need, and not in circles."""

DECIMALS = 3


@dataclass(frozen=True, slots=True)
class TiePlan:
    """``flow_mw (k,)`` from the first to the second end of each tie, what it leaves, and how good it can be.

    ``objective`` is overload + SWITCHING_COST·Σ|flow| of this plan in MW, ``bound`` a proven lower limit of it for any
    plan (the dual of the linear programme).
    """

    flow_mw: Column
    net_mw: Column
    overload_mw: Column
    objective: float
    bound: float


def plan_ties(load_mw: Column, permissible_mw: Column, ends: NDArray[np.intp], capacity_mw: Column) -> TiePlan:
    """Flows over ``k`` ties between ``n`` substations that leave the least load above what is permissible.

    min Σ o_i + c Σ|f_k| with load_i + Σ in − Σ out − o_i ≤ permissible_i, o_i ≥ 0, |f_k| ≤ capacity_k, and no more
    taken from a substation than its load. ``ends (2, k)`` are rows. Solved as a linear programme by HiGHS
    (scipy.optimize), imported here because whoever only holds twins does not need it. RuntimeError if HiGHS finds no
    optimum, which cannot be: no flow at all is a plan.
    """
    from scipy.optimize import linprog

    n, k = len(load_mw), ends.shape[1]
    incidence = np.zeros((n, k))
    incidence[ends[1], np.arange(k)] += 1.0
    incidence[ends[0], np.arange(k)] -= 1.0
    cost = np.concatenate([np.full(2 * k, SWITCHING_COST), np.ones(n)])
    limits = np.vstack(
        [
            np.hstack([incidence, -incidence, -np.eye(n)]),
            np.hstack([-incidence, incidence, np.zeros((n, n))]),
        ]
    )
    right = np.concatenate([permissible_mw - load_mw, load_mw])
    upper = np.concatenate([capacity_mw, capacity_mw, np.full(n, np.inf)])
    found = linprog(cost, A_ub=limits, b_ub=right, bounds=np.column_stack([np.zeros(2 * k + n), upper]), method="highs")
    if not found.success:
        raise RuntimeError(f"transfer_load: HiGHS found no plan for {n} substations and {k} ties: {found.message}")
    flow = np.round(found.x[:k] - found.x[k : 2 * k], DECIMALS) + 0.0
    net = incidence @ flow
    overload = np.maximum(load_mw + net - permissible_mw, 0.0)
    capped = np.isfinite(upper)
    dual = float(right @ found.ineqlin.marginals + upper[capped] @ found.upper.marginals[capped])
    return TiePlan(
        flow_mw=flow,
        net_mw=net,
        overload_mw=overload,
        objective=float(overload.sum() + SWITCHING_COST * np.abs(flow).sum()),
        bound=dual,
    )


def ties(links: Links, rated_mw: Column, tie_share: float) -> tuple[NDArray[np.intp], Column]:
    """Ends ``(2, k)`` and capacities ``(k,)`` in MW of the ties; a tie named both ways is one tie.

    A tie carries ``share`` × ``tie_share`` of the smaller of the two ratings.
    """
    pair = np.sort(np.stack([links.source, links.target]), axis=0)
    ends, place = np.unique(pair, axis=1, return_inverse=True)
    share = np.zeros(ends.shape[1])
    np.maximum.at(share, np.asarray(place).ravel(), links.share)
    return ends, share * tie_share * rated_mw[ends].min(axis=0)


def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """At most one proposal for each group of tied substations; see ``TRANSFER_LOAD`` for the parameters."""
    seen = view.kinds.get(KIND)
    links = view.links(RELATION, KIND, KIND)
    if seen is None or not len(links.source):
        return
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(seen.ids)
    ends, capacity_mw = ties(links, loading.rated_mw(seen.attributes), float(parameters["tie_share"]))
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(n, n))
    _, group = connected_components(graph, directed=False)
    heard = seen.age_s <= float(parameters["max_age_s"])
    for number in np.unique(group[ends[0]]):
        within = group[ends[0]] == number
        yield from _for_group(
            seen, np.flatnonzero(group == number), ends[:, within], capacity_mw[within], heard, parameters
        )


def _permissible_mw(seen: KindView, rows: NDArray[np.intp], margin_k: float) -> Column:
    attributes = seen.attributes
    limit_c = attributes.hot_spot_limit_c - margin_k
    factor = thermal.permissible_load_factor(limit_c, seen.state.ambient_temp_c, attributes)
    return np.asarray((factor * loading.rated_mw(attributes))[rows])


def _for_group(
    seen: KindView,
    rows: NDArray[np.intp],
    ends: NDArray[np.intp],
    capacity_mw: Column,
    heard: NDArray[np.bool_],
    parameters: Parameters,
) -> Iterator[Proposal]:
    present_mw = seen.command.tie_mw[rows]
    if np.any(~heard[rows] & (present_mw != 0.0)):
        return  # somebody whose ties are in use is silent: what flows there is not known
    wanted_mw = seen.state.demand_mw + seen.state.transfer_mw - loading.ordered_shed_mw(seen.attributes, seen.command)
    load_mw = np.maximum(wanted_mw, 0.0)[rows]
    permissible_mw = _permissible_mw(seen, rows, float(parameters["target_k"]))
    if (load_mw <= _permissible_mw(seen, rows, float(parameters["restore_k"]))).all():
        flow_mw, net_mw = np.zeros(ends.shape[1]), np.zeros(len(rows))
        left_mw, objective, bound = 0.0, 0.0, 0.0
    elif (load_mw > permissible_mw).any():
        place = np.searchsorted(rows, ends)
        open_ties = heard[ends].all(axis=0)
        plan = plan_ties(load_mw, permissible_mw, place, np.where(open_ties, capacity_mw, 0.0))
        flow_mw, net_mw, left_mw = plan.flow_mw, plan.net_mw, float(plan.overload_mw.sum())
        objective, bound = plan.objective, plan.bound
    else:
        return  # between the two margins everything stays as it is
    changed = np.flatnonzero(np.abs(net_mw - present_mw) >= float(parameters["noticeable_mw"]))
    back = (net_mw == 0.0) & (present_mw != 0.0)
    changed = np.union1d(changed, np.flatnonzero(back))
    if not len(changed):
        return
    moving = np.flatnonzero(flow_mw)
    words = ", ".join(
        f"{abs(flow_mw[tie]):.1f} MW from {seen.ids[ends[0 if flow_mw[tie] > 0 else 1, tie]]} "
        f"to {seen.ids[ends[1 if flow_mw[tie] > 0 else 0, tie]]}"
        for tie in moving.tolist()
    )
    # All that differ are told, however little, so that what is brought and what is taken away stay equal.
    told = np.flatnonzero(net_mw != present_mw)
    yield Proposal(
        key=f"transfer_load:{seen.ids[rows[0]]}",
        reason=(f"move {words}" if words else "ties open again: every substation bears its own load")
        + (f"; {left_mw:.1f} MW above what is permissible remain" if left_mw > 0.0 else ""),
        effects=tuple(
            CommandTo(entity=seen.ids[rows[place]], values={"tie_mw": float(net_mw[place])}) for place in told.tolist()
        ),
        because=tuple(seen.ids[row] for row in rows[told].tolist()),
        cooldown_s=float(parameters["cooldown_s"]),
        objective=objective,
        bound=bound,
    )


TRANSFER_LOAD = Policy(
    name="transfer_load",
    doc=(
        "Moves load over the relation tie (capacity: its share × tie_share of the smaller rating) so that as little as "
        "possible is above what keeps every steady-state hot spot target_k under its limit; back once all would be "
        "restore_k under it with their own load. Linear programme; on record are the overload left (and a thousandth "
        "of what is moved) in MW and the dual bound of it."
    ),
    propose=propose,
    defaults={
        "tie_share": 1.0,
        "target_k": 5.0,
        "restore_k": 12.0,
        "noticeable_mw": 0.5,
        "max_age_s": 900.0,
        "cooldown_s": 300.0,
    },
)
