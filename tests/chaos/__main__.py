"""``python -m tests.chaos --faults 200 --seed 1 --json``: kill, freeze and cut, then count what is lost."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from tests.chaos import runner
from twin_actors.wire.broker import find_mosquitto


def skipped_here(legs: list[str]) -> dict[str, str]:
    """Faults that this machine cannot make, with the reason."""
    from tests.chaos.nodes import why_no_network

    reason = why_no_network() if "d" in legs else ""
    return {"cut_network": reason} if reason else {}


def possible(legs: list[str]) -> dict[str, str]:
    """Legs that cannot run here, with the reason."""
    from twin_actors.testing.postgres import why_not

    reason = why_not()
    return {"d": reason} if "d" in legs and reason else {}


def show(report: dict[str, Any]) -> None:
    print(f"{'fault':<28}{'count':>6}{'p50 s':>8}{'p95 s':>8}{'max s':>8}{'overlap s':>11}", file=sys.stderr)
    lines = dict(report["kinds"])
    if "broker_kill" in report:
        lines["kill_broker (apart)"] = report["broker_kill"]
    for kind, line in lines.items():
        numbers = [line[key] if line[key] is not None else float("nan") for key in
                   ("recovery_p50_s", "recovery_p95_s", "recovery_max_s", "overlap_max_s")]  # fmt: skip
        print(f"{kind:<28}{line['count']:>6}" + "{:>8.1f}{:>8.1f}{:>8.1f}{:>11.2f}".format(*numbers), file=sys.stderr)
    print(
        f"{report['faults']} faults, {report['acknowledged']:,} readings acknowledged, {report['gathered']:,} of them "
        f"in messages of gateways: {report['lost']} lost, "
        f"{report['duplicated_commands']} of {report['commands']} commands twice, equal to truth: "
        f"{report['equal_to_truth']}, ledger balanced: {report['ledger_balanced']}, monotone: {report['monotone']}",
        file=sys.stderr,
    )
    if "broker_kill" in report:
        forgotten = report["broker_kill"]["acknowledged_by_the_broker_and_forgotten"]
        print(f"the killed broker forgot {forgotten} readings that it had acknowledged", file=sys.stderr)
    print("PASSED" if report["passed"] else "FAILED", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=12, help="how many, over all legs (default 12)")
    parser.add_argument("--seed", type=int, default=1, help="which faults, where, and what is said (default 1)")
    parser.add_argument("--legs", default="a,b,c,d", help="; ".join(f"{k}: {v.says}" for k, v in runner.LEGS.items()))
    parser.add_argument("--broker-kills", type=int, help="kill -9 of the broker, in a leg apart (default: faults / 20)")
    parser.add_argument("--json", action="store_true", help="print the whole account as JSON on standard output")
    options = parser.parse_args()
    legs = [leg for leg in options.legs.split(",") if leg]
    unknown = set(legs) - set(runner.LEGS)
    if unknown or not legs or options.faults < len(legs):
        parser.error(f"legs are {', '.join(runner.LEGS)}, and each takes one fault at least")
    if find_mosquitto() is None:
        print("chaos runs need Mosquitto (Debian, Ubuntu: apt install mosquitto)", file=sys.stderr)
        return 2
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    impossible = possible(legs)
    for leg, reason in impossible.items():
        print(f"leg {leg} is left out: {reason}", file=sys.stderr)
        legs.remove(leg)
    skipped = skipped_here(legs)
    kills = max(1, options.faults // 20) if options.broker_kills is None else options.broker_kills
    report = runner.run(faults=options.faults, seed=options.seed, legs=legs, broker_kills=kills, skipped=skipped)
    report["legs_left_out"] = impossible
    show(report)
    if options.json:
        print(json.dumps(report, indent=1))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
