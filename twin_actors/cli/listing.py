"""What has happened in a running city: decisions, commands, emergencies, alerts and allocations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.cities import CityName, connected
from twin_actors.cli.voice import AsJson, Voice, frame_records, plain, table

if TYPE_CHECKING:
    from twin_actors.runtime.city import City

Last = Annotated[int, typer.Option("--last", "-n", min=1, help="How many, counted from the newest.")]


def decisions(city: CityName = None, last: Last = 10, as_json: AsJson = False) -> None:
    """List the last decisions: by which policy, why, on the sight of which twins, with which effects."""
    _list(
        city,
        as_json,
        "no decisions yet",
        lambda there: frame_records(there.decisions(last)),
        ("id", "at_s", "policy", "mode", "reason", "effects"),
        lambda row: {**row, "effects": "; ".join(_effect(effect) for effect in row["effects"])},
    )


def commands(city: CityName = None, last: Last = 10, as_json: AsJson = False) -> None:
    """List the last commands to devices and how the devices answered."""
    columns = ("id", "entity", "values", "phase", "issued_at_s", "answered_at_s", "note")
    _list(city, as_json, "no commands yet", lambda there: frame_records(there.commands(last)), columns)


def emergencies(city: CityName = None, last: Last = 10, as_json: AsJson = False) -> None:
    """List the last emergencies and how far their handling is."""
    columns = ("id", "entity", "alert", "severity", "phase", "opened_at_s", "on_site_at_s", "closed_at_s", "units")
    _list(city, as_json, "no emergencies yet", lambda there: frame_records(there.emergencies(last)), columns)


def alerts(city: CityName = None, last: Last = 10, as_json: AsJson = False) -> None:
    """List the last alerts that were raised or cleared."""
    _list(
        city,
        as_json,
        "no alerts yet",
        lambda there: frame_records(there.alerts(last)),
        ("at_s", "entity", "alert", "severity", "what", "says"),
        lambda row: {**row, "what": "raised" if row["raised"] else "cleared"},
    )


def allocations(city: CityName = None, last: Last = 10, as_json: AsJson = False) -> None:
    """List the last divisions of the city's resources, with the proven bound of each."""
    _list(
        city,
        as_json,
        "no allocations yet",
        lambda there: plain(there.allocations(last)),
        ("id", "at_s", "demands", "assigned", "objective", "bound", "gap", "binding"),
        lambda row: {
            **row,
            **row["allocation"],
            "demands": len(row["demands"]),
            "assigned": [f"{each['unit']} to {each['demand']}" for each in row["allocation"]["assignments"]],
        },
    )


def _list(
    name: str | None,
    as_json: bool,
    nothing: str,
    fetch: Callable[[City], list[dict[str, Any]]],
    columns: tuple[str, ...],
    worded: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row,
) -> None:
    voice = Voice(as_json)
    with connected(name) as city:
        rows = fetch(city)
    voice.result(rows, table([worded(row) for row in rows], columns) if rows else nothing)


def _effect(effect: dict[str, Any]) -> str:
    from twin_actors.cli.voice import words

    return f"{effect['entity']} {words('', effect['values'])}"
