"""Frames and queries of a living city: from the twin actors, from the aggregator's view, and with one that hangs."""

import os
import signal

import pytest

from twin_actors.runtime import asking
from twin_actors.testing.live import devices_of, eventually, living, settled

pytestmark = pytest.mark.usefixtures("ray_session")

QUARTER = """
city: asked
placement: {entities_per_actor: 2}
tick_s: 0.2
limits: {tick_budget: 1s}
entities:
  - {kind: footfall, pattern: "gate-{n}", count: 4, tags: {side: "s{n}", zone: quay}, at: [53.5, 9.9]}
  - {kind: footfall, name: bridge}
  - {kind: venue, name: hall, attributes: {area_m2: 900, capacity_persons: 1500, exit_width_m: 6}}
"""

EXPRESSIONS = (
    "flow_pph > 900",
    "flow_pph > 900 and side == 's2'",
    "side != 's2' & ~alert_drifts_from_entity",
    "zone not in ['quay']",
    "entity == 'footfall/bridge' or lat_deg > 50",
    "width_m * 2 >= 8 and age_s < 3600",
    "flow_pph_sd.between(1, 500)",
    "side.str.startswith('s')",  # only pandas understands it
)


@pytest.fixture(scope="module")
def city(ray_session, tmp_path_factory):
    from twin_actors.scenario import load_scenario

    path = tmp_path_factory.mktemp("asked") / "asked.yaml"
    path.write_text(QUARTER)
    with living(load_scenario([path])) as city:
        before = city.ledger().received
        with devices_of(city) as devices:
            for number, gate in enumerate(("footfall/gate-1", "footfall/gate-2", "footfall/bridge"), start=1):
                for second in range(5):
                    devices.say(gate, {"flow_pph": 400 * number}, at_s=city.now_s() - 10 + second)
            devices.flush()
        settled(city, before + 15)
        yield city


def seen(city):
    """Every twin actor's news has reached the aggregator."""
    return eventually(
        lambda: city._call("aggregator", "select", asking.Question("footfall", "flow_pph > 1000")).rows.tolist() == [4],
        within_s=10,
    )


@pytest.mark.parametrize("most_asked", [0, asking.MOST_ASKED])
def test_a_query_is_its_frame_with_a_condition(city, monkeypatch, most_asked):
    seen(city)
    monkeypatch.setattr(asking, "MOST_ASKED", most_asked)
    whole = city.frame("footfall")
    assert list(whole.index) == [f"footfall/gate-{n}" for n in range(1, 5)] + ["footfall/bridge"]
    assert whole["side"].tolist()[:4] == ["s1", "s2", "s3", "s4"]
    assert whole.attrs["units"]["flow_pph"] == "persons/h"
    assert whole.attrs["late"] == []
    assert 0 <= city.now_s() - whole.attrs["as_of_s"] < 10
    for expression in EXPRESSIONS:
        expected = whole.query(expression, engine="python")
        found = city.query("footfall", expression)
        assert list(found.index) == list(expected.index), expression
        assert list(found.columns) == list(whole.columns)
        assert found["side"].tolist()[:1] == expected["side"].tolist()[:1]
    assert len(city.query("footfall", "flow_pph > 900")) == 1
    assert len(city.query("footfall", "flow_pph < -1")) == 0


def test_only_the_columns_that_are_wanted(city):
    frame = city.query("footfall", "side == 's2' and flow_pph > 1", columns=["flow_pph", "zone", "lat_deg"])
    assert list(frame.columns) == ["flow_pph", "zone", "lat_deg"]
    assert frame.to_dict("list") == {"flow_pph": [pytest.approx(800, abs=150)], "zone": ["quay"], "lat_deg": [53.5]}
    assert list(city.frame("venue", columns=["capacity_persons"]).columns) == ["capacity_persons"]
    for columns in (["flow"], ["flow_pph", "sied"]):
        with pytest.raises(KeyError, match="did you mean"):
            city.query("footfall", "flow_pph > 1", columns=columns)
    with pytest.raises(KeyError, match="did you mean 'footfall'"):
        city.query("footfal", "flow_pph > 1")
    with pytest.raises(ValueError, match=r"'flow' is not defined.*the columns of footfall are side, zone"):
        city.query("footfall", "flow > 1")


def test_a_twin_actor_that_hangs_is_left_out_and_named(city, monkeypatch):
    seen(city)
    monkeypatch.setattr(asking, "ANSWERED_WITHIN_S", 0.5)
    actors = city.actors()
    name = next(name for name, actor in actors.iterrows() if actor["kinds"] == {"footfall": 2})
    os.kill(int(actors.loc[name, "pid"]), signal.SIGSTOP)
    try:
        eventually(lambda: name in city.status()["aggregator"]["left_out"]["actors"], within_s=20)
        status = city.status()["aggregator"]
        assert status["actors_late"] == 1
        assert status["late_looks"] >= status["short_ticks"] >= 1
        older = eventually(
            lambda: (now := city.status()["aggregator"])["oldest_late_s"] > status["oldest_late_s"] + 0.5 and now,
            within_s=20,
        )
        assert older["tick"] > status["tick"]  # the others' ticks go on
        assert older["tick_look_s"] < 0.5  # and wait for it no more
        frame = city.frame("footfall")
        assert frame.attrs["late"] == [name]
        assert len(frame) == 5
        assert frame.attrs["as_of_s"] < city.now_s() - 0.5
        assert list(city.query("footfall", "flow_pph > 900 and zone != 'quay'").index) == ["footfall/bridge"]
        ticks = city.ticks(last=3)
        assert ticks["late"].map(list).tolist() == [[name]] * 3
    finally:
        os.kill(int(actors.loc[name, "pid"]), signal.SIGCONT)
    eventually(lambda: city.status()["aggregator"]["actors_late"] == 0, within_s=20)
    assert city.frame("footfall").attrs["late"] == []
