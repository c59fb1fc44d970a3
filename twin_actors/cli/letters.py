"""``dead-letters``: what could not be used, explained, mended, taken in again or put away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.cities import CityName, connected
from twin_actors.cli.faults import Failed
from twin_actors.cli.voice import AsJson, Voice, frame_records, moment, plain, table

if TYPE_CHECKING:
    from twin_actors.runtime.city import City

MOST_AT_ONCE = 10_000


def dead_letters(
    city: CityName = None,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="How many, counted from the newest.")] = 10,
    reason: Annotated[str, typer.Option(help="Only those with this reason, e.g. not_json.")] = "",
    state: Annotated[str | None, typer.Option(help="Only those that are waiting, replayed or discarded.")] = None,
    explain: Annotated[int | None, typer.Option(metavar="ID", help="Show one whole, with what to do about it.")] = None,
    replay: Annotated[
        str | None, typer.Option(metavar="ID|all", help="Take one in again, or all that wait (of --reason).")
    ] = None,
    payload: Annotated[str | None, typer.Option(help="With --replay ID: this text in place of its payload.")] = None,
    payload_file: Annotated[Path | None, typer.Option(help="The same from a file.", exists=True)] = None,
    topic: Annotated[str, typer.Option(help="With --replay ID: this topic in place of its own.")] = "",
    discard: Annotated[int | None, typer.Option(metavar="ID", help="Note that nothing more will be done.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the messages that could not be used; explain one, mend it, take it in again.

    A letter is taken in as if its device had just published it, counts as received once more, and is marked replayed.
    """
    voice = Voice(as_json)
    if sum(each is not None for each in (explain, replay, discard)) > 1:
        raise typer.BadParameter("--explain, --replay and --discard exclude each other")
    if payload is not None and payload_file is not None:
        raise typer.BadParameter("--payload and --payload-file exclude each other")
    mended = payload_file.read_bytes() if payload_file is not None else payload
    with connected(city) as there:
        if explain is not None:
            _explain(voice, there, explain)
        elif replay is not None:
            _replay(voice, there, replay, reason, mended, topic)
        elif discard is not None:
            _found(there, discard)
            there.discard_dead_letter(discard)
            voice.result({"discarded": [discard]}, f"dead letter {discard} is put away")
        else:
            rows = frame_records(there.dead_letters(last, reason=reason, state=state))
            columns = ("id", "received_at_s", "topic", "reason", "state", "detail", "payload")
            voice.result(rows, table(rows, columns) if rows else "no dead letters")


def _found(city: City, number: int) -> Any:
    try:
        return city.dead_letter(number)
    except KeyError as error:
        raise Failed(f"{error.args[0]}; see 'twin-actors dead-letters {city.name}'") from error


def _explain(voice: Voice, city: City, number: int) -> None:
    letter = _found(city, number)
    voice.result(
        plain(letter),
        f"dead letter {letter.id}, {letter.state.value}",
        f"  topic     {letter.topic}",
        f"  received  {moment(letter.received_at_s)} UTC",
        f"  reason    {letter.reason}",
        f"  {letter.detail}",
        f"  payload   {plain(letter.payload[:4000])}",
        f"  mend it   twin-actors dead-letters {city.name} --replay {letter.id} --payload '…'",
    )


def _replay(voice: Voice, city: City, which: str, reason: str, payload: bytes | str | None, topic: str) -> None:
    if which == "all":
        if payload is not None or topic:
            raise typer.BadParameter("--payload and --topic mend one letter: give its id")
        chosen = [int(number) for number in city.dead_letters(MOST_AT_ONCE, reason=reason, state="waiting").index]
    elif which.isdigit():
        chosen = [_found(city, int(which)).id]
    else:
        raise typer.BadParameter(f"--replay takes the id of a letter, or 'all', not {which!r}")
    for number in chosen:
        try:
            city.replay_dead_letter(number, payload=payload, topic=topic)
        except ValueError as error:
            raise Failed(str(error)) from error
    voice.result({"replayed": chosen}, f"{len(chosen):,} taken in again" if chosen else "none waits")
