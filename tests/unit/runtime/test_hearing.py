"""What the routers of a divided city hear: every topic of every entity, and each by its own router."""

from __future__ import annotations

import re

import pytest

from tests.unit.runtime.cities import town
from twin_actors.runtime.hearing import hearing_of
from twin_actors.runtime.merging import merged_letters, merged_status
from twin_actors.runtime.placement import plan_actors
from twin_actors.runtime.plan import CityPlan, Plan, Reach
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.store import DeadLetter

DIVIDED = """
city: town
routers:
  roads: {kinds: [road]}
  north: {entities: "footfall/n-*"}
placement: {entities_per_actor: 2}
entities:
  - {kind: footfall, pattern: "n-{n}", count: 3}
  - {kind: footfall, pattern: "s-{n}", count: 3}
  - {kind: road, name: ring, attributes: {length_km: 2}}
  - {kind: venue, name: arena, attributes: {area_m2: 9000, capacity_persons: 16000, exit_width_m: 28}}
fleets:
  - {topic: "counters/+/data", kind: footfall, fields: {pph: flow_pph}}
  - {topic: "radar/+/data", kind: road, fields: {v: speed_kmh}}
"""


def plan_of(text: str) -> CityPlan:
    scenario = town(text)
    actors = tuple((each.name, each.entities) for each in plan_actors(scenario))
    plan = Plan(clock={"mode": "wall", "speed": 1.0, "start_s": 0.0, "origin_s": 0.0}, broker=Reach(host="", port=0),
                store="memory:", actors=actors)  # fmt: skip
    return CityPlan(scenario, plan, load_catalogue())


def heard(topic: str, filters: tuple[str, ...]) -> bool:
    """MQTT 5.0, 4.7.1."""
    patterns = ("/".join("[^/]*" if level == "+" else re.escape(level) for level in f.split("/")) for f in filters)
    return any(re.fullmatch(p.removesuffix("/\\#") + "(/.*)?" if p.endswith("/\\#") else p, topic) for p in patterns)


def test_every_topic_of_an_entity_is_heard_by_its_router_alone() -> None:
    plan = plan_of(DIVIDED)
    assert plan.routers == ("router", "router:north", "router:roads")
    hearings = {router: hearing_of(plan, router) for router in plan.routers}
    for entity, own in zip(plan.scenario.entities, plan.router_of, strict=True):
        for channel in ("telemetry", "command/ack"):
            topic = f"town/{entity.id}/{channel}"
            assert [router for router, hearing in hearings.items() if heard(topic, hearing.filters)] == [own]
    for topic, routers in (
        ("counters/n-1/data", ["router", "router:north"]),
        ("radar/ring/data", ["router:roads"]),
        ("town/substation/quay/telemetry", ["router"]),
        ("town/road/nobody/telemetry", ["router:roads"]),
    ):
        assert [router for router, hearing in hearings.items() if heard(topic, hearing.filters)] == routers


def test_of_a_divided_kind_one_router_explains_and_each_passes_over_the_others() -> None:
    plan = plan_of(DIVIDED)
    south, north = hearing_of(plan, "router"), hearing_of(plan, "router:north")
    assert south.passes_over("footfall/n-1")
    assert not south.passes_over("footfall/nobody")
    assert north.passes_over("footfall/s-1")
    assert north.passes_over("footfall/nobody"), "the first of them explains it"
    assert not south.passes_over("road/ring"), "it is heard by mistake only, and must not vanish"
    assert "road/ring" in south.elsewhere


def test_a_router_alone_hears_everything() -> None:
    plan = plan_of("city: town\nentities: [{kind: footfall, name: a}]\n")
    assert hearing_of(plan, "router").filters == ("town/#",)
    assert plan.of_router("router") is plan


def test_a_part_of_the_city_has_its_own_numbers_and_actors() -> None:
    plan = plan_of(DIVIDED)
    north = plan.of_router("router:north")
    assert [entity.id for entity in north.scenario.entities] == ["footfall/n-1", "footfall/n-2", "footfall/n-3"]
    assert [plan.scenario.entities[number].id for number in north.numbers] == [e.id for e in north.scenario.entities]
    assert [(actor.name.partition("@")[2], actor.entities) for actor in north.actors] == [
        ("north", (0, 1)),
        ("north", (2,)),
    ]
    twins = [each.id for actor in plan.actors for each in map(plan.scenario.entities.__getitem__, actor.entities)]
    assert sorted(twins) == sorted(entity.id for entity in plan.scenario.entities)


def test_statuses_become_one() -> None:
    one = {"router": "router", "epoch": 1, "connected": True, "broker_error": "", "cpu_s": 1.5, "first_reading_s": None,
           "broker_dropped": 4, "dead_letter_reasons": {"late": 1}, "actors": {"a": {"waiting": 1}}}  # fmt: skip
    two = {"router": "router:x", "epoch": 3, "connected": False, "broker_error": "away", "cpu_s": 2.0,
           "first_reading_s": 7.0, "broker_dropped": None, "dead_letter_reasons": {"late": 2, "rate": 1},
           "actors": {"b": {"waiting": 2}}}  # fmt: skip
    merged = merged_status([one, two])
    assert merged == {
        "router": "router", "epoch": 3, "connected": False, "broker_error": "away", "cpu_s": 3.5,
        "first_reading_s": 7.0,
        "broker_dropped": 4, "dead_letter_reasons": {"late": 3, "rate": 1},
        "actors": {"a": {"waiting": 1}, "b": {"waiting": 2}},
    }  # fmt: skip
    assert merged_status([one]) == one


@pytest.mark.parametrize(("last", "expected"), [(0, []), (2, [9.0, 8.5]), (9, [1.0, 2.0, 9.0, 8.5])])
def test_letters_of_several_routers_are_told_once(last: int, expected: list[float]) -> None:
    def letter(number: int, at_s: float) -> DeadLetter:
        return DeadLetter(
            topic="t", reason="late", detail="", payload=b"", received_at_s=at_s, share="router", id=number
        )

    kept = [letter(1, 1.0), letter(2, 2.0), letter(3, 9.0)]
    answers = [[*kept[1:], letter(0, 8.5)], kept]
    assert [each.received_at_s for each in merged_letters(answers, last)] == expected
