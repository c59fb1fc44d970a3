"""The paper plan of docs/scaling.md, computed from the benchmark report: one million entities in ten regions.

    python benchmarks/scaling.py            # print the tables
    python benchmarks/scaling.py --write    # put them into docs/scaling.md

Every number is a formula over named figures: rows of report.json, figures of the store's pages, list prices, and the
assumptions, all of which are printed.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs/scaling.md"
BEGIN, END = "<!-- computed: benchmarks/scaling.py --write -->", "<!-- end of what is computed -->"
SECONDS_A_DAY: Final = 86_400
HOURS_A_MONTH: Final = 730


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its unit, and where it comes from."""

    value: float
    unit: str
    source: str


ASSUMED: dict[str, Figure] = {
    "entities": Figure(1_000_000, "", "the question"),
    "regions": Figure(10, "", "the question"),
    "per_minute": Figure(
        2, "readings/min and entity", "assumed: a reading every 30 s, as in scenarios/metropolis.yaml"
    ),
    "peak": Figure(3, "times the mean", "assumed: everybody speaks at once after an outage"),
    "use": Figure(0.5, "of a core", "assumed: half of every core is kept free"),
    "use_memory": Figure(0.7, "of a node's memory", "assumed: the rest is for the system and caches"),
    "per_actor": Figure(10_000, "twins", "chosen: the size that the report measures idle"),
    "tick_s": Figure(2, "s", "chosen: as in scenarios/metropolis.yaml"),
    "payload": Figure(60, "bytes", "assumed: one field as JSON, as docs/store-postgres.md assumes it"),
    "raw_days": Figure(30, "days", "chosen: retention of raw readings, as in docs/store.md"),
    "minute_days": Figure(90, "days", "chosen: retention of minutes, as in docs/store.md"),
    "services": Figure(1.2e9, "bytes", "`RESERVED_BYTES` of twin_actors/runtime/placement.py"),
    "entry": Figure(140, "bytes", "docs/store-postgres.md: an entry besides its payload, indexes included"),
    "rolled": Figure(2.1, "bytes/reading", "docs/store.md: rolled-up history"),
    "database": Figure(1e9, "bytes", "assumed: PostgreSQL with 256 MB of shared buffers, its connections, page cache"),
    "node_cores": Figure(2, "cores", "m7g.large; a core is assumed to be worth one of the measuring machine's"),
    "node_bytes": Figure(8 * 2**30, "bytes", "m7g.large"),
    "node_hour": Figure(
        0.0816,
        "USD/h",
        "list price of m7g.large, Linux, us-east-1, June 2026 "
        "(factualminds.com/blog/amazon-ec2-on-demand-pricing-instance-families-2026)",
    ),
    "disk_month": Figure(
        0.10,
        "USD/GB and month",
        "network SSD (gp3), rounded up from EUR 0.09394 in the example of aws.eu/ebs/pricing, read in November 2026",
    ),
}

ROWS: dict[str, tuple[str, str]] = {
    "router_us": ("processor time per reading, QoS 1, durable log in PostgreSQL, router", "value"),
    "twin_us": ("processor time per reading, QoS 1, durable log in PostgreSQL, twin actors", "value"),
    "router_rate": ("ingest, QoS 1, durable log in PostgreSQL", "value"),
    "broker_rate": ("ingest, QoS 1, durable log in PostgreSQL", "peer_value"),
    "paho_us": ("processor time per reading, QoS 1, durable log in PostgreSQL, router", "peer_value"),
    "log_us": ("log alone, groups of 100, durable log in PostgreSQL", "value"),
    "twin_bytes": ("memory per twin of 100,000", "value"),
    "actor_bytes": ("memory of a twin actor before its twins", "value"),
    "tick_ms": ("city tick of 100,000 twins", "value"),
    "launch_s": ("launch of 100,000 twins", "value"),
}
"""Which row of report.json gives which measured figure."""


class FigureMissing(LookupError):
    """The report lacks a row that the plan needs; the message names the part to run."""


def measured(report: list[Mapping[str, object]]) -> dict[str, Figure]:
    """The measured figures out of the rows of report.json. Raises FigureMissing."""
    by_name = {str(row["name"]): row for row in report}
    found = {}
    for key, (name, column) in ROWS.items():
        row = by_name.get(name)
        value = row[column] if row else None
        if row is None or not isinstance(value, int | float):
            raise FigureMissing(f"the report has no {column} in a row {name!r}: run benchmarks/report.py for its part")
        what = f"report: {name}" if column == "value" else f"report: the peer of {name}"
        found[key] = Figure(float(value), str(row["unit"]), what)
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """One result: what, of one region, of all, by which formula over figures."""

    what: str
    region: float
    unit: str
    formula: str
    adds_up: bool = True


