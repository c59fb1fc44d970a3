"""The usual week: forecasts against baselines on real load, waste that is injected and found, words of advice."""

from __future__ import annotations

import csv
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from domains.power import rhythm
from domains.power.advice import FIND_WASTE, OVERLOAD_ADVICE, find_waste, in_words, overload_advice
from domains.power.records import SubstationAttributes, SubstationState, SubstationWindows
from domains.power.substation import SUBSTATION
from tests.domains.power.substations import city
from twin_actors.core.columns import Column
from twin_actors.core.inputs import Batch
from twin_actors.core.table import TwinTable

DATA = Path(os.environ.get("TWIN_ACTORS_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
ETT = DATA / "ett" / "ETTh1.csv"
needs_ett = pytest.mark.skipif(not ETT.exists(), reason=f"the transformer data are not at {ETT}")
HOURS = np.arange(168.0)


def windows(week: Column, ambient: Column | None = None) -> SubstationWindows:
    n = week.shape[1]
    return SubstationWindows(
        usual_load_mw=week, usual_ambient_c=np.full((168, n), np.nan) if ambient is None else ambient
    )


def test_a_forecast_is_the_usual_hour_and_a_deviation_that_fades() -> None:
    week = (20.0 + 5.0 * np.sin(2 * np.pi * HOURS / 24.0))[:, None]
    state = SubstationState.defaults(1).replace(hour_of_week_h=np.array([167.5]))
    ahead = rhythm.load_ahead_mw(week[167] + 4.0, state, windows(week), np.array([0.0, 1.0, 12.0]))
    np.testing.assert_allclose(ahead[0], week[167] + 4.0)
    np.testing.assert_allclose(ahead[1], week[0] + 4.0 * np.exp(-1 / 12))
    np.testing.assert_allclose(ahead[2], week[11] + 4.0 * np.exp(-1))
    unseen = rhythm.load_ahead_mw(np.array([7.0]), state, windows(np.full((168, 1), np.nan)), np.array([1.0]))
    np.testing.assert_allclose(unseen, 7.0)


def test_weather_explains_what_it_explains() -> None:
    week = np.full((168, 2), 20.0)
    attributes = SubstationAttributes.defaults(2).replace(cooling_mw_per_k=np.array([0.5, 0.0]))
    state = SubstationState.defaults(2).replace(ambient_temp_c=np.full(2, 32.0), hour_of_week_h=np.full(2, 40.2))
    more = rhythm.unexplained_mw(np.full(2, 24.0), state, attributes, windows(week, np.full((168, 2), 24.0)))
    np.testing.assert_allclose(more, [0.0, 4.0])


def test_base_load_of_a_day_with_a_night_and_of_one_without() -> None:
    night = np.where((HOURS % 24) < 8, 10.0, 20.0)
    week = np.stack([night, np.full(168, 15.0), np.where(HOURS < 100, 15.0, np.nan)], axis=1)
    np.testing.assert_allclose(rhythm.base_load_ratio(windows(week)), [0.5, 1.0, 0.0])


def load() -> tuple[Column, Column]:
    """Times in s and the hourly load HUFL of a real transformer (unit not stated by the source)."""
    with ETT.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    at_s = [datetime.fromisoformat(row["date"]).replace(tzinfo=UTC).timestamp() for row in rows]
    return np.array(at_s), np.array([float(row["HUFL"]) for row in rows])


@needs_ett
def test_the_forecast_beats_persistence_and_the_weekly_naive_on_a_real_transformer() -> None:
    """24 weeks of HUFL as hours 1 … 24 ahead, from every hour; the profile is learnt as the core learns it."""
    at_s, series = load()
    series, at_s = np.maximum(series, 0.0)[: 168 * 34], at_s[: 168 * 34]
    hour = np.floor(at_s / 3600.0).astype(int) % 168
    week, count = np.full(168, np.nan), np.zeros(168)
    errors: dict[str, list[Column]] = {"twin": [], "last": [], "week": []}
    ahead = np.arange(1.0, 25.0)
    for now in range(len(series) - 24):
        slot = hour[now]
        count[slot] = min(count[slot] + 1, 8.0)
        week[slot] = series[now] if np.isnan(week[slot]) else week[slot] + (series[now] - week[slot]) / count[slot]
        if now >= 168 * 10 and now % 3 == 0:
            state = SubstationState.defaults(1).replace(hour_of_week_h=np.array([float(slot)]))
            coming = series[now + 1 : now + 25]
            mine = rhythm.load_ahead_mw(series[now : now + 1], state, windows(week[:, None]), ahead)[:, 0]
            errors["twin"].append(np.abs(mine - coming))
            errors["last"].append(np.abs(series[now] - coming))
            errors["week"].append(np.abs(series[now - 167 : now - 143] - coming))
    mae = {name: float(np.mean(error)) for name, error in errors.items()}
    assert mae["twin"] < 0.8 * mae["last"], mae
    assert mae["twin"] < 0.9 * mae["week"], mae


def test_waste_that_is_switched_on_is_named_and_the_quiet_neighbour_is_not() -> None:
    """Three weeks of a day's rhythm with noise; then one of two substations draws 30 % more, night and day."""
    n, chance = 2, np.random.default_rng(5)
    table = TwinTable(SUBSTATION, ["substation/a", "substation/b"], SubstationAttributes.defaults(n).block((n,)))
    layout = SUBSTATION.reading.layout
    start_s = 604_800.0 * 2900
    raised: list[tuple[float, int]] = []
    for hour in range(24 * 23):
        at_s = start_s + 3600.0 * hour
        usual = 20.0 + 5.0 * np.sin(2 * np.pi * (hour % 24) / 24.0)
        more = np.array([1.0, 1.3 if hour >= 24 * 22 else 1.0])
        values = np.full((layout.rows, n), np.nan)
        values[layout.places["load_mw"]] = usual * more + 0.3 * chance.standard_normal(n)
        values[layout.places["ambient_temp_c"]] = 20.0
        table.apply(Batch(rows=np.arange(n), observed_at_s=np.full(n, at_s), values=values))
        shown = table.show(at_s)
        raised += [(float(hour), int(row)) for row in np.flatnonzero(shown.alerts["load_without_reason"])]
    assert raised, "the waste was not found"
    assert {row for _, row in raised} == {1}
    first = min(hour for hour, _ in raised)
    assert 24 * 22 + 6 <= first <= 24 * 22 + 8


def test_waste_is_said_in_words_with_its_energy() -> None:
    flat = np.full((168, 2), 20.0)
    flat[:, 1] += 6.0 * np.sin(2 * np.pi * HOURS / 24.0)
    view = city([26.0, 20.0], windows=windows(flat), alerts={"load_without_reason": [True, False]})
    lines = list(find_waste(view, FIND_WASTE.defaults))
    assert [line.key for line in lines] == ["find_waste/substation/0/unexplained", "find_waste/substation/0/rhythm"]
    assert "6.0 MW (30%) more" in lines[0].reason
    assert lines[0].objective == pytest.approx(24 * 6.0)
    assert not any(line.effects for line in lines)
    assert "draw 100% of the busiest six" in lines[1].reason


def test_overload_advice_names_the_shortest_first_and_what_could_last() -> None:
    view = city([30.0, 60.0, 52.0], state={"oil_temp_c": [60.0, 60.0, 60.0]})
    lines = list(overload_advice(view, OVERLOAD_ADVICE.defaults))
    assert [line.because for line in lines] == [("substation/1",), ("substation/2",)]
    assert "60.0 MW can last" in lines[0].reason
    assert "for ever" in lines[0].reason
    assert lines[0].objective is not None
    assert 0.0 < lines[0].objective < lines[1].objective < 4.0
    assert not list(overload_advice(city([30.0]), OVERLOAD_ADVICE.defaults))
    assert in_words(1.25) == "1 h 15 min"
    assert in_words(0.5) == "30 min"
