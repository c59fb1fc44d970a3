"""Foreign topics: which entity of which fleet they belong to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtime.cities import TOWN, UNHURRIED, town
from twin_actors.runtime.fleets import FleetTopic, FleetTopics
from twin_actors.scenario.model import Fleet

FLEETS = (
    TOWN
    + """
fleets:
  - {topic: sensors/+/count, kind: footfall, name: "gate-{1}", fields: {pm: flow_pph}}
  - {topic: site/+/dev/+/up, kind: substation, name: "{2}-{1}", fields: {p: load_mw}}
  - {topic: eui/+, kind: footfall, name: "{1}", names: {70B3D5: gate-1, 70B3D6: gate-2}, fields: {pm: flow_pph}}
  - {topic: arena/doors, kind: venue, name: arena, fields: {i: in_persons}}
  - {topic: "meters/+/#", kind: substation, name: "{1}", fields: {p: load_mw}}
"""
)


def topics() -> FleetTopics:
    return FleetTopics(town(FLEETS).fleets)


@pytest.mark.parametrize(
    ("topic", "found"),
    [
        ("sensors/2/count", FleetTopic(1, "footfall/gate-2")),
        ("site/quay/dev/east/up", FleetTopic(2, "substation/east-quay")),
        ("eui/70B3D5", FleetTopic(3, "footfall/gate-1")),
        ("eui/70B3D6", FleetTopic(3, "footfall/gate-2")),
        ("eui/unheard-of", FleetTopic(3, "footfall/unheard-of")),
        ("arena/doors", FleetTopic(4, "venue/arena")),
        ("meters/quay/a/b", FleetTopic(5, "substation/quay")),
        ("meters/quay/", FleetTopic(5, "substation/quay")),
        ("meters/quay", FleetTopic(5, "substation/quay")),  # MQTT 5.0, 4.7.1.2: the level above matches too
    ],
)
def test_a_topic_names_its_entity(topic: str, found: FleetTopic) -> None:
    assert topics().match(topic) == found


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "sensors/2",
        "sensors/2/count/more",
        "sensors/a/b/count",
        "xsensors/2/count",
        "Sensors/2/count",
        "arena/doors/",
        "meters",
        "town/footfall/gate-1/telemetry",
    ],
)
def test_other_topics_belong_to_no_fleet(topic: str) -> None:
    assert topics().match(topic) is None


def test_the_router_subscribes_to_what_the_fleets_say() -> None:
    assert topics().filters == ["sensors/+/count", "site/+/dev/+/up", "eui/+", "arena/doors", "meters/+/#"]


def test_the_first_fleet_that_fits_wins() -> None:
    both = FleetTopics([Fleet(topic="a/+", kind="venue", name="{1}"), Fleet(topic="+/b", kind="footfall", name="{1}")])
    assert both.match("a/b") == FleetTopic(1, "venue/b")
    assert both.match("c/b") == FleetTopic(2, "footfall/c")


def test_everything_may_be_a_fleet() -> None:
    assert FleetTopics([Fleet(topic="#", kind="venue", name="hall")]).match("a/b\n/c") == FleetTopic(1, "venue/hall")


LEVEL = st.text(st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"]), max_size=6)


@UNHURRIED
@given(st.lists(LEVEL, min_size=1, max_size=5), st.data())
def test_levels_are_taken_as_they_are(levels: list[str], data: st.DataObject) -> None:
    wild = data.draw(st.integers(0, len(levels) - 1))
    topic = "/".join("+" if place == wild else level for place, level in enumerate(levels))
    found = FleetTopics([Fleet(topic=topic, kind="venue", name="<{1}>")]).match("/".join(levels))
    assert found == FleetTopic(1, f"venue/<{levels[wild]}>")
