"""What durability costs: end-to-end QoS 1 rate with the log on disk against a bare paho QoS 1 subscriber.

    python benchmarks/durable.py --json

One Mosquitto, one router, two twin actors, 10,000 packed twins, each engine in turn: the embedded store (SQLite, each
group synced to the disk before it is acknowledged) and PostgreSQL (a server on the loopback, fsync on). A run
lasts from the first publish until the last reading is received (paho) or applied in its twin (city). Pairs run in turn;
the median of their ratios is reported. The answers are checked: the ledger, and every twin against the state computed
from the same messages.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from ingest import CityUnderTest, bare, mosquitto  # noqa: E402  # benchmarks are scripts beside each other

ENTRIES = 200_000


@contextlib.contextmanager
def store_of(engine: str) -> Iterator[str]:
    """The URL of an empty store of this engine."""
    if engine == "sqlite":
        yield "sqlite:"
        return
    from twin_actors.testing.postgres import postgres_server

    with postgres_server() as server:
        yield server.url()


def log_cost_us(engine: str) -> dict[str, float]:
    """Microseconds per reading of the log alone, in groups of 100 and 1,000, appended and durable."""
    from twin_actors.runtime.stores import store_of as resolved
    from twin_actors.store import Entry

    costs = {}
    payload = b'{"ts": 1700000000000, "values": {"flow_pph": 512.0}}'
    with store_of(engine) as url, tempfile.TemporaryDirectory() as folder:
        for size in (100, 1000):
            store = resolved(url, Path(folder) / str(size), f"log{size}").open()
            epoch = store.next_epoch("router")
            log = store.log("router")
            group = [Entry(n % 10_000, 0, 0, 1.7e9 + n, payload) for n in range(size)]
            groups = ENTRIES // size // 10
            began = time.perf_counter()
            for _ in range(groups):
                log.append(epoch, group)
            costs[f"log_us_per_reading_in_groups_of_{size}"] = (time.perf_counter() - began) / (groups * size) * 1e6
            assert log.next_offset == groups * size
            store.close()
    return costs


def measure_engine(engine: str, count: int, pairs: int, twins: int) -> dict[str, Any]:
    """One city on one engine: pairs of bare subscriber and city."""
    with mosquitto() as port, store_of(engine) as url:
        city = CityUnderTest(port, twins, actors=2, qos=1, store=url)
        try:
            start_ms = int(time.time() * 1000) - 40_000_000
            sent: list[tuple[int, int]] = []
            bare_runs, city_runs = [], []
            for pair in range(-1, pairs):  # the first pair warms up
                city.listen(False)
                one = bare(port, count, twins, start_ms, qos=1)
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
            logged = city.city._store.log("router").next_offset
            assert logged >= ledger.received, (logged, str(ledger))
        finally:
            city.city.down(volumes=True)
    median = statistics.median
    return {
        "ratio_to_bare_paho_qos1": median(c["rate"] / b["rate"] for c, b in zip(city_runs, bare_runs, strict=True)),
        "ratios": [round(c["rate"] / b["rate"], 3) for c, b in zip(city_runs, bare_runs, strict=True)],
        "readings_per_s": median(run["rate"] for run in city_runs),
        "bare_paho_qos1_per_s": median(run["rate"] for run in bare_runs),
        "router_cpu_us_per_reading": median(run["router_cpu_us"] for run in city_runs),
        "twin_actor_cpu_us_per_reading": median(run["twin_cpu_us"] for run in city_runs),
        "bare_paho_cpu_us_per_message": median(run["cpu_us"] for run in bare_runs),
        "twins_compared": compared,
        "ledger_balanced": True,
        **log_cost_us(engine),
    }


def measure(count: int, pairs: int, twins: int, engines: tuple[str, ...]) -> dict[str, Any]:
    return {
        **{engine: measure_engine(engine, count, pairs, twins) for engine in engines},
        "readings_per_run": count,
        "pairs": pairs,
        "twins": twins,
        "cores": os.cpu_count(),
        "goals": {"ratio_to_bare_paho_qos1": 0.90},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="readings per run")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--twins", type=int, default=10_000)
    parser.add_argument("--engines", default="sqlite,postgres", help="which stores, divided by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    os.environ.setdefault("TWIN_ACTORS_HOME", tempfile.mkdtemp(prefix="ta-home-"))
    result = measure(arguments.count, arguments.pairs, arguments.twins, tuple(arguments.engines.split(",")))
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for engine in arguments.engines.split(","):
        print(engine)
        for name, value in result[engine].items():
            print(f"  {name:40} {value:,.3f}" if isinstance(value, float) else f"  {name:40} {value}")


if __name__ == "__main__":
    main()
