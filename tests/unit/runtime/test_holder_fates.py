"""Whatever devices send, every reading has exactly one fate; and twins come back from snapshots as they were."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtime.cities import (
    T0,
    TOWN,
    UNHURRIED,
    assert_same,
    delivery,
    holder,
    says,
    send,
    stream,
    with_fate,
)
from tests.unit.runtime.streams_of_readings import RECEIVED_S, inputs
from twin_actors.core.inputs import Channel
from twin_actors.runtime.packing import Delivery
from twin_actors.wire.elements import count_readings
from twin_actors.wire.reasons import Reason


def as_deliveries(log: list[tuple[Channel, int, bytes]]) -> list[Delivery]:
    return [
        delivery(offset, place, payload, channel=channel, received_at_s=RECEIVED_S)
        for offset, (channel, place, payload) in enumerate(log)
    ]


def readings_in(deliveries: list[Delivery]) -> int:
    return sum(count_readings(each.payload) for each in deliveries if each.channel == Channel.READING)


LOGS = st.lists(inputs(), min_size=1, max_size=14)


@UNHURRIED
@given(LOGS)
def test_every_reading_has_exactly_one_fate(log: list[tuple[Channel, int, bytes]]) -> None:
    twins, deliveries = holder(), as_deliveries(log)
    refused = []
    for each in deliveries:
        reply = send(twins, each, after=each.offset - 1)
        assert reply.ok
        assert with_fate(reply.outcomes) == readings_in(deliveries[: each.offset + 1])
        refused += reply.refused
    assert len(refused) == reply.outcomes.dead_lettered
    assert len({(each.offset, each.element) for each in refused}) == len(refused)
    assert all(Reason(each.reason) and each.detail for each in refused)
    assert np.sum(list(twins.fates_by_entity()[1].values())) == with_fate(reply.outcomes)


@UNHURRIED
@given(LOGS, st.data())
def test_any_cut_into_batches_gives_the_same_twins(log: list[tuple[Channel, int, bytes]], data: st.DataObject) -> None:
    deliveries = as_deliveries(log)
    together, cut = holder(), holder()
    send(together, *deliveries)
    first = 0
    while first < len(deliveries):
        stop = data.draw(st.integers(first + 1, len(deliveries)))
        assert send(cut, *deliveries[first:stop], after=first - 1).ok
        first = stop
    assert_same(cut, together)


@UNHURRIED
@given(LOGS, st.data())
def test_a_twin_goes_on_from_its_snapshot_as_if_nothing_had_happened(
    log: list[tuple[Channel, int, bytes]], data: st.DataObject
) -> None:
    deliveries = as_deliveries(log)
    at = data.draw(st.integers(0, len(deliveries)))
    lived, reborn = holder(), holder(incarnation="b")
    send(lived, *deliveries[:at])
    offset, blob = lived.snapshot()
    assert offset == at - 1
    reborn.restore(offset, blob)
    assert_same(reborn, lived, relative=0.0)
    assert reborn.latest_s == lived.latest_s
    if at < len(deliveries):
        send(lived, *deliveries[at:], after=offset)
        assert send(reborn, *deliveries[at:], after=offset).ok
    assert_same(reborn, lived)
    assert reborn.snapshot() == lived.snapshot()


def test_a_snapshot_keeps_the_devices_numbering() -> None:
    lived, reborn = holder(), holder()
    send(lived, *stream((0, says(T0, boot="x", seq=4, flow_pph=1.0)), (0, says(T0 + 1, boot="x", seq=6, flow_pph=2.0))))
    reborn.restore(*lived.snapshot())
    reply = send(reborn, *stream((0, says(T0 + 2, boot="x", seq=9, flow_pph=3.0)), first=2), after=1)
    assert reply.outcomes.missing_upstream == 3


@pytest.mark.parametrize(
    "other",
    [
        holder(entities=["footfall/gate-1", "footfall/gate-2", "footfall/gate-3"]),  # fewer kinds
        holder(entities=["footfall/gate-1", "substation/quay", "venue/arena"]),  # fewer twins
        holder(TOWN.replace("gate-{n}", "door-{n}")),  # as many, but others
    ],
    ids=["kinds", "twins", "names"],
)
def test_a_snapshot_of_other_twins_is_refused(other: object) -> None:
    twins = holder()
    before = twins.snapshot()
    with pytest.raises(ValueError, match="other twins"):
        twins.restore(*other.snapshot())  # type: ignore[attr-defined]
    assert twins.snapshot() == before


def test_what_is_no_snapshot_is_refused() -> None:
    twins = holder()
    offset, blob = twins.snapshot()
    for broken in (b"", blob[:-1], msgspec.msgpack.encode(5), msgspec.msgpack.encode({})):
        with pytest.raises(ValueError, match="snapshot"):
            twins.restore(offset, broken)
