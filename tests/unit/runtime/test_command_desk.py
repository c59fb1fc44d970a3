"""Commands on their way: answered once, late, unknown, expired, and never more than the desk holds."""

import msgspec
import pytest

from twin_actors.runtime import desk
from twin_actors.runtime.desk import Answer, CommandDesk, Outgoing, Verdict
from twin_actors.wire.messages import Acknowledgement


def outgoing(number: int = 1, entity: str = "venue/hall", expires_at_s: float = 100.0) -> Outgoing:
    return Outgoing(f"dec-1.{number}", "dec-1", entity, {"gates_open": 0.5}, 0.0, expires_at_s)


def answered(held: CommandDesk, entity: str, said: Acknowledgement, at_s: float = 7.0) -> Verdict:
    """What the router does with an answer."""
    verdict, _ = held.acknowledged(entity, said)
    if verdict in (Verdict.DONE, Verdict.REFUSED):
        held.close(said.id, done=verdict is Verdict.DONE, at_s=at_s, note=said.reason)
    return verdict


def test_an_answer_counts_once_and_tells_what_is_in_force() -> None:
    held = CommandDesk()
    held.sent(outgoing())
    said = Acknowledgement(id="dec-1.1", values={"gates_open": 0.4, "colour": 3.0})
    assert held.acknowledged("venue/hall", said) == (Verdict.DONE, {"gates_open": 0.4})
    assert answered(held, "venue/hall", said) is Verdict.DONE
    assert answered(held, "venue/hall", said) is Verdict.UNKNOWN
    assert held.answers_after(0) == held.answers_after(0) == [Answer("dec-1.1", True, 7.0, "", 1)]
    assert held.answers_after(1) == []


def test_a_command_is_opened_once_however_often_it_is_handed_over() -> None:
    held = CommandDesk()
    assert not held.knows("dec-1.1")
    held.sent(outgoing())
    assert held.knows("dec-1.1")
    answered(held, "venue/hall", Acknowledgement(id="dec-1.1"))
    assert held.knows("dec-1.1")


def test_only_the_entity_itself_may_answer() -> None:
    held = CommandDesk()
    held.sent(outgoing())
    assert answered(held, "venue/other", Acknowledgement(id="dec-1.1")) is Verdict.UNKNOWN
    assert len(held) == 1


def test_a_device_may_refuse() -> None:
    held = CommandDesk()
    held.sent(outgoing())
    said = Acknowledgement(id="dec-1.1", status="rejected", reason="locked")
    assert answered(held, "venue/hall", said) is Verdict.REFUSED
    assert held.answers_after(0) == [Answer("dec-1.1", False, 7.0, "locked", 1)]


def test_an_answer_after_its_time_is_late_and_not_unknown() -> None:
    held = CommandDesk()
    held.sent(outgoing(expires_at_s=10.0))
    held.expire(10.0)
    assert len(held) == 1
    held.expire(10.1)
    assert len(held) == 0
    assert answered(held, "venue/hall", Acknowledgement(id="dec-1.1")) is Verdict.LATE
    assert held.late == 1


def test_the_next_router_goes_on_with_the_same_desk() -> None:
    held = CommandDesk()
    for number in range(3):
        held.sent(outgoing(number))
    answered(held, "venue/hall", Acknowledgement(id="dec-1.0"))
    held.expire(1000.0)
    held.sent(outgoing(7, expires_at_s=2000.0))
    reborn = CommandDesk()
    reborn.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(held.state())))
    assert [command.id for command in reborn.send_again()] == ["dec-1.7"]
    assert reborn.open == (outgoing(7, expires_at_s=2000.0),)
    assert reborn.answers_after(0) == held.answers_after(0)
    # a device that answered the router before answers this one again: no mistake of its own
    assert answered(reborn, "venue/hall", Acknowledgement(id="dec-1.0")) is Verdict.REPEATED
    assert answered(reborn, "venue/hall", Acknowledgement(id="dec-1.7")) is Verdict.DONE
    assert reborn.answers_after(1) == [Answer("dec-1.7", True, 7.0, "", 2)]


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
    late = [held.acknowledged("venue/hall", Acknowledgement(id=f"dec-1.{n}"))[0] for n in range(6)]
    assert late == [Verdict.UNKNOWN] * 3 + [Verdict.LATE] * 3
