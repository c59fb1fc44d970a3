"""The policy ``air_advice``: words for the public where the air is bad, without touching any device."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from domains.air.aqi import CATEGORIES, MAIN_POLLUTANT
from twin_actors.core.view import Parameters, Policy, Proposal, View

ADVICE = {
    "unhealthy for sensitive groups": "sensitive groups should cut down heavy exertion outdoors",
    "unhealthy": "everyone should cut down heavy exertion outdoors, sensitive groups avoid it",
    "very unhealthy": "everyone should avoid long or heavy exertion outdoors, sensitive groups stay indoors",
    "hazardous": "everyone should avoid all exertion outdoors",
}
"""After the cautionary statements of EPA-454/B-24-002, Table 5, shortened and without the pollutant."""


def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """One proposal without effects per station whose index is above ``from_aqi``, the worst air first.

    The category is part of the key, so that a change of category is said at once and not after ``cooldown_s``.
    """
    stations = view.kinds.get("air_station")
    if stations is None:
        return
    index = stations.indicators["aqi"]
    rows = np.flatnonzero(index > float(parameters["from_aqi"]))
    for row in rows[np.argsort(-index[rows], kind="stable")]:
        entity = stations.ids[row]
        category = CATEGORIES[int(stations.indicators["aqi_category"][row])]
        pollutant = MAIN_POLLUTANT[int(stations.indicators["main_pollutant"][row])]
        advice = ADVICE.get(category, "no restriction")
        yield Proposal(
            key=f"air_advice/{entity}/{category}",
            reason=f"{entity}: air quality index {index[row]:.0f} ({category}, {pollutant}): {advice}",
            effects=(),
            because=(entity,),
            cooldown_s=float(parameters["cooldown_s"]),
            objective=float(index[row]),
        )


AIR_ADVICE = Policy(
    name="air_advice",
    doc="Advice to the public where the air quality index is above from_aqi.",
    propose=propose,
    defaults={"from_aqi": 100.0, "cooldown_s": 3600.0},
)
