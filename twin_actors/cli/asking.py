"""Questions to a running city and orders to its devices: ``show``, ``query``, ``ledger`` and ``command``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.cities import CityName, city_and_entities, connected, with_city
from twin_actors.cli.faults import ExitCode, Failed
from twin_actors.cli.voice import AsJson, Voice, frame_records, table

if TYPE_CHECKING:
    from twin_actors.core.ledger import Ledger

ROWS_SHOWN = 50


def show(
    words: Annotated[list[str], typer.Argument(metavar="[CITY] ENTITY", help="An id: kind/name.")],
    predicted: Annotated[bool, typer.Option("--predicted", help="Also what it will be, up to a day ahead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the twin of one entity: estimated, reported, how far to trust it, and its alerts."""
    from twin_actors.cli.live import card

    name, (entity,) = with_city(words, 1, "[CITY] ENTITY")
    voice = Voice(as_json)
    with connected(name) as city:
        twin = city[entity]
        if predicted:
            with voice.err.status(f"forecasting {entity} from its history"):
                _ = twin.predicted
        voice.result(twin.to_dict(), card(twin))


def query(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[CITY] KIND [EXPR]", help='EXPR is e.g. "waiting_veh > 20".'),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"Rows at most ({ROWS_SHOWN} on a screen, all as JSON).")
    ] = None,
    columns: Annotated[str, typer.Option(help="Columns, divided by commas; 'all' for every one.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the twins of a kind for which an expression over their columns holds."""
    name, kind, expression = _query_words(words)
    voice = Voice(as_json)
    with connected(name) as city:
        frame = city.query(kind, expression) if expression else city.frame(kind)
    found = len(frame)
    most = limit if limit is not None else (found if as_json else ROWS_SHOWN)
    wanted = _columns(kind, frame, columns, as_json)
    rows = frame_records(frame[wanted].head(most))
    if not as_json:
        rows = _with_words(kind, rows)
    voice.result(rows, table(rows, ("entity", *wanted), title=f"{found:,} of kind {kind}"))
    if late := frame.attrs["late"]:
        voice.warn(f"as they were last seen, because their twin actors do not answer: twins of {', '.join(late)}")
    if found > most:
        voice.warn(f"… and {found - most:,} more; --limit shows them")


def _query_words(words: Sequence[str]) -> tuple[str | None, str, str]:
    """City, kind and expression; two words are a kind and its expression unless the first one is a running city."""
    if len(words) == 1:
        return None, words[0], ""
    if len(words) == 3:
        return words[0], words[1], words[2]
    if len(words) != 2:
        raise typer.BadParameter("expected [CITY] KIND [EXPR]; put the expression in quotes")
    from twin_actors.runtime import local

    if local.running(words[0]) is not None and words[1].isidentifier():
        return words[0], words[1], ""
    return None, words[0], words[1]


def _columns(kind: str, frame: Any, asked: str, everything: bool) -> list[str]:
    """The columns to show: those asked for, or tags, headline, age and raised alerts of the kind."""
    from twin_actors.scenario import load_catalogue
    from twin_actors.scenario.errors import nearest

    there = [str(name) for name in frame.columns]
    if asked == "all" or (everything and not asked):
        return there
    if asked:
        wanted = [name.strip() for name in asked.split(",")]
        for name in wanted:
            if name not in there:
                guess = nearest(name, there)
                hint = f" (did you mean {guess!r}?)" if guess else ""
                raise Failed(f"{kind} has no column {name!r}{hint}; its columns: {', '.join(there)}")
        return wanted
    described = load_catalogue().kind(kind)
    units = frame.attrs.get("units", {})
    tags = [name for name in there if name not in units and frame[name].dtype == object]
    alerts = [alert.name for alert in described.alerts if alert.name in there and bool(frame[alert.name].any())]
    headline = [name for name in there if name.partition("[")[0] in described.headline]
    return [*tags, *headline, "age_s", *alerts]


def _with_words(kind: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ratings as their words (A to F) instead of their numbers."""
    from twin_actors.scenario import load_catalogue

    labels = {shown.name: shown.labels for shown in load_catalogue().kind(kind).shows if shown.labels}

    def worded(name: str, value: Any) -> Any:
        known = labels.get(name, ())
        return known[int(value)] if known and value is not None and 0 <= value < len(known) else value

    return [{name: worded(name, value) for name, value in row.items()} for row in rows]


class By(StrEnum):
    """How a ledger can be divided."""

    entity = "entity"
    kind = "kind"
    actor = "actor"


def ledger(
    city: CityName = None,
    by: Annotated[By | None, typer.Option(help="One ledger for each of these.")] = None,
    as_json: AsJson = False,
) -> None:
    """Account for every reading: received = applied + duplicate + late + dead-lettered + shed + in flight.

    Exit code 4 says that it does not balance.
    """
    voice = Voice(as_json)
    with connected(city) as there:
        found: Any = there.ledger(by.value if by else None)
    if by is None:
        voice.result(found.to_dict(), str(found))
        _must_balance({"": found})
        return
    divided: Mapping[str, Ledger] = found
    rows = [{by.value: name or "(nobody)", **each.to_dict()} for name, each in divided.items()]
    voice.result({name: each.to_dict() for name, each in divided.items()}, table(rows))
    _must_balance(divided)


def _must_balance(ledgers: Mapping[str, Ledger]) -> None:
    bad = {name: each.unexplained for name, each in ledgers.items() if not each.balanced}
    if bad:
        where = ", ".join(f"{name or 'the city'} {count:+,}" for name, count in list(bad.items())[:10])
        raise Failed(f"the ledger does not balance: {where}", ExitCode.LEDGER_UNBALANCED)


def command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[CITY] ENTITY FIELD=VALUE…", help="A vector takes one value, or one each: 0.2,0.3,0.4."
        ),
    ],
    reason: Annotated[str, typer.Option(help="Why; it is recorded with the decision.")] = "ordered by hand",
    as_json: AsJson = False,
) -> None:
    """Order something from an entity's device; it is checked, recorded as a decision and sent with the next tick."""
    name, rest = city_and_entities(words)
    if len(rest) < 2:
        raise typer.BadParameter("expected [CITY] ENTITY FIELD=VALUE…")
    entity, *settings = rest
    values = dict(_setting(each) for each in settings)
    voice = Voice(as_json)
    with connected(name) as city:
        decision = city.command(entity, reason=reason, **values)
        voice.result(
            {"decision": decision, "entity": entity, "values": values},
            f"{decision}: {entity} {' '.join(settings)}; 'twin-actors commands {city.name}' shows the answer",
        )


def _setting(text: str) -> tuple[str, float | tuple[float, ...]]:
    """``field=0.6`` or ``field=0.2,0.3``. Raises BadParameter."""
    field, equals, value = text.partition("=")
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if not field.isidentifier() or not equals or not numbers:
        raise typer.BadParameter(f"{text!r} is not FIELD=VALUE with a number or several divided by commas")
    return field, numbers[0] if len(numbers) == 1 else numbers
