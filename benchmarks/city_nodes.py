"""Processor time per reading when the same city is spread over one, two and four Ray nodes.

    python benchmarks/city_nodes.py --json

The nodes are raylets on one machine (``ray.cluster_utils.Cluster``): this proves the logic, that spreading costs the
router nothing, and not the network. The head holds no actors, as docs/cluster.md advises; so many nodes hold the twin
actors, whose number stays the same, and beside them controller, router and aggregator. Each number of nodes is measured
in a process of its own. The peer of two and four nodes is the one node of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from ingest import CityUnderTest, mosquitto  # noqa: E402  # scripts beside each other

TWIN_ACTORS = 4
HEAD_BYTES = 10_000_000
"""Less than one actor takes."""
PART_DEADLINE_S = 900.0


@contextmanager
def ray_nodes(workers: int) -> Iterator[str]:
    """A head and so many workers, each a raylet of its own; yields the address."""
    from twin_actors.runtime.placement import ACTOR_BYTES, CONTROLLER_BYTES, OTHER_BYTES
    from twin_actors.runtime.processes import use_token

    os.environ.update(RAY_worker_niceness="0", RAY_USAGE_STATS_ENABLED="0")
    use_token(secrets.token_hex(32))
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "memory": HEAD_BYTES, "include_dashboard": False,
                        "object_store_memory": 100_000_000},
    )  # fmt: skip
    try:
        # any node may get controller, router and aggregator, and must still have room for twice its share of the twins
        room = CONTROLLER_BYTES + 2 * OTHER_BYTES + 2 * ACTOR_BYTES * -(-TWIN_ACTORS // workers)
        for _ in range(workers):
            cluster.add_node(num_cpus=1, memory=room, object_store_memory=100_000_000)
        yield cluster.address
    finally:
        if ray.is_initialized():
            ray.shutdown()
        cluster.shutdown()


def ray_services() -> dict[int, float]:
    """Processor seconds of this process's Ray services: raylets, GCS, agents; not the workers."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        words = process.cmdline()
        if words and not words[0].startswith("ray::") and any("ray" in word for word in words[:3]):
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


def of_nodes(workers: int, count: int, runs: int, twins: int) -> dict[str, Any]:
    """One cluster: median processor time per reading of router, twin actors and Ray's services; who holds what."""
    import ray

    with ray_nodes(workers) as address, mosquitto() as port:
        city = CityUnderTest(port, twins, actors=TWIN_ACTORS, address=address)
        try:
            hellos = ray.get([twin.hello.remote() for twin in city.twins], timeout=60)
            holders = Counter(hello.node for hello in hellos)
            if len(holders) != workers:
                raise RuntimeError(f"{len(holders)} nodes hold twin actors instead of {workers}: {dict(holders)}")
            start_ms = int(time.time() * 1000) - 40_000_000
            sent, found = [], []
            for number in range(-1, runs):
                before = ray_services()
                one = city.run(port, count, twins, start_ms)
                one["ray_us"] = sum(s - before.get(p, s) for p, s in ray_services().items()) / count * 1e6
                sent.append((count, start_ms))
                start_ms += count
                if number >= 0:
                    found.append(one)
            compared = city.check_twins(sent, twins)
            ledger = city.city.ledger()
            assert ledger.balanced, str(ledger)
            assert ledger.applied == count * len(sent), str(ledger)
        finally:
            city.city.down(volumes=True)
    median = {key: statistics.median(run[key] for run in found) for key in found[0]}
    return {
        "cpu_us_per_reading": median["router_cpu_us"] + median["twin_cpu_us"],
        "router_cpu_us": median["router_cpu_us"],
        "twin_cpu_us": median["twin_cpu_us"],
        "ray_services_cpu_us": median["ray_us"],
        "readings_per_s": median["rate"],
        "nodes_with_twins": len(holders),
        "twin_actors_by_node": sorted(holders.values()),
        "twins_compared": compared,
    }


def apart(workers: int, count: int, runs: int, twins: int) -> dict[str, Any]:
    """``of_nodes`` in a process of its own: it is a driver of one cluster only."""
    command = [sys.executable, __file__, "--alone", str(workers)]
    command += ["--count", str(count), "--runs", str(runs), "--twins", str(twins)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PART_DEADLINE_S)
    if said.returncode:
        raise RuntimeError(f"the part with {workers} nodes ended with exit code {said.returncode}; see above")
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def measure(nodes: list[int], count: int, runs: int, twins: int) -> dict[str, Any]:
    return {
        "nodes": {str(number): apart(number, count, runs, twins) for number in nodes},
        "twin_actors": TWIN_ACTORS,
        "twins": twins,
        "readings_per_run": count,
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="1,2,4", help="numbers of nodes, divided by commas")
    parser.add_argument("--count", type=int, default=200_000, help="readings per run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--twins", type=int, default=10_000)
    parser.add_argument("--alone", type=int, help="measure this number of nodes in this process; one line of JSON")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    said = parser.parse_args()
    os.environ.setdefault("TWIN_ACTORS_HOME", tempfile.mkdtemp(prefix="ta-home-"))
    if said.alone:
        print(json.dumps(of_nodes(said.alone, said.count, said.runs, said.twins)))
        return
    result = measure([int(number) for number in said.nodes.split(",")], said.count, said.runs, said.twins)
    if said.json:
        print(json.dumps(result, indent=2))
        return
    for number, found in result["nodes"].items():
        print(f"{number} nodes: {found['cpu_us_per_reading']:.1f} µs a reading, {found['readings_per_s']:,.0f}/s, "
              f"twin actors by node {found['twin_actors_by_node']}")  # fmt: skip


if __name__ == "__main__":
    main()
