"""Bundles: many readings as one entry, which every engine gives back one by one, at offsets of their own."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.places import Place
from twin_actors.core.bundle import Bundle
from twin_actors.runtime.numbering import NumberedLog
from twin_actors.store import NOBODY, Entry, Store, StoreDamaged
from twin_actors.store.bundles import BUNDLE, count_inputs, expanded, inputs, pack, unpack
from twin_actors.store.history import Retention

NUMBERS = st.floats(allow_infinity=False)


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    fields = tuple((f"field_{place}", size) for place, size in enumerate(sizes))
    n = draw(st.integers(1, 6))
    rows = sum(max(size, 1) for size in sizes)
    values = np.array(draw(st.lists(st.lists(NUMBERS, min_size=n, max_size=n), min_size=rows, max_size=rows)))
    seq = draw(st.none() | st.lists(st.integers(-1, 2**62), min_size=n, max_size=n))
    return Bundle(
        fields,
        np.array(draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)), np.int32),
        np.array(draw(st.lists(st.floats(0, 2e12) | st.just(math.nan), min_size=n, max_size=n))),
        values,
        None if seq is None else np.array(seq, np.int64),
    )


def entry_of(bundle: Bundle, at_s: float = 5.0) -> Entry:
    return Entry(BUNDLE, 0, 0, at_s, pack(bundle))


SINGLES = st.builds(
    Entry, st.integers(NOBODY, 5), st.integers(0, 20), st.just(3), st.floats(0, 9), st.binary(max_size=9)
)
GROUPS = st.lists(st.lists(SINGLES | bundles().map(entry_of), min_size=1, max_size=4), min_size=1, max_size=4)


def say(bundle: Bundle, place: int) -> dict[str, Any]:
    """What one reading of a bundle says, straight from its columns."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    values: dict[str, Any] = {}
    row = 0
    for name, size in bundle.fields:
        column = [number(value) for value in bundle.values[row : row + max(size, 1), place].tolist()]
        values[name] = column if size else column[0]
        row += max(size, 1)
    said: dict[str, Any] = {"ts": number(float(bundle.ts_ms[place])), "values": values}
    if bundle.seq is not None:
        said["seq"] = None if bundle.seq[place] < 0 else int(bundle.seq[place])
    return said


@given(bundles())
def test_a_bundle_comes_back_and_its_readings_say_what_it_says(bundle: Bundle) -> None:
    entry = entry_of(bundle)
    again = unpack(entry.payload)
    assert again.fields == bundle.fields
    for name in ("numbers", "ts_ms", "values"):
        np.testing.assert_array_equal(getattr(again, name), getattr(bundle, name))
    assert (again.seq is None) == (bundle.seq is None)
    singles = list(expanded([entry]))
    assert len(singles) == inputs(entry) == len(bundle)
    assert [single.entity for single in singles] == bundle.numbers.tolist()
    assert [json.loads(single.payload) for single in singles] == [say(bundle, n) for n in range(len(bundle))]


@pytest.mark.parametrize("cut", [0, 3, 8, -1])
def test_a_bundle_that_is_cut_short_is_none(cut: int) -> None:
    blob = pack(Bundle((("a", 0),), np.array([1], np.int32), np.array([1.0]), np.array([[2.0]])))
    with pytest.raises(ValueError, match="bundle"):
        unpack(blob[:cut])


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=GROUPS, first=st.integers(0, 30), limit=st.integers(0, 30))
def test_every_reading_has_an_offset_of_its_own(
    any_store: Store, groups: list[list[Entry]], first: int, limit: int
) -> None:
    log = any_store.log("router")
    began = log.next_offset  # examples share the store
    at = began
    for group in groups:
        assert log.append(1, group, at) == at
        assert log.append(1, group, at) == at, "said again, because its outcome was not known"
        at += count_inputs(group)
    singles = [single for group in groups for single in expanded(group)]
    assert log.next_offset == at == began + len(singles)
    numbered = list(enumerate(singles, start=began))
    assert log.read(began, 10**6) == numbered
    assert log.read(began + first, limit) == numbered[first:][:limit]
    together = log.read(began + first, limit, together=True)
    assert [each for offset, entry in together for each in enumerate(expanded([entry]), start=offset)] == (
        numbered[first:][:limit]
    )
    for entity in {single.entity for single in singles}:
        assert log.read_of(entity, first=began) == [each for each in numbered if each[1].entity == entity]


@settings(deadline=None, max_examples=25)
@given(groups=GROUPS, before=st.integers(0, 40))
def test_memory_forgets_a_part_of_a_bundle(groups: list[list[Entry]], before: int) -> None:
    from twin_actors.store import MemoryStore

    log = MemoryStore(0).log("router")
    for group in groups:
        log.append(1, group)
    singles = [single for group in groups for single in expanded(group)]
    log.trim(before)
    kept = min(before, len(singles))
    assert log.kept_from == kept
    assert log.read(kept, 100) == list(enumerate(singles, start=0))[kept:]
    assert log.append(1, [Entry(0, 0, 0, 0.0, b"x")]) == len(singles)
    log.trim(10**6)
    assert log.held_bytes == 0


def test_lasting_numbers_stand_in_the_log(any_store: Store) -> None:
    bundle = Bundle((("a", 0),), np.array([1, 0], np.int32), np.array([1.0, 2.0]), np.array([[3.0, 4.0]]))
    plain = any_store.log("router")
    numbered = NumberedLog(plain, [7, 40])
    numbered.append(1, [entry_of(bundle)])
    assert [entry.entity for _, entry in plain.read(0, 9)] == [40, 7]
    assert [entry.entity for _, entry in numbered.read(0, 9)] == [1, 0]
    assert [offset for offset, _ in numbered.read_of(0)] == [1]


def test_sealed_history_knows_every_reading_of_a_bundle(durable_place: Place) -> None:
    pytest.importorskip("pyarrow")
    store = durable_place.open()
    log = store.log("router")
    n = 50
    bundle = Bundle((("a", 0),), np.arange(n, dtype=np.int32), np.arange(n) + 0.0, np.arange(n)[None] + 0.5)
    log.append(1, [entry_of(bundle, at_s=100.0 + k) for k in range(3)])
    log.trim(3 * n)
    store.tidy(1e6, Retention(raw_s=1e9, minute_s=1e9, hour_s=1e9))
    found = log.read_of(7)
    assert [offset for offset, _ in found] == [7, n + 7, 2 * n + 7]
    assert [json.loads(entry.payload)["values"]["a"] for _, entry in found] == [7.5] * 3
    (_, second), _ = log.read(n, 2)
    assert (second.entity, second.received_at_s) == (0, 101.0)
    assert len(log.read(0, 1000)) == 3 * n


def test_a_damaged_bundle_in_a_group_is_found(durable_place: Place) -> None:
    if durable_place.engine != "sqlite":
        pytest.skip("PostgreSQL keeps its readings as rows")
    log = durable_place.open().log("router")
    log.append(1, [Entry(BUNDLE, 0, 0, 1.0, pack(
        Bundle((("a", 0),), np.array([1], np.int32), np.array([1.0]), np.array([[2.0]])))[:-1])])  # fmt: skip
    with pytest.raises(StoreDamaged, match="bundle"):
        log.read(0, 1)
