"""SUMO's signals under the twins of a living city over MQTT, beside fixed time, MAXWAVE and MAXPRESSURE.

python benchmarks/sumo.py [--json] [--maps cologne1 …] [--seeds 1 2 3 4 5] [--in-process] [--nets DIR]

Needs `pip install -e '.[sumo]'` and the networks of `pip install --no-deps sumo-rl` (or --nets). Each city is launched
once per map; the connector is a process of its own and runs in lock step. Delay is RESCO's: see
domains/traffic/sumo/trips.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sumo_peers import MaxPressure, MaxWave

from domains.traffic.sumo.loop import EPOCH_S, TwinLoop
from domains.traffic.sumo.network import Network
from domains.traffic.sumo.simulation import Observation, Simulation, SumoMissing, libsumo

MAPS = ("cologne1", "cologne3", "cologne8", "ingolstadt1", "ingolstadt7")
SEEDS = (1, 2, 3, 4, 5)
INTERVAL_S = 10
GRIDLOCK_SHARE = 0.2
"""A run in which more than this share of all trips has not arrived at its end counts as gridlocked."""
RUN_DEADLINE_S = 900.0

Decide = Callable[[Mapping[str, Observation]], Mapping[str, int]]


def networks(given: Path | None) -> Path:
    """The folder of RESCO's maps. Raises FileNotFoundError with what to do."""
    if given is None:
        spec = importlib.util.find_spec("sumo_rl")
        if spec is None or spec.origin is None:
            raise FileNotFoundError("no networks: pip install --no-deps sumo-rl, or say --nets DIR")
        given = Path(spec.origin).parent / "nets" / "RESCO"
    if not given.is_dir():
        raise FileNotFoundError(f"{given} is no folder; it should hold {MAPS[0]}/{MAPS[0]}.sumocfg and the others")
    return given


