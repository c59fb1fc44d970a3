"""Proposals become recorded decisions once; commands are answered once or expire."""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtime.cities import T0, UNHURRIED
from tests.unit.runtime.looking import Town
from twin_actors.core.deciding import (
    CommandBook,
    CommandPhase,
    DecisionBook,
    PolicyInUse,
    decide,
    recommend,
    sight,
)
from twin_actors.core.view import CommandTo, CoupleTo, Parameters, Policy, Proposal, View

GATES = CommandTo(entity="venue/arena", values={"gates_open": 0.5}, expires_s=60.0)
SHED = CommandTo(entity="substation/quay", values={"block_shed": (1.0, 0.0, 0.0, 0.0, 0.0)})
CARS = CoupleTo(entity="intersection/quay-1", values={"event_vph": 300.0}, after_s=240.0)


def proposal(key: str = "arena", **changes: object) -> Proposal:
    plain = {"reason": "it is full", "effects": (GATES,), "because": ("venue/arena",), "cooldown_s": 60.0}
    return Proposal(key=key, **{**plain, **changes})  # type: ignore[arg-type]


def rule(*proposals: Proposal, name: str = "doorman", mode: str = "act", **given_parameters: float) -> PolicyInUse:
    """A policy that always proposes the same."""

    def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
        return proposals

    return PolicyInUse.of(
        Policy(name=name, doc="", propose=propose, defaults={"limit": 1.0}),
        mode,  # type: ignore[arg-type]
        given_parameters,
    )


@pytest.fixture(scope="module")
def town() -> Town:
    here = Town()
    here.hear("venue/arena", T0, in_persons=5, out_persons=1)
    here.look(T0 + 10.0)
    return here


@pytest.fixture
def view(town: Town) -> View:
    return town.view.at(T0 + 10.0)


# -- deciding ------------------------------------------------------------------------------------------------------


def test_parameters_are_the_scenarios_over_the_policys() -> None:
    assert rule().parameters == {"limit": 1.0}
    assert rule(limit=3.0, more=2.0).parameters == {"limit": 3.0, "more": 2.0}


def test_a_decision_records_what_it_saw(view: View) -> None:
    (decision,) = decide(view, [rule(proposal(objective=3.0, bound=4.0))], DecisionBook())
    assert (decision.id, decision.at_s, decision.policy) == ("dec-000001", T0 + 10.0, "doorman")
    assert (decision.mode, decision.key, decision.reason) == ("act", "arena", "it is full")
    assert decision.effects == (GATES,)
    assert (decision.objective, decision.bound) == (3.0, 4.0)
    (seen,) = decision.because
    assert (seen.entity, seen.revision, seen.age_s) == ("venue/arena", 1, 10.0)


@pytest.mark.parametrize("entity", ["venue/nobody", "road/ring"])
def test_nobody_decides_on_the_sight_of_a_twin_that_is_not_there(view: View, entity: str) -> None:
    with pytest.raises(KeyError):
        sight(view, entity)


def test_policies_are_asked_in_their_order(view: View) -> None:
    first, second = rule(proposal("a"), proposal("b"), name="one"), rule(proposal("a"), name="two")
    decisions = decide(view, [first, second], DecisionBook())
    assert [(each.id[-1], each.policy, each.key) for each in decisions] == [
        ("1", "one", "a"),
        ("2", "one", "b"),
        ("3", "two", "a"),
    ]


def test_a_matter_cools_down(town: Town) -> None:
    book, policies = DecisionBook(), [rule(proposal("a", cooldown_s=60.0), proposal("b", cooldown_s=0.0))]
    decided = {
        after_s: [each.key for each in decide(town.view.at(T0 + after_s), policies, book)]
        for after_s in (0.0, 30.0, 59.9, 60.0, 61.0)
    }
    assert decided == {0.0: ["a", "b"], 30.0: ["b"], 59.9: ["b"], 60.0: ["a", "b"], 61.0: ["b"]}
    assert book.made == 7
    assert list(book.cooling) == ["doorman|a"]  # what is cool is forgotten
    book.forget_cooled(T0 + 200.0)
    assert book.cooling == {}