def plan(figures: Mapping[str, Figure]) -> tuple[list[Line], list[tuple[str, float, str]], dict[str, float]]:
    """The plan of a region; what is used of each limit at the peak, the nearest first; totals per month."""
    f = {name: figure.value for name, figure in figures.items()}
    twins = f["entities"] / f["regions"]
    mean = twins * f["per_minute"] / 60
    peak = mean * f["peak"]
    routers = math.ceil(peak / (f["router_rate"] * f["use"]))
    brokers = math.ceil(peak / (f["broker_rate"] * f["use"]))
    actors = math.ceil(twins / f["per_actor"])
    tick_cores = f["tick_ms"] / 1000 / f["tick_s"] * twins / 100_000
    cores = peak * (f["router_us"] + f["twin_us"] + f["paho_us"] + f["log_us"]) / 1e6 + tick_cores
    memory = twins * f["twin_bytes"] + actors * f["actor_bytes"] + f["services"] + f["database"]
    nodes = max(
        math.ceil(cores / (f["node_cores"] * f["use"])), math.ceil(memory / (f["node_bytes"] * f["use_memory"])), 2
    )
    raw_gb = mean * SECONDS_A_DAY * f["raw_days"] * (f["payload"] + f["entry"]) / 1e9
    rolled_gb = mean * SECONDS_A_DAY * f["minute_days"] * f["rolled"] / 1e9
    lines = [
        Line("readings, mean", mean, "/s", "entities / regions × per_minute / 60"),
        Line("readings, peak", peak, "/s", "mean × peak"),
        Line("brokers", brokers, "", "⌈peak / (broker_rate × use)⌉"),
        Line("routers", routers, "", "⌈peak / (router_rate × use)⌉"),
        Line("twin actors", actors, "", "⌈entities / regions / per_actor⌉"),
        Line("cores at the peak", cores, "", "peak × (router_us + twin_us + paho_us for the broker + log_us) / 10⁶ "
             "+ tick_ms / 1000 / tick_s × twins / 100,000"),
        Line("memory", memory / 1e9, "GB", "twins × twin_bytes + actors × actor_bytes + services + database"),
        Line("nodes", nodes, "", "max(⌈cores / (node_cores × use)⌉, ⌈memory / (node_bytes × use_memory)⌉, 2)"),
        Line("raw readings", raw_gb, "GB", "mean × 86,400 × raw_days × (payload + entry)"),
        Line("rolled-up history", rolled_gb, "GB", "mean × 86,400 × minute_days × rolled"),
    ]  # fmt: skip
    uses = [
        ("one router", peak / f["router_rate"], "peak / router_rate"),
        ("one broker", peak / f["broker_rate"], "peak / broker_rate"),
        ("one log, flushed in groups of 100", peak * f["log_us"] / 1e6, "peak × log_us / 10⁶"),
        ("one twin actor", peak / actors * f["twin_us"] / 1e6, "peak / actors × twin_us / 10⁶"),
        ("the tick of the aggregator", tick_cores, "tick_ms / 1000 / tick_s × twins / 100,000"),
        ("a node's memory", memory / nodes / f["node_bytes"], "memory / nodes / node_bytes"),
    ]
    money = {
        "nodes": nodes * f["regions"] * f["node_hour"] * HOURS_A_MONTH,
        "disks": (raw_gb + rolled_gb) * f["regions"] * f["disk_month"],
    }
    return lines, sorted(uses, key=lambda each: -each[1]), money


def _n(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def tables(figures: Mapping[str, Figure]) -> str:
    """The page's computed part in Markdown."""
    lines, uses, money = plan(figures)
    regions = figures["regions"].value
    text = ["### Figures", "", "| name | value | from |", "|---|---:|---|"]
    text += [f"| `{name}` | {_n(each.value)} {each.unit} | {each.source} |" for name, each in figures.items()]
    text += ["", "### The plan", "", "| what | one region | ten regions | formula |", "|---|---:|---:|---|"]
    text += [f"| {e.what} | {_n(e.region)} {e.unit} | {_n(e.region * regions)} {e.unit} | {e.formula} |" for e in lines]
    text += ["", "### Cost a month", "", "| what | USD | formula |", "|---|---:|---|"]
    formulas = {
        "nodes": "nodes × regions × node_hour × 730",
        "disks": "(raw readings + rolled-up history) × regions × disk_month",
    }
    text += [f"| {what} | {_n(usd)} | {formulas[what]} |" for what, usd in money.items()]
    total = sum(money.values())
    text += [f"| **together** | **{_n(total)}** | {total / figures['entities'].value * 100:.2f} US cents an entity |"]
    text += [
        "",
        "### What breaks first",
        "",
        "| limit | used at the peak | grows until | formula |",
        "|---|---:|---:|---|",
    ]
    text += [f"| {what} | {used:.1%} | {1 / used:,.1f} times | {formula} |" for what, used, formula in uses]
    return "\n".join(text)


def page_with(page: str, computed: str) -> str:
    """The page with its computed part replaced. Raises ValueError where the marks are missing."""
    if BEGIN not in page or END not in page:
        raise ValueError(f"{PAGE.name} lacks the marks between which the tables go: {BEGIN} and {END}")
    return re.sub(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n\n{computed}\n\n{END}", page, flags=re.DOTALL
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, default=HERE / "report.json")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    said = parser.parse_args()
    computed = tables({**measured(json.loads(said.report.read_text())), **ASSUMED})
    if not said.write:
        print(computed)
        return
    PAGE.write_text(page_with(PAGE.read_text(), computed))


if __name__ == "__main__":
    main()
