"""kill -9 of everything a city consists of, in the middle of load, and a second launch: it goes on where it stopped."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.chaos.load import read_file, scenario_text
from tests.chaos.publisher import Load
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.processes import Record, end_tree, remove_ray_folder
from twin_actors.testing.live import eventually
from twin_actors.wire.broker import EmbeddedBroker, find_mosquitto, free_port

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed: amqtt keeps nothing on disk"),
]

NAME = "phoenix"
SEED = 7
TWINS, RATE = 40, 200.0
FORGETTING_S = 3.0
"""How long before its death a killed broker's acknowledgements are worth nothing: what it had not passed on yet."""

LAUNCH = """
import json, sys
from dataclasses import asdict
from twin_actors.runtime.city import City
with City.launch(sys.argv[1]) as city:
    print(json.dumps(asdict(city.ledger())))
"""
LEDGER = """
import json, sys
from dataclasses import asdict
from twin_actors.runtime.city import City
with City.connect(sys.argv[1]) as city:
    print(json.dumps(asdict(city.ledger())))
"""
DOWN = """
import sys
from twin_actors.runtime.city import City
City.connect(sys.argv[1]).down()
print("{}")
"""


class Place:
    """A home with one city, and commands given to it by processes of their own: none of them must outlive a head."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.city = folder / "home" / NAME
        self.environment = {**os.environ, "TWIN_ACTORS_HOME": str(folder / "home")}
        self.scenario = folder / f"{NAME}.yaml"
        text = scenario_text(NAME, twins=TWINS, per_actor=20, policies=False)
        self.scenario.write_text(text.replace("embedded: mosquitto", f"embedded: mosquitto, port: {free_port()}"))

    def run(self, *words: str, told: str = "") -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, *words], input=told, capture_output=True, text=True, env=self.environment, timeout=150
        )
        assert done.returncode == 0, done.stderr[-4000:]
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer

    @property
    def plan(self) -> CityPlan:
        return CityPlan.load(self.city)

    @property
    def record(self) -> Record:
        record = Record.load(self.city)
        assert record is not None
        return record

    def processes(self, *, with_broker: bool) -> list[psutil.Process]:
        """Ray's head with all its descendants, the device host, and the broker if wanted."""
        found: list[psutil.Process] = []
        for running in (self.record.head, self.record.devices):
            root = running.process() if running is not None else None
            if root is not None:
                found += [root, *root.children(recursive=True)]
        broker = self.record.broker
        assert broker is not None
        return [*found, psutil.Process(broker["pid"])] if with_broker else found

    def clear(self) -> None:
        record = Record.load(self.city)
        if record is None:
            return
        end_tree(record.devices)
        end_tree(record.head)
        remove_ray_folder(record.ray_folder)
        if record.broker is not None:
            EmbeddedBroker.attach(record.broker).stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    try:
        yield place
    finally:
        place.clear()


@contextlib.contextmanager
def load_on(place: Place) -> Iterator[Load]:
    plan = place.plan
    load = Load(
        place.folder / "published", reach=plan.broker, root=plan.scenario.root,
        entities=[entity.id for entity in plan.scenario.entities], rate=RATE, seed=SEED,
    )  # fmt: skip
    try:
        yield load
    finally:
        load.kill()


def logged(place: Place) -> int:
    """How many inputs are in the router's log, as a reader of the store sees it."""
    store = place.plan.open_store()
    try:
        return store.log("router").next_offset
    finally:
        store.close()


@pytest.mark.parametrize(
    "with_broker",
    [False, pytest.param(True, marks=pytest.mark.slow)],  # the longer one; chaos restarts brokers in the quick run too
    ids=["all_but_the_broker", "all"],
)
def test_a_killed_city_resumes_and_its_ledger_balances(place: Place, with_broker: bool) -> None:
    first = place.run("-c", LAUNCH, str(place.scenario))
    assert first["received"] == 0
    with load_on(place) as load:
        eventually(lambda: logged(place) > 1_000, within_s=60.0, says="a thousand readings are in the log")
        before = place.run("-c", LEDGER, NAME)
        killed_s = time.time()
        doomed = place.processes(with_broker=with_broker)
        assert len(doomed) > 5
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, timeout=20.0)
        in_log = logged(place)

        again = place.run("-c", LAUNCH, str(place.scenario))
        for fate in ("received", "applied", "duplicate", "late", "dead_lettered", "shed"):
            assert again[fate] >= before[fate], (fate, before, again)
        eventually(lambda: logged(place) > in_log + 500, within_s=60.0, says="readings flow again")
        assert load.stop(), "everything published was acknowledged in the end"

    orders = {
        "city": NAME, "file": str(load.path), "seed": SEED, "from_log": False, "forgetful_broker": with_broker,
    }  # fmt: skip
    found = place.run("-m", "tests.chaos.reckoning", told=json.dumps(orders) + "\n")
    assert found["ledger_balanced"], found
    assert found["equal_to_truth"], found["differences_shown"]
    if with_broker:
        # what a killed Mosquitto has acknowledged and not delivered is gone; the city itself has lost nothing
        if found["lost"]:
            assert found["lost_first_acknowledged_s"] > killed_s - FORGETTING_S, found
    else:
        assert found["lost"] == 0, found["lost_shown"]
    assert found["acknowledged"] == sum(1 for _ in read_file(load.path, SEED))
    place.run("-c", DOWN, NAME)
