"""Topics: building and reading them are inverse, and foreign topics find their place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin_actors.wire.topics import CHANNELS, TopicRule, Topics

names = st.text(st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(names.filter(lambda name: name != "city"), names, st.sampled_from(["harbour", "eu/harbour"]))
def test_parse_reads_what_was_built(kind: str, name: str, root: str) -> None:
    topics = Topics(root)
    entity = f"{kind}/{name}"
    built = {
        topics.telemetry(entity): "telemetry",
        topics.command(entity): "command",
        topics.acknowledgement(entity): "command/ack",
        topics.state(entity): "state",
    }
    assert set(built.values()) == CHANNELS
    for topic, channel in built.items():
        assert topics.parse(topic) == (entity, channel)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "harbour",
        "harbour/",
        "harbour/venue",
        "harbour/venue/stadium",
        "harbour/venue/stadium/",
        "harbour/venue//telemetry",
        "harbour//stadium/telemetry",
        "harbour/venue/stadium/telemetry/x",
        "harbour/venue/stadium/north/telemetry",
        "harbour/city/status",
        "harbour/city/x/telemetry",
        "port/venue/stadium/telemetry",
        "harbours/venue/stadium/telemetry",
    ],
)
def test_other_topics_are_nobodys(topic: str) -> None:
    assert Topics("harbour").parse(topic) is None


def test_topics_of_the_city_and_filters() -> None:
    topics = Topics("harbour")
    assert topics.decision == "harbour/city/decision"
    assert topics.alert == "harbour/city/alert"
    assert topics.dead_letter == "harbour/city/dead-letter"
    assert topics.status == "harbour/city/status"
    assert topics.subscriptions() == ["harbour/+/+/telemetry", "harbour/+/+/command/ack"]
    assert topics.subscriptions(["venue"]) == ["harbour/venue/+/telemetry", "harbour/venue/+/command/ack"]
    assert topics.commands() == ["harbour/+/+/command"]


@pytest.mark.parametrize("root", ["", "a//b", "/a", "a/", "a/+", "#", "$SYS", "a\0"])
def test_bad_roots_are_refused(root: str) -> None:
    with pytest.raises(ValueError, match="write levels like"):
        Topics(root)


def test_a_rule_places_a_foreign_topic() -> None:
    rule = TopicRule("sensors/{name}/+/data", "air_station")
    assert rule.filter == "sensors/+/+/data"
    assert rule.parse("sensors/dongsi/v2/data") == ("air_station/dongsi", "telemetry")
    assert rule.parse("sensors/dongsi/data") is None
    assert rule.parse("sensors/a/b/data/x") is None
    for pattern in ("sensors/+/data", "{name}/{name}", "a/#/{name}"):
        with pytest.raises(ValueError, match=r"level|\{name\}"):
            TopicRule(pattern, "air_station")
