"""A city by size: launch, memory, query, tick and idle processor time of packed twins.

    python benchmarks/city_scale.py --json

Cities of the kind ``footfall`` in as many twin actors as the machine has cores, on the embedded store, packed as in
``scenarios/metropolis.yaml``. Peers of the same run: pykka actors (a thread each) for launch and memory, a dictionary
of objects in the asking process for the query, one Ray call per twin for the tick, and a Ray head with as many
actors that do nothing for the idle city.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "peers")]

from ingest import FIELD, KIND, ROOT, Load  # noqa: E402  # scripts beside each other

SCENARIO = """
city: bench
broker: {{embedded: mosquitto, qos: 0}}
store: {{url: "sqlite:"}}
placement: {{entities_per_actor: auto}}
tick_s: 2
entities:
  - {{kind: footfall, pattern: "e-{{n:05d}}", count: {twins}}}
"""
"""The tick of metropolis; readings come by hand, so the city is idle when nobody publishes."""

DEADLINE_S = 600.0
THRESHOLD_PPH = 900.0
QUERIES = 11


def eventually(holds: Any, within_s: float, says: str) -> Any:
    deadline = time.monotonic() + within_s
    while True:
        answer = holds()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {says}")
        time.sleep(0.1)  # the pace of asking; the loop has a deadline


class Phases:
    """Seconds between a launch's own reports of what it does."""

    def __init__(self) -> None:
        self._at: list[tuple[str, float]] = [("reading the scenario", time.monotonic())]

    def tell(self, what: str, done: int, total: int) -> None:
        """The progress callback of City.launch."""
        if what != self._at[-1][0]:
            self._at.append((what, time.monotonic()))

    def seconds(self) -> dict[str, float]:
        """By phase, the last one until now."""
        ends = [at for _, at in self._at[1:]] + [time.monotonic()]
        spent: dict[str, float] = {}
        for (what, at), end in zip(self._at, ends, strict=True):
            spent[what] = round(spent.get(what, 0.0) + end - at, 3)
        return spent


def launch(twins: int) -> tuple[Any, float, dict[str, float]]:
    """A city of so many twins, the seconds until every twin has answered, and of which phases they are made."""
    from twin_actors import City

    file = Path(tempfile.mkdtemp()) / "bench.yaml"
    file.write_text(SCENARIO.format(twins=twins))
    began = time.monotonic()
    phases = Phases()
    city = City.launch(file, deadline_s=DEADLINE_S, progress=phases.tell)
    return city, time.monotonic() - began, phases.seconds()


def twin_actor_bytes(city: Any) -> float:
    """Memory that the twin actors share with nobody (USS), together."""
    import ray

    handles = [ray.get_actor(actor.name, namespace="twin-actors-bench") for actor in city.plan.actors]
    return float(sum(hello.memory_bytes for hello in ray.get([h.hello.remote() for h in handles], timeout=60)))


def column_bytes_per_twin(city: Any) -> float:
    """All arrays of the twin tables, divided by their twins."""
    import ray

    def size(actor: Any) -> tuple[int, int]:
        groups = actor._holder.groups
        return sum(a.nbytes for g in groups for a in g.table.snapshot().values()), sum(len(g.table) for g in groups)

    handles = [ray.get_actor(actor.name, namespace="twin-actors-bench") for actor in city.plan.actors]
    sizes = ray.get([handle.__ray_call__.remote(size) for handle in handles], timeout=60)
    return sum(total for total, _ in sizes) / sum(count for _, count in sizes)


def one_reading_each(city: Any, twins: int) -> None:
    """A reading for every twin, applied."""
    load = Load(city.plan.broker.port, twins, twins, int(time.time() * 1000) - twins)
    before = city.ledger().applied
    load.go()
    eventually(lambda: city.ledger().applied >= before + twins, 120.0, "one reading in every twin")
    load.close()


def ticks(city: Any, count: int) -> list[float]:
    """Wall seconds of so many ticks."""
    found: dict[int, float] = {}

    def enough() -> bool:
        status = city._call("aggregator", "status", deadline_s=60.0)
        found[status["tick"]] = status["tick_wall_s"]
        return len(found) > count  # the first may be half old

    eventually(enough, 60.0 + 20.0 * count, f"{count} ticks")
    return list(found.values())[1:]


