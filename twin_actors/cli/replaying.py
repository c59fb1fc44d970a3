"""``replay``: recorded data to a running city or to any broker, as if its devices spoke."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.cities import Files, Layered, chosen, read_scenario
from twin_actors.cli.faults import Failed
from twin_actors.cli.voice import AsJson, Voice, moment, span

if TYPE_CHECKING:
    from twin_actors.runtime.recording import Recording
    from twin_actors.scenario.model import Replay, Scenario
    from twin_actors.wire.client import BrokerAddress

FLUSH_DEADLINE_S = 60.0


def replay(
    files: Files = None,
    layered: Layered = None,
    source: Annotated[int | None, typer.Option(min=1, help="Only this one of the replays, counted from 1.")] = None,
    city: Annotated[str | None, typer.Option(help="Play to this running city [default: the scenario's own].")] = None,
    broker: Annotated[str | None, typer.Option(help="Play to this broker: mqtt://host:port or mqtts://…")] = None,
    speed: Annotated[
        str | None, typer.Option(help="Times as fast as it was recorded, or 'max' [default: as the scenario says].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play the recordings of a scenario over MQTT to a running city or a broker, several of them at once."""
    if city is not None and broker is not None:
        raise typer.BadParameter("give either --city or --broker")
    factor = _speed(speed)
    scenario = read_scenario(files, layered)
    chosen_ones = _chosen(scenario, source)
    voice = Voice(as_json)
    address, root = _address(scenario, city, broker)
    recordings = _read(voice, scenario, chosen_ones)
    speeds = [each.speed if speed is None else factor for each in chosen_ones]
    sent = _play(voice, recordings, speeds, address, root)
    played = [
        {
            "file": recording.file,
            "kind": recording.kind,
            "readings": len(recording),
            "sent": count,
            "bad_rows": recording.bad_rows,
            "empty": recording.empty,
            "strangers": dict(recording.strangers),
        }
        for recording, count in zip(recordings, sent, strict=True)
    ]
    lines = [f"{each['file']}: {each['sent']:,} of {each['readings']:,} readings sent" for each in played]
    voice.result({"broker": address.url, "sent": sum(sent), "replays": played}, *lines)


def _speed(text: str | None) -> float | None:
    from pydantic_core import PydanticCustomError

    from twin_actors.scenario.words import replay_speed

    if text is None or text == "max":
        return None
    try:
        speed = replay_speed(float(text))
    except (ValueError, PydanticCustomError):
        raise typer.BadParameter(f"--speed is a number above 0 or 'max', not {text!r}") from None
    return float(speed)


def _chosen(scenario: Scenario, source: int | None) -> list[Replay]:
    replays = list(scenario.replays)
    if not replays:
        raise Failed(f"{scenario.city} has no replays: add one under 'sources'")
    if source is None:
        return replays
    if source > len(replays):
        there = ", ".join(f"{number}: {each.file}" for number, each in enumerate(replays, start=1))
        raise Failed(f"there is no replay {source}; there are {there}")
    return [replays[source - 1]]


def _address(scenario: Scenario, city: str | None, broker: str | None) -> tuple[BrokerAddress, str]:
    """Where to play, and below which topic root."""
    from twin_actors.wire.client import BrokerAddress

    if broker is not None:
        return BrokerAddress.from_url(broker), scenario.root
    from twin_actors.runtime import local
    from twin_actors.runtime.plan import CityPlan
    from twin_actors.runtime.reach import address_of

    plan = CityPlan.load(local.folder_of(chosen(city if city is not None else scenario.city)))
    return address_of(plan.broker), plan.scenario.root


def _read(voice: Voice, scenario: Scenario, replays: list[Replay]) -> list[Recording]:
    from rich.progress import Progress

    from twin_actors.runtime.replay import load_replay

    ids = frozenset(entity.id for entity in scenario.entities)
    recordings = []
    with Progress(console=voice.err, transient=True, disable=not voice.err.is_terminal) as bar:
        for each in bar.track(replays, description="reading the recordings"):
            recording = load_replay(each, ids)
            recordings.append(recording)
            if recording.bad_rows:
                first = "; ".join(f"line {row.line}: {row.reason}" for row in recording.bad[:3])
                voice.warn(f"{recording.file}: {recording.bad_rows:,} bad rows left out ({first})")
            if recording.strangers:
                names = ", ".join(list(recording.strangers)[:5])
                count = sum(recording.strangers.values())
                voice.warn(f"{recording.file}: {count:,} readings of entities not in the scenario ({names})")
            if not len(recording):
                raise Failed(f"{recording.file}: there is nothing to play")
    return recordings


def _play(
    voice: Voice, recordings: list[Recording], speeds: list[float | None], address: BrokerAddress, root: str
) -> list[int]:
    """Play all recordings at once, each in a thread of its own; what each has sent."""
    import secrets

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from twin_actors.runtime.replay import play
    from twin_actors.wire.client import MqttClient
    from twin_actors.wire.topics import Topics

    topics, stopping = Topics(root), threading.Event()
    from_s = min(float(recording.at_s[0]) for recording in recordings)
    sent, failures = [0] * len(recordings), []

    def run(number: int, tell: Callable[[int, float], None], client: Any) -> None:
        try:
            sent[number] = play(
                recordings[number],
                lambda entity, payload: client.publish(topics.telemetry(entity), payload, qos=1),
                speed=speeds[number],
                from_s=from_s,
                on_progress=tell,
                stopping=stopping,
            )
        except Exception as error:
            failures.append(error)  # raised again below, by the thread that waits for this one
            stopping.set()

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[at]}"),
        TimeRemainingColumn(),
    )
    with MqttClient(address, client_id=f"replay-{secrets.token_hex(4)}") as client:
        client.wait_connected(10.0)
        with Progress(*columns, console=voice.err, disable=not voice.err.is_terminal) as bar:
            threads = []
            for number, recording in enumerate(recordings):
                pace = speeds[number]
                what = f"{recording.kind} {'as fast as it goes' if pace is None else f'{pace:g}x'}"
                task = bar.add_task(what, total=len(recording), at="")

                def tell(count: int, at_s: float, task: Any = task) -> None:
                    bar.update(task, completed=count, at=moment(at_s))

                threads.append(threading.Thread(target=run, args=(number, tell, client), name=f"replay-{number}"))
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    thread.join()
            finally:
                stopping.set()  # Ctrl-C: the players end with the message they are at
                for thread in threads:
                    thread.join()
        if failures:
            raise failures[0]
        if not client.flush(FLUSH_DEADLINE_S):
            raise Failed(
                f"{address.url} did not acknowledge {client.unsent:,} messages within {span(FLUSH_DEADLINE_S)}"
            )
    return sent
