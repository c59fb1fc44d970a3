"""Reference values for the water domain from EPANET's example networks 1 and 3, solved by EPANET through wntr.

    python -m venv wn && wn/bin/pip install wntr six
    wn/bin/python benchmarks/water_reference.py > tests/domains/water/epanet_reference.json

Runs in an environment of its own (wntr and numpy, nothing of this project). The table that is committed was computed
with wntr 1.5.0 and its EPANET 2.2: numbers that we made, no part of the networks' files but the sizes of some pipes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def solved(name: str, step_s: int) -> tuple[Any, Any]:
    import wntr

    path = next(Path(wntr.__file__).parent.rglob(f"{name}.inp"))
    network = wntr.network.WaterNetworkModel(str(path))
    network.options.time.hydraulic_timestep = network.options.time.report_timestep = step_s
    network.options.time.duration = 24 * 3600
    return network, wntr.sim.EpanetSimulator(network).run_sim()


def pipes(name: str, every: int) -> list[list[float]]:
    """[length, diameter, C, flow, loss] of the pipes that carry water at 0 h and at 12 h, every so many-th of them."""
    network, result = solved(name, 3600)
    rows = []
    for pipe_name, pipe in list(network.pipes())[::every]:
        for at_s in (0, 12 * 3600):
            flow = float(result.link["flowrate"].loc[at_s, pipe_name])
            head = result.node["head"].loc[at_s]
            loss = float(head[pipe.start_node_name] - head[pipe.end_node_name])
            if abs(flow) > 1e-4 and not pipe.minor_loss:
                rows.append([pipe.length, pipe.diameter, pipe.roughness, flow, loss])
    return [[round(value, 7) for value in row] for row in rows]


def first_network() -> dict[str, Any]:
    """Example 1: the pump and its main against the head behind it, hour by hour, and the tank every five minutes."""
    network, result = solved("Net1", 300)
    pump, main, tank = network.get_link("9"), network.get_link("10"), network.get_node("2")
    shutoff, slope, power = pump.get_head_curve_coefficients()
    source = network.get_node("9").base_head
    points = []
    for hour in range(25):
        head = float(result.node["head"].loc[3600 * hour, main.end_node_name])
        points.append([round(head - source, 6), round(float(result.link["flowrate"].loc[3600 * hour, "9"]), 8)])
    into = result.node["demand"]["2"]
    level = result.node["head"]["2"] - tank.elevation
    return {
        "pump": {"shutoff_m": shutoff, "slope": slope, "power": power},
        "main": {"length_m": main.length, "diameter_m": main.diameter, "roughness": main.roughness},
        "lift_m_flow_m3s": points,
        "tank": {"diameter_m": tank.diameter, "height_m": tank.max_level, "step_s": 300},
        "into_tank_m3s": [round(float(value), 8) for value in into],
        "level_m": [round(float(value), 6) for value in level],
    }


def main() -> None:
    json.dump(
        {
            "provenance": "computed by benchmarks/water_reference.py with wntr 1.5.0 (EPANET 2.2); heads, losses and "
            "levels in m, flows in m3/s",
            "pipes": {"Net1": pipes("Net1", 1), "Net3": pipes("Net3", 4)},
            "Net1": first_network(),
        },
        sys.stdout,
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
