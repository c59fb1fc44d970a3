"""Backtests, the choice of a method and its mixture, and quantiles that keep their promise when the world moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from twin_actors.core.forecasts import (
    MIXTURE,
    Errors,
    ProfileDecay,
    Regression,
    RepeatLast,
    SeasonalNaive,
    Series,
    backtest,
    choose,
    coverage,
    evaluate,
    outcomes,
    predicted,
    track,
    usual_size,
)
from twin_actors.core.forecasts.backtest import mixture, recent

NAN = np.nan


def test_outcomes_and_errors_by_hand() -> None:
    series = Series(values=np.array([[1.0], [2.0], [NAN], [4.0]]), period_s=60.0)
    came = outcomes(series, (1, 2), np.array([0, 1, 2]))
    np.testing.assert_array_equal(came[..., 0], [[2, NAN], [NAN, 4], [4, NAN]])
    errors = Errors.of(np.array([[[1.0], [9.0]], [[9.0], [7.0]], [[8.0], [9.0]]]), came)
    np.testing.assert_array_equal(errors.mae[:, 0], [2.5, 3.0])
    np.testing.assert_allclose(errors.rmse[:, 0], [np.sqrt((1 + 16) / 2), 3.0])
    np.testing.assert_array_equal(errors.bias[:, 0], [1.5, 3.0])
    np.testing.assert_array_equal(errors.overall(), [2.5, 3.0])


def test_a_backtest_fits_on_the_past_of_each_origin() -> None:
    seen = []

    class Watching:
        name = "watching"

        def fit(self, series: Series, horizons: tuple[int, ...]) -> object:
            seen.append(len(series))
            return RepeatLast().fit(series, horizons)

    series = Series(values=np.arange(20.0)[:, None], period_s=60.0)
    made = backtest(Watching(), series, (1,), first=9, refit_every=4)
    assert seen == [10, 14, 18], "rows 0 … 9 are known at origin 9"
    np.testing.assert_array_equal(made[:, 0, 0], np.arange(9.0, 20.0))
    with pytest.raises(ValueError, match="within the 20 rows"):
        backtest(RepeatLast(), series, (1,), first=9, refit_every=4, last=20)


def test_the_best_method_is_chosen_by_horizon_and_the_mixture_where_it_is_better() -> None:
    came = np.zeros((4, 3, 1))
    high, low = np.full_like(came, 1.0), np.full_like(came, -1.0)
    high[:, 0], low[:, 1] = 0.1, -0.2
    choice = choose({"high": high, "low": low}, came)
    assert choice.chosen == ("high", "low", MIXTURE), "at the third horizon their errors cancel"
    np.testing.assert_allclose(choice.weights[:, 2], [0.5, 0.5])
    np.testing.assert_allclose(choice.apply({"high": high, "low": low})[0, :, 0], [0.1, -0.2, 0.0])


def test_a_method_that_says_nothing_leaves_its_weight_to_the_others() -> None:
    made = [np.array([[[1.0]], [[NAN]]]), np.array([[[3.0]], [[3.0]]])]
    np.testing.assert_allclose(mixture(made, np.array([[0.5], [0.5]]))[:, 0, 0], [2.0, 3.0])
    silent = np.full((4, 1, 1), NAN)
    silent[0] = 0.0
    assert choose({"silent": silent, "other": np.ones((4, 1, 1))}, np.zeros((4, 1, 1))).chosen == ("other",)


def test_coverage_holds_when_the_errors_grow_fivefold() -> None:
    chance = np.random.default_rng(0)
    came = chance.normal(size=(3000, 2, 3)) * np.where(np.arange(3000) < 1500, 1.0, 5.0)[:, None, None]
    tracked = track(np.zeros_like(came), came, (1, 6), warm=200)
    assert 0.88 <= coverage(tracked.quantiles[200:1500], came[200:1500]) <= 0.92
    assert 0.87 <= coverage(tracked.quantiles[1500:], came[1500:]) <= 0.93
    fixed = np.quantile(came[:200], [0.05, 0.95])
    assert ((came[1500:] > fixed[0]) & (came[1500:] < fixed[1])).mean() < 0.4, "what a fixed interval would hold"


def test_one_sided_errors_get_one_sided_intervals() -> None:
    came = np.random.default_rng(1).exponential(size=(2000, 1, 1))
    tracked = track(np.zeros_like(came), came, (1,), warm=200)
    low, middle, high = (
        tracked.quantiles[1500:, 0].mean(),
        tracked.quantiles[1500:, 2].mean(),
        tracked.quantiles[1500:, 4].mean(),
    )
    assert low < 0.2
    assert 0.5 < middle < 0.95
    assert 2.3 < high < 4.0


def test_no_quantile_uses_an_error_before_it_is_known() -> None:
    chance = np.random.default_rng(2)
    came = chance.normal(size=(300, 1, 1))
    changed = came.copy()
    changed[200:] += 100.0
    quantiles = [track(np.zeros_like(came), each, (5,), warm=50).quantiles for each in (came, changed)]
    np.testing.assert_array_equal(quantiles[0][:205], quantiles[1][:205])
    assert (quantiles[0][205] != quantiles[1][205]).any(), "the error of origin 200 is known at origin 205"
    with pytest.raises(ValueError, match="say nothing of a horizon"):
        track(np.zeros_like(came), came, (60,), warm=50)


@settings(max_examples=20, deadline=None)
@given(arrays(np.float64, (20, 1, 2), elements=st.floats(-1e6, 1e6) | st.just(NAN)))
def test_quantiles_are_ordered_whatever_comes(came: np.ndarray) -> None:
    tracked = track(np.zeros_like(came), came, (3,), warm=8)
    assert (np.diff(tracked.quantiles, axis=1) >= 0).all()
    assert (np.diff(tracked.offsets, axis=0) >= 0).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(-20, 20), st.integers(0, 1000))
def test_quantiles_scale_with_the_data(power: int, seed: int) -> None:
    came = np.random.default_rng(seed).normal(size=(30, 1, 2))
    plain, scaled = (track(np.zeros_like(came), each, (2,), warm=8) for each in (came, came * 2.0**power))
    np.testing.assert_allclose(scaled.quantiles, plain.quantiles * 2.0**power, rtol=1e-12)


def test_the_usual_size_of_errors_follows_the_hour() -> None:
    chance = np.random.default_rng(3)
    loud = np.where(np.arange(24 * 40) % 24 < 12, 10.0, 1.0)[:, None, None]
    came = chance.normal(size=(24 * 40, 1, 1)) * loud
    size = usual_size(np.zeros_like(came), came, (1,), 24)
    assert size[-24:][loud[-24:, 0, 0] > 5].mean() > 4 * size[-24:][loud[-24:, 0, 0] < 5].mean()
    changed = came.copy()
    changed[500:] *= 100
    np.testing.assert_array_equal(usual_size(np.zeros_like(came), changed, (1,), 24)[:501], size[:501])


def counts(days: int, n: int = 2, seed: int = 0) -> np.ndarray:
    """Hourly counts with a rhythm of days."""
    chance = np.random.default_rng(seed)
    shape = 50 + 40 * np.sin(2 * np.pi * np.arange(days * 24) / 24)
    return np.maximum(shape[:, None] * (1 + np.arange(n)) + 5 * chance.normal(size=(days * 24, n)), 0)


def test_predicted_chooses_better_than_the_last_value_and_says_its_error() -> None:
    series = Series(values=counts(30), period_s=3600.0, until_s=2_592_000.0)
    said = predicted(series, (3600.0, 6 * 3600.0), minimum=0.0)
    assert said.at_s == (2_595_600.0, 2_613_600.0)
    truth = counts(31)[30 * 24 + np.array([0, 5])]
    assert (np.abs(said.values - truth) < 25).all()
    assert (said.mae[0] < 0.55 * said.last_mae[0]).all(), "what is left is the noise"
    assert (said.mae[1] < 0.2 * said.last_mae[1]).all()
    assert ((said.coverage > 0.8) & (said.coverage < 0.97)).all()
    assert (np.diff(said.quantiles, axis=0) >= 0).all()
    assert (said.quantiles >= 0).all(), "limits hold for quantiles as well"
    assert "off by" in repr(said)
    row = said.of(1)[0]
    assert row["method"] == said.methods[0]
    assert row["q05"] <= row["value"] <= row["q95"]


def test_predicted_is_the_same_alone_and_packed_where_methods_do_not_pool() -> None:
    values = counts(20, n=3)
    methods = [RepeatLast(), SeasonalNaive(24)]
    packed = predicted(Series(values=values, period_s=3600.0), (3600.0,), methods=methods)
    alone = predicted(Series(values=values[:, 1:2], period_s=3600.0), (3600.0,), methods=methods)
    np.testing.assert_allclose(packed.values[:, 1], alone.values[:, 0])


def test_a_short_past_is_refused_with_what_is_needed() -> None:
    with pytest.raises(ValueError, match="needs at least 84 periods of 1 h of history, there are 40"):
        predicted(Series(values=np.zeros((40, 1)), period_s=3600.0), (86_400.0,))


def test_two_methods_of_one_name_are_refused() -> None:
    series = Series(values=counts(5), period_s=3600.0)
    with pytest.raises(ValueError, match="one name"):
        evaluate(series, (1,), methods=[RepeatLast(), RepeatLast()], first=50, choose_until=100, refit_every=50)


def test_the_choice_does_not_see_the_held_back_time() -> None:
    values = counts(20, n=1)
    changed = values.copy()
    changed[15 * 24 :] = np.random.default_rng(5).normal(50, 40, size=changed[15 * 24 :].shape)
    choices = [
        evaluate(
            Series(values=each, period_s=3600.0),
            (1, 6),
            methods=[RepeatLast(), SeasonalNaive(24), ProfileDecay(24), Regression(window=4)],
            first=10 * 24,
            choose_until=15 * 24,
            refit_every=120,
        ).choice
        for each in (values, changed)
    ]
    assert choices[0].chosen == choices[1].chosen
    np.testing.assert_array_equal(choices[0].weights, choices[1].weights)


def test_the_recent_mixture_follows_the_method_that_has_become_right_and_looks_at_known_errors_only() -> None:
    came = np.zeros((400, 1, 2))
    first, second = np.full_like(came, 0.1), np.full_like(came, 1.0)
    first[200:], second[200:] = 1.0, 0.1
    said = recent([first, second], came, (5,))
    assert np.isnan(said.made[:5]).all(), "no error is known yet"
    assert said.made[199].max() < 0.11
    np.testing.assert_array_equal(said.made[200:205] > 0.9, True)
    assert said.made[-1].max() < 0.2
    later = came.copy()
    later[300:] = 50.0
    np.testing.assert_array_equal(recent([first, second], later, (5,)).made[:305], said.made[:305])
    alike = recent([first, first, second], came, (5,)).weights
    assert (alike[1] == 0).all(), "what two methods say alike counts once"
