"""A tick that keeps to its budget: who is late is left out and grows old, and no policy waits for ever."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtime.cities import T0
from tests.unit.runtime.looking import QUARTER, Town
from twin_actors.core.deciding import Decision, DecisionBook, PolicyInUse, decide
from twin_actors.core.showing import Stamp
from twin_actors.core.view import CommandTo, Parameters, Policy, Proposal, View
from twin_actors.runtime.council import ALLOCATION, Council
from twin_actors.runtime.looking import Looks
from twin_actors.runtime.pace import MOST_NAMED, Pace, TickNote, words
from twin_actors.runtime.turns import Turns
from twin_actors.runtime.twin_actor import Look


class Clock:
    """Wall seconds that pass only where work is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def budget(self, seconds: float) -> Any:
        ends = self.now + seconds
        return lambda: self.now < ends


# -- turns ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from((0.1, 0.4, 3.0)), min_size=1, max_size=6), st.integers(1, 40))
def test_nobody_waits_longer_than_a_round(costs: list[float], rounds: int) -> None:
    names = [f"p{number}" for number in range(len(costs))]
    turns, clock, done = Turns(names), Clock(), []

    def do(name: str) -> None:
        done.append(name)
        clock.now += costs[names.index(name)]

    for _ in range(rounds):
        before = len(done)
        turns.go_round(do, clock.budget(1.0))
        ran = done[before:]
        assert len(ran) >= 1
        assert sorted([*ran, *turns.waiting]) == sorted(names)  # each one is done once, or said to be left out
        assert all(count < len(names) for count in turns.waiting.values())


def test_with_time_enough_the_declared_order_stands() -> None:
    turns, done = Turns(["a", "b", "c"]), []
    for _ in range(3):
        turns.go_round(done.append, lambda: True)
    assert done == ["a", "b", "c"] * 3
    assert turns.waiting == {}


def test_one_that_raises_does_not_stand_before_the_others_for_ever() -> None:
    turns, done = Turns(["a", "b", "c"]), []

    def do(name: str) -> None:
        done.append(name)
        if name == "a":
            raise RuntimeError(name)

    with pytest.raises(RuntimeError):
        turns.go_round(do, lambda: True)
    assert turns.waiting == {"b": 1, "c": 1}
    with pytest.raises(RuntimeError):
        turns.go_round(do, lambda: True)
    assert done == ["a", "b", "c", "a"]


# -- the council ---------------------------------------------------------------------------------------------------


def thinking(name: str, clock: Clock, seconds: float) -> PolicyInUse:
    """A policy that takes its time and then always wants something else."""

    def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
        clock.now += seconds
        gates = CommandTo(entity="venue/arena", values={"gates_open": min(view.kinds["venue"].age_s[0], 1e3)})
        yield Proposal(key=name, reason=f"at {view.now_s}", effects=(gates,), because=("venue/arena",), cooldown_s=0.0)

    return PolicyInUse.of(Policy(name=name, doc="", propose=propose), "act", {})


def test_policies_beyond_the_budget_come_first_in_the_next_tick() -> None:
    clock, town = Clock(), Town()
    policies = [thinking("slow", clock, 3.0), thinking("next", clock, 0.1), thinking("last", clock, 3.0)]
    council = Council(town.scenario, town.catalogue, policies)
    ran: list[list[str]] = []
    left: list[Mapping[str, int]] = []
    for tick in range(4):
        before = {decision.id for decision in council.decisions(100)}
        council.sit(town.look(T0 + tick), may_start=clock.budget(1.0))
        ran.append([decision.policy for decision in council.decisions(100) if decision.id not in before])
        left.append(council.turns.waiting)
    assert ran == [["slow"], ["next", "last"], ["slow"], ["next", "last"]]
    assert left[0] == {"next": 1, "last": 1, ALLOCATION: 1}
    assert left[1] == {ALLOCATION: 2, "slow": 1}
    assert left[2] == {"next": 1, "last": 1}


def test_a_decision_is_the_same_from_its_cut_whatever_was_left_out_beside_it() -> None:
    """Promise 5: the cut, with the ages of its parts, and the policy give the decision again."""
    clock, town = Clock(), Town(QUARTER + "placement: {entities_per_actor: 1}\n")
    town.hear("venue/arena", T0, in_persons=100, out_persons=2000)
    town.look(T0 + 10.0)
    policies = [thinking("slow", clock, 3.0), thinking("next", clock, 3.0)]
    council = Council(town.scenario, town.catalogue, policies)
    for name in town.holders:
        if name != "twin:venue/arena":  # its actor is late: the view has it from before
            town.take(name, T0 + 25.0)
    cut = town.view.at(T0 + 25.0)
    council.sit(cut, may_start=clock.budget(1.0))
    (decision,) = council.decisions(10)
    assert (decision.policy, decision.because[0].age_s) == ("slow", 25.0)
    assert T0 + 25.0 - town.view.seen_at_s("twin:venue/arena") == 15.0
    again = Council(town.scenario, town.catalogue, policies)
    again.sit(cut)
    replayed: Decision = next(each for each in again.decisions(10) if each.policy == "slow")
    assert replayed == decision
    assert decide(cut, [policies[0]], DecisionBook()) == [decision]


