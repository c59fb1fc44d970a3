"""Ingest: end-to-end rate of a city against a bare paho subscriber and a naive build, in the same run.

    python benchmarks/ingest.py --json

One Mosquitto, one router, two twin actors, 10,000 packed twins, everything at the same niceness on one machine. A
run is timed from the first publish until the last reading is received (paho), or applied in its twin (city). Pairs
run in turn; medians and their ratio are reported. The answers are checked: the ledger, and every twin against the
state computed from the same messages without Ray or MQTT.
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
ROOT = "bench"
KIND, FIELD = "footfall", "flow_pph"
BARE_DEADLINE_S = 120.0

SCENARIO = """
city: bench
broker: {{url: "mqtt://127.0.0.1:{port}", qos: {qos}, protocol: {protocol}}}
store: {{url: "{store}"}}
limits: {{backlog: {backlog}}}
placement: {{entities_per_actor: {per_actor}}}
clock: {{mode: events}}
tick_s: 3600
entities:
  - {{kind: footfall, pattern: "e-{{n:05d}}", count: {twins}}}
"""


class Load:
    """One run of the load generator, prepared and ready to go."""

    def __init__(
        self, port: int, count: int, twins: int, start_ms: int, rate: float | None = None, qos: int = 0
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "load.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        plan = {
            "host": "127.0.0.1", "port": port, "client_id": f"load-{start_ms}", "count": count, "twins": twins,
            "root": ROOT, "kind": KIND, "field": FIELD, "start_ms": start_ms, "rate": rate, "qos": qos,
        }  # fmt: skip
        self._say(json.dumps(plan))
        assert self._hear() == "ready"

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> dict[str, Any]:
        """Publish; the connection stays open until ``close``."""
        self._say("go")
        report: dict[str, Any] = json.loads(self._hear())
        return report

    def close(self) -> None:
        """Disconnect, also when it was never told to go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


