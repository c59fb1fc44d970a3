"""Turning movements: where the movements of an intersection lead, and how its approaches divide."""

from __future__ import annotations

import numpy as np

from domains.traffic.axes import MOVEMENT
from twin_actors.core.columns import Column

APPROACHES = ("n", "e", "s", "w")
LEFT_PRIOR = 0.22
"""Left turners where nothing has been measured: 120 of 540, the default demand of a simulated intersection."""
PRIOR_VPH = 60.0
"""Flow that the prior weighs as much as."""
RIGHT_SHARE = 0.2
"""Right turners among those that do not turn left, which are one movement with them."""

# Heading south (from the north) a left turn leads east, and so on round the compass.
_AHEAD = {"n": "s", "e": "w", "s": "n", "w": "e"}
_LEFT = {"n": "e", "e": "s", "s": "w", "w": "n"}
_RIGHT = {"n": "w", "e": "n", "s": "e", "w": "s"}


def _leads() -> Column:
    """Share of each movement that leaves towards each side, (side, movement); every movement sums to 1."""
    leads = np.zeros((len(APPROACHES), len(MOVEMENT)))
    for place, label in enumerate(MOVEMENT.labels):
        approach, turn = label[0], label[1]
        if turn == "l":
            leads[APPROACHES.index(_LEFT[approach]), place] = 1.0
        else:
            leads[APPROACHES.index(_AHEAD[approach]), place] = 1.0 - RIGHT_SHARE
            leads[APPROACHES.index(_RIGHT[approach]), place] = RIGHT_SHARE
    return leads


LEADS = _leads()


def side_of(from_lat_deg: Column, from_lon_deg: Column, to_lat_deg: Column, to_lon_deg: Column) -> Column:
    """Side (0 north, 1 east, 2 south, 3 west) on which ``to`` lies as seen from ``from``; NaN without positions."""
    north = to_lat_deg - from_lat_deg
    east = (to_lon_deg - from_lon_deg) * np.cos(np.radians(0.5 * (to_lat_deg + from_lat_deg)))
    side: Column = np.where(
        np.abs(north) >= np.abs(east), np.where(north >= 0, 0.0, 2.0), np.where(east >= 0, 1.0, 3.0)
    )
    return np.where(np.isfinite(north) & np.isfinite(east), side, np.nan)


def left_share(demand_vph: Column, saturation_vph: Column) -> Column:
    """Share of each approach ``(4, …)`` that turns left, from the estimated demand of its movements.

    The estimate is pulled towards ``LEFT_PRIOR`` with the weight of ``PRIOR_VPH``, so that a quiet approach does not
    swing; where one of the two movements does not exist the other has all.
    """
    exists = saturation_vph > 0
    demand_vph = np.where(exists, demand_vph, 0.0)
    left, ahead = demand_vph[0::2], demand_vph[1::2]
    share = (left + PRIOR_VPH * LEFT_PRIOR) / (left + ahead + PRIOR_VPH)
    divided: Column = np.where(~exists[1::2], 1.0, np.where(~exists[0::2], 0.0, share))
    return divided


def divide(arriving_vph: Column, share: Column) -> Column:
    """Flow by approach ``(4, …)`` divided into movements ``(8, …)``; the sum stays."""
    movements = np.empty((len(MOVEMENT), *np.shape(arriving_vph)[1:]))
    movements[0::2] = arriving_vph * share
    movements[1::2] = arriving_vph * (1.0 - share)
    return movements
