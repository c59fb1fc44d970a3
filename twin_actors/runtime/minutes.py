"""The council's minutes: its memory and its records as plain JSON-able data, and the council made again from them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from twin_actors.core.deciding import Decision, IssuedCommand, Sight
from twin_actors.core.view import CommandTo, CoupleTo, Value

log = logging.getLogger(__name__)

T = TypeVar("T")

_EFFECTS: dict[str, type[CommandTo] | type[CoupleTo]] = {"command": CommandTo, "coupling": CoupleTo}


def decision_row(decision: Decision) -> dict[str, Any]:
    """A decision as a record; every effect says what it is."""
    row: dict[str, Any] = msgspec.to_builtins(decision)
    row["effects"] = [
        {"effect": "command" if isinstance(effect, CommandTo) else "coupling", **msgspec.to_builtins(effect)}
        for effect in decision.effects
    ]
    return row


def decision_of(row: Mapping[str, Any]) -> Decision:
    """The inverse of ``decision_row``. Raises KeyError, TypeError or msgspec.ValidationError for another row."""
    effects: list[CommandTo | CoupleTo] = []
    for effect in row["effects"]:
        said = dict(effect)
        made = _EFFECTS[said.pop("effect")]
        effects.append(made(**{**said, "values": values_of(said["values"])}))
    # a twin that was never heard is infinitely old, for which JSON has no number
    because = tuple(Sight(**{**sight, "age_s": _or_infinite(sight["age_s"])}) for sight in row["because"])
    return Decision(**{**row, "because": because, "effects": tuple(effects)})


def _or_infinite(number: float | None) -> float:
    return math.inf if number is None else number


def command_row(command: IssuedCommand) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(command)
    return row


def command_of(row: Mapping[str, Any]) -> IssuedCommand:
    return msgspec.convert({**row, "values": values_of(row["values"])}, IssuedCommand)


def values_of(values: Mapping[str, Any]) -> dict[str, Value]:
    """Values as the rest of the house knows them: vectors are tuples."""
    return {name: tuple(value) if isinstance(value, list | tuple) else float(value) for name, value in values.items()}


def readable(table: str, rows: Iterable[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    """The records that this version can read; what has been is for people, and must not keep a city from going on."""
    skipped = 0
    for row in rows:
        try:
            yield read(row)
        except (KeyError, TypeError, msgspec.ValidationError) as error:
            skipped += 1
            log.warning("a record of %s cannot be read and is not shown: %s", table, error)
    if skipped:
        log.warning("%d records of %s were written by another version", skipped, table)
