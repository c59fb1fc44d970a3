"""What a device has said becomes a forecast; readings that cleaning refused take no part, the kind's model does."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.runtime.pasts import KINDS, filled
from twin_actors.core.cleaning import Quality
from twin_actors.runtime.past import Readings
from twin_actors.runtime.predicting import predicted_from_readings
from twin_actors.scenario.model import Entity

START_S = 1_780_272_000.0  # midnight, UTC


def said(hours: int = 400, kind: str = "footfall", label: str = "flow_pph", value: float | None = None) -> Readings:
    at_s = START_S + 3600.0 * np.arange(1, hours + 1)
    layout = KINDS[kind].reading.layout
    values, quality = np.full((layout.rows, hours), np.nan), np.zeros((layout.rows, hours), np.uint8)
    row = layout.labels.index(label)
    quality[row] = np.where(np.arange(hours) % 50 == 7, Quality.OUT_OF_RANGE, Quality.GOOD)
    usual = 500 + 400 * np.sin(2 * np.pi * at_s / 86_400) + 10 * np.random.default_rng(0).normal(size=hours)
    values[row] = np.where(quality[row] == Quality.GOOD, usual if value is None else value, 1e5)
    return Readings(at_s, at_s, values, quality)


def test_a_history_becomes_a_forecast() -> None:
    now_s = START_S + 400 * 3600.0
    found = predicted_from_readings(
        KINDS["footfall"], "flow_pph", said(), now_s=now_s, horizons_s=(3600.0, 12 * 3600.0)
    )
    truth = 500 + 400 * np.sin(2 * np.pi * np.array(found.at_s) / 86_400)
    np.testing.assert_allclose(found.values[:, 0], truth, atol=60)
    assert (found.mae[:, 0] < 40).all(), "refused readings would have made it hundreds"
    assert (found.quantiles >= 0).all()
    assert (found.mae[1] < 0.2 * found.last_mae[1]).all()


def test_a_component_is_taken_from_its_own_row() -> None:
    one = said(kind="intersection", label="queue_veh[nl]", value=3.0)
    both = said(kind="intersection", label="queue_veh[nt]", value=40.0)
    row = KINDS["intersection"].reading.layout.labels.index("queue_veh[nl]")
    both.values[row], both.quality[row] = one.values[row], one.quality[row]
    now_s = START_S + 400 * 3600.0
    found = predicted_from_readings(KINDS["intersection"], "queue_veh[nt]", both, now_s=now_s, horizons_s=(3600.0,))
    assert found.values[0, 0] == pytest.approx(40.0)


def test_the_twins_own_model_competes_where_the_entity_is_told() -> None:
    past, tank = filled(3), Entity(id="tank/a", kind="tank", name="a")
    now_s = float(past.observed_at_s[-1])
    without = predicted_from_readings(KINDS["tank"], "level_m", past, now_s=now_s, horizons_s=(3600.0,))
    assert "model" not in without.mae_by_method
    found = predicted_from_readings(KINDS["tank"], "level_m", past, now_s=now_s, horizons_s=(3600.0,), entity=tank)
    assert found.methods == ("model",)
    assert found.mae[0, 0] < 0.75 * without.mae[0, 0]


def test_a_short_history_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="needs at least 84 periods of 1 h of history, there are 20"):
        predicted_from_readings(
            KINDS["footfall"], "flow_pph", said(20), now_s=START_S + 20 * 3600.0, horizons_s=(86_400.0,),
            period_s=3600.0,
        )  # fmt: skip
    with pytest.raises(KeyError, match="footfall has no reading row 'flow': flow_pph"):
        predicted_from_readings(KINDS["footfall"], "flow", said(20), now_s=START_S, horizons_s=(3600.0,))
