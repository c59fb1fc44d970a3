"""Router and twin actors through any course of events: the ledger balances at every step, the twins come out right."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.runtime.cities import T0, UNHURRIED, assert_same, says
from tests.unit.runtime.simulated_city import ACTORS, ENTITIES, SimulatedCity
from tests.unit.runtime.streams_of_readings import gateway_payloads, inputs, payloads
from twin_actors.core.inputs import Channel
from twin_actors.runtime.packing import Delivery
from twin_actors.store import Entry
from twin_actors.store.bundles import BUNDLE, count
from twin_actors.wire.elements import count_readings

Event = tuple[str, Any]


def events() -> st.SearchStrategy[list[Event]]:
    """What may happen in a city, readings more often than accidents."""
    arrival = st.tuples(st.just("input"), inputs())
    to_actor = st.sampled_from(["send", "apply", "answer"])
    accident = st.sampled_from(["lose_call", "lose_answers", "snapshot", "restart", "suspect"])
    return st.lists(
        st.one_of(
            arrival,
            arrival,
            st.tuples(st.sampled_from(["arrive_together", "flood_together"]), gateway_payloads()),
            st.tuples(st.sampled_from(["commit", "commit", "trim", "keep", "router_restart"]), st.none()),
            st.tuples(st.just("flood"), inputs()),
            st.tuples(to_actor, st.sampled_from(list(ACTORS))),
            st.tuples(to_actor, st.sampled_from(list(ACTORS))),
            st.tuples(accident, st.sampled_from(list(ACTORS))),
            st.tuples(st.sampled_from(["refuse", "refuse_of"]), payloads()),
        ),
        max_size=40,
    )


def readings_in(waiting: Entry | Delivery) -> int:
    if BUNDLE in (waiting[0], waiting[1]):
        return count(waiting.payload)
    return count_readings(waiting.payload)


def happen(city: SimulatedCity, event: Event) -> None:
    what, about = event
    if what in ("input", "flood"):
        channel, place, payload = about
        if channel == Channel.READING:
            city.arrive(place, payload, qos=1 if what == "input" else 0)
        elif channel == Channel.COUPLING:
            city.tell(place, channel, T0 + 5.0, **({"transfer_mw": 2.0} if place == 3 else {"arrivals_pmin": 30.0}))
        else:
            city.tell(place, channel, T0 + 10.0, gates_open=0.5)
    elif what == "flood_together":
        city.arrive_together(about, qos=0)
    elif what == "refuse_of":
        city.refuse_of(2, about)
    elif about is None:
        getattr(city, what)()
    else:
        getattr(city, what)(about)


def assert_balanced(city: SimulatedCity) -> None:
    ledger = city.routing.ledger()
    assert ledger.unexplained == 0, str(ledger)
    assert ledger.received == city.came
    assert ledger.shed == sum(city.routing.accounts.shed)
    assert min(ledger.to_dict().values()) >= 0


@settings(UNHURRIED, max_examples=80)
@given(events(), st.sampled_from([1, 3, 1000]), st.sampled_from([1, 2, 1000]))
def test_the_ledger_balances_whatever_happens(course: list[Event], backlog: int, in_memory: int) -> None:
    city = SimulatedCity(backlog, in_memory)
    for event in course:
        happen(city, event)
        assert_balanced(city)
    city.drain()
    assert_balanced(city)
    ledger = city.routing.ledger()
    assert ledger.in_flight == 0
    by_twins = [line.actor.outcomes() for line in city.lines.values()]
    assert ledger.applied == sum(each.applied for each in by_twins)
    assert len(city.refused) <= sum(each.dead_lettered for each in by_twins)
    for name, line in city.lines.items():
        assert_same(line.actor, city.straight(name))


ALL_EVENTS = ("arrive", "arrive", "arrive_together") * 4 + ("commit", "send", "apply", "answer") * 3 + (
    "tell", "trim", "snapshot", "suspect", "lose_call", "lose_answers", "restart", "keep", "router_restart",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_a_long_life_ends_with_the_same_twins(seed: int) -> None:
    chance = random.Random(seed)
    city = SimulatedCity(backlog=chance.choice([2, 8, 1000]), in_memory=chance.choice([1, 5, 1000]))
    moment_s = T0
    for number in range(400):
        what, name = chance.choice(ALL_EVENTS), chance.choice(list(ACTORS))
        if what == "arrive":
            moment_s += 1.0
            at_s = moment_s - chance.choice([0.0, 0.0, 0.0, 30.0])
            values = {"flow_pph": 500.0 + number, "load_mw": 20.0 + number / 100, "in_persons": number}
            reading = says(at_s, seq=chance.randrange(number + 1), **values)
            city.arrive(chance.randrange(len(ENTITIES)), reading, qos=chance.choice([0, 1, 1]))
        elif what == "arrive_together":
            moment_s += 1.0
            entities = [chance.choice(ENTITIES[:3]) for _ in range(chance.randrange(1, 9))]
            flows = [500.0 + number + place for place in range(len(entities))]
            said = {"entities": entities, "ts": moment_s * 1000, "values": {"flow_pph": flows}}
            city.arrive_together(msgspec.json.encode(said), qos=chance.choice([0, 1, 1]))
        elif what == "tell":
            city.tell(4, Channel.COMMAND, moment_s, gates_open=chance.random())
        elif what in ("commit", "trim", "keep", "router_restart"):
            getattr(city, what)()
        else:
            getattr(city, what)(name)
        assert_balanced(city)
    city.drain()
    assert_balanced(city)
    assert city.routing.ledger().applied > 20
    for name, line in city.lines.items():
        assert_same(line.actor, city.straight(name))


@settings(UNHURRIED, max_examples=30)
@given(events())
def test_a_reading_that_goes_missing_anywhere_unbalances_the_ledger(course: list[Event]) -> None:
    city = SimulatedCity()
    for event in course:
        happen(city, event)
    buffers: list[Any] = [city.routing._fresh]
    buffers += [buffer for line in city.lines.values() for buffer in (line.share.waiting, line.share.under_way)]
    for buffer in buffers:
        for position in range(len(buffer)):
            if buffer[position].channel != Channel.READING or _known(city, buffer[position]):
                continue
            taken = buffer[position]
            del buffer[position]
            ledger = city.routing.ledger()
            assert ledger.unexplained == readings_in(taken)
            assert not ledger.balanced
            buffer.insert(position, taken)
    assert_balanced(city)


def _known(city: SimulatedCity, item: Any) -> bool:
    """A restarted actor is given it again, while its fate is counted already."""
    return any(
        item in (*line.share.waiting, *line.share.under_way) and item.offset <= line.share.outcomes.offset
        for line in city.lines.values()
    )


def filled() -> SimulatedCity:
    """Readings in every buffer: six under way, four waiting, two not committed."""
    city = SimulatedCity()
    for number in range(12):
        city.arrive(number % 3, says(T0 + number, flow_pph=100.0 + number))
        if number == 5:
            city.commit()
            city.send("counters")
        if number == 9:
            city.commit()
    return city


@pytest.mark.parametrize(
    ("buffer", "count"),
    [
        (lambda city: city.routing._fresh, 2),
        (lambda city: city.lines["counters"].share.waiting, 4),
        (lambda city: city.lines["counters"].share.under_way, 6),
    ],
    ids=["fresh", "waiting", "under way"],
)
def test_each_buffer_counts(buffer: Callable[[SimulatedCity], deque[Any]], count: int) -> None:
    city = filled()
    assert len(buffer(city)) == count
    for _ in range(count):
        buffer(city).pop()
    ledger = city.routing.ledger()
    assert (ledger.received, ledger.in_flight, ledger.unexplained) == (12, 12 - count, count)


def test_a_fate_that_is_counted_twice_unbalances_the_ledger() -> None:
    city = filled()
    city.apply("counters")
    share = city.lines["counters"].share
    outcomes = city.lines["counters"].actor.outcomes()
    share.outcomes = msgspec.structs.replace(outcomes, offset=-1)  # counted as applied, and still under way
    assert city.routing.ledger().unexplained == -6


def test_the_quiet_course_of_things() -> None:
    city = filled()
    city.drain()
    assert city.routing.ledger().to_dict() == {
        "received": 12,
        "applied": 12,
        "duplicate": 0,
        "late": 0,
        "dead_lettered": 0,
        "shed": 0,
        "in_flight": 0,
        "unexplained": 0,
        "balanced": True,
    }
    assert city.lines["counters"].share.resent == 0


def test_a_restart_without_a_snapshot_begins_at_the_beginning_of_the_log_and_counts_nothing_down() -> None:
    city = filled()
    city.drain()
    city.restart("counters")
    ledger = city.routing.ledger()
    assert (ledger.applied, ledger.in_flight, ledger.unexplained) == (12, 0, 0)
    share = city.lines["counters"].share
    assert (share.resent, share.reached, share.outcomes.offset) == (12, -1, 11)
    city.drain()
    assert share.reached == 11
    assert_same(city.lines["counters"].actor, city.straight("counters"))


@pytest.mark.parametrize("in_memory", [1000, 20])
def test_only_what_did_not_come_back_is_sent_one_by_one(in_memory: int) -> None:
    """A killed actor that had applied a hundred readings since its snapshot gets those again in one batch."""
    city = SimulatedCity(in_memory=in_memory)
    for number in range(100):
        city.arrive(number % 2, says(T0 + number, flow_pph=100.0 + number))
    city.drain()
    for number in range(5):
        city.arrive(2, says(T0 + number, flow_pph=100.0 + number))
    names = [ENTITIES[place] for place in (1, 2)]
    city.arrive_together(
        json.dumps([{"entity": name, "ts": T0 * 1000 + 200_000, "flow_pph": 300} for name in names]).encode()
    )
    city.commit()
    city.send("counters")
    line = city.lines["counters"]
    assert line.share.inputs_under_way == 7
    city.suspect("counters")
    for number in range(3):
        city.arrive(2, says(T0 + 20 + number, flow_pph=100.0 + number))
    city.commit()
    sizes = []
    while line.share.load:
        city.send("counters")
        sizes.append(line.share.inputs_under_way)
        city.apply("counters")
        city.answer("counters")
    known = sizes.index(1)
    assert sum(sizes[:known]) == 100
    assert known <= 100 / in_memory + 1
    assert sizes[known:] == [1] * 7 + [3]
    assert_same(line.actor, city.straight("counters"))


def test_a_reading_that_vanishes_from_the_log_unbalances_the_ledger() -> None:
    city = SimulatedCity(in_memory=2)
    for number in range(6):
        city.arrive(0, says(T0 + number, flow_pph=100.0 + number))
    city.commit()
    assert city.lines["counters"].share.spilled == 4
    log = city.store.log("router")
    log._groups[0], log._next = log._groups[0][:3] + log._groups[0][4:], log._next - 1
    city.routing.committed_until -= 1
    city.drain()
    ledger = city.routing.ledger()
    assert (ledger.applied, ledger.in_flight, ledger.unexplained) == (5, 0, 1)


def test_overload_of_qos_0_keeps_the_newest_of_each_entity() -> None:
    city = SimulatedCity(backlog=4)
    for number in range(4):
        city.arrive(0, says(T0 + number, flow_pph=100.0 + number), qos=1)
    city.commit()
    for number in range(4, 10):
        city.arrive(number % 2, says(T0 + number, flow_pph=100.0 + number), qos=0)
    city.arrive(2, says(T0 + 10, flow_pph=7.0), qos=1)  # that one was promised to be kept
    share = city.lines["counters"].share
    assert sorted(share.held) == [0, 1]
    ledger = city.routing.ledger()
    assert (ledger.received, ledger.shed, ledger.in_flight, ledger.unexplained) == (11, 4, 7, 0)
    city.drain()
    ledger = city.routing.ledger()
    assert (ledger.applied, ledger.shed, ledger.unexplained) == (7, 4, 0)
    assert city.routing.accounts.shed[:3] == [2, 2, 0]
    assert city.lines["counters"].actor.reported("footfall/gate-1")["value"][0] == 108.0
    city.router_restart()
    assert city.routing.ledger() == ledger


def test_an_input_that_is_put_aside_is_dead_and_never_comes_again() -> None:
    city = filled()
    share = city.lines["counters"].share
    culprit = share.under_way[2]
    city.routing.quarantine(share, culprit, "it never came to an end", 0.0)
    assert city.routing.ledger().unexplained == 0
    city.lines["counters"].sent.clear()
    city.ask("counters")
    city.drain()
    ledger = city.routing.ledger()
    assert (ledger.applied, ledger.dead_lettered, ledger.unexplained) == (11, 1, 0)
    city.keep()
    city.restart("counters")
    city.router_restart()
    city.drain()
    assert city.routing.ledger() == ledger
    assert city.lines["counters"].actor.outcomes().applied == 11


def test_lost_answers_are_not_applied_twice() -> None:
    city = filled()
    city.lose_answers("counters")
    assert city.lines["counters"].share.resent == 0  # all six had been applied
    assert city.routing.ledger().applied == 6
    city.drain()
    assert_same(city.lines["counters"].actor, city.straight("counters"))


def test_a_lost_call_is_sent_again() -> None:
    city = filled()
    city.send("counters")
    city.lose_call("counters")  # the first of two batches; the second is refused by the actor
    assert city.lines["counters"].actor.outcomes().applied == 0
    assert city.lines["counters"].share.resent == 10
    city.drain()
    assert_same(city.lines["counters"].actor, city.straight("counters"))


def test_counts_stand_until_a_twin_is_where_any_before_it_was() -> None:
    """Router and twin actor die together: what the one had told of the other must not be taken back."""
    city = filled()
    city.keep()
    city.drain()
    told = city.routing.ledger()
    assert told.applied == 12
    city.restart("counters")
    city.router_restart()
    share = city.lines["counters"].share
    assert (share.reached, share.recover_to) == (-1, 11)
    assert not share.caught_up
    city.drain()
    assert share.caught_up
    assert city.routing.ledger() == told
