"""The small words of a scenario file: durations, instants, names, ids and where on Earth."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from twin_actors.scenario.errors import nearest
from twin_actors.scenario.names import REFUSED

_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]+)\s*\Z")
_REFUSED = re.compile(f"[{REFUSED}]")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
LONGEST_NAME = 128


def wrong(message: str) -> PydanticCustomError:
    """An error whose words reach the user as they are."""
    return PydanticCustomError("scenario", "{said}", {"said": message})


LONGEST_S = 36_525 * 86_400.0
"""What can be waited for: operating systems and threads end a little beyond it."""


def duration_s(value: Any) -> float:
    """Seconds of ``90``, ``"90s"``, ``"5min"``, ``"2h"`` or ``"1d"``."""
    if isinstance(value, str):
        found = _DURATION.match(value)
        if not found:
            raise wrong(f"{value!r} is not a duration; write seconds, or a number with a unit such as '5min'")
        number, unit = found.groups()
        if unit not in _SECONDS:
            guess = nearest(unit, _SECONDS)
            hint = f" (did you mean {guess!r}?)" if guess else ""
            raise wrong(f"unknown unit of time {unit!r}{hint}; use ms, s, min, h or d")
        return _bounded(float(number) * _SECONDS[unit])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f"{_shown(value)} is not a duration; write seconds, or a number with a unit such as '5min'")
    if not math.isfinite(value) or value < 0:
        raise wrong(f"a duration is a finite number of seconds from 0 upwards, not {value}")
    return _bounded(float(value))


def _bounded(seconds: float) -> float:
    if seconds > LONGEST_S:
        raise wrong("a duration is at most 36,525 days (a century)")
    return seconds


def positive_duration_s(value: Any) -> float:
    seconds = duration_s(value)
    if seconds <= 0:
        raise wrong("must be longer than 0 s")
    return seconds


def instant_s(value: Any) -> float:
    """Seconds since the epoch of an ISO 8601 time; one without an offset is UTC."""
    if not isinstance(value, str):
        raise wrong(f"{_shown(value)} is not a time; write ISO 8601 such as 2026-06-01T17:00:00Z")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise wrong(f"{value!r} is not a time; write ISO 8601 such as 2026-06-01T17:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def name_fault(name: str) -> str:
    """Why ``name`` cannot name an entity, or an empty string. Names are one level of an MQTT topic and of an id."""
    if not name:
        return "a name must not be empty"
    if len(name) > LONGEST_NAME:
        return f"a name has at most {LONGEST_NAME} characters, this one has {len(name)}"
    found = _REFUSED.search(name)
    if found:
        what = "a blank" if found.group().isspace() else repr(found.group())
        return f"the name {name!r} must not contain {what}: names are part of topics, ids and patterns"
    return ""


def entity_name(value: str) -> str:
    fault = name_fault(value)
    if fault:
        raise wrong(fault)
    return value


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f"must be a number, not {_shown(value)}")
    if not math.isfinite(value):
        raise wrong(f"must be a finite number, not {value}")
    return float(value)


def position(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise wrong(f"a position is [latitude, longitude] in degrees, not {_shown(value)}")
    return value


def per_actor(value: Any) -> int | str:
    if value == "auto" or (_is_count(value) and value >= 1):
        return value  # type: ignore[no-any-return]  # one of the two by the line above
    raise wrong(f"must be a whole number from 1 upwards or 'auto', not {_shown(value)}")


def node_label(value: Any) -> str:
    """Name or value of a node's label, as Ray takes them; a number is taken as its text."""
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _LABEL.match(text):
        raise wrong(
            f"{_shown(value)} is no label of a node: up to 63 letters, digits, '-', '_' and '.', "
            "a letter or digit at both ends"
        )
    return text


def replay_speed(value: Any) -> float | str:
    if value == "max":
        return "max"
    speed = number(value) if not isinstance(value, str) else math.nan
    if not speed > 0:
        raise wrong(f"must be a number above 0 or 'max', not {_shown(value)}")
    return speed


def topic_root(value: str) -> str:
    levels = value.split("/")
    if not all(levels) or any(name_fault(level) for level in levels):
        raise wrong(f"{value!r} is no topic root: levels divided by '/', without blanks, '+', '#' and '$'")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _with_unit_schema(minimum: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", minimum: 0},
                {"type": "string", "pattern": r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(ms|s|min|h|d)\s*$"},
            ],
            "description": 'seconds, or a number with a unit: "90s", "5min", "2h", "1d"',
        }
    )


_NUMBER_SCHEMA = WithJsonSchema({"type": "number"})
Duration = Annotated[float, BeforeValidator(duration_s), _with_unit_schema("minimum")]
PositiveDuration = Annotated[float, BeforeValidator(positive_duration_s), _with_unit_schema("exclusiveMinimum")]
Instant = Annotated[float, BeforeValidator(instant_s), WithJsonSchema({"type": "string", "format": "date-time"})]
Number = Annotated[float, BeforeValidator(number), _NUMBER_SCHEMA]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Whole = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1)]
Port = Annotated[int, Field(strict=True, ge=0, le=65_535)]
Latitude = Annotated[Number, Field(ge=-90, le=90)]
Longitude = Annotated[Number, Field(ge=-180, le=180)]
Position = Annotated[tuple[Latitude, Longitude], BeforeValidator(position)]
PerActor = Annotated[
    int | Literal["auto"],
    BeforeValidator(per_actor),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}),
]
ReplaySpeed = Annotated[
    float | Literal["max"],
    BeforeValidator(replay_speed),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "max"}]}),
]
Text = Annotated[str, StringConstraints(min_length=1)]
NodeLabel = Annotated[str, BeforeValidator(node_label)]
NodeLabels = Annotated[
    tuple[NodeLabel, ...],
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
"""One value that a node's label must have, or several of which it must have one."""
EntityName = Annotated[str, BeforeValidator(lambda value: str(value) if _is_count(value) else value), Text]
"""A name; a bare whole number is taken as its text, so that ``name: 7`` does what it says."""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
