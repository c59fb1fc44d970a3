"""The delay of a SUMO run as RESCO counts it: time lost and waited for departure, over all trips of the demand."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Mean delay of a run, s/veh, and what it is made of."""

    mean_s: float
    trips: int
    finished: int
    departed: int
    lost_s: float
    """Σ (timeLoss + departDelay) of the trips that departed, s."""
    never_s: float
    """Σ (end − planned) of the trips that could not enter the network, s."""


def planned_departures(routes: Iterable[str | Path], begin_s: float, end_s: float) -> dict[str, float]:
    """Planned departure, s, of every trip of the route files that should leave within [``begin_s``, ``end_s``)."""
    planned: dict[str, float] = {}
    for path in routes:
        for _, element in ET.iterparse(path):
            if element.tag in ("vehicle", "trip"):
                at_s = float(element.get("depart", "nan"))
                if begin_s <= at_s < end_s:
                    planned[element.get("id", "")] = at_s
                element.clear()
    return planned


def read_delay(tripinfo: str | Path, planned: dict[str, float], end_s: float) -> Delay:
    """Delay of a run from its ``tripinfo`` with ``write-unfinished``; trips without a line never departed.

    Metric: [Σ(timeLoss + departDelay) + Σ over trips that never departed (end − planned)] / all trips
    (Ault and Sharon 2021, RESCO, ``utils/avg_timeLoss.py``).
    """
    lost, seen, finished = [], set(), 0
    for _, element in ET.iterparse(tripinfo):
        if element.tag != "tripinfo":
            continue
        departed_s = float(element.get("depart", "-1"))
        if departed_s >= 0:
            seen.add(element.get("id", ""))
            finished += float(element.get("arrival", "-1")) >= 0
            lost.append(float(element.get("timeLoss", "0")) + float(element.get("departDelay", "0")))
        element.clear()
    never = [end_s - at_s for trip, at_s in planned.items() if trip not in seen]
    trips = len(lost) + len(never)
    lost_s, never_s = math.fsum(lost), math.fsum(never)
    return Delay(
        mean_s=(lost_s + never_s) / trips if trips else 0.0,
        trips=trips,
        finished=finished,
        departed=len(lost),
        lost_s=lost_s,
        never_s=never_s,
    )
