"""Where telemetry comes from: simulated devices and their story, replays, fleets that exist already."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from twin_actors.scenario.sections.base import Patterns, Section, ValueAsWritten
from twin_actors.scenario.words import (
    Duration,
    EntityName,
    Instant,
    NotNegative,
    Number,
    PositiveDuration,
    ReplaySpeed,
    Text,
    wrong,
)


class StoryEntry(Section):
    at: Duration
    entity: Patterns
    drivers: dict[str, ValueAsWritten] = Field(default_factory=dict, alias="set")
    state: dict[str, ValueAsWritten] = Field(default_factory=dict)
    fault: Literal["silent", "stuck", "bias", "spike", "drift"] | None = None
    value: Number | None = None
    field: Text | None = Field(default=None, description="the reading a fault befalls; all without it")
    lasts: PositiveDuration | None = Field(default=None, alias="for")

    @model_validator(mode="after")
    def _something_happens(self) -> Self:
        if not self.drivers and not self.state and self.fault is None:
            raise wrong("nothing happens in this step: give 'set', 'state' or 'fault'")
        if self.fault in ("bias", "spike", "drift") and self.value is None:
            raise wrong(f"a {self.fault} needs a 'value' in the unit of the reading (drift: per hour)")
        if self.fault in ("silent", "stuck", None) and self.value is not None:
            raise wrong("'value' goes with the faults bias, spike and drift")
        if self.fault is None and self.field is not None:
            raise wrong("'field' goes with 'fault'")
        if self.lasts is not None and not self.drivers and self.fault is None:
            raise wrong("'for' goes with 'set' and 'fault'; a state is set once and then moves on")
        return self


class SimulateSection(Section):
    entities: Patterns | None = None
    period: PositiveDuration | None = None
    gap_share: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    noise: NotNegative = 1.0
    seed: Annotated[int, Field(strict=True, ge=0)] = 0


class SimulateEntry(Section):
    simulate: Annotated[SimulateSection, BeforeValidator(lambda value: {} if value is None else value)]
    story: tuple[StoryEntry, ...] = ()


class FieldSection(Section):
    field: Text
    unit: Text | None = Field(default=None, description="of the foreign numbers; without it, the reading's own")
    factor: Number = 1.0
    offset: Number = 0.0


FieldMapping = Annotated[
    FieldSection, BeforeValidator(lambda value: {"field": value} if isinstance(value, str) else value)
]


class ReplayEntity(Section):
    name: Text | None = None
    column: Text | None = None
    lower: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.name is None) == (self.column is None):
            raise wrong("give either 'name' (one entity) or 'column' (the column that holds the names)")
        return self


class TimePart(Section):
    year: Text
    month: Text
    day: Text
    hour: Text | None = None
    minute: Text | None = None
    second: Text | None = None


class ReplayTime(Section):
    column: Text | None = None
    columns: TimePart | None = None
    zone: Text = "UTC"
    format: str = Field(default="", description="strptime pattern, epoch_s or epoch_ms; without it ISO 8601")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.column is None) == (self.columns is None):
            raise wrong("give either 'column' or 'columns' (year, month, day, hour, …)")
        return self


class ReplaySection(Section):
    file: Text
    kind: Text
    time: ReplayTime
    entity: ReplayEntity | None = None
    fields: dict[str, FieldMapping] = Field(default_factory=dict)
    wide: FieldMapping | None = None
    speed: ReplaySpeed = 1.0
    start: Instant | None = None
    end: Instant | None = None
    missing: tuple[str, ...] = ("", "NA", "NaN", "nan", "null")

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.wide is not None and (self.fields or self.entity is not None):
            raise wrong("'wide' (every column an entity) goes without 'fields' and 'entity'")
        if self.wide is None and (not self.fields or self.entity is None):
            raise wrong("give 'entity' and 'fields', or 'wide' when every column is an entity")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise wrong("'start' must lie before 'end'")
        return self


class ReplayEntry(Section):
    replay: ReplaySection


def _source_form(value: Any) -> str:
    return "<replay>" if isinstance(value, dict) and "replay" in value else "<simulate>"


SourceEntry = Annotated[
    Annotated[SimulateEntry, Tag("<simulate>")] | Annotated[ReplayEntry, Tag("<replay>")],
    Discriminator(_source_form),
]


class FleetEntry(Section):
    topic: Text
    kind: Text
    name: Text = Field(default="{1}", description="{1} is the level matched by the first +")
    names: dict[str, EntityName] = Field(default_factory=dict, description="device id: entity name")
    fields: dict[str, FieldMapping] = Field(min_length=1)
