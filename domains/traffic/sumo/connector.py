"""A SUMO run as the devices of a city: its signals publish readings, obey commands and acknowledge them, over MQTT."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from domains.traffic.sumo.loop import EPOCH_S
from domains.traffic.sumo.mapping import entity_id, readings_of
from domains.traffic.sumo.simulation import Observation, Simulation
from twin_actors.wire.client import BrokerAddress, MqttClient
from twin_actors.wire.messages import (
    Acknowledgement,
    BadMessage,
    Command,
    decode_command,
    encode_acknowledgement,
    encode_reading,
    to_ms,
)
from twin_actors.wire.topics import Topics

INBOX = 10_000
"""Commands that may wait to be carried out; more are counted as lost."""


@dataclass(slots=True)
class Counters:
    """What the connector did and what it lost."""

    readings: int = 0
    refused: int = 0
    commands: int = 0
    obeyed: int = 0
    stale: int = 0
    rejected: int = 0
    unreadable: int = 0
    lost: int = 0
    decisions: int = 0
    held: int = 0
    """Decisions that came after the deadline, so that the stage stayed as it was."""
    waited_s: float = 0.0
    longest_wait_s: float = 0.0


class Connector:
    """Drives one simulation to its end, in lock step with a city or at a pace of its own.

    ``start_s`` is the city time of the simulation's second 0. In lock step every ``interval_s`` of simulated time all
    signals report, and the simulation stands still until each has a command that was issued at or after the time of
    that report, or until ``deadline_s`` of wall time has passed; a signal without an answer keeps its stage. Running
    free, ``speed`` simulated seconds pass per second and commands are obeyed as they come, until they expire.
    """

    def __init__(
        self,
        simulation: Simulation,
        address: BrokerAddress,
        root: str,
        *,
        interval_s: int = 10,
        start_s: float = EPOCH_S,
        deadline_s: float = 5.0,
        boot: str = "sumo",
    ) -> None:
        self._simulation, self._topics = simulation, Topics(root)
        self._interval_s, self._start_s, self._deadline_s, self._boot = interval_s, start_s, deadline_s, boot
        self._signal_of = {entity_id(each): each for each in simulation.network.signals}
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._news = threading.Condition()
        self._seq = 0
        self.counters = Counters()
        commands = [(self._topics.command(entity), 1) for entity in self._signal_of]
        self._client = MqttClient(address, receive=self._receive, subscriptions=commands, max_queued=INBOX)

    # -- running ------------------------------------------------------------------------------------------------

    def run_in_lock_step(self, ready_s: float = 30.0) -> Counters:
        """Run to the end of the simulation, one command of each signal per interval. Raises BrokerUnreachable."""
        with self._client as client:
            client.wait_connected(ready_s)
            while not self._simulation.over:
                self._say(self._simulation.observe())
                self._obey_when_answered()
                self._simulation.step(self._interval_s)
            client.flush(self._deadline_s)
        return self.counters

    def run_free(self, speed: float, ready_s: float = 30.0) -> Counters:
        """Run to the end with ``speed`` simulated seconds per second of wall time. Raises BrokerUnreachable.

        A machine that cannot keep up runs slower, and says nothing twice.
        """
        with self._client as client:
            client.wait_connected(ready_s)
            begun, first_s = time.monotonic(), self._simulation.at_s
            while not self._simulation.over:
                if (self._simulation.at_s - first_s) % self._interval_s == 0:
                    self._say(self._simulation.observe())
                self._simulation.step(1)
                due = begun + (self._simulation.at_s - first_s) / speed
                self._take(self._in_time)
                while (rest_s := due - time.monotonic()) > 0:
                    with self._news:
                        self._news.wait_for(lambda: bool(self._inbox), rest_s)
                    self._take(self._in_time)
            client.flush(self._deadline_s)
        return self.counters

    def _in_time(self, command: Command) -> bool:
        return to_ms(self._now_s()) < to_ms(command.expires_at_s)

    def _obey_when_answered(self) -> None:
        asked_ms = to_ms(self._now_s())
        waiting = set(self._signal_of)
        began = time.monotonic()
        while waiting:
            rest_s = began + self._deadline_s - time.monotonic()
            with self._news:
                if not self._news.wait_for(lambda: bool(self._inbox), max(rest_s, 0.0)):
                    break
            waiting -= self._take(lambda command: to_ms(command.issued_at_s) >= asked_ms)
        waited_s = time.monotonic() - began
        counters = self.counters
        counters.decisions += len(self._signal_of)
        counters.held += len(waiting)
        counters.waited_s += waited_s
        counters.longest_wait_s = max(counters.longest_wait_s, waited_s)

    # -- saying and hearing -------------------------------------------------------------------------------------

    def _now_s(self) -> float:
        return self._start_s + self._simulation.at_s

    def _say(self, observations: dict[str, Observation]) -> None:
        at_ms = to_ms(self._now_s())
        self._seq += 1
        for entity, signal in self._signal_of.items():
            payload = encode_reading(readings_of(observations[signal]), at_ms, self._seq, self._boot)
            self._publish(self._topics.telemetry(entity), payload)
            self.counters.readings += 1

    def _publish(self, topic: str, payload: bytes) -> None:
        if not self._client.publish(topic, payload, qos=1):
            self.counters.refused += 1

    def _receive(self, topic: str, payload: bytes, qos: int, mid: int, connection: int) -> None:
        """In the client's thread."""
        with self._news:
            if len(self._inbox) >= INBOX:
                self.counters.lost += 1
                return
            self._inbox.append((topic, bytes(payload)))
            self._news.notify_all()

    def _take(self, good: Callable[[Command], bool]) -> set[str]:
        """Carry out what is in the inbox; the entities that got a command for which ``good`` is true."""
        answered: set[str] = set()
        while self._inbox:
            topic, payload = self._inbox.popleft()
            parsed = self._topics.parse(topic)
            if parsed is None or parsed[0] not in self._signal_of:
                continue
            self.counters.commands += 1
            try:
                command = decode_command(payload)
            except BadMessage:
                self.counters.unreadable += 1
                continue
            answer = self._carry_out(parsed[0], command, good)
            if answer.status == "done":
                answered.add(parsed[0])
            self._publish(self._topics.acknowledgement(parsed[0]), encode_acknowledgement(answer))
        return answered

    def _carry_out(self, entity: str, command: Command, good: Callable[[Command], bool]) -> Acknowledgement:
        at_s = self._now_s()
        if not good(command):
            self.counters.stale += 1
            return Acknowledgement(
                id=command.id,
                status="expired",
                reason="too late: decided on an older reading, or past its expiry",
                at_s=at_s,
            )
        stage, clearance_s = command.values.get("stage"), command.values.get("clearance_s", 0.0)
        signal = self._signal_of[entity]
        try:
            if not isinstance(stage, float | int) or not isinstance(clearance_s, float | int):
                raise ValueError("stage and clearance_s must be single numbers")
            self._simulation.order(signal, round(stage), clearance_s=float(clearance_s))
        except ValueError as error:
            self.counters.rejected += 1
            return Acknowledgement(id=command.id, status="rejected", reason=str(error), at_s=at_s)
        self.counters.obeyed += 1
        return Acknowledgement(id=command.id, status="done", values=dict(command.values), at_s=at_s)

    def account(self) -> dict[str, Any]:
        """The counters and what the client could not send, in plain values."""
        return {**asdict(self.counters), "unsent": self._client.unsent}
