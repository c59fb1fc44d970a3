"""What a living city's twins will be, and parameters fitted to its own history that its running twins go by."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.runtime.pasts import KINDS, filled
from twin_actors.testing.live import devices_of, eventually, living, settled

pytestmark = pytest.mark.usefixtures("ray_session")

CITY = """
city: foresees
placement: {entities_per_actor: 10}
tick_s: 0.2
entities:
  - {kind: footfall, pattern: "gate-{n}", count: 2}
  - {kind: substation, name: quay, attributes: {rated_mva: 40, block_mw: [4, 4, 5, 6, 6]}}
"""
MINUTES = 900
STILL_PPH = 800 + 300 * math.sin((MINUTES - 1) / 60)
"""Where the flow of the first gate ends, and stays."""
NOISE_PPH = 2.0
"""Far quieter than the kind's declared noise: calibration has something to find."""


@pytest.fixture(scope="module")
def city(ray_session, tmp_path_factory):
    from twin_actors.scenario import load_scenario

    path = tmp_path_factory.mktemp("foresees") / "foresees.yaml"
    path.write_text(CITY)
    chance = np.random.default_rng(3)
    with living(load_scenario([path])) as city, devices_of(city) as devices:
        now_s = city.now_s()
        for minute in range(MINUTES):
            value = 800 + 300 * math.sin(minute / 60) + NOISE_PPH * chance.normal()
            devices.say("footfall/gate-1", {"flow_pph": value}, at_s=now_s - 60 * (MINUTES - 1 - minute))
        devices.flush()
        settled(city, MINUTES)
        yield city


def test_a_card_predicts_from_history_and_from_the_model_where_that_is_short(city):
    card = city["footfall/gate-1"]
    assert "predicted" not in card.to_dict()
    quarter, hour, shift, day = card.predicted["flow_pph"]
    for row in (quarter, hour):
        assert row.method not in ("", "model")
        assert row.mae < row.last_mae
        assert row.q05 <= row.q50 <= row.q95
    assert (shift.method, day.method) == ("model", "model")
    assert shift.why.startswith("a history of 15 h is too short")
    assert "predicted" in card.to_dict()
    assert "too short" in repr(card)


def test_a_twin_without_any_history_is_predicted_by_its_model(city):
    said = city["substation/quay"].predicted
    assert {row.method for row in said} == {"model"}
    assert {row.why for row in said["load_mw"]} == {"it has said nothing so far"}
    assert {"load_mw", "oil_temp_c", "hot_spot_temp_c"} <= {row.field for row in said}
    assert list(said.frame.loc["oil_temp_c"].index) == [900.0, 3600.0, 21_600.0, 86_400.0]
    with pytest.raises(KeyError, match="did you mean 'footfall/gate-1"):
        city.predicted("footfall/gate-11")
    with pytest.raises(ValueError, match="as it was"):
        _ = city.at(city.now_s())["substation/quay"].predicted


def test_the_command_line_shows_what_is_predicted(city):
    from twin_actors.cli.app import app

    run = CliRunner()
    said = run.invoke(app, ["show", city.name, "footfall/gate-1", "--predicted", "--json"])
    assert said.exit_code == 0, said.output
    rows = json.loads(said.stdout)["predicted"]
    assert {row["horizon_s"] for row in rows if row["field"] == "flow_pph"} == {900, 3600, 21_600, 86_400}
    plain = run.invoke(app, ["show", city.name, "footfall/gate-1", "--json"])
    assert "predicted" not in json.loads(plain.stdout)
    wide = {"COLUMNS": "200"}  # so that no reason is broken into lines
    words = run.invoke(app, ["show", city.name, "footfall/gate-1", "--predicted"], env=wide)
    assert "predicted" in words.output
    assert "is too short" in words.output


def test_how_true_the_twins_are_is_told_of_twins_kinds_and_the_city(city):
    twins = city.fidelity("footfall")
    assert list(twins.index) == ["footfall/gate-1", "footfall/gate-2"], "one without a comparison comes last"
    assert twins.loc["footfall/gate-1", "flow_pph_rmse"] == city["footfall/gate-1"].innovation_rmse.flow_pph
    assert 0.9 < twins.loc["footfall/gate-1", "coverage_90"] <= 1.0
    assert not twins["alert_drifts_from_entity"].any()
    assert math.isnan(twins.loc["footfall/gate-2", "coverage_90"])
    assert twins.attrs["units"]["flow_pph_rmse"] == "persons/h"
    frame = city.frame("footfall")
    assert "coverage_90" in frame
    assert "flow_pph_rmse" not in frame
    assert list(city.query("footfall", "flow_pph_rmse > 0.1 and coverage_90 > 0.9").index) == ["footfall/gate-1"]
    eventually(lambda: city.fidelity().loc["footfall", "compared"] == 1)
    kinds = city.fidelity()
    assert list(kinds.index) == ["footfall", "substation", "(city)"]
    assert kinds.loc["(city)", ["twins", "compared", "drifting"]].tolist() == [3, 1, 0]
    assert kinds.loc["(city)", "coverage_90"] == kinds.loc["footfall", "coverage_90"]
    assert kinds.loc["footfall", "innovation_rmse"]["flow_pph"] == pytest.approx(
        twins.loc["footfall/gate-1", "flow_pph_rmse"]
    )
    metrics = {(each.metric.name, *each.values): each.value for each in city.metrics()}
    found = metrics["twin_actors_kind_innovation_rmse", city.name, "footfall", "flow_pph"]
    assert found == kinds.loc["footfall", "innovation_rmse"]["flow_pph"]
    with pytest.raises(KeyError, match="did you mean 'footfall'"):
        city.fidelity("footfal")


