"""Rules for the water of a city: when pumps run, and where it leaks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.view import CommandTo, Parameters, Policy, Proposal, View

HOURS = 24
NODE_LIMIT = 2000
GAP = 0.01


@dataclass(frozen=True, slots=True)
class PumpPlan:
    """``runs (24,)`` 0 or 1 for each hour, its cost and a proven lower limit of the cost of any plan that holds."""

    runs: NDArray[np.float64]
    cost: float
    bound: float


def plan_pump(
    volume_m3: float,
    low_m3: float,
    high_m3: float,
    pump_m3h: float,
    demand_m3h: Column,
    kw: float,
    price_per_kwh: Column,
) -> PumpPlan | None:
    """The cheapest hours to pump in, so that the tank stays between its limits and ends no emptier; None: no such.

    min Σ price_h kW u_h with low ≤ V₀ + Σ_{k≤h} (pump u_k − demand_k) ≤ high, V_end ≥ min(V₀, high − an hour of pump),
    u_h ∈ {0, 1}. Branch and bound by HiGHS (scipy.optimize.milp, imported here because twins do not need it), limited
    by nodes and gap and never by time, so that the recorded inputs give the same plan again.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    steps = np.tril(np.ones((HOURS, HOURS))) * pump_m3h
    drawn = np.cumsum(demand_m3h)
    lowest = np.full(HOURS, low_m3) - volume_m3 + drawn
    lowest[-1] = max(lowest[-1], min(volume_m3, high_m3 - pump_m3h) - volume_m3 + drawn[-1])
    found = milp(
        price_per_kwh * kw,
        integrality=np.ones(HOURS),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(steps, lowest, high_m3 - volume_m3 + drawn),
        options={"node_limit": NODE_LIMIT, "mip_rel_gap": GAP},
    )
    if found.x is None:
        return None
    runs = np.round(found.x)
    return PumpPlan(runs=runs, cost=float(price_per_kwh @ runs * kw), bound=float(found.mip_dual_bound))


def prices(now_s: float, parameters: Parameters) -> Column:
    """Price of each of the next 24 hours: cheap from ``cheap_from_h`` to ``cheap_until_h`` (UTC, may pass midnight)."""
    hour = (now_s / 3600.0 + np.arange(HOURS)) % 24.0
    begin, end = float(parameters["cheap_from_h"]), float(parameters["cheap_until_h"])
    cheap = (hour >= begin) & (hour < end) if begin <= end else (hour >= begin) | (hour < end)
    return np.where(cheap, float(parameters["price_cheap"]), float(parameters["price_dear"]))


def schedule_pumps(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """For each tank what its pump does in the hour that begins, where that differs from what it does now."""
    seen = view.kinds.get("tank")
    if seen is None:
        return
    price = prices(view.now_s, parameters)
    heard = seen.age_s <= float(parameters["max_age_s"])
    full = seen.indicators["pump_full_m3s"]
    for row in np.flatnonzero(heard & (full > 0.0)).tolist():
        area = float(seen.attributes.area_m2[row])
        lift_m = float(seen.attributes.bottom_m[row] + seen.state.level_m[row] - seen.attributes.source_head_m[row])
        kw = 9.81 * float(full[row]) * max(lift_m, 1.0) / float(seen.attributes.pump_efficiency[row])
        reserve_m = float(parameters["reserve_m"])
        plan = plan_pump(
            area * float(seen.state.level_m[row]),
            area * (float(seen.attributes.low_m[row]) + reserve_m),
            area * float(seen.attributes.height_m[row]),
            3600.0 * float(full[row]),
            np.full(HOURS, 3600.0 * float(seen.state.demand_m3s[row])),
            kw,
            price,
        )
        # Without a plan that holds, all that can be done against a low tank is to pump.
        speed = float(plan.runs[0]) if plan is not None else float(seen.indicators["fill"][row] < 0.95)
        entity = seen.ids[row]
        if speed == float(seen.command.pump_speed[row]):
            continue
        hours = int(plan.runs.sum()) if plan is not None else 0
        words = (
            f"{hours} of the next 24 hours at {plan.cost:.2f} (at least {plan.bound:.2f})"
            if plan is not None
            else "no plan keeps it between its limits"
        )
        yield Proposal(
            key=f"schedule_pumps/{entity}/{speed:g}",
            reason=f"{entity} at {seen.state.level_m[row]:.1f} m: pump {'on' if speed else 'off'}; {words}",
            effects=(CommandTo(entity=entity, values={"pump_speed": speed}),),
            because=(entity,),
            cooldown_s=float(parameters["cooldown_s"]),
            objective=plan.cost if plan is not None else None,
            bound=plan.bound if plan is not None else None,
        )


SCHEDULE_PUMPS = Policy(
    name="schedule_pumps",
    doc=(
        "Runs each tank's pump in the cheapest hours of the next 24 that keep it reserve_m above low_m and below its "
        "height at the present demand; on record are the cost and a proven lower limit of it."
    ),
    propose=schedule_pumps,
    defaults={
        "cheap_from_h": 22.0,
        "cheap_until_h": 6.0,
        "price_cheap": 0.12,
        "price_dear": 0.30,
        "reserve_m": 0.5,
        "max_age_s": 900.0,
        "cooldown_s": 900.0,
    },
)


def find_leaks(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """Words for each zone with a burst, or with more lost at night than ``share_max`` of its inflow, worst first."""
    seen = view.kinds.get("pressure_zone")
    if seen is None:
        return
    heard = seen.age_s <= float(parameters["max_age_s"])
    leak, share = seen.indicators["leak_m3s"], seen.indicators["leak_share"]
    for row in np.flatnonzero(heard & seen.alerts["burst"]).tolist():
        more = float(seen.indicators["unusual_m3s"][row])
        yield Proposal(
            key=f"find_leaks/{seen.ids[row]}/burst",
            reason=f"{seen.ids[row]}: {1000 * more:.0f} l/s more than usual at this hour: look for a burst main",
            effects=(),
            because=(seen.ids[row],),
            cooldown_s=float(parameters["cooldown_s"]),
            objective=3600.0 * more,
        )
    rows = np.flatnonzero(heard & (share > float(parameters["share_max"])))
    for row in rows[np.argsort(-leak[rows], kind="stable")].tolist():
        yield Proposal(
            key=f"find_leaks/{seen.ids[row]}/night",
            reason=(
                f"{seen.ids[row]}: {1000 * leak[row]:.1f} l/s are lost every night "
                f"({share[row]:.0%} of the mean inflow)"
            ),
            effects=(),
            because=(seen.ids[row],),
            cooldown_s=float(parameters["cooldown_s"]),
            objective=3600.0 * float(leak[row]),
        )


FIND_LEAKS = Policy(
    name="find_leaks",
    doc="Names zones with a burst, or whose minimum night flow says that more than share_max of the water is lost.",
    propose=find_leaks,
    defaults={"share_max": 0.2, "max_age_s": 900.0, "cooldown_s": 21_600.0},
)
