"""What a twin actor does with batches: in order, once, of its epoch; commands, couplings, gaps and sources."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.unit.runtime.cities import (
    T0,
    TOWN,
    assert_same,
    delivery,
    holder,
    ids_of,
    says,
    send,
    stream,
    tells,
    with_fate,
)
from twin_actors.core.inputs import Channel
from twin_actors.runtime.holder import NOTHING_APPLIED, Holder
from twin_actors.runtime.packing import Delivery, pack

GATES = ("footfall/gate-1", "footfall/gate-2", "footfall/gate-3")
EVERYBODY = (*GATES, "substation/quay", "venue/arena")
QUAY, ARENA = 3, 4  # places in a holder of everybody

READINGS = stream(*[(number % 3, says(T0 + 10 * number, flow_pph=300.0 + number)) for number in range(12)])


def everything(of: Holder) -> tuple[Any, ...]:
    """All that a holder knows, for comparing it before and after."""
    return of.snapshot(), of.fates_by_entity(), of.outcomes()


def test_places_run_through_the_kinds() -> None:
    assert tuple(ids_of(holder())) == EVERYBODY


def test_a_fresh_holder_has_applied_nothing() -> None:
    outcomes = holder().outcomes()
    assert outcomes.offset == NOTHING_APPLIED
    assert with_fate(outcomes) == outcomes.rejected_fields == outcomes.missing_upstream == 0


def test_settling_changes_nothing_that_anybody_sees() -> None:
    settled, as_made = holder(), holder()
    before = [group.table.ids for group in settled.groups]
    settled.settle()
    assert ids_of(settled) == ids_of(as_made)
    for group, old in zip(settled.groups, before, strict=True):
        assert len(old) == 1 or group.table.ids[0] is not old[0]
    for each in (settled, as_made):
        send(each, *READINGS)
    assert everything(settled) == everything(as_made)


# -- order ---------------------------------------------------------------------------------------------------------


def test_batches_follow_each_other() -> None:
    twins = holder()
    assert send(twins, *READINGS[:5]).ok
    reply = send(twins, *READINGS[5:], after=4)
    assert reply.ok
    assert (reply.epoch, reply.incarnation) == (1, "a")
    assert (reply.outcomes.offset, reply.outcomes.applied) == (11, 12)
    assert reply.latest_s == T0 + 110.0
    assert reply.busy_s > 0


def test_offsets_of_other_actors_may_lie_between() -> None:
    twins = holder()
    assert send(twins, delivery(3, 0, says(T0, flow_pph=1.0)), delivery(9, 1, says(T0, flow_pph=2.0))).ok
    reply = send(twins, delivery(17, 0, says(T0 + 1, flow_pph=3.0)), after=9)
    assert (reply.ok, reply.outcomes.offset, reply.outcomes.applied) == (True, 17, 3)


def test_a_batch_after_a_gap_changes_nothing() -> None:
    twins = holder()
    send(twins, *READINGS[:5])
    before = everything(twins)
    reply = send(twins, *READINGS[8:], after=7)
    assert not reply.ok
    assert reply.outcomes.offset == 4
    assert reply.refused == []
    assert everything(twins) == before


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_batch_of_another_epoch_changes_nothing(epoch: int) -> None:
    twins = holder()
    before = everything(twins)
    reply = send(twins, *READINGS, epoch=epoch)
    assert (reply.ok, reply.epoch) == (False, 1)
    assert everything(twins) == before


def test_a_truncated_batch_changes_nothing() -> None:
    twins = holder()
    before = everything(twins)
    with pytest.raises(ValueError, match="bytes"):
        twins.apply(pack(1, NOTHING_APPLIED, READINGS)[:-1])
    assert everything(twins) == before


@pytest.mark.parametrize("first", range(8))
def test_an_overlapping_resend_is_applied_once(first: int) -> None:
    resent, straight = holder(), holder()
    send(resent, *READINGS[:8])
    assert send(resent, *READINGS[first:], after=first - 1).ok
    send(straight, *READINGS)
    assert_same(resent, straight, relative=0.0)


def test_a_resend_of_nothing_new_is_fine_and_changes_nothing() -> None:
    twins = holder()
    send(twins, *READINGS)
    before = everything(twins)
    assert send(twins, *READINGS[3:9], after=2).ok
    assert send(twins, after=11).ok
    assert everything(twins) == before


# -- readings ------------------------------------------------------------------------------------------------------


def test_every_element_of_a_list_is_a_reading() -> None:
    twins = holder()
    elements = [
        {"ts": T0 * 1000, "values": {"flow_pph": 500}},
        {"ts": T0 * 1000 + 1000, "values": {"flow_pph": -1}},  # out of range
        {"ts": T0 * 1000 + 2000, "values": {"flow_pph": "many"}},  # wrong type
        {"ts": T0 * 1000 + 3000, "values": {"flow_pph": 520}},
        {"ts": T0 * 1000, "values": {"flow_pph": 500}},  # again
        {"ts": T0 * 1000 + 500, "values": {"flow_pph": 510}},  # older than what is known
    ]
    reply = send(twins, delivery(0, 1, json.dumps(elements).encode()))
    outcomes = reply.outcomes
    assert (outcomes.applied, outcomes.duplicate, outcomes.late, outcomes.dead_lettered) == (2, 1, 1, 2)
    assert outcomes.rejected_fields == 1
    assert [(each.offset, each.element, each.reason) for each in reply.refused] == [
        (0, 1, "out_of_range"),
        (0, 2, "wrong_type"),
    ]
    assert twins.reported("footfall/gate-2")["value"].tolist() == [520.0]
    assert twins.fates_by_entity()[1]["footfall/gate-2"] == (2, 1, 1, 2)


def test_a_reading_ahead_of_our_clock_is_refused_with_the_words_for_its_sender() -> None:
    twins = holder()
    reply = send(
        twins,
        delivery(0, 0, says(T0 + 5.0, flow_pph=1.0), received_at_s=T0),
        delivery(1, 0, says(T0 + 65.0, flow_pph=2.0), received_at_s=T0),
    )
    assert (reply.outcomes.applied, reply.outcomes.dead_lettered) == (1, 1)
    (refused,) = reply.refused
    assert (refused.offset, refused.reason) == (1, "clock_ahead")
    assert "65 s ahead" in refused.detail
    assert "allowed: 5 s" in refused.detail
    assert reply.latest_s == T0 + 5.0


def test_a_reading_without_a_time_counts_from_its_arrival() -> None:
    twins = holder()
    reply = send(twins, delivery(0, 0, says(flow_pph=700.0), received_at_s=T0 + 7.5))
    assert reply.latest_s == T0 + 7.5
    assert twins.reported("footfall/gate-1")["time_s"] == T0 + 7.5


def test_refusals_come_in_log_order() -> None:
    twins = holder()
    reply = send(
        twins,
        delivery(0, ARENA, b"nonsense"),
        delivery(1, 0, says(T0, flow_pph=-5.0)),
        delivery(2, QUAY, says(T0, load_mw=1e6)),
        delivery(3, 0, says(T0 + 9e9, flow_pph=5.0)),
    )
    assert [each.offset for each in reply.refused] == [0, 1, 2, 3]


def test_fleets_with_their_own_fields_are_decoded_by_them() -> None:
    text = TOWN + (
        "fleets:\n"
        "  - {topic: plain/+/data, kind: footfall, name: '{1}', fields: {flow_pph: flow_pph}}\n"
        "  - {topic: foreign/+/data, kind: footfall, name: '{1}',\n"
        "     fields: {pm: {field: flow_pph, factor: 60}}}\n"
    )
    twins = holder(text)
    foreign = json.dumps({"ts": T0 * 1000, "pm": 5}).encode()
    reply = send(
        twins,
        delivery(0, 0, says(T0, flow_pph=100.0), source=0),
        delivery(1, 1, says(T0, flow_pph=200.0), source=1),
        delivery(2, 2, foreign, source=2),
        delivery(3, 0, foreign, source=0),  # the city's own topics know no such field
    )
    assert [each.offset for each in reply.refused] == [3]
    assert [twins.reported(gate)["value"].item() for gate in GATES] == [100.0, 200.0, 300.0]


def test_an_unknown_entity_has_not_been_reported() -> None:
    with pytest.raises(KeyError, match="gate-9"):
        holder().reported("footfall/gate-9")


# -- gaps ----------------------------------------------------------------------------------------------------------


def numbered(*numbers: tuple[str | None, int | None]) -> list[Delivery]:
    return stream(
        *[
            (0, says(T0 + place, boot=boot, seq=seq, flow_pph=100.0 + place))
            for place, (boot, seq) in enumerate(numbers)
        ]
    )


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([("x", 0), ("x", 1), ("x", 2)], 0),
        ([("x", 5), ("x", 6)], 0),  # what was before the first one we cannot know
        ([("x", 0), ("x", 4)], 3),
        ([("x", 0), ("x", 4), ("x", 4), ("x", 9)], 7),  # a redelivery is no gap
        ([("x", 7), ("y", 0), ("y", 1)], 0),  # the device has restarted
        ([("x", 7), ("y", 3), ("y", 5)], 1),
        ([("x", 1), ("y", 9)], 0),
        ([(None, 1), (None, 3)], 1),
        ([(None, None), (None, None)], 0),
    ],
)
def test_gaps_in_a_devices_own_numbers_are_missing_upstream(
    numbers: list[tuple[str | None, int | None]], missing: int
) -> None:
    together, one_by_one = holder(), holder()
    deliveries = numbered(*numbers)
    assert send(together, *deliveries).outcomes.missing_upstream == missing
    for each in deliveries:
        send(one_by_one, each, after=each.offset - 1)
    assert one_by_one.outcomes().missing_upstream == missing
    assert one_by_one.reported("footfall/gate-1")["missing_upstream"] == missing


# -- commands and couplings ----------------------------------------------------------------------------------------


def column(of: Holder, entity: str, at_s: float) -> dict[str, Any]:
    """One twin's columns as shown at ``at_s``, by record."""
    kind, place = entity.split("/")[0], ids_of(of).index(entity)
    shown = of.show(at_s, with_control=False)[kind]
    first = next(group.first for group in of.groups if group.table.kind.name == kind)
    return {name: getattr(shown, name)[:, place - first] for name in ("command", "desired", "couplings", "x")}