# -- looks ---------------------------------------------------------------------------------------------------------


class Actors:
    """Actors that answer when a test says so."""

    def __init__(self, *names: str) -> None:
        self.epochs = dict.fromkeys(names, 1)
        self.hung: set[str] = set()
        self.waits: list[tuple[set[str], float]] = []
        self.told: dict[str, Mapping[str, Stamp]] = {}
        self._number = 0

    def ask(self, actor: str, now_s: float, epoch: int, known: Mapping[str, Stamp]) -> Any:
        self._number += 1
        self.told[actor] = known
        return None if actor not in self.epochs else (actor, self._number, now_s)

    def ready(self, references: Sequence[Any], wait_s: float) -> Collection[Any]:
        self.waits.append(({name for name, *_ in references}, wait_s))
        return [reference for reference in references if reference[0] not in self.hung]

    def get(self, reference: Any) -> Look | str:
        name, _, at_s = reference
        if self.epochs[name] < 0:
            return "RayActorError: it died"
        return Look(self.epochs[name], at_s, {"tank": (Stamp(1, 0, at_s), None)})


def looks_at(actors: Actors, *more: str) -> tuple[Looks, list[str]]:
    notes: list[str] = []
    return Looks([*actors.epochs, *more], actors, notes.append), notes


def test_one_that_hangs_is_waited_for_in_one_tick_only() -> None:
    actors = Actors("a", "b", "c")
    looks, _ = looks_at(actors)
    actors.hung = {"b"}
    assert [name for name, _ in looks.take(1.0, 0.5)] == ["a", "c"]
    assert looks.late == {"b"}
    actors.waits.clear()
    assert [name for name, _ in looks.take(2.0, 0.5)] == ["a", "c"]
    assert actors.waits == [({"a", "c"}, 0.5), ({"b"}, 0.0)]
    actors.hung = set()
    taken = dict(looks.take(3.0, 0.5))
    assert taken["b"].kinds["tank"][0].at_s == 1.0  # what it was asked then, as old as it is
    assert looks.late == set()
    actors.waits.clear()
    assert dict(looks.take(4.0, 0.5))["b"].kinds["tank"][0].at_s == 4.0
    assert actors.waits == [({"a", "b", "c"}, 0.5)]


def test_one_that_is_not_there_or_died_is_late_and_asked_again() -> None:
    actors = Actors("a")
    looks, notes = looks_at(actors, "gone")
    actors.epochs["a"] = -1
    assert list(looks.take(1.0, 0.5)) == []
    assert looks.late == {"a", "gone"}
    assert notes == ["a: RayActorError: it died"]
    actors.epochs = {"a": 2, "gone": 1}
    assert [name for name, _ in looks.take(2.0, 0.5)] == ["a", "gone"]


def test_an_older_incarnation_is_not_believed_and_stamps_are_told() -> None:
    actors = Actors("a")
    looks, notes = looks_at(actors)
    actors.epochs["a"] = 5
    assert len(list(looks.take(1.0, 0.5))) == 1
    actors.epochs["a"] = 4
    assert list(looks.take(2.0, 0.5)) == []
    assert actors.told["a"] == {"tank": Stamp(1, 0, 1.0)}
    assert looks.late == {"a"}
    assert "epoch 4 still answers, epoch 5 has taken over" in notes[0]


# -- what is said of it --------------------------------------------------------------------------------------------


def test_a_status_names_the_oldest_and_counts_all() -> None:
    pace = Pace()
    assert pace.summary(2.0)["short_ticks"] == 0
    assert words(pace.summary(2.0)) == ""
    many = {f"twin:{number}": float(number) for number in range(50)}
    pace.note(TickNote(tick=1, at_s=T0, look_s=1.0, decide_s=0.1, late=many, left_out={"shed_load": 2}))
    pace.note(TickNote(tick=2, at_s=T0 + 2, look_s=0.1, decide_s=0.1))
    pace.note(TickNote(tick=3, at_s=T0 + 4, look_s=1.0, decide_s=0.1, late=many))
    said = pace.summary(2.0)
    assert (said["actors_late"], said["oldest_late_s"], said["late_looks"], said["short_ticks"]) == (50, 49.0, 100, 2)
    assert said["policies_postponed"] == 1
    assert words(said).startswith("the last tick went on without twin actors twin:49 (49 s old), twin:48 (48 s old)")
    assert words(said).endswith("and 40 more")
    assert list(said["left_out"]["actors"]) == [f"twin:{number}" for number in range(49, 49 - MOST_NAMED, -1)]
    assert [note.tick for note in pace.short(10)] == [1, 3]
    assert pace.short(0) == []
