"""The rows of the benchmark report: what each part measured, beside its peer and its goal. Results in, rows out."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

Results = Mapping[str, Mapping[str, Any]]
"""What the parts have written, by part."""

_HOLDS: dict[str, Callable[[float, float], bool]] = {"≥": operator.ge, "≤": operator.le}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line. ``ratio``: value over the peer's value, the median of pairs; ``met`` None: no goal, or not run."""

    part: str
    name: str
    value: float | None
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _row(
    part: str, name: str, value: float | None, unit: str, peer: str, peer_value: float | None, *,
    ratio: float | None = None, goal: tuple[str, str, float] | None = None, note: str = "",
) -> Row:  # fmt: skip
    """``goal``: ("value" or "ratio", "≥" or "≤", number). The ratio is computed where none is given."""
    if ratio is None and value is not None and peer_value:
        ratio = value / peer_value
    met, words = None, ""
    if goal is not None:
        of, sign, number = goal
        words = f"{of} {sign} {number:,g}" + (f" {unit}" if of == "value" else "")
        measured = value if of == "value" else ratio
        met = _HOLDS[sign](measured, number) if measured is not None else None
    return Row(part=part, name=name, value=value, unit=unit, peer=peer, peer_value=peer_value, ratio=ratio, goal=words,
               met=met, note=note)  # fmt: skip


def _ingest(r: Mapping[str, Any]) -> Iterator[Row]:
    rate = r["readings_per_s"]
    yield _row("ingest", "ingest, QoS 0", rate, "readings/s", "bare paho subscriber", r["bare_paho_per_s"],
               ratio=r["ratio_to_bare_paho"], goal=("ratio", "≥", 0.95), note="log written, not synced")  # fmt: skip
    yield _row("ingest", "ingest, QoS 0, against one Ray call per message", rate, "readings/s",
               "one Ray call per message", r["one_call_per_message_per_s"],
               ratio=r["ratio_to_one_call_per_message"], goal=("ratio", "≥", 20.0))  # fmt: skip
    cpu = r["router_cpu_us_per_reading"] + r["twin_actor_cpu_us_per_reading"]
    yield _row("ingest", "processor time per reading, QoS 0, router and twin actors", cpu, "µs", "bare paho subscriber",
               r["bare_paho_cpu_us_per_message"],
               note=f"QoS 0; router {r['router_cpu_us_per_reading']:.1f}, twin actors "
                    f"{r['twin_actor_cpu_us_per_reading']:.1f}")  # fmt: skip


def _latency(results: Results) -> Iterator[Row]:
    mine, peer = results.get("ingest"), results.get("competition", {}).get("qos0", {}).get("latency_peer", {})
    if mine is None:
        return
    at = f"at {mine['latency_at_readings_per_s']:,.0f} readings/s"
    if peer:
        at += f"; the peer at its own half, {peer['at_per_s']:,.0f}"
    for q, goal in ((50, None), (99, ("value", "≤", 100.0))):
        yield _row("ingest", f"latency p{q} at half the peak rate", mine[f"latency_p{q}_ms"], "ms",
                   "asyncio dictionary of twins (aiomqtt)" if peer else "", peer.get(f"p{q}_ms"),
                   goal=goal, note=at)  # fmt: skip


_DURABLE = {"sqlite": "durable log in SQLite", "postgres": "durable log in PostgreSQL"}