def test_an_issued_command_is_desired_and_an_acknowledged_one_in_force() -> None:
    twins = holder()
    send(twins, delivery(0, ARENA, tells(T0, gates_open=0.25), channel=Channel.DESIRED))
    shown = column(twins, "venue/arena", T0 + 1)
    assert (shown["desired"].item(), shown["command"].item()) == (0.25, 1.0)
    send(twins, delivery(1, ARENA, tells(T0 + 2, gates_open=0.5), channel=Channel.COMMAND), after=0)
    shown = column(twins, "venue/arena", T0 + 3)
    assert (shown["desired"].item(), shown["command"].item()) == (0.25, 0.5)
    assert with_fate(twins.outcomes()) == 0  # the ledger counts readings only


def test_vectors_and_parts_of_a_command() -> None:
    twins = holder()
    send(twins, delivery(0, QUAY, tells(T0, block_shed=[1, 0, 1, 0, 0]), channel=Channel.COMMAND))
    assert column(twins, "substation/quay", T0)["command"][:5].tolist() == [1, 0, 1, 0, 0]


def test_a_coupling_moves_the_twin_and_lapses() -> None:
    twins = holder()
    send(
        twins,
        delivery(0, ARENA, says(T0, in_persons=100, out_persons=0)),
        delivery(1, ARENA, tells(T0, arrivals_pmin=60.0), channel=Channel.COUPLING),
    )
    quiet = holder()
    send(quiet, delivery(0, ARENA, says(T0, in_persons=100, out_persons=0)))
    more = column(twins, "venue/arena", T0 + 600)["x"] - column(quiet, "venue/arena", T0 + 600)["x"]
    assert more[0] == pytest.approx(600.0)  # ten minutes of 60 persons
    assert column(twins, "venue/arena", T0 + 800)["couplings"].item() == 60.0
    assert column(twins, "venue/arena", T0 + 901)["couplings"].item() == 0.0


