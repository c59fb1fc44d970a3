"""The device host as a process against a real broker: telemetry, commands, replays, status, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from twin_actors.runtime.clock import Clock
from twin_actors.runtime.plan import CityPlan, Plan, Reach
from twin_actors.scenario.model import (
    BrokerSettings,
    Entity,
    FieldMap,
    Replay,
    Scenario,
    Simulation,
    StoryStep,
    TimeColumns,
)
from twin_actors.wire.broker import EmbeddedBroker, free_port
from twin_actors.wire.client import MqttClient
from twin_actors.wire.messages import Acknowledgement, Command, decode_acknowledgement, encode_command

from .conftest import Inbox, eventually

ROOT = Path(__file__).resolve().parents[2]
Open = Callable[..., MqttClient]
Start = Callable[..., "subprocess.Popen[bytes]"]


def city(**changes: Any) -> Scenario:
    venues = [
        Entity(
            id=f"venue/{name}",
            kind="venue",
            name=name,
            attributes={"area_m2": 5000.0, "capacity_persons": 20_000.0, "exit_width_m": 30.0},
        )
        for name in ("arena", "hall", "dome")
    ]
    crossings = [Entity(id=f"intersection/{i}", kind="intersection", name=str(i)) for i in range(5)]
    walkway = Entity(id="footfall/quay", kind="footfall", name="quay")
    settings: dict[str, Any] = {
        "city": "harbour",
        "root": "harbour",
        "broker": BrokerSettings(embedded=None, qos=1),
        "entities": (*venues, *crossings, walkway),
        "sources": (
            Simulation(
                entities=tuple(each.id for each in (*venues, *crossings)),
                period_s=0.2,
                story=(StoryStep(at_s=0.0, entities=("venue/dome",), fault="silent"),),
            ),
        ),
    }
    return Scenario(**(settings | changes))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Start]:
    """Starts device hosts that are ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(scenario: Scenario, port: int, *arguments: str, clock: dict[str, Any] | None = None) -> Any:
        CityPlan.save(
            tmp_path,
            scenario,
            Plan(clock=clock or {}, broker=Reach(host="127.0.0.1", port=port), store="memory:", actors=()),
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "twin_actors.runtime.devices", "--folder", str(tmp_path), *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def ended(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> tuple[list[dict[str, Any]], str]:
    """End a host; the lines of its log, and what it wrote to stderr."""
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    return [msgspec.json.decode(line) for line in out.splitlines()], err.decode()


def status(folder: Path) -> dict[str, Any]:
    return msgspec.json.decode((folder / "devices.json").read_bytes())


def test_devices_speak_obey_and_end_when_told(
    mosquitto: EmbeddedBroker, open_client: Open, host: Start, tmp_path: Path
) -> None:
    telemetry, answers = Inbox(), Inbox()
    open_client(mosquitto.address, telemetry, subscriptions=[("harbour/+/+/telemetry", 1)])
    router = open_client(mosquitto.address, answers, subscriptions=[("harbour/+/+/command/ack", 1)])
    process = host(city(), mosquitto.port)

    def heard() -> dict[str, list[dict[str, Any]]]:
        by_topic: dict[str, list[dict[str, Any]]] = {}
        for topic, payload, *_ in list(telemetry.deliveries):
            by_topic.setdefault(topic, []).append(msgspec.json.decode(payload))
        return by_topic

    eventually(lambda: len(heard()) == 7 and all(len(each) >= 3 for each in heard().values()), within_s=30)
    assert "harbour/venue/dome/telemetry" not in heard()  # the story has silenced it
    said = heard()["harbour/venue/arena/telemetry"]
    assert [each["seq"] for each in said[:3]] == [1, 2, 3]
    assert abs(said[0]["ts"] / 1000 - time.time()) < 60
    assert said[1]["ts"] - said[0]["ts"] == pytest.approx(200, abs=2)
    assert set(said[0]["values"]) == {"in_persons", "out_persons"}
    crossing = heard()["harbour/intersection/0/telemetry"][0]
    assert len(crossing["values"]["queue_veh"]) == 8
    assert len({each["boot"] for sent in heard().values() for each in sent}) == 1

    def order(number: int, values: dict[str, Any], expires_in_s: float = 60.0) -> None:
        now_s = time.time()
        command = Command(
            id=f"c{number}", issued_at_s=now_s, expires_at_s=now_s + expires_in_s, epoch=1, decision="d", values=values
        )
        router.publish("harbour/venue/arena/command", encode_command(command), 1)

    order(1, {"gates_open": 3.0})
    order(2, {"gates": 0.5})
    order(3, {"gates_open": 0.5}, expires_in_s=-1.0)
    router.publish("harbour/venue/arena/command", b'{"id": "c4", "values": 7}', 1)
    router.publish("harbour/footfall/quay/command", b"nobody of this host", 1)
    eventually(lambda: len(answers.deliveries) >= 4)
    assert {topic for topic, *_ in answers.deliveries} == {"harbour/venue/arena/command/ack"}
    answered: dict[str, Acknowledgement] = {
        answer.id: answer for answer in map(decode_acknowledgement, answers.payloads)
    }
    assert {name: answer.status for name, answer in answered.items()} == {
        "c1": "done",
        "c2": "rejected",
        "c3": "expired",
        "c4": "rejected",
    }
    assert answered["c1"].values == {"gates_open": 1.0}  # clipped to its maximum
    assert "did you mean 'gates_open'" in answered["c2"].reason

    lines, err = ended(process)
    assert process.returncode == 0, err
    assert [line["event"] for line in lines] == ["start", "begun", "stop"]
    assert lines[1]["devices"] == {"venue": 3, "intersection": 5}
    final = status(tmp_path)
    assert (final["state"], final["why"], final["refused"], final["unsent"]) == ("ended", "asked to stop", 0, 0)
    assert (final["commands_received"], final["commands_obeyed"], final["commands_unreadable"]) == (4, 1, 1)
    published = final["published"]
    eventually(lambda: len(telemetry.deliveries) + len(answers.deliveries) == published)


def test_a_replay_sends_everything_it_can_read(
    mosquitto: EmbeddedBroker, open_client: Open, host: Start, tmp_path: Path
) -> None:
    inbox = Inbox()
    open_client(mosquitto.address, inbox, subscriptions=[("harbour/+/+/telemetry", 1)])
    rows = "".join(f"{1_393_632_000 + 60 * i},{i},{i}\n" for i in range(3000))
    (tmp_path / "walk.csv").write_text(f"time,quay,pier\nsoon,1,2\n{rows}")
    replay = Replay(
        file=str(tmp_path / "walk.csv"),
        kind="footfall",
        time=TimeColumns(column="time", format="epoch_s"),
        wide=FieldMap(source="", field="flow_pph"),
        speed=None,
    )
    broken = Replay(file=str(tmp_path / "none.csv"), kind="footfall", time=TimeColumns(column="time"), entity="x/y")
    process = host(city(sources=(replay, broken)), mosquitto.port)
    eventually(lambda: len(inbox.deliveries) == 3000, within_s=40)
    assert inbox.payloads[7] == b'{"ts":1393632420000,"values":{"flow_pph":7.0}}'
    eventually(lambda: status(tmp_path)["replays"][0]["state"] == "done")
    _, err = ended(process, signal.SIGINT)
    assert process.returncode == 0
    played, failed = status(tmp_path)["replays"]
    assert (played["sent"], played["total"], played["bad_rows"], played["strangers"]) == (3000, 3000, 1, 3000)
    assert played["bad"] == ["2: the time cannot be read (1970 to 2112): 'soon'"]
    assert failed["state"] == "failed"
    assert "none.csv does not exist" in failed["error"]
    assert "none.csv does not exist" in err


def test_on_a_clock_of_the_same_pace_a_replay_keeps_the_city_s_time(
    mosquitto: EmbeddedBroker, open_client: Open, host: Start, tmp_path: Path
) -> None:
    speed, start_s = 10_000.0, 1_393_632_000.0
    clock = Clock(mode="scaled", speed=speed, start_s=start_s, origin_s=time.time())
    arrived: list[tuple[float, float]] = []

    def receive(topic: str, payload: bytes, *_: int) -> None:
        arrived.append((msgspec.json.decode(payload)["ts"] / 1000, clock.now_s()))

    open_client(mosquitto.address, receive, subscriptions=[("harbour/+/+/telemetry", 1)])
    (tmp_path / "walk.csv").write_text("time,quay\n" + "".join(f"{start_s + 3600 * i},{i}\n" for i in range(12)))
    replay = Replay(
        file=str(tmp_path / "walk.csv"),
        kind="footfall",
        time=TimeColumns(column="time", format="epoch_s"),
        wide=FieldMap(source="", field="flow_pph"),
        speed=speed,
    )
    host(city(sources=(replay,)), mosquitto.port, clock=asdict(clock))
    eventually(lambda: len(arrived) == 12, within_s=30)
    assert all(city_s >= said_s - 1.0 for said_s, city_s in arrived)
    assert [said_s for said_s, _ in arrived] == [start_s + 3600 * i for i in range(12)]


def test_without_a_broker_it_ends_with_a_clear_message(host: Start, tmp_path: Path) -> None:
    process = host(city(), free_port(), "--deadline", "0.5")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"the device host gives up: no connection for 0.5 s" in err
    assert b"nothing listens there" in err
    assert status(tmp_path)["state"] == "failed"


def test_it_can_be_ended_while_it_waits_for_the_broker(host: Start) -> None:
    process = host(city(), free_port())
    assert process.stdout is not None
    assert msgspec.json.decode(process.stdout.readline())["event"] == "start"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_a_folder_without_a_city_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twin_actors.runtime.devices", "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert b"plan.json is missing" in done.stderr
