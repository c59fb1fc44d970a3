"""Gateways that batch: how fast their messages are decoded, and how fast a city takes them in, beside peers.

    python benchmarks/gateway.py --json
    python benchmarks/gateway.py --store memory,sqlite,postgres --json

First, on one core and without a broker: messages of 100 readings of 100 entities into columns, by form, beside
``json.loads`` and msgspec without types, each followed by the access that gets entity, time and value out. Then the
whole way: several gateways through a real Mosquitto to one router, the log, two twin actors and 10,000 twins, beside a
paho subscriber that only counts the same messages, and one that also reads them into a dictionary of last values. Pairs
run in turn; medians are reported. With a store on disk everything is QoS 1, for city and peers, and a message is
acknowledged when the log that holds its readings is synced. The answers are checked: the ledger, and every twin against
the state computed from the same readings without Ray or MQTT.
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
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import gateway_load  # noqa: E402  # the folder of benchmarks is no package
from durable import store_of  # noqa: E402
from ingest import FIELD, KIND, ROOT, CityUnderTest, mosquitto  # noqa: E402

BATCH = 100
FORMS = ("columns", "list")
STORES = ("memory", "sqlite", "postgres")


# -- decoding ----------------------------------------------------------------------------------------------------------


def decode_rates(twins: int, messages: int, rounds: int) -> dict[str, float]:
    """Readings per second on one core by way of decoding, medians of rounds in turn."""
    from twin_actors.scenario.catalogue import load_catalogue
    from twin_actors.wire.decode import ReadingDecoder
    from twin_actors.wire.gateway import GatewayDecoder

    decoder = ReadingDecoder(load_catalogue().kinds[KIND].reading)
    known = {f"{KIND}/e-{n + 1:05d}": n for n in range(twins)}
    gateway = GatewayDecoder({KIND: decoder}, known)
    now_s = 1_780_000_000.0
    plan: dict[str, object] = {"batch": BATCH, "first": 0, "twins": twins}
    payloads: dict[str, list[bytes]] = {form: [] for form in FORMS}
    of_one = []
    singles: list[bytes] = []
    for number in range(messages):
        own, values = gateway_load.readings(plan, number)
        ts = round(now_s * 1000) - messages + number
        names = [f"e-{twin + 1:05d}" for twin in own]
        for form in FORMS:
            payloads[form].append(gateway_load.message(form, KIND, FIELD, names, ts, values))
        said = [{"ts": ts * 100 // 100 - place, "values": {FIELD: value}} for place, value in enumerate(values)]
        of_one.append(json.dumps(said, separators=(",", ":")).encode())
        singles += [json.dumps(each, separators=(",", ":")).encode() for each in said]

    def gathered(form: str) -> Callable[[], int]:
        return lambda: sum(
            len(part.numbers) for payload in payloads[form] for part in gateway.decode(payload, now_s).gathered
        )

    def of_one_entity() -> int:
        received = np.full(1, now_s)
        return sum(len(decoder.decode([payload], received, [0])) for payload in of_one)

    def one_by_one() -> int:
        received = np.full(1000, now_s)
        return sum(
            len(decoder.decode(singles[at : at + 1000], received[: len(singles[at : at + 1000])], [0] * 1000))
            for at in range(0, len(singles), 1000)
        )

    def by(loads: Callable[[bytes], Any], form: str) -> Callable[[], int]:
        return lambda: sum(len(accessed(form, loads(payload), known)[0]) for payload in payloads[form])

    ways = {
        **{f"ours_{form}": gathered(form) for form in FORMS},
        "ours_list_of_one_entity": of_one_entity,
        "ours_single_messages": one_by_one,
        **{f"json_{form}": by(json.loads, form) for form in FORMS},
        **{f"msgspec_dicts_{form}": by(msgspec.json.decode, form) for form in FORMS},
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):  # the first one warms up
        for name, way in ways.items():
            began = time.process_time()
            count = way()
            took_s = time.process_time() - began  # of this core, whatever else it does
            assert count == messages * BATCH, (name, count)
            if turn:
                rates[name].append(count / took_s)
    return {name: statistics.median(found) for name, found in rates.items()}


def accessed(form: str, said: Any, known: dict[str, int]) -> tuple[list[int], list[float], list[float]]:
    """Twins, times and values out of a message that was parsed into dictionaries, unchecked."""
    if form == "columns":
        kind, ts = said["kind"], said["ts"]
        entities = [known[f"{kind}/{name}"] for name in said["entities"]]
        return entities, [ts] * len(entities), said["values"][FIELD]
    return (
        [known[each["entity"]] for each in said],
        [each["ts"] for each in said],
        [each["values"][FIELD] for each in said],
    )


# -- the whole way -----------------------------------------------------------------------------------------------------


class Gateways:
    """Several gateways, each with its own twins, prepared and ready to go."""

    def __init__(self, port: int, plans: Sequence[dict[str, Any]]) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(HERE / "gateway_load.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in plans
        ]
        for process, plan in zip(self.processes, plans, strict=True):
            self._say(process, json.dumps({"host": "127.0.0.1", "port": port, **plan}))
        for process in self.processes:
            assert self._hear(process) == "ready"

    @staticmethod
    def _say(process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()

    @staticmethod
    def _hear(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def start(self) -> float:
        """Let all of them go; when they did."""
        began = time.time()
        for process in self.processes:
            self._say(process, "go")
        return began

    def wait(self) -> None:
        for process in self.processes:
            json.loads(self._hear(process))
            process.wait(60)


def plans_of(form: str, messages: int, twins: int, gateways: int, start_ms: int, qos: int) -> list[dict[str, Any]]:
    """One plan a gateway: an equal part of the messages, about an equal part of the twins."""
    own = twins // gateways
    return [
        {
            "client_id": f"g{number}-{start_ms}", "root": ROOT, "kind": KIND, "field": FIELD, "form": form,
            "messages": messages // gateways, "batch": BATCH, "first": number * own, "twins": own,
            "start_ms": start_ms, "qos": qos,
        }
        for number in range(gateways)
    ]  # fmt: skip


def bare(port: int, plans: list[dict[str, Any]], how: str) -> float:
    """Readings per second that a paho subscriber has received (and read, with ``how`` = json)."""
    messages = sum(plan["messages"] for plan in plans)
    gateways = Gateways(port, plans)
    peer = subprocess.Popen(
        [sys.executable, str(HERE / "bare_paho.py"), "127.0.0.1", str(port), f"{ROOT}/gateway/+/telemetry",
         str(messages), str(plans[0]["qos"]), how],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert peer.stdout is not None
    assert peer.stdout.readline().strip() == "ready"
    began = gateways.start()
    answer = json.loads(peer.stdout.readline())
    gateways.wait()
    peer.wait(60)
    return float(messages * BATCH / (answer["ended"] - began))


def run(city: CityUnderTest, port: int, plans: list[dict[str, Any]]) -> dict[str, float]:
    """One run through the city."""
    count = sum(plan["messages"] for plan in plans) * BATCH
    gateways = Gateways(port, plans)
    before, cpu = city.city.ledger().applied, city.cpu_s()
    began = gateways.start()
    ended = wait_applied(city, before + count)
    used = city.cpu_s()
    gateways.wait()
    return {
        "rate": count / (ended - began),
        "router_cpu_us": (used[0] - cpu[0]) / count * 1e6,
        "twin_cpu_us": (used[1] - cpu[1]) / count * 1e6,
    }


def wait_applied(city: CityUnderTest, count: int, deadline_s: float = 120.0) -> float:
    """When so many readings in all were applied, as the router knows it. Asked every 40 ms, for this number alone: a
    whole ledger enumerates the million readings that are on their way."""

    def applied(actor: Any) -> int:
        return sum(share.outcomes.applied for share in actor._routing.shares.values())

    deadline = time.monotonic() + deadline_s
    while city.ray.get(city.router.__ray_call__.remote(applied)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not applied within {deadline_s:.0f} s: {city.city.ledger()}")
        time.sleep(0.04)
    return time.time()


def check_twins(city: CityUnderTest, sent: list[list[dict[str, Any]]], twins: int) -> int:
    """Compare twins with those computed from the same readings, without Ray or MQTT; returns how many."""
    from twin_actors.core.inputs import Batch
    from twin_actors.runtime.plan import table_of
    from twin_actors.wire.identity import time_key

    entities = sorted(city.city.scenario.entities, key=lambda entity: entity.id)
    kind = city.city.plan.catalogue.kinds[KIND]
    table = table_of(kind, entities)
    row = kind.reading.layout.places[FIELD]
    for plans in sent:
        for plan in plans:  # gateways have different twins, so their order among each other says nothing
            for number in range(plan["messages"]):
                own, said = gateway_load.readings(plan, number)
                at_s = (plan["start_ms"] + number) / 1000
                values = np.full((kind.reading.layout.rows, BATCH), np.nan)
                values[row] = said
                keys = np.full(BATCH, time_key(0, at_s))
                table.apply(Batch(rows=np.array(own), observed_at_s=np.full(BATCH, at_s), values=values, keys=keys))

    def state(actor: Any) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
        mine = actor._holder.groups[0].table
        return mine.ids, mine.x, mine.time_s, mine.fates

    place = {entity.id: number for number, entity in enumerate(entities)}
    compared = 0
    for ids, x, time_s, fates in city.ray.get([twin.__ray_call__.remote(state) for twin in city.twins]):
        columns = [place[entity] for entity in ids]
        np.testing.assert_allclose(x, table.x[:, columns], rtol=1e-9)
        np.testing.assert_allclose(time_s, table.time_s[columns], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(fates, table.fates[:, columns])
        compared += len(ids)
    return compared


def measure_store(store: str, messages: int, pairs: int, twins: int, gateways: int) -> dict[str, Any]:
    """The whole way with the log in ``memory``, or at QoS 1 in ``sqlite`` or ``postgres``."""
    durable = store != "memory"
    qos = 1 if durable else 0
    with mosquitto() as port, store_of(store) if durable else contextlib.nullcontext("memory:") as url:
        # a run is sent as fast as the broker takes it: none of it may have to be given up for want of room
        city = CityUnderTest(port, twins, actors=2, qos=qos, store=url, backlog=max(messages * BATCH, 200_000))
        runs: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
        peers: dict[str, list[float]] = {f"{form}_{how}": [] for form in FORMS for how in ("count", "json")}
        sent: list[list[dict[str, Any]]] = []
        try:
            start_ms = int(time.time() * 1000) - 40_000_000
            for pair in range(-1, pairs):  # the first one warms up
                for form in FORMS:
                    city.listen(False)
                    for how in ("count", "json"):
                        found = bare(port, plans_of(form, messages, twins, gateways, start_ms, qos), how)
                        if pair >= 0:
                            peers[f"{form}_{how}"].append(found)
                    city.listen(True)
                    start_ms += messages
                    sent.append(plans_of(form, messages, twins, gateways, start_ms, qos))
                    one = run(city, port, sent[-1])
                    start_ms += messages
                    if pair >= 0:
                        runs[form].append(one)
            count = sum(plan["messages"] for plans in sent for plan in plans) * BATCH
            ledger = city.city.ledger()
            assert ledger.balanced, str(ledger)
            assert (ledger.received, ledger.applied) == (count, count), str(ledger)
            if durable:
                logged = city.city._store.log("router").next_offset
                assert logged >= count, (logged, count)
            compared = check_twins(city, sent, twins)
        finally:
            city.city.down(volumes=True)
    median = statistics.median
    rows: dict[str, Any] = {"qos": qos, "twins_compared": compared, "ledger_balanced": True}
    for form in FORMS:
        rows |= {
            f"ingest_{form}_readings_per_s": median(each["rate"] for each in runs[form]),
            f"ingest_{form}_router_cpu_us": median(each["router_cpu_us"] for each in runs[form]),
            f"ingest_{form}_twin_actor_cpu_us": median(each["twin_cpu_us"] for each in runs[form]),
            f"bare_paho_{form}_readings_per_s": median(peers[f"{form}_count"]),
            f"paho_json_dict_{form}_readings_per_s": median(peers[f"{form}_json"]),
            f"ratio_to_bare_paho_{form}": median(
                each["rate"] / peer for each, peer in zip(runs[form], peers[f"{form}_count"], strict=True)
            ),
            f"ratio_to_paho_json_dict_{form}": median(
                each["rate"] / peer for each, peer in zip(runs[form], peers[f"{form}_json"], strict=True)
            ),
        }
    return rows


def measure(stores: Sequence[str], messages: int, pairs: int, twins: int, gateways: int) -> dict[str, Any]:
    """Decoding alone, then the whole way with each store; what is durable stands under ``durable``, by store."""
    rates = decode_rates(twins, 1_000, 5)
    fewer = max(messages // 4, 1)  # with a log on disk a run takes several times as long
    found = {
        store: measure_store(store, messages if store == "memory" else fewer, pairs, twins, gateways)
        for store in stores
    }
    rows: dict[str, Any] = {f"decode_{name}_per_s": rate for name, rate in rates.items()}
    return (
        rows
        | found.pop("memory", {})
        | {
            "durable": found,
            "decode_ratio_to_json_columns": rates["ours_columns"] / rates["json_columns"],
            "decode_ratio_to_json_list": rates["ours_list"] / rates["json_list"],
            "readings_per_message": BATCH,
            "readings_per_run": messages * BATCH,
            "durable_readings_per_run": fewer * BATCH,
            "pairs": pairs,
            "gateways": gateways,
            "twins": twins,
            "cores": os.cpu_count(),
            "goals": {"decode_ours_columns_per_s": 1_000_000, "ingest_columns_readings_per_s": 500_000},
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--messages", type=int, default=20_000, help="messages of 100 readings per run; a quarter on disk"
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--twins", type=int, default=10_000)
    parser.add_argument("--gateways", type=int, default=4)
    parser.add_argument("--store", default="memory", help=f"where the log is: {', '.join(STORES)}, divided by commas")
    parser.add_argument("--decode-only", action="store_true")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    os.environ.setdefault("TWIN_ACTORS_HOME", tempfile.mkdtemp(prefix="ta-home-"))
    if arguments.decode_only:
        result: dict[str, Any] = dict(decode_rates(arguments.twins, 1_000, 5))
    else:
        stores = arguments.store.split(",")
        if unknown := set(stores) - set(STORES):
            parser.error(f"--store knows {', '.join(STORES)}, not {', '.join(sorted(unknown))}")
        result = measure(stores, arguments.messages, arguments.pairs, arguments.twins, arguments.gateways)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:44} {value:,.3f}" if isinstance(value, float) else f"{name:44} {value}")


if __name__ == "__main__":
    main()
