"""A scenario survives its JSON, whatever is in it."""

from __future__ import annotations

import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin_actors.scenario.errors import Problem, ScenarioError
from twin_actors.scenario.model import (
    BrokerSettings,
    ClockSettings,
    Entity,
    FieldMap,
    Fleet,
    Limits,
    Place,
    PlacementSettings,
    PolicyUse,
    Relation,
    Replay,
    ResourcePool,
    RetentionSettings,
    Scenario,
    Simulation,
    StoryStep,
    TimeColumns,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=12)
few = {"max_size": 3}
attributes = st.dictionaries(texts, numbers | st.lists(numbers, **few).map(tuple), **few)
rows = st.dictionaries(texts, numbers, **few)
maps = st.builds(FieldMap, source=texts, field=texts, factor=numbers, offset=numbers)
maybe = st.none() | numbers
entities = st.builds(
    Entity,
    id=texts,
    kind=texts,
    name=texts,
    attributes=attributes,
    tags=st.dictionaries(texts, texts, **few),
    lat_deg=maybe,
    lon_deg=maybe,
)
parameters = st.dictionaries(texts, st.booleans() | numbers | texts | st.integers(-(2**53), 2**53), **few)
steps = st.builds(
    StoryStep,
    at_s=numbers,
    entities=st.lists(texts, **few).map(tuple),
    for_s=maybe,
    drivers=rows,
    state=rows,
    fault=st.sampled_from([None, "silent", "stuck", "bias", "spike", "drift"]),
    value=maybe,
    reading=texts,
)
sources = st.builds(
    Simulation,
    entities=st.lists(texts, **few).map(tuple),
    period_s=maybe,
    seed=st.integers(0, 2**31),
    story=st.lists(steps, **few).map(tuple),
) | st.builds(
    Replay,
    file=texts,
    kind=texts,
    time=st.builds(TimeColumns, column=st.none() | texts, parts=st.dictionaries(texts, texts, **few)),
    entity=st.none() | texts,
    fields=st.lists(maps, **few).map(tuple),
    wide=st.none() | maps,
    speed=maybe,
    missing=st.lists(texts, **few).map(tuple),
)
scenarios = st.builds(
    Scenario,
    city=texts,
    root=texts,
    place=st.builds(Place, lat_deg=maybe, lon_deg=maybe, time_zone=texts),
    broker=st.builds(
        BrokerSettings,
        embedded=st.sampled_from([None, "auto", "mosquitto", "amqtt"]),
        host=texts,
        port=st.integers(0, 65_535),
        password=st.none() | texts,
    ),
    cluster=st.none() | texts,
    store_url=texts,
    retention=st.builds(RetentionSettings, raw_s=numbers, minute_s=numbers, hour_s=numbers),
    clock=st.builds(ClockSettings, mode=st.sampled_from(["wall", "scaled", "events"]), speed=numbers, start_s=maybe),
    placement=st.builds(
        PlacementSettings,
        entities_per_actor=st.just("auto") | st.integers(1, 1000),
        kinds=st.dictionaries(texts, st.just("auto") | st.integers(1, 1000), **few),
        labels=st.dictionaries(
            texts, st.dictionaries(texts, st.lists(texts, min_size=1, max_size=2).map(tuple), **few), **few
        ),
        rebalance=st.sampled_from(["auto", "manual"]),
        core_share=st.floats(0.001, 1.0),
    ),
    entities=st.lists(entities, **few).map(tuple),
    relations=st.lists(st.builds(Relation, name=texts, source=texts, target=texts, share=numbers), **few).map(tuple),
    resources=st.lists(
        st.builds(ResourcePool, name=texts, count=st.integers(1, 9), base_lat_deg=maybe, capacity=numbers), **few
    ).map(tuple),
    policies=st.lists(st.builds(PolicyUse, name=texts, parameters=parameters), **few).map(tuple),
    sources=st.lists(sources, **few).map(tuple),
    fleets=st.lists(
        st.builds(Fleet, topic=texts, kind=texts, name=texts, fields=st.lists(maps, **few).map(tuple)), **few
    ).map(tuple),
    limits=st.builds(Limits, backlog=st.integers(1, 10**9), future_s=numbers),
    tick_s=numbers,
    files=st.lists(texts, **few).map(tuple),
)


@given(scenarios)
def test_json_round_trip_is_lossless(scenario: Scenario) -> None:
    again = Scenario.from_json(scenario.to_json())
    assert again == scenario
    assert again.to_json() == scenario.to_json()


def test_what_is_no_scenario_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        Scenario.from_json(b'{"city": 5}')


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(BrokerSettings(password="secret"))


def test_a_scenario_error_travels_between_processes() -> None:
    error = ScenarioError([Problem(file="a.yaml", line=1, key="city", message="wrong")])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems) == (str(error), error.problems)
