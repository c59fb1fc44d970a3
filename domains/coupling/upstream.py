"""The rule ``upstream``: what one intersection serves arrives at the next ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from domains.coupling.arrivals import causes, couplings_to, gather, goes_on, in_force, is_news, renewal_s
from domains.traffic.axes import MOVEMENT
from twin_actors.core.columns import Column
from twin_actors.core.view import Parameters, Policy, Proposal, View

RELATION = "feeds"
FIELD = "upstream_vph"
SIDES = ("n", "e", "s", "w")


def side_of(source_lat: Column, source_lon: Column, target_lat: Column, target_lon: Column) -> NDArray[np.intp]:
    """The approach of the target on which the source lies: 0 north, 1 east, 2 south, 3 west (degrees in).

    Plane geometry at the target's latitude, good for streets; longitudes are taken the short way round.
    """
    north = source_lat - target_lat
    lon = np.mod(source_lon - target_lon + 180, 360) - 180
    east = lon * np.cos(np.radians(target_lat))
    quarter = np.round(np.degrees(np.arctan2(east, north)) / 90)
    return np.asarray(np.mod(quarter, len(SIDES)), dtype=np.intp)


def parts_of(side: NDArray[np.intp], left_share: float) -> Column:
    """How arrivals on a side spread over the movements, ``(movements, k)``: every column adds up to 1."""
    parts = np.zeros((len(MOVEMENT), len(side)))
    for number, name in enumerate(SIDES):
        here = side == number
        parts[MOVEMENT.labels.index(f"{name}l"), here] = left_share
        parts[MOVEMENT.labels.index(f"{name}t"), here] = 1 - left_share
    return parts


def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """At most two proposals for the whole city: flows that changed noticeably, and flows to be renewed.

    The link's share says which part of a junction's throughput goes on to the next; it arrives on the side where
    the source lies by its coordinates (links between entities without coordinates carry nothing). For junctions
    whose own demand is what comes from outside: where detectors count all arrivals, ``feeds`` would count them twice.
    """
    junctions = view.kinds.get("intersection")
    links = view.links(RELATION, "intersection", "intersection")
    if junctions is None or not len(links.source):
        return
    lat, lon = junctions.lat_deg, junctions.lon_deg
    placed = np.isfinite(lat + lon)
    usable = placed[links.source] & placed[links.target]
    side = np.zeros(len(links.source), dtype=np.intp)
    source, target = links.source[usable], links.target[usable]
    side[usable] = side_of(lat[source], lon[source], lat[target], lon[target])
    throughput = np.asarray(junctions.indicators["throughput_vph"], dtype=np.float64)
    flow = links.share * throughput[links.source]
    sent = parts_of(side, float(parameters["left_share"])) * flow
    heard = usable & (junctions.age_s <= float(parameters["stale_s"]))[links.source]
    arrivals = gather(links, sent, heard, len(junctions.ids))
    noticeable = float(parameters["noticeable_vph"])
    present = in_force(junctions, (FIELD,))
    news = arrivals.heard & is_news(arrivals.amount, present, noticeable)
    going_on = arrivals.heard & goes_on(arrivals.amount, present, news)
    cooldown_s = float(parameters["cooldown_s"])
    for chosen, key, wait_s in (
        (news, "upstream", cooldown_s),
        (going_on, "upstream/renewed", renewal_s(junctions, FIELD)),
    ):
        rows = np.flatnonzero(chosen)
        if len(rows):
            total_vph = float(arrivals.amount[:, rows].sum())
            yield Proposal(
                key=key,
                reason=f"{total_vph:.0f} veh/h served upstream arrive at {len(rows)} intersection(s)",
                effects=couplings_to(junctions, rows.tolist(), (FIELD,) * len(MOVEMENT), arrivals),
                because=causes(junctions, links, rows, sent, heard),
                cooldown_s=wait_s,
            )


UPSTREAM = Policy(
    name="upstream",
    doc="Vehicles that an intersection serves arrive at those it feeds, on the side where it lies.",
    propose=propose,
    defaults={"left_share": 0.2, "noticeable_vph": 60.0, "stale_s": 600.0, "cooldown_s": 60.0},
)
