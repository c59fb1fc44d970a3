"""What the aggregator decides tick by tick: commands, couplings with their delay, units for needs, emergencies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from tests.unit.runtime.cities import T0
from tests.unit.runtime.looking import QUARTER, Town
from twin_actors.core.deciding import CommandBook, CommandPhase, PolicyInUse
from twin_actors.core.emergencies import Phase
from twin_actors.core.view import CommandTo, CoupleTo, Parameters, Policy, Proposal, View
from twin_actors.runtime.council import Council, Effects


def when(moments: Sequence[float], *effects: CommandTo | CoupleTo, mode: str = "act", **changes: Any) -> PolicyInUse:
    """A policy that proposes ``effects`` at some moments after T0."""

    def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
        if view.now_s - T0 in moments:
            plain = {"key": "k", "reason": "it is time", "because": (), "cooldown_s": 0.0}
            yield Proposal(effects=effects, **{**plain, **changes})

    return PolicyInUse.of(Policy(name="timer", doc="", propose=propose), mode, {})  # type: ignore[arg-type]


GATES = CommandTo(entity="venue/arena", values={"gates_open": 0.5}, expires_s=60.0)
CARS = CoupleTo(entity="intersection/quay-1", values={"event_vph": 300.0}, after_s=240.0)
MORE = CoupleTo(entity="intersection/quay-2", values={"event_vph": 100.0}, after_s=10.0)


class Sitting:
    """A town and its council."""

    def __init__(self, *policies: PolicyInUse, text: str = QUARTER) -> None:
        self.town = Town(text)
        self.council = Council(self.town.scenario, self.town.catalogue, policies)

    def at(self, after_s: float) -> Effects:
        return self.council.sit(self.town.look(T0 + after_s))

    def heat(self, after_s: float, oil_temp_c: float = 118.0, load_mw: float = 45.0) -> None:
        """The quay transformer reports four times in a minute, warm enough for its hot spot to pass the limit."""
        for second in range(0, 60, 15):
            self.town.hear(
                "substation/quay", T0 + after_s + second, load_mw=load_mw, oil_temp_c=oil_temp_c, ambient_temp_c=30.0
            )


def news(effects: Effects, channel: str) -> list[dict[str, Any]]:
    return [json.loads(payload) for name, payload in effects.news if name == channel]


# -- decisions and commands ----------------------------------------------------------------------------------------


def test_what_is_decided_is_sent_once_and_told() -> None:
    sitting = Sitting(when([1.0], GATES))
    assert sitting.at(0.0) == Effects()
    effects = sitting.at(1.0)
    (command,) = effects.commands
    assert (command.id, command.entity, command.values) == ("dec-000001.1", "venue/arena", {"gates_open": 0.5})
    (told,) = news(effects, "decision")
    assert told["says"] == "dec-000001 timer did: venue/arena gates_open=0.5 (it is time)"
    assert told["decision"]["id"] == "dec-000001"
    assert sitting.at(2.0) == Effects()
    assert [each.id for each in sitting.council.decisions(5)] == ["dec-000001"]
    assert sitting.council.summary()["commands_open"] == 1


def test_a_matter_that_cools_down_is_not_decided_again() -> None:
    sitting = Sitting(when(range(200), GATES, cooldown_s=90.0))
    sent = [after_s for after_s in range(0, 200, 10) if sitting.at(float(after_s)).commands]
    assert sent == [0, 90, 180]


def test_advice_is_recorded_and_sends_nothing() -> None:
    sitting = Sitting(when([0.0], GATES, CARS, mode="advise"))
    effects = sitting.at(0.0)
    assert (effects.commands, effects.couplings) == ([], [])
    assert news(effects, "decision")[0]["says"].startswith("dec-000001 timer advises: venue/arena")
    assert sitting.at(500.0) == Effects()
    assert [each.mode for each in sitting.council.decisions(5)] == ["advise"]
    assert sitting.council.commands(5) == []


def test_couplings_wait_for_their_delay() -> None:
    sitting = Sitting(when([0.0], CARS, MORE))
    assert sitting.at(0.0).couplings == []
    assert sitting.at(9.0).couplings == []
    assert sitting.at(10.0).couplings == [("intersection/quay-2", T0 + 10.0, {"event_vph": 100.0})]
    assert sitting.at(239.0).couplings == []
    assert sitting.at(300.0).couplings == [("intersection/quay-1", T0 + 240.0, {"event_vph": 300.0})]
    assert sitting.at(900.0).couplings == []


def test_couplings_come_in_the_order_in_which_they_are_due() -> None:
    now = CoupleTo(entity="intersection/quay-1", values={"event_vph": 1.0})
    sitting = Sitting(when([0.0, 5.0], CARS, MORE, now))
    assert len(sitting.at(0.0).couplings) == 1
    assert len(sitting.at(5.0).couplings) == 1
    due = [at_s - T0 for _, at_s, _ in sitting.at(1000.0).couplings]
    assert due == [10.0, 15.0, 240.0, 245.0]


def test_a_command_is_answered_once() -> None:
    sitting = Sitting(when([0.0], GATES))
    sitting.at(0.0)
    council = sitting.council
    assert council.commands(5)[0].phase is CommandPhase.ISSUED
    council.answered("dec-000001.1", done=True, at_s=T0 + 2.0, note="")
    council.answered("dec-000001.1", done=False, at_s=T0 + 3.0, note="too late")
    council.answered("dec-000042.1", done=False, at_s=T0 + 3.0, note="whose?")
    (command,) = council.commands(5)
    assert (command.phase, command.answered_at_s, command.note) == (CommandPhase.ACKNOWLEDGED, T0 + 2.0, "")
    summary = council.summary()
    assert (summary["commands_acknowledged"], summary["commands_rejected"], summary["commands_open"]) == (1, 0, 0)
    sitting.at(100.0)
    assert council.summary()["commands_expired"] == 0


def test_a_command_that_nobody_answers_expires() -> None:
    sitting = Sitting(when([0.0], GATES))
    sitting.at(0.0)
    sitting.at(59.0)
    assert sitting.council.summary()["commands_open"] == 1
    sitting.at(60.0)
    (command,) = sitting.council.commands(5)
    assert (command.phase, command.note) == (CommandPhase.EXPIRED, "no answer in time")
    sitting.council.answered(command.id, done=True, at_s=T0 + 61.0, note="")
    summary = sitting.council.summary()
    assert (summary["commands_expired"], summary["commands_acknowledged"]) == (1, 0)


def test_commands_beyond_the_bound_are_postponed() -> None:
    sitting = Sitting(when([0.0, 1.0], GATES, GATES))
    sitting.council._command_book = CommandBook(most_open=1)
    assert len(sitting.at(0.0).commands) == 1
    assert sitting.council.summary()["commands_postponed"] == 1
    sitting.council.answered("dec-000001.1", done=True, at_s=T0, note="")
    assert [command.id for command in sitting.at(1.0).commands] == ["dec-000002.1"]


def test_asking_for_none_of_the_records_gives_none() -> None:
    sitting = Sitting(when([0.0], GATES))
    sitting.heat(0.0)
    sitting.at(60.0)
    council = sitting.council
    for records in (council.decisions, council.commands, council.allocations, council.emergencies, council.alerts):
        assert records(0) == []


# -- orders --------------------------------------------------------------------------------------------------------


def test_a_persons_order_is_a_decision_like_any_other() -> None:
    sitting = Sitting(when([10.0], GATES))
    view = sitting.town.look(T0)
    assert sitting.council.order("venue/arena", {"gates_open": 0}, "fire drill", view) == "dec-000001"
    assert sitting.council.decisions(5) == []  # the next tick carries it out
    effects = sitting.at(10.0)
    assert [(each.id, each.values) for each in effects.commands] == [
        ("dec-000001.1", {"gates_open": 0.0}),
        ("dec-000002.1", {"gates_open": 0.5}),
    ]
    first, _ = sitting.council.decisions(5)
    assert (first.policy, first.mode, first.reason, first.at_s) == ("order", "act", "fire drill", T0)
    assert [sight.entity for sight in first.because] == ["venue/arena"]
    assert sitting.at(11.0).commands == []


def test_an_order_to_nobody_is_refused() -> None:
    sitting = Sitting()
    with pytest.raises(KeyError, match="venue/nowhere"):
        sitting.council.order("venue/nowhere", {"gates_open": 0.0}, "", sitting.town.look(T0))
    assert sitting.at(1.0).commands == []


# -- alerts, needs, emergencies ------------------------------------------------------------------------------------


def test_alerts_are_noted_when_they_are_raised_and_when_they_clear() -> None:
    sitting = Sitting()
    assert news(sitting.at(0.0), "alert") == []
    sitting.heat(0.0)
    told = news(sitting.at(60.0), "alert")
    hot = next(each for each in told if each["alert"] == "hot_transformer")
    assert (hot["entity"], hot["severity"], hot["raised"]) == ("substation/quay", "critical", True)
    assert hot["says"] == "the hot spot is above hot_spot_limit_c: shed load"
    assert news(sitting.at(61.0), "alert") == []  # it still stands
    assert sitting.council.summary()["alerts_active"] == len(told)
    sitting.heat(600.0, oil_temp_c=45.0, load_mw=10.0)
    sitting.heat(4200.0, oil_temp_c=35.0, load_mw=5.0)
    cleared = news(sitting.at(4260.0), "alert")
    assert ("hot_transformer", False) in {(each["alert"], each["raised"]) for each in cleared}
    assert sitting.council.summary()["alerts_active"] == 0
    assert sitting.council.summary()["alerts_raised"] == len(told)
    assert len(sitting.council.alerts(100)) == 2 * len(told)


def test_units_are_sent_where_they_are_needed_and_not_twice() -> None:
    sitting = Sitting()
    sitting.heat(0.0)
    effects = sitting.at(60.0)
    (record,) = sitting.council.allocations(5)
    (sent,) = record.allocation.assignments
    assert (sent.entity, sent.demand, sent.unit[:5]) == ("substation/quay", "substation/quay:crew", "crew/")
    # 1.0 km at 36 km/h
    assert 60.0 < sent.arrives_at_s - sent.assigned_at_s < 180.0
    assert {each.resource for each in record.demands} == {"crew", "mobile_generator"}
    assert news(effects, "decision")[0]["allocation"]["id"] == record.id == "all-000001"
    sitting.at(61.0)
    sitting.at(120.0)
    assert len(sitting.council.allocations(5)) == 1  # one crew was asked for, one is on its way
    assert sitting.council.summary()["units_busy"] == 1


def test_a_city_without_units_allocates_nothing() -> None:
    sitting = Sitting(text=QUARTER[: QUARTER.index("resources:")])
    sitting.heat(0.0)
    sitting.at(60.0)
    assert sitting.council.allocations(5) == []
    assert sitting.council.summary()["units"] == 0
    assert sitting.council.summary()["emergencies_open"] == 1


def test_an_emergency_opens_is_served_and_closes() -> None:
    sitting = Sitting()
    sitting.heat(0.0)
    sitting.at(60.0)
    (opened,) = sitting.council.emergencies(5)
    assert (opened.entity, opened.alert, opened.phase) == ("substation/quay", "hot_transformer", Phase.INCIDENT)
    sitting.at(61.0)
    assert sitting.council.emergencies(5)[0].phase is Phase.DISPATCHED
    sitting.at(300.0)
    served = sitting.council.emergencies(5)[0]
    assert served.phase is Phase.ON_SITE
    assert served.units == (sitting.council.allocations(1)[0].allocation.assignments[0].unit,)
    sitting.heat(600.0, oil_temp_c=45.0, load_mw=10.0)
    sitting.heat(4200.0, oil_temp_c=35.0, load_mw=5.0)
    sitting.at(4260.0)
    assert sitting.council.summary()["emergencies_open"] == 1  # the crew is still at work
    sitting.at(T_DONE := 60.0 + 2 * 3600.0 + 600.0)
    (closed,) = sitting.council.emergencies(5)
    assert (closed.phase, closed.closed_at_s) == (Phase.CLOSED, T0 + T_DONE)
    summary = sitting.council.summary()
    assert (summary["emergencies"], summary["emergencies_open"], summary["units_busy"]) == (1, 0, 0)


def test_the_same_views_give_the_same_decisions() -> None:
    def life() -> tuple[Any, ...]:
        sitting = Sitting(when([60.0], GATES, CARS))
        sitting.heat(0.0)
        told = [sitting.at(after_s) for after_s in (0.0, 60.0, 120.0, 301.0)]
        return told, sitting.council.decisions(9), sitting.council.allocations(9), sitting.council.alerts(9)

    assert life() == life()


# -- over restarts -------------------------------------------------------------------------------------------------


class MortalSitting(Sitting):
    """A council that dies after every tick; the next one has its minutes and its records, as JSON."""

    def __init__(self, *policies: PolicyInUse, text: str = QUARTER) -> None:
        super().__init__(*policies, text=text)
        self.policies = policies
        self.records: dict[str, list[Any]] = {}

    def at(self, after_s: float) -> Effects:
        effects = super().at(after_s)
        for table, rows in self.council.unrecorded.items():
            self.records.setdefault(table, []).extend(json.loads(json.dumps(rows)))
        self.council.recorded()
        state = json.loads(json.dumps(self.council.state()))
        self.council = Council(self.town.scenario, self.town.catalogue, self.policies)
        self.council.restore(state, self.records)
        return effects


def test_a_council_that_dies_after_every_tick_decides_the_same() -> None:
    policies = (when(range(0, 400, 20), GATES, CARS, MORE, cooldown_s=50.0),)
    lives: list[Sitting] = [Sitting(*policies), MortalSitting(*policies)]
    for after_s in range(0, 400, 10):
        if after_s == 60:
            for life in lives:
                life.heat(float(after_s))
        if after_s == 150:
            for life in lives:
                life.council.order("venue/arena", {"gates_open": 0.1}, "by hand", life.town.look(T0 + after_s))
        if after_s == 200:
            for life in lives:
                life.council.answered("dec-000001.1", done=True, at_s=T0 + after_s, note="")
        one, other = (life.at(float(after_s)) for life in lives)
        assert one == other
    one, other = (life.council for life in lives)
    summary = one.summary()
    assert other.summary() == summary
    assert summary["allocations"] > 0
    assert summary["emergencies"] > 0
    assert summary["commands_expired"] > 0
    assert other.decisions(500) == one.decisions(500)
    assert other.commands(500) == one.commands(500)
    assert other.allocations(500) == one.allocations(500)
    assert other.alerts(500) == one.alerts(500)
    assert other.emergencies(500) == one.emergencies(500)
