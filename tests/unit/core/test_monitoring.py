"""Alert latches with hysteresis and delay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.streams import NAN, UNHURRIED, column
from twin_actors.core.kind import Alert
from twin_actors.core.monitoring import Latches, monitor


def course(
    alert: Alert, values: Sequence[float], times: Sequence[float] | None = None, **attributes: float
) -> list[bool]:
    """Whether the alert of one twin is active after each value, one a second if no times are given."""
    latches = Latches.empty(1, 1)
    limits = {name: column(limit) for name, limit in attributes.items()}
    active = []
    for now_s, value in zip(times or range(len(values)), values, strict=True):
        latches = monitor((alert,), {"x": column(value)}, limits, latches, now_s)
        active.append(bool(latches.active[0, 0]))
    return active


def test_an_alert_is_raised_past_its_limit_and_cleared_at_it() -> None:
    alert = Alert(name="a", of="x", above=5.0)
    assert course(alert, [5.0, 5.1, 9.0, 5.0, 5.1]) == [False, True, True, False, True]


def test_an_alert_with_hysteresis_stays_until_its_value_is_back_at_clear() -> None:
    alert = Alert(name="a", of="x", above=5.0, clear=3.0)
    assert course(alert, [4, 6, 4, 3.1, 3.0, 4, 5]) == [False, True, True, True, False, False, False]


def test_a_lower_limit_works_the_other_way_round() -> None:
    alert = Alert(name="a", of="x", below=5.0, clear=7.0)
    assert course(alert, [5, 4.9, 6, 6.9, 7, 6]) == [False, True, True, True, False, False]


def test_a_condition_must_hold_for_its_time_without_a_break() -> None:
    alert = Alert(name="a", of="x", above=5.0, for_s=10)
    assert course(alert, [6, 6, 6], [0, 9.9, 10]) == [False, False, True]
    # The break at 9 begins the time anew: 12 + 10 = 22.
    assert course(alert, [6, 5, 6, 6, 6], [0, 9, 12, 21, 22]) == [False, False, False, False, True]


def test_an_active_alert_needs_no_time_to_clear_and_full_time_to_come_back() -> None:
    alert = Alert(name="a", of="x", above=5.0, for_s=10)
    assert course(alert, [6, 6, 5, 6, 6], [0, 10, 11, 12, 22]) == [False, True, False, False, True]


def test_limits_may_be_attributes_of_each_entity() -> None:
    alert = Alert(name="a", of="x", above="rated", clear="safe")
    assert course(alert, [6, 8, 5, 4], rated=7.0, safe=4.0) == [False, True, True, False]
    latches = monitor(
        (alert,),
        {"x": column(6, 6)},
        {"rated": column(5, 7), "safe": column(1, 1)},
        Latches.empty(1, 2),
        0.0,
    )
    assert latches.active.tolist() == [[True, False]]


def test_what_is_not_a_number_is_no_condition_and_no_recovery() -> None:
    alert = Alert(name="a", of="x", above=5.0)
    assert course(alert, [NAN, 6, NAN, 5]) == [False, True, True, False]


def test_latches_know_since_when_and_leave_the_old_ones_alone() -> None:
    alert = Alert(name="a", of="x", above=5.0, for_s=10)
    before = Latches.empty(1, 1)
    waiting = monitor((alert,), {"x": column(6)}, {}, before, 100.0)
    raised = monitor((alert,), {"x": column(6)}, {}, waiting, 110.0)
    still = monitor((alert,), {"x": column(6)}, {}, raised, 120.0)
    cleared = monitor((alert,), {"x": column(5)}, {}, still, 130.0)
    assert np.isnan(before.since_s).all()
    assert (waiting.since_s[0, 0], waiting.active[0, 0]) == (100, False)
    assert np.isnan(waiting.raised_at_s).all()
    assert (raised.since_s[0, 0], raised.raised_at_s[0, 0]) == (100, 110)
    assert still.raised_at_s[0, 0] == 110
    assert np.isnan([cleared.since_s[0, 0], cleared.raised_at_s[0, 0]]).all()


def test_alerts_and_twins_do_not_meet() -> None:
    alerts = (Alert(name="high", of="x", above=5.0), Alert(name="low", of="y", below=1.0))
    latches = monitor(alerts, {"x": column(6, 0), "y": column(2, 0)}, {}, Latches.empty(2, 2), 0.0)
    assert latches.active.tolist() == [[True, False], [False, True]]


@UNHURRIED
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=40), st.floats(-5, 5), st.floats(0, 3))
def test_with_hysteresis_an_alert_follows_a_two_state_machine(values: list[float], limit: float, width: float) -> None:
    active, expected = False, []
    for value in values:
        active = value > limit or (active and value > limit - width)
        expected.append(active)
    assert course(Alert(name="a", of="x", above=limit, clear=limit - width), values) == expected
