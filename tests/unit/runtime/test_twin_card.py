"""The card of one twin: what was reported, what is estimated and how far to trust it, in words and as plain values."""

from __future__ import annotations

import json
import math

import pytest

from tests.unit.runtime.cities import T0, delivery, holder, says, send, tells, town
from twin_actors.core.inputs import Channel
from twin_actors.runtime.card import TwinCard
from twin_actors.runtime.holder import Holder
from twin_actors.scenario.catalogue import load_catalogue

QUAY, ARENA = 3, 4


def card(of: Holder, entity: str, now_s: float) -> TwinCard:
    kind = load_catalogue().kinds[entity.split("/")[0]]
    shown = of.show(now_s, with_control=True)[kind.name]
    table = next(group.table for group in of.groups if group.table.kind is kind)
    described = next(each for each in town().entities if each.id == entity)
    return TwinCard(kind, described, shown, table.ids.index(entity), of.reported(entity))


def quay() -> Holder:
    """A hot substation that was told to shed two blocks and has shed one."""
    twins = holder()
    send(
        twins,
        delivery(0, QUAY, says(T0, load_mw=40.0, oil_temp_c=118.0, boot="x", seq=1)),
        delivery(1, QUAY, says(T0 + 10, load_mw=41.0, oil_temp_c=118.5, boot="x", seq=4)),
        delivery(2, QUAY, says(T0 + 10, load_mw=41.0, oil_temp_c=118.5, boot="x", seq=4)),
        delivery(3, QUAY, says(T0 + 20, load_mw=-7.0)),
        delivery(4, QUAY, tells(T0 + 20, block_shed=[1, 1, 0, 0, 0]), channel=Channel.DESIRED),
        delivery(5, QUAY, tells(T0 + 20, block_shed=[1, 0, 0, 0, 0]), channel=Channel.COMMAND),
    )
    return twins


def test_fields_are_attributes() -> None:
    twin = card(quay(), "substation/quay", T0 + 30)
    assert twin.id == "substation/quay"
    assert twin.age_s == 20.0
    assert twin.reported.load_mw == 41.0
    assert twin.reported_at_s.oil_temp_c == T0 + 10
    assert twin.oil_temp_c == twin.estimated.oil_temp_c == pytest.approx(118.5, abs=1.0)
    assert 0 < twin.sd.oil_temp_c < 1.0
    assert twin.block_shed.tolist() == [1, 0, 0, 0, 0]
    assert twin.voltage_pu == 1.0
    assert twin.hot_spot_margin_k == twin.indicators["hot_spot_margin_k"] < 0
    assert "hot_transformer" in twin.alerts
    assert twin.fates == {"applied": 2, "duplicate": 1, "late": 0, "rejected": 1}
    assert twin.missing_upstream == 2
    assert {"oil_temp_c", "block_shed", "ageing_rate"} <= set(dir(twin))
    with pytest.raises(AttributeError, match="substation/quay has no field 'queue_veh'"):
        _ = twin.queue_veh


def test_what_was_surprising_is_told_in_words() -> None:
    twin = card(quay(), "substation/quay", T0 + 30)
    assert twin.reasons == {"load_mw": "load_mw said -7 MW, which is outside its range"}
    assert twin.score.load_mw == 1
    assert "surprising: load_mw said -7 MW" in repr(twin)
    assert twin.to_dict()["reasons"] == twin.reasons


def test_every_state_says_where_it_comes_from() -> None:
    twins = quay()
    twin = card(twins, "substation/quay", T0 + 30)
    assert twin.source("oil_temp_c") == "measured"
    assert twin.source("voltage_pu") == "assumed"
    assert twin.source("demand_mw") == "estimated"  # nobody measures it: the meter sees what is served
    assert twin.source("ageing_h") == "computed"
    assert card(twins, "substation/quay", T0 + 9000).source("oil_temp_c") == "stale"


def test_what_was_asked_for_and_is_not_in_force_is_told() -> None:
    twin = card(quay(), "substation/quay", T0 + 30)
    ((name, (desired, in_force)),) = twin.differs.items()
    assert name == "block_shed"
    assert desired.tolist() == [1, 1, 0, 0, 0]
    assert in_force.tolist() == [1, 0, 0, 0, 0]
    assert card(holder(), "venue/arena", T0).differs == {}


def test_the_card_reads_like_a_page() -> None:
    text = repr(card(quay(), "substation/quay", T0 + 30))
    assert text.startswith("substation/quay  (heard 20 s ago, revision ")
    assert "[measured]  reported 118.5" in text
    assert "block_shed" in text
    assert "but in force" in text
    assert "ALERTS: hot_transformer" in text
    assert "never heard" in repr(card(holder(), "venue/arena", T0))
    assert len(text.splitlines()) < 50


def test_ratings_are_shown_as_words() -> None:
    twins = holder()
    send(twins, delivery(0, 0, says(T0, flow_pph=100.0)))
    text = repr(card(twins, "footfall/gate-1", T0 + 1))
    (line,) = [line.split() for line in text.splitlines() if line.split()[0] == "los"]
    assert line == ["los", "A"]


@pytest.mark.parametrize("entity", ["substation/quay", "venue/arena", "footfall/gate-1"])
def test_plain_values_are_json_without_nan(entity: str) -> None:
    for twins in (quay(), holder()):
        plain = card(twins, entity, T0 + 30).to_dict()
        said = json.loads(json.dumps(plain, allow_nan=False))
        assert said["id"] == entity
        assert said.keys() >= {"reported", "quality", "estimated", "sd", "source", "in_force", "desired", "fates"}
    assert card(holder(), entity, T0).to_dict()["age_s"] is None


def test_quality_is_in_words() -> None:
    plain = card(quay(), "substation/quay", T0 + 30).to_dict()
    assert plain["quality"] == {
        "load_mw": "out_of_range",
        "voltage_pu": "unsaid",
        "oil_temp_c": "good",
        "ambient_temp_c": "unsaid",
    }
    assert plain["reported"]["voltage_pu"] is None
    assert plain["desired"]["block_shed"] == [1, 1, 0, 0, 0]


def test_the_table_for_notebooks_is_html() -> None:
    shown = card(quay(), "substation/quay", T0 + 30)
    table = shown._repr_html_()
    assert table.startswith("<b>substation/quay</b><table>")
    assert table.count("<tr>") == 1 + len(shown.kind.state.layout.labels)


def test_a_twin_never_heard_is_assumed() -> None:
    twin = card(holder(), "substation/quay", T0)
    assert math.isinf(twin.age_s)
    assert {twin.source(name) for name in twin.estimated.names} == {"assumed", "computed"}
    assert math.isnan(twin.reported.load_mw)
