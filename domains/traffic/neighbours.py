"""Roads in a row: each is told the occupancy of the section downstream, which its incident test compares with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from domains.traffic import road
from twin_actors.core.view import CoupleTo, Parameters, Policy, Proposal, View


def propose_road_neighbours(view: View, parameters: Parameters) -> Iterator[Proposal]:
    """The occupancy of the section that a road ``feeds`` (the mean of several), while both are fresh.

    It is told again every ``cooldown_s``, because what nobody renews becomes unknown.
    """
    name = road.ROAD.name
    seen = view.kinds.get(name)
    links = view.links("feeds", name, name)
    if seen is None or not len(links.source):
        return
    fresh = seen.age_s[links.target] <= float(parameters["max_age_s"])
    for row in np.unique(links.source[fresh]):
        below = links.target[fresh & (links.source == row)]
        occupancy = float(seen.state.occupancy[below].mean())
        entity = seen.ids[row]
        yield Proposal(
            key=f"downstream:{entity}",
            reason=f"occupancy downstream is {occupancy:.2f}",
            effects=(CoupleTo(entity=entity, values={"downstream_occupancy": round(occupancy, 4)}),),
            because=tuple(seen.ids[each] for each in below),
            cooldown_s=float(parameters["cooldown_s"]),
        )


ROAD_NEIGHBOURS = Policy(
    name="road_neighbours",
    doc="Tells roads the occupancy of the section downstream (relation `feeds`), for incident detection.",
    propose=propose_road_neighbours,
    defaults={"cooldown_s": 20.0, "max_age_s": 90.0},
)
