"""The launch plan on disk: what an actor's own process builds from it."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.unit.runtime.cities import T0, TOWN, delivery, ids_of, says, send, town
from twin_actors.runtime.placement import plan_actors
from twin_actors.runtime.plan import CityPlan, Plan, Reach, attribute_matrix, decoders_of
from twin_actors.scenario.catalogue import load_catalogue

PACKED = TOWN + "placement: {entities_per_actor: 3}\nlimits: {future_s: 60}\n"


def saved(folder: Path, text: str = PACKED) -> CityPlan:
    scenario = town(text)
    plan = Plan(
        clock={"mode": "scaled", "speed": 60.0, "start_s": T0, "origin_s": 5.0},
        broker=Reach(host="127.0.0.1", port=1883, username="town", password="quiet"),
        store="memory:",
        actors=tuple((each.name, each.entities) for each in plan_actors(scenario)),
    )
    CityPlan.save(folder, scenario, plan)
    return CityPlan.load(folder)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    plan = saved(tmp_path)
    assert plan.scenario == town(PACKED)
    assert plan.actors == plan_actors(town(PACKED))
    assert (plan.clock.mode, plan.clock.speed, plan.clock.start_s) == ("scaled", 60.0, T0)
    assert (plan.broker.port, plan.broker.password, plan.broker.protocol) == (1883, "quiet", "auto")


def test_only_the_owner_may_read_the_plan(tmp_path: Path) -> None:
    saved(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"plan.json": 0o600, "scenario.json": 0o600}


def test_a_shorter_plan_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    saved(tmp_path, PACKED.replace("count: 3", "count: 300"))
    assert len(saved(tmp_path).actors) == 2


def test_a_city_never_launched_has_no_plan(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CityPlan.load(tmp_path)


def test_a_damaged_plan_is_no_plan(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "plan.json").write_text('{"clock": {}}')
    with pytest.raises(msgspec.ValidationError, match="broker"):
        CityPlan.load(tmp_path)


def test_each_actor_builds_its_own_twins(tmp_path: Path) -> None:
    plan = saved(tmp_path)
    first = plan.holder("twins:00001", epoch=3, incarnation="x")
    second = plan.holder("twins:00002", epoch=3, incarnation="x")
    assert ids_of(first) == ["footfall/gate-1", "footfall/gate-2", "footfall/gate-3"]
    assert ids_of(second) == ["substation/quay", "venue/arena"]
    assert (first.epoch, first.incarnation, first.intake.future_s) == (3, "x", 60.0)
    ahead = delivery(0, 0, says(T0 + 50.0, flow_pph=1.0), received_at_s=T0)
    assert send(first, ahead, epoch=3).outcomes.applied == 1


def test_an_actor_that_is_not_in_the_plan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="knows no twin actor 'twins:00009'"):
        saved(tmp_path).holder("twins:00009", epoch=1, incarnation="x")


def test_attributes_are_the_scenarios_over_the_kinds_defaults() -> None:
    kind = load_catalogue().kinds["substation"]
    entities = [entity for entity in town().entities if entity.kind == "substation"]
    matrix = attribute_matrix(kind, [*entities, *entities])
    record = kind.attributes.of_block(matrix)
    assert matrix.shape == (kind.attributes.layout.rows, 2)
    assert record.rated_mva.tolist() == [40.0, 40.0]
    assert record.block_mw[:, 1].tolist() == [4, 4, 5, 6, 6]
    assert record.oil_rise_k.tolist() == [52.0, 52.0]
    assert np.isfinite(matrix).all()


def test_a_kind_has_a_decoder_for_the_citys_topics_and_one_for_each_fleet() -> None:
    text = TOWN + (
        "fleets:\n"
        "  - {topic: a/+, kind: footfall, name: '{1}', fields: {pm: flow_pph}}\n"
        "  - {topic: b/+, kind: venue, name: '{1}', fields: {pm: in_persons}}\n"
        "  - {topic: c/+, kind: footfall, name: '{1}', fields: {pm: flow_pph}}\n"
    )
    kinds = load_catalogue().kinds
    assert sorted(decoders_of(kinds["footfall"], town(text))) == [-1, 1, 3]
    assert sorted(decoders_of(kinds["venue"], town(text))) == [-1, 2]
    assert sorted(decoders_of(kinds["substation"], town(text))) == [-1]


def test_a_fleet_may_send_one_component_of_a_vector() -> None:
    text = """
city: crossing
entities:
  - {kind: intersection, name: quay}
fleets:
  - {topic: loop/+, kind: intersection, name: "{1}", fields: {q: {field: "queue_veh[nt]", factor: 2}}}
"""
    twins = CityPlan(
        town(text),
        Plan(clock={}, broker=Reach(host="127.0.0.1", port=1883), store="memory:", actors=(("twin:quay", (0,)),)),
        load_catalogue(),
    ).holder("twin:quay", epoch=1, incarnation="x")
    payload = b'{"ts": %d, "q": 4}' % (T0 * 1000)
    assert send(twins, delivery(0, 0, payload, source=1)).outcomes.applied == 1
    reported = twins.reported("intersection/quay")
    said = {label: value for label, value in zip(reported["label"], reported["value"], strict=True) if value == value}
    assert said == {"queue_veh[nt]": 8.0}
