"""A whole chaos run: faults drawn by a seed and dealt out to legs, each leg a process, all findings in one account."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import IO, Any, Final

from tests.chaos.faults import IN_A_CLUSTER, ON_ONE_MACHINE

LEG_WITHIN_S: Final = 600.0
PER_FAULT_S: Final = 100.0
CLUSTER_ONLY: Final = tuple(kind for kind in IN_A_CLUSTER if kind not in ON_ONE_MACHINE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one leg is to be: its city, its load, and from which faults it draws."""

    twins: int
    per_actor: int
    policies: bool
    cluster: bool
    rate: float
    gateways: int  # which speak for half of the twins
    share: float  # of all faults
    says: str


LEGS: Final[Mapping[str, Plan]] = {
    "a": Plan(200, 50, False, False, 500.0, 4, 0.3, "200 packed twins, embedded store, policies off, gateways"),
    "b": Plan(200, 50, True, False, 300.0, 4, 0.3, "200 packed twins, embedded store, policies on, gateways"),
    "c": Plan(12, 1, False, False, 120.0, 0, 0.15, "12 twin actors of one twin each, embedded store"),
    "d": Plan(200, 50, False, True, 200.0, 4, 0.25, "200 packed twins on several nodes, PostgreSQL, gateways"),
}


def share_out(faults: int, legs: Sequence[str], seed: int, skipped: Mapping[str, str]) -> dict[str, list[str]]:
    """The kinds of faults of every leg: each leg's part of all, every kind as often as any other, in random order."""
    total = sum(LEGS[leg].share for leg in legs)
    counts = {leg: int(faults * LEGS[leg].share / total) for leg in legs}
    for leg in legs[: faults - sum(counts.values())]:
        counts[leg] += 1
    dealt = {}
    for leg, count in counts.items():
        random = Random(f"{seed}/{leg}/faults")
        kinds = [kind for kind in (IN_A_CLUSTER if LEGS[leg].cluster else ON_ONE_MACHINE) if kind not in skipped]
        if LEGS[leg].cluster:
            # what only a cluster can suffer comes first: the rest is tried in the other legs too
            kinds.sort(key=lambda kind: kind not in CLUSTER_ONLY)
        drawn: list[str] = []
        while len(drawn) < count:
            drawn += kinds[: count - len(drawn)] if LEGS[leg].cluster else random.sample(kinds, len(kinds))
        dealt[leg] = drawn[:count]
        random.shuffle(dealt[leg])
    return dealt


def run(
    *, faults: int, seed: int, legs: Sequence[str], broker_kills: int, skipped: Mapping[str, str]
) -> dict[str, Any]:
    """Run all legs one after another. One that does not come to its end is named under ``failed``: the run has too."""
    dealt = share_out(faults, legs, seed, skipped)
    found = {leg: _leg(leg, LEGS[leg], kinds, seed, skipped) for leg, kinds in dealt.items() if kinds}
    apart = _leg("k", LEGS["a"], ["kill_broker"] * broker_kills, seed, skipped) if broker_kills else None
    return account(found, apart, seed, skipped)


def _leg(leg: str, plan: Plan, kinds: list[str], seed: int, skipped: Mapping[str, str]) -> dict[str, Any]:
    orders = {
        **asdict(plan), "leg": leg, "seed": seed, "faults": kinds, "network": "cut_network" not in skipped,
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.leg"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    listener = threading.Thread(target=_pass_on, args=(process.stderr, said), daemon=True)
    listener.start()
    timer = threading.Timer(LEG_WITHIN_S + PER_FAULT_S * len(kinds), process.terminate)
    timer.start()
    try:
        process.stdin.write(json.dumps(orders) + "\n")
        process.stdin.close()
        findings = process.stdout.read()
        process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)
        listener.join(timeout=10)
    if process.returncode or not findings.strip():
        words = "".join(line for line in said if "[state-dump]" not in line)[-4000:]
        print(f"leg {leg} has FAILED with {process.returncode}:\n{words}", file=sys.stderr, flush=True)
        return {"leg": leg, "failed": words}
    answer: dict[str, Any] = json.loads(findings)
    return answer


