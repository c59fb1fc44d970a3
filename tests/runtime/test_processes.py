"""Cities as processes: they outlive their launcher, are found again by others, and end exactly, beside one another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from twin_actors.runtime import local
from twin_actors.runtime.city import City
from twin_actors.runtime.placement import ACTOR_BYTES, LaunchRefused
from twin_actors.runtime.processes import Record, Running, end_tree, remove_ray_folder
from twin_actors.scenario import load_scenario
from twin_actors.testing.live import eventually
from twin_actors.wire.broker import EmbeddedBroker
from twin_actors.wire.process_start import began_s

pytestmark = pytest.mark.timeout(180)

CITY = """
city: {city}
placement: {{entities_per_actor: 10}}
entities:
  - {{kind: footfall, name: a}}
  - {{kind: footfall, name: b}}
sources:
  - simulate: {{entities: [footfall/b], period: 1s}}
"""
LAUNCH = """
import json, sys
from twin_actors.runtime.city import City
with City.launch(sys.argv[1]) as city:
    print(json.dumps({"twins": len(city), "repr": repr(city)}))
"""
VISIT = """
import json, sys
from twin_actors.runtime.city import City, CityNotFound, LaunchRefused
from twin_actors.testing.live import devices_of, eventually

name, scenario, value = sys.argv[1], sys.argv[2], float(sys.argv[3])
said = {}
with City.connect(name) as city:
    with devices_of(city) as devices:
        devices.say("footfall/a", {"flow_pph": value})
        devices.flush()
        eventually(lambda: city["footfall/a"].reported.flow_pph == value)
    eventually(lambda: city["footfall/b"].fates["applied"] > 0)
    ledger = eventually(lambda: city.ledger() if city.ledger().in_flight == 0 else None)
    said |= {"ids": city.ids, "balanced": ledger.balanced, "a_applied": city["footfall/a"].fates["applied"]}
    said["pids"] = sorted(int(pid) for pid in city.actors()["pid"])
    try:
        City.launch(scenario)
    except LaunchRefused as refused:
        said["refused"] = str(refused)
    try:
        City.connect("atlantis")
    except CityNotFound as missing:
        said["missing"] = str(missing)
print(json.dumps(said))
"""
DOWN = """
import json, sys, time
from twin_actors.runtime.city import City, CityNotFound
City.connect(sys.argv[1]).down()
try:
    City.connect(sys.argv[1])
except CityNotFound as missing:
    print(json.dumps({"missing": str(missing)}))
