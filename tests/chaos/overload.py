"""Ten times what a city can take, for a minute: what its processes need, what the ledger says, when it is well again.

``python -m tests.chaos.overload --seconds 60 --json``, for QoS 0 and QoS 1. The rate that the city sustains is measured
first, in the same run: as many readings as it applies while its senders wait for it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import ray

from tests.chaos.flood import connected, publish
from tests.chaos.reckoning import ledger_at_rest
from tests.chaos.watching import NOT_NOW, Background
from twin_actors.core.ledger import Ledger
from twin_actors.runtime.city import City
from twin_actors.scenario import load_scenario
from twin_actors.testing.live import eventually
from twin_actors.wire.broker import find_mosquitto

TIMES: Final = 10
TWINS: Final = 8
"""Each in an actor of its own: such a twin takes some hundred microseconds a reading, so ten times that can be sent."""
BACKLOG: Final = 2_000
"""Readings that may wait for one twin: at some thousand a second all that wait are applied within seconds."""
BURST: Final = 20_000
BURST_S: Final = 1.0
BURST_WITHIN_S: Final = 120.0
STILL_S: Final = 2.0
CALM_FOR_S: Final = 6.0
PROBE_EVERY_S: Final = 0.25
PROBE_WITHIN_S: Final = 5.0
WELL_WITHIN_S: Final = 10.0
WATCHED_FOR_S: Final = 120.0
AT_REST_WITHIN_S: Final = 300.0
RSS_EVERY_S: Final = 0.5
PROBE: Final = "footfall/probe"


def scenario_text(name: str) -> str:
    return (
        f"city: {name}\ntick_s: 1\nplacement: {{entities_per_actor: 1}}\nbroker: {{embedded: mosquitto}}\n"
        f"limits: {{backlog: {BACKLOG}}}\nentities:\n"
        f'  - {{kind: footfall, pattern: "f-{{n:03d}}", count: {TWINS - 1}}}\n  - {{kind: footfall, name: probe}}\n'
    )


class Sending:
    """A flood in a process of its own."""

    def __init__(self, port: int, root: str, qos: int, per_s: float, seconds: float) -> None:
        words = (str(port), root, str(qos), str(per_s), str(seconds), str(TWINS - 1))
        self._seconds = seconds
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.flood", *words], stdout=subprocess.PIPE, text=True
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def result(self) -> tuple[int, float]:
        """Wait for its end. Returns (readings sent, seconds taken)."""
        said, _ = self._process.communicate(timeout=self._seconds + 120)
        if self._process.returncode:
            raise RuntimeError(f"the flood ended with {self._process.returncode}")
        sent, took_s = said.split()
        return int(sent), float(took_s)


# -- watching ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Memory:
    """The largest resident memory of every process of the city, by what it is, and of all together."""

    city: City
    largest: dict[str, int] = field(default_factory=dict)
    together: int = 0

    def look(self) -> None:
        record = self.city._record
        roots = [record.head.process() if record.head is not None else None]
        if record.broker is not None:
            roots.append(psutil.Process(record.broker["pid"]))
        total = 0
        for root in filter(None, roots):
            for process in (root, *root.children(recursive=True)):
                try:
                    name, rss = self._name(process), process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                self.largest[name] = max(self.largest.get(name, 0), rss)
                total += rss
        self.together = max(self.together, total)

    @staticmethod
    def _name(process: psutil.Process) -> str:
        title = " ".join(process.cmdline()[:1]) or process.name()
        if title.startswith("ray::"):
            return title.split()[0].removeprefix("ray::").split(".")[0]
        return process.name()


class Probe:
    """How long a reading takes from its sending until its twin has applied it."""

    def __init__(self, city: City, qos: int) -> None:
        self._city, self._qos = city, qos
        actor = next(a.name for a in city.plan.actors if city.ids.index(PROBE) in a.entities)
        self._handle = ray.get_actor(actor, namespace=f"twin-actors-{city.name}")
        self._link = connected(city.plan.broker.port)
        self._topic = f"{city.scenario.root}/{PROBE}/telemetry".encode()
        self._last_ms = 0
        self._number = 0

    def ask(self) -> float | None:
        """One probe: its delay in seconds, or None when it has not been applied in time (or was given up)."""
        self._last_ms = max(round(time.time() * 1000), self._last_ms + 1)
        self._number += 1
        payload = b'{"ts":%d,"seq":%d,"values":{"flow_pph":600}}' % (self._last_ms, self._number)
        began = time.monotonic()
        self._link.sendall(publish(self._topic, payload, self._qos, self._number % 65_535 + 1))
        if self._qos:
            self._link.settimeout(PROBE_WITHIN_S)
            self._link.recv(4)

        def newest(self: Any) -> float:
            for group in self._holder.groups:
                if PROBE in group.table.ids:
                    return float(group.table.time_s[group.table.ids.index(PROBE)])
            raise LookupError(PROBE)

        while time.monotonic() - began < PROBE_WITHIN_S:
            try:
                if ray.get(self._handle.__ray_call__.remote(newest), timeout=PROBE_WITHIN_S) >= self._last_ms / 1000:
                    return time.monotonic() - began
            except NOT_NOW:
                return None
            time.sleep(0.005)  # a pause between two looks, bounded by the deadline
        return None

    def for_a_while(self, seconds: float) -> list[float | None]:
        found = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found.append(self.ask())
            time.sleep(PROBE_EVERY_S)  # the rate of the probes
        return found

    def until_well(self, bound_s: float, within_s: float) -> float | None:
        """Seconds until three probes in a row are below a bound; None when that does not happen in time."""
        began = time.monotonic()
        good = 0
        while time.monotonic() - began < within_s:
            delay_s = self.ask()
            good = good + 1 if delay_s is not None and delay_s <= bound_s else 0
            if good == 3:
                return time.monotonic() - began
            time.sleep(0.05)  # a pause between two probes
        return None

    def close(self) -> None:
        self._link.close()


# -- one leg -------------------------------------------------------------------------------------------------------


@contextmanager
def _city(folder: Path) -> Iterator[City]:
    path = folder / "flooded.yaml"
    path.write_text(scenario_text(f"flooded-{os.getpid()}-{secrets.token_hex(2)}"))
    city = City.launch(load_scenario([path]))
    try:
        yield city
    finally:
        city.down()


def sustainable(city: City, qos: int) -> float:
    """Readings per second that the city brings to their twins: a burst, from its first arrival to its last fate.

    The first burst warms up, the second counts.
    """
    port, root = city.plan.broker.port, city.scenario.root
    per_s = 0.0
    for size in (BURST // 4, BURST):
        before = _received(city)
        sending = Sending(port, root, qos, size / BURST_S, BURST_S)
        eventually(lambda before=before: _received(city) > before, within_s=30.0, says="the burst arrives")
        began = time.monotonic()
        sent, _ = sending.result()
        end = before + sent

        per_s = sent / (_fated(city, end) - began)
    return per_s


def _fated(city: City, end: int) -> float:
    """When (monotonic) everything that came had its fate. A broker drops QoS 0 that it cannot pass on in time."""
    deadline = time.monotonic() + BURST_WITHIN_S
    before, changed_at = Ledger(), time.monotonic()
    while time.monotonic() < deadline:
        ledger = city.ledger()
        assert isinstance(ledger, Ledger)
        if ledger != before:
            before, changed_at = ledger, time.monotonic()
        if ledger.in_flight == 0 and (ledger.received >= end or time.monotonic() - changed_at > STILL_S):
            return changed_at
        time.sleep(0.02)  # a pause between two looks, bounded by the deadline
    raise TimeoutError(f"after {BURST_WITHIN_S:.0f} s not all of a burst up to {end:,} has its fate: {before}")


def _received(city: City) -> int:
    ledger = city.ledger()
    assert isinstance(ledger, Ledger)
    return ledger.received


def leg(qos: int, seconds: float, calm_s: float = CALM_FOR_S) -> dict[str, Any]:
    """Flood a city of its own at one QoS; see the module's text."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, _city(Path(folder)) as city:
        port, root = city.plan.broker.port, city.scenario.root
        probe = Probe(city, qos)
        calm = [delay for delay in probe.for_a_while(calm_s) if delay is not None]
        usual_s = statistics.quantiles(calm, n=20)[-1]
        capacity_per_s = sustainable(city, qos)
        memory = Memory(city)
        memory.look()
        before = dict(memory.largest)
        unbalanced: list[str] = []

        def look() -> None:
            memory.look()
            try:
                ledger = city.ledger()
            except NOT_NOW:
                return
            assert isinstance(ledger, Ledger)
            if not ledger.balanced:
                unbalanced.append(str(ledger))

        with Background(look, RSS_EVERY_S):
            sending = Sending(port, root, qos, capacity_per_s * TIMES, seconds)
            under_flood = []
            while sending.running:
                under_flood.append(probe.ask())
                time.sleep(PROBE_EVERY_S)  # the rate of the probes
            sent, took_s = sending.result()
            well_s = probe.until_well(max(2 * usual_s, 0.25), WATCHED_FOR_S)
            ledger = ledger_at_rest(city, 0, within_s=AT_REST_WITHIN_S)
        probe.close()
        status = city.status()["router"]
        return {
            "qos": qos,
            "seconds": round(took_s, 1),
            "sustained_per_s": round(capacity_per_s),
            "offered_per_s": round(sent / took_s),
            "times_sustained": round(sent / took_s / capacity_per_s, 1),
            "sent": sent,
            "ledger": ledger.to_dict(),
            "unbalanced_looks": unbalanced[:5],
            "dropped_by_the_broker": status.get("broker_dropped"),
            "usual_latency_p95_s": round(usual_s, 4),
            "probes_under_flood": len(under_flood),
            "probes_lost_or_late": sum(delay is None for delay in under_flood),
            "well_again_after_s": None if well_s is None else round(well_s, 2),
            "rss_mb_before": {name: round(rss / 1e6) for name, rss in sorted(before.items())},
            "rss_mb_largest": {name: round(rss / 1e6) for name, rss in sorted(memory.largest.items())},
            "rss_mb_all_largest": round(memory.together / 1e6),
        }