def _durable(r: Mapping[str, Any]) -> Iterator[Row]:
    for engine, words in _DURABLE.items():
        if engine not in r:
            continue
        found = r[engine]
        yield _row("durable", f"ingest, QoS 1, {words}", found["readings_per_s"], "readings/s",
                   "bare paho subscriber, QoS 1", found["bare_paho_qos1_per_s"],
                   ratio=found["ratio_to_bare_paho_qos1"], goal=("ratio", "≥", 0.90))  # fmt: skip
        for who, key in (("router", "router_cpu_us_per_reading"), ("twin actors", "twin_actor_cpu_us_per_reading")):
            yield _row("durable", f"processor time per reading, QoS 1, {words}, {who}", found[key], "µs",
                       "bare paho subscriber, QoS 1", found["bare_paho_cpu_us_per_message"])  # fmt: skip
        yield _row("durable", f"log alone, groups of 100, {words}", found["log_us_per_reading_in_groups_of_100"], "µs",
                   "groups of 1,000", found["log_us_per_reading_in_groups_of_1000"])  # fmt: skip


PEERS = {
    "dictionary_aiomqtt": "asyncio dictionary of twins (aiomqtt)",
    "dictionary_paho": "dictionary of twins in paho's callback",
    "pykka": "pykka, one actor per twin",
    "node_red": "Node-RED, context per entity",
}


def _competition(r: Mapping[str, Any]) -> Iterator[Row]:
    for qos in ("qos0", "qos1"):
        rate = r[qos].get("readings_per_s")
        for name, found in r[qos]["peers"].items():
            title = f"ingest, QoS {qos[-1]}, against {PEERS[name]}"
            if "skipped" in found:
                yield _row("competition", title, None, "readings/s", PEERS[name], None, note=found["skipped"])
                continue
            lost = f"the peer lost {found['lost']:,} readings" if found["lost"] else "nothing lost on either side"
            yield _row("competition", title, rate, "readings/s", PEERS[name], found["per_s"], ratio=found["ratio"],
                       note=f"{lost}; twins equal")  # fmt: skip
    for kind, found in r["brokers"].items():
        yield _row("competition", f"ingest through the embedded {kind}, QoS 0", found["readings_per_s"], "readings/s",
                   f"bare paho subscriber through {kind}", found["bare_paho_per_s"], ratio=found["ratio"])  # fmt: skip


def _gateway(r: Mapping[str, Any]) -> Iterator[Row]:
    yield from _gateway_with(r, r, "", "")
    for store, found in r.get("durable", {}).items():
        yield from _gateway_with(r, found, f", QoS 1, {_DURABLE[store]}", ", QoS 1")


def _gateway_with(part: Mapping[str, Any], r: Mapping[str, Any], how: str, how_peer: str) -> Iterator[Row]:
    for form in ("columns", "list"):
        rate = r.get(f"ingest_{form}_readings_per_s")
        if rate is None:
            continue
        batch = part["readings_per_message"]
        yield _row("gateway", f"gateway batches as {form}, {batch} readings a message{how}", rate, "readings/s",
                   f"paho, json and a dictionary{how_peer}", r[f"paho_json_dict_{form}_readings_per_s"],
                   ratio=r[f"ratio_to_paho_json_dict_{form}"],
                   goal=("value", "≥", 500_000.0) if form == "columns" and not how else None,
                   note=f"a bare paho subscriber: {r[f'bare_paho_{form}_readings_per_s']:,.0f}")  # fmt: skip


_LAUNCH_S = {10_000: 10.0, 100_000: 30.0}


def _phases(found: Mapping[str, Any]) -> str:
    """The three longest phases of a launch."""
    longest = sorted(found.get("launch_by_phase_s", {}).items(), key=lambda each: -each[1])[:3]
    return "".join(f", {what} {seconds:.1f} s" for what, seconds in longest)