def _pass_on(stream: IO[str], said: list[str]) -> None:
    """Show a leg's progress; keep the rest, which matters only when it fails."""
    for line in stream:
        said.append(line)
        del said[:-500]
        if line.startswith("leg "):
            print(line, end="", file=sys.stderr, flush=True)


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed."""
    return sorted_values[max(math.ceil(share * len(sorted_values)) - 1, 0)]


def by_kind(faults: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    kinds: dict[str, dict[str, Any]] = {}
    for kind in sorted({fault["kind"] for fault in faults}):
        own = [fault for fault in faults if fault["kind"] == kind]
        recovered = sorted(fault["recovery_s"] for fault in own if fault["recovery_s"] is not None)
        kinds[kind] = {
            "count": len(own),
            "recovered": len(recovered),
            "recovery_p50_s": round(percentile(recovered, 0.5), 2) if recovered else None,
            "recovery_p95_s": round(percentile(recovered, 0.95), 2) if recovered else None,
            "recovery_max_s": round(recovered[-1], 2) if recovered else None,
            "overlap_max_s": round(max(fault["overlap_s"] for fault in own), 3),
        }
    return kinds


def account(
    found: Mapping[str, Mapping[str, Any]], apart: Mapping[str, Any] | None, seed: int, skipped: Mapping[str, str]
) -> dict[str, Any]:
    """The findings of all legs in one. ``broker_kill`` stands apart: what a broker forgets is not ours to keep."""
    failed = {leg: each["failed"] for leg, each in found.items() if "failed" in each}
    if apart is not None and "failed" in apart:
        failed["k"] = apart["failed"]
        apart = None
    legs = [each for each in found.values() if "failed" not in each]
    faults = [fault for leg in legs for fault in leg["faults"]]
    report = {
        "seed": seed,
        "faults": len(faults),
        "unrecovered": sum(fault["recovery_s"] is None for fault in faults),
        "lost": sum(leg["lost"] for leg in legs),
        "duplicated_commands": sum(leg["duplicated_commands"] for leg in legs),
        "commands": sum(leg["commands"] for leg in legs),
        "acknowledged": sum(leg["acknowledged"] for leg in legs),
        "gathered": sum(leg["gathered"] for leg in legs),
        "equal_to_truth": all(leg["equal_to_truth"] for leg in legs),
        "ledger_balanced": all(leg["ledger_balanced"] for leg in legs),
        "monotone": all(leg["monotone"] for leg in legs),
        "unbalanced_polls": sum(leg["unbalanced_polls"] for leg in legs),
        "polls": sum(leg["polls"] for leg in legs),
        "published_all": all(leg["published_all"] for leg in legs),
        "kinds": by_kind(faults),
        "skipped": dict(skipped),
        "failed": failed,
        "legs": dict(found),
    }
    if apart is not None:
        report["broker_kill"] = {
            **by_kind(apart["faults"])["kill_broker"],
            "acknowledged_by_the_broker_and_forgotten": apart["lost"],
            "ledger_balanced": apart["ledger_balanced"],
            "equal_to_truth_of_the_rest": apart["equal_to_truth"],
            "monotone": apart["monotone"],
            "leg": apart,
        }
    report["passed"] = passed(report)
    return report


def passed(report: Mapping[str, Any]) -> bool:
    broker = report.get("broker_kill", {})
    return bool(
        not report["failed"]
        and report["faults"]
        and report["lost"] == 0
        and report["duplicated_commands"] == 0
        and report["unrecovered"] == 0
        and report["unbalanced_polls"] == 0
        and all(report[key] for key in ("equal_to_truth", "ledger_balanced", "monotone", "published_all"))
        and broker.get("ledger_balanced", True)
        and broker.get("equal_to_truth_of_the_rest", True)
        and broker.get("recovered", 0) == broker.get("count", 0)
    )
