"""Batches between router and twin actor: what goes in comes out, and nothing else is taken for a batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtime.cities import UNHURRIED
from twin_actors.runtime.packing import Delivery, pack, unpack

DELIVERIES = st.lists(
    st.builds(
        Delivery,
        offset=st.integers(0, 2**62),
        place=st.integers(0, 2**31 - 1),
        channel=st.integers(0, 255),
        source=st.integers(0, 2_046),
        received_at_s=st.floats(allow_nan=False, allow_infinity=False),
        payload=st.binary(max_size=40),
    ),
    max_size=12,
)


@UNHURRIED
@given(st.integers(0, 2**31 - 1), st.integers(-1, 2**62), DELIVERIES)
def test_whatever_is_packed_comes_out_again(epoch: int, after: int, deliveries: list[Delivery]) -> None:
    batch = unpack(pack(epoch, after, deliveries))
    assert (batch.epoch, batch.after) == (epoch, after)
    columns = (batch.offsets, batch.places, batch.channels, batch.sources, batch.received_at_s)
    again = zip(*(column.tolist() for column in columns), batch.payloads, strict=True)
    assert [Delivery(*each) for each in again] == deliveries


@UNHURRIED
@given(DELIVERIES, st.data())
def test_a_blob_that_is_cut_short_is_refused(deliveries: list[Delivery], data: st.DataObject) -> None:
    blob = pack(1, -1, deliveries)
    length = data.draw(st.integers(0, len(blob) - 1))
    with pytest.raises(ValueError, match=r"bytes|buffer"):
        unpack(blob[:length])


@pytest.mark.parametrize("deliveries", [[], [Delivery(0, 0, 0, 0, 0.0, b"{}")]], ids=["empty", "one"])
def test_a_blob_with_a_tail_is_refused(deliveries: list[Delivery]) -> None:
    with pytest.raises(ValueError, match="its head says"):
        unpack(pack(1, -1, deliveries) + b"x")
