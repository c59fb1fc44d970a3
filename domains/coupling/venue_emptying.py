"""The rule ``venue_emptying``: people who leave a venue by car are traffic on the streets nearby."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from domains.coupling.arrivals import (
    Arrivals,
    causes,
    couplings_to,
    gather,
    goes_on,
    in_force,
    is_news,
    renewal_s,
)
from twin_actors.core.columns import Column
from twin_actors.core.view import KindView, Links, Parameters, Policy, Proposal, View

RELATION = "empties_to"
TARGETS = ("intersection", "road")
FIELD = "event_vph"


def cars_vph(outflow_pmin: Column, car_share: float, persons_per_car: float) -> Column:
    """Cars an hour from a net outflow in persons a minute."""
    return outflow_pmin * 60 * car_share / persons_per_car


def outflow_pmin(venues: KindView) -> Column:
    """Net outflow ``(n,)`` in persons a minute, zero while more come than go."""
    return np.maximum(-np.asarray(venues.indicators["net_flow_pmin"], dtype=np.float64), 0.0)


def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """One proposal per venue that sends most of the cars to some intersection or road where that is news.

    A venue starts to count when its net outflow exceeds ``outflow_pmin`` and counts until it is below
    ``release_share`` of that. A target that several venues empty to is sent their sum. A venue not heard
    of for ``stale_s`` counts for nothing and decides nothing.
    """
    venues = view.kinds.get("venue")
    for kind in TARGETS:
        targets, links = view.kinds.get(kind), view.links(RELATION, "venue", kind)
        if venues is not None and targets is not None and len(links.source):
            yield from _to_targets(venues, targets, links, parameters)


def _to_targets(venues: KindView, targets: KindView, links: Links, parameters: Parameters) -> Iterator[Proposal]:
    present = in_force(targets, (FIELD,))
    outflow = outflow_pmin(venues)
    counting = np.zeros(len(venues.ids), dtype=bool)
    np.logical_or.at(counting, links.source, present[0, links.target] > 0)
    threshold = float(parameters["outflow_pmin"])
    limit = np.where(counting, threshold * float(parameters["release_share"]), threshold)
    cars = np.where(
        outflow > limit,
        cars_vph(outflow, float(parameters["car_share"]), float(parameters["persons_per_car"])),
        0.0,
    )
    sent = (links.share * cars[links.source])[np.newaxis]
    heard = (venues.age_s <= float(parameters["stale_s"]))[links.source]
    arrivals = gather(links, sent, heard, len(targets.ids))
    news = arrivals.heard & is_news(arrivals.amount, present, float(parameters["noticeable_vph"]))
    going_on = arrivals.heard & goes_on(arrivals.amount, present, news)
    yield from _by_venue(venues, targets, links, sent, heard, arrivals, news, parameters, renewed=False)
    yield from _by_venue(venues, targets, links, sent, heard, arrivals, going_on, parameters, renewed=True)


def _by_venue(
    venues: KindView,
    targets: KindView,
    links: Links,
    sent: Column,
    heard: NDArray[np.bool_],
    arrivals: Arrivals,
    chosen: NDArray[np.bool_],
    parameters: Parameters,
    *,
    renewed: bool,
) -> Iterator[Proposal]:
    for leader in np.unique(arrivals.leader[chosen]):
        rows = np.flatnonzero(chosen & (arrivals.leader == leader))
        total_vph = float(arrivals.amount[0, rows].sum())
        venue = venues.ids[leader]
        # The level is part of the key: a new level is decided at once, the same one not again while it travels.
        level = "renewed" if renewed else str(round(total_vph / float(parameters["noticeable_vph"])))
        if renewed:
            cooldown_s = renewal_s(targets, FIELD)
        else:
            cooldown_s = max(float(parameters["cooldown_s"]), float(arrivals.after_s[rows].max()))
        going = f"{outflow_pmin(venues)[leader]:.0f} persons/min leave, {total_vph:.0f} veh/h"
        yield Proposal(
            key=f"venue_emptying/{venue}/{targets.kind.name}/{level}",
            reason=f"{venue}: {going} to {len(rows)} {targets.kind.name}(s)"
            if total_vph > 0
            else f"{venue}: no longer emptying",
            effects=couplings_to(targets, rows.tolist(), (FIELD,), arrivals),
            because=causes(venues.ids, links, rows, sent, heard),
            cooldown_s=cooldown_s,
        )


VENUE_EMPTYING = Policy(
    name="venue_emptying",
    doc="While a venue empties, the streets it empties_to expect its cars after the link's delay.",
    propose=propose,
    defaults={
        "outflow_pmin": 60.0,
        "release_share": 0.5,
        "car_share": 0.5,
        "persons_per_car": 2.5,
        "noticeable_vph": 50.0,
        "stale_s": 600.0,
        "cooldown_s": 60.0,
    },
)
