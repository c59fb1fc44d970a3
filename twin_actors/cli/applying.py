"""``apply``: another scenario for a city that runs, shown as a diff and then taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twin_actors.cli.cities import connected
from twin_actors.cli.faults import Failed
from twin_actors.cli.voice import AsJson, Voice, plain


def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="The scenario, several files layered in order.")],
    rename: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="This entity goes on under another id; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a changed scenario over while its city runs: entities, attributes, policies, resources, packing.

    Twins that are not touched live on. What is touched stops for some seconds, in which the broker keeps what devices
    say at QoS 1. Another broker, store, clock, fleet or division of routers needs 'down' and 'up'.
    """
    from twin_actors.runtime.applying import ChangeRefused
    from twin_actors.scenario import load_scenario

    voice = Voice(as_json)
    scenario = load_scenario(files)
    renamed = dict(_pair(each) for each in rename or ())
    try:
        with connected(scenario.city) as there:
            change = there.apply(scenario, renamed=renamed, dry_run=True)
            for line in () if as_json else change.lines():
                typer.echo(line)
            if not dry_run:
                change = there.apply(scenario, renamed=renamed)
            actors = len(there.plan.actors)
    except (ChangeRefused, ValueError) as error:
        raise Failed(str(error)) from None
    said = {**plain(change), "applied": not dry_run and not change.empty, "actors": actors}
    if change.empty:
        voice.result(said, f"{scenario.city} is like this already")
    elif dry_run:
        voice.result(said, "nothing was changed (--dry-run)")
    else:
        voice.result(said, f"{scenario.city} goes by this scenario now, with {actors} twin actors")


def _pair(said: str) -> tuple[str, str]:
    old, sign, new = said.partition("=")
    if not sign or not old or not new:
        raise typer.BadParameter(f"{said!r}: write --rename OLD=NEW, two ids of the form kind/name")
    return new, old