@pytest.mark.parametrize(
    "payload",
    [
        tells(T0, gates_wide=0.5),
        tells(T0, gates_open="half"),
        tells(T0, gates_open=None),
        tells(T0, gates_open=[0.5, 0.5]),
        b"{}",
        b"\xff",
    ],
)
@pytest.mark.parametrize("channel", [Channel.DESIRED, Channel.COMMAND])
def test_a_command_that_cannot_be_read_does_not_hold_up_what_follows(payload: bytes, channel: Channel) -> None:
    twins = holder()
    reply = send(
        twins,
        delivery(0, ARENA, says(T0, in_persons=10)),
        delivery(1, ARENA, payload, channel=channel),
        delivery(2, ARENA, tells(T0 + 1, gates_open=0.5), channel=Channel.COMMAND),
        delivery(3, ARENA, says(T0 + 2, in_persons=12)),
    )
    assert (reply.ok, reply.outcomes.offset, reply.outcomes.applied) == (True, 3, 2)
    assert [(each.offset, each.reason) for each in reply.refused] == [(1, "wrong_type")]
    assert "the city's own input" in reply.refused[0].detail
    assert column(twins, "venue/arena", T0 + 3)["command"].item() == 0.5


def test_a_channel_without_a_record_is_refused() -> None:
    twins = holder()
    unknown = delivery(0, ARENA, tells(T0, gates_open=0.5))._replace(channel=9)
    ours = delivery(1, 0, tells(T0, speed=1.0), channel=Channel.COUPLING)  # a counter takes no couplings
    reply = send(twins, unknown, ours)
    assert [each.offset for each in reply.refused] == [0, 1]
    assert "footfall has no coupling field 'speed'" in reply.refused[1].detail


