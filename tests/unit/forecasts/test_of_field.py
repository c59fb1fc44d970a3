"""A declared field forecast from its readings as they came."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.core.toy import TANK
from twin_actors.core.forecasts import SeasonalNaive, predicted_field
from twin_actors.core.forecasts.of_field import period_of


def readings(days: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two tanks that breathe by day, read about every ten minutes, a tenth of the readings lost."""
    chance = np.random.default_rng(0)
    rows = days * 144
    at_s = np.repeat(600.0 * np.arange(1, rows + 1), 2) - chance.uniform(0, 60, 2 * rows)
    entity = np.tile([0, 1], rows)
    values = 5 + (3 + entity) * np.sin(2 * np.pi * at_s / 86_400) + 0.1 * chance.normal(size=2 * rows)
    kept = chance.random(2 * rows) > 0.1
    order = chance.permutation(int(kept.sum()))
    return at_s[kept][order], entity[kept][order], values[kept][order]


def test_readings_at_any_times_become_a_forecast_within_the_declared_limits() -> None:
    at_s, entity, values = readings()
    assert period_of(at_s, entity, 3600.0) == 900.0, "lost readings and trembling times ask for a wider grid"
    now_s = 12 * 86_400.0
    said = predicted_field(
        TANK, "level_m", at_s=at_s, entity=entity, values=values, entities=2, now_s=now_s, period_s=1800.0,
        horizons_s=(3600.0, 6.1 * 3600.0), more_methods=[SeasonalNaive(48, "hour-yesterday")],
    )  # fmt: skip
    assert said.horizons_s == (3600.0, 6.5 * 3600.0)
    truth = 5 + np.array([3, 4]) * np.sin(2 * np.pi * (np.array(said.horizons_s)[:, None] - 900) / 86_400)
    np.testing.assert_allclose(said.values, truth, atol=0.6)
    assert (said.quantiles <= 10).all()
    assert (said.quantiles >= 0).all()
    assert "same-hour-yesterday" in said.mae_by_method
    assert (said.mae[1] < 0.2 * said.last_mae[1]).all()


def test_what_comes_later_is_not_seen() -> None:
    at_s, entity, values = readings(6)
    now_s = 4 * 86_400.0
    early = at_s <= now_s
    both = [
        predicted_field(
            TANK, "level_m", at_s=a, entity=e, values=v, entities=2, now_s=now_s, horizons_s=(3600.0,), period_s=3600.0
        ).values
        for a, e, v in ((at_s, entity, values), (at_s[early], entity[early], values[early]))
    ]
    np.testing.assert_array_equal(both[0], both[1])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"label": "depth_m"}, KeyError, "no row 'depth_m'; it has level_m"),
        ({"now_s": 0.0}, ValueError, "no history before now"),
        ({"horizons_s": ()}, ValueError, "at least one horizon"),
        ({"horizons_s": (10 * 86_400.0,)}, ValueError, "needs at least"),
    ],
)
def test_questions_that_cannot_be_answered(change: dict, error: type[Exception], words: str) -> None:
    at_s, entity, values = readings(6)
    asked = {
        "label": "level_m", "at_s": at_s, "entity": entity, "values": values, "entities": 2, "now_s": 6 * 86_400.0,
        "horizons_s": (3600.0,), **change,
    }  # fmt: skip
    with pytest.raises(error, match=words):
        predicted_field(TANK, asked.pop("label"), **asked)
