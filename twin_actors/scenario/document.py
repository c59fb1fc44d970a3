"""The scenario file as written: pydantic models of every key, and the JSON Schema that editors use.

These models say what a file may contain, whatever domains are installed; `check` compares it with the catalogue.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from twin_actors.scenario.words import (
    Count,
    Duration,
    EntityName,
    Instant,
    Latitude,
    Longitude,
    NodeLabel,
    NodeLabels,
    NotNegative,
    Number,
    PerActor,
    Port,
    Position,
    Positive,
    PositiveDuration,
    ReplaySpeed,
    Share,
    Text,
    Whole,
    entity_name,
    topic_root,
    wrong,
)

_VALUE_SCHEMA = {
    "description": "a number, one number per component, or component: number",
    "anyOf": [{"type": "number"}, {"type": "array"}, {"type": "object"}],
}
ValueAsWritten = Annotated[Any, WithJsonSchema(_VALUE_SCHEMA)]
"""A field's value before the catalogue says which shape it must have."""


def _tag_text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


TagValue = Annotated[str, BeforeValidator(_tag_text)]
Tags = dict[str, TagValue]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Patterns = Annotated[
    tuple[Text, ...],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One id or glob such as ``intersection/n-*``, or a list of them."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlaceSection(Section):
    lat_deg: Latitude | None = None
    lon_deg: Longitude | None = None
    time_zone: Text = "UTC"


class BrokerSection(Section):
    url: Text | None = Field(default=None, description="mqtt://, mqtts://, ws:// or wss://; without it: embedded")
    embedded: Literal["auto", "mosquitto", "amqtt"] | None = None
    port: Port | None = Field(default=None, description="of the embedded broker; 0: any free port")
    username: Text | None = None
    password: str | None = None
    password_env: Text | None = Field(default=None, description="environment variable that holds the password")
    ca_file: Text | None = None
    cert_file: Text | None = None
    key_file: Text | None = None
    qos: Literal[0, 1] = 1
    protocol: Literal["auto", "5", "3.1.1"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _protocol_text(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("protocol") == 5:
            return {**data, "protocol": "5"}
        return data

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.url is not None and (self.embedded is not None or self.port is not None):
            raise wrong("give either 'url' (a broker that runs already) or 'embedded' and 'port', not both")
        if self.password is not None and self.password_env is not None:
            raise wrong("give either 'password' or 'password_env', not both")
        if (self.cert_file is None) != (self.key_file is None):
            raise wrong("'cert_file' and 'key_file' belong together")
        return self


class ClusterSection(Section):
    address: Text


class RetentionSection(Section):
    raw: PositiveDuration = 30 * 86_400.0
    minute: PositiveDuration = 90 * 86_400.0
    hour: PositiveDuration = 5 * 365 * 86_400.0

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.raw <= self.minute <= self.hour:
            raise wrong("retention must rise from raw over minute to hour: the coarser outlives the finer")
        return self


class StoreSection(Section):
    url: Text = "sqlite:"
    retention: RetentionSection = RetentionSection()


class ClockSection(Section):
    mode: Literal["wall", "scaled", "events"] = "wall"
    speed: Annotated[Positive, Field(le=1_000_000)] = 1.0
    start: Instant | None = None

    @model_validator(mode="after")
    def _speed_has_a_meaning(self) -> Self:
        if self.mode == "wall" and self.speed != 1.0:
            raise wrong("the wall clock runs at speed 1; use 'mode: scaled' for another speed")
        return self


class PlacementSection(Section):
    entities_per_actor: PerActor = 1
    kinds: dict[str, PerActor] = Field(default_factory=dict)
    labels: dict[str, dict[NodeLabel, NodeLabels]] = Field(
        default_factory=dict, description="by kind: labels that a node must have to hold its twins"
    )
    rebalance: Literal["auto", "manual"] = "auto"
    core_share: Annotated[Positive, Field(le=1)] = Field(
        default=0.5, description="with auto: how much of a core the readings of one twin actor may take"
    )


class RouterSection(Section):
    """What one router takes: whole kinds, single entities, or both."""

    kinds: tuple[Text, ...] = ()
    entities: Patterns | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.kinds and self.entities is None:
            raise wrong(
                "say which 'kinds' or 'entities' this router takes; the rest of the city has one without saying"
            )
        return self


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


class LimitsSection(Section):
    payload_bytes: Annotated[int, Field(strict=True, ge=64, le=268_435_455)] = 262_144
    future_s: NotNegative = 5.0
    backlog: Annotated[int, Field(strict=True, ge=1000)] = 200_000
    answer: PositiveDuration = 30.0
    tick_budget: PositiveDuration = 2.0


class StatesSection(Section):
    entities: Patterns
    every: PositiveDuration = 10.0


class ParametersSection(Section):
    attributes: dict[str, Any] = {}
    sd: dict[str, Any] = Field(default={}, description="standard deviation of one measurement, by reading field")
    drift: dict[str, Any] = Field(default={}, description="growth of uncertainty in unit/√hour, by state field")


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