def bare(port: int, count: int, twins: int, start_ms: int, qos: int = 0) -> dict[str, float]:
    """One run of the bare subscriber."""
    load = Load(port, count, twins, start_ms, qos=qos)
    peer = subprocess.Popen(
        [
            sys.executable,
            str(HERE / "bare_paho.py"),
            "127.0.0.1",
            str(port),
            f"{ROOT}/+/+/telemetry",
            str(count),
            str(qos),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert peer.stdout is not None
    watch = threading.Timer(BARE_DEADLINE_S, peer.kill)
    watch.start()
    try:
        assert peer.stdout.readline().strip() == "ready"
        report = load.go()
        line = peer.stdout.readline()
        peer.wait(30)
    finally:
        watch.cancel()
        load.close()
    if not line:
        raise TimeoutError(f"the bare subscriber did not get {count:,} messages within {BARE_DEADLINE_S:.0f} s")
    answer = json.loads(line)
    return {"rate": count / (answer["ended"] - report["began"]), "cpu_us": answer["cpu_s"] / count * 1e6}


class CityUnderTest:
    """A launched city, its processes, and how much of them a run uses."""

    def __init__(
        self, port: int, twins: int, actors: int, *, qos: int = 0, store: str = "memory:", protocol: str = "auto",
        address: str | None = None, backlog: int = 200_000,
    ) -> None:  # fmt: skip
        from twin_actors import City

        self.file = Path(tempfile.mkdtemp()) / "bench.yaml"
        self.qos = qos
        per_actor = -(-twins // actors)
        text = SCENARIO.format(
            port=port, per_actor=per_actor, twins=twins, qos=qos, store=store, protocol=protocol, backlog=backlog
        )
        self.file.write_text(text)
        began = time.monotonic()
        self.city = City.launch(self.file, address=address)
        self.launch_s = time.monotonic() - began
        import ray

        self.ray = ray
        namespace = "twin-actors-bench"
        self.router = ray.get_actor("router", namespace=namespace)
        names = [plan.name for plan in self.city.plan.actors]
        self.twins = [ray.get_actor(name, namespace=namespace) for name in names]
        self.router_process = psutil.Process(ray.get(self.router.__ray_call__.remote(lambda self: os.getpid())))
        self.twin_processes = [psutil.Process(hello.pid) for hello in ray.get([t.hello.remote() for t in self.twins])]

    def cpu_s(self) -> tuple[float, float]:
        def used(process: psutil.Process) -> float:
            times = process.cpu_times()
            return times.user + times.system

        return used(self.router_process), sum(map(used, self.twin_processes))

    def listen(self, on: bool) -> None:
        """Subscribe or unsubscribe the router, so that it takes no share of the machine from another's run."""

        qos = self.qos

        def switch(actor: Any) -> None:
            if on:
                actor._client.subscribe(f"{ROOT}/#", qos)
            else:
                actor._client.unsubscribe(f"{ROOT}/#")

        def ready(actor: Any) -> bool:
            return bool(actor._client.ready)

        self.ray.get(self.router.__ray_call__.remote(switch))
        deadline = time.monotonic() + 10
        while not self.ray.get(self.router.__ray_call__.remote(ready)):
            if time.monotonic() > deadline:
                raise TimeoutError("the router did not subscribe again")
            time.sleep(0.02)

    def wait_applied(self, count: int, deadline_s: float = 120.0) -> float:
        """When so many readings in all were applied; asked every 40 ms: each question costs the router time."""
        deadline = time.monotonic() + deadline_s
        while True:
            ledger = self.city.ledger()
            if ledger.applied >= count:
                return time.time()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not applied within {deadline_s:.0f} s: {ledger}")
            time.sleep(0.04)

    def run(self, port: int, count: int, twins: int, start_ms: int) -> dict[str, float]:
        load = Load(port, count, twins, start_ms, qos=self.qos)
        before = self.city.ledger().applied
        cpu = self.cpu_s()
        report = load.go()
        ended = self.wait_applied(before + count)
        load.close()
        used = self.cpu_s()
        return {
            "rate": count / (ended - report["began"]),
            "router_cpu_us": (used[0] - cpu[0]) / count * 1e6,
            "twin_cpu_us": (used[1] - cpu[1]) / count * 1e6,
        }

    def latencies_ms(self, port: int, count: int, twins: int, rate: float) -> np.ndarray:
        """From publish (the reading's own ts) to applied in its twin, every reading of a run at a steady rate."""

        def record(actor: Any) -> None:
            table = actor._holder.groups[0].table
            plain = table.apply
            actor.latencies = []

            def timed(batch: Any) -> Any:
                answer = plain(batch)
                actor.latencies.append((time.time() - batch.observed_at_s) * 1000)
                return answer

            table.apply = timed

        def collect(actor: Any) -> np.ndarray:
            del actor._holder.groups[0].table.apply
            return np.concatenate(actor.latencies) if actor.latencies else np.zeros(0)

        self.ray.get([twin.__ray_call__.remote(record) for twin in self.twins])
        before = self.city.ledger().applied
        load = Load(port, count, twins, int(time.time() * 1000), rate)
        load.go()
        self.wait_applied(before + count)
        load.close()
        return np.concatenate(self.ray.get([twin.__ray_call__.remote(collect) for twin in self.twins]))

    def check_twins(self, sent: list[tuple[int, int]], twins: int) -> int:
        """Compare every twin with the one computed from the same messages; returns how many were compared."""
        table = truth(self.city, sent, twins)

        def state(actor: Any) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
            mine = actor._holder.groups[0].table
            return mine.ids, mine.x, mine.time_s

        compared = 0
        for ids, x, time_s in self.ray.get([twin.__ray_call__.remote(state) for twin in self.twins]):
            columns = [table.ids.index(entity) for entity in ids[:: max(1, len(ids) // 500)]]
            mine = np.arange(0, len(ids), max(1, len(ids) // 500))
            np.testing.assert_allclose(x[:, mine], table.x[:, columns], rtol=1e-9)
            np.testing.assert_allclose(time_s[mine], table.time_s[columns], rtol=0, atol=1e-6)
            compared += len(mine)
        return compared

    def bytes_per_twin(self) -> float:
        """All arrays of the twin tables, divided by their twins."""

        def size(actor: Any) -> tuple[int, int]:
            groups = actor._holder.groups
            return sum(a.nbytes for g in groups for a in g.table.snapshot().values()), sum(len(g.table) for g in groups)

        sizes = self.ray.get([twin.__ray_call__.remote(size) for twin in self.twins])
        return sum(total for total, _ in sizes) / sum(n for _, n in sizes)


def truth(city: Any, sent: list[tuple[int, int]], twins: int) -> Any:
    """The twin table of the same messages, applied without Ray and MQTT; ``sent``: count and first ts of every run."""
    from twin_actors.core.inputs import Batch
    from twin_actors.core.table import TwinTable
    from twin_actors.runtime.plan import attribute_matrix
    from twin_actors.wire.identity import time_key

    sys.path.insert(0, str(HERE))
    from load import readings

    entities = list(city.scenario.entities)
    kind = city.plan.catalogue.kinds[KIND]
    table = TwinTable(kind, [e.id for e in entities], attribute_matrix(kind, entities))
    for count, start_ms in sent:
        items = readings(count, twins, ROOT, KIND, FIELD)
        at_s = (start_ms + np.arange(count)) / 1000
        values = np.full((kind.reading.layout.rows, count), np.nan)
        values[kind.reading.layout.places[FIELD]] = np.array([value for _, value in items])
        rows = np.arange(count) % twins
        keys = np.array([time_key(0, float(at)) for at in at_s])
        table.apply(Batch(rows=rows.astype(np.intp), observed_at_s=at_s, values=values, keys=keys))
    return table


@contextlib.contextmanager
def mosquitto() -> Iterator[int]:
    from twin_actors.wire.broker import EmbeddedBroker

    broker = EmbeddedBroker(tempfile.mkdtemp(), kind="mosquitto")
    broker.start()
    try:
        yield broker.port
    finally:
        broker.stop()


def measure(count: int, pairs: int, twins: int) -> dict[str, Any]:
    from naive import run as run_naive

    with mosquitto() as port:
        city = CityUnderTest(port, twins, actors=2)
        try:
            start_ms = int(time.time() * 1000) - 40_000_000
            sent: list[tuple[int, int]] = []
            bare_runs, city_runs = [], []
            for pair in range(-1, pairs):  # the first pair warms up
                # a city that listens would take a share of the machine from the bare run: it is disconnected meanwhile
                city.listen(False)
                one = bare(port, count, twins, start_ms)
                city.listen(True)
                start_ms += count
                other = city.run(port, count, twins, start_ms)
                sent.append((count, start_ms))
                start_ms += count
                if pair >= 0:
                    bare_runs.append(one)
                    city_runs.append(other)
            compared = city.check_twins(sent, twins)
            ledger = city.city.ledger()
            assert ledger.balanced, str(ledger)
            assert ledger.applied == count * len(sent), str(ledger)
            size = city.bytes_per_twin()
            peak = statistics.median(run["rate"] for run in city_runs)
            latency = city.latencies_ms(port, min(count, int(peak / 2 * 8)), twins, peak / 2)
            city.listen(False)
            naive_count = min(count, 8_000)
            naive_runs = []
            for n in range(3):
                load = Load(port, naive_count, twins, start_ms + n)
                naive_runs.append(run_naive("127.0.0.1", port, ROOT, naive_count, load.go))
                load.close()
        finally:
            city.city.down(volumes=True)
    median = statistics.median
    bare_rate = median(run["rate"] for run in bare_runs)
    naive_rate = median(run["rate"] for run in naive_runs)
    return {
        "ratio_to_bare_paho": median(c["rate"] / b["rate"] for c, b in zip(city_runs, bare_runs, strict=True)),
        "ratio_to_one_call_per_message": peak / naive_rate,
        "readings_per_s": peak,
        "bare_paho_per_s": bare_rate,
        "one_call_per_message_per_s": naive_rate,
        "router_cpu_us_per_reading": median(run["router_cpu_us"] for run in city_runs),
        "twin_actor_cpu_us_per_reading": median(run["twin_cpu_us"] for run in city_runs),
        "bare_paho_cpu_us_per_message": median(run["cpu_us"] for run in bare_runs),
        "bytes_per_twin": size,
        "latency_p50_ms": float(np.percentile(latency, 50)),
        "latency_p99_ms": float(np.percentile(latency, 99)),
        "latency_at_readings_per_s": peak / 2,
        "launch_s": city.launch_s,
        "twins": twins,
        "twin_actors": len(city.twins),
        "readings_per_run": count,
        "pairs": pairs,
        "twins_compared": compared,
        "ledger_balanced": True,
        "cores": os.cpu_count(),
        "goals": {"ratio_to_bare_paho": 0.95, "ratio_to_one_call_per_message": 20},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000, help="readings per run")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--twins", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    os.environ.setdefault("TWIN_ACTORS_HOME", tempfile.mkdtemp(prefix="ta-home-"))
    sys.path.insert(0, str(HERE))
    result = measure(arguments.count, arguments.pairs, arguments.twins)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:34} {value:,.3f}" if isinstance(value, float) else f"{name:34} {value}")


if __name__ == "__main__":
    main()
