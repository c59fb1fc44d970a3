"""The footfall model: place in the week, the usual flow and its fallback, level of service by flow."""

from __future__ import annotations

import numpy as np
import pytest

from domains.venues.devices import FootfallDrivers, drive_footfall
from domains.venues.footfall import (
    FootfallAttributes,
    FootfallState,
    FootfallWindows,
    indicators,
    predict,
)
from twin_actors.core.columns import Command, Couplings
from twin_actors.core.kind import Step

PATH = FootfallAttributes(width_m=[4.0, 2.0])


def week(hour: int, usual: float) -> FootfallWindows:
    bins = np.full((168, 2), np.nan)
    bins[hour, 0] = usual
    return FootfallWindows.of_block(bins)


def test_the_flow_stays_and_the_hour_of_the_week_follows_the_clock() -> None:
    before = FootfallState(flow_pph=[700.0, 90.0], hour_of_week_h=[0.0, 0.0])
    monday_noon_s = 1_763_985_600.0 - 1_763_985_600.0 % 604_800 + 4 * 86_400 + 12 * 3600  # weeks from Thursday
    step = Step(dt_s=np.full(2, 600.0), at_s=np.array([monday_noon_s, monday_noon_s + 5400]))
    after = predict(before, PATH, Command(), Couplings(), step)
    assert after.flow_pph.tolist() == [700.0, 90.0]
    assert after.hour_of_week_h == pytest.approx([108.0, 109.5])


def test_the_usual_flow_is_that_of_the_hour_or_the_present_one_where_none_was_seen() -> None:
    state = FootfallState(flow_pph=[700.0, 90.0], hour_of_week_h=[108.9, 108.9])
    assert indicators(state, PATH, Command(), week(108, 500.0))["usual_pph"].tolist() == [500.0, 90.0]
    assert indicators(state, PATH, Command(), week(107, 500.0))["usual_pph"].tolist() == [700.0, 90.0]


def test_samples_of_a_forked_walkway_share_one_usual_week() -> None:
    state = FootfallState(flow_pph=np.full((3, 2), 700.0), hour_of_week_h=np.full((3, 2), 108.0))
    seen = indicators(state, PATH, Command(), week(108, 500.0))
    assert seen["usual_pph"].tolist() == [[500.0, 700.0]] * 3


def test_level_of_service_by_flow() -> None:
    # Fruin: 66 persons per metre and minute end level D; 4 m carry 15,840 an hour at that level.
    state = FootfallState(flow_pph=[15_840.0, 8_000.0], hour_of_week_h=[0.0, 0.0])
    seen = indicators(state, PATH, Command(), week(0, 1.0))
    assert seen["specific_flow"] == pytest.approx([1.1, 8000 / 3600 / 2])
    assert seen["los"].tolist() == [3.0, 4.0]


def test_a_simulated_walkway_carries_its_driver() -> None:
    state = FootfallState(flow_pph=[0.0, 0.0], hour_of_week_h=[0.0, 0.0])
    step = Step(dt_s=np.full(2, 60.0), at_s=np.full(2, 1.8e9))
    drivers = FootfallDrivers(passers_pph=np.array([800.0, 20.0]))
    driven = drive_footfall(state, PATH, Command(), Couplings(), drivers, step, np.random.default_rng(1))
    assert driven.flow_pph.tolist() == [800.0, 20.0]
