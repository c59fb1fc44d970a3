"""The city's clock in its three modes, compared with the wall's."""

from __future__ import annotations

import time

import msgspec
import pytest

from tests.unit.runtime.cities import T0
from twin_actors.runtime.clock import Clock


@pytest.mark.parametrize("mode", ["wall", "events"])
def test_wall_time_is_the_walls(mode: str) -> None:
    clock = Clock(mode=mode, speed=60.0)  # type: ignore[arg-type]
    before_s = time.time()
    assert before_s <= clock.now_s() <= time.time()
    assert clock.wall_seconds(90.0) == 90.0


def test_scaled_time_starts_where_it_should_and_runs_at_its_pace() -> None:
    origin_s = time.time() - 10.0
    clock = Clock(mode="scaled", speed=60.0, start_s=T0, origin_s=origin_s)
    earliest_s = time.time()
    now_s = clock.now_s()
    latest_s = time.time()
    assert T0 + (earliest_s - origin_s) * 60.0 <= now_s <= T0 + (latest_s - origin_s) * 60.0
    assert now_s >= T0 + 600.0
    assert clock.wall_seconds(90.0) == 1.5


def test_a_slow_city_takes_longer() -> None:
    assert Clock(mode="scaled", speed=0.5).wall_seconds(10.0) == 20.0


def test_all_processes_read_the_same_clock_from_the_plan() -> None:
    clock = Clock(mode="scaled", speed=60.0, start_s=T0, origin_s=5.0)
    assert Clock(**msgspec.json.decode(msgspec.json.encode(clock))) == clock
