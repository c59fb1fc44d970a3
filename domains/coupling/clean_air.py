"""The rule ``clean_air``: where the air is bad, the intersections around let less traffic in."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from domains.coupling.arrivals import RENEWALS
from twin_actors.core.columns import Column
from twin_actors.core.view import CommandTo, Parameters, Policy, Proposal, View

RELATION = "restrains"
FIELD = "inflow_share"
OPEN = 1.0


def inflow_share(aqi: Column, aqi_limit: float, aqi_worst: float, least_share: float) -> Column:
    """Share of the demand let in: 1 up to ``aqi_limit``, then linear down to ``least_share`` at ``aqi_worst``."""
    return np.interp(aqi, (aqi_limit, aqi_worst), (OPEN, least_share))


def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """One proposal per air station whose index decides for some intersection.

    An intersection follows the strictest of the stations that restrain it, by the link's share; between
    ``aqi_limit − hysteresis`` and ``aqi_limit`` it stays as it is, below it is opened again. Stations not heard of
    for ``stale_s`` are no reason for anything, neither to restrain nor to open. Only one policy of a city may use
    the command ``inflow_share``: this rule cannot know who else has asked for it.
    """
    stations, targets = view.kinds.get("air_station"), view.kinds.get("intersection")
    links = view.links(RELATION, "air_station", "intersection")
    if stations is None or targets is None or not len(links.source):
        return
    heard = (stations.age_s <= float(parameters["stale_s"]))[links.source]
    source, target, share = links.source[heard], links.target[heard], links.share[heard]
    index = np.asarray(stations.indicators["aqi"], dtype=np.float64)[source]
    limit, worst = float(parameters["aqi_limit"]), float(parameters["aqi_worst"])
    least = float(parameters["least_share"])
    allowed = OPEN - share * (OPEN - inflow_share(index, limit, worst, least))

    n = len(targets.ids)
    wanted = np.full(n, OPEN)
    np.minimum.at(wanted, target, allowed)
    highest = np.full(n, -np.inf)
    np.maximum.at(highest, target, index)
    leader = np.full(n, -1, dtype=np.intp)
    strictest_last = np.lexsort((index, -allowed))
    leader[target[strictest_last]] = source[strictest_last]

    # What was asked for last counts, not what is in force: a device may still be on its way there.
    desired, standing = getattr(targets.desired, FIELD), getattr(targets.command, FIELD)
    present = np.where(np.isnan(desired), standing, desired)
    between = (highest > limit - float(parameters["hysteresis"])) & (highest <= limit)
    wanted = np.where(between, present, wanted)
    decided = leader >= 0
    news = decided & (
        (np.abs(wanted - present) >= float(parameters["noticeable_share"])) | ((wanted == OPEN) & (present < OPEN))
    )
    going_on = decided & ~news & (wanted < OPEN) & (present < OPEN)
    hold_s = targets.kind.command.layout.fields[FIELD].hold_s
    for chosen, renewed in ((news, False), (going_on & np.isfinite(hold_s), True)):
        for place in np.unique(leader[chosen]):
            rows = np.flatnonzero(chosen & (leader == place))
            station, aqi = stations.ids[place], float(stations.indicators["aqi"][place])
            lowest = float(wanted[rows].min())
            level = "renewed" if renewed else f"{lowest:.2f}"
            restrained = f"{len(rows)} intersection(s) let at least {lowest:.0%} of their demand in"
            yield Proposal(
                key=f"clean_air/{station}/{level}",
                reason=f"{station}: air quality index {aqi:.0f}, limit {limit:.0f}: {restrained}",
                effects=tuple(
                    CommandTo(
                        entity=targets.ids[row],
                        values={FIELD: float(wanted[row])},
                        expires_s=float(parameters["expires_s"]),
                    )
                    for row in rows.tolist()
                ),
                because=(station,),
                cooldown_s=hold_s / RENEWALS if renewed else float(parameters["cooldown_s"]),
                objective=aqi,
                bound=limit,
            )


CLEAN_AIR = Policy(
    name="clean_air",
    doc="Above aqi_limit the intersections that a station restrains let less traffic in.",
    propose=propose,
    defaults={
        "aqi_limit": 150.0,
        "aqi_worst": 300.0,
        "least_share": 0.6,
        "hysteresis": 15.0,
        "noticeable_share": 0.02,
        "stale_s": 7800.0,
        "expires_s": 300.0,
        "cooldown_s": 300.0,
    },
)
