"""The ``parameters`` section: single entities with their own attributes and noises, layered over the scenario."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twin_actors.runtime.plan import table_of
from twin_actors.scenario import ScenarioError, load_catalogue, load_scenario
from twin_actors.scenario.model import Scenario

CITY = """\
city: little
entities:
  - {kind: footfall, name: quay, attributes: {width_m: 3}}
  - {kind: footfall, name: hill}
  - {kind: intersection, name: x, attributes: {}}
"""


def layered(tmp_path: Path, parameters: str) -> Scenario:
    base, above = tmp_path / "city.yaml", tmp_path / "calibrated.yaml"
    base.write_text(CITY)
    above.write_text("parameters:\n" + parameters)
    return load_scenario([base, above])


def test_an_entity_gets_its_own_parameters(tmp_path: Path) -> None:
    scenario = layered(
        tmp_path,
        "  footfall/quay: {attributes: {width_m: 5.5}, sd: {flow_pph: 12}, drift: {flow_pph: 300}}\n"
        "  intersection/x: {sd: {queue_veh: {nt: 4}}}\n",
    )
    quay, hill, crossing = scenario.entities
    assert (quay.attributes["width_m"], quay.sd, quay.drift) == (5.5, {"flow_pph": 12.0}, {"flow_pph": 300.0})
    assert (hill.sd, hill.drift) == ({}, {})
    assert Scenario.from_json(scenario.to_json()) == scenario
    kinds = load_catalogue().kinds
    table = table_of(kinds["footfall"], [quay, hill])
    declared = kinds["footfall"].reading.layout.per_row("sd")[0, 0]
    np.testing.assert_allclose(np.sqrt(table.sd2[0]), [12.0, declared])
    assert np.sqrt(table.drift2_h[0, 0]) == pytest.approx(300.0)
    sd = crossing.sd["queue_veh"]
    assert isinstance(sd, tuple)
    assert sd[1] == 4.0
    assert sd[0] == kinds["intersection"].reading.layout.per_row("sd")[0, 0], "components not said keep theirs"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("  footfall/kway: {sd: {flow_pph: 1}}\n", r"no entity is called 'footfall/kway'.*footfall/quay"),
        ("  footfall/quay: {attributes: {with_m: 1}}\n", r"has no attribute 'with_m'.*width_m"),
        ("  footfall/quay: {sd: {flow: 1}}\n", r"no field 'flow' to have a sd.*flow_pph"),
        ("  footfall/quay: {drift: {flow_pph: -1}}\n", r"-1 is below the minimum of 0"),
        ("  footfall/quay: {noise: {flow_pph: 1}}\n", r"noise"),
    ],
)
def test_what_is_wrong_names_its_place(tmp_path: Path, parameters: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=words) as raised:
        layered(tmp_path, parameters)
    assert "calibrated.yaml:2" in str(raised.value)
