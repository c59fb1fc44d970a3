"""The twin table replayed: any cut and packing of a log gives the same twins, and snapshots go on exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.streams import NAN, ROWS, UNHURRIED, column, tanks
from tests.unit.core.toy import JOINT, TANK
from twin_actors.core.cleaning import NO_KEY, Fate
from twin_actors.core.inputs import Batch, Channel
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable
from twin_actors.testing.domains import part_of, same_twins

T0 = 1_780_000_000.0
BOTH = pytest.mark.parametrize("kind", [TANK, JOINT], ids=["diagonal", "joint"])


def unchanged(table: TwinTable, before: dict[str, Any]) -> None:
    """Assert that nothing of a table differs from its snapshot."""
    for name, array in table.snapshot().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


# -- any cut -----------------------------------------------------------------------------------------------------


INPUTS = st.tuples(
    st.sampled_from([Channel.READING] * 5 + [Channel.DESIRED, Channel.COMMAND, Channel.COUPLING]),
    st.integers(0, 3),  # twin
    st.integers(0, 3000),  # device time
    st.sampled_from([NO_KEY, 1, 2, 3]),
    st.tuples(*[st.sampled_from([NAN, 0.0, 0.01, 0.5, 2.0, 3.0, 11.0])] * ROWS),
)


def stream_of(inputs: list[tuple[Channel, int, int, int, tuple[float, ...]]]) -> Batch:
    channels, twins, after_s, keys, values = zip(*inputs, strict=True)
    # A set point or a coupling of 11 would be refused by whoever sends it: the core takes them as they are.
    return Batch(
        rows=np.array(twins, np.intp),
        observed_at_s=T0 + column(*after_s),
        values=np.array(values, dtype=np.float64).T.copy(),
        channels=np.array(channels, np.uint8),
        keys=np.array(keys, np.int64),
    )


@BOTH
@UNHURRIED
@given(inputs=st.lists(INPUTS, min_size=1, max_size=25), cuts=st.lists(st.integers(0, 25), max_size=5))
def test_any_cut_of_the_same_inputs_gives_the_same_twins(
    kind: Kind, inputs: list[tuple[Channel, int, int, int, tuple[float, ...]]], cuts: list[int]
) -> None:
    batch = stream_of(inputs)
    at_once, in_parts = tanks(4, kind), tanks(4, kind)
    whole = at_once.apply(batch)
    fates: list[int] = []
    rejected: list[tuple[int, str, str]] = []
    for positions in np.split(np.arange(len(batch)), sorted({min(cut, len(batch)) for cut in cuts})):
        applied = in_parts.apply(part_of(batch, positions))
        fates.extend(applied.fates.tolist())
        rejected.extend((int(positions[r.position]), r.reason, r.detail) for r in applied.rejections)
    same_twins(at_once, in_parts)
    assert fates == whole.fates.tolist()
    assert rejected == [(r.position, r.reason, r.detail) for r in whole.rejections]

    readings = batch.channels == Channel.READING
    # Every reading has one fate: fates add up per twin, and rejections are the readings that were rejected.
    np.testing.assert_array_equal(at_once.fates.sum(axis=0), np.bincount(batch.rows[readings], minlength=4))
    for fate in Fate:
        assert at_once.fates[fate].sum() == (whole.fates[readings] == fate).sum()
    assert [r.position for r in whole.rejections] == np.flatnonzero(whole.fates == Fate.REJECTED).tolist()
    np.testing.assert_array_equal(at_once.revision, np.bincount(batch.rows, minlength=4))
    assert np.isfinite(at_once.x).all()
    assert (at_once.variance >= 0).all()


@BOTH
@UNHURRIED
@given(inputs=st.lists(INPUTS, min_size=1, max_size=25))
def test_a_packed_twin_is_the_twin_it_would_be_alone(
    kind: Kind, inputs: list[tuple[Channel, int, int, int, tuple[float, ...]]]
) -> None:
    batch = stream_of(inputs)
    packed, alone = tanks(4, kind), tanks(1, kind)
    packed.apply(batch)
    own = part_of(batch, np.flatnonzero(batch.rows == 2))
    alone.apply(
        Batch(
            rows=np.zeros(len(own), np.intp),
            observed_at_s=own.observed_at_s,
            values=own.values,
            channels=own.channels,
            keys=own.keys,
        )
    )
    theirs = alone.snapshot()
    for name, array in packed.snapshot().items():
        np.testing.assert_allclose(array[..., 2], theirs[name][..., 0], rtol=1e-9, atol=1e-12, err_msg=name)


# -- snapshots ---------------------------------------------------------------------------------------------------


@BOTH
@UNHURRIED
@given(inputs=st.lists(INPUTS, min_size=2, max_size=20), at=st.integers(0, 20))
def test_a_restored_table_goes_on_exactly_as_the_first(
    kind: Kind, inputs: list[tuple[Channel, int, int, int, tuple[float, ...]]], at: int
) -> None:
    batch = stream_of(inputs)
    first, second = tanks(4, kind), tanks(4, kind)
    first.apply(part_of(batch, slice(0, at)))
    first.show(T0 + 3000)  # latches are part of a snapshot
    second.restore(first.snapshot())
    for table in (first, second):
        table.apply(part_of(batch, slice(at, None)))
        table.show(T0 + 4000)
    one, other = first.snapshot(), second.snapshot()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
        assert array.dtype == other[name].dtype


@BOTH
def test_a_snapshot_is_a_copy(kind: Kind) -> None:
    table = tanks(2, kind)
    arrays = table.snapshot()
    before = table.snapshot()
    for array in arrays.values():
        array[...] = 1
    unchanged(table, before)
    table.restore(before)
    for array in before.values():
        array[...] = 1
    np.testing.assert_array_equal(table.x[0], [2, 2])


def test_a_snapshot_of_another_number_of_twins_is_refused() -> None:
    table = tanks(2)
    before = table.snapshot()
    with pytest.raises(ValueError, match=r"snapshot of kind tank: attributes has shape \(2, 3\), expected \(2, 2\)"):
        table.restore(tanks(3).snapshot())
    unchanged(table, before)


def test_a_snapshot_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"snapshot of another model of kind tank: covariance\.0, covariance\.1"):
        tanks(2).restore(tanks(2, JOINT).snapshot())
