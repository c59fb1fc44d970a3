"""``up``: launch a city, keep it in the foreground or leave it running, and give an account of it at its end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.cities import Files, Layered, read_scenario, seconds
from twin_actors.cli.faults import ExitCode, Failed
from twin_actors.cli.voice import AsJson, Voice, span

if TYPE_CHECKING:
    from twin_actors.core.ledger import Ledger
    from twin_actors.runtime.city import City
    from twin_actors.scenario.model import Scenario

FIRST_READING_DEADLINE_S = 60.0
FIRST_READING_LOOK_S = 0.2


def up(
    files: Files = None,
    layered: Layered = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave the city running and return.")] = False,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="End it e.g. 30s or 5min after the first reading.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster to launch it in.")] = None,
    as_json: AsJson = False,
) -> None:
    """Launch a city from its scenario and show it until Ctrl-C, which ends it and leaves nothing behind.

    With --for it ends by itself and prints an account of the run. Exit code 4 says that the account does not balance.
    """
    for_s = None if duration is None else seconds(duration)
    if detach and for_s is not None:
        raise typer.BadParameter("--detach leaves the city running, --for ends it: give one of them")
    voice = Voice(as_json)
    scenario = read_scenario(files, layered)
    with _signals() as stop:
        city, launch_s = _launch(voice, scenario, address, stop)
        try:
            if detach:
                _say_how_to_go_on(voice, city, launch_s)
                city.close()
                return
            run = _Run(voice, city, launch_s)
            run.on(stop.event, for_s)
        except BaseException:
            city.down()
            raise
        city.down()
    run.account(full=for_s is not None)


class _Stop:
    """SIGINT and SIGTERM set ``event`` and nothing else: an exception in the midst of a launch would lose processes.

    ``listen`` is called again wherever Ray may have put a SIGTERM handler of its own in the place of ours.
    """

    def __init__(self) -> None:
        self.event = threading.Event()

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if not self.event.is_set():
            os.write(2, b"ending the city\n")  # at once: the step under way may take seconds to its end
        self.event.set()


@contextmanager
def _signals() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop.listen()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _launch(voice: Voice, scenario: Scenario, address: str | None, stop: _Stop) -> tuple[City, float]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from twin_actors.runtime.city import City

    began = time.monotonic()
    what_column = TextColumn("{task.description}")
    columns = (SpinnerColumn(), what_column, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=voice.err, transient=True, disable=not voice.err.is_terminal) as bar:
            task = bar.add_task(f"{scenario.city}: reading the scenario", total=None)

            def tell(what: str, done: int, total: int) -> None:
                stop.listen()
                if stop.event.is_set():
                    raise KeyboardInterrupt  # between two steps, where the launch knows all that it has started
                known = total if total > 1 or done > 0 else None
                bar.update(task, description=f"{scenario.city}: {what}", completed=done, total=known)

            city = City.launch(scenario, address=address, progress=tell)
            stop.listen()
    except (KeyboardInterrupt, SystemExit):
        message = f"{scenario.city}: broken off while launching; nothing is left behind"
        raise Failed(message, ExitCode.INTERRUPTED) from None
    return city, time.monotonic() - began


def _say_how_to_go_on(voice: Voice, city: City, launch_s: float) -> None:
    from twin_actors.runtime import local

    actors, first = int(city.status()["controller"]["total"]), city.ids[0]
    voice.result(
        {
            "city": city.name,
            "twins": len(city),
            "actors": actors,
            "launch_s": round(launch_s, 3),
            "folder": local.folder_of(city.name),
        },
        f"{city.name} runs: {len(city):,} twins in {actors:,} twin actors, launched in {span(launch_s)}",
        f"  watch it    twin-actors watch {city.name}",
        f"  one twin    twin-actors show {city.name} {first}",
        f'  in Python   from twin_actors import City; city = City.connect("{city.name}")',
        f"  end it      twin-actors down {city.name}",
    )


class _Run:
    """A launched city in the foreground, from its first reading to its account."""

    def __init__(self, voice: Voice, city: City, launch_s: float) -> None:
        self.voice, self.city, self.launch_s = voice, city, launch_s
        self.twins = len(city)
        self.said: dict[str, Any] = {}
        self.silent = False

    def on(self, stop: threading.Event, for_s: float | None) -> None:
        """Show the city until ``stop`` is set or its time is over, then take the ledger and the status."""
        from twin_actors.cli.live import Look, keep_showing, look, rendered
        from twin_actors.runtime import local

        before: Look | None = None

        def show() -> Any:
            nonlocal before
            now = look(self.city)
            if now.error and local.running(self.city.name) is None:
                folder = local.folder_of(self.city.name)
                raise Failed(f"{self.city.name} has ended: its Ray head is gone; see {folder / 'head.log'}")
            screen = rendered(self.city.name, now, before)
            before = now
            return screen

        self.voice.warn(
            f"{self.city.name} runs: {self.twins:,} twins, launched in {span(self.launch_s)}; "
            + (f"for {span(for_s)} from the first reading" if for_s is not None else "Ctrl-C ends it")
        )
        left_s = for_s
        if for_s is not None:
            heard_s = self._wait_for_first_reading(stop)
            left_s = max(for_s - heard_s, 0.0)
        began = time.monotonic() - (for_s - left_s if for_s is not None and left_s is not None else 0.0)
        if not self.silent:
            keep_showing(self.voice, show, stop, for_s=left_s)
        self._take(time.monotonic() - began)

    def _wait_for_first_reading(self, stop: threading.Event) -> float:
        """Wall seconds since the first reading; 0 for a city without sources of its own, which may stay silent."""
        deadline = time.monotonic() + FIRST_READING_DEADLINE_S
        while not stop.is_set():
            first_s = self.city.status()["router"]["first_reading_s"]
            if first_s is not None:
                return max(time.time() - float(first_s), 0.0)
            if not self.city.scenario.sources:
                return 0.0
            if time.monotonic() > deadline:
                self.silent = True
                return 0.0
            stop.wait(FIRST_READING_LOOK_S)
        return 0.0

    def _take(self, ran_s: float) -> None:
        from twin_actors.cli.summary import summarise

        ledger: Any = self.city.ledger()
        status = self.city.status()
        self.said = summarise(
            city=self.city.name, twins=self.twins, launch_s=self.launch_s, ran_s=ran_s, ledger=ledger, status=status
        )
        self.ledger: Ledger = ledger

    def account(self, *, full: bool) -> None:
        """Print what happened. Raises Failed for a ledger that does not balance, and for a city that heard nothing."""
        from twin_actors.cli.summary import shown

        lines = shown(self.said) if full else [f"{self.city.name} has ended, ledger: {self.ledger}"]
        self.voice.result(self.said, *lines)
        if not self.ledger.balanced:
            raise Failed(f"the ledger does not balance: {self.ledger}", ExitCode.LEDGER_UNBALANCED)
        if self.silent:
            from twin_actors.runtime import local

            raise Failed(
                f"no reading arrived within {FIRST_READING_DEADLINE_S:g} s of the launch: "
                f"see {local.folder_of(self.city.name) / 'devices.log'}"
            )
