"""The compiled detector gives what the one in numpy gives, to the bit: scores, all memory and alarms."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_actors.core.detection import compiled, ensemble
from twin_actors.core.detection.memory import SCALES, DetectionMemory
from twin_actors.core.kernels import kernels

pytestmark = pytest.mark.skipif(kernels().loops is None, reason=kernels().says)

TWINS = 40


def assert_same_bits(one: np.ndarray, other: np.ndarray, what: str) -> None:
    assert one.dtype == other.dtype, what
    unlike = (one.view(f"u{one.itemsize}") != other.view(f"u{one.itemsize}")) & ~(np.isnan(one) & np.isnan(other))
    assert not unlike.any(), f"{what}: {one[unlike][:5]} is not {other[unlike][:5]} at {np.argwhere(unlike)[:5]}"


def stream(chance, rows, ticks, *, missing, wild, repeated, everyone, same_hour):
    """Readings of some of the twins, in batches: (twins, at_s, values, innovation, variance)."""
    level = 10.0 ** chance.integers(-6, 7, (rows, TWINS))
    at_s = np.full(TWINS, 1e9 + 3600 * chance.integers(0, 400))
    last = level.copy()
    for _ in range(ticks):
        if everyone:
            begin = chance.integers(0, 3)
            twins = np.arange(begin, TWINS)
        else:
            twins = chance.permutation(TWINS)[: chance.integers(1, TWINS + 1)]
        at_s[twins] += 300.0 if same_hour else chance.choice([-40.0, 0.0, 10.0, 900.0, 4000.0, 90_000.0], len(twins))
        b = len(twins)
        values = level[:, twins] * (1 + chance.normal(0, 0.1, (rows, b)))
        values = np.where(chance.random((rows, b)) < repeated, last[:, twins], values)
        values = np.where(chance.random((rows, b)) < 0.3 * repeated, 0.0, values)
        odd = chance.choice([1e300, -1e300, np.inf, -np.inf, 1e-310, -0.0, 1e20, 3.0], (rows, b))
        values = np.where(chance.random((rows, b)) < wild, odd, values)
        last[:, twins] = values
        values = np.where(chance.random((rows, b)) < missing, np.nan, values)
        innovation = values - level[:, twins]
        innovation = np.where(chance.random((rows, b)) < missing, np.nan, innovation)
        variance = np.abs(chance.normal(0, 1, (rows, b))) * level[:, twins] ** 2
        variance = np.where(
            chance.random((rows, b)) < wild, chance.choice([0.0, np.nan, np.inf, 1e-320], (rows, b)), variance
        )
        yield twins, at_s[twins].copy(), values, innovation, variance


@settings(deadline=None, max_examples=60)  # 70 ticks, twice: no example is quick
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 4),
    missing=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    wild=st.sampled_from([0.0, 0.02, 0.3]),
    repeated=st.sampled_from([0.0, 0.4, 0.97]),
    everyone=st.booleans(),
    same_hour=st.booleans(),
    counted=st.sampled_from([0.0, 45.0, 3990.0]),
)
def test_same_bits_on_any_stream(seed, rows, missing, wild, repeated, everyone, same_hour, counted):
    chance = np.random.default_rng(seed)
    by_numpy = DetectionMemory.empty(rows, TWINS)
    if counted:  # as after many readings, with a scale and statistics of their own
        by_numpy.levels[:] = chance.normal(0, 5, by_numpy.levels.shape)
        by_numpy.scales[:] = np.abs(chance.normal(0, 5, by_numpy.scales.shape))
        by_numpy.scales[0] = counted + chance.integers(0, 20, by_numpy.scales[0].shape)
        by_numpy.scales[SCALES.index("age")] = chance.integers(0, 110, by_numpy.scales[0].shape)
        by_numpy.course[:] = np.where(chance.random(by_numpy.course.shape) < 0.5, np.nan, 1.0)
    by_kernels = deepcopy(by_numpy)
    totals = chance.random((rows, 1)) < 0.2
    told = stream(
        chance, rows, 70, missing=missing, wild=wild, repeated=repeated, everyone=everyone, same_hour=same_hour,
    )  # fmt: skip
    for twins, at_s, values, innovation, variance in told:
        expected = ensemble.detect(by_numpy, twins, at_s, values, innovation, variance, totals)
        score = compiled.detect(by_kernels, twins, at_s, values, innovation, variance, totals)
        assert_same_bits(score, expected, "score")
    for field in fields(by_numpy):
        assert_same_bits(getattr(by_kernels, field.name), getattr(by_numpy, field.name), field.name)
