"""Commands on their way: answered once, late, unknown, expired, and never more than the desk holds."""

import pytest

from twin_actors.runtime import desk
from twin_actors.runtime.desk import Answer, CommandDesk, Outgoing, Verdict
from twin_actors.wire.messages import Acknowledgement


def outgoing(number: int = 1, entity: str = "venue/hall", expires_at_s: float = 100.0) -> Outgoing:
    return Outgoing(f"dec-1.{number}", "dec-1", entity, {"gates_open": 0.5}, 0.0, expires_at_s)


def test_an_answer_counts_once_and_tells_what_is_in_force() -> None:
    held = CommandDesk()
    held.sent(outgoing())
    said = Acknowledgement(id="dec-1.1", values={"gates_open": 0.4, "colour": 3.0})
    assert held.acknowledged("venue/hall", said, 7.0) == (Verdict.DONE, {"gates_open": 0.4})
    assert held.acknowledged("venue/hall", said, 8.0) == (Verdict.UNKNOWN, {})
    assert held.take_answers() == [Answer("dec-1.1", True, 7.0, "")]
    assert held.take_answers() == []


def test_only_the_entity_itself_may_answer() -> None:
    held = CommandDesk()
    held.sent(outgoing())
    assert held.acknowledged("venue/other", Acknowledgement(id="dec-1.1"), 1.0)[0] is Verdict.UNKNOWN
    assert len(held) == 1


def test_a_device_may_refuse() -> None:
    held = CommandDesk()
    held.sent(outgoing())
    said = Acknowledgement(id="dec-1.1", status="rejected", reason="locked")
    assert held.acknowledged("venue/hall", said, 1.0) == (Verdict.REFUSED, {})
    assert held.take_answers() == [Answer("dec-1.1", False, 1.0, "locked")]


def test_an_answer_after_its_time_is_late_and_not_unknown() -> None:
    held = CommandDesk()
    held.sent(outgoing(expires_at_s=10.0))
    held.expire(10.0)
    assert len(held) == 1
    held.expire(10.1)
    assert len(held) == 0
    assert held.acknowledged("venue/hall", Acknowledgement(id="dec-1.1"), 11.0)[0] is Verdict.LATE
    assert held.late == 1


def test_the_desk_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MOST_OPEN_COMMANDS", 3)
    held = CommandDesk()
    for number in range(3):
        assert not held.full
        held.sent(outgoing(number, expires_at_s=float(number)))
    assert held.full
    held.expire(100.0)
    for number in range(3, 6):
        held.sent(outgoing(number, expires_at_s=float(number)))
    held.expire(100.0)
    late = [held.acknowledged("venue/hall", Acknowledgement(id=f"dec-1.{n}"), 1.0)[0] for n in range(6)]
    assert late == [Verdict.UNKNOWN] * 3 + [Verdict.LATE] * 3