def test_inputs_of_all_sorts_keep_their_order_in_one_batch() -> None:
    inputs = [
        delivery(0, ARENA, says(T0, in_persons=100, out_persons=0)),
        delivery(1, ARENA, tells(T0 + 60, gates_open=0.0), channel=Channel.COMMAND),
        delivery(2, QUAY, says(T0 + 60, load_mw=20.0, oil_temp_c=45.0)),
        delivery(3, ARENA, says(T0 + 120, in_persons=160, out_persons=5)),
        delivery(4, ARENA, tells(T0 + 120, arrivals_pmin=60.0), channel=Channel.COUPLING),
        delivery(5, ARENA, tells(T0 + 180, gates_open=1.0), channel=Channel.COMMAND),
        delivery(6, QUAY, tells(T0 + 180, transfer_mw=3.0), channel=Channel.COUPLING),
        delivery(7, QUAY, says(T0 + 240, load_mw=22.0)),
    ]
    together, one_by_one = holder(), holder()
    send(together, *inputs)
    for each in inputs:
        send(one_by_one, each, after=each.offset - 1)
    assert_same(together, one_by_one)


def test_showing_gives_every_kind_and_changes_no_twin() -> None:
    twins = holder()
    send(twins, *READINGS)
    before = twins.snapshot()
    shown = twins.show(T0 + 500.0, with_control=True)
    assert list(shown) == ["footfall", "substation", "venue"]
    assert shown["footfall"].x.shape == (2, 3)
    assert shown["venue"].proposed is not None
    assert np.isinf(shown["venue"].age_s).all()
    twins.show(T0 + 500.0, with_control=True)
    assert twins.snapshot() == before
