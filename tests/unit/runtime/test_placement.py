"""Which twins share an actor, and what is said to somebody whose machine is too small for the plan."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtime.cities import TOWN, UNHURRIED, town
from twin_actors.runtime import placement
from twin_actors.runtime.placement import (
    ACTOR_BYTES,
    RESERVED_BYTES,
    ActorPlan,
    LaunchRefused,
    check_memory,
    free_memory_bytes,
    plan_actors,
)
from twin_actors.scenario import Scenario

GB = 1_000_000_000


def placed(placement: str, text: str = TOWN) -> tuple[Scenario, tuple[ActorPlan, ...]]:
    scenario = town(text + f"placement: {placement}\n")
    return scenario, plan_actors(scenario)


def names(scenario: Scenario, plans: tuple[ActorPlan, ...]) -> list[list[str]]:
    return [[scenario.entities[number].name for number in plan.entities] for plan in plans]


def test_by_default_every_twin_has_an_actor_named_after_it() -> None:
    plans = plan_actors(town())
    assert [plan.name for plan in plans] == [f"twin:{entity.id}" for entity in town().entities]
    assert [plan.entities for plan in plans] == [(0,), (1,), (2,), (3,), (4,)]


def test_packed_twins_are_sorted_by_kind() -> None:
    scenario, plans = placed("{entities_per_actor: 2}")
    assert names(scenario, plans) == [["gate-1", "gate-2"], ["gate-3", "quay"], ["arena"]]
    assert [plan.name for plan in plans] == ["twins:00001", "twins:00002", "twins:00003"]


def test_a_kind_may_have_its_own_setting() -> None:
    scenario, plans = placed("{entities_per_actor: 10, kinds: {footfall: 2, venue: 1}}")
    assert names(scenario, plans) == [["gate-1", "gate-2"], ["gate-3"], ["quay"], ["arena"]]
    assert plans[3].name == "twin:venue/arena"


def test_auto_goes_by_the_sizes_that_it_is_told() -> None:
    scenario = town(TOWN.replace("count: 3", "count: 28") + "placement: {entities_per_actor: auto}\n")
    told = {"footfall": 3, "substation": 3, "venue": 3}
    assert [len(plan.entities) for plan in plan_actors(scenario, told)] == [3] * 10
    assert [len(plan.entities) for plan in plan_actors(scenario, told | {"footfall": 14})] == [14, 14, 2]


def test_kinds_that_want_other_nodes_have_actors_of_their_own() -> None:
    scenario, plans = placed("{entities_per_actor: 10, labels: {venue: {zone: east}}}")
    assert names(scenario, plans) == [["gate-1", "gate-2", "gate-3", "quay"], ["arena"]]


@pytest.mark.parametrize(("twins", "each"), [(7, 7), (2_000, 1_000), (9_000, 4_500)])
def test_auto_gives_a_core_an_actor_where_it_is_worth_one(
    monkeypatch: pytest.MonkeyPatch, twins: int, each: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(placement, "WORTH_AN_ACTOR", 1_000)
    _, plans = placed("{entities_per_actor: auto}", TOWN.replace("count: 3", f"count: {twins - 2}"))
    assert [len(plan.entities) for plan in plans] == [each] * (twins // each)


@UNHURRIED
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["1", "3", "auto"]))
def test_every_twin_has_exactly_one_place(count: int, per_actor: int, of_footfall: str) -> None:
    text = TOWN.replace("count: 3", f"count: {count}")
    scenario, plans = placed(f"{{entities_per_actor: {per_actor}, kinds: {{footfall: {of_footfall}}}}}", text)
    assert sorted(number for plan in plans for number in plan.entities) == list(range(len(scenario.entities)))
    assert len({plan.name for plan in plans}) == len(plans)
    for plan in plans:
        kinds = [scenario.entities[number].kind for number in plan.entities]
        assert kinds == sorted(kinds)  # a holder numbers its places kind by kind


# -- memory --------------------------------------------------------------------------------------------------------


def test_what_fits_is_not_refused() -> None:
    scenario, plans = placed("{entities_per_actor: 1}")
    check_memory(scenario, plans, 5 * ACTOR_BYTES + RESERVED_BYTES)


def test_the_refusal_says_the_sum_and_the_line_to_change() -> None:
    scenario, plans = placed("{entities_per_actor: 1}", TOWN.replace("count: 3", "count: 998"))
    with pytest.raises(LaunchRefused) as refused:
        check_memory(scenario, plans, 8 * GB)
    said = str(refused.value)
    assert "1,000 twin actors × 65 MB + 1.2 GB for the rest = 66.2 GB" in said
    assert "this machine has 8.0 GB free" in said
    assert "  placement: {entities_per_actor: 10}   # or: auto\n" in said
    assert f"in {scenario.files[0]}" in said


@UNHURRIED
@given(st.integers(2, 300), st.integers(RESERVED_BYTES + ACTOR_BYTES, 12 * GB))
def test_the_line_that_is_suggested_fits(count: int, free_bytes: int) -> None:
    text = TOWN.replace("count: 3", f"count: {count}")
    scenario, plans = placed("{entities_per_actor: 1}", text)
    try:
        check_memory(scenario, plans, free_bytes)
    except LaunchRefused as refused:
        found = re.search(r"placement: (\{.*\})", str(refused))
        assert found is not None
        check_memory(*placed(found[1], text), free_bytes)


def test_where_not_even_one_actor_fits_packing_is_not_the_advice() -> None:
    scenario, plans = placed("{entities_per_actor: 100}")
    with pytest.raises(LaunchRefused, match=r"Not even one twin actor fits.*1\.3 GB free") as refused:
        check_memory(scenario, plans, GB)
    assert "placement:" not in str(refused.value)


def test_free_memory_is_a_number_of_bytes() -> None:
    assert 0 <= free_memory_bytes() < 2**60
