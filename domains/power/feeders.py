"""Shedding for a feeder further up: blocks of the substations it feeds, the least important of all of them first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column


def open_for_feeder(
    shed: Column, wanted: Column, block_mw: Column, block_priority: Column, fed: NDArray[np.intp], excess_mw: float
) -> Column:
    """``wanted (5, n)`` with more blocks of the ``fed`` substations open, until ``excess_mw`` less is drawn than now.

    ``shed (5, n)`` are the breakers now. What the fed substations want to reconnect waits, what they disconnect for
    reasons of their own counts. Then the lowest priority of all goes first (equal: the substation that stands first,
    then b1), each block whole. If all together are too little, all are open.
    """
    result = wanted.copy()
    part = np.maximum(wanted, shed)[:, fed]
    missing_mw = excess_mw - float(((part - shed[:, fed]) * block_mw[:, fed]).sum())
    connected_mw = (block_mw[:, fed] * (1.0 - part)).T.ravel()
    order = np.argsort(block_priority[:, fed].T.ravel(), kind="stable")
    gone_before_mw = np.cumsum(connected_mw[order]) - connected_mw[order]
    opens = np.zeros(connected_mw.shape, np.bool_)
    opens[order] = (connected_mw[order] > 0.0) & (gone_before_mw < missing_mw)
    result[:, fed] = np.where(opens.reshape(len(fed), -1).T, 1.0, part)
    return result


def close_within_room(
    shed: Column, wanted: Column, block_mw: Column, block_priority: Column, fed: NDArray[np.intp], room_mw: float
) -> Column:
    """``wanted (5, n)`` with only those reconnections of the ``fed`` substations for which the feeder has room.

    Highest priority of all first, and the order is strict: a block that does not fit keeps the others waiting.
    """
    result = wanted.copy()
    coming_mw = (np.maximum(shed - wanted, 0.0) * block_mw)[:, fed].T.ravel()
    order = np.argsort(block_priority[:, fed].T.ravel(), kind="stable")[::-1]
    fits = np.zeros(coming_mw.shape, np.bool_)
    fits[order] = np.cumsum(coming_mw[order]) <= max(room_mw, 0.0)
    waits = (coming_mw > 0.0) & ~fits
    result[:, fed] = np.where(waits.reshape(len(fed), -1).T, shed[:, fed], result[:, fed])
    return result
