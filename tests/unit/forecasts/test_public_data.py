"""Floors on public data, on cuts that take seconds; benchmarks/forecasts.py has the whole tables."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from twin_actors.core.forecasts import (
    ProfileDecay,
    Regression,
    RepeatLast,
    SeasonalNaive,
    Series,
    WindowRidge,
    evaluate,
    outcomes,
)

DATA = Path(os.environ.get("TWIN_ACTORS_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not beside the project")


def numbers(path: Path, columns: slice) -> np.ndarray:
    with path.open(newline="") as text:
        rows = list(csv.reader(text))[1:]
    return np.array([[float(cell) if cell else np.nan for cell in row[columns]] for row in rows])


@needs_data
@pytest.mark.parametrize(("horizon", "nlinear"), [(96, 0.053), (336, 0.081)])
def test_oil_temperature_is_forecast_at_least_as_well_as_nlinear(horizon: int, nlinear: float) -> None:
    values = numbers(DATA / "ett" / "ETTh1.csv", slice(7, 8))[:14_400]
    series = Series(values=(values - values[:8640].mean()) / values[:8640].std(), period_s=3600.0)
    steps = tuple(range(1, horizon + 1))
    fitted = WindowRidge(336, validation=0.25, refit=False).fit(series.head(11_520), steps)
    origins = np.arange(11_519, 14_400 - horizon)
    error = fitted.at(series, origins) - outcomes(series, steps, origins)
    assert round(float((error**2).mean()), 3) <= nlinear


@needs_data
def test_road_speeds_are_better_than_the_last_value_and_covered() -> None:
    values = numbers(DATA / "metr_la" / "los_speed_first100.csv", slice(1, 41))
    rows = len(values)
    judged = evaluate(
        Series(values=values, period_s=300.0), (3, 12),
        methods=[RepeatLast(), ProfileDecay(288, "day"), Regression("pooled", window=6)],
        first=int(rows * 0.6), choose_until=int(rows * 0.8), refit_every=rows, minimum=0.0,
    )  # fmt: skip
    gain = 1 - judged.errors().overall() / judged.last_errors().overall()
    assert gain[0] > 0.03
    assert gain[1] > 0.10
    assert all(0.87 <= share <= 0.93 for share in judged.covered())


@needs_data
def test_pedestrians_are_better_than_a_week_before_and_covered() -> None:
    values = numbers(DATA / "melbourne_ped" / "ped_2014_hourly.csv", slice(1, 6))
    start = 243 * 24  # 1 September
    series = Series(values=values, period_s=3600.0)
    judged = evaluate(
        series, (1, 24), methods=[SeasonalNaive(168), Regression("own", logarithm=True)], first=17 * 168,
        choose_until=start, refit_every=1500, minimum=0.0,
    )  # fmt: skip
    naive = np.stack([values[judged.origins + horizon - 168] for horizon in (1, 24)], axis=1)
    wrong, week = (
        np.nanmean(np.where(judged.held_back[..., None], np.abs(made - judged.came), np.nan), axis=(0, 2))
        for made in (judged.made, naive)
    )
    assert wrong[0] < 0.7 * week[0]
    assert wrong[1] < 0.95 * week[1]
    assert all(0.87 <= share <= 0.93 for share in judged.covered())
