"""What there is in the city: entities in their four forms, what they are to one another, and their parameters."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from twin_actors.scenario.sections.base import Patterns, Section, Tags, ValueAsWritten
from twin_actors.scenario.words import (
    Count,
    Duration,
    EntityName,
    Position,
    Positive,
    Share,
    Text,
    Whole,
    entity_name,
    wrong,
)


class Grid(Section):
    """Positions row by row: columns to the east, rows to the north of ``origin``."""

    origin: Position
    spacing_m: Positive
    columns: Count


class InlineEntity(Section):
    kind: Text
    name: Annotated[EntityName, AfterValidator(entity_name)]
    at: Position | None = None
    attributes: dict[str, ValueAsWritten] = Field(default_factory=dict)
    tags: Tags = Field(default_factory=dict)


class PatternEntities(Section):
    kind: Text
    pattern: Text = Field(description="names, e.g. x-{n:04d}; with a grid also {row} and {column}")
    count: Count
    first: Whole = 1
    attributes: dict[str, ValueAsWritten] = Field(default_factory=dict)
    tags: Tags = Field(default_factory=dict)
    grid: Grid | None = None
    at: Position | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.grid is not None and self.at is not None:
            raise wrong("give either 'grid' or 'at', not both")
        return self


class CsvColumns(Section):
    name: Text = "name"
    lat_deg: Text | None = None
    lon_deg: Text | None = None
    attributes: dict[str, Text] = Field(default_factory=dict)
    tags: dict[str, Text] = Field(default_factory=dict)


class CsvEntities(Section):
    kind: Text
    csv: Text
    columns: CsvColumns = CsvColumns()
    attributes: dict[str, ValueAsWritten] = Field(
        default_factory=dict, description="the same for every row; a column goes before it"
    )
    tags: Tags = Field(default_factory=dict, description="the same for every row")


class GeoJsonEntities(Section):
    kind: Text
    geojson: Text
    name_property: Text = "name"
    attributes: dict[str, ValueAsWritten] = Field(
        default_factory=dict, description="a word names a property, anything else is the value for all"
    )
    tags: dict[str, Text] = Field(default_factory=dict, description="tag: property")


def _entity_form(value: Any) -> str:
    for key in ("pattern", "csv", "geojson"):
        if isinstance(value, dict) and key in value:
            return f"<{key}>"
    return "<inline>"


EntityEntry = Annotated[
    Annotated[InlineEntity, Tag("<inline>")]
    | Annotated[PatternEntities, Tag("<pattern>")]
    | Annotated[CsvEntities, Tag("<csv>")]
    | Annotated[GeoJsonEntities, Tag("<geojson>")],
    Discriminator(_entity_form),
]


class RelationEntry(Section):
    """``share`` of the effect of every ``from`` reaches every ``to`` (or its ``nearest`` ones) after ``delay``."""

    name: Text
    source: Patterns = Field(alias="from")
    target: Patterns = Field(alias="to")
    share: Share = 1.0
    delay: Duration = 0.0
    nearest: Count | None = None


class ParametersSection(Section):
    attributes: dict[str, Any] = Field(default={})
    sd: dict[str, Any] = Field(default={}, description="standard deviation of one measurement, by reading field")
    drift: dict[str, Any] = Field(default={}, description="growth of uncertainty in unit/√hour, by state field")
