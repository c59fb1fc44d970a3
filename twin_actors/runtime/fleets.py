"""Devices that speak their own topics: which entity a foreign topic belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from twin_actors.scenario.model import Fleet


@dataclass(frozen=True, slots=True)
class FleetTopic:
    """The source number of a fleet (its place in the scenario, from 1) and the entity id its topic names."""

    source: int
    entity: str


class FleetTopics:
    """Matches foreign topics against the scenario's fleets, in their order."""

    def __init__(self, fleets: Sequence[Fleet]) -> None:
        self._rules = [(number, fleet, _pattern(fleet.topic)) for number, fleet in enumerate(fleets, start=1)]
        self.filters = [fleet.topic for fleet in fleets]
        self._told = {f"{fleet.topic} (": number for number, fleet in enumerate(fleets, start=1)}

    def match(self, topic: str) -> FleetTopic | None:
        for number, fleet, pattern in self._rules:
            found = pattern.fullmatch(topic)
            if found is not None:
                name = re.sub(r"\{(\d+)\}", lambda level, f=found: f[int(level[1])], fleet.name)  # type: ignore[misc]
                return FleetTopic(number, f"{fleet.kind}/{fleet.names.get(name, name)}")
        return None

    def told(self, source: int, entity: str) -> str:
        """How people are told where a message came from: the fleet's own filter, and the entity that it was for."""
        return f"{self.filters[source - 1]} ({entity})"

    def source_of(self, told: str) -> tuple[int, str] | None:
        """The inverse of ``told``: (source number, entity id); None for any other text."""
        start = told.rfind("(") + 1
        number = self._told.get(told[:start])
        return None if number is None or not told.endswith(")") else (number, told[start:-1])


def _pattern(topic: str) -> re.Pattern[str]:
    """A topic filter as a regular expression with one group per ``+`` (MQTT 5.0, 4.7.1)."""
    levels = ["([^/]*)" if level == "+" else re.escape(level) for level in topic.split("/")]
    if topic == "#":
        return re.compile(".*", re.DOTALL)
    if topic.endswith("/#"):  # the level above matches as well
        return re.compile("/".join(levels[:-1]) + "(?:/.*)?", re.DOTALL)
    return re.compile("/".join(levels))
