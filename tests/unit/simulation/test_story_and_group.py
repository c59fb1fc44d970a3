"""Stories at their own moments, the turns of a group of devices, and its answers to commands."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tests.unit.core.toy import TANK
from twin_actors.core.simulation import SimulatedFleet
from twin_actors.runtime.device_group import DeviceGroup
from twin_actors.runtime.story import Story
from twin_actors.scenario.model import Entity, Simulation, StoryStep
from twin_actors.wire.messages import Command
from twin_actors.wire.topics import Topics

START_S = 1_700_000_000.0


def entities(n: int) -> list[Entity]:
    return [Entity(id=f"tank/{i}", kind="tank", name=str(i)) for i in range(n)]


def group(n: int = 4, *, period_s: float = 10.0, wall_speed: float = 1.0, **simulation) -> DeviceGroup:
    ids = tuple(entity.id for entity in entities(n))
    return DeviceGroup(
        TANK,
        entities(n),
        Simulation(entities=ids, period_s=period_s, **simulation),
        Topics("harbour"),
        boot="b00t",
        start_s=START_S,
        wall_seconds=lambda city_s: city_s / wall_speed,
    )


def command(values, *, expires_in_s: float = 60.0, epoch: int = 3, name: str = "c1") -> Command:
    return Command(
        id=name,
        issued_at_s=START_S,
        expires_at_s=START_S + expires_in_s,
        epoch=epoch,
        decision="d",
        values=values,
    )


def told(steps: list[StoryStep]) -> tuple[SimulatedFleet, Story]:
    fleet = SimulatedFleet(TANK, ["tank/0", "tank/1"], np.repeat([[10.0], [4.0]], 2, axis=1), noise=0.0)
    fleet.step(START_S)
    return fleet, Story(steps, fleet, START_S)


def test_drivers_last_and_give_way_to_a_later_step():
    fleet, story = told(
        [
            StoryStep(at_s=10, for_s=100, entities=("tank/0", "tank/1"), drivers={"inflow_m3s": 0.5}),
            StoryStep(at_s=20, for_s=30, entities=("tank/1",), drivers={"inflow_m3s": 0.9}),
        ]
    )
    seen = []
    for at_s in (5, 10, 20, 50, 110):
        story.play(START_S + at_s)
        seen.append(fleet.drivers[0].tolist())
    assert seen == [[0.02, 0.02], [0.5, 0.5], [0.5, 0.9], [0.5, 0.5], [0.02, 0.02]]
    assert story.next_s == np.inf


def test_a_state_is_set_once_at_its_own_time_however_late_it_is_played():
    fleet, story = told([StoryStep(at_s=10, entities=("tank/1",), state={"level_m": 8.0})])
    story.play(START_S + 600)
    assert fleet.x[0, 1] == 8.0
    assert fleet.time_s.tolist() == [START_S, START_S + 10]


def test_a_fault_ends_when_its_time_is_over():
    fleet, story = told([StoryStep(at_s=0, for_s=10, entities=("tank/0",), fault="bias", value=3.0, reading="level_m")])
    story.play(START_S)
    assert fleet.readings(START_S)[0].tolist() == [5.0, 2.0]
    story.play(START_S + 10)
    assert fleet.readings(START_S + 10)[0].tolist() == [2.0, 2.0]


def test_what_another_kind_has_is_not_taken():
    fleet, story = told([StoryStep(at_s=0, entities=("tank/0",), drivers={"load_factor": 2.0}, state={"oil": 1.0})])
    before = fleet.x.copy()
    story.play(START_S)
    np.testing.assert_array_equal(fleet.x, before)


def test_the_load_is_even_and_every_device_speaks_once_a_period():
    devices = group(100)
    sizes, topics = [], []
    while devices.next_s < START_S + 10:
        sent = [topic for topic, _ in devices.turn()]
        sizes.append(len(sent))
        topics += sent
    assert max(sizes) - min(sizes) <= 1
    assert len(topics) == len(set(topics)) == 100
    assert devices.next_s == pytest.approx(START_S + 10)


def test_a_reading_is_said_as_devices_say_it():
    devices = group(1, noise=0.0)
    first, second = next(devices.turn()), next(devices.turn())
    assert first[0] == "harbour/tank/0/telemetry"
    said = msgspec.json.decode(first[1])
    assert (said["ts"], said["seq"], said["boot"]) == (int(START_S * 1000), 1, "b00t")
    assert said["values"]["level_m"] == 2.0
    assert len(said["values"]["inflow_m3s"]) == 3
    again = msgspec.json.decode(second[1])
    assert (again["ts"], again["seq"]) == (int(START_S * 1000) + 10_000, 2)


def test_lost_readings_leave_a_gap_in_the_sequence():
    devices = group(1, gap_share=0.5, seed=3)
    numbers = [msgspec.json.decode(payload)["seq"] for _ in range(40) for _, payload in devices.turn()]
    assert 8 < len(numbers) < 32
    assert numbers == sorted(numbers)
    assert numbers != list(range(1, len(numbers) + 1))


def test_whole_rounds_are_left_out_when_the_machine_cannot_keep_up():
    devices = group(4)
    assert devices.catch_up(START_S + 9) == 0
    assert devices.catch_up(START_S + 35) == 3 * 4
    assert devices.next_s == pytest.approx(START_S + 30)


def test_a_fast_clock_makes_wider_slots():
    assert sum(1 for _ in group(50, wall_speed=1000).turn()) == 50


def test_a_command_is_obeyed_and_answered_with_what_is_in_force():
    devices = group()
    answers = devices.obey(
        [
            ("tank/2", command({"outflow_m3s": 7.0})),
            ("tank/2", command({"outflow_m3s": 0.5}, name="c2")),
            ("tank/3", command({"outflow_m3s": 0.25}, name="c3")),
        ],
        START_S + 5,
    )
    done = {answer.id: (entity, answer.status, answer.values["outflow_m3s"]) for entity, answer in answers}
    assert done == {
        "c1": ("tank/2", "done", 2.0),
        "c2": ("tank/2", "done", 0.5),
        "c3": ("tank/3", "done", 0.25),
    }
    assert devices.fleet.command.value[0].tolist() == [0.0, 0.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (command({"outflow_m3s": 1.0}, expires_in_s=2.0), "expired", ""),
        (command({"outflow": 1.0}), "rejected", "did you mean 'outflow_m3s'"),
        (command({"outflow_m3s": (1.0, 2.0)}), "rejected", "has 2 numbers"),
        (command({}), "rejected", "no values"),
        (command({"outflow_m3s": 1.0}, epoch=0), "rejected", "epoch 0 is older than 3"),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_answered(sent, status, reason):
    devices = group()
    devices.obey([("tank/0", command({"outflow_m3s": 0.5}))], START_S)
    ((entity, answer),) = devices.obey([("tank/0", sent)], START_S + 5)
    assert (entity, answer.status) == ("tank/0", status)
    assert reason in answer.reason
    assert devices.fleet.command.value[0, 0] == 0.5
