"""The pure parts of runtime and store load neither Ray, nor an MQTT client, nor SQL, nor pandas."""

from __future__ import annotations

import subprocess
import sys

PURE = (
    "twin_actors.runtime.packing",
    "twin_actors.runtime.holder",
    "twin_actors.runtime.routing",
    "twin_actors.runtime.placement",
    "twin_actors.runtime.fleets",
    "twin_actors.runtime.clock",
    "twin_actors.runtime.plan",
    "twin_actors.runtime.cityview",
    "twin_actors.runtime.council",
    "twin_actors.runtime.card",
    "twin_actors.runtime.metrics",
    "twin_actors.runtime.processes",
    "twin_actors.store",
)
HEAVY = ("ray", "paho", "amqtt", "sqlite3", "psycopg", "pandas")


def test_pure_parts_load_nothing_heavy() -> None:
    program = (
        f"import importlib, sys\nfor name in {PURE!r}: importlib.import_module(name)\n"
        "from twin_actors.scenario.catalogue import load_catalogue\nload_catalogue()\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
