"""The city beside what else one could build: dictionaries of twins, pykka actors, Node-RED; and the embedded brokers.

    python benchmarks/competition.py --json

Every peer gets the same load through the same Mosquitto, in turn with the city and at the same niceness, and keeps its
twins by the same Kalman step. The answers are checked: how many readings came, and every twin against the product's
own table. A run lasts from the first publish until the last reading is in its twin.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "peers")]

from ingest import KIND, ROOT, CityUnderTest, Load, bare, mosquitto, truth  # noqa: E402  # scripts beside each other

PEERS: dict[str, tuple[str, ...]] = {
    "dictionary_aiomqtt": ("dictionary.py", "--client", "aiomqtt"),
    "dictionary_paho": ("dictionary.py", "--client", "paho"),
    "pykka": ("pykka_twins.py",),
    "node_red": ("node_red.py",),
}
PEER_DEADLINE_S = 420.0


class PeerSkipped(Exception):
    """This peer cannot run here; the message says why."""


@contextlib.contextmanager
def running(name: str, port: int, count: int, qos: int, more: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A peer that has subscribed; ended at the latest after ``PEER_DEADLINE_S``. Raises PeerSkipped."""
    script, *options = PEERS[name]
    topic = f"{ROOT}/{KIND}/+/telemetry"
    process = subprocess.Popen(
        [sys.executable, str(HERE / "peers" / script), "127.0.0.1", str(port), topic, str(count), str(qos),
         *options, *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    watch = threading.Timer(PEER_DEADLINE_S, process.kill)
    watch.start()
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline().strip() != "ready":
            process.wait(30)
            words = process.stderr.read().strip()
            if "Traceback" in words or not words:
                raise RuntimeError(f"{name} did not come up: {words[-2000:]}")
            raise PeerSkipped(words.splitlines()[-1])  # it says why it cannot run here
        yield process
    finally:
        watch.cancel()
        process.kill()
        process.wait(30)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def run_peer(
    name: str, city: Any, port: int, count: int, twins: int, start_ms: int, *, qos: int = 0, rate: float | None = None
) -> dict[str, Any]:
    """One run of one peer; ``rate`` paces the load and times every reading. Raises PeerSkipped, RuntimeError."""
    load = Load(port, count, twins, start_ms, rate, qos)
    with contextlib.closing(load), running(name, port, count, qos, ("--latencies",) if rate else ()) as process:
        nice = psutil.Process(process.pid).nice()
        report = load.go()
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            assert process.stderr is not None
            raise RuntimeError(f"{name} ended before it was done: {process.stderr.read()[-1000:]}")
        answer = json.loads(line)
    if rate is None and answer["seen"] == count:
        table = truth(city, [(count, start_ms)], twins)
        found = np.array([answer["flows"][entity] for entity in table.ids[: min(count, twins)]])
        np.testing.assert_allclose(found, table.x[0, : len(found)], rtol=1e-9)
    seconds = answer["ended"] - report["began"]
    return {
        "rate": answer["seen"] / seconds,
        "cpu_us": answer["cpu_s"] / max(answer["seen"], 1) * 1e6,
        "lost": count - answer["seen"],
        "nice": nice,
        **{key: answer[key] for key in ("p50_ms", "p99_ms") if key in answer},
    }


def of_runs(peer_runs: list[dict[str, Any]], city_runs: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the pairs; the ratio is the city's rate over the peer's."""
    return {
        "per_s": statistics.median(run["rate"] for run in peer_runs),
        "cpu_us_per_reading": statistics.median(run["cpu_us"] for run in peer_runs),
        "lost": sum(run["lost"] for run in peer_runs),
        "ratio": statistics.median(c["rate"] / p["rate"] for c, p in zip(city_runs, peer_runs, strict=True)),
        "runs": len(peer_runs),
    }


def against_peers(count: int, pairs: int, twins: int, names: list[str], qos: int, store: str) -> dict[str, Any]:
    """City and peers in turn through one Mosquitto; with QoS 0 also the latency at half of each one's own rate."""
    with mosquitto() as port:
        city = CityUnderTest(port, twins, actors=2, qos=qos, store=store)
        try:
            start_ms = int(time.time() * 1000) - 400_000_000
            found: dict[str, Any] = {}
            sent: list[tuple[int, int]] = []
            city.run(port, count, twins, start_ms)  # warms up
            sent.append((count, start_ms))
            nices = {process.nice() for process in (city.router_process, *city.twin_processes)}
            city_all = []
            for name in names:
                peer_runs, city_runs = [], []
                try:
                    for _ in range(pairs):
                        start_ms += count
                        city.listen(False)
                        peer_runs.append(run_peer(name, city.city, port, count, twins, start_ms, qos=qos))
                        city.listen(True)
                        start_ms += count
                        city_runs.append(city.run(port, count, twins, start_ms))
                        sent.append((count, start_ms))
                except PeerSkipped as skipped:
                    city.listen(True)
                    found[name] = {"skipped": str(skipped)}
                    continue
                city_all.extend(city_runs)
                nices |= {run["nice"] for run in peer_runs}
                found[name] = of_runs(peer_runs, city_runs)
            compared = city.check_twins(sent, twins)
            ledger = city.city.ledger()
            assert ledger.balanced, str(ledger)
            assert ledger.applied == count * len(sent), str(ledger)
            result: dict[str, Any] = {"peers": found, "twins_compared": compared, "nices": sorted(nices)}
            if city_all:
                result["readings_per_s"] = statistics.median(run["rate"] for run in city_all)
            name = next((n for n in names if "per_s" in found.get(n, {})), None)
            if qos == 0 and name is not None:
                half = found[name]["per_s"] / 2
                city.listen(False)
                timed = run_peer(name, city.city, port, min(count, int(half * 6)), twins, start_ms, rate=half)
                result["latency_peer"] = {"name": name, "at_per_s": half, "p50_ms": timed["p50_ms"],
                                          "p99_ms": timed["p99_ms"]}  # fmt: skip
        finally:
            city.city.down(volumes=True)
    return result


def embedded_brokers(count: int, pairs: int, twins: int) -> dict[str, Any]:
    """The same city and the same bare subscriber through each embedded broker, QoS 0."""
    from twin_actors.wire.broker import EmbeddedBroker

    result: dict[str, Any] = {}
    for kind in ("mosquitto", "amqtt"):
        broker = EmbeddedBroker(tempfile.mkdtemp(), kind=kind)
        broker.start()
        try:
            protocol = "auto" if kind == "mosquitto" else "3.1.1"  # amqtt speaks no other
            city = CityUnderTest(broker.port, twins, actors=2, protocol=protocol)
            try:
                start_ms = int(time.time() * 1000) - 400_000_000
                bare_runs, city_runs = [], []
                for pair in range(-1, pairs):
                    city.listen(False)
                    one = bare(broker.port, count, twins, start_ms)
                    city.listen(True)
                    start_ms += count
                    other = city.run(broker.port, count, twins, start_ms)
                    start_ms += count
                    if pair >= 0:
                        bare_runs.append(one)
                        city_runs.append(other)
                ledger = city.city.ledger()
                assert ledger.balanced, str(ledger)
            finally:
                city.city.down(volumes=True)
        finally:
            broker.stop()
        result[kind] = {
            "readings_per_s": statistics.median(run["rate"] for run in city_runs),
            "bare_paho_per_s": statistics.median(run["rate"] for run in bare_runs),
            "ratio": statistics.median(c["rate"] / b["rate"] for c, b in zip(city_runs, bare_runs, strict=True)),
        }
    return result


def measure(count: int, pairs: int, twins: int, names: list[str], broker_count: int) -> dict[str, Any]:
    return {
        "qos0": against_peers(count, pairs, twins, names, 0, "memory:"),
        "qos1": against_peers(count, pairs, twins, names[:1], 1, "sqlite:"),
        "brokers": embedded_brokers(broker_count, pairs, twins) if broker_count else {},
        "readings_per_run": count,
        "readings_per_broker_run": broker_count,
        "pairs": pairs,
        "twins": twins,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="readings per run")
    parser.add_argument("--broker-count", type=int, default=20_000, help="readings per run of the brokers; 0: none")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--twins", type=int, default=10_000)
    parser.add_argument("--peers", default=",".join(PEERS), help="which, divided by commas; the first also at QoS 1")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    said = parser.parse_args()
    os.environ.setdefault("TWIN_ACTORS_HOME", tempfile.mkdtemp(prefix="ta-home-"))
    result = measure(said.count, said.pairs, said.twins, said.peers.split(","), said.broker_count)
    if said.json:
        print(json.dumps(result, indent=2))
        return
    for qos in ("qos0", "qos1"):
        for name, found in result[qos]["peers"].items():
            words = found.get("skipped") or f"{found['per_s']:,.0f} readings/s; the city {found['ratio']:.1f} times"
            print(f"{qos} {name:20} {words}")
    for name, found in result["brokers"].items():
        print(f"{name:25} city {found['readings_per_s']:,.0f}, bare paho {found['bare_paho_per_s']:,.0f} a second")


if __name__ == "__main__":
    main()
