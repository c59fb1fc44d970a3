"""The device host: simulated devices and replays, in a process of its own that talks MQTT like any outsider.

    python -m twin_actors.runtime.devices --folder FOLDER [--deadline 60]

reads the scenario and the launch plan from the city's folder. It ends on SIGTERM or SIGINT, or when the broker has been
out of reach for the deadline. Exit codes: 0 ended as asked, 1 broker out of reach, 2 no city in the folder. The log on
stdout has one JSON object a line; ``FOLDER/devices.json`` says every other second how it is going.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from twin_actors.runtime.device_group import DeviceGroup
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.reach import mqtt_client
from twin_actors.runtime.recording import Recording, RecordingError, load_replay, shown_time
from twin_actors.runtime.replay import ReplayStalled, play
from twin_actors.scenario.model import Replay
from twin_actors.wire.address import BrokerUnreachable
from twin_actors.wire.messages import (
    Acknowledgement,
    BadMessage,
    Command,
    decode_command,
    encode_acknowledgement,
)
from twin_actors.wire.topics import COMMAND, Topics

STATUS_FILE: Final = "devices.json"
STATUS_EVERY_S: Final = 2.0
DEADLINE_S: Final = 60.0
QUEUE: Final = 10_000
REPLAY_ROOM: Final = QUEUE // 2
"""A replay offers its next message only while fewer than this wait to be sent, so that devices find room as well."""
INBOX: Final = 10_000
SHOWN_BAD: Final = 20
IDLE_S: Final = 0.5
GOODBYE_S: Final = 2.0

log = logging.getLogger(__name__)


class _WithId(msgspec.Struct):
    id: str


_id_of = msgspec.json.Decoder(_WithId).decode


class Counters(msgspec.Struct):
    """What the host did and what it lost, since its start."""

    published: int = 0
    refused: int = 0  # readings and answers that the client had no room or no connection for
    skipped: int = 0  # readings not taken because the machine could not keep up
    unsent: int = 0  # taken by the client and still not with the broker at the end
    commands_received: int = 0
    commands_obeyed: int = 0
    commands_rejected: int = 0
    commands_expired: int = 0
    commands_unreadable: int = 0
    commands_lost: int = 0  # came faster than they could be carried out


class ReplayProgress(msgspec.Struct):
    """How far a replay is. ``state``: loading, playing, done, stopped or failed (``error`` says why)."""

    file: str
    kind: str
    state: str = "loading"
    total: int = 0
    sent: int = 0
    at: str | None = None
    bad_rows: int = 0
    bad: list[str] = []
    empty: int = 0
    strangers: int = 0
    error: str = ""


class DeviceHost:
    """Everything that stands in for hardware in one city. ``run`` blocks until ``stop`` or a lost broker."""

    def __init__(self, plan: CityPlan, folder: Path, *, deadline_s: float = DEADLINE_S) -> None:
        scenario = plan.scenario
        self._plan, self._folder, self._deadline_s = plan, folder, deadline_s
        self._clock, self._qos = plan.clock, scenario.broker.qos
        self._topics = Topics(scenario.root)
        self._entities = {entity.id: entity for entity in scenario.entities}
        self._kinds = sorted({self._entities[one].kind for each in scenario.simulations for one in each.entities})
        self.boot = secrets.token_hex(3)
        self.counters = Counters()
        self.groups: list[DeviceGroup] = []
        self.replays = [ReplayProgress(file=replay.file, kind=replay.kind) for replay in scenario.replays]
        self._group_of: dict[str, DeviceGroup] = {}
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._stopping = False
        self._replays_stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._started_at_s = time.time()
        self._heard_broker = time.monotonic()
        self._status_due = 0.0
        self._client = mqtt_client(
            plan.broker,
            receive=self._receive,
            client_id=f"{scenario.city}-devices",
            subscriptions=[(each, self._qos) for each in self._topics.commands(self._kinds)] if self._kinds else [],
            max_queued=QUEUE,
        )

    def stop(self) -> None:
        """End ``run`` soon; safe in a signal handler and from other threads."""
        self._stopping = True
        self._wake()

    def run(self) -> None:
        """Stand in for the city's hardware until ``stop``. Raises BrokerUnreachable after the deadline."""
        state, why = "ended", "asked to stop"
        _say("start", city=self._plan.scenario.city, broker=self._client.address.url, boot=self.boot)
        self._client.start()
        try:
            while not self._client.ready and not self._stopping:
                self._look_after_broker()
                self._wait(IDLE_S)
            if not self._stopping:
                self._begin()
            while not self._stopping:
                self._look_after_broker()
                self._take_turns(self._clock.now_s())
                self._carry_out_commands()
                if time.monotonic() >= self._status_due:
                    self._write_status("running")
                self._wait(self._idle_s())
        except BaseException as error:
            state, why = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            self._end()
            self._write_status(state, why)
            _say("stop", state=state, why=why, **msgspec.to_builtins(self.counters))

    # -- beginning and end ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        scenario, start_s = self._plan.scenario, self._clock.now_s()
        for number, simulation in enumerate(scenario.simulations):
            own = [self._entities[one] for one in simulation.entities]
            for kind in dict.fromkeys(entity.kind for entity in own):
                group = DeviceGroup(
                    self._plan.catalogue.kinds[kind],
                    [entity for entity in own if entity.kind == kind],
                    simulation,
                    self._topics,
                    boot=self.boot,
                    start_s=start_s,
                    wall_seconds=self._clock.wall_seconds,
                    number=number,
                )
                self.groups.append(group)
                self._group_of.update(dict.fromkeys(group.column, group))
        for number, (replay, progress) in enumerate(zip(scenario.replays, self.replays, strict=True)):
            thread = threading.Thread(
                target=self._replay, args=(replay, progress), name=f"replay-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        _say(
            "begun",
            devices={group.kind.name: len(group) for group in self.groups},
            replays=[progress.file for progress in self.replays],
        )

    def _end(self) -> None:
        self._replays_stopping.set()
        end = time.monotonic() + GOODBYE_S
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))
        if self._client.connected:
            self._client.flush(GOODBYE_S)
        self.counters.unsent = self._client.unsent
        self._client.close(0.0)
        self._wake_in.close()
        self._wake_out.close()

    def _look_after_broker(self) -> None:
        now = time.monotonic()
        if self._client.connected:
            self._heard_broker = now
        elif now - self._heard_broker > self._deadline_s:
            why = self._client.last_error or f"{self._client.address.url}: the broker does not answer"
            raise BrokerUnreachable(f"no connection for {self._deadline_s:g} s. {why}")

    # -- turns of the devices ------------------------------------------------------------------------------------

    def _take_turns(self, now_s: float) -> None:
        for group in self.groups:
            self.counters.skipped += group.catch_up(now_s)
            while group.next_s <= now_s and not self._stopping:
                for topic, payload in group.turn():
                    self._publish(topic, payload)

    def _publish(self, topic: str, payload: bytes) -> None:
        if self._client.publish(topic, payload, self._qos):
            self.counters.published += 1
        else:
            self.counters.refused += 1

    def _idle_s(self) -> float:
        """Wall seconds until something is due."""
        now_s = self._clock.now_s()
        due_s = [self._clock.wall_seconds(group.next_s - now_s) for group in self.groups]
        return max(min([IDLE_S, *due_s]), 0.0)

    def _wait(self, timeout_s: float) -> None:
        if select.select([self._wake_in], [], [], timeout_s)[0]:
            self._wake_in.recv(4096)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # its buffer is full, so it is about to look up anyway; or it has ended
            self._wake_out.send(b"x")

    # -- commands ------------------------------------------------------------------------------------------------

    def _receive(self, topic: str, payload: bytes, qos: int, mid: int, connection: int) -> None:
        """In the client's thread."""
        if len(self._inbox) >= INBOX:
            self.counters.commands_lost += 1
            return
        self._inbox.append((topic, bytes(payload)))
        self._wake()

    def _carry_out_commands(self) -> None:
        asked: dict[int, list[tuple[str, Command]]] = {}
        counters = self.counters
        while self._inbox:
            topic, payload = self._inbox.popleft()
            entity, channel = self._topics.parse(topic) or ("", "")
            group = self._group_of.get(entity)
            if group is None or channel != COMMAND:
                continue  # hardware or a recording stands for this entity
            counters.commands_received += 1
            try:
                command = decode_command(payload)
            except BadMessage as error:
                counters.commands_unreadable += 1
                self._refuse(entity, payload, str(error))
                continue
            asked.setdefault(self.groups.index(group), []).append((entity, command))
        now_s = self._clock.now_s()
        for number, commands in asked.items():
            for entity, answer in self.groups[number].obey(commands, now_s):
                counters.commands_obeyed += answer.status == "done"
                counters.commands_rejected += answer.status == "rejected"
                counters.commands_expired += answer.status == "expired"
                self._publish(self._topics.acknowledgement(entity), encode_acknowledgement(answer))

    def _refuse(self, entity: str, payload: bytes, why: str) -> None:
        """Answer a command that cannot be read, if its id at least can be."""
        try:
            said = _id_of(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            log.warning("%s: a command that cannot be read: %s", entity, why)
            return
        answer = Acknowledgement(id=said.id, status="rejected", reason=why, at_s=self._clock.now_s())
        self._publish(self._topics.acknowledgement(entity), encode_acknowledgement(answer))

    # -- replays, each in a thread of its own --------------------------------------------------------------------

    def _replay(self, replay: Replay, progress: ReplayProgress) -> None:
        try:
            recording = load_replay(replay, self._entities)
            progress.total, progress.bad_rows, progress.empty = len(recording), recording.bad_rows, recording.empty
            progress.bad = [f"{bad.line}: {bad.reason}" for bad in recording.bad[:SHOWN_BAD]]
            progress.strangers = sum(recording.strangers.values())
            progress.state = "playing"

            def report(sent: int, at_s: float) -> None:
                progress.sent, progress.at = sent, shown_time(at_s)

            sent = play(
                recording,
                self._offer,
                speed=replay.speed,
                from_s=self._begins_at(replay, recording),
                on_progress=report,
                stopping=self._replays_stopping,
                deadline_s=self._deadline_s,
            )
            progress.state = "done" if sent == len(recording) else "stopped"
        except (RecordingError, ReplayStalled) as error:
            progress.state, progress.error = "failed", str(error)
            log.error("%s", error)
        except Exception as error:
            progress.state, progress.error = "failed", f"{type(error).__name__}: {error}"
            log.exception("%s: the replay failed", replay.file)

    def _offer(self, entity: str, payload: bytes) -> bool:
        if self._client.unsent >= REPLAY_ROOM:
            return False
        return self._client.publish(self._topics.telemetry(entity), payload, self._qos)

    def _begins_at(self, replay: Replay, recording: Recording) -> float | None:
        """The recorded time that it is now; None: that of the first message.

        Where the city's clock runs as fast as the replay and starts before the recording ends, the two are one: a
        message goes out when the city's clock reads its time.
        """
        clock = self._clock
        one = clock.mode == "scaled" and replay.speed == clock.speed and len(recording) > 0
        return clock.now_s() if one and clock.start_s <= recording.at_s[-1] else None

    # -- telling -------------------------------------------------------------------------------------------------

    def status(self, state: str, why: str = "") -> dict[str, Any]:
        """How it is going, in plain values; the content of ``devices.json``."""
        counted = msgspec.to_builtins(self.counters)
        counted["published"] += sum(progress.sent for progress in self.replays)
        return {
            "state": state,
            "why": why,
            "pid": os.getpid(),
            "boot": self.boot,
            "started_at": shown_time(self._started_at_s),
            "city_at": shown_time(self._clock.now_s()),
            "connected": self._client.connected,
            "reconnects": self._client.reconnects,
            "denied": self._client.denied,
            **counted,
            "model_errors": sum(int(group.fleet.model_errors.sum()) for group in self.groups),
            "devices": [
                {"kind": group.kind.name, "entities": len(group), "period_s": group.period_s} for group in self.groups
            ],
            "replays": msgspec.to_builtins(self.replays),
        }

    def _write_status(self, state: str, why: str = "") -> None:
        """Replace the status file whole, so that a reader never sees half of it."""
        self._status_due = time.monotonic() + STATUS_EVERY_S
        path = self._folder / STATUS_FILE
        fresh = path.with_suffix(".json.new")
        try:
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode(self.status(state, why)), indent=2))
            fresh.replace(path)
        except OSError as error:
            log.error("%s cannot be written: %s", path, error)


def _say(event: str, **facts: Any) -> None:
    """One line of the log."""
    print(msgspec.json.encode({"at": shown_time(time.time()), "event": event, **facts}).decode(), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="twin_actors.runtime.devices", description="Host the simulated devices.")
    parser.add_argument("--folder", type=Path, required=True, help="the city's folder, as written by a launch")
    parser.add_argument(
        "--deadline",
        type=float,
        default=DEADLINE_S,
        metavar="SECONDS",
        help="give up when the broker has been out of reach for so long (default: %(default)g)",
    )
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        plan = CityPlan.load(chosen.folder)
    except FileNotFoundError as error:
        print(f"no city was launched from {chosen.folder}: {error.filename} is missing", file=sys.stderr)
        return 2
    host = DeviceHost(plan, chosen.folder, deadline_s=chosen.deadline)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: host.stop())
    try:
        host.run()
    except BrokerUnreachable as error:
        print(f"the device host gives up: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