def query(city: Any, twins: int) -> dict[str, float]:
    """Milliseconds for a query over all twins, the whole frame, and one column of it.

    The answer is checked against what was said.
    """
    from load import readings

    def timed(call: Any) -> tuple[float, Any]:
        spent = []
        for _ in range(QUERIES):
            began = time.perf_counter()
            answer = call()
            spent.append((time.perf_counter() - began) * 1000)
        return statistics.median(spent), answer

    # the frame is as of the last tick, and a tick does not wait for a twin actor that is slow
    eventually(lambda: bool((city.frame(KIND)["age_s"] < float("inf")).all()), 120.0, "every twin seen by a tick")
    columns_ms, _ = timed(lambda: city.frame(KIND, columns=[FIELD]))
    frame_ms, frame = timed(lambda: city.frame(KIND))
    assert len(frame) == twins
    query_ms, chosen = timed(lambda: city.query(KIND, f"{FIELD} > {THRESHOLD_PPH}"))
    said = dict(readings(twins, twins, ROOT, KIND, FIELD))
    # a first reading moves a twin to within 1 % of it: those well above must be there, those well below must not
    assert {e for e, v in said.items() if v > THRESHOLD_PPH * 1.02} <= set(chosen.index)
    assert not {e for e, v in said.items() if v < THRESHOLD_PPH * 0.98} & set(chosen.index)
    return {"query_ms": query_ms, "frame_ms": frame_ms, "columns_ms": columns_ms, "query_found": len(chosen)}


def dictionary_query(twins: int) -> dict[str, float]:
    """The peer: a dictionary of objects in the asking process itself; milliseconds and bytes per twin."""
    import tracemalloc

    from equation import FlowTwin
    from load import readings

    tracemalloc.start()
    said = readings(twins, twins, ROOT, KIND, FIELD)
    base, _ = tracemalloc.get_traced_memory()
    all_twins = {}
    for entity, value in said:
        all_twins[entity] = twin = FlowTwin()
        twin.update(1e9, value)
    bytes_each = (tracemalloc.get_traced_memory()[0] - base) / twins
    tracemalloc.stop()
    spent = []
    for _ in range(QUERIES):
        began = time.perf_counter()
        chosen = [entity for entity, twin in all_twins.items() if twin.flow_pph > THRESHOLD_PPH]
        spent.append((time.perf_counter() - began) * 1000)
    return {"query_ms": statistics.median(spent), "bytes_per_twin": bytes_each, "query_found": len(chosen)}


