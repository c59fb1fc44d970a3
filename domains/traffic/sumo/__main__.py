"""The command line of the connector.

    python -m domains.traffic.sumo scenario NET.net.xml --city NAME > NAME.yaml
    python -m domains.traffic.sumo run CONFIG.sumocfg --broker mqtt://127.0.0.1:1883 --root NAME

Exit codes: 0 done, 1 the broker is out of reach, 2 a file cannot be used, 3 SUMO is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from domains.traffic.sumo.connector import Connector
from domains.traffic.sumo.loop import EPOCH_S
from domains.traffic.sumo.network import NetworkError, read_network
from domains.traffic.sumo.scenario import scenario_text
from domains.traffic.sumo.simulation import Simulation, SumoMissing
from twin_actors.wire.client import BrokerAddress, BrokerUnreachable


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m domains.traffic.sumo", description="SUMO as an outside city.")
    commands = parser.add_subparsers(dest="command", required=True)
    scenario = commands.add_parser("scenario", help="write the scenario file of a network")
    scenario.add_argument("net", type=Path, help="the .net.xml")
    scenario.add_argument("--city", required=True, help="the city's name")
    scenario.add_argument("--rule", default="look_ahead", help="rule of signal_stages (default: %(default)s)")
    scenario.add_argument("--tick", type=float, default=0.01, help="tick_s of the city (default: %(default)g)")
    run = commands.add_parser("run", help="run a simulation as the devices of a city")
    run.add_argument("config", type=Path, help="the .sumocfg")
    run.add_argument("--broker", required=True, help="mqtt://host:port of the city's broker")
    run.add_argument("--username", help="of the broker; the password is read from --password-env")
    run.add_argument("--password-env", default="TWIN_ACTORS_PASSWORD", help="environment variable (%(default)s)")
    run.add_argument("--root", required=True, help="first level of the city's topics")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--interval", type=int, default=10, help="simulated seconds between two readings")
    run.add_argument("--deadline", type=float, default=5.0, help="wall seconds to wait for a command in lock step")
    run.add_argument("--speed", type=float, help="run free at this pace instead of in lock step")
    run.add_argument("--start", type=float, default=EPOCH_S, help="city time, s, of the simulation's second 0")
    run.add_argument("--tripinfo", type=Path, help="keep SUMO's tripinfo here")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code; what was asked for goes to stdout, errors to stderr."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "scenario":
            network = read_network(chosen.net)
            text = scenario_text(network, chosen.city, source=chosen.net.name, rule=chosen.rule, tick_s=chosen.tick)
            print(text, end="")
        else:
            print(json.dumps(_run(chosen)))
    except SumoMissing as error:
        print(error, file=sys.stderr)
        return 3
    except BrokerUnreachable as error:
        print(error, file=sys.stderr)
        return 1
    except (NetworkError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(chosen: argparse.Namespace) -> dict[str, object]:
    address = BrokerAddress.from_url(chosen.broker)
    if chosen.username:
        address = replace(address, username=chosen.username, password=os.environ.get(chosen.password_env))
    with tempfile.TemporaryDirectory(prefix="sumo-") as folder:
        tripinfo = chosen.tripinfo or Path(folder) / "tripinfo.xml"
        with Simulation(chosen.config, seed=chosen.seed, tripinfo=tripinfo) as simulation:
            connector = Connector(
                simulation,
                address,
                chosen.root,
                interval_s=chosen.interval,
                start_s=chosen.start,
                deadline_s=chosen.deadline,
                boot=f"sumo-{chosen.seed}",
            )
            if chosen.speed is None:
                connector.run_in_lock_step()
            else:
                connector.run_free(chosen.speed)
            running = simulation.running_veh()
        delay = simulation.delay()
    return {"delay": asdict(delay), "running_veh": running, "connector": connector.account()}


if __name__ == "__main__":
    sys.exit(main())