def run_here(config: Path, seed: int, controller: Callable[[Network], Decide] | None) -> dict[str, Any]:
    """One run in this process; without a controller the network's own fixed-time program runs."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="sumo-") as folder:
        with Simulation(config, seed=seed, tripinfo=Path(folder) / "tripinfo.xml") as simulation:
            decide = controller(simulation.network) if controller is not None else None
            while not simulation.over:
                if decide is not None:
                    for signal, stage in decide(simulation.observe()).items():
                        simulation.order(signal, stage)
                simulation.step(INTERVAL_S)
        delay = simulation.delay()
    return {
        "delay_s": delay.mean_s,
        "unfinished_share": 1.0 - delay.finished / delay.trips,
        "wall_s": time.perf_counter() - began,
    }


def twins_here(network: Network) -> Decide:
    loop = TwinLoop(network)

    def decide(observations: Mapping[str, Observation]) -> Mapping[str, int]:
        return {signal: stage for signal, (stage, _) in loop.decide(observations).items()}

    return decide


@contextmanager
def living(name: str, config: Path) -> Iterator[Callable[[int], dict[str, Any]]]:
    """A city with the twins of a map; calling what is yielded runs the connector with a seed against it."""
    from twin_actors.runtime.city import City

    module = [sys.executable, "-m", "domains.traffic.sumo"]
    city_name = f"sumo-{name}-{os.getpid()}"
    net = config.with_name(f"{name}.net.xml")
    with tempfile.TemporaryDirectory(prefix="sumo-") as folder:
        scenario = Path(folder) / "scenario.yaml"
        scenario.write_bytes(
            subprocess.run([*module, "scenario", str(net), "--city", city_name], check=True, capture_output=True).stdout
        )
        city = City.launch(scenario)
        try:
            reach = city.plan.broker
            environment = {**os.environ, "TWIN_ACTORS_PASSWORD": reach.password or ""}
            before: dict[str, int] = {"received": 0}

            def run(seed: int) -> dict[str, Any]:
                began = time.perf_counter()
                arguments = [str(config), "--broker", f"mqtt://{reach.host}:{reach.port}", "--root", city_name]
                arguments += ["--seed", str(seed), "--start", str(EPOCH_S + 86_400 * seed)]
                if reach.username:
                    arguments += ["--username", reach.username]
                done = subprocess.run(
                    [*module, "run", *arguments],
                    capture_output=True,
                    text=True,
                    env=environment,
                    timeout=RUN_DEADLINE_S,
                    check=False,
                )
                if done.returncode:
                    raise RuntimeError(f"{name}, seed {seed}: the connector ended with {done.stderr[-1000:]}")
                said = json.loads(done.stdout.splitlines()[-1])
                delay, connector = said["delay"], said["connector"]
                ledger = city.ledger()
                readings = ledger.received - before["received"]
                before["received"] = ledger.received
                if not ledger.balanced or readings != connector["readings"]:
                    raise RuntimeError(f"{name}, seed {seed}: {connector['readings']} readings sent, ledger {ledger}")
                return {
                    "delay_s": delay["mean_s"],
                    "unfinished_share": 1.0 - delay["finished"] / delay["trips"],
                    "wall_s": time.perf_counter() - began,
                    "decisions": connector["decisions"],
                    "held": connector["held"],
                    "answer_ms": 1000.0 * connector["waited_s"] * len(city.ids) / max(connector["decisions"], 1),
                }

            yield run
        finally:
            city.down()


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    delays = [run["delay_s"] for run in runs]
    row = {
        "mean_s": statistics.fmean(delays),
        "median_s": statistics.median(delays),
        "by_seed_s": delays,
        "gridlocked": sum(run["unfinished_share"] > GRIDLOCK_SHARE for run in runs),
        "wall_s": statistics.fmean(run["wall_s"] for run in runs),
    }
    for counted in ("decisions", "held"):
        if counted in runs[0]:
            row[counted] = sum(run[counted] for run in runs)
    if "answer_ms" in runs[0]:
        row["answer_ms"] = statistics.fmean(run["answer_ms"] for run in runs)
    return row


def measure(
    maps: Sequence[str] = MAPS,
    seeds: Sequence[int] = SEEDS,
    *,
    nets: Path | None = None,
    over_mqtt: bool = True,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """``{"sumo": {map: {rule: figures}}}``; ``{"sumo": {}, "skipped": why}`` where SUMO or the networks are missing."""
    try:
        libsumo()
        folder = networks(nets)
    except (SumoMissing, FileNotFoundError) as missing:
        return {"sumo": {}, "skipped": str(missing)}
    tell = progress or (lambda line: None)
    result: dict[str, Any] = {}
    for name in maps:
        config = folder / name / f"{name}.sumocfg"
        rows = {}
        peers = {
            "fixed": None,
            "max_wave": lambda network: MaxWave(network).decide,
            "max_pressure": lambda network: MaxPressure(network).decide,
        }
        for rule, controller in peers.items():
            rows[rule] = summary([run_here(config, seed, controller) for seed in seeds])
        if over_mqtt:
            with living(name, config) as run:
                rows["twins"] = summary([run(seed) for seed in seeds])
        else:
            rows["twins"] = summary([run_here(config, seed, twins_here) for seed in seeds])
        better = min(rows["max_wave"]["median_s"], rows["max_pressure"]["median_s"])
        rows["median_to_better_rule"] = rows["twins"]["median_s"] / better
        rows["mean_to_fixed"] = rows["twins"]["mean_s"] / rows["fixed"]["mean_s"]
        result[name] = rows
        tell(line(name, rows))
    return {
        "sumo": result,
        "seeds": list(seeds),
        "twins_over": "mqtt" if over_mqtt else "one process",
        "sumo_version": libsumo().getVersion()[1],
    }


def line(name: str, rows: Mapping[str, Any]) -> str:
    cells = [
        f"{rule} {rows[rule]['mean_s']:6.1f} / {rows[rule]['median_s']:5.1f}"
        + (f" ({rows[rule]['gridlocked']} gridlocked)" if rows[rule]["gridlocked"] else "")
        for rule in ("fixed", "max_wave", "max_pressure", "twins")
    ]
    return (
        f"{name:12} {'   '.join(cells)}   median to better rule {rows['median_to_better_rule']:.2f}, "
        f"mean to fixed {rows['mean_to_fixed']:.2f}, {rows['twins']['wall_s']:.0f} s a run"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--maps", nargs="+", default=MAPS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--nets", type=Path, help="folder of RESCO's maps (default: those of the package sumo_rl)")
    parser.add_argument("--in-process", action="store_true", help="twins in this process instead of over MQTT")
    arguments = parser.parse_args()
    found = measure(
        arguments.maps,
        arguments.seeds,
        nets=arguments.nets,
        over_mqtt=not arguments.in_process,
        progress=lambda row: print(row, file=sys.stderr, flush=True),
    )
    if "skipped" in found:
        print(f"skipped: {found['skipped']}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
