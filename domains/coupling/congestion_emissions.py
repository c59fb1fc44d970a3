"""The rule ``congestion_emissions``: vehicles that wait are a source of particles and NO2 at air stations."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from domains.coupling.arrivals import causes, couplings_to, gather, goes_on, in_force, is_news, renewal_s
from twin_actors.core.columns import Column
from twin_actors.core.view import Parameters, Policy, Proposal, View

RELATION = "pollutes"
FIELDS = ("traffic_pm25_ugm3_h", "traffic_no2_ugm3_h")


def emission_ugm3_h(vehicles: Column, g_per_veh_h: float, mixing_volume_m3: float) -> Column:
    """Rise of concentration in a well-mixed volume, µg/m³/h: vehicles × g/h each, spread over the volume."""
    return vehicles * g_per_veh_h * 1e6 / mixing_volume_m3


def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """One proposal per air station whose traffic emissions have changed noticeably.

    What counts are the vehicles that wait at an intersection beyond ``free_veh``, times the link's share;
    intersections not heard of for ``stale_s`` count for nothing, a station all of whose sources are silent is
    left alone.
    """
    sources, targets = view.kinds.get("intersection"), view.kinds.get("air_station")
    links = view.links(RELATION, "intersection", "air_station")
    if sources is None or targets is None or not len(links.source):
        return
    waiting = np.asarray(sources.indicators["waiting_veh"], dtype=np.float64)
    excess = np.maximum(waiting - float(parameters["free_veh"]), 0.0)
    volume_m3 = float(parameters["mixing_volume_m3"])
    rates = np.stack(
        [
            emission_ugm3_h(excess, float(parameters["pm25_g_per_veh_h"]), volume_m3),
            emission_ugm3_h(excess, float(parameters["no2_g_per_veh_h"]), volume_m3),
        ]
    )
    sent = links.share * rates[:, links.source]
    heard = (sources.age_s <= float(parameters["stale_s"]))[links.source]
    arrivals = gather(links, sent, heard, len(targets.ids))
    noticeable = float(parameters["noticeable_ugm3_h"])
    present = in_force(targets, FIELDS)
    news = arrivals.heard & is_news(arrivals.amount, present, noticeable)
    going_on = arrivals.heard & goes_on(arrivals.amount, present, news)
    for row in np.flatnonzero(news | going_on):
        station = targets.ids[row]
        pm25, no2 = (float(part) for part in arrivals.amount[:, row])
        if news[row]:
            level = str(round((pm25 + no2) / noticeable))
            cooldown_s = max(float(parameters["cooldown_s"]), float(arrivals.after_s[row]))
        else:
            level, cooldown_s = "renewed", renewal_s(targets, FIELDS[0])
        yield Proposal(
            key=f"congestion_emissions/{station}/{level}",
            reason=f"{station}: waiting traffic adds {pm25:.2g} µg/m³/h of PM2.5 and {no2:.2g} of NO2",
            effects=couplings_to(targets, (int(row),), FIELDS, arrivals),
            because=causes(sources, links, np.array([row]), sent, heard),
            cooldown_s=cooldown_s,
        )


CONGESTION_EMISSIONS = Policy(
    name="congestion_emissions",
    doc="Vehicles waiting at the intersections that pollute an air station raise its PM2.5 and NO2.",
    propose=propose,
    # Idling cars emit some 0.1 g/h of fine particles (with a few diesel trucks among them) and 1 g/h of NO2
    # (EPA-420-F-08-025: 3.5 g/h of NOx); the volume is 1 km² of streets, 20 m deep.
    defaults={
        "free_veh": 20.0,
        "pm25_g_per_veh_h": 0.1,
        "no2_g_per_veh_h": 1.0,
        "mixing_volume_m3": 2e7,
        "noticeable_ugm3_h": 0.2,
        "stale_s": 600.0,
        "cooldown_s": 60.0,
    },
)
