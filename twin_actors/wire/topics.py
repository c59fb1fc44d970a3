"""The topics of a city: one tree under a root, and rules that place the topics of existing fleets in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

TELEMETRY: Final = "telemetry"
COMMAND: Final = "command"
ACKNOWLEDGEMENT: Final = "command/ack"
STATE: Final = "state"
CHANNELS: Final = frozenset({TELEMETRY, COMMAND, ACKNOWLEDGEMENT, STATE})
GATEWAY: Final = "gateway"
"""The level of gateways, which speak for many entities; no kind may have this name."""
CITY: Final = "city"
"""The level that carries what concerns the whole city; no kind may have this name."""

_LONGEST_TOPIC_BYTES: Final = 65_535  # MQTT 3.1.1 and 5.0, section 1.5.4


def _check_levels(text: str, what: str) -> None:
    levels = text.split("/")
    if not all(levels) or any(c in text for c in "+#\0") or text.startswith("$"):
        raise ValueError(
            f"{what} {text!r} cannot be part of an MQTT topic: write levels like 'harbour' or 'eu/harbour', "
            "without '+', '#', a leading '$' or empty levels"
        )
    if len(text.encode()) > _LONGEST_TOPIC_BYTES:
        raise ValueError(f"{what} is {len(text.encode())} bytes long; an MQTT topic holds 65,535")


@dataclass(frozen=True, slots=True)
class Topics:
    """``{root}/{kind}/{name}/{channel}``, ``{root}/gateway/{name}/telemetry`` and ``{root}/city/{channel}``.

    ``root`` is one or more levels. Entity ids are ``kind/name``; a ValueError says what is wrong with a root.
    """

    root: str
    _prefix: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_levels(self.root, "root")
        object.__setattr__(self, "_prefix", self.root + "/")

    def telemetry(self, entity_id: str) -> str:
        return f"{self._prefix}{entity_id}/telemetry"

    def gateway(self, name: str) -> str:
        """Where the gateway of a name sends readings of many entities."""
        return f"{self._prefix}{GATEWAY}/{name}/telemetry"

    def gateway_of(self, topic: str) -> str | None:
        """The name of the gateway whose telemetry a topic carries, else None."""
        if not topic.startswith(self._prefix):
            return None
        level, _, rest = topic[len(self._prefix) :].partition("/")
        name, _, channel = rest.partition("/")
        return name if level == GATEWAY and name and channel == TELEMETRY else None

    def command(self, entity_id: str) -> str:
        return f"{self._prefix}{entity_id}/command"

    def acknowledgement(self, entity_id: str) -> str:
        return f"{self._prefix}{entity_id}/command/ack"

    def state(self, entity_id: str) -> str:
        return f"{self._prefix}{entity_id}/state"

    @property
    def decision(self) -> str:
        return f"{self._prefix}city/decision"

    @property
    def alert(self) -> str:
        return f"{self._prefix}city/alert"

    @property
    def dead_letter(self) -> str:
        return f"{self._prefix}city/dead-letter"

    @property
    def status(self) -> str:
        return f"{self._prefix}city/status"

    def parse(self, topic: str) -> tuple[str, str] | None:
        """The ``(entity id, channel)`` of an entity's topic; None for all else, the city's and gateways' included."""
        if not topic.startswith(self._prefix):
            return None
        kind, _, rest = topic[len(self._prefix) :].partition("/")
        name, _, channel = rest.partition("/")
        if not kind or not name or kind in (CITY, GATEWAY) or channel not in CHANNELS:
            return None
        return f"{kind}/{name}", channel

    def subscriptions(self, kinds: Iterable[str] | None = None) -> list[str]:
        """The filters of what the city hears, of some kinds or (None) of all: telemetry and acknowledgements."""
        levels = ["+"] if kinds is None else sorted(set(kinds))
        return [f"{self._prefix}{kind}/+/{channel}" for kind in levels for channel in (TELEMETRY, ACKNOWLEDGEMENT)]

    def commands(self, kinds: Iterable[str] | None = None) -> list[str]:
        """The filters of what devices hear."""
        levels = ["+"] if kinds is None else sorted(set(kinds))
        return [f"{self._prefix}{kind}/+/{COMMAND}" for kind in levels]


@dataclass(frozen=True, slots=True)
class TopicRule:
    """Where the telemetry of an existing fleet belongs: ``TopicRule("sensors/{name}/data", "air_station")``.

    ``{name}`` stands for exactly one level, which becomes the entity's name; ``+`` for any other single level.
    """

    pattern: str
    kind: str
    _matcher: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        levels = self.pattern.split("/")
        if levels.count("{name}") != 1:
            raise ValueError(
                f"topic pattern {self.pattern!r} must have exactly one level '{{name}}', e.g. 'sensors/{{name}}/data'"
            )
        plain = [level for level in levels if level not in ("{name}", "+")]
        for level in plain:
            _check_levels(level, "level")
        spelled = {"{name}": "([^/]+)", "+": "[^/]*"}
        regex = "/".join(spelled.get(level, re.escape(level)) for level in levels)
        object.__setattr__(self, "_matcher", re.compile(regex, re.DOTALL))

    @property
    def filter(self) -> str:
        """The MQTT filter to subscribe to."""
        return self.pattern.replace("{name}", "+")

    def parse(self, topic: str) -> tuple[str, str] | None:
        """The ``(entity id, "telemetry")`` of a matching topic, else None."""
        match = self._matcher.fullmatch(topic)
        return None if match is None else (f"{self.kind}/{match[1]}", TELEMETRY)
