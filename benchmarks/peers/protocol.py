"""How a peer speaks with the harness: words on the command line, "ready" and one line of JSON on stdout."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping

SILENCE_S = 10.0
"""A peer that has heard nothing for so long takes the rest for lost, and says how many came."""


def arguments(doc: str | None, **more: list[str]) -> argparse.Namespace:
    """host, port, topic, count and qos, and options with their choices."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("topic")
    parser.add_argument("count", type=int)
    parser.add_argument("qos", type=int)
    parser.add_argument("--latencies", action="store_true", help="time each reading from its ts to its twin")
    for name, choices in more.items():
        parser.add_argument(f"--{name}", choices=choices, default=choices[0])
    return parser.parse_args()


def say_ready() -> None:
    print("ready", flush=True)


def say_done(
    *, ended: float, seen: int, cpu_s: float, flows: Mapping[str, float], latencies_ms: list[float] | None = None
) -> None:
    """When the last reading was in its twin, how many came, and every twin's flow for the check."""
    answer: dict[str, object] = {"ended": ended, "seen": seen, "cpu_s": cpu_s, "flows": dict(flows)}
    if latencies_ms:
        ranked = sorted(latencies_ms)
        answer |= {f"p{q}_ms": ranked[min(len(ranked) - 1, len(ranked) * q // 100)] for q in (50, 99)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


class Counted:
    """How many readings have come, when the last one did, and whether it was the last of all."""

    __slots__ = ("count", "ended", "seen")

    def __init__(self, count: int) -> None:
        self.count, self.seen, self.ended = count, 0, 0.0

    def silent(self, before: int) -> bool:
        """Nothing has come since ``before`` were seen, though something had come."""
        return self.seen == before > 0

    def finished(self) -> bool:
        return self.seen >= self.count

    def mark(self) -> None:
        self.ended = time.time()