def test_numpys_numbers_become_plain_ones(view: View) -> None:
    effects = (
        CommandTo(entity="venue/arena", values={"gates_open": np.float64(0.5)}, expires_s=np.float64(60.0)),
        CommandTo(entity="substation/quay", values={"block_shed": np.array([1, 0, 0, 0, 0])}),  # type: ignore[dict-item]
        CoupleTo(entity="intersection/quay-1", values={"event_vph": np.int64(300)}, after_s=np.float64(240.0)),  # type: ignore[dict-item]
    )
    wanted = proposal(effects=effects, objective=np.float64(1.5), bound=np.float32(2.0))
    (decision,) = decide(view, [rule(wanted)], DecisionBook())
    assert decision.effects == (GATES, SHED, CARS)
    said = json.loads(msgspec.json.encode(decision))
    assert said["effects"][1]["values"] == {"block_shed": [1.0, 0.0, 0.0, 0.0, 0.0]}
    assert (said["objective"], said["bound"]) == (1.5, 2.0)


def test_recommendations_are_lines_for_people(view: View) -> None:
    act = rule(proposal(effects=(GATES, SHED)))
    advise = rule(proposal("b", effects=(CARS,)), proposal("c", effects=()), name="herald", mode="advise")
    assert recommend(decide(view, [act, advise], DecisionBook())) == [
        "dec-000001 doorman did: venue/arena gates_open=0.5; substation/quay block_shed=(1, 0, 0, 0, 0) (it is full)",
        "dec-000002 herald advises: intersection/quay-1 event_vph=300 (it is full)",
        "dec-000003 herald advises: nothing to send (it is full)",
    ]


# -- commands ------------------------------------------------------------------------------------------------------


def test_a_command_lives_until_its_answer() -> None:
    book = CommandBook()
    command = book.issue("dec-000007", 2, GATES, T0)
    assert (command.id, command.decision, command.entity) == ("dec-000007.2", "dec-000007", "venue/arena")
    assert (command.issued_at_s, command.expires_at_s, command.phase) == (T0, T0 + 60.0, CommandPhase.ISSUED)
    assert book.open == (command,)
    answered = book.answer(command.id, done=True, now_s=T0 + 2.0)
    assert answered is not None
    assert (answered.phase, answered.answered_at_s) == (CommandPhase.ACKNOWLEDGED, T0 + 2.0)
    assert book.answer(command.id, done=False, now_s=T0 + 3.0) is None
    assert book.answer("dec-000009.1", done=True, now_s=T0 + 3.0) is None
    assert (book.sent, book.acknowledged, book.rejected, book.expired, book.open) == (1, 1, 0, 0, ())


def test_a_refused_command_keeps_the_devices_words() -> None:
    book = CommandBook()
    book.issue("dec-000001", 1, GATES, T0)
    answered = book.answer("dec-000001.1", done=False, now_s=T0 + 2.0, note="gate is blocked")
    assert answered is not None
    assert (answered.phase, answered.note, book.rejected) == (CommandPhase.REJECTED, "gate is blocked", 1)


def test_a_command_nobody_answers_expires_once() -> None:
    book = CommandBook()
    book.issue("dec-000001", 1, GATES, T0)
    book.issue("dec-000001", 2, SHED, T0)
    assert book.expire(T0 + 59.9) == []
    (gone,) = book.expire(T0 + 60.0)
    assert (gone.id, gone.phase, gone.note) == ("dec-000001.1", CommandPhase.EXPIRED, "no answer in time")
    assert book.expire(T0 + 60.0) == []
    assert book.answer(gone.id, done=True, now_s=T0 + 61.0) is None
    assert [command.id for command in book.open] == ["dec-000001.2"]


def test_the_book_is_bounded() -> None:
    book = CommandBook(most_open=2)
    book.issue("dec-000001", 1, GATES, T0)
    assert not book.full
    book.issue("dec-000001", 2, SHED, T0)
    assert book.full
    book.answer("dec-000001.2", done=True, now_s=T0)
    assert not book.full


STEPS = st.lists(
    st.one_of(
        st.just(("issue", 0)),
        st.tuples(st.sampled_from(["done", "refused"]), st.integers(1, 12)),
        st.tuples(st.just("wait"), st.integers(1, 40)),
    ),
    max_size=30,
)


@UNHURRIED
@given(STEPS)
def test_every_command_has_exactly_one_end(steps: list[tuple[str, int]]) -> None:
    book, now_s, ended = CommandBook(), T0, []
    for what, number in steps:
        if what == "issue":
            book.issue("dec-000001", book.sent + 1, GATES, now_s)
        elif what == "wait":
            now_s += number
            ended += [command.id for command in book.expire(now_s)]
        else:
            answered = book.answer(f"dec-000001.{number}", done=what == "done", now_s=now_s)
            ended += [] if answered is None else [answered.id]
        assert book.sent == book.acknowledged + book.rejected + book.expired + len(book.open)
    assert len(ended) == len(set(ended)) == book.sent - len(book.open)
    assert set(ended).isdisjoint(command.id for command in book.open)
