"""The rules that the twins are held against in SUMO, on raw observations and without any twin: MAXWAVE, MAXPRESSURE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from domains.traffic.sumo.network import Network, Signal
from domains.traffic.sumo.simulation import Observation


class Peer(ABC):
    """A rule over the lanes that a stage gives a protected green (any green where it has none)."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._served = {signal.id: served_lanes(signal) for signal in network.signals.values()}
        self._place = {
            lane: (signal.id, place) for signal in network.signals.values() for place, lane in enumerate(signal.lanes)
        }
        self._below = {lane: network.held_below(lane) for lane in self._place}

    def decide(self, observations: Mapping[str, Observation]) -> dict[str, int]:
        return {each: int(np.argmax(self._served[each] @ self.weight(each, observations))) for each in self._served}

    @abstractmethod
    def weight(self, signal_id: str, observations: Mapping[str, Observation]) -> NDArray[np.float64]:
        """What each lane of a signal counts for, (lanes,)."""


class MaxWave(Peer):
    """Vehicles within 50 m of the stop line (RESCO's MAXWAVE, Ault and Sharon 2021)."""

    def weight(self, signal_id: str, observations: Mapping[str, Observation]) -> NDArray[np.float64]:
        return observations[signal_id].near_veh


class MaxPressure(Peer):
    """Vehicles that stand or stood within 200 m, minus those before the signals downstream (RESCO's MAXPRESSURE)."""

    def weight(self, signal_id: str, observations: Mapping[str, Observation]) -> NDArray[np.float64]:
        below = []
        for lane in self._network.signals[signal_id].lanes:
            places = [self._place[each] for each in self._below[lane]]
            below.append(sum(observations[other].stopped_veh[place] for other, place in places))
        return observations[signal_id].stopped_veh - np.array(below)


def served_lanes(signal: Signal) -> NDArray[np.float64]:
    """1 where a stage gives a lane a protected green, (stages, lanes); turning back does not count."""
    rows = []
    for state in signal.stages:
        for wanted in ("G", "Gg"):
            ways = [link for link in signal.links if link.turn != "t" and state[link.index] in wanted]
            row = [float(any(link.lane == lane for link in ways)) for lane in signal.lanes]
            if any(row):
                break
        rows.append(row)
    return np.array(rows)
