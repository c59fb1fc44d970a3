"""When a table says that a second look would show nothing else, it would not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.streams import asked, joined, tanks, told
from twin_actors.core.showing import Shown, only, stamp, unchanged
from twin_actors.core.table import TwinTable

T0 = 1_780_000_000.0


def parts(shown: Shown) -> dict[str, np.ndarray]:
    arrays = {name: getattr(shown, name) for name in ("x", "sd", "command", "desired", "couplings", "revision")}
    arrays |= {f"i:{name}": column for name, column in shown.indicators.items()}
    arrays |= {f"a:{name}": column for name, column in shown.alerts.items()}
    arrays |= {"rmse": shown.fidelity.rmse, "covered": shown.fidelity.covered, "drifting": shown.fidelity.drifting}
    for name, need in shown.needs.items():
        arrays |= {f"n:{name}": np.stack([need.amount, need.urgency, need.duration_s])}
    return arrays if shown.proposed is None else {**arrays, "proposed": shown.proposed}


moves = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from((0.0, 30.0, 700.0))),
        st.tuples(st.just("tell"), st.sampled_from((-10.0, 0.0, 40.0))),
        st.tuples(st.just("ask"), st.just(0.0)),
        st.tuples(st.just("peek"), st.just(0.0)),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(moves)
def test_unchanged_is_never_wrong(steps: list[tuple[str, float]]) -> None:
    table: TwinTable = tanks(2)
    now_s = T0
    shown, known = table.show(now_s), stamp(table, now_s)
    for what, amount in steps:
        if what == "wait":
            now_s += amount
        elif what == "tell":
            table.apply(told(now_s + amount, level=3.9))
        elif what == "ask":
            table.apply(asked(now_s, 0.5))
        else:
            table.show(now_s)  # somebody else looks, and may find alerts
        same = unchanged(table, known, now_s)
        fresh = table.show(now_s)
        if same:
            for name, array in parts(fresh).items():
                np.testing.assert_array_equal(array, parts(shown)[name], err_msg=name)
        shown, known = fresh, stamp(table, now_s)


def test_twins_that_never_heard_anything_do_not_change_by_themselves() -> None:
    table = tanks(2)
    table.show(T0)
    known = stamp(table, T0)
    assert unchanged(table, known, T0 + 3600.0)
    assert not unchanged(table, known, T0 - 1.0)
    table.apply(told(T0, level=3.0))
    assert not unchanged(table, known, T0 + 3600.0)


def test_twins_that_heard_something_change_with_time_but_not_without() -> None:
    table = tanks(2)
    table.apply(told(T0, level=3.0))
    table.show(T0 + 5.0)
    known = stamp(table, T0 + 5.0)
    assert unchanged(table, known, T0 + 5.0)  # a city whose clock stands while nothing comes
    assert not unchanged(table, known, T0 + 6.0)


def test_an_alert_that_somebody_else_found_is_a_change() -> None:
    table = tanks(1)
    table.apply(told(T0, level=4.9))
    table.show(T0)
    known = stamp(table, T0)
    table.show(T0 + 3600.0)
    assert bool(table.latches.active.any())
    assert not unchanged(table, known, T0 + 3600.0)


def test_one_of_those_shown() -> None:
    table = tanks(3)
    table.apply(joined(told(T0, level=3.0), asked(T0, 0.5)))
    whole = table.show(T0 + 10.0)
    for column in range(3):
        one = only(whole, column)
        for name, array in parts(one).items():
            np.testing.assert_array_equal(array, parts(whole)[name][..., [column]], err_msg=name)
        assert one.age_s.tolist() == [whole.age_s[column]]
