"""A scenario as the rest of the house sees it: frozen, complete, free of file names to look up and lossless in JSON.

Times are seconds, instants seconds since the epoch (UTC), coordinates degrees (WGS 84). Every number is finite:
what has no value is None. The controller, the router and the device host receive `Scenario.to_json`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

Value: TypeAlias = float | tuple[float, ...]
"""A scalar attribute, or one number per component in row order."""

PerActor: TypeAlias = int | Literal["auto"]
Mode: TypeAlias = Literal["act", "advise"]
FaultKind: TypeAlias = Literal["silent", "stuck", "bias", "spike", "drift"]
Parameter: TypeAlias = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the city lies and the time zone its people live by."""

    lat_deg: float | None = None
    lon_deg: float | None = None
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """How to reach the MQTT broker; ``embedded`` is None for one that exists already."""

    embedded: Literal["auto", "mosquitto", "amqtt"] | None = "auto"
    host: str = "127.0.0.1"
    port: int = 0
    tls: bool = False
    websocket_path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_env: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    qos: int = 1
    protocol: Literal["auto", "5", "3.1.1"] = "auto"

    def secret(self) -> str | None:
        """The password, from the file or from the environment variable that the file names.

        Raises LookupError when that variable is not set in this process.
        """
        if self.password_env is None:
            return self.password
        if self.password_env not in os.environ:
            raise LookupError(
                f"broker.password_env: the environment variable {self.password_env!r} is not set; "
                "export it before starting the city"
            )
        return os.environ[self.password_env]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSettings:
    """The city's clock: the wall's, ``speed`` times as fast, or moved only by the times in events."""

    mode: Literal["wall", "scaled", "events"] = "wall"
    speed: float = 1.0
    start_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSettings:
    """How many twins share a Ray actor, in general and by kind, and which nodes of a cluster may hold them.

    ``labels`` are by kind and label the values of which a node must have one. ``rebalance``: whether twin actors move
    by themselves to a node that joins. ``core_share``: how much of a core the readings of a twin actor may take where
    ``auto`` sizes it by what was measured.
    """

    entities_per_actor: PerActor = 1
    kinds: Mapping[str, PerActor] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    rebalance: Literal["auto", "manual"] = "auto"
    core_share: float = 0.5

    def of(self, kind: str) -> PerActor:
        return self.kinds.get(kind, self.entities_per_actor)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """A router beside the one that takes the rest: whole ``kinds``, and single ``entities`` by id."""

    name: str
    kinds: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A real thing in the city. ``attributes`` holds what the scenario says; the kind's defaults fill the rest, and
    likewise ``sd`` of readings and ``drift`` of states, where a calibration has given the entity its own."""

    id: str
    kind: str
    name: str
    attributes: Mapping[str, Value] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    lat_deg: float | None = None
    lon_deg: float | None = None
    sd: Mapping[str, Value] = field(default_factory=dict)
    drift: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """``share`` of the effect of ``source`` reaches ``target`` after ``delay_s``; both are entity ids."""

    name: str
    source: str
    target: str
    share: float = 1.0
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePool:
    """``count`` units that the city can send, each able to serve ``capacity`` needs at once."""

    name: str
    count: int
    base_lat_deg: float | None = None
    base_lon_deg: float | None = None
    speed_kmh: float = 40.0
    skills: tuple[str, ...] = ()
    capacity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyUse:
    """A policy switched on; ``parameters`` are complete: the policy's defaults with the scenario's on top."""

    name: str
    mode: Mode = "advise"
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryStep:
    """What happens to simulated entities ``at_s`` after their start, until ``at_s + for_s`` (None: to the end).

    ``drivers`` and ``state`` are keyed by row label: the field's name, or ``field[component]``. ``state`` is set
    once; ``drivers`` and ``fault`` last. ``reading`` limits a fault to one reading field (empty: all).
    """

    at_s: float
    entities: tuple[str, ...]
    for_s: float | None = None
    drivers: Mapping[str, float] = field(default_factory=dict)
    state: Mapping[str, float] = field(default_factory=dict)
    fault: FaultKind | None = None
    value: float | None = None
    reading: str = ""


class Simulation(msgspec.Struct, frozen=True, kw_only=True, tag="simulation"):
    """Devices that stand in for hardware: entity ids, period (None: the kind's own), faults and a story."""

    entities: tuple[str, ...]
    period_s: float | None = None
    gap_share: float = 0.0
    noise: float = 1.0
    seed: int = 0
    story: tuple[StoryStep, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMap:
    """One foreign column or key: ``value = number × factor + offset`` in the unit of the reading row ``field``."""

    source: str
    field: str
    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeColumns:
    """Where a recording keeps its time: one ``column``, or parts (year, month, day, hour, minute, second).

    ``format`` is a strptime pattern, ``epoch_s``, ``epoch_ms`` or empty for ISO 8601.
    """

    column: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    zone: str = "UTC"
    format: str = ""


class Replay(msgspec.Struct, frozen=True, kw_only=True, tag="replay"):
    """A recording played to the broker ``speed`` times as fast as it was made (None: as fast as it goes).

    Exactly one of ``entity`` (id of the only one), ``entity_column`` and ``wide`` is set; with ``wide`` every
    column except the time names an entity, and ``wide.source`` is empty.
    """

    file: str
    kind: str
    time: TimeColumns
    entity: str | None = None
    entity_column: str | None = None
    lower: bool = False
    fields: tuple[FieldMap, ...] = ()
    wide: FieldMap | None = None
    speed: float | None = 1.0
    start_s: float | None = None
    end_s: float | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Devices that speak their own topics: ``name`` is a template of the levels matched by ``+``: {1}, {2}, …"""

    topic: str
    kind: str
    name: str
    names: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[FieldMap, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest payload accepted, how far a device's clock may run ahead, the largest backlog in readings, how long
    a twin actor may take for a batch (wall seconds) until it counts as hung, and how many wall seconds a tick may
    spend on looking at twins and starting policies."""

    payload_bytes: int = 262_144
    future_s: float = 5.0
    backlog: int = 200_000
    answer_s: float = 30.0
    tick_budget_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """How long history is kept, in seconds of city time: raw readings, and what was rolled up per minute and hour."""

    raw_s: float = 30 * 86_400.0
    minute_s: float = 90 * 86_400.0
    hour_s: float = 5 * 365 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedStates:
    """Twins whose state is published on their ``state`` topics, retained, at most every ``every_s`` wall seconds."""

    entities: tuple[str, ...] = ()
    every_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A city to launch. Build it with `load_scenario`; pass it on with `to_json` and `from_json`."""

    city: str
    root: str
    place: Place = Place()
    broker: BrokerSettings = BrokerSettings()
    cluster: str | None = None
    store_url: str = "sqlite:"
    retention: RetentionSettings = RetentionSettings()
    clock: ClockSettings = ClockSettings()
    placement: PlacementSettings = PlacementSettings()
    routers: tuple[RouterSettings, ...] = ()
    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] = ()
    resources: tuple[ResourcePool, ...] = ()
    policies: tuple[PolicyUse, ...] = ()
    sources: tuple[Simulation | Replay, ...] = ()
    fleets: tuple[Fleet, ...] = ()
    limits: Limits = Limits()
    states: PublishedStates = PublishedStates()
    tick_s: float = 1.0
    files: tuple[str, ...] = ()

    @property
    def simulations(self) -> tuple[Simulation, ...]:
        return tuple(source for source in self.sources if isinstance(source, Simulation))

    @property
    def replays(self) -> tuple[Replay, ...]:
        return tuple(source for source in self.sources if isinstance(source, Replay))

    def kinds_used(self) -> tuple[str, ...]:
        """Names of the kinds that have at least one entity, sorted."""
        return tuple(sorted({entity.kind for entity in self.entities}))

    def entities_of(self, kind: str) -> tuple[Entity, ...]:
        """The entities of one kind, in the order of the scenario."""
        return tuple(entity for entity in self.entities if entity.kind == kind)

    def routers_of_entities(self) -> tuple[str, ...]:
        """The name of every entity's router, in the order of the entities; empty for the one that takes the rest."""
        singles = {entity: router.name for router in self.routers for entity in router.entities}
        kinds = {kind: router.name for router in self.routers for kind in router.kinds}
        return tuple(singles.get(entity.id, kinds.get(entity.kind, "")) for entity in self.entities)

    def to_json(self) -> bytes:
        """UTF-8 JSON that `from_json` turns back into an equal scenario. It holds ``broker.password`` if given."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Scenario:
        """Raises msgspec.ValidationError when ``text`` was not written by `to_json` of this version."""
        return msgspec.json.decode(text, type=cls)
