"""Scenario files as users write them: what a good one means, and what a broken one makes the user read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

from twin_actors.scenario import Catalogue, Scenario, ScenarioError, attribute_columns, load_scenario, schema
from twin_actors.scenario.model import FieldMap

HERE = Path(__file__).parent
BROKEN = sorted((HERE / "broken").glob("*.yaml"))
FULL = HERE / "data" / "full.yaml"
Write = Callable[[str, str], Path]
ARENA = "entities: [{kind: venue, name: arena, attributes: {area_m2: 9000}}]\n"


def _expected(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# expect: ") for line in lines if line.startswith("# expect: ")]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_there_are_many_broken_files() -> None:
    assert len(BROKEN) >= 34


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_file_says_what_to_put_right(path: Path, catalogue: Catalogue) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path, catalogue=catalogue)
    said = str(caught.value)
    expected = _expected(path)
    assert expected, "a broken scenario says in its first lines what the user must read"
    for words in expected:
        assert words in said
    # One hint stands in its own line of expectations: so there are never more problems than expectations.
    assert len(caught.value.problems) <= len(expected), said


def test_problems_come_in_the_order_of_the_file(catalogue: Catalogue) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(HERE / "broken" / "everything.yaml", catalogue=catalogue)
    lines = [problem.line for problem in caught.value.problems]
    assert lines == sorted(lines)
    assert all(problem.file.endswith("everything.yaml") for problem in caught.value.problems)


@pytest.fixture(scope="module")
def full(catalogue: Catalogue) -> Scenario:
    return load_scenario(FULL, catalogue=catalogue)


def test_entities_of_all_four_forms(full: Scenario) -> None:
    assert full.kinds_used() == ("air_station", "intersection", "venue")
    by_id = {entity.id: entity for entity in full.entities}
    assert len(by_id) == 11
    assert by_id["venue/quay"].tags == {"district": "5"}
    assert by_id["venue/hall"].attributes == {"area_m2": 2000.0, "doors": 6.0}
    assert (by_id["venue/hall"].lat_deg, by_id["venue/hall"].lon_deg) == pytest.approx((53.2, 9.1))
    crossing = by_id["intersection/n-0005"]
    assert crossing.attributes == {"lanes": (1.0, 2.0, 1.0), "saturation_vph": (1800.0, 3600.0, 1800.0)}
    assert crossing.tags == {"district": "d1", "line": "5"}
    assert crossing.lat_deg == pytest.approx(53.5 + 250 / 111_195, abs=1e-6)
    assert crossing.lon_deg == pytest.approx(9.9 + 250 / 111_195 / np.cos(np.radians(53.5)), abs=1e-6)
    assert by_id["air_station/dongsi"].attributes == {"background_ugm3": 9.5}
    assert by_id["air_station/tiantan"].attributes == {}
    assert by_id["air_station/tiantan"].tags == {"network": "city", "area": "south"}


def test_attributes_become_columns_with_defaults(full: Scenario, catalogue: Catalogue) -> None:
    stations = attribute_columns(catalogue.kinds["air_station"], full.entities_of("air_station"))
    assert stations.tolist() == [[9.5, 8.0]]
    crossings = attribute_columns(catalogue.kinds["intersection"], full.entities_of("intersection"))
    assert crossings.shape == (6, 6)
    assert crossings[:, 0].tolist() == [1800, 3600, 1800, 1, 2, 1]


def test_settings(full: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (full.city, full.root, full.cluster) == ("harbour", "harbour/twin", "10.0.0.1:6379")
    broker = full.broker
    assert (broker.embedded, broker.host, broker.port, broker.tls) == (None, "broker.example", 8883, True)
    assert (broker.protocol, broker.ca_file) == ("5", str(HERE / "data" / "ca.pem"))
    with pytest.raises(LookupError, match="HARBOUR_PASSWORD"):
        broker.secret()
    monkeypatch.setenv("HARBOUR_PASSWORD", "secret")
    assert broker.secret() == "secret"
    assert (full.clock.mode, full.clock.speed, full.clock.start_s) == ("scaled", 60.0, 1_780_333_200.0)
    assert (full.placement.of("venue"), full.placement.of("air_station")) == ("auto", 100)
    assert full.resources[1].base_lat_deg == 53.5
    parameters = full.policies[0].parameters
    assert parameters == {"outflow_min_pmin": 60.0, "steps": 3, "loud": True, "style": "calm"}
    assert isinstance(parameters["outflow_min_pmin"], float)
    assert full.tick_s == 0.5
    assert full.limits.payload_bytes == 65_536


def test_relations_by_id_glob_and_distance(full: Scenario) -> None:
    empties = [relation for relation in full.relations if relation.name == "empties_to"]
    assert [relation.target for relation in empties] == [f"intersection/n-000{i}" for i in (1, 2, 3)]
    assert {(relation.share, relation.delay_s) for relation in empties} == {(0.5, 300.0)}
    near: dict[str, list[str]] = {}
    for relation in full.relations:
        if relation.name == "near":
            near.setdefault(relation.source, []).append(relation.target)
    # Two rows of three; to the north, a degree of longitude is a little shorter.
    assert near["intersection/n-0001"] == ["intersection/n-0002", "intersection/n-0004"]
    assert near["intersection/n-0005"] == ["intersection/n-0004", "intersection/n-0006"]
    assert all(len(targets) == 2 for targets in near.values())


def test_sources_and_fleets(full: Scenario) -> None:
    (simulation,) = full.simulations
    assert len(simulation.entities) == 9
    assert simulation.story[0].drivers == {"departures_pmin": 600.0}
    assert simulation.story[1].state == {"queue_veh[north]": 20.0}
    assert simulation.story[1].drivers == {f"arrivals_vph[{m}]": 900.0 for m in ("north", "east", "south")}
    assert simulation.story[2].reading == "occupancy_persons"
    air, speeds = full.replays
    assert air.entity == "air_station/dongsi"
    assert air.fields[0] == FieldMap(source="PM2.5", field="pm25_ugm3")
    celsius = air.fields[1]
    assert 50 * celsius.factor + celsius.offset == pytest.approx((50 + 1 - 32) * 5 / 9)
    assert air.start_s == 1_362_067_200.0
    assert speeds.speed is None
    assert speeds.wide is not None
    assert speeds.wide.factor == pytest.approx(1.609344)
    (fleet,) = full.fleets
    assert (fleet.topic, fleet.name, fleet.names) == ("sensors/+/data", "{1}", {"a1": "dongsi"})


def test_json_round_trip_is_lossless(full: Scenario) -> None:
    assert Scenario.from_json(full.to_json()) == full


def test_a_short_file_is_enough(write: Write, catalogue: Catalogue) -> None:
    scenario = load_scenario(str(write("a.yaml", "city: harbour\n" + ARENA)), catalogue=catalogue)
    assert (scenario.root, scenario.broker.embedded, scenario.store_url) == ("harbour", "auto", "sqlite:")
    assert (scenario.cluster, scenario.clock.mode, scenario.broker.qos) == (None, "wall", 1)


def test_layers_merge_mappings_and_grow_lists(write: Write, catalogue: Catalogue) -> None:
    base = write("a.yaml", "city: harbour\nclock: {mode: scaled, speed: 60}\n" + ARENA)
    more = write("b.yaml", "clock: {speed: 5}\nentities: [{kind: venue, name: quay, attributes: {area_m2: 1}}]\n")
    scenario = load_scenario([base, more], catalogue=catalogue)
    assert [entity.name for entity in scenario.entities] == ["arena", "quay"]
    assert (scenario.clock.mode, scenario.clock.speed) == ("scaled", 5.0)
    assert scenario.files == (str(base), str(more))


def test_replace_throws_earlier_layers_away(write: Write, catalogue: Catalogue) -> None:
    base = write("a.yaml", "city: harbour\nclock: {mode: scaled, speed: 60}\n" + ARENA)
    other = write(
        "b.yaml",
        "clock: !replace {mode: events}\nentities: !replace\n  - {kind: venue, name: quay, attributes: {area_m2: 1}}\n",
    )
    scenario = load_scenario([base, other], catalogue=catalogue)
    assert [entity.name for entity in scenario.entities] == ["quay"]
    assert (scenario.clock.mode, scenario.clock.speed) == ("events", 1.0)


def test_an_error_names_the_layer_it_stands_in(write: Write, catalogue: Catalogue) -> None:
    base = write("a.yaml", "city: harbour\n" + ARENA)
    more = write("b.yaml", "\nclock: {speed: 0}\nentities:\n  - {kind: venue, name: quay}\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario([base, more], catalogue=catalogue)
    assert f"{more}:2: clock.speed: must be above 0" in str(caught.value)
    assert f"{more}:4: entities[0].attributes: the attribute 'area_m2'" in str(caught.value)
    assert len(caught.value.problems) == 2


def test_files_that_are_not_there_are_all_named(tmp_path: Path, catalogue: Catalogue) -> None:
    with pytest.raises(ScenarioError, match=r"(?s)a\.yaml: the scenario file does not exist.*b\.yaml"):
        load_scenario([tmp_path / "a.yaml", tmp_path / "b.yaml"], catalogue=catalogue)


def test_words_are_read_as_yaml_1_2(write: Write, catalogue: Catalogue) -> None:
    tags = "tags: {code: 007, at: 12:30}"
    text = f"city: harbour\nentities:\n  - {{kind: venue, name: no, attributes: {{area_m2: 1e3}}, {tags}}}\n"
    (entity,) = load_scenario(write("a.yaml", text), catalogue=catalogue).entities
    assert entity.name == "no"
    assert entity.attributes == {"area_m2": 1000.0}
    assert entity.tags == {"code": "007", "at": "12:30"}


def test_anchors_and_merge_keys(write: Write, catalogue: Catalogue) -> None:
    text = (
        "city: harbour\nentities:\n"
        "  - &hall {kind: venue, name: a, attributes: {area_m2: 10}}\n"
        "  - {<<: *hall, name: b}\n"
    )
    scenario = load_scenario(write("a.yaml", text), catalogue=catalogue)
    assert [(e.name, e.attributes["area_m2"]) for e in scenario.entities] == [("a", 10.0), ("b", 10.0)]


def test_the_schema_accepts_good_files_and_finds_typing_errors() -> None:
    json_schema = schema()
    jsonschema.Draft202012Validator.check_schema(json_schema)
    validator = jsonschema.Draft202012Validator(json_schema)
    document = yaml.load(FULL.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    assert set(document) == set(json_schema["properties"])
    plain = {"city": "harbour", "entities": [{"kind": "venue", "name": "arena", "at": [53.5, 9.9]}]}
    assert not list(validator.iter_errors(plain))
    assert list(validator.iter_errors({**plain, "entites": []}))
    assert list(validator.iter_errors({**plain, "clock": {"mode": "scalled"}}))
    json.dumps(json_schema)


def test_a_thousand_problems_are_counted_not_printed(write: Write, catalogue: Catalogue) -> None:
    rows = "".join(f"  - {{kind: venue, name: v{i}}}\n" for i in range(1000))
    with pytest.raises(ScenarioError, match="and 900 more problems") as caught:
        load_scenario(write("a.yaml", "city: harbour\nentities:\n" + rows), catalogue=catalogue)
    assert len(caught.value.problems) == 1000


def test_loading_scenarios_imports_nothing_heavy() -> None:
    code = (
        "import sys, twin_actors.scenario.load; "
        "print([m for m in ('ray', 'pandas', 'scipy', 'paho', 'sqlite3') if m in sys.modules]); "
    )
    light = "import sys, twin_actors.scenario as s; s.Scenario; print('pydantic' in sys.modules)"
    for program, expected in ((code, "[]"), (light, "False")):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == expected
