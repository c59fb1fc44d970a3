"""Where the city is and what it runs on: broker, cluster, store, clock, actors, routers and limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from twin_actors.scenario.sections.base import Patterns, Section
from twin_actors.scenario.words import (
    Instant,
    Latitude,
    Longitude,
    NodeLabel,
    NodeLabels,
    NotNegative,
    PerActor,
    Port,
    Positive,
    PositiveDuration,
    Text,
    wrong,
)


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


class LimitsSection(Section):
    payload_bytes: Annotated[int, Field(strict=True, ge=64, le=268_435_455)] = 262_144
    future_s: NotNegative = 5.0
    backlog: Annotated[int, Field(strict=True, ge=1000)] = 200_000
    answer: PositiveDuration = 30.0
    tick_budget: PositiveDuration = 2.0


class StatesSection(Section):
    entities: Patterns
    every: PositiveDuration = 10.0
