"""How long a twin's readings wait while its actor moves, and how long a rebalance takes; three raylets on one machine.

``python -m benchmarks.moves [--actors 24] [--rate 200] [--json FILE]``

The peer is the same city with its actors killed (kill -9) instead of moved: what a node that simply ends would cost.
A wait is the longest time during which readings had arrived for a twin actor and none of them was applied, as its
router tells it every few hundredths of a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos.load import scenario_text
from tests.chaos.nodes import Nodes
from tests.chaos.watching import sights
from twin_actors.runtime.city import City
from twin_actors.scenario import load_scenario
from twin_actors.testing.live import devices_of, eventually
from twin_actors.testing.postgres import postgres_server
from twin_actors.wire.broker import EmbeddedBroker

LOOK_S = 0.02


class Waits:
    """For every twin actor the longest time that readings which had arrived were not applied."""

    def __init__(self, city: City) -> None:
        self._city = city
        self._behind_since: dict[str, float] = {}
        self._applied: dict[str, int] = {}
        self.longest: dict[str, float] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Waits:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        while not self._ending.wait(LOOK_S):
            now = time.monotonic()
            for name, line in self._city.status()["router"]["actors"].items():
                moved_on = line["applied"] != self._applied.get(name)
                self._applied[name] = line["applied"]
                if moved_on or line["received"] <= line["applied"]:
                    since = self._behind_since.pop(name, None)
                    if since is not None:
                        self.longest[name] = max(self.longest.get(name, 0.0), now - since)
                if line["received"] > line["applied"]:
                    self._behind_since.setdefault(name, now)


class Telling:
    """Readings of all entities in turn, at a rate, QoS 1, until the block ends."""

    def __init__(self, city: City, rate: float) -> None:
        self._city, self._rate, self.said = city, rate, 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Telling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(60.0)

    def _run(self) -> None:
        ids = [entity for entity in self._city.ids if entity.startswith("footfall/")]
        with devices_of(self._city) as devices:
            began = time.monotonic()
            while not self._ending.wait(0.01):
                while self.said < (time.monotonic() - began) * self._rate:
                    devices.say(ids[self.said % len(ids)], {"flow_pph": 500 + self.said % 100})
                    self.said += 1
            devices.flush()


def measure(actors: int, rate: float) -> list[dict[str, Any]]:
    """Rows: name, value, unit, peer, ratio."""
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(Nodes(apart=False, memory=max(600_000_000, actors * 65_000_000)))
        server = stack.enter_context(postgres_server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moves-")))
        os.environ["TWIN_ACTORS_HOME"] = str(folder / "home")
        broker = stack.enter_context(EmbeddedBroker(folder / "broker", kind="mosquitto"))
        text = scenario_text(
            "moves", twins=actors * 4, per_actor=4, policies=False, store=server.url("moves"), cluster=nodes.address,
            broker=f"mqtt://{broker.address.host}:{broker.address.port}",
        )  # fmt: skip
        path = folder / "moves.yaml"
        path.write_text(text.replace("per_actor: 4", "per_actor: 4, rebalance: manual"))
        city = City.launch(load_scenario([path]))
        stack.callback(city.down)
        telling = stack.enter_context(Telling(city, rate))
        eventually(lambda: city.ledger().applied > rate, within_s=30)
        with Waits(city) as calm:
            time.sleep(5.0)  # the length of a measurement

        nodes.add_worker()
        eventually(lambda: len(city.nodes()) == 3, within_s=10)
        with Waits(city) as waits:
            began = time.monotonic()
            moved = city.rebalance(deadline_s=600)
            took_s = time.monotonic() - began
        stayed = [wait for name, wait in waits.longest.items() if name not in set(moved["actor"])]

        names = list(moved["actor"])[:2]
        before = {name: sight.pid for name, sight in sights(city, names).items()}
        with Waits(city) as killed:
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: all(city.status()["router"]["actors"][name]["epoch"] > 2 for name in names), within_s=30)
            eventually(lambda: all(name in killed.longest for name in names), within_s=30)
            time.sleep(1.0)  # the last of them may still be behind

        leaving = nodes.workers[-1]
        held = int(city.nodes().loc[leaving.ray_id, "actors"])
        began = time.monotonic()
        leaving.leave()
        eventually(lambda: not leaving.lives, within_s=60)
        left_s = time.monotonic() - began
        telling.__exit__()
        ledger = eventually(lambda: _settled(city, telling.said), within_s=60, says="all readings applied")
        assert ledger.applied == telling.said, ledger

    by_move = [waits.longest.get(name, 0.0) for name in moved["actor"]]
    by_kill = [killed.longest.get(name, 0.0) for name in names]
    rows = [
        ("longest wait of a moved twin's readings", max(by_move), "s", "after kill -9", max(by_kill)),
        ("longest wait of a twin's readings that stayed", max(stayed, default=0.0), "s", "no moves at all",
         max(calm.longest.values(), default=0.0)),
        (f"rebalance of {len(moved)} of {actors} twin actors", took_s, "s", None, None),
        ("one move, of two at a time", float(moved["waited_s"].mean()), "s", None, None),
        (f"SIGTERM to the end of a node with {held} twin actors", left_s, "s", "Ray's deadline", 30.0),
    ]  # fmt: skip
    return [
        {"name": name, "value": round(value, 3), "unit": unit, "peer": peer,
         "ratio": round(value / other, 3) if other else None}
        for name, value, unit, peer, other in rows
    ]  # fmt: skip


def _settled(city: City, said: int) -> Any:
    ledger = city.ledger()
    return ledger if ledger.received >= said and not ledger.in_flight and ledger.balanced else None  # type: ignore[union-attr]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, default=24)
    parser.add_argument("--rate", type=float, default=200.0, help="readings a second")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    rows = measure(options.actors, options.rate)
    for row in rows:
        peer = f"   {row['ratio']:.2f} of {row['peer']}" if row["ratio"] is not None else ""
        print(f"{row['name']:<55} {row['value']:>8.2f} {row['unit']}{peer}")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
