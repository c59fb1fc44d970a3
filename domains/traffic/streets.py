"""Streets between intersections: flows by direction and turning shares, and roads that are full and block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from domains.traffic import intersection
from domains.traffic.axes import MOVEMENT
from domains.traffic.turning import APPROACHES, LEADS, divide, left_share, side_of
from twin_actors.core.columns import Column
from twin_actors.core.view import CoupleTo, KindView, Links, Parameters, Policy, Proposal, View

DECIMALS = 3


def blocked_by_fill(fill: Column, begins: float) -> Column:
    """Share of the discharge into a road that finds no room: 0 up to ``begins`` of its storage, 1 when it is full."""
    blocked: Column = np.clip((fill - begins) / max(1.0 - begins, 1e-6), 0.0, 1.0)
    return blocked


def street_flows(view: KindView, links: Links, begins: float) -> tuple[Column, Column, Column]:
    """What streets carry and keep back: ``upstream_vph`` and ``blocked_share`` ``(8, n)``, mean ``delay_s`` ``(n,)``.

    A street joins the side of its source that faces the target with the approach of the target that faces the source.
    It takes the movements that lead there (``share`` of them), which the target's estimated turning shares divide; what
    it carries is conserved. A full approach blocks the movements that lead to it. Both ends need positions.
    """
    n = len(view.ids)
    leaving_at = side_of(
        view.lat_deg[links.source], view.lon_deg[links.source], view.lat_deg[links.target], view.lon_deg[links.target]
    )
    known = np.isfinite(leaving_at)
    source, target, share = links.source[known], links.target[known], links.share[known]
    leaves = leaving_at[known].astype(np.intp)
    arrives = (leaves + 2) % len(APPROACHES)

    now = view.state.replace(
        coupled_vph=intersection.coupled_vph(view.attributes, view.couplings),
        blocked_share=np.clip(view.couplings.blocked_share, 0.0, 1.0),
    )
    out_vph = intersection.discharge_vph(now, view.attributes, view.command)
    carried_vph = (LEADS[leaves].T * out_vph[:, source]).sum(axis=0) * share
    approach_vph = np.zeros((len(APPROACHES), n))
    np.add.at(approach_vph, (arrives, target), carried_vph)
    upstream_vph = divide(approach_vph, left_share(view.state.demand_vph, view.attributes.saturation_vph))

    exists = view.attributes.saturation_vph > 0
    queue_veh = np.where(exists, view.state.queue_veh, 0.0)
    storage_veh = np.where(exists, view.attributes.storage_veh, 0.0)
    fill = (queue_veh[0::2] + queue_veh[1::2]) / np.maximum(storage_veh[0::2] + storage_veh[1::2], 1.0)
    kept = blocked_by_fill(fill[arrives, target], begins) * share
    blocked = np.zeros((len(MOVEMENT), n))
    for street in np.flatnonzero(kept > 0):
        blocked[:, source[street]] += LEADS[leaves[street]] * kept[street]

    delay_s, streets = np.zeros(n), np.zeros(n)
    np.add.at(delay_s, target, links.delay_s[known])
    np.add.at(streets, target, 1.0)
    return upstream_vph, np.minimum(blocked, 1.0), delay_s / np.maximum(streets, 1.0)


def propose_street_flows(view: View, parameters: Parameters) -> Iterator[Proposal]:
    """Tell each intersection what its streets bring, after their mean travel time, and what they have no room for."""
    name = intersection.INTERSECTION.name
    seen = view.kinds.get(name)
    links = view.links("feeds", name, name)
    if seen is None or not len(links.target):
        return
    upstream_vph, blocked, delay_s = street_flows(seen, links, float(parameters["full_from"]))
    cooldown_s = float(parameters["cooldown_s"])
    fed = (upstream_vph.sum(axis=0) > 0) | (seen.couplings.upstream_vph.sum(axis=0) > 0)
    for row in np.flatnonzero(fed):
        entity = seen.ids[row]
        sources = links.source[links.target == row]
        yield Proposal(
            key=f"street:{entity}",
            reason=f"streets bring {upstream_vph[:, row].sum():.0f} veh/h",
            effects=(
                CoupleTo(
                    entity=entity, values={"upstream_vph": _numbers(upstream_vph[:, row])}, after_s=float(delay_s[row])
                ),
            ),
            because=tuple(seen.ids[source] for source in sources),
            cooldown_s=cooldown_s,
        )
    held = (blocked.max(axis=0) > 0) | (seen.couplings.blocked_share.max(axis=0) > 0)
    for row in np.flatnonzero(held):
        entity = seen.ids[row]
        targets = links.target[links.source == row]
        yield Proposal(
            key=f"blocked:{entity}",
            reason=f"full streets keep back {100 * blocked[:, row].max():.0f} % of a movement",
            effects=(CoupleTo(entity=entity, values={"blocked_share": _numbers(blocked[:, row])}),),
            because=tuple(seen.ids[target] for target in targets),
            cooldown_s=cooldown_s,
        )


def _numbers(column: Column) -> tuple[float, ...]:
    return tuple(round(float(number), DECIMALS) for number in column)


STREET_FLOWS = Policy(
    name="street_flows",
    doc="Flows between intersections by direction and turning shares, and spillback (relation `feeds`, positions).",
    propose=propose_street_flows,
    defaults={"cooldown_s": 30.0, "full_from": 0.9},
)
"""Instead of ``flows``, where the intersections have positions: both tell ``upstream_vph``."""
