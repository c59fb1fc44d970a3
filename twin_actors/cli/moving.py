"""``plan``, ``nodes``, ``rebalance``, ``drain``: which twins share an actor, and where the actors stand and go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.cities import CityName, connected, with_city
from twin_actors.cli.faults import Failed
from twin_actors.cli.voice import AsJson, Voice, frame_records, table

if TYPE_CHECKING:
    import pandas as pd

Within = Annotated[float, typer.Option("--within", metavar="SECONDS", min=1, help="How long to wait for the moves.")]
_COLUMNS = ("actor", "source", "target", "outcome", "waited_s")


def rebalance(
    city: CityName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print which twin actors would move.")] = False,
    within: Within = 600.0,
    as_json: AsJson = False,
) -> None:
    """Even out the nodes of a city's cluster: few twin actors move, two at a time, and nothing is lost."""
    voice = Voice(as_json)
    with connected(city) as there, _bar(voice) as progress:
        made = there.rebalance(dry_run=dry_run, deadline_s=within, progress=progress)
    rows = frame_records(made)
    if not rows:
        voice.result(rows, "the nodes are even: nothing to move")
        return
    columns = ("actor", "source", "target") if dry_run else _COLUMNS
    voice.result(rows, table(_short(rows), columns))


def drain(
    words: Annotated[list[str], typer.Argument(metavar="[CITY] NODE", help="Its address, or its id's beginning.")],
    undo: Annotated[bool, typer.Option("--undo", help="Let twin actors stand there again; none moves back.")] = False,
    within: Within = 600.0,
    as_json: AsJson = False,
) -> None:
    """Move everything of a city off a node and keep it empty, so that the node can be ended.

    A node that gets SIGTERM is emptied without this, within the 30 s that Ray gives it.
    """
    from twin_actors.runtime.relocating import Stranded

    city, (node,) = with_city(words, 1, "[CITY] NODE")
    voice = Voice(as_json)
    try:
        with connected(city) as there, _bar(voice) as progress:
            made = there.drain(node, undo=undo, deadline_s=within, progress=progress)
    except KeyError as error:
        raise Failed(str(error.args[0])) from None
    except (ValueError, Stranded) as error:
        raise Failed(str(error)) from None
    if undo:
        voice.result({"node": node, "state": "open"}, f"{node} is open again")
        return
    rows = frame_records(made)
    nothing = f"{node} is closed; nothing stood on it"
    voice.result(rows, table(_short(rows), _COLUMNS) if rows else nothing)


def nodes(city: CityName = None, as_json: AsJson = False) -> None:
    """List the nodes that can hold a city's twin actors: state, twin actors, memory, readings a second, labels."""
    with connected(city) as there:
        rows = frame_records(there.nodes())
    shown = [
        {
            "node": row["node"][:8],
            **{key: row[key] for key in ("address", "state", "actors")},
            "memory": f"{row['memory_bytes'] / 1e9:.2f} of {row['capacity_bytes'] / 1e9:.2f} GB",
            "readings/s": f"{row['readings_per_s']:,.0f}",
            "labels": ", ".join(f"{name}={value}" for name, value in row["labels"].items()),
        }
        for row in rows
    ]
    voice = Voice(as_json)
    voice.result(rows, table(shown) if shown else "no node has room for a twin actor")


def plan(city: CityName = None, as_json: AsJson = False) -> None:
    """Say how many twins of each kind share an actor, which bound decided that, and what was measured of them."""
    with connected(city) as there:
        rows = frame_records(there.sizes())
    shown = [
        {
            **{key: row[key] for key in ("kind", "twins", "per_actor", "bound")},
            "readings/s": "" if row["readings_per_s"] is None else f"{row['readings_per_s']:,.1f}",
            "because": row["says"],
        }
        for row in rows
    ]
    Voice(as_json).result(rows, table(shown))


def actors_of(there: Any) -> pd.DataFrame:
    """A city's twin actors with their places, for ``ps``."""
    frame: pd.DataFrame = there.actors()
    return frame[["twins", "address", "node", "pid", "memory_bytes", "standing", "received", "waiting"]]


@contextlib.contextmanager
def _bar(voice: Voice) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for as long as the moves take, where somebody looks."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=voice.err, transient=True, disable=not voice.err.is_terminal) as bar:
        task = bar.add_task("asking the city", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)


def _short(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ids of nodes cut to what tells them apart."""
    return [
        {key: value[:8] if key in ("source", "target") else _rounded(value) for key, value in row.items()}
        for row in rows
    ]


def _rounded(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value
