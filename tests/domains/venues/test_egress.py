"""Escape routes by IMO MSC.1/Circ.1533: flows from element to element against the worked example of Circ.1166."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.venues.egress import (
    SPEED_BY_FLOW,
    Passage,
    first_passage,
    next_passage,
    route_time_s,
    speed_of_flow_mps,
    venue_egress_s,
)
from domains.venues.pedestrians import IMO_MAXIMUM_PER_M_S, egress_time_s


def test_a_stairway_behind_a_corridor_is_that_of_the_imo_example() -> None:
    """Corridor 1 (4.2 m, printed 1.3 persons/m/s) leads into Stairway 1 (3.5 m): 3.85 persons/s, 43 s, walk 9 s."""
    persons, printed = np.array([165.0]), np.array([5.46])
    corridor = Passage(np.array([1.3]), printed, persons / printed, np.array([14 / 0.67]), np.zeros(1))
    stairs = next_passage("stairs_down", [corridor], persons, np.array([3.5]), np.array([4.7]))
    assert stairs.specific_flow == pytest.approx([1.1])
    assert stairs.flow_per_s == pytest.approx([3.85])
    assert stairs.flow_time_s == pytest.approx([43], abs=0.5)
    assert stairs.walk_s == pytest.approx([9], abs=0.5)
    assert stairs.queues.tolist() == [1.0]
    total = route_time_s([corridor, stairs])
    assert total == pytest.approx(corridor.walk_s + stairs.walk_s + 165 / 3.85)


def test_speeds_by_flow_have_the_points_of_the_table() -> None:
    for kind, (flows, speeds) in SPEED_BY_FLOW.items():
        np.testing.assert_allclose(speed_of_flow_mps(kind, np.array(flows)), speeds)
        assert flows[-1] == IMO_MAXIMUM_PER_M_S[kind]
    assert float(speed_of_flow_mps("stairs_down", np.array(0.82))) == pytest.approx(0.775)
    with pytest.raises(KeyError):
        speed_of_flow_mps("escalator", np.array(0.5))


@given(persons=st.floats(1, 2000), area=st.floats(20, 3000), widths=st.lists(st.floats(0.8, 8), min_size=1, max_size=5))
def test_no_element_lets_more_through_than_comes_or_than_it_can(
    persons: float, area: float, widths: list[float]
) -> None:
    here = first_passage(np.array([persons]), np.array([area]), np.array([4.0]), np.array([10.0]))
    passages = [here]
    for width in widths:
        passage = next_passage("doorway", [passages[-1]], np.array([persons]), np.array([width]), np.array([0.0]))
        assert passage.flow_per_s[0] <= passages[-1].flow_per_s[0] * (1 + 1e-12)
        assert passage.flow_per_s[0] <= 1.3 * width * (1 + 1e-12)
        passages.append(passage)
    assert route_time_s(passages)[0] >= persons / min(p.flow_per_s[0] for p in passages) - 1e-6


def test_stairs_lengthen_the_way_and_may_be_the_narrowest() -> None:
    number, density = np.array([3000.0]), np.array([0.5])
    plain = venue_egress_s(number, density, np.array([20.0]), np.array([40.0]), np.zeros(1), np.zeros(1))
    np.testing.assert_allclose(plain, egress_time_s(number, density, 20.0, 40.0))
    wide = venue_egress_s(number, density, np.array([20.0]), np.array([40.0]), np.array([60.0]), np.array([12.0]))
    narrow = venue_egress_s(number, density, np.array([20.0]), np.array([40.0]), np.array([10.0]), np.array([12.0]))
    assert plain < wide < narrow
    assert narrow == pytest.approx(3000 / 11.0 + 40 / 1.2 + 12 / 0.55)
    assert venue_egress_s(np.zeros(1), np.zeros(1), 1.0, 40.0, np.ones(1), np.ones(1)) == pytest.approx([0.0])
