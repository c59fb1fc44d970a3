"""``history``: what an entity has said of a field, raw or rolled up."""

from __future__ import annotations

from typing import Annotated

import typer

from twin_actors.cli.cities import connected, with_city
from twin_actors.cli.faults import Failed
from twin_actors.cli.voice import AsJson, Voice, frame_records, table

ROWS_SHOWN = 50


def history(
    words: Annotated[
        list[str], typer.Argument(metavar="[CITY] ENTITY FIELD", help="The entity as kind/name, and one of its fields.")
    ],
    last: Annotated[str | None, typer.Option(help="How far back, e.g. 30min or 6h (default 1h).")] = None,
    since: Annotated[str | None, typer.Option(help="From this moment on (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="Up to this moment (ISO 8601).")] = None,
    by: Annotated[str, typer.Option(help="raw, minute or hour.")] = "raw",
    as_json: AsJson = False,
) -> None:
    """List what one entity has said of one field, with its quality, or what that comes to per minute or hour."""
    name, (entity, field) = with_city(words, 2, "[CITY] ENTITY FIELD")
    voice = Voice(as_json)
    with connected(name) as city:
        try:
            frame = city.history(entity, field, last=last, since=since, until=until, resolution=by)
        except (KeyError, ValueError) as error:
            raise Failed(str(error.args[0])) from error
    rows = frame_records(frame)
    unit = frame.attrs["units"]["value"]
    title = f"{entity} {field} in {unit}, {len(rows):,} rows"
    voice.result(rows, table(rows[-ROWS_SHOWN:], title=title) if rows else f"{title}: nothing was said in that time")
