"""The live view of a running city: what it holds, what arrives, what it decided last."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twin_actors.cli.voice import Voice, moment, span, table, words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from twin_actors.core.ledger import Ledger
    from twin_actors.runtime.city import City

REFRESH_S = 1.0
DECISIONS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A city at one moment, or why it could not be seen."""

    status: dict[str, Any] | None = None
    ledger: Ledger | None = None
    decisions: Sequence[dict[str, Any]] = ()
    error: str = ""
    taken_s: float = 0.0


def look(city: City) -> Look:
    """Ask the city how it stands; a city that does not answer now is a look that says so."""
    from twin_actors.cli.faults import explained
    from twin_actors.cli.voice import frame_records
    from twin_actors.core.ledger import Ledger
    from twin_actors.runtime.city import CityNotFound

    taken_s = time.monotonic()
    try:
        ledger = city.ledger()
        assert isinstance(ledger, Ledger)  # without "by" it is one
        decisions = frame_records(city.decisions(last=DECISIONS_SHOWN))
        return Look(status=city.status(), ledger=ledger, decisions=decisions, taken_s=taken_s)
    except (CityNotFound, TimeoutError) as error:
        return Look(error=explained(error)[0], taken_s=taken_s)


def rendered(city: str, now: Look, before: Look | None = None) -> RenderableType:
    """A look as one screen; ``before`` gives the rates."""
    from rich.console import Group
    from rich.text import Text

    from twin_actors.runtime import pace

    if now.status is None or now.ledger is None:
        return Text(f"{city}: {now.error}", style="yellow")
    council, router = now.status["aggregator"], now.status["router"]
    rate = ""
    if before is not None and before.ledger is not None and now.taken_s > before.taken_s:
        rate = f", {(now.ledger.received - before.ledger.received) / (now.taken_s - before.taken_s):,.0f} readings/s"
    standing = [each["standing"] for each in router["actors"].values()]
    link = "connected" if router["connected"] else f"NOT CONNECTED ({router['broker_error']})"
    parts: list[RenderableType] = [
        Text(f"{city}  {moment(now.status['now_s'])} UTC  tick {council['tick']:,}", style="bold"),
        table(
            [{"kind": name, **each} for name, each in council["kinds"].items()],
            ("kind", "twins", "stale", "silent", "alerts"),
        ),
        Text(
            f"router   {link}, MQTT {router['protocol'] or '?'}{rate}, "
            f"{standing.count('up')}/{len(standing)} actors up, {router['open_commands']} open commands"
        ),
        Text(f"ledger   {now.ledger}", style="" if now.ledger.balanced else "bold red"),
        Text(
            f"decided  {council['decisions']:,} decisions, {council['allocations']:,} allocations, commands "
            f"{council['commands_sent']:,} sent / {council['commands_acknowledged']:,} acknowledged / "
            f"{council['commands_expired']:,} expired, {council['emergencies_open']:,} emergencies open"
        ),
    ]
    if short := pace.words(council):
        parts.append(Text(f"left out {short}", style="yellow"))
    for decision in now.decisions:
        line = f"  {moment(decision['at_s'])[11:]} {decision['policy']} ({decision['mode']}): {decision['reason']}"
        parts.append(Text(line, overflow="ellipsis", no_wrap=True))
    parts += [Text(f"  error: {error}", style="red") for error in council["errors"][-2:]]
    return Group(*parts)


def keep_showing(
    voice: Voice,
    show: Callable[[], RenderableType],
    stop: threading.Event,
    *,
    for_s: float | None = None,
    refresh_s: float = REFRESH_S,
) -> None:
    """Show what ``show`` returns again and again until ``stop`` is set or ``for_s`` wall seconds have passed.

    Where nobody looks (a pipe, a file) ``show`` is still called at that rhythm, and only its last answer is printed.
    """
    from rich.live import Live

    ends = None if for_s is None else time.monotonic() + for_s
    screen: RenderableType = ""
    live = voice.out.is_terminal
    with Live(console=voice.out, auto_refresh=False) if live else contextlib.nullcontext() as view:
        try:
            while not stop.is_set():
                screen = show()
                if view is not None:
                    view.update(screen, refresh=True)
                left_s = refresh_s if ends is None else min(refresh_s, ends - time.monotonic())
                if left_s <= 0:
                    break
                stop.wait(left_s)
        finally:
            if not live:
                voice.say(screen)


def card(twin: Any) -> RenderableType:
    """The card of one twin as tables."""
    from rich.console import Group
    from rich.text import Text

    heard = "never heard" if twin.age_s == float("inf") else f"heard {span(max(twin.age_s, 0.0))} ago"
    rows = [dict(zip(("field", "estimated", "unit", "source", "reported"), row, strict=True)) for row in twin.rows()]
    shows = [
        {"indicator": each.name, "value": value, "unit": "" if each.labels else each.unit}
        for each in twin.kind.shows
        for value in [_indicator(each, twin.indicators[each.name])]
    ]
    parts: list[RenderableType] = [
        Text(f"{twin.id}  ({heard}, revision {twin.revision:,}, at {moment(twin.at_s)} UTC)", style="bold"),
        table(rows, ("field", "estimated", "unit", "source", "reported")),
    ]
    if shows:
        parts += [Text(), table(shows, ("indicator", "value", "unit"))]
    for name, (desired, in_force) in twin.differs.items():
        parts.append(Text(f"{name}: desired {words(name, desired)}, in force {words(name, in_force)}", style="yellow"))
    if twin.alerts:
        parts.append(Text(f"ALERTS: {', '.join(twin.alerts)}", style="bold red"))
    if twin.has_predicted:
        from twin_actors.runtime.predicted import table_row

        parts += [Text(), table([table_row(row) for row in twin.predicted], title="predicted")]
    return Group(*parts)


def _indicator(shown: Any, value: float) -> str:
    if shown.labels and 0 <= value < len(shown.labels):
        return str(shown.labels[int(value)])
    return f"{value:.4g}"
