"""From SUMO's words to the fields of the kind ``signal``: attributes of a network, readings of an observation."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from domains.traffic.axes import LANE, STAGE
from domains.traffic.signal import SIGNAL
from domains.traffic.sumo.network import Network, NetworkError, Signal
from domains.traffic.sumo.simulation import VEHICLE_M, Observation

SATURATION_VPH = 1800.0
"""Saturation flow of a lane: a headway of two seconds."""
NAME_MOST, NAME_KEPT = 128, 60


def entity_id(signal_id: str) -> str:
    """The twin of a signal; characters that a topic or an id cannot hold become ``-``.

    SUMO joins the names of what it clusters, beyond the 128 characters that a twin's name may have: a long name is cut
    and ends with a digest of the whole.
    """
    name = "".join("-" if each in " /+#$*?[]{}" else each for each in signal_id)
    if len(name) > NAME_MOST:
        name = f"{name[:NAME_KEPT]}-{hashlib.sha256(signal_id.encode()).hexdigest()[:8]}"
    return f"{SIGNAL.name}/{name}"


def attributes_of(network: Network, signal: Signal, reach_m: float = 200.0) -> dict[str, list[float]]:
    """Values of the vector attributes, one number per component. Raises NetworkError where a signal is too large."""
    if len(signal.lanes) > len(LANE) or len(signal.stages) > len(STAGE):
        raise NetworkError(
            f"signal {signal.id} has {len(signal.lanes)} lanes and {len(signal.stages)} stages; a twin holds "
            f"{len(LANE)} and {len(STAGE)}"
        )
    serves = np.zeros((len(STAGE), len(LANE)))
    for stage in range(len(signal.stages)):
        serves[stage, : len(signal.lanes)] = [signal.serves(stage, lane) for lane in signal.lanes]
    reaches_m = [
        min(sum(network.lanes[part].length_m for part in network.upstream(lane, reach_m)), reach_m)
        for lane in signal.lanes
    ]
    return {
        "serves": [round(each, 4) for each in serves.ravel().tolist()],
        "saturation_vph": _padded([SATURATION_VPH] * len(signal.lanes), 0.0),
        "storage_veh": _padded([round(max(each / VEHICLE_M, 1.0), 1) for each in reaches_m], 1.0),
    }


def readings_of(observation: Observation) -> dict[str, Any]:
    """The telemetry of one observation; arrivals are not said on the first look."""
    came_vph = observation.came_veh * (3600.0 / observation.since_s) if observation.since_s > 0 else None
    values: dict[str, Any] = {
        "queue_veh": _padded(observation.queue_veh.tolist(), 0.0),
        "near_veh": _padded(observation.near_veh.tolist(), 0.0),
        "count_veh": _padded(observation.count_veh.tolist(), 0.0),
        "box_veh": _padded(observation.box_veh.tolist(), 0.0),
        "exit_share": _padded(observation.exit_share.tolist(), 0.0),
        "stage": float(observation.stage),
        "stage_s": float(observation.stage_s),
    }
    if came_vph is not None:
        values["arrival_vph"] = _padded(came_vph.tolist(), 0.0)
    return values


def _padded(numbers: list[float], rest: float) -> list[float]:
    return [float(each) for each in numbers] + [rest] * (len(LANE) - len(numbers))
