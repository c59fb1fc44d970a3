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
        self.boot = secrets.token_hex(3)
        self.counters = Counters()
        self.groups: list[DeviceGroup] = []
        self.replays = [ReplayProgress(file=replay.file, kind=replay.kind) for replay in scenario.replays]
        self._group_of: dict[str, DeviceGroup] = {}
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._stopping = False
        self._replays_stopping = threading.Event()
        self._count_lock = threading.Lock()  # replays count in threads of their own
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._started_at_s = time.time()
        kinds = {
            plan.scenario_kind
            for simulation in scenario.simulations
            for plan.scenario_kind in {one.partition("/")[0] for one in simulation.entities}
        }
        self._client = mqtt_client(
            plan.broker,
            receive=self._receive,
            client_id=f"{scenario.city}-devices",
            subscriptions=[(each, self._qos) for each in self._topics.commands(kinds)] if kinds else [],
            max_queued=QUEUE,
        )

    @property
    def wake_fd(self) -> int:
        """A descriptor to write a byte to when ``run`` should look up, e.g. for ``signal.set_wakeup_fd``."""
        return self._wake_out.fileno()

    def stop(self) -> None:
        """End ``run`` soon; safe in a signal handler."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):  # then it is about to look up anyway
            self._wake_out.send(b"x")
