"""``watch``: the live view of a city, or the cards of some of its twins, until somebody has seen enough."""

from __future__ import annotations

import contextlib
import threading
from typing import Annotated, Any

import typer

from twin_actors.cli.cities import city_and_entities, connected, seconds
from twin_actors.cli.faults import Failed
from twin_actors.cli.voice import AsJson, Voice


def watch(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[CITY] [ENTITY…]", help="Without entities, the whole city.")
    ] = None,
    duration: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Stop after e.g. 30s.")] = None,
    every: Annotated[str, typer.Option(metavar="DURATION", help="How often to look.")] = "1s",
    as_json: AsJson = False,
) -> None:
    """Watch a city or some of its twins until Ctrl-C; the city goes on. With --json, print the last look."""
    from rich.console import Group

    from twin_actors.cli.live import Look, card, keep_showing, look, rendered
    from twin_actors.runtime import local

    for_s, every_s = (None if duration is None else seconds(duration)), seconds(every)
    name, entities = city_and_entities(words or ())
    voice = Voice(as_json)
    last: Any = None
    with connected(name) as city:

        def whole() -> Any:
            nonlocal last
            now = look(city)
            if now.error and local.running(city.name) is None:
                raise Failed(f"{city.name} has ended")
            screen = rendered(city.name, now, last if isinstance(last, Look) else None)
            last = now
            return screen

        def cards() -> Any:
            nonlocal last
            last = [city[entity] for entity in entities]
            return Group(*(card(twin) for twin in last))

        with contextlib.suppress(KeyboardInterrupt):  # the way to stop watching
            keep_showing(voice, cards if entities else whole, threading.Event(), for_s=for_s, refresh_s=every_s)
    if as_json and last is not None:
        voice.result([twin.to_dict() for twin in last] if entities else _plain(last))


def _plain(last: Any) -> dict[str, Any]:
    return {
        "status": last.status,
        "ledger": last.ledger.to_dict() if last.ledger is not None else None,
        "decisions": last.decisions,
        "error": last.error,
    }
