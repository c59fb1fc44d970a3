"""One day of each public recording through a living city: its twins are those computed from the file without a city."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from twin_actors.core.ledger import Ledger
from twin_actors.runtime.plan import attribute_matrix
from twin_actors.runtime.recording import entity_name
from twin_actors.runtime.replay import Recording, load_replay, messages, play
from twin_actors.scenario import Scenario, load_scenario
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.testing.live import columns_of, devices_of, living, same_twin, settled, twins_inside
from twin_actors.testing.offline import offline_twins
from twin_actors.wire.broker import find_mosquitto

DATA = Path(os.environ.get("TWIN_ACTORS_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
pytestmark = [
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.skipif(
        not DATA.is_dir(), reason=f"no public recordings in {DATA}: set TWIN_ACTORS_DATA to their folder"
    ),
    pytest.mark.timeout(240),
]
MOSQUITTO = pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed")
SETS = ("beijing", "metr_la", "ett", "melbourne")
GATEWAY = 5
"""Readings per message where a gateway collects them."""

HEAD = """
city: {city}
clock: {{mode: events}}
broker: {{embedded: {broker}}}
placement: {{entities_per_actor: {per_actor}}}
entities:
"""
BEIJING = """
  - replay:
      file: "{file}"
      kind: air_station
      entity: {{column: station, lower: true}}
      time: {{columns: {{year: year, month: month, day: day, hour: hour}}, zone: Asia/Shanghai}}
      fields:
        PM2.5: pm25_ugm3
        PM10: pm10_ugm3
        SO2: so2_ugm3
        NO2: no2_ugm3
        CO: {{field: co_mgm3, factor: 0.001}}
        O3: o3_ugm3
        TEMP: temp_c
        WSPM: wind_ms
      speed: max
      start: 2014-03-01T00:00:00+08:00
      end: 2014-03-02T00:00:00+08:00
"""
METR_LA = """
  - replay:
      file: "{file}"
      kind: road
      time: {{column: timestamp, zone: America/Los_Angeles}}
      wide: {{field: speed_kmh, unit: mph}}
      speed: max
      start: 2012-03-02T00:00:00-08:00
      end: 2012-03-03T00:00:00-08:00
"""
# The source names no unit of HUFL; doubled, its peaks are those of the default transformer.
ETT = """
  - replay:
      file: "{file}"
      kind: substation
      entity: {{name: north}}
      time: {{column: date, zone: Asia/Shanghai}}
      fields:
        HUFL: {{field: load_mw, factor: 2.0}}
        OT: oil_temp_c
      speed: max
      start: 2016-07-01T00:00:00+08:00
      end: 2016-07-02T00:00:00+08:00
"""
MELBOURNE = """
  - replay:
      file: "{file}"
      kind: footfall
      time: {{column: timestamp, zone: Australia/Melbourne}}
      wide: {{field: flow_pph}}
      speed: max
      start: 2014-02-22T00:00:00+11:00
      end: 2014-02-23T00:00:00+11:00
