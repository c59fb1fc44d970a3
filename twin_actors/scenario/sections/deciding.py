"""What the city decides with: scarce resources and policies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from twin_actors.scenario.sections.base import Section
from twin_actors.scenario.words import Count, Position, Positive, Text, entity_name


class ResourceEntry(Section):
    name: Annotated[Text, AfterValidator(entity_name)]
    count: Count
    base: Position | None = None
    speed_kmh: Positive = 40.0
    skills: tuple[Text, ...] = ()
    capacity: Positive = 1.0


class PolicyEntry(Section):
    use: Text
    mode: Literal["act", "advise"] = "advise"
    parameters: dict[str, Any] = Field(default_factory=dict, alias="with")
