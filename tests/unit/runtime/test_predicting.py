"""A history as ``City.history`` gives it becomes a forecast; readings that cleaning refused take no part."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from twin_actors.runtime.predicting import predicted_from_history
from twin_actors.scenario import load_catalogue

START_S = 1_780_272_000.0  # midnight, UTC


def history(hours: int = 400) -> pd.DataFrame:
    at_s = START_S + 3600.0 * np.arange(1, hours + 1)
    values = 500 + 400 * np.sin(2 * np.pi * at_s / 86_400) + 10 * np.random.default_rng(0).normal(size=hours)
    quality = np.where(np.arange(hours) % 50 == 7, "out_of_range", "good")
    return pd.DataFrame(
        {"value": np.where(quality == "good", values, 1e5), "quality": quality},
        index=pd.DatetimeIndex(pd.to_datetime(at_s, unit="s", utc=True), name="observed_at"),
    )


def test_a_history_becomes_a_forecast() -> None:
    kind = load_catalogue().kinds["footfall"]
    now_s = START_S + 400 * 3600.0
    said = predicted_from_history(kind, "flow_pph", history(), now_s=now_s, horizons_s=(3600.0, 12 * 3600.0))
    truth = 500 + 400 * np.sin(2 * np.pi * np.array(said.at_s) / 86_400)
    np.testing.assert_allclose(said.values[:, 0], truth, atol=60)
    assert (said.mae[:, 0] < 40).all(), "refused readings would have made it hundreds"
    assert (said.quantiles >= 0).all()
    assert (said.mae[1] < 0.2 * said.last_mae[1]).all()


def test_a_component_is_taken_from_its_own_rows() -> None:
    kind = load_catalogue().kinds["intersection"]
    one, other = history(), history()
    one["component"], other["component"] = "queue_veh[nl]", "queue_veh[nt]"
    one["value"], other["value"] = 3.0, 40.0
    now_s = START_S + 400 * 3600.0
    said = predicted_from_history(kind, "queue_veh[nt]", pd.concat([one, other]), now_s=now_s, horizons_s=(3600.0,))
    assert said.values[0, 0] == pytest.approx(40.0)


def test_a_short_history_says_what_is_missing() -> None:
    kind = load_catalogue().kinds["footfall"]
    with pytest.raises(ValueError, match="needs at least 84 periods of 1 h of history, there are 20"):
        predicted_from_history(
            kind, "flow_pph", history(20), now_s=START_S + 20 * 3600.0, horizons_s=(86_400.0,), period_s=3600.0
        )
