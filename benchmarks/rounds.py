"""What a gateway's message costs its twin actor, by whom it speaks for and how many messages are applied together.

    python benchmarks/rounds.py --json

A twin actor applies a batch in rounds: the k-th reading of every entity of all messages in it is one vectorised step,
so a batch takes as many rounds as one entity has readings in it. Messages of 100 readings of 100 entities, of 10, and
of one (a device that catches up), as many of them to a batch as wait for the actor together. One core, no broker, no
Ray: the batches are those that a router sends, from packed bytes to applied; medians of runs in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

KIND, FIELD = "footfall", "flow_pph"
READINGS = 100
TWINS = 5_000
FIRST_MS = 1_780_000_000_000.0


def numbers_of(message: int, spread: int) -> np.ndarray:
    """The entities of one message's readings: ``spread`` of them in turn."""
    return ((message * spread + np.arange(READINGS) % spread) % TWINS).astype(np.int32)


def batches(spread: int, messages: int, together: int) -> list[bytes]:
    """Packed batches of ``together`` messages each, as they go to a twin actor."""
    from twin_actors.core.bundle import Bundle
    from twin_actors.runtime.packing import bundled, pack

    said = np.zeros(TWINS)
    packed: list[bytes] = []
    after = -1
    for begin in range(0, messages, together):
        deliveries = []
        for message in range(begin, min(begin + together, messages)):
            numbers = numbers_of(message, spread)
            ts_ms = np.empty(READINGS)
            for place, number in enumerate(numbers.tolist()):
                said[number] += 60_000.0
                ts_ms[place] = FIRST_MS + said[number]
            values = 400.0 + (message * READINGS + np.arange(READINGS)) % 7
            bundle = Bundle(((FIELD, 0),), numbers, ts_ms, values[None])
            elements = np.arange(READINGS, dtype=np.int32)
            deliveries.append(bundled(message * READINGS, 0, FIRST_MS / 1e3 + 1e7, bundle, elements))
        packed.append(pack(1, after, deliveries))
        after = deliveries[-1].offset
    return packed


def apply(plan: Any, packed: Sequence[bytes]) -> tuple[float, float]:
    """(CPU µs a reading, rounds a batch) of fresh twins that take all batches."""
    from twin_actors.core.inputs import rounds
    from twin_actors.runtime.packing import unpack

    holder = plan()
    began = time.process_time()
    for blob in packed:
        assert holder.apply(blob).ok
    took_s = time.process_time() - began
    applied = holder.outcomes().applied
    assert applied == sum(len(unpack(blob).offsets) for blob in packed), holder.outcomes()
    steps = [len(rounds(unpack(blob).places)) for blob in packed]
    return took_s / applied * 1e6, statistics.mean(steps)


def measure(messages: int, runs: int) -> dict[str, Any]:
    from twin_actors.runtime.plan import holder_of
    from twin_actors.scenario import load_catalogue, load_scenario

    path = Path(tempfile.mkdtemp()) / "rounds.yaml"
    path.write_text(f'city: rounds\nentities:\n  - {{kind: {KIND}, pattern: "e-{{n:05d}}", count: {TWINS}}}\n')
    scenario, catalogue = load_scenario([path]), load_catalogue()

    def plan() -> Any:
        return holder_of(list(scenario.entities), scenario, catalogue, epoch=1, incarnation="rounds")

    cases = {
        (spread, together): batches(spread, messages, together) for spread in (100, 10, 1) for together in (1, 10, 40)
    }
    found: dict[tuple[int, int], list[tuple[float, float]]] = {case: [] for case in cases}
    for _ in range(runs):
        for case, packed in cases.items():
            found[case].append(apply(plan, packed))
    return {
        "kind": KIND,
        "readings_per_message": READINGS,
        "messages": messages,
        "cases": [
            {
                "entities_per_message": spread,
                "messages_per_batch": together,
                "rounds_per_batch": found[spread, together][0][1],
                "us_per_reading": statistics.median(us for us, _ in found[spread, together]),
            }
            for spread, together in cases
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=80, help="messages of 100 readings a run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    result = measure(arguments.messages, arguments.runs)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{'entities a message':>20}{'messages a batch':>20}{'rounds a batch':>16}{'µs a reading':>15}")
    for case in result["cases"]:
        print("{:>20}{:>20}{:>16.0f}{:>15.1f}".format(*case.values()))


if __name__ == "__main__":
    main()
