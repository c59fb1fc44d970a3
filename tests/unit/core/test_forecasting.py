"""Ensembles: what they spread by, what they leave alone, and that packing does not matter."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.unit.core.streams import column, commanded, joined, tanks, told
from tests.unit.core.toy import JOINT, TANK
from twin_actors.core.columns import Attributes, Column, Command, Reading, State, attribute, command, memory, state
from twin_actors.core.forecasting import draw, ensemble, stream
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable

NOW_S = 1_780_000_000.0


class Rate(Attributes):
    per_h: Column = attribute("m")


class Walk(State):
    place_m: Column = state("m", default=10, unsure_sd=2, drift=3)
    walked_h: Column = memory("h")


class Hurry(Command):
    extra_m: Column = command("m", default=0, hold_s=4200)


def walk(state: Any, attributes: Any, command: Any, couplings: Any, step: Any) -> Any:
    """dx/dt = rate + what is commanded, both in metres an hour."""
    hours = step.dt_s / 3600
    rate = attributes.per_h + command.extra_m
    return state.replace(place_m=state.place_m + rate * hours, walked_h=state.walked_h + hours)


WALK = Kind(
    name="walk",
    doc="A walk with a drift.",
    attributes=Rate,
    reading=Reading,
    state=Walk,
    command=Hurry,
    predict=walk,
    indicators=lambda state, attributes, command, windows: {},
    shows=(),
)


def walks(n: int = 1, kind: Kind = WALK) -> TwinTable:
    return TwinTable(kind, [f"walk/{i}" for i in range(n)], np.full((1, n), 4.0))


def futures(table: TwinTable, *twins: int, samples: int = 6, steps: int = 4, seed: int = 1) -> Column:
    return ensemble(table, np.array(twins), now_s=NOW_S, samples=samples, steps=steps, dt_s=900.0, seed=seed)


def test_an_ensemble_has_the_mean_of_predict_and_the_declared_spread() -> None:
    """x = 10 + 4 t, variance 2² + 3² t with t in hours; four quarter hours, 20,000 samples (±1 %, ±5 σ/√N)."""
    place = futures(walks(), 0, samples=20_000)[0, :, :, 0]
    for step, hours in enumerate((0.25, 0.5, 0.75, 1.0)):
        sd = np.sqrt(4 + 9 * hours)
        assert place[step].mean() == pytest.approx(10 + 4 * hours, abs=5 * sd / np.sqrt(20_000))
        assert place[step].std() == pytest.approx(sd, rel=0.025)


def test_memory_is_exact_in_every_sample() -> None:
    walked = futures(walks(), 0)[1]
    np.testing.assert_allclose(walked, np.broadcast_to(column(0.25, 0.5, 0.75, 1)[:, None, None], walked.shape))


def test_without_uncertainty_every_sample_is_predict() -> None:
    class Sure(State):
        place_m: Column = state("m", default=10, unsure_sd=0, drift=0)
        walked_h: Column = memory("h")

    place = futures(walks(kind=dataclasses.replace(WALK, state=Sure)), 0)[0, :, :, 0]
    np.testing.assert_allclose(place, np.repeat(column(11, 12, 13, 14)[:, None], 6, axis=1))


def test_samples_stay_within_the_declared_limits() -> None:
    table = tanks()
    shaken = futures(table, 0, samples=200)
    assert shaken[0].min() >= 0
    assert shaken[0].max() <= 10
    assert shaken[1:4].min() >= 0


@pytest.mark.parametrize("kind", [TANK, JOINT])
def test_a_future_does_not_depend_on_packing(kind: Kind) -> None:
    packed, alone = tanks(5, kind), TwinTable(kind, [f"{kind.name}/3"], column(10, 4)[:, None])
    packed.apply(joined(told(NOW_S, level=3, twin=3), told(NOW_S, level=5, twin=1)))
    alone.apply(told(NOW_S, level=3))
    expected = futures(alone, 0)
    np.testing.assert_allclose(futures(packed, 3)[..., 0], expected[..., 0], rtol=1e-12)
    np.testing.assert_allclose(futures(packed, 1, 3, 0)[..., 1], expected[..., 0], rtol=1e-12)


def test_the_same_seed_gives_the_same_future_and_another_seed_another() -> None:
    table = tanks(2)
    np.testing.assert_array_equal(futures(table, 0, 1), futures(table, 0, 1))
    assert not np.array_equal(futures(table, 0), futures(table, 0, seed=2))


def test_entities_have_streams_of_their_own() -> None:
    shape = (2, 3)
    both = draw(5, ["tank/a", "tank/b"], shape)
    assert both.shape == (2, 3, 2)
    assert not np.array_equal(both[..., 0], both[..., 1])
    np.testing.assert_array_equal(both[..., 1], stream(5, "tank/b").standard_normal(shape))


@pytest.mark.parametrize("seed", [0, 1, 2**53 + 1, 2**63 - 1, 2**64 + 5])
def test_large_numbers_are_seeds(seed: int) -> None:
    assert np.isfinite(stream(seed, "tank/a").standard_normal())


def test_an_ensemble_leaves_the_twins_as_they_are() -> None:
    table = tanks(2)
    table.apply(joined(told(NOW_S - 60, level=3), commanded(NOW_S - 30, 0.01)))
    before = table.snapshot()
    futures(table, 0, 1)
    for name, array in table.snapshot().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_commands_in_force_fall_back_within_the_horizon() -> None:
    table, hurried = walks(), walks()
    hurried.command.put(np.array([0]), np.array([[6.0]]), column(NOW_S - 1200))
    # 6 m/h for 3000 s of its 4200 s: after 15, 30, 45 and 60 minutes 1.5, 3, 4.5 and again 6·3000/3600 = 5 m more.
    # The draws are the same, so the difference is free of chance.
    more = futures(hurried, 0)[0, :, :, 0] - futures(table, 0)[0, :, :, 0]
    np.testing.assert_allclose(more, np.repeat(column(1.5, 3, 4.5, 5)[:, None], 6, axis=1), rtol=1e-6)


def test_a_twin_ahead_of_now_starts_from_its_own_time() -> None:
    table = walks()
    arrays = table.snapshot()
    arrays["time_s"][:] = NOW_S + 1800
    table.restore(arrays)
    np.testing.assert_allclose(futures(table, 0)[1, :, 0, 0], [0.25, 0.5, 0.75, 1.0])
