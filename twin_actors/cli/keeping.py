"""``backup``, ``restore`` and ``verify``: what a city keeps, taken away, given back, and looked through."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from twin_actors.cli.cities import chosen
from twin_actors.cli.faults import Failed
from twin_actors.cli.voice import AsJson, Voice, plain

AGGREGATOR = "aggregator"


def backup(
    words: Annotated[list[str], typer.Argument(metavar="[CITY] FOLDER", help="A new folder for the backup.")],
    as_json: AsJson = False,
) -> None:
    """Take a backup of everything that a city keeps, while it runs or after it has ended.

    It can be restored into either engine, by 'twin-actors restore'.
    """
    from twin_actors.cli.cities import with_city
    from twin_actors.store.backup import backup as take

    name, (target,) = with_city(words, 1, "[CITY] FOLDER")
    voice = Voice(as_json)
    store = _store(name)
    try:
        with _told(voice) as progress, _explained():
            manifest = take(store, Path(target), progress=progress)
    finally:
        store.close()
    entries = sum(facts.stop - facts.first for facts in manifest.logs.values())
    said = {"folder": target, "entries": entries, "manifest": plain(manifest)}
    voice.result(said, f"{entries:,} log entries, snapshots and records are in {target}")


def restore(
    archive: Annotated[Path, typer.Argument(metavar="FOLDER", help="The backup.", exists=True)],
    city: Annotated[str, typer.Argument(metavar="CITY", help="The city that is to have it; it must not run.")],
    store: Annotated[
        str, typer.Option(help="The store of its scenario: sqlite:, sqlite:/folder or postgresql://…")
    ] = "sqlite:",
    replace: Annotated[bool, typer.Option("--replace", help="Delete first what the store holds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a backup to a city that does not run; its next 'up' goes on from there."""
    from twin_actors.runtime import local
    from twin_actors.runtime.stores import store_of
    from twin_actors.store.backup import restore as give

    voice = Voice(as_json)
    if local.running(city) is not None:
        raise Failed(f"{city} is running: end it first with 'twin-actors down {city}'")
    folder = local.folder_of(city)
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    with _explained(), local.alone(folder, city):
        where = store_of(store, folder, city)
        with _told(voice) as progress:
            manifest = give(archive, where.url, replace=replace, progress=progress)
    entries = sum(facts.stop - facts.first for facts in manifest.logs.values())
    said = {"city": city, "store": where.shown, "entries": entries}
    voice.result(said, f"{entries:,} log entries, snapshots and records are in {where.shown}; 'twin-actors up' goes on")


def verify(
    what: Annotated[str | None, typer.Argument(metavar="CITY|FOLDER", help="A city, or a backup.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look through a city's store or a backup: hashes, offsets, snapshots, epochs; exit code 1 with what is wrong."""
    from twin_actors.store.verify import verify as look

    voice = Voice(as_json)
    archive = Path(what) if what is not None and Path(what).is_dir() else None
    store = None if archive is not None else _store(what)
    try:
        with _explained():
            report = look(archive if store is None else store, follows=_followed)  # type: ignore[arg-type]  # one of them
    finally:
        if store is not None:
            store.close()
    said = {**plain(report), "sound": not report.findings}
    lines = [
        f"{report.entries:,} log entries, {report.snapshots:,} snapshots: " + ("sound" if not report.findings else "")
    ]
    voice.result(said, *lines, *(f"  {finding}" for finding in report.findings))
    if report.findings:
        raise Failed(f"{len(report.findings)} findings")


def _followed(name: str) -> str | None:
    """The log that the snapshots of an actor are offsets of."""
    if name == AGGREGATOR:
        return None
    if name.split(":", 1)[0] == "router":
        return name
    router = name.partition("@")[2]
    return f"router:{router}" if router else "router"


def _store(name: str | None) -> Any:
    """The store of a city that runs, or has run on this machine."""
    from twin_actors.runtime import local
    from twin_actors.runtime.plan import CityPlan

    city = name if name is not None and local.folder_of(name).exists() else chosen(name)
    try:
        return CityPlan.load(local.folder_of(city)).open_store()
    except FileNotFoundError as error:
        raise Failed(f"{city} has never been launched on this machine") from error


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    from twin_actors.runtime.placement import LaunchRefused
    from twin_actors.store import StoreDamaged, StoreUnavailable

    try:
        yield
    except (ValueError, StoreUnavailable, StoreDamaged, LaunchRefused) as error:
        raise Failed(str(error)) from error


@contextlib.contextmanager
def _told(voice: Voice) -> Iterator[Any]:
    """A progress bar where somebody looks."""
    from rich.progress import Progress

    with Progress(console=voice.err, transient=True, disable=not voice.err.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of or None)
            bar.update(tasks[what], completed=done)

        yield tell
