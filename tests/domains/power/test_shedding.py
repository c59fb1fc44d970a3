"""Load shedding: which blocks open and close, in which order, and what the policy proposes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from domains.power import loading, thermal
from domains.power.records import (
    SubstationAttributes,
    SubstationCommand,
    SubstationCouplings,
    SubstationState,
    SubstationWindows,
)
from domains.power.shedding import (
    SHED_LOAD,
    blocks_to_close,
    blocks_to_open,
    plan_blocks,
    shed_load,
    thermal_margins,
)
from domains.power.substation import SUBSTATION, indicators, needs
from twin_actors.core.columns import Column
from twin_actors.core.view import CommandTo, KindView, View

BLOCK_MW = (4.0, 6.0, 5.0, 3.0, 8.0)
PRIORITY = (3.0, 1.0, 5.0, 2.0, 4.0)  # b2, b4, b1, b5, b3


def columns(*entities: tuple[float, ...]) -> Column:
    return np.array(entities, dtype=np.float64).T


@pytest.mark.parametrize(
    ("excess_mw", "opened"),
    [
        (-3.0, (0, 0, 0, 0, 0)),
        (0.0, (0, 0, 0, 0, 0)),
        (0.5, (0, 1, 0, 0, 0)),
        (6.0, (0, 1, 0, 0, 0)),
        (6.1, (0, 1, 0, 1, 0)),
        (9.5, (1, 1, 0, 1, 0)),
        (21.0, (1, 1, 0, 1, 1)),
        (99.0, (1, 1, 1, 1, 1)),
    ],
)
def test_lowest_priority_goes_first_and_no_more_than_needed(excess_mw: float, opened: tuple[float, ...]) -> None:
    result = blocks_to_open(np.zeros((5, 1)), columns(BLOCK_MW), columns(PRIORITY), np.array([excess_mw]))
    np.testing.assert_array_equal(result, columns(opened))


@pytest.mark.parametrize(
    ("room_mw", "left_open"),
    [
        (-1.0, (1, 1, 1, 1, 1)),
        (4.9, (1, 1, 1, 1, 1)),  # b3 comes first and does not fit, though b4 would
        (5.0, (1, 1, 0, 1, 1)),
        (13.0, (1, 1, 0, 1, 0)),
        (20.0, (0, 1, 0, 0, 0)),
        (26.0, (0, 0, 0, 0, 0)),
    ],
)
def test_blocks_come_back_in_reverse_order_while_they_fit(room_mw: float, left_open: tuple[float, ...]) -> None:
    result = blocks_to_close(np.ones((5, 1)), columns(BLOCK_MW), columns(PRIORITY), np.array([room_mw]))
    np.testing.assert_array_equal(result, columns(left_open))


def test_equal_priorities_go_by_name_and_missing_blocks_are_left_alone() -> None:
    block_mw, equal = columns((0.0, 4.0, 4.0, 0.0, 4.0)), np.ones((5, 1))
    opened = blocks_to_open(np.zeros((5, 1)), block_mw, equal, np.array([5.0]))
    np.testing.assert_array_equal(opened, columns((0, 1, 1, 0, 0)))
    closed = blocks_to_close(opened, block_mw, equal, np.array([4.0]))
    np.testing.assert_array_equal(closed, columns((0, 1, 0, 0, 0)))


@settings(max_examples=80, deadline=None)
@given(
    demand=st.floats(20.0, 80.0),
    ambient_c=st.floats(-10.0, 45.0),
    block_mw=st.tuples(*[st.floats(0.0, 15.0)] * 5),
    priority=st.tuples(*[st.integers(1, 5).map(float)] * 5),
)
def test_shedding_is_enough_least_and_stable(
    demand: float, ambient_c: float, block_mw: tuple[float, ...], priority: tuple[float, ...]
) -> None:
    attributes = SubstationAttributes.defaults(1).replace(block_mw=columns(block_mw), block_priority=columns(priority))
    state = SubstationState.defaults(1).replace(demand_mw=np.array([demand]), ambient_temp_c=np.array([ambient_c]))
    yes, no = np.ones(1, np.bool_), np.zeros(1, np.bool_)

    def plan(now: SubstationCommand, hot: NDArray[np.bool_], cool: NDArray[np.bool_]) -> Column:
        return plan_blocks(
            attributes,
            now,
            thermal_margins(state, attributes, now, hot=hot, cool=cool, target_k=2.0, restore_k=15.0),
        )

    opened = plan(SubstationCommand.defaults(1), yes, no)
    command = SubstationCommand(block_shed=opened)

    def steady_c(shed: Column) -> float:
        served = max(demand - float((shed[:, 0] * block_mw).sum()), 0.0)
        factor = loading.load_factor(np.array([served]), attributes)
        return float(thermal.steady_hot_spot(factor, np.array([ambient_c]), attributes)[0])

    present = np.array(block_mw) > 0
    assert steady_c(opened) <= 118.0 + 1e-6 or (opened[present, 0] == 1.0).all()
    taken = np.flatnonzero(opened[:, 0] == 1.0)
    if len(taken):
        last = max(taken, key=lambda block: (priority[block], block))
        without_last = opened.copy()
        without_last[last] = 0.0
        assert steady_c(without_last) > 118.0 - 1e-6
        kept = np.flatnonzero(present & (opened[:, 0] == 0.0))
        assert all((priority[block], block) > (priority[last], last) for block in kept)
        if steady_c(opened) <= 118.0:
            again = plan(command, yes, no)
            np.testing.assert_array_equal(again, opened)
            back = plan(command, no, yes)
            np.testing.assert_array_equal(back, opened)


def seen(
    demand_mw: list[float],
    oil_temp_c: list[float],
    block_shed: Column | None = None,
    latched: list[bool] | None = None,
    age_s: list[float] | None = None,
) -> View:
    n = len(demand_mw)
    attributes = SubstationAttributes.defaults(n).replace(
        block_mw=columns(*[BLOCK_MW] * n), block_priority=columns(*[PRIORITY] * n)
    )
    command = SubstationCommand(block_shed=np.zeros((5, n)) if block_shed is None else block_shed)
    state = SubstationState.defaults(n).replace(
        demand_mw=np.array(demand_mw), oil_temp_c=np.array(oil_temp_c), h1_k=np.full(n, 30.0), h2_k=np.zeros(n)
    )
    shown = indicators(state, attributes, command, SubstationWindows.defaults(n))
    hot = shown["hot_spot_margin_k"] < 0 if latched is None else np.array(latched)
    nothing: dict[str, Any] = {"sd": state, "desired": command, "proposed": None}
    return View(
        now_s=1.78e9,
        kinds={
            "substation": KindView(
                kind=SUBSTATION,
                ids=tuple(f"substation/{i}" for i in range(n)),
                attributes=attributes,
                state=state,
                command=command,
                couplings=SubstationCouplings.defaults(n),
                indicators=shown,
                alerts={"hot_transformer": hot},
                needs=needs(state, attributes, shown),
                age_s=np.zeros(n) if age_s is None else np.array(age_s),
                revision=np.zeros(n, np.int64),
                tags=({},) * n,
                lat_deg=np.zeros(n),
                lon_deg=np.zeros(n),
                **nothing,
            )
        },
    )


def test_only_the_hot_substation_gets_an_order() -> None:
    view = seen(demand_mw=[30.0, 50.0, 50.0], oil_temp_c=[60.0, 95.0, 60.0])
    (proposal,) = shed_load(view, SHED_LOAD.defaults)
    (effect,) = proposal.effects
    assert isinstance(effect, CommandTo)
    assert effect.entity == "substation/1"
    assert effect.values == {"block_shed": (0.0, 1.0, 0.0, 0.0, 0.0)}
    assert proposal.key == "shed_load:substation/1"
    assert proposal.because == ("substation/1",)
    assert proposal.objective == 6.0
    assert "disconnect b2 (6.0 MW)" in proposal.reason


def test_a_hot_transformer_whose_load_is_already_bearable_is_left_to_cool() -> None:
    view = seen(demand_mw=[30.0], oil_temp_c=[95.0])
    assert not list(shed_load(view, SHED_LOAD.defaults))


def test_cool_substations_get_their_blocks_back_and_lukewarm_ones_wait() -> None:
    shed = columns((0, 1, 0, 1, 0), (0, 1, 0, 1, 0), (0, 1, 0, 1, 0))
    view = seen([30.0, 30.0, 49.0], [60.0, 80.0, 60.0], shed, latched=[False, False, False])
    (proposal,) = shed_load(view, SHED_LOAD.defaults)
    (effect,) = proposal.effects
    assert effect.entity == "substation/0"
    assert effect.values == {"block_shed": (0.0,) * 5}
    assert "reconnect b2, b4 (9.0 MW)" in proposal.reason


def test_a_substation_not_heard_of_is_left_alone() -> None:
    view = seen(demand_mw=[50.0], oil_temp_c=[95.0], age_s=[901.0])
    assert not list(shed_load(view, SHED_LOAD.defaults))


def test_limit_k_acts_before_the_limit() -> None:
    view = seen(demand_mw=[50.0], oil_temp_c=[87.0])
    assert not list(shed_load(view, SHED_LOAD.defaults))
    assert list(shed_load(view, {**SHED_LOAD.defaults, "limit_k": 5.0}))


def test_a_city_without_substations_and_margins_that_would_flap() -> None:
    assert not list(shed_load(View(now_s=0.0, kinds={}), SHED_LOAD.defaults))
    with pytest.raises(ValueError, match="shed and restored in turn"):
        list(shed_load(seen([30.0], [60.0]), {**SHED_LOAD.defaults, "restore_k": 1.0}))