def pykka_launch(twins: int) -> dict[str, float]:
    """The peer: seconds until so many pykka actors have answered, and bytes each, in a process of its own."""
    text = (
        "import sys, time, json, os, psutil, pykka\n"
        f"sys.path.insert(0, {str(HERE / 'peers')!r})\n"
        "from equation import FlowTwin\n"
        "class Twin(pykka.ThreadingActor):\n"
        "    use_daemon_thread = True\n"
        "    def __init__(self):\n        super().__init__(); self.twin = FlowTwin()\n"
        "    def on_receive(self, message): return self.twin.flow_pph\n"
        "base, began = psutil.Process().memory_full_info().uss, time.monotonic()\n"
        f"actors = [Twin.start() for _ in range({twins})]\n"
        "assert all(actor.ask(None) == 300.0 for actor in actors)\n"
        "s, used = time.monotonic() - began, psutil.Process().memory_full_info().uss - base\n"
        "print(json.dumps({'launch_s': s, 'bytes_per_twin': used / len(actors)}), flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=300)
    if done.returncode:
        return {"skipped": (done.stderr.strip().splitlines() or ["no word"])[-1]}  # type: ignore[dict-item]
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


class Simple:
    """The peer's actor: twins as dictionaries, asked one by one."""

    def __init__(self, first: int, count: int) -> None:
        self.twins = {n: {FIELD: 300.0 + n} for n in range(first, first + count)}

    def twin(self, number: int) -> dict[str, float]:
        return self.twins[number]


def one_call_per_twin(twins: int, actors: int) -> float:
    """The peer's tick: wall seconds to ask every twin by a Ray call of its own, in the Ray that is connected."""
    import ray

    share = -(-twins // actors)
    handles = [ray.remote(Simple).options(num_cpus=0).remote(n * share, share) for n in range(actors)]
    ray.get([handle.twin.remote(n * share) for n, handle in enumerate(handles)], timeout=60)
    began = time.monotonic()
    answers = ray.get([handles[n // share].twin.remote(n) for n in range(twins)], timeout=300)
    spent = time.monotonic() - began
    assert len(answers) == twins
    for handle in handles:
        ray.kill(handle)
    return spent


def _tree(pids: list[int]) -> list[psutil.Process]:
    roots = [psutil.Process(pid) for pid in pids]
    return [process for root in roots for process in (root, *root.children(recursive=True))]


def cpu_percent(pids: list[int], seconds: float) -> tuple[float, dict[str, float]]:
    """Processor time of these processes and their descendants, in per cent of one core; the most by name."""

    def used() -> dict[int, tuple[str, float]]:
        found = {}
        for process in _tree(pids):
            times = process.cpu_times()
            words = process.cmdline()
            name = words[0] if words and words[0].startswith("ray::") else process.name()
            found[process.pid] = (name.split("(")[0], times.user + times.system)
        return found

    before = used()
    time.sleep(seconds)  # the length of the measurement itself
    after = used()
    by_name: dict[str, float] = {}
    for pid, (name, spent) in after.items():
        share = (spent - before.get(pid, (name, 0.0))[1]) / seconds * 100
        by_name[name] = by_name.get(name, 0.0) + share
    most = dict(sorted(by_name.items(), key=lambda each: -each[1])[:8])
    return sum(by_name.values()), {name: round(share, 2) for name, share in most.items()}


def idle_city(city: Any, seconds: float) -> dict[str, Any]:
    """A city that nobody speaks to: Ray head with all actors, and the broker. This process lets go of it meanwhile."""
    record = city._record
    pids = [record.head.pid, record.broker["pid"]]
    city.close()
    percent, most = cpu_percent(pids, seconds)
    return {"idle_percent": percent, "idle_by_process": most}


def idle_ray(actors: int, seconds: float) -> float:
    """The peer: a Ray head like the city's with as many actors that do nothing, per cent of one core."""
    import ray

    from twin_actors.runtime.processes import end_tree, remove_ray_folder, start_head, use_token

    token = "0" * 64
    head, address, folder = start_head(Path(tempfile.mkdtemp()), token=token, cores=os.cpu_count() or 1)
    try:
        use_token(token)
        ray.init(address, namespace="idle", log_to_driver=False, configure_logging=False)
        handles = [
            ray.remote(Simple).options(num_cpus=0, lifetime="detached", name=f"idle-{n}").remote(0, 1)
            for n in range(actors)
        ]
        ray.get([handle.twin.remote(0) for handle in handles], timeout=120)
        ray.shutdown()
        percent, _ = cpu_percent([head.pid], seconds)
    finally:
        end_tree(head, deadline_s=1.0)
        remove_ray_folder(folder)
    return percent


def of_size(twins: int, empty_bytes: float, *, idle_s: float) -> dict[str, Any]:
    """Everything of one size; ``empty_bytes``: what a twin actor of one twin takes."""
    city, launch_s, phases = launch(twins)
    try:
        one_reading_each(city, twins)
        actors = len(city.plan.actors)
        tick_s = ticks(city, 5)
        used = twin_actor_bytes(city)
        result: dict[str, Any] = {
            "launch_s": launch_s,
            "launch_by_phase_s": phases,
            "twin_actors": actors,
            "bytes_per_twin": (used - actors * empty_bytes) / twins,
            "column_bytes_per_twin": column_bytes_per_twin(city),
            "tick_s": statistics.median(tick_s),
            "tick_most_s": max(tick_s),
            **query(city, twins),
            "dictionary": dictionary_query(twins),
        }
        assert city.ledger().balanced, str(city.ledger())
        if twins <= 10_000:
            result["one_call_per_twin_s"] = one_call_per_twin(twins, actors)
        if idle_s:
            result |= idle_city(city, idle_s)
            city = type(city).connect("bench")
    finally:
        city.down(volumes=True)
    if twins <= 10_000:
        result["pykka"] = pykka_launch(twins)
    if idle_s:
        result["idle_ray_percent"] = idle_ray(actors + 3, idle_s)
    return result


def empty_actor_bytes() -> float:
    """What a twin actor takes that has one twin: measured in a city with one twin an actor."""
    city, *_ = launch(os.cpu_count() or 1)
    try:
        ticks(city, 1)
        return twin_actor_bytes(city) / len(city.plan.actors)
    finally:
        city.down(volumes=True)


def measure(sizes: list[int], idle_at: int, idle_s: float) -> dict[str, Any]:
    """Every size in turn; idle at one of them."""
    empty = empty_actor_bytes()
    found = {str(twins): of_size(twins, empty, idle_s=idle_s if twins == idle_at else 0.0) for twins in sizes}
    return {"empty_actor_bytes": empty, "idle_at": idle_at, "idle_s": idle_s, "sizes": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000", help="numbers of twins, divided by commas")
    parser.add_argument("--idle-at", type=int, default=10_000, help="which of them is watched idle; 0: none")
    parser.add_argument("--idle-s", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    said = parser.parse_args()
    os.environ.setdefault("TWIN_ACTORS_HOME", tempfile.mkdtemp(prefix="ta-home-"))
    result = measure([int(size) for size in said.sizes.split(",")], said.idle_at, said.idle_s)
    if said.json:
        print(json.dumps(result, indent=2))
        return
    for size, found in result["sizes"].items():
        print(f"{int(size):9,} twins: launch {found['launch_s']:.1f} s, {found['bytes_per_twin']:,.0f} bytes a twin, "
              f"query {found['query_ms']:.0f} ms, tick {found['tick_s'] * 1000:.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
