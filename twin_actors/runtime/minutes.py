"""The council's minutes: its memory and its records as plain JSON-able data, and the council made again from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from twin_actors.core.deciding import Decision, IssuedCommand
from twin_actors.core.view import CommandTo, CoupleTo, Value

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
    """The inverse of ``decision_row``. Raises msgspec.ValidationError for another row."""
    effects = []
    for effect in row["effects"]:
        said = dict(effect)
        made = _EFFECTS[said.pop("effect")](**{**said, "values": values_of(said["values"])})
        effects.append(made)
    return replace(msgspec.convert({**row, "effects": []}, Decision), effects=tuple(effects))


def command_row(command: IssuedCommand) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(command)
    return row


def command_of(row: Mapping[str, Any]) -> IssuedCommand:
    return msgspec.convert({**row, "values": values_of(row["values"])}, IssuedCommand)


def values_of(values: Mapping[str, Any]) -> dict[str, Value]:
    """Values as the rest of the house knows them: vectors are tuples."""
    return {name: tuple(value) if isinstance(value, list | tuple) else float(value) for name, value in values.items()}