def spread(city, entity="footfall/gate-1"):
    """By how much a running twin expects the reading after the next one to differ: its own and its sensor's noise."""
    received = city.ledger().received
    with devices_of(city) as devices:
        devices.say(entity, {"flow_pph": STILL_PPH})
        devices.flush()
    settled(city, received + 1)
    at_s = city[entity].reported_at_s.flow_pph
    outlook = city._call(city._actor_of[city._number[entity]], "ahead", entity, [at_s + 60])
    return float(outlook.spread[0, 0])


def described(city, entity="footfall/gate-1"):
    return next(each for each in city.scenario.entities if each.id == entity)


def test_a_calibration_is_applied_to_the_running_twins_and_an_older_version_taken_again(city):
    declared, silent = spread(city), spread(city, "footfall/gate-2")
    evidence = city.calibrate("footfall", last="12h", apply=True)
    assert evidence.loc["footfall/gate-1", "better"]
    assert not evidence.loc["footfall/gate-2", "better"], "it has said next to nothing"
    fitted = described(city)
    assert fitted.sd["flow_pph"] < 30
    assert not described(city, "footfall/gate-2").sd
    quiet = spread(city)
    assert quiet < 0.3 * declared
    assert spread(city, "footfall/gate-2") == pytest.approx(silent, rel=0.1)

    received = city.ledger().received
    with devices_of(city) as devices:  # the sensor becomes a noisy one
        chance, now_s = np.random.default_rng(4), city.now_s()
        for second in range(200):
            devices.say("footfall/gate-1", {"flow_pph": STILL_PPH + 90 * chance.normal()}, at_s=now_s + 0.01 * second)
        devices.flush()
        settled(city, received + 200)
    city.calibrate("footfall", last=city.now_s() - now_s + 0.001, apply=True)
    assert len(city._store.keys("parameters/footfall/gate-1/")) == 2
    assert spread(city) > 3 * quiet

    city.use_parameters("footfall/gate-1", 1)
    assert (described(city).sd, described(city).drift) == (fitted.sd, fitted.drift)
    assert spread(city) < 0.5 * declared
    city.use_parameters("footfall/gate-1")
    assert spread(city) > 3 * quiet
    with pytest.raises(KeyError, match="no version 7"):
        city.use_parameters("footfall/gate-1", 7)
    with pytest.raises(KeyError, match="did you mean 'footfall/gate-1"):
        city.use_parameters("footfall/gate-11", 1)
    ledger = eventually(lambda: city.ledger() if city.ledger().in_flight == 0 else None)
    assert ledger.balanced
    assert ledger.received == MINUTES + 200 + 7
    by_entity = city.ledger(by="entity")
    assert all(each.balanced for each in by_entity.values())
    assert by_entity["footfall/gate-1"].applied == MINUTES + 200 + 5


def test_the_twins_own_model_is_chosen_where_it_knows_best(city):
    city.add("tank/hill")
    past, labels = filled(3, until_s=city.now_s()), KINDS["tank"].reading.layout.labels
    level, draw = (past.values[labels.index(name)].tolist() for name in ("level_m", "demand_m3s"))
    received = city.ledger().received
    with devices_of(city) as devices:
        for at_s, level_m, demand_m3s in zip(past.observed_at_s.tolist(), level, draw, strict=True):
            devices.say("tank/hill", {"level_m": level_m, "demand_m3s": demand_m3s}, at_s=at_s)
        devices.flush()
        settled(city, received + len(level))
    found = city.forecast("tank/hill", "level_m", "1h", last="4d")
    assert found.methods == ("model",), found.mae_by_method
    assert found.mae[0, 0] < 0.3 * found.last_mae[0, 0]
    hour = city["tank/hill"].predicted["level_m"][1]
    assert (hour.horizon_s, hour.method, hour.why) == (3600.0, "model", "")
    assert hour.mae < 0.3 * hour.last_mae
    assert hour.q05 < hour.q50 < hour.q95
    with pytest.raises(KeyError, match=r"sends no 'level' .*did you mean 'level_m'"):
        city.forecast("tank/hill", "level")