def _scale(r: Mapping[str, Any]) -> Iterator[Row]:
    sizes = {int(size): found for size, found in r["sizes"].items()}
    pykka = {n: found["pykka"] for n, found in sizes.items() if "launch_s" in found.get("pykka", {})}
    most = max(pykka, default=0)
    for n, found in sizes.items():
        at = n if n in pykka else most
        peer = f"pykka, {at:,} actors" if at else ""
        goal_s = _LAUNCH_S.get(n)
        yield _row("city_scale", f"launch of {n:,} twins", found["launch_s"], "s", peer,
                   pykka[at]["launch_s"] if at else None,
                   goal=("value", "≤", goal_s) if goal_s else None,
                   note=f"with broker, Ray head, store, tick{_phases(found)}; the peer has only threads")  # fmt: skip
    for n, found in sizes.items():
        at = n if n in pykka else most
        goal = ("value", "≤", 2000.0) if n >= 100_000 else None
        yield _row("city_scale", f"memory per twin of {n:,}", found["bytes_per_twin"], "bytes",
                   f"pykka, {at:,} actors" if at else "", pykka[at]["bytes_per_twin"] if at else None, goal=goal,
                   note=f"columns {found['column_bytes_per_twin']:,.0f}; unshared memory of the twin actors less "
                        f"an empty one's; a dictionary's {found['dictionary']['bytes_per_twin']:,.0f}")  # fmt: skip
    for n, found in sizes.items():
        goal = ("value", "≤", 100.0) if n >= 100_000 else None
        yield _row("city_scale", f"query of all {n:,} twins", found["query_ms"], "ms",
                   "loop over a dictionary, in process", found["dictionary"]["query_ms"], goal=goal,
                   note=f"across processes; the whole frame {found['frame_ms']:.0f} ms, one column of it "
                        f"{found.get('columns_ms', float('nan')):.0f} ms")  # fmt: skip
    for n, found in sizes.items():
        one = found.get("one_call_per_twin_s")
        yield _row("city_scale", f"city tick of {n:,} twins", found["tick_s"] * 1000, "ms",
                   "one Ray call per twin" if one else "", one * 1000 if one else None,
                   note=f"most of five {found['tick_most_s'] * 1000:.0f} ms")  # fmt: skip
    yield _row("city_scale", "memory of a twin actor before its twins", r["empty_actor_bytes"], "bytes", "", None)
    for n, found in sizes.items():
        if "idle_percent" in found:
            most_of = ", ".join(f"{name} {share:g}" for name, share in list(found["idle_by_process"].items())[:4])
            yield _row("city_scale", f"idle city of {n:,} twins", found["idle_percent"], "% of a core",
                       "Ray head with as many idle actors", found["idle_ray_percent"],
                       goal=("value", "≤", 5.0), note=most_of)  # fmt: skip


def _nodes(r: Mapping[str, Any]) -> Iterator[Row]:
    one = r["nodes"].get("1", {}).get("cpu_us_per_reading")
    for number, found in r["nodes"].items():
        spread = found["nodes_with_twins"]
        enough = spread == int(number)
        note = f"emulated on one machine; twin actors by node {found['twin_actors_by_node']}; Ray's services "
        note += f"{found['ray_services_cpu_us']:.1f} µs more"
        if not enough:
            note += f"; counted for nothing: {spread} of {number} nodes hold twins"
        yield _row("city_nodes", f"processor time per reading, {number} nodes", found["cpu_us_per_reading"], "µs",
                   "" if number == "1" else "one node", None if number == "1" else one,
                   goal=("ratio", "≤", 1.1) if number == "4" and enough else None, note=note)  # fmt: skip


_OF_PART: dict[str, Callable[[Mapping[str, Any]], Iterator[Row]]] = {
    "ingest": _ingest,
    "durable": _durable,
    "competition": _competition,
    "gateway": _gateway,
    "city_scale": _scale,
    "city_nodes": _nodes,
}


def rows(results: Results) -> list[Row]:
    """All rows of the parts that there are; one row that says why for each part that could not run."""
    found: list[Row] = []
    for part, of_part in _OF_PART.items():
        if part not in results:
            continue
        if "skipped" in results[part]:
            found.append(Row(part=part, name=part, value=None, unit="", note=f"skipped: {results[part]['skipped']}"))
            continue
        found.extend(of_part(results[part]))
        if part == "ingest":
            found.extend(_latency({k: v for k, v in results.items() if "skipped" not in v}))
    return found