"""


@dataclass(frozen=True, slots=True)
class Real:
    """One public set as a scenario says it: its entities and its replays."""

    kind: str
    names: tuple[str, ...]
    replays: str
    readings: int
    """Rows of the chosen day times entities; a reader that drops some is found out."""


def real(name: str) -> Real:
    if name == "beijing":
        files = sorted((DATA / "beijing_air").glob("*.csv"))
        names = tuple(file.name.partition("_")[0].lower() for file in files)
        return Real("air_station", names, "".join(BEIJING.format(file=file) for file in files), 288)
    if name == "metr_la":
        file = DATA / "metr_la" / "los_speed_first100.csv"
        return Real("road", header(file), METR_LA.format(file=file), 288 * 100)
    if name == "ett":
        return Real("substation", ("north",), ETT.format(file=DATA / "ett" / "ETTh1.csv"), 24)
    file = DATA / "melbourne_ped" / "ped_2014_hourly.csv"
    return Real("footfall", header(file), MELBOURNE.format(file=file), 24 * 12)


def header(file: Path) -> tuple[str, ...]:
    """The places that a wide file names after its time column."""
    with file.open(newline="") as text:
        return tuple(entity_name(each) for each in next(csv.reader(text))[1:])


@pytest.fixture
def scenario_of(tmp_path: Path) -> Any:
    """``scenario_of(sets, ...)``: a city that has the entities of these sets and is told nothing by itself."""

    def make(sets: Sequence[str], *, broker: str, per_actor: int | str, city: str) -> Scenario:
        chosen = [real(name) for name in sets]
        text = HEAD.format(city=city, broker=broker, per_actor=per_actor)
        text += "".join(f'  - {{kind: {one.kind}, name: "{name}"}}\n' for one in chosen for name in one.names)
        text += "sources:" + "".join(one.replays for one in chosen)
        path = tmp_path / f"{city}.yaml"
        path.write_text(text)
        return load_scenario([path])

    return make


def recordings_of(scenario: Scenario) -> list[Recording]:
    loaded = [load_replay(one, {entity.id for entity in scenario.entities}) for one in scenario.replays]
    for recording in loaded:
        assert recording.bad_rows == 0
        assert not recording.strangers
    return loaded


def expected_twins(scenario: Scenario, recordings: Sequence[Recording]) -> dict[str, dict[str, Any]]:
    """Every twin by the pure functions alone."""
    catalogue, twins = load_catalogue(), {}
    for recording in recordings:
        kind = catalogue.kinds[recording.kind]
        told = set(recording.entity.tolist())
        entities = [entity for entity in scenario.entities if entity.id in told]
        ids = [entity.id for entity in entities]
        table = offline_twins(recording, kind, ids, attribute_matrix(kind, entities))
        assert table.fates.sum() == len(recording)
        twins.update(columns_of(table.snapshot(), ids))
    return twins


def gathered(recording: Recording) -> Iterator[tuple[str, bytes]]:
    """The same readings as a gateway sends them: lists of up to five for one entity, each with its own time."""
    waiting: dict[str, list[bytes]] = {}
    for entity, _, payload in messages(recording):
        held = waiting.setdefault(entity, [])
        held.append(payload)
        if len(held) == GATEWAY:
            yield entity, b"[" + b",".join(waiting.pop(entity)) + b"]"
    for entity, held in waiting.items():
        yield entity, b"[" + b",".join(held) + b"]"


def replayed_through(scenario: Scenario, *, gateway: bool = False) -> None:
    """Replay, then compare every array of every twin, and the ledger in total and by entity."""
    recordings = recordings_of(scenario)
    total = sum(map(len, recordings))
    with living(replace(scenario, sources=())) as city:
        with devices_of(city, max_queued=2_000) as devices:

            def publish(entity: str, payload: bytes) -> bool:
                return devices.client.publish(devices.topics.telemetry(entity), payload, 1)

            sent = 0
            for recording in recordings:
                if gateway:
                    for entity, payload in gathered(recording):
                        devices.send(devices.topics.telemetry(entity), payload)
                    sent += len(recording)
                else:
                    sent += play(recording, publish, speed=None)
            devices.flush()
        assert sent == total
        ledger = settled(city, total)
        inside = twins_inside(city)
        by_entity = city.ledger(by="entity")
        newest_s = city.now_s()
        shown = city[scenario.entities[0].id]

    twins = expected_twins(scenario, recordings)
    assert inside.keys() == {entity.id for entity in scenario.entities}
    untold = inside.keys() - twins.keys()
    assert all(np.isneginf(inside[entity]["time_s"]) for entity in untold)
    for entity, twin in twins.items():
        try:
            same_twin(inside[entity], twin)
        except AssertionError as error:
            raise AssertionError(f"{entity}: {error}") from error

    applied, duplicate, late, rejected = np.sum([twin["fates"] for twin in twins.values()], axis=0).tolist()
    assert ledger == Ledger(
        received=total, applied=applied, duplicate=duplicate, late=late, dead_lettered=rejected, shed=0, in_flight=0
    )
    assert ledger.unexplained == 0
    assert ledger.balanced
    check_by_entity(by_entity, recordings)
    assert newest_s == max(recording.at_s[-1] for recording in recordings)
    first = twins[scenario.entities[0].id]
    assert shown.fates["applied"] == int(first["fates"][0])


def check_by_entity(by_entity: Mapping[str, Ledger], recordings: Sequence[Recording]) -> None:
    counts: dict[str, int] = {}
    for recording in recordings:
        for entity, count in zip(*np.unique(recording.entity.astype(str), return_counts=True), strict=True):
            counts[str(entity)] = counts.get(str(entity), 0) + int(count)
    for entity, ledger in by_entity.items():
        assert ledger.balanced, (entity, ledger)
        assert ledger.received == counts.get(entity, 0), entity


@pytest.mark.parametrize("name", SETS)
def test_a_day_holds_what_its_file_holds(name: str, scenario_of: Any) -> None:
    scenario = scenario_of([name], broker="auto", per_actor=1, city="paper")
    recordings = recordings_of(scenario)
    assert sum(len(recording) + recording.empty for recording in recordings) == real(name).readings
    times = np.concatenate([recording.at_s for recording in recordings])
    assert times.max() - times.min() < 86_400
    for recording in recordings:
        payload = next(messages(recording))[2]
        assert msgspec.json.decode(payload)["ts"] == round(recording.at_s[0] * 1e3)


def test_the_comparison_sees_a_millionth(scenario_of: Any) -> None:
    """What the tests below rest on: one value changed in its sixth place, or one reading gone, is another twin."""
    scenario = scenario_of(["ett"], broker="auto", per_actor=1, city="paper")
    (recording,) = recordings_of(scenario)
    entity = scenario.entities[0].id
    right = expected_twins(scenario, [recording])[entity]
    same_twin(expected_twins(scenario, [recording])[entity], right)
    values = recording.values.copy()
    values[0, 5] *= 1 + 1e-6
    shorter = replace(recording, entity=recording.entity[1:], at_s=recording.at_s[1:], values=recording.values[:, 1:])
    for other in (replace(recording, values=values), shorter):
        with pytest.raises(AssertionError):
            same_twin(expected_twins(scenario, [other])[entity], right)


@pytest.mark.parametrize("broker", [pytest.param("mosquitto", marks=MOSQUITTO), "amqtt"], ids=["mosquitto", "amqtt"])
def test_all_four_sets_in_one_city_packed(broker: str, scenario_of: Any) -> None:
    replayed_through(scenario_of(SETS, broker=broker, per_actor="auto", city=f"replays-{broker}"))


def test_every_station_in_an_actor_of_its_own(scenario_of: Any) -> None:
    replayed_through(scenario_of(["beijing"], broker="auto", per_actor=1, city="replays-own"))


@pytest.mark.parametrize("per_actor", [3, 7, 1000])
def test_packing_changes_nothing(per_actor: int, scenario_of: Any) -> None:
    sets = ["beijing", "ett", "melbourne"]
    replayed_through(scenario_of(sets, broker="auto", per_actor=per_actor, city=f"replays-by-{per_actor}"))


def test_lists_of_a_gateway_change_nothing(scenario_of: Any) -> None:
    replayed_through(scenario_of(SETS, broker="auto", per_actor="auto", city="replays-lists"), gateway=True)
