"""Which stage a signal shows next: the rules on hand-made junctions, and what holds for all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.traffic import stages
from domains.traffic.axes import LANE, STAGE

ROOMY = {"interval_s": 10.0, "intervals": 4}


def serves(*rows: tuple[float, ...], n: int = 1) -> np.ndarray:
    """(stage, lane, n) of one junction, the same for all."""
    table = np.zeros((len(STAGE), len(LANE), n))
    for stage, row in enumerate(rows):
        table[stage, : len(row)] = np.array(row)[:, None]
    return table


def lanes(*numbers: float, n: int = 1) -> np.ndarray:
    column = np.zeros((len(LANE), n))
    column[: len(numbers)] = np.array(numbers)[:, None]
    return column


CROSS = serves((1, 0), (0, 1))
ONE = np.ones(1)


def outlook(**changed: object) -> stages.Outlook:
    facts: dict[str, object] = {
        "near_veh": lanes(),
        "far_veh": lanes(),
        "arrival_vph": lanes(),
        "box_veh": lanes(),
        "exit_share": lanes(),
        "saturation_vph": lanes(1800, 1800),
        "serves": CROSS,
        "stage": 0 * ONE,
        "stage_s": 20 * ONE,
        "lost_time_s": 3.6 * ONE,
        "min_green_s": 5 * ONE,
        "max_green_s": 120 * ONE,
    }
    return stages.Outlook(**{**facts, **changed})  # type: ignore[arg-type]


def test_look_ahead_goes_where_the_vehicles_are() -> None:
    assert stages.look_ahead(outlook(near_veh=lanes(0, 4)), **ROOMY) == [1]
    assert stages.look_ahead(outlook(near_veh=lanes(4, 0), stage=ONE), **ROOMY) == [0]


def test_look_ahead_keeps_its_stage_where_nobody_waits() -> None:
    for stage in (0.0, 1.0):
        assert stages.look_ahead(outlook(stage=stage * ONE), **ROOMY) == [stage]


def test_look_ahead_does_not_cut_a_platoon_for_one_vehicle() -> None:
    busy = outlook(near_veh=lanes(5, 1), far_veh=lanes(6, 0))
    assert stages.look_ahead(busy, **ROOMY) == [0]


def test_look_ahead_serves_no_lane_whose_exit_is_full() -> None:
    full = outlook(near_veh=lanes(6, 3), exit_share=lanes(0.95, 0.0))
    assert stages.look_ahead(full, **ROOMY) == [1]


def test_look_ahead_lets_the_junction_clear_before_it_changes() -> None:
    waiting = outlook(near_veh=lanes(1, 3))
    assert stages.look_ahead(waiting, **ROOMY) == [1]
    inside = outlook(near_veh=lanes(1, 3), box_veh=lanes(2, 0))
    assert stages.look_ahead(inside, **ROOMY) == [0]


def test_minimum_and_maximum_green() -> None:
    young = outlook(near_veh=lanes(0, 9), stage_s=3 * ONE)
    assert stages.look_ahead(young, **ROOMY) == [0]
    old = outlook(near_veh=lanes(20, 1), stage_s=120 * ONE)
    assert stages.look_ahead(old, **ROOMY) == [1]
    alone = outlook(near_veh=lanes(20, 0), stage_s=500 * ONE)
    assert stages.look_ahead(alone, **ROOMY) == [0]


def test_rules_on_the_same_junction() -> None:
    assert stages.max_wave(lanes(2, 3), CROSS, 0 * ONE) == [1]
    assert stages.max_wave(lanes(3, 3), CROSS, ONE) == [1], "a tie changes nothing"
    pressure = stages.max_pressure(lanes(5, 4), lanes(3, 0), lanes(1800, 1800), CROSS, 0 * ONE)
    assert pressure == [1], "what stands beyond takes away from the pressure"
    turns = [int(stages.fixed_time(at_s, CROSS, 30.0)[0]) for at_s in (0.0, 29.0, 31.0, 61.0)]
    assert turns == [0, 0, 1, 0]


def test_sotl_waits_for_its_threshold_its_minimum_green_and_the_end_of_a_platoon() -> None:
    def choose(kappa: float, near: tuple[float, float], stage_s: float = 20.0) -> int:
        counts = np.zeros((len(STAGE), 1))
        counts[1] = kappa
        return int(
            stages.sotl(
                counts, lanes(*near), CROSS, 0 * ONE, stage_s * ONE,
                threshold_veh_s=60.0, min_green_s=10 * ONE, platoon_veh=3.0,
            )[0]
        )  # fmt: skip

    assert choose(59.0, (0, 3)) == 0
    assert choose(61.0, (0, 3)) == 1
    assert choose(61.0, (0, 3), stage_s=9.0) == 0
    assert choose(61.0, (2, 3)) == 0, "two vehicles are crossing"
    assert choose(61.0, (9, 3)) == 1, "a long platoon is cut"


def test_kappa_grows_with_vehicles_before_red_and_starts_anew_with_green() -> None:
    kappa = np.zeros((len(STAGE), 1))
    kappa = stages.kappa_step(kappa, lanes(2, 3), CROSS > 0, 0 * ONE, 10 * ONE)
    assert kappa[:2, 0].tolist() == [0.0, 30.0]
    kappa = stages.kappa_step(kappa, lanes(2, 3), CROSS > 0, ONE, 5 * ONE)
    assert kappa[:2, 0].tolist() == [10.0, 0.0]


def test_before_the_first_command_all_stages_share() -> None:
    assert stages.shown_serves(CROSS, -ONE)[:2, 0].tolist() == [0.5, 0.5]
    assert stages.shown_serves(CROSS, ONE)[:2, 0].tolist() == [0.0, 1.0]


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_every_rule_chooses_a_stage_that_exists_and_neighbours_change_nothing(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 5))
    counts = [data.draw(st.integers(1, 8)) for _ in range(n)]
    chance = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    table = np.zeros((len(STAGE), len(LANE), n))
    for column, count in enumerate(counts):
        places = chance.permutation(len(STAGE))[:count]  # a stage in the middle may be missing
        table[places, :, column] = chance.uniform(0.1, 1.0, (count, len(LANE)))
    exists = stages.stage_mask(table)
    shows = np.array([chance.choice(np.flatnonzero(exists[:, column])) for column in range(n)], dtype=float)

    def some(high: float) -> np.ndarray:
        return chance.uniform(0, high, (len(LANE), n))

    see = outlook(
        near_veh=some(7), far_veh=some(20), arrival_vph=some(900), box_veh=some(1), exit_share=some(1),
        saturation_vph=np.full((len(LANE), n), 1800.0), serves=table, stage=shows, stage_s=chance.uniform(0, 200, n),
        lost_time_s=np.full(n, 3.6), min_green_s=np.full(n, 5.0), max_green_s=np.full(n, 120.0),
    )  # fmt: skip
    chosen = stages.look_ahead(see, **ROOMY)
    assert exists[chosen, np.arange(n)].all()
    for rule in (
        stages.max_wave(see.near_veh, table, shows),
        stages.max_pressure(see.near_veh, see.far_veh, see.saturation_vph, table, shows),
        stages.fixed_time(float(see.stage_s[0]), table, 30.0),
    ):
        assert exists[rule, np.arange(n)].all()
    for column in range(n):
        alone = stages.Outlook(**{name: getattr(see, name)[..., [column]] for name in stages.Outlook.__slots__})
        assert stages.look_ahead(alone, **ROOMY)[0] == chosen[column]
