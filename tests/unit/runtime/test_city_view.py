"""The merged view: the same from one actor or many, as recorded, with the scenario's relations as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.runtime.cities import T0
from tests.unit.runtime.looking import QUARTER, Town
from twin_actors.core.columns import Columns
from twin_actors.runtime.answering import Question

NOW_S = T0 + 400.0


def lively(text: str) -> Town:
    """Readings for some of the twins: warm and cold transformers, an emptying arena, one counter of three."""
    town = Town(text)
    for number in range(5):
        at_s = T0 + 60.0 * number
        town.hear("substation/quay", at_s, load_mw=45.0 + number, oil_temp_c=118.0, ambient_temp_c=30.0)
        town.hear("substation/docks", at_s + 1, load_mw=12.0, oil_temp_c=40.0)
        town.hear("venue/arena", at_s, in_persons=100, out_persons=2000 + 300 * number)
        town.hear("footfall/gate-2", at_s, flow_pph=800.0 + number)
        town.hear("intersection/quay-2", at_s, queue_veh=[3, 4, 0, 9, 2, 2, 1, 0])
    return town


def same(one: Any, other: Any, name: str) -> None:
    if isinstance(one, Columns):
        for field in one.layout.fields:
            same(getattr(one, field), getattr(other, field), f"{name}.{field}")
    elif hasattr(one, "amount"):
        for field in ("amount", "urgency", "duration_s"):
            same(getattr(one, field), getattr(other, field), f"{name}.{field}")
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key in one:
            same(one[key], other[key], f"{name}.{key}")
    elif isinstance(one, np.ndarray):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9, err_msg=name)
    else:
        assert one == other, name


PARTS = (
    "ids", "attributes", "state", "sd", "command", "desired", "couplings", "proposed", "indicators", "alerts", "needs",
    "age_s", "revision", "tags", "lat_deg", "lon_deg",
)  # fmt: skip


@pytest.mark.parametrize(
    "placement",
    ["{entities_per_actor: 1}", "{entities_per_actor: 2}", "{entities_per_actor: 3, kinds: {substation: 1}}"],
)
def test_many_actors_look_like_one(placement: str) -> None:
    one = lively(QUARTER + "placement: {entities_per_actor: 100}\n")
    many = lively(QUARTER + f"placement: {placement}\n")
    assert len(one.plans) == 1 < len(many.plans)
    expected, seen = one.look(NOW_S), many.look(NOW_S)
    assert seen.kinds.keys() == expected.kinds.keys() == {"footfall", "substation", "venue", "intersection"}
    for name, kind in seen.kinds.items():
        for part in PARTS:
            same(getattr(kind, part), getattr(expected.kinds[name], part), f"{name}.{part}")
    same(many.view.summary(), one.view.summary(), "summary")
    for name in seen.kinds:
        same(dict(many.view.select(Question(name)).columns), dict(one.view.select(Question(name)).columns), name)


def test_what_the_view_says_is_what_was_read() -> None:
    view = lively(QUARTER).look(NOW_S)
    substations = view.kinds["substation"]
    assert substations.ids == ("substation/quay", "substation/docks")
    assert substations.tags[0] == {"district": "quay"}
    assert substations.lat_deg.tolist() == [53.544, 53.538]
    assert substations.attributes.rated_mva.tolist() == [40.0, 31.5]
    assert substations.alerts["hot_transformer"].tolist() == [True, False]
    assert substations.needs["crew"].amount.tolist() == [1.0, 0.0]
    assert substations.age_s.tolist() == [160.0, 159.0]
    footfall = view.kinds["footfall"]
    assert np.isinf(footfall.age_s).tolist() == [True, False, True]
    assert np.isnan(footfall.lat_deg).all()
    assert footfall.proposed is None
    assert view.kinds["venue"].proposed is not None


def test_a_cut_stays_what_was_recorded() -> None:
    town = lively(QUARTER)
    before = town.look(NOW_S)
    substations = before.kinds["substation"]
    recorded = {part: getattr(substations, part) for part in ("indicators", "alerts", "needs")}
    kept = {
        "load": substations.indicators["load_mw"].copy(),
        "hot": substations.alerts["hot_transformer"].copy(),
        "crew": substations.needs["crew"].amount.copy(),
        "state": substations.state.oil_temp_c.copy(),
        "revision": substations.revision.copy(),
    }
    for number in range(30):
        town.hear("substation/quay", NOW_S + 60.0 * number, load_mw=5.0, oil_temp_c=30.0, ambient_temp_c=10.0)
    after = town.look(NOW_S + 1800.0).kinds["substation"]
    assert after.needs["crew"].amount.tolist() == [0.0, 0.0]
    assert recorded["indicators"]["load_mw"].tolist() == kept["load"].tolist()
    assert recorded["alerts"]["hot_transformer"].tolist() == kept["hot"].tolist() == [True, False]
    assert recorded["needs"]["crew"].amount.tolist() == kept["crew"].tolist() == [1.0, 0.0]
    assert substations.state.oil_temp_c.tolist() == kept["state"].tolist()
    assert substations.revision.tolist() == kept["revision"].tolist()


def test_a_kind_takes_part_once_all_its_twins_were_seen() -> None:
    town = lively(QUARTER + "placement: {entities_per_actor: 1}\n")
    assert town.view.at(NOW_S).kinds == {}
    town.take("twin:substation/quay", NOW_S)
    assert town.view.at(NOW_S).kinds == {}
    town.take("twin:substation/docks", NOW_S)
    assert list(town.view.at(NOW_S).kinds) == ["substation"]


def test_an_actor_that_does_not_answer_grows_old() -> None:
    town = lively(QUARTER + "placement: {entities_per_actor: 1}\n")
    town.look(NOW_S)
    town.take("twin:substation/docks", NOW_S + 100.0)
    assert town.view.at(NOW_S + 100.0).kinds["substation"].age_s.tolist() == [260.0, 259.0]
    assert town.view.at(NOW_S - 5.0).kinds["substation"].age_s.tolist() == [160.0, 259.0]  # never younger than seen


def test_relations_are_links_between_rows() -> None:
    view = Town().look(NOW_S)
    links = view.links("empties_to", "venue", "intersection")
    assert links.source.tolist() == [0, 0]
    assert links.target.tolist() == [0, 1]
    assert links.share.tolist() == [0.3, 0.3]
    assert links.delay_s.tolist() == [240.0, 240.0]
    assert len(view.links("empties_to", "venue", "road").source) == 0


def test_the_summary_counts_twins_alerts_and_silence() -> None:
    town = lively(QUARTER)
    fresh = town.view.summary()["kinds"]["footfall"]
    assert (fresh["twins"], fresh["silent"], fresh["oldest_look_s"]) == (3, 3, None)
    town.look(NOW_S)
    kinds = town.view.summary()["kinds"]
    assert (kinds["footfall"]["stale"], kinds["footfall"]["silent"]) == (2, 2)
    assert kinds["substation"]["alerts"] >= 1
    assert kinds["venue"]["oldest_look_s"] == NOW_S


def test_answers_are_copies() -> None:
    town = lively(QUARTER)
    town.look(NOW_S)
    answer = town.view.select(Question("substation"))
    answer.columns["oil_temp_c"][:] = -1.0
    assert (town.view.select(Question("substation")).columns["oil_temp_c"] != -1.0).all()
    with pytest.raises(KeyError):
        town.view.select(Question("road"))
