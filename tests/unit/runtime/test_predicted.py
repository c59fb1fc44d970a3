"""What a twin will be: from history where that suffices, by the model where it does not, and always with the reason."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.unit.runtime.cities import T0, delivery, holder, says, send, town
from tests.unit.runtime.pasts import KINDS, filled, readings, rhythm
from twin_actors.runtime.card import TwinCard
from twin_actors.runtime.past import Readings
from twin_actors.runtime.predicted import (
    HORIZONS_S,
    LOOK_S,
    MOST_MESSAGES,
    REACH_S,
    PredictedTwin,
    by_model_alone,
    forecastable,
    from_history,
    moments,
    predicted_twin,
    since_s,
)
from twin_actors.scenario.model import Entity

QUAY = 3


def predicted(entity: str, said: Readings, now_s: float, place: int = QUAY) -> PredictedTwin:
    twins, kind = holder(), KINDS[entity.split("/")[0]]
    layout = kind.reading.layout
    for number, (at_s, values) in enumerate(zip(said.observed_at_s[-3:], said.values.T[-3:], strict=True)):
        told = {name: values[place].tolist() if layout.fields[name].shape else values[place.start]
                for name, place in layout.places.items() if np.isfinite(values[place]).all()}  # fmt: skip
        send(twins, delivery(number, place, says(at_s, **told)), after=number - 1)
    histories = from_history(kind, said, now_s=now_s)
    until_s = moments(histories, now_s)
    return predicted_twin(kind, entity, histories, twins.ahead(entity, until_s), now_s=now_s, until_s=until_s)


def test_long_history_gives_quantiles_with_the_error_beside_that_of_the_last_value() -> None:
    at_s, load_mw = rhythm(12)
    said = predicted("substation/quay", readings("substation", at_s, load_mw=load_mw), at_s[-1])
    rows = said["load_mw"]
    assert [row.horizon_s for row in rows] == [1200.0, *HORIZONS_S[1:]], "in whole periods of 10 min"
    for row in rows:
        truth = 20 + 8 * math.sin(2 * math.pi * row.at_s / 86_400)
        assert row.q05 - 0.5 < truth < row.q95 + 0.5
        assert row.q05 <= row.q50 <= row.q95
        assert row.method not in ("", "model")
        assert row.why == ""
        assert 0.8 <= row.coverage_90 <= 1.0
    assert rows[2].mae < 0.3 * rows[2].last_mae, "six hours ahead the rhythm knows more than the last value"
    assert "(last value: " in repr(said)


def test_short_history_is_left_to_the_model_in_words() -> None:
    at_s, load_mw = rhythm(0.3, gap_s=60.0)
    said = predicted("substation/quay", readings("substation", at_s, load_mw=load_mw), at_s[-1])
    quarter, hour, shift, day = said["load_mw"]
    assert quarter.method != "model"
    assert hour.method != "model"
    assert (shift.method, day.method) == ("model", "model")
    assert shift.why == "a history of 7.18 h is too short, it takes 18.2 h"
    assert math.isnan(shift.mae)
    assert shift.q05 < shift.q50 < shift.q95
    assert day.q95 - day.q05 >= shift.q95 - shift.q05, "the model knows less of a later time"
    assert "by the model: a history of 7.18 h is too short" in repr(said)


def test_no_history_at_all_is_the_model_everywhere() -> None:
    at_s = np.zeros(0)
    said = predicted("substation/quay", readings("substation", at_s), T0)
    assert {row.method for row in said} == {"model"}
    assert {row.why for row in said["load_mw"]} == {"it has said nothing so far"}
    assert {row.why for row in said["demand_mw"]} == {"no reading says it by itself"}
    limits = KINDS["substation"].reading.layout.fields["load_mw"]
    assert all(limits.minimum <= row.q05 <= row.q95 <= limits.maximum for row in said["load_mw"])
    with pytest.raises(KeyError, match="nothing of substation/quay called 'pm25_ugm3'"):
        said["pm25_ugm3"]


def test_running_totals_are_left_to_the_states_that_they_count() -> None:
    venue = KINDS["venue"]
    assert forecastable(venue) == ()
    said = predicted("venue/arena", readings("venue", np.zeros(0)), T0, place=4)
    headline = {"occupancy_persons", "fill", "net_flow_pmin", "egress_s"}
    assert {row.field.partition("[")[0] for row in said} == {*by_model_alone(venue), *headline}
    assert len(said["occupancy_persons"]) == len(HORIZONS_S)
    assert {row.why for row in said["occupancy_persons"]} == {"an indicator, from the state"}


def test_components_that_never_spoke_are_told_from_those_that_did() -> None:
    at_s, base = rhythm(3, gap_s=300.0)
    kind = KINDS["intersection"]
    values = np.full((8, len(at_s)), np.nan)
    values[0], values[3] = base, 2 * base
    said = readings("intersection", at_s, queue_veh=values)
    history = from_history(kind, said, now_s=at_s[-1])["queue_veh"]
    spoke = {label for label, _ in history.found}
    assert spoke == {kind.reading.layout.labels[row] for row in (0, 3)}
    assert {why for (label, _), why in history.left.items() if label not in spoke} == {"it has said nothing so far"}


def test_the_past_that_is_read_is_bounded() -> None:
    assert since_s(lambda _: 0, 1e9) == 1e9 - REACH_S
    every_second = since_s(lambda since: int(1e9 - since), 1e9)
    assert 1e9 - every_second == pytest.approx(MOST_MESSAGES)
    assert 1e9 - since_s(lambda since: int((1e9 - since) / 3600), 1e9) == REACH_S
    assert LOOK_S < REACH_S


def test_a_card_shows_it_once_it_has_been_asked_for() -> None:
    twins, asked = holder(), []
    at_s, load_mw = rhythm(0.3, gap_s=60.0)
    found = predicted("substation/quay", readings("substation", at_s, load_mw=load_mw), at_s[-1])

    def predict() -> PredictedTwin:
        asked.append(1)
        return found

    kind = KINDS["substation"]
    shown = twins.show(T0, with_control=False)["substation"]
    described = next(each for each in town().entities if each.id == "substation/quay")
    card = TwinCard(kind, described, shown, 0, twins.reported("substation/quay"), predict)
    assert "predicted" not in card.to_dict()
    assert "predicted" not in repr(card)
    assert "predicted" not in card._repr_html_()
    assert asked == [], "a card is cheap to get"
    assert card.predicted is card.predicted is found
    assert asked == [1]
    assert "  predicted\n    load_mw" in repr(card)
    assert "<i>predicted</i><table>" in card._repr_html_()
    rows = json.loads(json.dumps(card.to_dict(), allow_nan=False))["predicted"]
    assert rows[0]["field"] == "load_mw"
    assert rows[-1]["mae"] is None
    assert len(card.predicted.frame) == len(rows) == len(card.predicted)
    past = TwinCard(kind, described, shown, 0, twins.reported("substation/quay"))
    with pytest.raises(ValueError, match="shows substation/quay as it was"):
        _ = past.predicted


def test_the_model_wins_where_it_knows_the_dynamics_with_an_error_of_its_own() -> None:
    said, tank = filled(3), Entity(id="tank/a", kind="tank", name="a")
    now_s = said.observed_at_s[-1]
    found = from_history(KINDS["tank"], said, now_s=now_s, horizons_s=(3600.0,), entity=tank)["level_m"].found
    without = from_history(KINDS["tank"], said, now_s=now_s, horizons_s=(3600.0,))["level_m"].found
    (level, order, n), (other, *_) = found["level_m", 3600.0], without["level_m", 3600.0]
    assert level.methods == ("model",)
    assert level.mae[order, n] < 0.75 * other.mae[order, n]
    assert level.mae[order, n] < 0.3 * level.last_mae[order, n]
    assert level.mae[order, n] == pytest.approx(level.mae_by_method["model"][order], rel=0.1)
    assert 0.8 <= level.coverage[order] <= 0.98
    assert (np.diff(level.quantiles[:, order, n]) >= 0).all()


def test_the_model_is_not_chosen_where_it_knows_no_rhythm() -> None:
    at_s, draw = rhythm(6, gap_s=1800.0)
    level = np.full(len(at_s), 30.0)
    said = readings("tank", at_s, level_m=level, demand_m3s=draw / 200)
    tank = Entity(id="tank/a", kind="tank", name="a")
    found = from_history(KINDS["tank"], said, now_s=at_s[-1], horizons_s=(21_600.0,), entity=tank)["demand_m3s"].found
    draws, order, n = found["demand_m3s", 21_600.0]
    assert draws.mae_by_method["model"][order] > 3 * draws.mae[order, n], "it holds the draw as it is"
    assert draws.methods[order] != "model"
