"""Playing recordings: payloads as devices send them, flow control, rhythm, and the twins they make."""

from __future__ import annotations

import threading
import time

import msgspec
import numpy as np
import pytest

from tests.unit.core.toy import JOINT, TANK
from twin_actors.core.inputs import Batch
from twin_actors.core.table import TwinTable
from twin_actors.runtime.replay import Recording, ReplayStalled, messages, play
from twin_actors.testing.domains import same_twins
from twin_actors.testing.offline import offline_twins
from twin_actors.wire.decode import ReadingDecoder

ATTRIBUTES = np.repeat([[10.0], [4.0]], 2, axis=1)


def recorded(count: int = 6, *, every_s: float = 10.0, seed: int = 1) -> Recording:
    chance = np.random.default_rng(seed)
    at_s = 1_393_632_000.0 + np.round(np.arange(count) // 2 * every_s + chance.uniform(0, 1, count), 3)
    at_s.sort()
    values = np.stack([chance.uniform(1, 3, count), chance.uniform(0, 0.1, count)])
    values[chance.uniform(size=values.shape) < 0.2] = np.nan
    values[0, np.isnan(values).all(axis=0)] = 2.0
    return Recording(
        file="tanks.csv",
        kind="tank",
        fields=("level_m", "inflow_m3s[b]"),
        entity=np.array([f"tank/{i % 2}" for i in range(count)], dtype=object),
        at_s=at_s,
        values=values,
    )


def test_payloads_come_back_as_what_was_recorded():
    recording = recorded(200)
    payloads = [payload for _, _, payload in messages(recording)]
    decoded = ReadingDecoder(TANK.reading).decode(payloads, np.full(200, 1.7e9), [0] * 200)
    assert not decoded.rejected
    np.testing.assert_array_equal(decoded.observed_at_s, recording.at_s)
    np.testing.assert_array_equal(decoded.values[[0, 2]], recording.values)


def test_times_are_whole_milliseconds_where_that_says_it_all():
    recording = recorded(1)
    recording.at_s[:] = 1_393_632_000.123
    assert b'"ts":1393632000123,' in next(messages(recording))[2]
    recording.at_s[:] = 1_393_632_000.123457
    said = msgspec.json.decode(next(messages(recording))[2])["ts"]
    assert said == pytest.approx(1_393_632_000_123.457, abs=1e-3)


def test_twins_offline_are_the_twins_of_the_decoded_messages():
    recording, ids = recorded(400), ["tank/0", "tank/1"]
    live = TwinTable(TANK, ids, ATTRIBUTES)
    for entity, at_s, payload in messages(recording):
        decoded = ReadingDecoder(TANK.reading).decode([payload], np.array([1.7e9]), [0])
        live.apply(
            Batch(
                rows=np.array([ids.index(entity)]),
                observed_at_s=decoded.observed_at_s,
                values=decoded.values,
                keys=decoded.key,
            )
        )
        assert decoded.observed_at_s[0] == at_s
    same_twins(live, offline_twins(recording, TANK, ids, ATTRIBUTES), relative=1e-12)


def test_offline_twins_are_of_the_recorded_kind():
    with pytest.raises(ValueError, match="recording of tank, not of joint_tank"):
        offline_twins(recorded(), JOINT, ["joint_tank/0"], ATTRIBUTES[:, :1])


def test_as_fast_as_there_is_room_and_nothing_is_left_out():
    recording = recorded(500)
    taken: list[str] = []
    offers = 0

    def publish(entity: str, payload: bytes) -> bool:
        nonlocal offers
        offers += 1
        if offers % 100 == 0:
            return False
        taken.append(entity)
        return True

    progress: list[tuple[int, float]] = []
    sent = play(recording, publish, speed=None, on_progress=lambda *now: progress.append(now))
    assert sent == 500
    assert taken == recording.entity.tolist()
    assert progress[-1] == (500, recording.at_s[-1])


def test_a_replay_without_room_ends_with_an_error():
    with pytest.raises(ReplayStalled, match=r"no message could be sent for 0\.05 s, 0 of 6 were"):
        play(recorded(), lambda *_: False, speed=None, deadline_s=0.05)


def test_the_rhythm_is_that_of_the_recording_whatever_a_message_takes():
    recording = recorded(8, every_s=10.0)
    began, moments = time.monotonic(), []

    def publish(entity: str, payload: bytes) -> bool:
        moments.append(time.monotonic() - began)
        return True

    play(recording, publish, speed=200.0)
    due = (recording.at_s - recording.at_s[0]) / 200.0
    assert (np.array(moments) >= due - 1e-3).all()


def test_a_given_beginning_lets_the_past_go_at_once():
    recording = recorded(8, every_s=3600.0)
    sent = play(recording, lambda *_: True, speed=1.0, from_s=recording.at_s[-1])
    assert sent == 8


def test_a_replay_stops_when_told_while_it_waits():
    stopping = threading.Event()

    def publish(entity: str, payload: bytes) -> bool:
        threading.Timer(0.02, stopping.set).start()
        return True

    recording = recorded(4, every_s=3600.0)
    assert 1 <= play(recording, publish, speed=1.0, stopping=stopping) < 4
