"""Rules for the health of a city: where ambulances stand, and which hospital takes patients of another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.resources import travel_s
from twin_actors.core.view import CommandTo, CoupleTo, KindView, Parameters, Policy, Proposal, View

NODE_LIMIT = 5000
GAP = 1e-4
STAYING = 0.01
"""What it is worth that nobody moves, as a part of all calls."""


@dataclass(frozen=True, slots=True)
class Posting:
    """Ambulances at each post, the calls an hour that they cover, and a proven upper limit for any posting."""

    at_post: NDArray[np.float64]
    covered_ph: float
    bound_ph: float


def post(
    calls_ph: Column, reaches: NDArray[np.bool_], ambulances: int, busy: float, now: Column | None = None
) -> Posting:
    """Where to keep ``ambulances`` so that most calls are expected to find one in time (Daskin's MEXCLP, 1983).

    max Σ_j calls_j Σ_k (1 − q) q^(k−1) y_jk with Σ_k y_jk ≤ Σ_i reaches_ij x_i, Σ_i x_i = p, x whole, y 0 or 1: an
    ambulance is busy with probability q, so the k-th in reach of a district is worth (1 − q) q^(k−1) of its calls. With
    q = 0 it is the maximal covering location problem (Church and ReVelle 1974). ``reaches (posts, districts)``. Of
    postings that are nearly as good the one with fewest moves from ``now`` is taken: all who stay are worth ``STAYING``
    of the calls, which widens the limit by no more. Branch and bound by HiGHS (scipy.optimize.milp, imported here
    because twins do not need it), limited by nodes and gap and never by time. RuntimeError if it finds nothing, which
    cannot be: any posting is one.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import block_array, csr_array, eye_array, kron

    posts, districts = reaches.shape
    most = max(min(ambulances, int(np.ceil(np.log(1e-4) / np.log(busy))) if busy > 0.0 else 1), 1)
    value = (calls_ph[:, None] * ((1.0 - busy) * busy ** np.arange(most))).ravel()
    stays = np.zeros(posts) if now is None else np.asarray(now, dtype=np.float64)
    worth_staying = STAYING * float(calls_ph.sum()) / max(ambulances, 1)
    one, levels = eye_array(posts), kron(eye_array(districts), np.ones((1, most)))
    rows = block_array(
        [
            [csr_array(-reaches.T.astype(np.float64)), None, levels],
            [-one, one, None],
            [csr_array(np.ones((1, posts))), csr_array((1, posts)), csr_array((1, districts * most))],
        ]
    )
    found = milp(
        np.concatenate([np.zeros(posts), np.full(posts, -worth_staying), -value]),
        integrality=np.concatenate([np.ones(posts), np.zeros(posts + districts * most)]),
        bounds=Bounds(0.0, np.concatenate([np.full(posts, float(ambulances)), stays, np.ones(districts * most)])),
        constraints=LinearConstraint(
            csr_array(rows),
            np.append(np.full(districts + posts, -np.inf), ambulances),
            np.append(np.zeros(districts + posts), ambulances),
        ),
        options={"node_limit": NODE_LIMIT, "mip_rel_gap": GAP},
    )
    if found.x is None:
        raise RuntimeError(f"post_ambulances: HiGHS found no posting of {ambulances} ambulances: {found.message}")
    at_post = np.round(found.x[:posts])
    reached = covered_ph(calls_ph, reaches, at_post, busy)
    return Posting(at_post=at_post, covered_ph=reached, bound_ph=-float(found.mip_dual_bound))


def covered_ph(calls_ph: Column, reaches: NDArray[np.bool_], at_post: Column, busy: float) -> float:
    """Calls an hour that are expected to find an ambulance in time: Σ_j calls_j (1 − q^n_j), n_j in reach of j."""
    in_reach = at_post @ reaches
    return float((calls_ph * (1.0 - busy**in_reach)).sum())


def post_ambulances(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """At most one proposal: the posting of all ambulances, where it covers ``gain_min`` more than the present one."""
    seen = view.kinds.get("ambulance_station")
    if seen is None or len(seen.ids) < 2:
        return
    placed = np.isfinite(seen.lat_deg) & np.isfinite(seen.lon_deg)
    heard = seen.age_s <= float(parameters["max_age_s"])
    if not (placed & heard).all():
        return  # where somebody stands is not known: nobody is moved
    attributes, calls = seen.attributes, seen.state.calls_ph
    way_s = travel_s(
        seen.lat_deg[:, None], seen.lon_deg[:, None], seen.lat_deg, seen.lon_deg, attributes.speed_kmh[:, None]
    )
    reaches = way_s <= 60.0 * attributes.target_min
    now = np.where(seen.command.posted >= 0.0, seen.command.posted, attributes.ambulances)
    ambulances = int(attributes.ambulances.sum())
    if ambulances < 1:
        return
    load = float((calls * attributes.job_h).sum())
    busy = min(load / ambulances, float(parameters["busy_max"]))
    plan = post(calls, reaches, ambulances, busy, now)
    before = covered_ph(calls, reaches, now, busy)
    if plan.covered_ph < before + float(parameters["gain_min"]) * float(calls.sum()):
        return
    moved = np.flatnonzero(plan.at_post != now)
    words = ", ".join(f"{seen.ids[row]} {now[row]:.0f} → {plan.at_post[row]:.0f}" for row in moved.tolist())
    yield Proposal(
        key="post_ambulances",
        reason=(
            f"{words}: {plan.covered_ph:.2f} instead of {before:.2f} of {calls.sum():.2f} calls/h find one in time "
            f"(at most {plan.bound_ph:.2f}; an ambulance is busy {busy:.0%} of the time)"
        ),
        effects=tuple(
            CommandTo(entity=seen.ids[row], values={"posted": float(plan.at_post[row])}) for row in moved.tolist()
        ),
        because=tuple(seen.ids[row] for row in moved.tolist()),
        cooldown_s=float(parameters["cooldown_s"]),
        objective=plan.covered_ph,
        bound=plan.bound_ph,
    )


POST_AMBULANCES = Policy(
    name="post_ambulances",
    doc=(
        "Posts all ambulances so that most calls are expected to find one within target_min (MEXCLP), where that is "
        "gain_min of all calls better than now. On record are the calls covered an hour and a proven upper limit."
    ),
    propose=post_ambulances,
    defaults={"gain_min": 0.02, "busy_max": 0.9, "max_age_s": 600.0, "cooldown_s": 900.0},
)


def divert(
    arrivals_ph: Column, room_ph: Column, ends: NDArray[np.intp], most_ph: Column
) -> tuple[Column, float, float]:
    """Patients an hour along ``ends (2, k)`` so that fewest come above ``room_ph (n,)``: flows, rest, dual bound.

    min Σ o_i + 0.001 Σ f_k with arrivals_i + in − out − o_i ≤ room_i, 0 ≤ f_k ≤ most_k, out_i ≤ arrivals_i.
    RuntimeError if HiGHS finds no optimum, which cannot be: diverting nobody is a plan.
    """
    from scipy.optimize import linprog

    n, k = len(arrivals_ph), ends.shape[1]
    into, out = np.zeros((n, k)), np.zeros((n, k))
    into[ends[1], np.arange(k)] = 1.0
    out[ends[0], np.arange(k)] = 1.0
    limits = np.vstack([np.hstack([into - out, -np.eye(n)]), np.hstack([out, np.zeros((n, n))])])
    right = np.concatenate([room_ph - arrivals_ph, arrivals_ph])
    upper = np.concatenate([most_ph, np.full(n, np.inf)])
    cost = np.concatenate([np.full(k, 1e-3), np.ones(n)])
    found = linprog(cost, A_ub=limits, b_ub=right, bounds=np.column_stack([np.zeros(k + n), upper]), method="highs")
    if not found.success:
        raise RuntimeError(f"divert_patients: HiGHS found no plan for {n} hospitals: {found.message}")
    capped = np.isfinite(upper)
    bound = float(right @ found.ineqlin.marginals + upper[capped] @ found.upper.marginals[capped])
    return np.round(found.x[:k], 3) + 0.0, float(found.fun), bound


def divert_patients(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """At most one proposal: patients an hour between hospitals that the relation ``diverts_to`` links."""
    seen = view.kinds.get("hospital")
    links = view.links("diverts_to", "hospital", "hospital")
    if seen is None or not len(links.source):
        return
    heard = seen.age_s <= float(parameters["max_age_s"])
    arrivals = np.maximum(seen.state.arrivals_ph, 0.0)
    room = room_ph(seen, float(parameters["occupancy_max"]))
    ends = np.stack([links.source, links.target])
    usable = heard[ends].all(axis=0)
    most = np.where(usable, links.share * arrivals[links.source], 0.0)
    short = heard & (arrivals > room) & (seen.indicators["occupancy"] > float(parameters["occupancy_max"]))
    flow, objective, bound = np.zeros(ends.shape[1]), 0.0, 0.0
    if short.any():
        from_short = np.where(short[links.source], most, 0.0)
        flow, objective, bound = divert(arrivals, np.where(short, room, np.maximum(room, arrivals)), ends, from_short)
    net = np.bincount(links.target, flow, minlength=len(seen.ids)) - np.bincount(
        links.source, flow, minlength=len(seen.ids)
    )
    rows = np.flatnonzero(np.abs(net - seen.couplings.diverted_ph) >= float(parameters["noticeable_ph"]))
    renew = np.flatnonzero(net != 0.0)
    told = np.union1d(rows, renew)
    if not len(told):
        return
    words = ", ".join(
        f"{flow[k]:.2f}/h from {seen.ids[ends[0, k]]} to {seen.ids[ends[1, k]]}" for k in np.flatnonzero(flow).tolist()
    )
    yield Proposal(
        key="divert_patients",
        reason=f"send patients on: {words}" if words else "every hospital takes its own patients again",
        effects=tuple(
            CoupleTo(entity=seen.ids[row], values={"diverted_ph": round(float(net[row]), 3)}) for row in told.tolist()
        ),
        because=tuple(seen.ids[row] for row in told.tolist()),
        cooldown_s=float(parameters["cooldown_s"]),
        objective=objective,
        bound=bound,
    )


def room_ph(seen: KindView, occupancy_max: float) -> Column:
    """Arrivals an hour that a hospital can take for long at ``occupancy_max`` of its beds: c·ρ/s."""
    return np.asarray(seen.attributes.beds * occupancy_max / seen.attributes.mean_stay_h)


DIVERT_PATIENTS = Policy(
    name="divert_patients",
    doc=(
        "Sends patients of a hospital above occupancy_max on to those it diverts_to (share: at most that part of its "
        "arrivals), so that fewest come above what can be taken for long. Linear programme; on record are the patients "
        "an hour that remain too many, and the dual bound."
    ),
    propose=divert_patients,
    defaults={"occupancy_max": 0.92, "noticeable_ph": 0.05, "max_age_s": 3600.0, "cooldown_s": 600.0},
)
