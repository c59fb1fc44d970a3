"""The rule ``congestion_emissions``: vehicles that wait are a source of particles and NO2 at air stations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from domains.coupling.arrivals import causes, couplings_to, gather, goes_on, in_force, is_news, renewal_s
from twin_actors.core.columns import Column
from twin_actors.core.view import KindView, Links, Parameters, Policy, Proposal, View

RELATION = "pollutes"
SOURCES = ("intersection", "road")
TARGET = "air_station"
FIELDS = ("traffic_pm25_ugm3_h", "traffic_no2_ugm3_h")


def emission_ugm3_h(vehicles: Column, g_per_veh_h: float, mixing_volume_m3: float) -> Column:
    """Rise of concentration in a well-mixed volume, µg/m³/h: vehicles × g/h each, spread over the volume."""
    return vehicles * g_per_veh_h * 1e6 / mixing_volume_m3


def waiting_beyond_veh(source: KindView, free_veh: float) -> Column:
    """Vehicles ``(n,)`` that wait beyond ``free_veh``; on a road those are flow × delay (Little's law)."""
    seen = source.indicators
    if source.kind.name == "road":
        waiting = np.asarray(source.state.flow_vph * seen["delay_s"] / 3600, dtype=np.float64)
    else:
        waiting = np.asarray(seen["waiting_veh"], dtype=np.float64)
    return np.maximum(waiting - free_veh, 0.0)


def _sources(view: View, parameters: Parameters) -> tuple[tuple[str, ...], Column, Column, Links]:
    """Ids, waiting vehicles and ages of all polluting kinds one after the other, and their links."""
    ids: list[str] = []
    waiting, age_s, linked = [np.zeros(0)], [np.zeros(0)], [view.links(RELATION, "", TARGET)]
    for kind in SOURCES:
        source, links = view.kinds.get(kind), view.links(RELATION, kind, TARGET)
        if source is None or not len(links.source):
            continue
        linked.append(replace(links, source=links.source + len(ids)))
        ids.extend(source.ids)
        waiting.append(waiting_beyond_veh(source, float(parameters["free_veh"])))
        age_s.append(source.age_s)
    together = Links(
        source=np.concatenate([links.source for links in linked]),
        target=np.concatenate([links.target for links in linked]),
        share=np.concatenate([links.share for links in linked]),
        delay_s=np.concatenate([links.delay_s for links in linked]),
    )
    return tuple(ids), np.concatenate(waiting), np.concatenate(age_s), together


def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """One proposal per air station whose traffic emissions have changed noticeably.

    What counts are the vehicles that wait at an intersection or on a road beyond ``free_veh``, times the link's
    share; sources not heard of for ``stale_s`` count for nothing, a station all of whose sources are silent is
    left alone.
    """
    targets = view.kinds.get(TARGET)
    ids, excess, age_s, links = _sources(view, parameters)
    if targets is None or not len(links.source):
        return
    volume_m3 = float(parameters["mixing_volume_m3"])
    rates = np.stack(
        [
            emission_ugm3_h(excess, float(parameters["pm25_g_per_veh_h"]), volume_m3),
            emission_ugm3_h(excess, float(parameters["no2_g_per_veh_h"]), volume_m3),
        ]
    )
    sent = links.share * rates[:, links.source]
    heard = (age_s <= float(parameters["stale_s"]))[links.source]
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
            because=causes(ids, links, np.array([row]), sent, heard),
            cooldown_s=cooldown_s,
        )


CONGESTION_EMISSIONS = Policy(
    name="congestion_emissions",
    doc="Vehicles waiting at the intersections and on the roads that pollute an air station raise its PM2.5 and NO2.",
    propose=propose,
    # Orders of magnitude, not measurements: an idling fleet emits a few g/h of NOx per car, of which part is NO2 near
    # the kerb, and far less fine dust (EPA420-F-08-025, 2008, for cars); 1 km² of streets, mixed 20 m deep.
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
