"""A change on paper: what differs, and a packing that leaves twins where they are."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtime.cities import UNHURRIED, town
from tests.unit.runtime.test_hearing import plan_of
from twin_actors.runtime.changing import LAUNCH, LIVE, Change, difference, packed_anew, untouched
from twin_actors.runtime.plan import CityPlan
from twin_actors.scenario import edits
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.scenario.model import Scenario

PACKED = """
city: town
placement: {entities_per_actor: 4, kinds: {venue: 1}}
entities:
  - {kind: footfall, pattern: "f-{n}", count: 9}
  - {kind: road, pattern: "r-{n}", count: 3, attributes: {length_km: 1}}
  - {kind: venue, name: arena, attributes: {area_m2: 9000, capacity_persons: 16000, exit_width_m: 28}}
relations:
  - {name: near, from: footfall/f-1, to: [footfall/f-2, footfall/f-3]}
sources:
  - simulate: {entities: "footfall/f-[12]"}
"""
CATALOGUE = load_catalogue()


def after(plan: CityPlan, scenario: Scenario, split: str = "") -> CityPlan:
    ids = {entity.id for entity in plan.scenario.entities}
    stays = {entity.id: entity.id for entity in scenario.entities if entity.id in ids}
    actors = packed_anew(plan, scenario, stays, split)
    record = type(plan.record)(
        clock=plan.record.clock, broker=plan.record.broker, store="memory:",
        actors=tuple((actor.name, actor.entities) for actor in actors),
    )  # fmt: skip
    return CityPlan(scenario, record, CATALOGUE)


def test_every_section_is_taken_over_live_or_by_a_launch() -> None:
    known = {*LIVE, *LAUNCH, "entities", "routers", "files"}
    assert {each.name for each in fields(Scenario)} == known


def test_what_differs_is_told_like_a_diff() -> None:
    old = town(PACKED)
    new = edits.with_entity(old, CATALOGUE, "footfall/f-x", {}, at=(53.5, 9.9))
    new = edits.without_entities(new, "footfall/f-1")
    new = edits.with_name(new, "road/r-1", "road/ring")
    new = edits.with_attributes(new, CATALOGUE, "venue/arena", {"capacity_persons": 17000})
    new = replace(new, tick_s=2.0, clock=replace(new.clock, mode="events"))
    change = difference(old, new, {"road/ring": "road/r-1"})
    assert change.lines() == [
        "+ footfall/f-x",
        "- footfall/f-1",
        "> road/r-1 → road/ring",
        "~ venue/arena: capacity_persons 16000 → 17000",
        "~ relations",
        "~ sources",
        "~ tick_s",
        "! clock: needs 'twin-actors down' and 'up'",
    ]
    assert difference(old, old).empty
    assert difference(old, new).added == ("footfall/f-x", "road/ring"), "without a word another name is another entity"


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        ({"road/r-2": "road/r-1"}, "the old name must be in the running city"),
        ({"road/new": "road/old"}, "the old name must be in the running city"),
    ],
)
def test_a_renaming_must_fit_both_scenarios(renamed: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        difference(town(PACKED), town(PACKED), renamed)


def test_references_follow_an_edit() -> None:
    old = town(PACKED)
    renamed = edits.with_name(old, "footfall/f-1", "footfall/gate")
    assert {each.source for each in renamed.relations} == {"footfall/gate"}
    assert renamed.simulations[0].entities == ("footfall/gate", "footfall/f-2")
    left = edits.without_entities(old, "footfall/f-1", "footfall/f-2")
    assert left.relations == ()
    assert left.sources == ()
    for edit, error in (
        (lambda: edits.without_entities(old, "footfall/f-11"), KeyError),
        (lambda: edits.with_name(old, "footfall/f-1", "road/f-1"), ValueError),
        (lambda: edits.with_name(old, "footfall/f-1", "footfall/f-2"), ValueError),
        (lambda: edits.with_entity(old, CATALOGUE, "footfall/f-1", {}), ValueError),
        (lambda: edits.with_entity(old, CATALOGUE, "footfal/new", {}), ValueError),
        (lambda: edits.with_entity(old, CATALOGUE, "footfall/a b", {}), ValueError),
        (lambda: edits.with_attributes(old, CATALOGUE, "venue/arena", {"area": 1}), ValueError),
    ):
        with pytest.raises(error):
            edit()


@UNHURRIED
@given(st.sets(st.integers(1, 9), max_size=8), st.integers(0, 7))
def test_a_packing_keeps_twins_where_they_are(gone: set[int], new: int) -> None:
    """Whatever comes and goes: all are placed once, none shares an actor with too many, and none moves."""
    plan = plan_of(PACKED)
    scenario = edits.without_entities(plan.scenario, *(f"footfall/f-{n}" for n in gone)) if gone else plan.scenario
    for number in range(new):
        scenario = edits.with_entity(scenario, CATALOGUE, f"footfall/new-{number}", {})
    changed = after(plan, scenario)
    placed = sorted(number for actor in changed.actors for number in actor.entities)
    assert placed == list(range(len(scenario.entities)))
    assert all(len(actor.entities) <= (1 if actor.name.startswith("twin:") else 4) for actor in changed.actors)

    def where(city: CityPlan) -> dict[str, str]:
        return {city.scenario.entities[n].id: actor.name for actor in city.actors for n in actor.entities}

    before, now = where(plan), where(changed)
    assert {entity: now[entity] for entity in before if entity in now} == {e: a for e, a in before.items() if e in now}
    if not gone and not new:
        assert untouched(plan, changed) == {actor.name for actor in plan.actors}
    assert "twin:venue/arena" in untouched(plan, changed)


def test_a_split_halves_one_actor_and_touches_no_other() -> None:
    plan = plan_of(PACKED)
    halved = after(plan, plan.scenario, "twins:00001")
    assert {actor.name: len(actor.entities) for actor in halved.actors}["twins:00001"] == 2
    assert untouched(plan, halved) == {actor.name for actor in plan.actors} - {"twins:00001"}
    for actor in ("twins:00009", "twin:venue/arena"):
        with pytest.raises(ValueError, match=r"twin actor|single twin"):
            after(plan, plan.scenario, actor)


def test_other_parameters_touch_an_actor() -> None:
    plan = plan_of(PACKED)
    wider = edits.with_attributes(plan.scenario, CATALOGUE, "venue/arena", {"exit_width_m": 30})
    assert plan.actors[0].name in untouched(plan, after(plan, wider))
    assert "twin:venue/arena" not in untouched(plan, after(plan, wider))
    stricter = replace(plan.scenario, limits=replace(plan.scenario.limits, future_s=1.0))
    assert untouched(plan, after(plan, stricter)) == frozenset()


def test_a_change_says_who_moves_and_who_cannot() -> None:
    change = Change(
        sections=("placement",),
        moves={"twins:00001": ("10.0.0.1", "10.0.0.2")},
        stranded={"twins:00002": "10.0.0.1"},
    )
    assert change.lines() == [
        "~ placement",
        "~ twins:00001 moves from 10.0.0.1 to 10.0.0.2",
        "! twins:00002 stays on 10.0.0.1: no open node has room and the labels it wants; it moves when one does",
    ]


def test_other_labels_alone_touch_no_twin_actor() -> None:
    text = PACKED.replace("venue: 1}", "venue: 1}, labels: {footfall: {zone: east}, road: {zone: east}}")
    old, new = plan_of(text), town(text.replace("zone: east", "zone: west"))
    assert untouched(old, after(old, new)) == {actor.name for actor in old.actors}
