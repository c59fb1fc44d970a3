"""City-wide traffic rules for plans: green splits by max pressure or Webster, and flows from junction to junction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from domains.traffic import intersection
from domains.traffic.control import effective_split
from domains.traffic.equations import S_PER_H
from domains.traffic.neighbours import ROAD_NEIGHBOURS
from domains.traffic.staging import SIGNAL_STAGES
from domains.traffic.streets import STREET_FLOWS
from twin_actors.core.columns import Column
from twin_actors.core.view import CommandTo, CoupleTo, KindView, Parameters, Policy, Proposal, Value, View

DECIMALS = 4


def _arrivals(view: KindView) -> Column:
    """Flow that joins each queue ``(m, n)``, veh/h, with the couplings as they are at the cut."""
    now = view.state.replace(coupled_vph=intersection.coupled_vph(view.attributes, view.couplings))
    return intersection.arrival_vph(now, view.attributes, view.command)


def _vehicles_concerned(view: KindView, arriving_vph: Column) -> Column:
    """Vehicles that wait or come within one cycle ``(n,)``."""
    coming_veh: Column = (view.state.queue_veh + arriving_vph * view.command.cycle_s / S_PER_H).sum(axis=0)
    return coming_veh


def _chosen(eligible: NDArray[np.bool_], gain: Column, at_most: float) -> NDArray[np.intp]:
    """The eligible rows with the largest gain, largest first, not more than ``at_most``."""
    order = np.argsort(-np.where(eligible, gain, -np.inf), kind="stable")
    return order[: min(int(np.count_nonzero(eligible)), max(int(at_most), 0))]


def _numbers(column: Column) -> tuple[float, ...]:
    return tuple(round(float(number), DECIMALS) for number in column)


def _split_in_force(view: KindView) -> Column:
    return effective_split(view.command.green_split, view.attributes.lost_time_s, view.command.cycle_s)


def _plans(
    name: str,
    view: KindView,
    parameters: Parameters,
    *,
    split: Column,
    cycle_s: Column | None,
    gain: Column,
    differs: NDArray[np.bool_],
) -> Iterator[Proposal]:
    """One proposal for each of the chosen intersections; twins not heard of for ``max_age_s`` are left alone."""
    eligible = differs & (view.age_s <= float(parameters["max_age_s"])) & (gain > 0)
    for row in _chosen(eligible, gain, float(parameters["at_most"])):
        entity = view.ids[row]
        values: dict[str, Value] = {"green_split": _numbers(split[:, row])}
        shares = ", ".join(f"{100 * share:.0f} %" for share in split[:, row])
        plan = f"green {shares}"
        if cycle_s is not None:
            values["cycle_s"] = round(float(cycle_s[row]), 1)
            plan = f"cycle {cycle_s[row]:.0f} s, {plan}"
        yield Proposal(
            key=f"{name}:{entity}",
            reason=f"{plan} for {view.indicators['waiting_veh'][row]:.0f} waiting vehicles",
            effects=(CommandTo(entity=entity, values=values, expires_s=float(parameters["expires_s"])),),
            because=(entity,),
            cooldown_s=float(parameters["cooldown_s"]),
            objective=float(gain[row]),
        )


def propose_max_pressure(view: View, parameters: Parameters) -> Iterator[Proposal]:
    """The green split of max pressure where it differs from the one in force by ``change_min`` in any phase.

    The gain of a proposal is the share of the cycle that changes hands times the vehicles concerned, veh.
    """
    seen = view.kinds.get(intersection.INTERSECTION.name)
    if seen is None or not seen.ids:
        return
    arriving_vph = _arrivals(seen)
    now = seen.state.replace(coupled_vph=intersection.coupled_vph(seen.attributes, seen.couplings))
    split = intersection.control(now, seen.attributes, seen.command, seen.indicators).green_split
    change = np.abs(split - _split_in_force(seen))
    yield from _plans(
        "max_pressure",
        seen,
        parameters,
        split=split,
        cycle_s=None,
        gain=0.5 * change.sum(axis=0) * _vehicles_concerned(seen, arriving_vph),
        differs=change.max(axis=0) >= float(parameters["change_min"]),
    )


def propose_webster(view: View, parameters: Parameters) -> Iterator[Proposal]:
    """Webster's cycle and splits where they differ from those in force by ``change_min`` or ``cycle_change_min_s``.

    The gain of a proposal is the HCM 2000 control delay that it saves, veh·h per hour.
    """
    seen = view.kinds.get(intersection.INTERSECTION.name)
    if seen is None or not seen.ids:
        return
    arriving_vph = _arrivals(seen)
    cycle_s, split = intersection.webster(arriving_vph, seen.attributes)
    proposed = seen.command.replace(green_split=split, cycle_s=cycle_s)
    saved_s = intersection.delay_s(arriving_vph, seen.attributes, seen.command) - intersection.delay_s(
        arriving_vph, seen.attributes, proposed
    )
    yield from _plans(
        "webster",
        seen,
        parameters,
        split=split,
        cycle_s=cycle_s,
        gain=saved_s * arriving_vph.sum(axis=0) / S_PER_H,
        differs=(np.abs(split - _split_in_force(seen)).max(axis=0) >= float(parameters["change_min"]))
        | (np.abs(cycle_s - seen.command.cycle_s) >= float(parameters["cycle_change_min_s"])),
    )


def propose_flows(view: View, parameters: Parameters) -> Iterator[Proposal]:
    """What leaves a junction arrives at those it ``feeds``: the part ``share``, after ``delay_s``.

    Without known turns the flow is spread over the target's movements in proportion to saturation flow. It is
    told again every ``cooldown_s``, because a coupling fades when nobody renews it. The demand measured at a fed
    junction must then leave out what comes from its neighbours, or flows count twice.
    """
    name = intersection.INTERSECTION.name
    seen = view.kinds.get(name)
    links = view.links("feeds", name, name)
    if seen is None or not len(links.target):
        return
    now = seen.state.replace(coupled_vph=intersection.coupled_vph(seen.attributes, seen.couplings))
    leaving_vph = intersection.discharge_vph(now, seen.attributes, seen.command).sum(axis=0)
    order = np.argsort(links.target, kind="stable")
    fed, first = np.unique(links.target[order], return_index=True)
    sources = np.split(links.source[order], first[1:])
    total_vph = np.add.reduceat((leaving_vph[links.source] * links.share)[order], first)
    # The flows of several neighbours are one coupling value, so they share their mean travel time.
    after_s = np.add.reduceat(links.delay_s[order], first) / np.diff(first, append=len(order))
    saturation_vph = seen.attributes.saturation_vph[:, fed]
    upstream_vph = saturation_vph / np.maximum(saturation_vph.sum(axis=0), 1.0) * total_vph
    flowing = (total_vph > 0) | (seen.couplings.upstream_vph[:, fed].sum(axis=0) > 0)
    for place in np.flatnonzero(flowing):
        entity = seen.ids[fed[place]]
        yield Proposal(
            key=f"flows:{entity}",
            reason=f"neighbours send {total_vph[place]:.0f} veh/h",
            effects=(
                CoupleTo(
                    entity=entity,
                    values={"upstream_vph": _numbers(upstream_vph[:, place])},
                    after_s=float(after_s[place]),
                ),
            ),
            because=tuple(seen.ids[source] for source in sources[place]),
            cooldown_s=float(parameters["cooldown_s"]),
        )


_PLAN_DEFAULTS: dict[str, float | str | bool] = {
    "change_min": 0.05,
    "at_most": 50.0,
    "max_age_s": 300.0,
    "cooldown_s": 60.0,
    "expires_s": 120.0,
}

MAX_PRESSURE = Policy(
    name="max_pressure",
    doc="Green splits in proportion to pressure (Varaiya 2013), where they differ from those in force.",
    propose=propose_max_pressure,
    defaults=_PLAN_DEFAULTS,
)

WEBSTER = Policy(
    name="webster",
    doc="Webster's optimum cycle and splits for the demand of the moment, where they save delay.",
    propose=propose_webster,
    defaults={**_PLAN_DEFAULTS, "cycle_change_min_s": 10.0, "cooldown_s": 300.0},
)

FLOWS = Policy(
    name="flows",
    doc="What leaves an intersection arrives at those it feeds (relation `feeds`, with share and delay_s).",
    propose=propose_flows,
    defaults={"cooldown_s": 60.0},
)

POLICIES = {
    policy.name: policy for policy in (MAX_PRESSURE, WEBSTER, FLOWS, STREET_FLOWS, ROAD_NEIGHBOURS, SIGNAL_STAGES)
}
