"""The life of emergencies, and what the book promises whatever happens."""

import json
from dataclasses import asdict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin_actors.core.emergencies import EmergencyBook, Phase
from twin_actors.core.resources import Assignment

FLOOD = ("pump/1", "flooded", "critical")


def sent(
    unit: str = "crew/1",
    entity: str = "pump/1",
    at_s: float = 10.0,
    arrives_s: float = 30.0,
    until_s: float = 60.0,
) -> Assignment:
    return Assignment(
        unit=unit,
        demand=f"{entity}:crew",
        entity=entity,
        amount=1.0,
        assigned_at_s=at_s,
        arrives_at_s=arrives_s,
        until_s=until_s,
    )


def test_a_whole_life():
    book, events = EmergencyBook().step([FLOOD], [], 5.0, resources={("pump/1", "flooded"): "crew"})
    assert [(one.what, one.emergency, one.at_s) for one in events] == [("opened", "emg-000001", 5.0)]
    assert book.open[0].resource == "crew"

    book, events = book.step([FLOOD], [sent()], 12.0)
    assert [(one.what, one.at_s, one.units, one.to_dispatch_s) for one in events] == [
        ("dispatched", 10.0, ("crew/1",), 5.0)
    ]
    book, events = book.step([FLOOD], [sent()], 40.0)
    assert [(one.what, one.at_s, one.to_site_s) for one in events] == [("on_site", 30.0, 25.0)]
    assert book.open[0].phase is Phase.ON_SITE

    still, events = book.step([], [sent()], 50.0)  # the alert is gone, the crew is still at work
    assert (still, events) == (book, ())
    book, events = book.step([], [sent()], 61.0)
    (closed,) = events
    assert (closed.what, closed.units, closed.open_s, closed.to_site_s) == ("closed", ("crew/1",), 56.0, 25.0)
    assert book.open == ()
    assert book.closed[0].phase is Phase.CLOSED
    assert book.step([], [], 70.0) == (book, ())


def test_an_alert_that_comes_back_makes_a_new_record():
    book = EmergencyBook()
    for now_s, active in enumerate(([FLOOD], [], [FLOOD])):
        book, _ = book.step(active, [], float(now_s))
    assert [one.id for one in book.closed] == ["emg-000001"]
    assert [one.id for one in book.open] == ["emg-000002"]


def test_work_that_was_over_before_does_not_count():
    book, events = EmergencyBook().step([FLOOD], [sent(until_s=60.0)], 60.0)
    assert [one.what for one in events] == ["opened"]
    assert book.open[0].units == ()


def test_a_unit_already_there_counts_from_the_opening():
    book, events = EmergencyBook().step([FLOOD], [sent()], 40.0)
    assert [(one.what, one.at_s) for one in events] == [
        ("opened", 40.0),
        ("dispatched", 40.0),
        ("on_site", 40.0),
    ]
    assert book.open[0].on_site_at_s == 40.0


def test_a_unit_called_back_on_its_way_never_was_on_site():
    book, _ = EmergencyBook().step([FLOOD], [sent()], 10.0)
    book, events = book.step([FLOOD], [sent(until_s=20.0)], 40.0)
    assert events == ()
    assert book.open[0].phase is Phase.DISPATCHED
    book, events = book.step([], [], 41.0)
    assert [one.what for one in events] == ["closed"]
    assert book.closed[0].on_site_at_s is None


def test_units_of_another_open_emergency_of_the_entity_are_not_freed():
    hot = ("pump/1", "hot", "warning")
    book, events = EmergencyBook().step([hot, FLOOD], [], 0.0)
    assert [one.alert for one in events] == ["flooded", "hot"]
    book, _ = book.step([hot, FLOOD], [sent()], 40.0)
    book, events = book.step([hot], [sent()], 60.0)
    assert [(one.what, one.alert, one.units) for one in events] == [("closed", "flooded", ())]
    book, events = book.step([], [], 70.0)
    assert [(one.what, one.alert, one.units) for one in events] == [("closed", "hot", ("crew/1",))]