def run(seconds: float, qos_levels: list[int], calm_s: float) -> dict[str, Any]:
    legs = [leg(qos, seconds, calm_s) for qos in qos_levels]
    return {
        "seconds": seconds,
        "legs": legs,
        "balanced": all(each["ledger"]["balanced"] and not each["unbalanced_looks"] for each in legs),
        "well_in_time": all((each["well_again_after_s"] or 1e9) <= WELL_WITHIN_S for each in legs),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--qos", default="0,1", help="levels, each a leg of its own (default 0,1)")
    parser.add_argument("--calm", type=float, default=CALM_FOR_S, help="seconds of probing before the flood")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if find_mosquitto() is None:
        print("the overload run needs Mosquitto (Debian, Ubuntu: apt install mosquitto)", file=sys.stderr)
        return 2
    report_to = os.dup(1)
    os.dup2(2, 1)  # whatever Ray prints must not stand between the figures
    with tempfile.TemporaryDirectory(prefix="chaos-home-") as home:
        os.environ["TWIN_ACTORS_HOME"] = home
        report = run(options.seconds, [int(level) for level in options.qos.split(",")], options.calm)
    for each in report["legs"]:
        print(
            f"QoS {each['qos']}: {each['offered_per_s']:,}/s offered, {each['times_sustained']} × the sustained "
            f"{each['sustained_per_s']:,}/s; largest process "
            f"{max(each['rss_mb_largest'].items(), key=lambda item: item[1])} MB; well again after "
            f"{each['well_again_after_s']} s; {each['ledger']}",
            file=sys.stderr,
        )
    if options.json:
        with os.fdopen(report_to, "w") as output:
            output.write(json.dumps(report, indent=1) + "\n")
    return 0 if report["balanced"] else 1


if __name__ == "__main__":
    sys.exit(main())