"""


@dataclass(frozen=True)
class Household:
    """Everything that a launch started, as the operating system knows it."""

    record: Record
    head: frozenset[tuple[int, float]]
    broker: tuple[int, float]
    devices: tuple[int, float]

    @property
    def all(self) -> frozenset[tuple[int, float]]:
        return self.head | {self.broker, self.devices}


class Land:
    """A home for cities of its own, and the commands that people give in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.folder = folder
        self._environment = {**os.environ, "TWIN_ACTORS_HOME": str(self.home)}
        for name in ("north", "south"):
            (folder / f"{name}.yaml").write_text(CITY.format(city=name))

    def begin(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def finish(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        said, complained = process.communicate(timeout=120)
        assert process.returncode == 0, complained[-4000:]
        answer: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return answer

    def run(self, program: str, *arguments: str) -> dict[str, Any]:
        return self.finish(self.begin(program, *arguments))

    def scenario(self, name: str) -> str:
        return str(self.folder / f"{name}.yaml")

    def record(self, name: str) -> Record | None:
        return Record.load(self.home / name)

    def household(self, name: str) -> Household:
        record = self.record(name)
        assert record is not None
        assert record.head is not None
        assert record.devices is not None
        assert record.broker is not None
        head, devices = record.head.process(), record.devices.process()
        assert head is not None, "the Ray head does not live"
        assert devices is not None, "the device host does not live"
        broker = psutil.Process(record.broker["pid"])
        tree = frozenset(map(identity, [head, *head.children(recursive=True)]))
        return Household(record, tree, identity(broker), identity(devices))

    def clear(self) -> None:
        """End what a failed test has left, by the records of this home only."""
        for path in self.home.glob("*/city.json"):
            record = Record.load(path.parent)
            if record is None:
                continue
            end_tree(record.devices)
            end_tree(record.head, deadline_s=1.0)
            if record.broker is not None:
                EmbeddedBroker.attach(record.broker).stop()
            remove_ray_folder(record.ray_folder)


def identity(process: psutil.Process) -> tuple[int, float]:
    """A process id with its start, because ids are used again."""
    return process.pid, began_s(process.pid)


def alive(process: tuple[int, float]) -> bool:
    return Running(*process).process() is not None


def mentioning(text: str) -> list[str]:
    """Command lines of this machine that speak of a path, this test's own aside."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        line = " ".join(process.info["cmdline"] or ())
        if text in line and process.info["pid"] != os.getpid():
            found.append(line[:200])
    return found


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Land]:
    """Two cities, launched at the same time by two processes that have ended since."""
    land = Land(tmp_path_factory.mktemp("land"))
    try:
        launches = [land.begin(LAUNCH, land.scenario(name)) for name in ("north", "south")]
        for launched in launches:
            answer = land.finish(launched)
            assert answer["twins"] == 2
            assert "2 twins in 1 kinds" in answer["repr"]
        yield land
    finally:
        land.clear()


def test_another_process_finds_the_city_and_its_devices_go_on(land: Land) -> None:
    before = land.household("north")
    first = land.run(VISIT, "north", land.scenario("north"), "4321")
    assert first["ids"] == ["footfall/a", "footfall/b"]
    assert first["balanced"]
    assert set(first["pids"]) <= {pid for pid, _ in before.head}
    assert first["refused"].startswith("a city called 'north' is running already: end it with 'twin-actors down north'")
    assert "no city called 'atlantis' runs here (running: north, south)" in first["missing"]
    again = land.run(VISIT, "north", land.scenario("north"), "1234")
    assert again["a_applied"] == first["a_applied"] + 1, "a visit changes nothing by its end"
    assert again["pids"] == first["pids"]
    assert land.household("north").record == before.record


def test_records_are_for_their_owner_only(land: Land) -> None:
    for name in ("north", "south"):
        assert (land.home / name).stat().st_mode & 0o077 == 0
        assert (land.home / name / "city.json").stat().st_mode & 0o077 == 0


def test_down_ends_exactly_what_the_launch_started(land: Land, tmp_path: Path) -> None:
    north, south = land.household("north"), land.household("south")
    assert not north.all & south.all
    assert north.record.ray_folder != south.record.ray_folder
    assert Path(north.record.ray_folder).is_dir()
    bystander = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        with EmbeddedBroker(tmp_path / "other") as other_broker:
            answer = land.run(DOWN, "north")
            assert "no city called 'north' runs here (running: south)" in answer["missing"]
            assert bystander.poll() is None
            assert other_broker.running
    finally:
        bystander.communicate(timeout=10)

    gone = eventually(lambda: not any(map(alive, north.all)), within_s=10.0, says="the processes of north end")
    assert gone
    assert not Path(north.record.ray_folder).exists()
    assert mentioning(north.record.ray_folder) == []
    assert mentioning(str(land.home / "north")) == []
    assert land.record("north") is None
    assert all(map(alive, (*south.head, south.broker, south.devices))), "south goes on"
    assert land.run(VISIT, "south", land.scenario("south"), "77")["balanced"]

    launched = land.run(LAUNCH, land.scenario("north"))
    assert launched["twins"] == 2
    land.run(DOWN, "north")
    land.run(DOWN, "south")
    assert eventually(lambda: not any(map(alive, south.all)), within_s=10.0, says="the processes of south end")
    assert not Path(south.record.ray_folder).exists()


def test_a_city_too_large_for_the_machine_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, path = tmp_path / "home", tmp_path / "vast.yaml"
    monkeypatch.setenv("TWIN_ACTORS_HOME", str(home))
    path.write_text(
        "city: vast\nplacement: {entities_per_actor: 1}\n"
        'entities:\n  - {kind: footfall, pattern: "f-{n}", count: 100000}\n'
    )
    scenario = load_scenario([path])
    before = {identity(child) for child in psutil.Process().children(recursive=True)}
    with pytest.raises(LaunchRefused) as refused:
        City.launch(scenario)
    said = str(refused.value)
    megabytes, total = ACTOR_BYTES / 1e6, 100_000 * ACTOR_BYTES / 1e9
    assert f"100,000 twin actors × {megabytes:.0f} MB + " in said
    assert any(f"= {total + rest / 10:.1f} GB" in said for rest in range(100)), said
    assert "GB free" in said
    assert "placement: {entities_per_actor: " in said
    assert str(path) in said
    advised = int(said.partition("entities_per_actor: ")[2].partition("}")[0])
    assert advised > 100
    assert not home.exists()
    assert {identity(child) for child in psutil.Process().children(recursive=True)} <= before


def test_a_city_that_does_not_exist_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIN_ACTORS_HOME", str(tmp_path))
    with pytest.raises(local.CityNotFound, match=r"no city called 'lisbon' runs here \(running: none\)"):
        City.connect("lisbon")
