"""The router's queues: numbering, batches, shedding, rewinding to what the log still holds."""

from __future__ import annotations

import json

import pytest

from tests.unit.runtime.cities import T0, says
from tests.unit.runtime.simulated_city import SimulatedCity
from twin_actors.core.inputs import Channel
from twin_actors.runtime.holder import Outcomes, Reply
from twin_actors.runtime.intake import Refused
from twin_actors.runtime.packing import LARGEST_BATCH, PER_INPUT_BYTES, unpack
from twin_actors.runtime.routing import LARGEST_COUNT
from twin_actors.store import LogTrimmed, StaleEpoch

SMALL = says(T0, flow_pph=1.0)


def reply_at(offset: int, *, applied: int, refused: tuple[Refused, ...] = ()) -> Reply:
    outcomes = Outcomes(offset, applied, 0, 0, len(refused), 0, 0)
    return Reply(True, 1, "a", outcomes, list(refused), T0, 0.5)


def test_nothing_is_committed_when_nothing_came() -> None:
    city = SimulatedCity()
    assert city.routing.commit(0.0) == []
    assert city.routing.next_batch(city.lines["rest"].share) is None


def test_inputs_go_to_the_share_and_place_of_their_twin() -> None:
    city = SimulatedCity()
    for entity in (4, 0, 3, 2):
        city.arrive(entity, SMALL)
    assert city.routing.fresh == 4
    city.commit()
    assert city.routing.fresh == 0
    counters, rest = (line.share for line in city.lines.values())
    assert [(each.offset, each.place) for each in counters.waiting] == [(1, 0), (3, 2)]
    assert [(each.offset, each.place) for each in rest.waiting] == [(0, 1), (2, 0)]
    assert (counters.entities, rest.entities) == ([0, 1, 2], [3, 4])
    assert [city.routing.received_by(share) for share in (counters, rest)] == [2, 2]


def test_a_list_counts_its_elements() -> None:
    city = SimulatedCity()
    city.arrive(1, b"[" + b",".join([SMALL] * 3) + b"]")
    assert city.routing.accounts.received == [0, 3, 0, 0, 0]
    assert list(city.routing.on_their_way()) == [("counters", 2**62, 1, 3)]
    city.commit()
    assert list(city.routing.on_their_way()) == [("counters", 0, 1, 3)]


def test_what_nobody_can_take_is_dead_at_once() -> None:
    city = SimulatedCity()
    assert city.routing.refuse("t", "not_json", "", b"[1, 2]", T0) == 2
    assert city.routing.refuse("t", "too_large", "", b"x" * 300_000, T0, 3) == 1
    ledger = city.routing.ledger()
    assert (ledger.received, ledger.dead_lettered, ledger.unexplained) == (3, 3, 0)
    accounts = city.routing.accounts
    assert accounts.dead[3] == accounts.received[3] == 1
    assert accounts.dead_by_nobody == accounts.received_by_nobody == 2
    notes = city.routing.commit(0.0)
    assert [(offset, entry.entity, entry.channel) for offset, entry in notes] == [(0, -1, 16), (1, 3, 16)]


def test_a_stale_router_keeps_what_it_could_not_commit() -> None:
    city = SimulatedCity()
    city.arrive(0, SMALL)
    city.store.log("router").append(2, [])  # a newer router has taken over
    with pytest.raises(StaleEpoch):
        city.routing.commit(0.0)
    assert city.routing.fresh == 1
    assert city.routing.ledger().balanced


# -- batches -------------------------------------------------------------------------------------------------------


def test_batches_follow_each_other_without_gap_or_overlap() -> None:
    city = SimulatedCity()
    share = city.lines["counters"].share
    afters, offsets = [], []
    for _ in range(3):
        for entity in (0, 3, 1):
            city.arrive(entity, SMALL)
        city.commit()
        blob = city.routing.next_batch(share)
        assert blob is not None
        batch = unpack(blob)
        afters.append(batch.after)
        offsets.append(batch.offsets.tolist())
    assert offsets == [[0, 2], [3, 5], [6, 8]]
    assert afters == [-1, 2, 5]


def test_a_batch_is_bounded_by_count() -> None:
    city = SimulatedCity(backlog=10 * LARGEST_COUNT, in_memory=10 * LARGEST_COUNT)
    together = LARGEST_COUNT // 8
    said = {
        "kind": "footfall",
        "entities": ["gate-1"] * together,
        "ts": T0 * 1000,
        "values": {"flow_pph": [500.0] * together},
    }
    for _ in range(9):
        city.arrive_together(json.dumps(said).encode())
    city.arrive(0, b"{}")
    city.commit()
    share = city.lines["counters"].share
    sizes = [len(unpack(city.routing.next_batch(share) or b"").payloads) for _ in range(2)]
    assert sizes == [LARGEST_COUNT, together + 1]


