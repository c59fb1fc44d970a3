"""What a twin's own model says of the time ahead: the filter's distribution, moved along and not kept."""

from __future__ import annotations

import numpy as np
import pytest

from twin_actors.core.columns import Role
from twin_actors.core.fidelity import Fidelity
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.testing.domains import plausible_attributes

T0 = 1_780_000_000.0
KINDS = sorted(load_catalogue().kinds.values(), key=lambda kind: kind.name)
SAYING_LEVELS = [
    kind for kind in KINDS if any(field.role is Role.READING for field in kind.reading.layout.fields.values())
]


def heard(kind: Kind, n: int, readings: int) -> TwinTable:
    """Twins that have heard every minute what their model expects, plus noise of the declared sd."""
    rng = np.random.default_rng(5)
    table = TwinTable(kind, [f"{kind.name}/{each}" for each in range(n)], plausible_attributes(kind, n, rng))
    sd = kind.reading.layout.per_row("sd")
    low, high = kind.reading.layout.per_row("minimum"), kind.reading.layout.per_row("maximum")
    for minute in range(readings):
        at_s = T0 + 60.0 * minute
        expected = np.stack([table.ahead(entity, np.array([at_s])).expected[:, 0] for entity in table.ids], axis=1)
        values = np.clip(expected + sd * rng.normal(size=expected.shape), low, high)
        table.apply(
            Batch(
                rows=np.arange(n), observed_at_s=np.full(n, at_s), values=values,
                keys=np.full(n, minute, np.int64),
            )
        )  # fmt: skip
    return table


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_outlook_is_that_of_the_table_and_leaves_it_as_it_is(kind: Kind) -> None:
    table = heard(kind, 2, 3)
    before = table.snapshot()
    until_s = T0 + 120.0 + np.array([0.0, 900.0, 3600.0])
    found = table.ahead(table.ids[1], until_s)
    for column, moment in enumerate(until_s):
        x, variance = table.at(float(moment))
        np.testing.assert_allclose(found.x[:, column], x[:, 1], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.sd[:, column] ** 2, variance[:, 1], rtol=1e-9, atol=1e-9)
        shown = table.show(float(moment), with_control=False)
        for name, (mean, sd) in found.indicators.items():
            assert mean[column] == pytest.approx(shown.indicators[name][1], rel=1e-6, abs=1e-6), name
            assert sd[column] >= 0
    numbers = {each.name for each in kind.shows if not each.labels}
    assert found.indicators.keys() == numbers & set(kind.headline)
    table.restore(before)  # a look keeps latches
    table.ahead(table.ids[0], until_s)
    assert (np.diff(found.sd, axis=1) >= -1e-9).all() or kind.filter == "joint", "what drifts is known less and less"
    for name, array in table.snapshot().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


@pytest.mark.parametrize("kind", SAYING_LEVELS, ids=lambda kind: kind.name)
def test_expected_reading_and_spread_are_what_the_filter_counts_with(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that says one row alone has the innovation and the variance that the outlook has foretold."""
    table = heard(kind, 1, 4)
    at_s, kept = T0 + 300.0, table.snapshot()
    found = table.ahead(table.ids[0], np.array([at_s]))
    taken: list[tuple[np.ndarray, np.ndarray]] = []
    monkeypatch.setattr(
        Fidelity, "record", lambda self, innovation, variance, place: taken.append((innovation[:, 0], variance[:, 0]))
    )
    compared = 0
    for row in range(kind.reading.layout.rows):
        table.restore(kept)
        taken.clear()
        values = np.full((kind.reading.layout.rows, 1), np.nan)
        values[row] = last = table.cleaning.value[row, 0]
        keys = np.array([1000 + row])
        table.apply(Batch(rows=np.zeros(1, np.intp), observed_at_s=np.array([at_s]), values=values, keys=keys))
        if not taken or np.isnan(taken[0][0][row]):
            continue
        innovation, variance = taken[0]
        if kind.reading.layout.fields[kind.reading.layout.field_of_row()[row]].role is Role.RUNNING_TOTAL:
            continue  # the level is not the number that the device says
        assert last - innovation[row] == pytest.approx(found.expected[row, 0], rel=1e-9, abs=1e-9)
        assert variance[row] == pytest.approx(found.spread[row, 0] ** 2, rel=1e-6), kind.reading.layout.labels[row]
        compared += 1
    assert compared


def test_a_twin_that_was_never_heard_is_as_unsure_as_declared() -> None:
    kind = load_catalogue().kinds["footfall"]
    table = TwinTable(kind, ["footfall/a"], plausible_attributes(kind, 1, np.random.default_rng(0)))
    found = table.ahead("footfall/a", np.array([T0, T0 + 3600.0]))
    np.testing.assert_allclose(found.sd, np.repeat(kind.state.layout.per_row("unsure_sd"), 2, axis=1))
    with pytest.raises(KeyError, match="footfall/b is not in this table"):
        table.ahead("footfall/b", np.array([T0]))
