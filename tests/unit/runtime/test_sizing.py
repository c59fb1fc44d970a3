"""How many twins share an actor where that is ``auto``: by cores, and by what was measured of rate and memory."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtime.cities import UNHURRIED, town
from tests.unit.runtime.test_hearing import plan_of
from twin_actors.runtime.changing import packed_anew
from twin_actors.runtime.measuring import FALL_S, Measured, Meter, keep_measures, kept_measures
from twin_actors.runtime.placement import ACTOR_BYTES, plan_actors
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.sizing import (
    RESIZE,
    Capacity,
    Sizing,
    capacity_of,
    counts,
    keep_sizes,
    kept_sizes,
    shown,
    sizes_for,
)  # fmt: skip
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.store import MemoryStore

CITY = """
city: town
placement: {entities_per_actor: auto}
entities:
  - {kind: footfall, pattern: "f-{n}", count: 80}
  - {kind: road, pattern: "r-{n}", count: 20, attributes: {length_km: 1}}
"""
TWO_CORES = Capacity(cores=2, processes=1000, core_bytes=1e9, nodes=2)
RARE = Measured(twins=80, readings_per_s=8.0, over_s=600.0)
BUSY = Measured(twins=80, readings_per_s=80 * 5_000.0, over_s=600.0, reading_us=4.0)
"""Each 5,000 readings a second of 4 µs: 20 ms of every second, so half a core serves 25 of them."""


def sizes(measured: dict[str, Measured], before: dict[str, Sizing] | None = None, capacity: Capacity = TWO_CORES):
    return sizes_for(town(CITY), capacity, measured, before or {})


def test_without_measures_each_core_has_one_actor() -> None:
    found = sizes({})
    assert {kind: (each.twins, each.bound) for kind, each in found.items()} == {
        "footfall": (50, "cores"), "road": (50, "cores"),
    }  # fmt: skip
    assert shown(found) == ""
    assert sizes({"footfall": replace_of(BUSY, over_s=5.0)}) == found, "seen for too short a time"
    assert sizes({"footfall": RARE}) == found, "a core serves many more"


def replace_of(measured: Measured, **other: float) -> Measured:
    return Measured(**{name: getattr(measured, name) for name in measured.__struct_fields__} | other)


def test_an_actor_holds_what_its_share_of_a_core_serves() -> None:
    found = sizes({"footfall": BUSY})
    assert (found["footfall"].twins, found["footfall"].bound) == (25, "rate")
    assert found["road"].bound == "cores"
    assert shown(found) == (
        "footfall: 25 twins an actor by rate (5e+03 readings/s each, 4 µs a reading (measured), 0.5 of a core)"
    )
    assert [len(actor.entities) for actor in plan_actors(town(CITY), counts(found))] == [25, 25, 25, 5, 20]
    unmeasured = sizes({"footfall": replace_of(BUSY, reading_us=None)})
    assert unmeasured["footfall"].twins == 20, "5 µs a reading are assumed"
    assert "5 µs a reading (assumed)" in unmeasured["footfall"].says


def test_the_share_of_a_core_is_the_scenarios() -> None:
    scenario = town(CITY)
    scenario = replace(scenario, placement=replace(scenario.placement, core_share=0.1))
    assert sizes_for(scenario, TWO_CORES, {"footfall": BUSY}, {})["footfall"].twins == 5


def test_an_actor_holds_what_fits_its_memory() -> None:
    capacity = replace(TWO_CORES, core_bytes=ACTOR_BYTES + 30e6)
    found = sizes({"footfall": replace_of(RARE, twin_bytes=1e6)}, capacity=capacity)["footfall"]
    assert (found.twins, found.bound) == (30, "memory")
    assert "1,000,000 bytes each, 95 MB of memory for each core" in found.says


def test_no_more_actors_than_fit_the_memory() -> None:
    found = sizes({"footfall": BUSY}, capacity=replace(TWO_CORES, processes=2))["footfall"]
    assert (found.twins, found.bound) == (50, "processes"), "the rate asks for 25"
    found = sizes({"footfall": BUSY}, capacity=Capacity(cores=8, processes=3, core_bytes=1e8, nodes=8))["footfall"]
    assert (found.twins, found.bound) == (34, "processes")


def test_capacity_of_a_cluster() -> None:
    found = capacity_of([(2.0, 10 * ACTOR_BYTES), (0.5, 4 * ACTOR_BYTES)])
    assert found == Capacity(cores=3, processes=14, core_bytes=4 * ACTOR_BYTES, nodes=2)


@pytest.mark.parametrize(
    ("twins", "cores", "nodes", "each", "bound"),
    [
        (24, 64, 1, 24, "small"),
        (10_000, 2, 1, 10_000, "small"),
        (10_001, 2, 1, 10_000, "small"),
        (20_000, 2, 1, 10_000, "cores"),
        (100_000, 2, 1, 50_000, "cores"),
        (100_000, 64, 1, 10_000, "small"),
        (24, 64, 3, 8, "small"),
        (24, 3, 3, 8, "cores"),
        (2, 12, 3, 1, "cores"),
        (1, 1, 1, 1, "cores"),
    ],
)
def test_a_handful_of_twins_gets_no_process_a_core_but_every_node_has_some(
    twins: int, cores: int, nodes: int, each: int, bound: str
) -> None:
    scenario = town(CITY)
    scenario = replace(scenario, entities=tuple(itertools.islice(itertools.cycle(scenario.entities), twins)))
    capacity = Capacity(cores=cores, processes=1000, core_bytes=1e9, nodes=nodes)
    found = sizes_for(scenario, capacity, {}, {})
    assert {(sizing.twins, sizing.bound) for sizing in found.values()} == {(each, bound)}
    assert shown(found) == "", "nothing was measured"
    busy = sizes_for(scenario, capacity, {"footfall": BUSY}, {})["footfall"]
    assert busy.twins == min(each, max(25, math.ceil(twins / 1000))), "what was measured goes before"


@pytest.mark.parametrize(("rate", "kept"), [(5_000.0, True), (6_000.0, True), (4_000.0, True), (8_000.0, False)])
def test_sizes_stay_until_they_are_clearly_wrong(rate: float, kept: bool) -> None:
    before = sizes({"footfall": BUSY})
    now = sizes({"footfall": replace_of(BUSY, readings_per_s=80 * rate)}, before)["footfall"]
    assert (now.twins == 25) is kept
    assert now.bound == "rate"
    if kept and rate != 5_000.0:
        assert now.says.startswith("as before; ")


@UNHURRIED
@given(st.lists(st.floats(1.0, 1e5), min_size=2, max_size=8))
def test_a_rate_that_wavers_does_not_resize_twice(rates: list[float]) -> None:
    """Whatever was before: two launches at the same rate choose the same, and one within the factor stays."""
    before: dict[str, Sizing] = {}
    for rate in rates:
        measured = {"footfall": replace_of(BUSY, readings_per_s=80 * rate)}
        ideal, chosen = sizes(measured)["footfall"], sizes(measured, before)["footfall"]
        assert chosen.twins in (ideal.twins, before.get("footfall", ideal).twins)
        assert ideal.twins / RESIZE <= chosen.twins <= ideal.twins * RESIZE
        before = sizes(measured, before)
        assert sizes(measured, before)["footfall"].twins == chosen.twins


def test_sizes_and_measures_are_kept_in_the_store() -> None:
    store = MemoryStore()
    assert kept_sizes(store) == {} == kept_measures(store)
    found = sizes({"footfall": BUSY})
    keep_sizes(store, found)
    keep_measures(store, {"footfall": BUSY})
    assert kept_sizes(store) == found
    assert kept_measures(store) == {"footfall": BUSY}


# -- a running city ----------------------------------------------------------------------------------------------


def packed(measured: dict[str, Measured], split: str = "", *, extra: bool = False) -> list[int]:
    """Sizes of the twin actors after a change of a city that was packed without measures."""
    old, new = plan_of(CITY), town(CITY.replace("count: 20", "count: 21") if extra else CITY)
    old = CityPlan(old.scenario, _with_actors(old), load_catalogue())
    stays = {entity.id: entity.id for entity in old.scenario.entities}
    found = sizes_for(new, TWO_CORES, measured, {})
    return [len(actor.entities) for actor in packed_anew(old, new, stays, split, found)]


def _with_actors(plan: CityPlan):
    actors = plan_actors(plan.scenario, {"footfall": 50, "road": 50})
    return type(plan.record)(
        clock=plan.record.clock, broker=plan.record.broker, store="memory:",
        actors=tuple((actor.name, actor.entities) for actor in actors),
    )  # fmt: skip


def test_a_change_leaves_actors_alone_that_serve_what_they_hold() -> None:
    assert packed({}, extra=True) == [51, 50], "101 twins for two cores"
    assert packed({"footfall": replace_of(BUSY, readings_per_s=80 * 3_000.0)}, extra=True) == [50, 50, 1]


def test_a_change_divides_actors_that_hold_clearly_too_much() -> None:
    # 50 are twice what one serves; 30 with 20 roads, which cost nothing, are less than half more
    assert packed({"footfall": BUSY}, extra=True) == [25, 50, 25, 1]


def test_a_split_makes_as_many_as_the_rate_wants() -> None:
    assert packed({}, "twins:00001") == [25, 25, 50]
    many = {"footfall": replace_of(BUSY, readings_per_s=80 * 12_500.0)}
    assert sorted(packed(many, "twins:00001")) == [10, 10, 10, 10, 10, 50], "the other one is not touched"


# -- the meter ---------------------------------------------------------------------------------------------------


def look(meter: Meter, at_s: float, received: int, busy_s: float = 0.0, memory: int = ACTOR_BYTES) -> Measured | None:
    line = {"received": received, "applied": received, "busy_s": busy_s}
    meter.take(at_s, {"a": line}, {"road": received}, {"a": {"road": 10}}, {"a": memory})
    return meter.measured.get("road")


def test_a_rate_is_a_mean_at_first_then_rises_fast_and_falls_slowly() -> None:
    meter = Meter({})
    assert look(meter, 0.0, 1_000) is None
    assert look(meter, 10.0, 1_100) == Measured(twins=10, readings_per_s=10.0, over_s=10.0)
    assert meter.rates == {"a": 10.0}
    found = look(meter, 20.0, 1_500)
    assert found is not None
    assert found.readings_per_s == pytest.approx(25.0)
    at_s, count = 20.0, 1_500
    for _ in range(60):
        at_s, count = at_s + 10.0, count + 1_000
        found = look(meter, at_s, count)
    assert found is not None
    assert found.readings_per_s == pytest.approx(100.0, rel=0.01)
    for _ in range(60):
        at_s += 10.0
        found = look(meter, at_s, count)
    assert found is not None
    assert found.readings_per_s > 45.0, "half of all time so far it was as much"
    kept = Meter({"road": Measured(twins=10, readings_per_s=100.0, over_s=10 * FALL_S)})
    look(kept, 0.0, 0)
    found = look(kept, 600.0, 0)
    assert found is not None
    assert found.readings_per_s > 99.0, "ten quiet minutes do not make a quiet city"


def test_a_new_incarnation_tells_nothing_until_the_next_look() -> None:
    meter = Meter({})
    look(meter, 0.0, 5_000)
    assert look(meter, 5.0, 100) is None
    assert look(meter, 10.0, 150) == Measured(twins=10, readings_per_s=10.0, over_s=5.0)


def test_the_time_of_a_reading_is_known_under_load_only() -> None:
    meter = Meter({})
    look(meter, 0.0, 0)
    found = look(meter, 10.0, 1_000, busy_s=1.0)
    assert found is not None
    assert found.reading_us is None, "a tenth of its time"
    found = look(meter, 20.0, 1_001_000, busy_s=6.0)
    assert found is not None
    assert found.reading_us == pytest.approx(5.0)
    assert found.twin_bytes is None


def test_the_memory_of_a_twin_is_what_an_actor_takes_more_than_an_empty_one() -> None:
    meter = Meter({})
    look(meter, 0.0, 0)
    found = look(meter, 5.0, 0, memory=ACTOR_BYTES + 50_000_000)
    assert found is not None
    assert found.twin_bytes == pytest.approx(5e6)


def test_more_twins_mean_more_readings() -> None:
    meter = Meter({"road": Measured(twins=5, readings_per_s=50.0, over_s=1e9)})
    look(meter, 0.0, 0)
    found = look(meter, 10.0, 1_000)
    assert found is not None
    assert (found.twins, found.readings_per_s) == (10, pytest.approx(100.0))
