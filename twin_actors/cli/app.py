"""The commands of ``twin-actors`` put together, and the options that stand before or after all of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from twin_actors import __version__
from twin_actors.cli import (
    applying,
    asking,
    calibrating,
    clustering,
    creating,
    doctor,
    files,
    keeping,
    letters,
    listing,
    measuring,
    moving,
    past,
    replaying,
    running,
    shell,
    up,
    watching,
)
from twin_actors.cli.faults import DEBUG, careful
from twin_actors.cli.voice import AsJson, Voice


class Commands(TyperGroup):
    """Takes ``--debug`` wherever it stands: people add it to the end of the line that has just failed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        DEBUG.set("--debug" in args)
        return super().parse_args(ctx, [each for each in args if each != "--debug"])


app = typer.Typer(
    name="twin-actors",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Digital twins of whole cities: launch one from a scenario file, look at it, ask it, command it.",
    epilog="Exit codes: 0 fine, 1 failed, 2 bad scenario or usage, 3 launch refused, 4 ledger unbalanced.",
)


@app.callback()
def everywhere(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere on the line.")] = False,
) -> None:
    """Options of all commands."""


def version(as_json: AsJson = False) -> None:
    """Print the versions of Twin Actors, Python and Ray."""
    import platform
    from importlib import metadata

    versions = {"twin_actors": __version__, "python": platform.python_version(), "ray": metadata.version("ray")}
    Voice(as_json).result(versions, *(f"{name.replace('_', '-')} {number}" for name, number in versions.items()))


_CITY, _LOOK, _FILES, _HELP = "A city's life", "Looking and asking", "Files and domains", "This machine"

for name, command, panel in (
    ("up", up.up, _CITY),
    ("down", running.down, _CITY),
    ("ps", running.ps, _CITY),
    ("backup", keeping.backup, _CITY),
    ("restore", keeping.restore, _CITY),
    ("verify", keeping.verify, _CITY),
    ("replay", replaying.replay, _CITY),
    ("command", asking.command, _CITY),
    ("apply", applying.apply, _CITY),
    ("plan", moving.plan, _CITY),
    ("nodes", moving.nodes, _CITY),
    ("rebalance", moving.rebalance, _CITY),
    ("drain", moving.drain, _CITY),
    ("show", asking.show, _LOOK),
    ("query", asking.query, _LOOK),
    ("watch", watching.watch, _LOOK),
    ("decisions", listing.decisions, _LOOK),
    ("commands", listing.commands, _LOOK),
    ("emergencies", listing.emergencies, _LOOK),
    ("alerts", listing.alerts, _LOOK),
    ("dead-letters", letters.dead_letters, _LOOK),
    ("history", past.history, _LOOK),
    ("allocations", listing.allocations, _LOOK),
    ("ledger", asking.ledger, _LOOK),
    ("metrics", measuring.metrics, _LOOK),
    ("shell", shell.shell, _LOOK),
    ("validate", files.validate, _FILES),
    ("schema", files.schema, _FILES),
    ("calibrate", calibrating.calibrate, _FILES),
    ("new-domain", creating.new_domain, _FILES),
    ("doctor", doctor.doctor, _HELP),
    ("version", version, _HELP),
):
    app.command(name, rich_help_panel=panel)(careful(command))

cluster = typer.Typer(no_args_is_help=True, help="A city on several machines: write what launches it there.")
cluster.command("render")(careful(clustering.render))
app.add_typer(cluster, name="cluster", rich_help_panel=_FILES)
