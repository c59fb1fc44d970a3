"""Rolling through time: where inputs lapse, how long steps are, and samples beside entities."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.streams import NAN, UNHURRIED, column
from tests.unit.core.toy import TANK
from twin_actors.core.columns import (
    Attributes,
    Column,
    Command,
    Couplings,
    Reading,
    State,
    command,
    coupling,
    memory,
)
from twin_actors.core.kind import Kind, Step
from twin_actors.core.rolling import MOST_STEPS, Held, roll

START_S = 10_000.0  # early, where float64 resolves picoseconds
NOW_S = 1_780_000_000.0  # as it is today: float64 resolves 0.24 µs


class Bucket(State):
    water_l: Column = memory("l")
    lived_s: Column = memory("s")


class Tap(Command):
    flow_ls: Column = command("l/s", default=0.5, hold_s=600)


class Roof(Couplings):
    rain_ls: Column = coupling("l/s", default=0.25, hold_s=300)


def fill(state: Any, attributes: Any, command: Any, couplings: Any, step: Step) -> Any:
    """dV/dt = tap + rain."""
    return state.replace(
        water_l=state.water_l + (command.flow_ls + couplings.rain_ls) * step.dt_s,
        lived_s=state.lived_s + step.dt_s,
    )


BUCKET = Kind(
    name="bucket",
    doc="A bucket under a tap and a roof.",
    attributes=Attributes,
    reading=Reading,
    state=Bucket,
    command=Tap,
    couplings=Roof,
    predict=fill,
    indicators=lambda state, attributes, command, windows: {},
    shows=(),
)


def buckets(n: int) -> tuple[Column, Column, Held, Held]:
    """Empty buckets with everything at its default."""
    return (
        np.zeros((2, n)),
        np.zeros((0, n)),
        Held.defaults(Tap.layout, n),
        Held.defaults(Roof.layout, n),
    )


def watched(kind: Kind) -> tuple[Kind, list[Step]]:
    """The kind, and a list that will hold every step it takes."""
    steps: list[Step] = []

    def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Step) -> Any:
        steps.append(step)
        return kind.predict(state, attributes, command, couplings, step)

    return dataclasses.replace(kind, predict=predict), steps


# -- inputs that lapse -------------------------------------------------------------------------------------------


def test_a_command_falls_back_exactly_when_its_time_is_over() -> None:
    x, attributes, tap, roof = buckets(1)
    tap.put(np.array([0]), np.array([[2.0]]), column(START_S))
    # 600 s at 2 l/s, then 400 s at the default of 0.5 l/s, and 1000 s of 0.25 l/s of rain: 1200 + 200 + 250
    x, tap, _ = roll(BUCKET, x, attributes, tap, roof, column(START_S), column(START_S + 1000))
    assert x[0, 0] == pytest.approx(1650, rel=1e-12)
    assert (tap.value[0, 0], tap.until_s[0, 0]) == (0.5, np.inf)


def test_today_integrals_are_exact_to_the_resolution_of_time() -> None:
    x, attributes, tap, roof = buckets(1)
    tap.put(np.array([0]), np.array([[2.0]]), column(NOW_S))
    x, *_ = roll(BUCKET, x, attributes, tap, roof, column(NOW_S), column(NOW_S + 1000))
    # 18 steps, each of which may be off by half of 0.24 µs, at 2.25 l/s
    assert x[0, 0] == pytest.approx(1650, abs=18 * 0.12e-6 * 2.25)


def test_an_input_whose_time_is_over_at_the_end_has_fallen_back() -> None:
    x, attributes, tap, roof = buckets(1)
    tap.put(np.array([0]), np.array([[2.0]]), column(START_S))
    for until_s, value in ((START_S + 599.5, 2.0), (START_S + 600, 0.5)):
        *_, rolled, _ = roll(BUCKET, x, attributes, tap, roof, column(START_S), column(until_s))
        assert rolled.value[0, 0] == value


@UNHURRIED
@given(
    st.lists(
        st.tuples(st.integers(0, 4000), st.floats(0, 5), st.floats(0, 5), st.integers(-200, 200)),
        min_size=1,
        max_size=4,
    )
)
def test_integrals_over_lapsing_inputs_are_exact(twins: list[tuple[int, float, float, int]]) -> None:
    """Each twin with its own duration, its tap set at the start and its rain set earlier or later than that."""
    n = len(twins)
    x, attributes, tap, roof = buckets(n)
    everybody, start_s = np.arange(n), np.full(n, START_S)
    duration_s, flow, rain, ahead_s = (column(*numbers) for numbers in zip(*twins, strict=True))
    tap.put(everybody, flow[None], start_s)
    roof.put(everybody, rain[None], start_s + ahead_s)  # in force from now on, until 300 s after its own time
    x, *_ = roll(BUCKET, x, attributes, tap, roof, start_s, start_s + duration_s)
    flowing = np.minimum(duration_s, 600)
    raining = np.minimum(duration_s, 300 + ahead_s)
    expected = flow * flowing + 0.5 * (duration_s - flowing) + rain * raining + 0.25 * (duration_s - raining)
    np.testing.assert_allclose(x[0], expected, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(x[1], duration_s, rtol=1e-9)


def test_held_inputs_take_what_was_said_and_keep_the_rest() -> None:
    held = Held.defaults(Tap.layout, 3)
    held.put(np.array([0, 2]), np.array([[3.0, NAN]]), column(100, 200))
    np.testing.assert_array_equal(held.value, [[3.0, 0.5, 0.5]])
    np.testing.assert_array_equal(held.until_s, [[700, np.inf, np.inf]])
    np.testing.assert_array_equal(held.next_lapse_s(), [700, np.inf, np.inf])


def test_lapse_is_pure_and_ends_what_is_over_only() -> None:
    held = Held.defaults(Tap.layout, 2)
    held.put(np.array([0, 1]), np.array([[3.0, 4.0]]), column(100, 200))
    assert held.lapse(column(699, 799)) is held
    lapsed = held.lapse(column(700, 700))
    np.testing.assert_array_equal(lapsed.value, [[0.5, 4.0]])
    np.testing.assert_array_equal(lapsed.until_s, [[np.inf, 800]])
    np.testing.assert_array_equal(held.value, [[3.0, 4.0]])


def test_gathered_inputs_come_back_to_their_twins() -> None:
    held = Held.defaults(Tap.layout, 3)
    part = held.gather(np.array([2]))
    part.put(np.array([0]), np.array([[9.0]]), column(50))
    np.testing.assert_array_equal(held.value, [[0.5, 0.5, 0.5]])
    held.scatter(np.array([2]), part)
    np.testing.assert_array_equal(held.value, [[0.5, 0.5, 9.0]])
    np.testing.assert_array_equal(held.until_s, [[np.inf, np.inf, 650]])


def test_a_kind_without_commands_has_nothing_to_lapse() -> None:
    np.testing.assert_array_equal(Held.defaults(Command.layout, 2).next_lapse_s(), [np.inf, np.inf])


# -- steps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("duration_s", "steps_taken"), [(1, 1), (60, 1), (61, 2), (120, 2), (3600, 60)])
def test_steps_are_never_longer_than_the_kind_allows(duration_s: float, steps_taken: int) -> None:
    kind, steps = watched(BUCKET)
    x, attributes, tap, roof = buckets(1)
    roll(kind, x, attributes, tap, roof, column(NOW_S), column(NOW_S + duration_s))
    assert len(steps) == steps_taken
    assert max(float(step.dt_s[0]) for step in steps) <= kind.max_step_s
    assert sum(float(step.dt_s[0]) for step in steps) == pytest.approx(duration_s)
    ends = [float(step.at_s[0]) for step in steps]
    assert ends == sorted(ends)
    assert ends[-1] == NOW_S + duration_s  # to the last bit: the twin's time is the event's time


def test_a_step_ends_where_an_input_lapses() -> None:
    kind, steps = watched(BUCKET)
    x, attributes, tap, roof = buckets(1)
    tap.put(np.array([0]), np.array([[2.0]]), column(NOW_S - 510))  # 90 s are left of it
    roll(kind, x, attributes, tap, roof, column(NOW_S), column(NOW_S + 150))
    assert [float(step.at_s[0]) - NOW_S for step in steps] == [45, 90, 150]


def test_a_long_silence_takes_a_bounded_number_of_steps() -> None:
    kind, steps = watched(BUCKET)
    x, attributes, tap, roof = buckets(1)
    month_s = 30 * 86_400.0
    x, *_ = roll(kind, x, attributes, tap, roof, column(NOW_S), column(NOW_S + month_s))
    assert len(steps) == MOST_STEPS
    assert x[0, 0] == pytest.approx(0.75 * month_s, rel=1e-9)


def test_inputs_that_lapse_in_a_long_silence_add_a_step_each_at_most() -> None:
    kind, steps = watched(BUCKET)
    x, attributes, tap, roof = buckets(1)
    tap.put(np.array([0]), np.array([[2.0]]), column(NOW_S))
    roof.put(np.array([0]), np.array([[2.0]]), column(NOW_S))
    month_s = 30 * 86_400.0
    x, *_ = roll(kind, x, attributes, tap, roof, column(NOW_S), column(NOW_S + month_s))
    assert len(steps) <= MOST_STEPS + 2
    assert x[0, 0] == pytest.approx(0.75 * month_s + 600 * 1.5 + 300 * 1.75, rel=1e-9)


def test_twins_without_time_to_pass_stay_as_they_are() -> None:
    x, attributes, tap, roof = buckets(3)
    x[0] = [1.0, 2.0, 3.0]
    rolled, *_ = roll(BUCKET, x, attributes, tap, roof, np.full(3, NOW_S), NOW_S + column(0, 100, -50))
    np.testing.assert_allclose(rolled[0], [1.0, 2.0 + 75.0, 3.0])
    np.testing.assert_array_equal(x[0], [1, 2, 3])  # what was given is not touched


def test_nothing_happens_in_no_time() -> None:
    kind, steps = watched(BUCKET)
    x, attributes, tap, roof = buckets(2)
    rolled, *_ = roll(kind, x, attributes, tap, roof, np.full(2, NOW_S), np.full(2, NOW_S))
    np.testing.assert_array_equal(rolled, x)
    assert steps == []


# -- samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 2, 3, 5])
def test_samples_roll_as_each_would_by_itself(samples: int) -> None:
    """Three samples are as many as a tank has pipes, two as many as there are tanks."""
    n = 2
    chance = np.random.default_rng(samples)
    x = np.abs(chance.normal(size=(TANK.state.layout.rows, samples, n)))
    attributes = np.array([[10.0, 20.0], [4.0, 4.0]])
    times = (np.full(n, NOW_S), NOW_S + column(500, 90))

    def held() -> tuple[Held, Held]:
        outflow, rain = Held.defaults(TANK.command.layout, n), Held.defaults(TANK.couplings.layout, n)
        outflow.put(np.arange(n), np.array([[0.02, 0.04]]), column(NOW_S - 300, NOW_S - 550))
        return outflow, rain

    together, *_ = roll(TANK, x, attributes, *held(), *times)
    for sample in range(samples):
        alone, *_ = roll(TANK, x[:, sample], attributes, *held(), *times)
        np.testing.assert_allclose(together[:, sample], alone, rtol=1e-12)
