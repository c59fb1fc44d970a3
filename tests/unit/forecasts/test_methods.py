"""Forecast methods: hand-computed values, causality, and that they shift and scale with the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_actors.core.forecasts import (
    Method,
    ProfileDecay,
    Regression,
    RepeatLast,
    RhythmRegression,
    SeasonalNaive,
    Series,
    WindowRidge,
)
from twin_actors.core.forecasts.absolute import fit_absolute

NAN = np.nan
METHODS = (
    RepeatLast(),
    SeasonalNaive(24),
    ProfileDecay(24),
    WindowRidge(8),
    WindowRidge(8, pooled=False),
    Regression("pooled", window=4),
    Regression("own", window=4, neighbours=1),
    RhythmRegression("pooled"),
    RhythmRegression("own"),
)


def rhythm(rows: int, n: int, seed: int = 0) -> np.ndarray:
    """Days of 24 rows with noise that lasts, a few values missing."""
    chance = np.random.default_rng(seed)
    noise = np.zeros((rows, n))
    for row in range(1, rows):
        noise[row] = 0.8 * noise[row - 1] + chance.normal(size=n)
    values = 10 + 4 * np.sin(2 * np.pi * np.arange(rows) / 24)[:, None] * (1 + np.arange(n)) + noise
    values[chance.random(values.shape) < 0.03] = NAN
    return values


def test_repeat_last_skips_gaps() -> None:
    series = Series(values=np.array([[1.0, NAN], [NAN, NAN], [3.0, 7.0]]), period_s=60.0)
    made = RepeatLast().fit(series, (1, 5)).at(series, np.array([1, 2]))
    np.testing.assert_array_equal(made, [[[1, NAN], [1, NAN]], [[3, 7], [3, 7]]])


def test_seasonal_naive_takes_the_latest_season_that_is_known() -> None:
    series = Series(values=np.arange(10.0)[:, None], period_s=60.0)
    made = SeasonalNaive(4).fit(series, (1, 4, 5)).at(series, np.array([8, 2]))
    # origin 8: targets 9, 12, 13 are 5, 8 and 13 - 8 = 5
    np.testing.assert_array_equal(made[0, :, 0], [5, 8, 5])
    np.testing.assert_array_equal(made[1, :, 0], [NAN, 2, NAN])


def test_profile_and_fading_residual_by_hand() -> None:
    # profile of two places: plain means with keep=1 are 1 and 3; residuals +1, 0, -1, 0 … fade by β = Σ r r' / Σ r²
    values = np.array([2.0, 3.0, 1.0, 3.0, 0.0, 3.0])[:, None]
    series = Series(values=values, period_s=60.0)
    fitted = ProfileDecay(2, keep=1.0).fit(series, (1, 2))
    made = fitted.at(series, np.array([0]))[0, :, 0]
    # h = 1: Σ r(o)r(o+1) = 0, so the profile alone: 3; h = 2: r = 1, 0, 0, 0 then 0, 0, -1, 0: β = 0, so 1
    np.testing.assert_allclose(made, [3.0, 1.0])


def test_window_ridge_finds_a_line_and_a_pooled_map_in_every_scale() -> None:
    time = np.arange(200.0)
    values = np.stack([time, -50 * time + 3], axis=1)
    series = Series(values=values, period_s=60.0)
    made = WindowRidge(5, ridges=(1e-9,)).fit(series, (1, 10)).at(series, np.array([199]))
    np.testing.assert_allclose(made[0, :, 0], [200, 209], rtol=1e-4)
    own = WindowRidge(5, ridges=(1e-9,), pooled=False).fit(series, (1, 10)).at(series, np.array([199]))
    np.testing.assert_allclose(own[0, :, 1], -50 * np.array([200, 209]) + 3, rtol=1e-4)


def test_window_ridge_is_least_squares_with_a_penalty() -> None:
    chance = np.random.default_rng(1)
    values = chance.normal(size=60).cumsum()[:, None]
    series = Series(values=values, period_s=60.0)
    ridge, window, horizon = 0.5, 4, 2
    views = np.lib.stride_tricks.sliding_window_view(values[:, 0], window + horizon)
    x = views[:, : window - 1] - views[:, window - 1 : window]
    y = views[:, -1] - views[:, window - 1]
    centred = x - x.mean(axis=0)
    gram = centred.T @ centred
    weights = np.linalg.solve(gram + ridge * np.trace(gram) / 3 * np.eye(3), centred.T @ (y - y.mean()))
    last = values[-1, 0]
    expected = last + (values[-4:-1, 0] - last) @ weights + y.mean() - x.mean(axis=0) @ weights
    made = WindowRidge(window, ridges=(ridge,)).fit(series, (horizon,)).at(series, np.array([59]))
    np.testing.assert_allclose(made[0, 0, 0], expected, rtol=1e-10)


def test_missing_targets_change_only_their_own_horizon() -> None:
    values = rhythm(300, 1)
    values = np.where(np.isnan(values), 10.0, values)
    holed = values.copy()
    holed[150] = NAN
    made = WindowRidge(6, ridges=(0.1,)).fit(Series(values=holed, period_s=3600.0), (1, 2))
    assert np.isfinite(made.at(Series(values=holed, period_s=3600.0), np.array([299]))).all()


def test_absolute_deviations_give_the_median_and_ignore_a_wild_row() -> None:
    line = np.linspace(0, 1, 101)[None, :, None]
    outcome = 3 + 2 * line[..., 0]
    outcome[0, 50] = 1e6
    use = np.ones((1, 101), np.bool_)
    np.testing.assert_allclose(fit_absolute(line, outcome, use, 1e-9)(line)[0, [0, 100]], [3, 5], atol=0.02)
    constant = fit_absolute(np.zeros((1, 5, 1)), np.array([[1.0, 2.0, 3.0, 4.0, 1e9]]), np.ones((1, 5), np.bool_), 0.01)
    np.testing.assert_allclose(constant(np.zeros((1, 1, 1))), [[3.0]], atol=0.15)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_forecast_sees_nothing_later_than_its_origin(method: Method) -> None:
    values = rhythm(420, 3)
    series = Series(values=values, period_s=3600.0, extras={"wind": rhythm(420, 3, 5)})
    changed = values.copy()
    changed[380:] += 1000.0
    wind = np.where(np.arange(420)[:, None] < 380, series.extras["wind"], 99.0)
    other = replace(series, values=changed, extras={"wind": wind})
    fitted = method.fit(series.head(380), (1, 6, 30))
    origins = np.arange(340, 380)
    mine, theirs = fitted.at(series, origins), fitted.at(other, origins)
    np.testing.assert_allclose(mine, theirs, rtol=1e-9)
    np.testing.assert_allclose(mine, fitted.at(series.head(380), origins), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@settings(max_examples=5, deadline=None)
@given(scale=st.floats(0.01, 1000), shift=st.floats(-1000, 1000))
def test_forecasts_shift_and_scale_with_the_data(method: Method, scale: float, shift: float) -> None:
    values = rhythm(300, 2)
    now = np.array([280, 299])
    plain = Series(values=values, period_s=3600.0)
    moved = Series(values=scale * values + shift, period_s=3600.0)
    mine = scale * method.fit(plain, (1, 6)).at(plain, now) + shift
    theirs = method.fit(moved, (1, 6)).at(moved, now)
    np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=2e-3 * scale)


@pytest.mark.parametrize("method", [RepeatLast(), SeasonalNaive(24), ProfileDecay(24), WindowRidge(8, pooled=False)])
def test_entities_that_are_not_pooled_do_not_change_each_other(method: Method) -> None:
    values = rhythm(400, 3)
    together, alone = (Series(values=each, period_s=3600.0) for each in (values, values[:, 1:2]))
    now = np.array([350, 399])
    mine = method.fit(together, (1, 6)).at(together, now)[..., 1:2]
    np.testing.assert_allclose(mine, method.fit(alone, (1, 6)).at(alone, now), rtol=1e-9)


def test_a_past_that_is_too_short_gives_the_last_value() -> None:
    series = Series(values=np.arange(30.0)[:, None], period_s=3600.0)
    for method in (WindowRidge(24), Regression()):
        np.testing.assert_array_equal(method.fit(series, (12,)).at(series, np.array([29])), [[[29.0]]])


def test_neighbours_that_lead_are_found() -> None:
    chance = np.random.default_rng(3)
    lead = chance.normal(size=500).cumsum()
    values = np.stack([lead, np.r_[np.zeros(3), lead[:-3]], chance.normal(size=500).cumsum()], axis=1)
    series = Series(values=values, period_s=3600.0)
    alone, seeing = Regression("own", window=4), Regression("own", window=4, neighbours=1)
    origins = np.arange(400, 490)
    wrong = [
        np.abs(method.fit(series.head(400), (3,)).at(series, origins)[:, 0, 1] - values[origins + 3, 1]).mean()
        for method in (alone, seeing)
    ]
    assert wrong[1] < 0.5 * wrong[0]


def test_counts_that_live_by_the_week_are_forecast_from_their_rhythm_and_level() -> None:
    # every week on a level of its own, in proportion: last week's hour is wrong by the ratio of the levels
    chance = np.random.default_rng(7)
    hours = np.arange(24 * 7 * 16)
    shape = 100 * (1.2 + np.sin(2 * np.pi * hours / 24)) * np.where(hours // 24 % 7 < 5, 1.0, 0.4)
    level = np.exp(0.3 * chance.normal(size=16)).repeat(168)
    values = (shape * level * np.exp(0.05 * chance.normal(size=len(hours))))[:, None]
    series, origins = Series(values=values, period_s=3600.0), np.arange(24 * 7 * 12, len(hours) - 6)
    wrong = {
        method.name: np.abs(method.fit(series.head(24 * 7 * 12), (6,)).at(series, origins)[:, 0] - values[origins + 6])
        for method in (RhythmRegression("own", "log"), SeasonalNaive(168))
    }
    assert wrong["rhythm-own-log"].mean() < 0.5 * wrong["same-season"].mean()


@pytest.mark.parametrize("horizon", [1, 6, 24, 168, 169])
def test_a_rhythm_uses_no_row_after_its_origin(horizon: int) -> None:
    values = rhythm(24 * 60, 2)
    method, origin = RhythmRegression("own", like_days=3), 24 * 50
    fitted = method.fit(Series(values=values[: 24 * 45], period_s=3600.0), (horizon,))
    changed = values.copy()
    changed[origin + 1 :] = 1e3
    said = [fitted.at(Series(values=each, period_s=3600.0), np.array([origin])) for each in (values, changed)]
    np.testing.assert_array_equal(said[0], said[1])
