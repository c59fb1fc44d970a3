"""The kind's own model takes part in the choice: twins filtered up to each origin, then rolled out."""

from __future__ import annotations

import numpy as np
import pytest

from twin_actors.core.columns import Attributes, Column, Reading, State, attribute, reading, state
from twin_actors.core.forecasts import RepeatLast, RollOut, Series, evaluate
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind


class PotAttributes(Attributes):
    tau_h: Column = attribute("h", default=5.0, minimum=0.1)


class PotReading(Reading):
    temp_c: Column = reading("degC", sd=0.2)


class PotState(State):
    temp_c: Column = state("degC", default=20, unsure_sd=50, drift=0.5)


def cool(state: PotState, attributes: PotAttributes, command: object, couplings: object, step: object) -> PotState:
    """Newton's cooling towards 20 degC."""
    return state.replace(temp_c=20 + (state.temp_c - 20) * np.exp(-step.dt_s / 3600 / attributes.tau_h))


POT = Kind(
    name="pot", doc="A pot that cools.", attributes=PotAttributes, reading=PotReading, state=PotState, predict=cool,
    indicators=lambda *records: {}, shows=(),
)  # fmt: skip


def cooling(rows: int) -> np.ndarray:
    """Heated to 90 degC every twelve hours."""
    return (20 + 70 * np.exp(-(np.arange(rows) % 12) / 5.0))[:, None]


def test_the_model_beats_the_last_value_and_is_chosen() -> None:
    values = cooling(120)
    series = Series(values=values, period_s=3600.0, until_s=120 * 3600.0)
    history = Batch(
        rows=np.zeros(120, np.intp), observed_at_s=3600.0 * np.arange(1, 121), values=values.T, keys=np.arange(120)
    )
    model = RollOut(kind=POT, ids=("pot/a",), attributes=np.array([[5.0]]), history=history, fields=("temp_c",))
    judged = evaluate(series, (1, 3), methods=[RepeatLast(), model], first=30, choose_until=80, refit_every=200)
    assert judged.choice.chosen == ("model", "model")
    assert (judged.errors().mae < 0.6 * judged.last_errors().mae).all()
    made = model.fit(series, (2,)).at(series, np.array([50]))
    assert made[0, 0, 0] == pytest.approx(20 + (values[50, 0] - 20) * np.exp(-2 / 5.0), abs=0.1)


def test_a_field_that_the_model_lacks_is_refused() -> None:
    empty = Batch(rows=np.zeros(0, np.intp), observed_at_s=np.zeros(0), values=np.zeros((1, 0)))
    model = RollOut(kind=POT, ids=("pot/a",), attributes=np.array([[5.0]]), history=empty, fields=("steam",))
    with pytest.raises(ValueError, match="no reading, state or indicator 'steam'"):
        model.fit(Series(values=np.zeros((4, 1)), period_s=3600.0), (1,))
