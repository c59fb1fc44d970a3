"""The scenario file as written: all its sections, and the JSON Schema that editors use.

The models say what a file may contain, whatever domains are installed; `check` compares it with the catalogue.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from twin_actors.scenario.sections.base import Section
from twin_actors.scenario.sections.city import (
    BrokerSection,
    ClockSection,
    ClusterSection,
    LimitsSection,
    PlacementSection,
    PlaceSection,
    RouterSection,
    StatesSection,
    StoreSection,
)
from twin_actors.scenario.sections.deciding import PolicyEntry, ResourceEntry
from twin_actors.scenario.sections.entities import (
    CsvEntities,
    EntityEntry,
    GeoJsonEntities,
    InlineEntity,
    ParametersSection,
    PatternEntities,
    RelationEntry,
)
from twin_actors.scenario.sections.sources import FleetEntry, ReplayEntry, SimulateEntry, SourceEntry
from twin_actors.scenario.words import Positive, topic_root


class Document(Section):
    """A city for Twin Actors."""

    city: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=63)]
    root: Annotated[str, AfterValidator(topic_root)] | None = Field(
        default=None, description="first level of all topics"
    )
    place: PlaceSection = PlaceSection()
    broker: BrokerSection = BrokerSection()
    cluster: ClusterSection | None = None
    store: StoreSection = StoreSection()
    clock: ClockSection = ClockSection()
    placement: PlacementSection = PlacementSection()
    routers: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=32)], RouterSection] = Field(
        default={}, description="routers beside the one that takes what no other does, by name"
    )
    entities: tuple[EntityEntry, ...] = ()
    parameters: dict[str, ParametersSection] = Field(
        default={}, description="attributes and noises of single entities by id, as twin-actors calibrate writes them"
    )
    relations: tuple[RelationEntry, ...] = ()
    resources: tuple[ResourceEntry, ...] = ()
    policies: tuple[PolicyEntry, ...] = ()
    sources: tuple[SourceEntry, ...] = ()
    fleets: tuple[FleetEntry, ...] = ()
    limits: LimitsSection = LimitsSection()
    states: StatesSection | None = Field(default=None, description="twins whose state is published, retained")
    tick_s: Annotated[Positive, Field(le=86_400)] = Field(default=1.0, description="wall seconds between decisions")
    security: dict[str, Any] = Field(default_factory=dict, description="reserved")
    dashboard: dict[str, Any] = Field(default_factory=dict, description="reserved")


LISTS = ("entities", "relations", "resources", "policies", "sources", "fleets")
"""Keys whose lists grow when files are layered."""

FORMS: dict[str, type[Section]] = {
    "<inline>": InlineEntity,
    "<pattern>": PatternEntities,
    "<csv>": CsvEntities,
    "<geojson>": GeoJsonEntities,
    "<simulate>": SimulateEntry,
    "<replay>": ReplayEntry,
}
"""The models behind the tags of the two unions, which pydantic puts into the place of an error."""


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario file, for editors that complete and check while people type."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Document.model_json_schema()}
