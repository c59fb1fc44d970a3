"""A SUMO run in this process (libsumo), seen and driven as a city's signals: detectors in, stages out."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domains.traffic.sumo.network import Network, Signal, read_network
from domains.traffic.sumo.trips import Delay, planned_departures, read_delay

VEHICLE_M = 7.5
NEAR_M = 50.0
YELLOW_S = 3
KEEP_PROGRAM = -1
"""The stage that means: leave the signal to the program of the network."""


class SumoMissing(ImportError):
    """SUMO is not installed."""


def libsumo() -> Any:
    """The module ``libsumo``. Raises SumoMissing with what to install."""
    try:
        with redirect_stdout(sys.stderr):  # it greets on stdout, where programs print their results
            import libsumo as module
    except ImportError as error:
        raise SumoMissing("SUMO is not installed: pip install 'twin-actors[sumo]'") from error
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the detectors of one signal see; columns have one number per inbound lane, in the signal's order.

    ``queue_veh`` stand now, ``stopped_veh`` stand or have stood on the approach, ``count_veh`` are within the
    detectors' reach, ``near_veh`` within 50 m of the stop line, ``came_veh`` came within reach during the last
    ``since_s`` (0: the first look);
    ``speed_mps`` is their mean (free speed where none is), ``exit_share`` how full the fullest exit is, 0 to 1,
    ``box_veh`` stand inside the junction.
    """

    at_s: float
    stage: int
    stage_s: float
    since_s: float
    queue_veh: NDArray[np.float64]
    stopped_veh: NDArray[np.float64]
    count_veh: NDArray[np.float64]
    near_veh: NDArray[np.float64]
    came_veh: NDArray[np.float64]
    speed_mps: NDArray[np.float64]
    exit_share: NDArray[np.float64]
    box_veh: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of stage under way: yellow until ``due_s``, red until the junction is clear, then ``after``."""

    due_s: float
    latest_s: float
    clearing: str
    after: str
    inside: list[str]


class Simulation:
    """One run of a ``.sumocfg``; a process can hold one at a time (libsumo's rule).

    ``seed`` draws SUMO's randomness; ``reach_m`` is how far detectors see. Teleporting is off, so a gridlock stays one.
    """

    def __init__(self, config: str | Path, *, seed: int, tripinfo: str | Path, reach_m: float = 200.0) -> None:
        config = Path(config)
        read = ET.parse(config).getroot()
        self.begin_s, self.end_s = (float(_value(read, name, config)) for name in ("begin", "end"))
        self.network: Network = read_network(config.parent / _value(read, "net-file", config))
        self._routes = [config.parent / each.strip() for each in _value(read, "route-files", config).split(",")]
        self._tripinfo, self._reach_m = Path(tripinfo), reach_m
        self._sumo = libsumo()
        self._sumo.start(
            [
                "sumo", "-c", str(config), "--seed", str(seed), "--no-step-log", "--no-warnings",
                "--time-to-teleport", "-1", "--duration-log.disable",
                "--tripinfo-output", str(self._tripinfo), "--tripinfo-output.write-unfinished",
            ]
        )  # fmt: skip
        self.at_s = self.begin_s
        self._stage = dict.fromkeys(self.network.signals, KEEP_PROGRAM)
        self._since_s = dict.fromkeys(self.network.signals, self.begin_s)
        self._changing: dict[str, _Change] = {}
        self._seen: dict[str, set[str]] = {}
        self._seen_at_s: float | None = None
        self._stood: dict[str, set[str]] = {}
        self._chains = {
            lane: self.network.upstream(lane, reach_m)
            for signal in self.network.signals.values()
            for lane in signal.lanes
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the run; the tripinfo file is complete afterwards."""
        self._sumo.close()

    @property
    def over(self) -> bool:
        return self.at_s >= self.end_s

    def delay(self) -> Delay:
        """The run's delay, after ``close``."""
        return read_delay(self._tripinfo, planned_departures(self._routes, self.begin_s, self.end_s), self.end_s)

    def running_veh(self) -> int:
        """Vehicles in the network now."""
        return int(self._sumo.vehicle.getIDCount())

    # -- driving ------------------------------------------------------------------------------------------------

    def order(self, signal_id: str, stage: int, *, clearance_s: float = 0.0) -> None:
        """Show a stage from now on: at once where nothing ends by it, else after ``YELLOW_S`` of yellow.

        With ``clearance_s`` all that ended stays red and nothing new begins until the vehicles that it let in have left
        the junction, for so long at most. Raises ValueError for a stage that the signal does not have.
        """
        signal = self.network.signals[signal_id]
        if not 0 <= stage < len(signal.stages):
            raise ValueError(f"signal {signal_id} has stages 0 to {len(signal.stages) - 1}, not {stage}")
        if stage == self._stage[signal_id]:
            return
        light = self._sumo.trafficlight
        before, after = light.getRedYellowGreenState(signal_id), signal.stages[stage]
        between = signal.yellow(before, after)
        if between == before:
            light.setRedYellowGreenState(signal_id, after)
        else:
            light.setRedYellowGreenState(signal_id, between)
            ending = {link.lane for link in signal.links if between[link.index] == "y"}
            going = {link.lane for link in signal.links if after[link.index] in "Gg"}
            inside = [each for lane in ending - going for each in self.network.inside[lane]]
            due_s = self.at_s + YELLOW_S
            self._changing[signal_id] = _Change(due_s, due_s + clearance_s, between.replace("y", "r"), after, inside)
        self._stage[signal_id] = stage
        self._since_s[signal_id] = self.at_s

    def step(self, seconds: int) -> None:
        """Let ``seconds`` pass; greens follow their yellows on the second."""
        for _ in range(seconds):
            for signal_id, change in list(self._changing.items()):
                if change.due_s > self.at_s:
                    continue
                crossing = any(map(self._sumo.lane.getLastStepVehicleNumber, change.inside))
                clearing = self.at_s < change.latest_s and crossing
                state = change.clearing if clearing else change.after
                self._sumo.trafficlight.setRedYellowGreenState(signal_id, state)
                if not clearing:
                    del self._changing[signal_id]
            self._sumo.simulationStep()
            self.at_s += 1.0

    # -- seeing -------------------------------------------------------------------------------------------------

    def observe(self) -> dict[str, Observation]:
        """What all signals see now."""
        since_s = 0.0 if self._seen_at_s is None else self.at_s - self._seen_at_s
        self._seen_at_s = self.at_s
        return {signal_id: self._look(signal, since_s) for signal_id, signal in self.network.signals.items()}

    def _look(self, signal: Signal, since_s: float) -> Observation:
        queue, stopped, count, near, came, speed, fill, box = ([0.0] * len(signal.lanes) for _ in range(8))
        for place, lane in enumerate(signal.lanes):
            vehicles = self._vehicles(lane)
            stood = self._stood.setdefault(lane, set())
            stood &= vehicles.keys()
            speeds = []
            for vehicle, distance_m in vehicles.items():
                now_mps = self._sumo.vehicle.getSpeed(vehicle)
                speeds.append(now_mps)
                if self._sumo.vehicle.getWaitingTime(vehicle) > 0:
                    stood.add(vehicle)
                queue[place] += now_mps < 0.1
                near[place] += distance_m <= NEAR_M
            stopped[place], count[place] = float(len(stood)), float(len(vehicles))
            came[place] = float(len(vehicles.keys() - self._seen.get(lane, set())))
            self._seen[lane] = set(vehicles)
            speed[place] = float(np.mean(speeds)) if speeds else self.network.lanes[lane].speed_mps
            box[place] = float(sum(map(self._sumo.lane.getLastStepHaltingNumber, self.network.inside[lane])))
            fill[place] = max(self._fill(each) for each in signal.exits(lane))
        return Observation(
            at_s=self.at_s,
            stage=self._stage[signal.id],
            stage_s=self.at_s - self._since_s[signal.id],
            since_s=since_s,
            queue_veh=np.array(queue),
            stopped_veh=np.array(stopped),
            count_veh=np.array(count),
            near_veh=np.array(near),
            came_veh=np.array(came),
            speed_mps=np.array(speed),
            exit_share=np.array(fill),
            box_veh=np.array(box),
        )

    def _vehicles(self, lane: str) -> dict[str, float]:
        """Vehicles within the detectors' reach of a stop line with their distance from it, m."""
        found: dict[str, float] = {}
        beyond_m = 0.0
        for part in self._chains[lane]:
            length_m = self.network.lanes[part].length_m
            for vehicle in self._sumo.lane.getLastStepVehicleIDs(part):
                distance_m = beyond_m + length_m - self._sumo.vehicle.getLanePosition(vehicle)
                if distance_m <= self._reach_m:
                    found[vehicle] = distance_m
            beyond_m += length_m
        return found

    def _fill(self, lane: str) -> float:
        """Share of a lane's length that vehicles with their gaps take up, at most 1."""
        length_m = max(self.network.lanes[lane].length_m, VEHICLE_M)
        return min(float(self._sumo.lane.getLastStepVehicleNumber(lane)) * VEHICLE_M / length_m, 1.0)


def _value(root: ET.Element, name: str, path: Path) -> str:
    element = root.find(f".//{name}")
    value = None if element is None else element.get("value", element.get("v"))
    if value is None:
        raise ValueError(f"{path}: <{name} value=…/> is missing")
    return value
