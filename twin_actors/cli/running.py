"""``ps`` and ``down``: the cities of this machine, and their end."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.cities import CityName, chosen, connected
from twin_actors.cli.faults import Failed
from twin_actors.cli.moving import actors_of
from twin_actors.cli.voice import AsJson, Voice, frame_records, span, table

if TYPE_CHECKING:
    from twin_actors.runtime.processes import Record, Running


def ps(
    city: Annotated[
        str | None, typer.Argument(metavar="[CITY]", help="List this city's twin actors, and on which node each is.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the cities that run on this machine, with their uptime and processes; or one city's twin actors."""
    from twin_actors.runtime import local
    from twin_actors.runtime.pace import words

    if city is not None:
        with connected(city) as there:
            actors = frame_records(actors_of(there))
            short = words(there.status()["aggregator"])
        voice = Voice(as_json)
        voice.result(actors, table([{**each, "node": (each["node"] or "")[:8]} for each in actors]))
        if short:
            voice.warn(short)
        return

    cities = [described(record) for record in local.cities().values()]
    leftovers = [record.city for record in unended()]
    voice = Voice(as_json)
    rows = [
        {
            "city": each["city"],
            "up": span(each["uptime_s"]),
            "head": each["head_pid"],
            "broker": f"{each['broker']['kind']}:{each['broker']['port']}" if each["broker"] else "external",
            "devices": each["devices_pid"],
            "memory": f"{each['memory_bytes'] / 1e9:.1f} GB",
            "address": each["address"],
            "scenario": ", ".join(each["scenario"]),
        }
        for each in cities
    ]
    shown = table(rows) if rows else "no city runs here; start one with 'twin-actors up FILE'"
    voice.result(cities, shown)
    for name in leftovers:
        voice.warn(f"{name}: its Ray head has gone without 'down'; 'twin-actors down {name}' ends what it left behind")


def down(
    city: CityName = None,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Delete what the city keeps (store, history, broker's queue) as well.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --volumes: do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a city: exactly the processes that its launch started, whoever else uses Ray on this machine.

    What it keeps stays, and the next 'up' goes on where it stopped; --volumes deletes it after asking.
    """
    from twin_actors.runtime import local, shutdown

    remains = {record.city: record for record in unended()}
    if city is None and len(remains) == 1 and not local.cities():
        city = next(iter(remains))
    lives = city is None or city in remains or city in local.cities()
    if not lives and not (volumes and local.folder_of(str(city)).exists()):
        chosen(city)  # says which cities there are
    name = str(city if city in remains or not lives else chosen(city))
    voice = Voice(as_json)
    if volumes and not yes:
        typer.confirm(
            f"Delete everything that {name} keeps (log, history, snapshots, decisions, dead letters)?",
            abort=True,
            err=True,
        )
    began = time.monotonic()
    how = "had ended before"
    with voice.err.status(f"ending {name}") if voice.err.is_terminal else contextlib.nullcontext():
        if name in remains:
            shutdown.end(remains[name], local.folder_of(name))
            how = "left behind"
        elif lives:
            how = _end(name)
        if volumes:
            shutdown.delete(name)
    took_s = time.monotonic() - began
    kept = "what it kept is deleted" if volumes else how
    said = {"city": name, "ended": True, "deleted": volumes, "took_s": round(took_s, 3)}
    voice.result(said, f"{name} has ended ({kept}, {span(took_s)})")


def _end(name: str) -> str:
    """End a running city in good order, or by its processes alone where its actors do not answer."""
    from twin_actors.runtime import local, shutdown
    from twin_actors.runtime.city import City, CityNotFound

    record = local.running(name)
    if record is None:
        raise Failed(f"{name} has ended in the meantime")
    if record.address == "local":
        # it lives inside another process's Ray, which no other process can reach
        shutdown.end(record, local.folder_of(name))
        return "its processes; the twin actors end with the process that launched them"
    try:
        City.connect(name).down()
    except (CityNotFound, TimeoutError):
        shutdown.end(record, local.folder_of(name))
        return "by its processes, its actors did not answer"
    return "in good order"


def unended() -> list[Record]:
    """Records of cities whose Ray head has gone although nobody ended them: broker and devices may still live."""
    from twin_actors.runtime import local
    from twin_actors.runtime.processes import Record, home

    if not home().is_dir():
        return []
    running = local.cities()
    found = [Record.load(path) for path in sorted(home().iterdir()) if path.is_dir() and path.name not in running]
    return [record for record in found if record is not None]


def described(record: Record) -> dict[str, Any]:
    """A running city as plain values."""
    import psutil

    def pid(running: Running | None) -> int | None:
        return running.pid if running is not None and running.process() is not None else None

    memory = 0
    broker_pid = record.broker["pid"] if record.broker else None
    for each in (pid(record.head), pid(record.devices), broker_pid):
        if each is None:
            continue
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process = psutil.Process(each)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    memory += one.memory_info().rss
    return {
        "city": record.city,
        "uptime_s": round(time.time() - record.launched_at_s, 1),
        "launched_at_s": record.launched_at_s,
        "address": record.address,
        "head_pid": pid(record.head),
        "broker": {key: record.broker[key] for key in ("kind", "pid", "port")} if record.broker else None,
        "devices_pid": pid(record.devices),
        "memory_bytes": memory,
        "scenario": list(record.scenario),
    }