def test_a_batch_is_bounded_by_bytes_and_a_huge_message_goes_alone() -> None:
    city = SimulatedCity()
    large = b" " * (LARGEST_BATCH // 2 - PER_INPUT_BYTES)
    for payload in (large, large, SMALL, b" " * (3 * LARGEST_BATCH), SMALL):
        city.arrive(0, payload)
    city.commit()
    share = city.lines["counters"].share
    sizes = [len(unpack(city.routing.next_batch(share) or b"").payloads) for _ in range(4)]
    assert sizes == [2, 1, 1, 1]


# -- answers -------------------------------------------------------------------------------------------------------


def test_an_answer_clears_what_it_covers_and_gives_refused_readings_their_bytes() -> None:
    city = SimulatedCity()
    share = city.lines["counters"].share
    for payload in (SMALL, b"broken", SMALL):
        city.arrive(0, payload)
        city.commit()
        city.routing.next_batch(share)
    refused = Refused(1, 0, "not_json", "at byte 0")
    assert [each.offset for each in share.under_way] == [0, 1, 2]
    ((of, delivery),) = city.routing.confirm(share, reply_at(1, applied=1, refused=(refused,)))
    assert (of, delivery.payload) == (refused, b"broken")
    assert [each.offset for each in share.under_way] == [2]
    assert (share.latest_s, share.busy_s) == (T0, 0.5)


def test_told_inputs_are_logged_but_not_in_the_ledger() -> None:
    city = SimulatedCity()
    city.tell(4, Channel.COMMAND, T0, gates_open=0.5)
    city.commit()
    (waiting,) = city.lines["rest"].share.waiting
    told = json.loads(waiting.payload)
    assert (waiting.channel, told["at_s"], told["values"]) == (2, T0, {"gates_open": 0.5})
    assert list(city.routing.on_their_way()) == []
    assert city.routing.ledger().received == 0


# -- shedding ------------------------------------------------------------------------------------------------------


def test_commands_and_couplings_are_never_shed() -> None:
    city = SimulatedCity(backlog=2)
    for number in range(4):
        city.tell(4, Channel.COMMAND, T0 + number, gates_open=0.5)
        city.arrive(4, says(T0 + number, in_persons=number), qos=0)
        city.commit()
    share = city.lines["rest"].share
    assert [each.channel for each in share.waiting].count(Channel.COMMAND) == 4
    assert [each.offset for each in share.waiting if each.channel == Channel.READING] == [1]
    ledger = city.routing.ledger()
    assert (ledger.received, ledger.shed, ledger.in_flight, ledger.unexplained) == (4, 2, 2, 0)


def test_where_nothing_is_durable_all_readings_may_be_shed() -> None:
    city = SimulatedCity(backlog=1)
    city.routing._durable = False
    for number in range(3):
        city.arrive(0, says(T0 + number, flow_pph=1.0), qos=1)
        city.commit()
    assert city.routing.ledger().shed == 1


# -- what waits in the log -----------------------------------------------------------------------------------------


def test_what_has_no_room_in_memory_waits_in_the_log_and_comes_in_order() -> None:
    city = SimulatedCity(in_memory=2)
    for number in range(7):
        city.arrive(number % 2, says(T0 + number, flow_pph=1.0))
    city.commit()
    share = city.lines["counters"].share
    assert ([each.offset for each in share.waiting], share.spilled, share.load) == ([0, 1], 5, 7)
    assert share.spilled_readings == {0: 3, 1: 2}
    assert city.routing.ledger().in_flight == 7
    offsets = []
    while (blob := city.routing.next_batch(share)) is not None:
        offsets += unpack(blob).offsets.tolist()
    assert offsets == list(range(7))
    assert (share.spilled, share.spilled_from, share.spilled_readings) == (0, None, {})


# -- rewinding -----------------------------------------------------------------------------------------------------


def test_a_rewind_keeps_the_order_of_what_waits() -> None:
    city = SimulatedCity()
    share = city.lines["counters"].share
    for _ in range(3):
        city.arrive(0, SMALL)
        city.commit()
        city.routing.next_batch(share)
    city.arrive(0, SMALL)
    city.commit()
    city.routing.rewind(share, 0)
    assert [each.offset for each in share.waiting] == [1, 2, 3]
    assert (len(share.under_way), share.sent, share.resent) == (0, 0, 2)
    assert unpack(city.routing.next_batch(share) or b"").after == 0


def test_a_rewind_behind_the_log_says_so_and_loses_no_count() -> None:
    city = SimulatedCity()
    share = city.lines["counters"].share
    for _ in range(3):
        city.arrive(0, SMALL)
    city.commit()
    city.routing.next_batch(share)
    city.routing.confirm(share, reply_at(2, applied=3))
    city.routing.trim(2)
    with pytest.raises(LogTrimmed, match="offset 0 was trimmed"):
        city.routing.rewind(share, -1)
    assert share.outcomes.applied == 3
    assert city.routing.ledger().balanced
    city.routing.rewind(share, 1)
    blob = city.routing.next_batch(share)
    assert blob is not None
    assert unpack(blob).offsets.tolist() == [2]
    assert city.routing.ledger().balanced


def test_refused_readings_of_which_the_answer_was_lost_are_read_from_the_log() -> None:
    city = SimulatedCity()
    share = city.lines["counters"].share
    city.arrive(0, b"broken")
    city.commit()
    refused = Refused(0, 0, "not_json", "at byte 0")
    ((of, delivery),) = city.routing.confirm(share, reply_at(0, applied=0, refused=(refused,)))
    assert (of, delivery.payload, delivery.place) == (refused, b"broken", 0)