def test_severity_is_the_worst_seen_and_must_be_known():
    book, _ = EmergencyBook().step([("pump/1", "flooded", "info"), ("pump/1", "flooded", "warning")], [], 0.0)
    assert book.open[0].severity == "warning"
    book, _ = book.step([FLOOD], [], 1.0)
    book, _ = book.step([("pump/1", "flooded", "info")], [], 2.0)
    assert book.open[0].severity == "critical"
    with pytest.raises(ValueError, match="info, warning, critical"):
        book.step([("pump/1", "flooded", "dire")], [], 3.0)


def test_only_so_many_closed_records_are_kept():
    book = EmergencyBook(keep_closed=2)
    for now_s in range(10):
        book, _ = book.step([FLOOD] if now_s % 2 == 0 else [], [], float(now_s))
    assert [one.id for one in book.closed] == ["emg-000004", "emg-000005"]
    assert (book.opened_so_far, book.closed_so_far) == (5, 5)
    none, _ = EmergencyBook(keep_closed=0).step([FLOOD], [], 0.0)
    assert none.step([], [], 1.0)[0].closed == ()
    with pytest.raises(ValueError, match="keep_closed"):
        EmergencyBook(keep_closed=-1)


def test_notes():
    book, _ = EmergencyBook().step([FLOOD], [], 0.0)
    book = book.annotate("emg-000001", note="road closed")
    assert book.open[0].note == "road closed"
    with pytest.raises(KeyError, match="1 open"):
        book.annotate("emg-000009", note="?")


def test_a_clock_that_was_set_back_gives_no_negative_durations():
    book, _ = EmergencyBook().step([FLOOD], [], 100.0)
    book, events = book.step([], [], 90.0)
    assert events[0].open_s == 0.0


def test_the_book_survives_json():
    book, _ = EmergencyBook().step([FLOOD], [sent()], 40.0)
    assert msgspec.json.decode(json.dumps(asdict(book), allow_nan=False), type=EmergencyBook) == book


alerts = st.tuples(
    st.sampled_from(["a/1", "a/2"]),
    st.sampled_from(["hot", "wet"]),
    st.sampled_from(["info", "warning", "critical"]),
)
work = st.builds(
    lambda unit, entity, at_s, drive_s, work_s: sent(unit, entity, at_s, at_s + drive_s, at_s + drive_s + work_s),
    st.sampled_from(["crew/1", "crew/2", "crew/3"]),
    st.sampled_from(["a/1", "a/2", "a/3"]),
    st.floats(0.0, 100.0),
    st.floats(0.0, 30.0),
    st.floats(0.0, 30.0),
)
steps = st.lists(st.tuples(st.lists(alerts, max_size=5), st.lists(work, max_size=4), st.floats(0.0, 20.0)), max_size=15)


@given(steps)
def test_phases_only_move_forward_and_no_two_are_open_for_one_alert(story):
    book, now_s = EmergencyBook(keep_closed=100), 0.0
    said: dict[str, list[str]] = {}
    for active, assignments, wait_s in story:
        now_s += wait_s
        before = {one.id: one for one in (*book.open, *book.closed)}
        book, events = book.step(active, assignments, now_s)
        for event in events:
            said.setdefault(event.emergency, []).append(event.what)

        keys = [(one.entity, one.alert) for one in book.open]
        assert len(keys) == len(set(keys))
        assert {(entity, alert) for entity, alert, _ in active} <= set(keys)
        after = {one.id: one for one in (*book.open, *book.closed)}
        assert before.keys() <= after.keys()
        for name, one in before.items():
            assert after[name].phase.order >= one.phase.order
            assert set(one.units) <= set(after[name].units)
            if one.phase is Phase.CLOSED:
                assert after[name] == one
        for one in after.values():
            stamps = [one.opened_at_s, one.dispatched_at_s, one.on_site_at_s, one.closed_at_s]
            known = [stamp for stamp in stamps if stamp is not None]
            assert known == sorted(known)
            assert (one.closed_at_s is not None) == (one.phase is Phase.CLOSED)
        assert book.opened_so_far == len(after) == len(book.open) + book.closed_so_far
    order = ["opened", "dispatched", "on_site", "closed"]
    for whats in said.values():
        assert whats == sorted(set(whats), key=order.index)
