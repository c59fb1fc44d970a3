"""Packed groups: any entries come back, and no cut or swollen blob passes for a group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_actors.store import NOBODY, Entry, StoreDamaged
from twin_actors.store.groups import blob_bytes, pack, unpack

ENTRIES = st.lists(
    st.builds(
        Entry,
        entity=st.integers(NOBODY, 2**31 - 1),
        channel=st.integers(0, 255),
        source=st.integers(-(2**31), 2**31 - 1),
        received_at_s=st.floats(allow_nan=False),
        payload=st.binary(max_size=30),
    ),
    min_size=1,
    max_size=20,
)


@settings(deadline=None, max_examples=100)
@given(entries=ENTRIES, first=st.integers(0, 2**60), data=st.data())
def test_any_group_comes_back_whole_or_in_part(entries: list[Entry], first: int, data: st.DataObject) -> None:
    blob = pack(entries)
    assert len(blob) == blob_bytes(entries)
    group = unpack(first, blob)
    numbered = list(enumerate(entries, start=first))
    assert group.entries() == numbered
    start, stop = data.draw(st.integers(0, 25)), data.draw(st.integers(0, 25))
    assert group.entries(slice(start, stop)) == numbered[start:stop]
    chosen = data.draw(st.lists(st.integers(0, len(entries) - 1), unique=True).map(sorted))
    assert group.entries(np.array(chosen, np.intp)) == [numbered[place] for place in chosen]


@settings(deadline=None, max_examples=50)
@given(entries=ENTRIES, cut=st.integers(1, 40))
def test_a_cut_or_swollen_group_is_damaged(entries: list[Entry], cut: int) -> None:
    blob = pack(entries)
    for wrong in (blob[:-cut], blob + bytes(cut), b""):
        with pytest.raises(StoreDamaged, match="the group at offset 7"):
            unpack(7, wrong)
