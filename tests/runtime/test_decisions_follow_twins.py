"""Decisions come from what devices say: a venue that is heard to empty becomes traffic, a silent one does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from twin_actors.core.view import CommandTo, CoupleTo
from twin_actors.runtime.city import City
from twin_actors.scenario import Scenario
from twin_actors.testing.live import Publisher, devices_of, eventually, living
from twin_actors.wire.messages import Command, decode_command

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(120)]

LEAVING_PMIN = 300.0
CARS_VPH = LEAVING_PMIN * 60 * 0.5 / 2.5  # half of them by car, two and a half to a car: the policy's defaults
SHARE = 0.5
DELAY_S = 60.0
EVENING = """
city: {city}
clock: {{mode: scaled, speed: 60}}
tick_s: 0.1
placement: {{entities_per_actor: 10}}
entities:
  - {{kind: venue, name: arena, attributes: &house {{area_m2: 9000, capacity_persons: 16000, exit_width_m: 28,
     initial_persons: 12000}}}}
  - {{kind: venue, name: hall, attributes: *house}}
  - {{kind: intersection, name: quay}}
  - {{kind: intersection, name: north}}
relations:
  - {{name: empties_to, from: venue/arena, to: intersection/quay, share: 0.5, delay: 60s}}
  - {{name: empties_to, from: venue/hall, to: intersection/north, share: 0.5, delay: 60s}}
policies:
  - {{use: venue_emptying, mode: {mode}}}
  - {{use: max_pressure, mode: {mode}, with: {{change_min: 0.08}}}}
"""


@dataclass
class Street:
    """The devices of the evening. Every turn says all that has happened up to now on the devices' clocks."""

    city: City
    devices: Publisher
    began_s: float
    commands: list[Command] = field(default_factory=list)
    _said_until_s: float = 0.0

    def turn(self, venues: tuple[str, ...]) -> None:
        """One reading a city minute of these venues and of both junctions; the door counters go on counting."""
        now_s = self.city.now_s()
        at_s = max(self._said_until_s, self.began_s)
        while at_s + 60 <= now_s:
            at_s += 60
            left = round(LEAVING_PMIN * (at_s - self.began_s) / 60)
            for venue in venues:
                self.devices.say(venue, {"in_persons": 12_000, "out_persons": min(left, 11_000)}, at_s=at_s)
            for name in ("quay", "north"):
                self.devices.say(f"intersection/{name}", {"queue_veh": {"nt": 40, "st": 35}}, at_s=at_s)
            self._said_until_s = at_s
        self.devices.flush()

    def until(self, condition: Callable[[], Any], venues: tuple[str, ...], says: str) -> Any:
        """Let the evening go on until the condition holds."""

        def look() -> Any:
            self.turn(venues)
            return condition()

        return eventually(look, within_s=30.0, says=says)

    def ticks(self, count: int, venues: tuple[str, ...]) -> None:
        """Let the evening go on for so many sittings of the council, and ten minutes of the city at least."""
        tick, since_s = self.tick, self.city.now_s()
        self.until(
            lambda: self.tick >= tick + count and self.city.now_s() >= since_s + 600, venues, f"{count} more ticks"
        )

    @property
    def tick(self) -> int:
        status = self.city.status()["aggregator"]
        assert status["failed_ticks"] == 0, status["errors"]
        return int(status["tick"])

    def emptying(self) -> list[Any]:
        """The decisions of ``venue_emptying`` so far, as rows."""
        made = self.city.decisions(last=1000)
        return [] if made.empty else list(made[made["policy"] == "venue_emptying"].itertuples())

    def plans(self) -> list[Any]:
        made = self.city.decisions(last=1000)
        return [] if made.empty else list(made[made["policy"] == "max_pressure"].itertuples())


@pytest.fixture
def street(make_scenario: Callable[[str], Scenario]) -> Iterator[Callable[..., Street]]:
    """``street(city, mode)``: the evening as it begins, ten minutes ago, with a listener to all commands."""
    closing: list[Any] = []

    def begin(city: str, mode: str) -> Street:
        living_city = living(make_scenario(EVENING.format(city=city, mode=mode)))
        street_city = living_city.__enter__()
        closing.append(living_city)
        heard: list[Command] = []
        publisher = devices_of(street_city, receive=lambda topic, payload, *_: heard.append(decode_command(payload)))
        devices = publisher.__enter__()
        closing.append(publisher)
        for kind_filter in devices.topics.commands():
            devices.client.subscribe(kind_filter, 1)
        eventually(lambda: devices.client.ready)
        return Street(street_city, devices, street_city.now_s() - 600, heard)

    yield begin
    for each in reversed(closing):
        each.__exit__(None, None, None)


def test_a_venue_that_empties_sends_cars_and_a_silent_one_does_not(street: Callable[..., Street]) -> None:
    evening = street("evening", "act")
    city, arena = evening.city, ("venue/arena",)
    first = evening.until(evening.emptying, arena, "a decision of venue_emptying")[0]
    assert first.mode == "act"
    assert [seen.entity for seen in first.because] == ["venue/arena"]
    assert first.because[0].revision > 0
    assert 0 <= first.because[0].age_s < 600
    assert "venue/arena" in first.reason
    assert [(type(effect), effect.entity, effect.after_s) for effect in first.effects] == [
        (CoupleTo, "intersection/quay", DELAY_S)
    ]

    evening.until(lambda: city["intersection/quay"].couplings.event_vph > 0, arena, "cars at the quay")
    latest = evening.until(
        lambda: (
            abs(city["intersection/quay"].couplings.event_vph - SHARE * CARS_VPH) < 0.15 * SHARE * CARS_VPH
            and city["intersection/quay"]
        ),
        arena,
        f"about {SHARE * CARS_VPH:.0f} veh/h at the quay, now {city['intersection/quay'].couplings}",
    )
    assert latest.indicators["waiting_veh"] > 0
    said = {effect.values["event_vph"] for row in evening.emptying() for effect in row.effects}
    assert latest.couplings.event_vph in said  # what is in force is what was decided
    told = next(r for r in evening.emptying() for e in r.effects if e.values["event_vph"] == latest.couplings.event_vph)
    assert city.now_s() >= told.at_s + DELAY_S

    evening.ticks(20, arena)
    because = {seen.entity for row in evening.emptying() for seen in row.because}
    reached = {effect.entity for row in evening.emptying() for effect in row.effects}
    assert because == {"venue/arena"}
    assert reached == {"intersection/quay"}
    assert city["intersection/north"].couplings.event_vph == 0
    assert city["venue/hall"].source("left_persons") == "assumed"

    plan = evening.plans()[0]
    (order,) = plan.effects
    assert isinstance(order, CommandTo)
    command = eventually(lambda: next((each for each in evening.commands if each.decision == plan.Index), None))
    assert command.values == {"green_split": tuple(order.values["green_split"])}
    assert city.ledger().balanced


def test_the_same_evening_with_silent_counters_decides_nothing(street: Callable[..., Street]) -> None:
    evening = street("silent", "act")
    evening.ticks(30, ())
    assert evening.emptying() == []
    assert evening.city["intersection/quay"].couplings.event_vph == 0
    assert evening.plans(), "the junctions did speak"
    assert {seen.entity for row in evening.plans() for seen in row.because} <= {
        "intersection/quay",
        "intersection/north",
    }


def test_counters_that_fell_silent_long_ago_decide_nothing(street: Callable[..., Street]) -> None:
    evening = street("fallen", "act")
    evening.began_s -= 3600
    silent_since_s = evening.city.now_s() - 1800
    for minute in range(20):
        evening.devices.say(
            "venue/arena",
            {"in_persons": 12_000, "out_persons": minute * LEAVING_PMIN},
            at_s=silent_since_s - (20 - minute) * 60,
        )
    evening.devices.flush()
    eventually(lambda: evening.city["venue/arena"].fates["applied"] == 20)
    assert evening.city["venue/arena"].outflow_pmin == pytest.approx(LEAVING_PMIN, rel=0.2)
    evening.ticks(20, ())
    assert evening.emptying() == []
    assert evening.city["intersection/quay"].couplings.event_vph == 0


def test_advice_is_recorded_and_sends_nothing(street: Callable[..., Street]) -> None:
    evening = street("advice", "advise")
    city, arena = evening.city, ("venue/arena",)
    first = evening.until(evening.emptying, arena, "an advice of venue_emptying")[0]
    assert first.mode == "advise"
    assert [seen.entity for seen in first.because] == ["venue/arena"]
    (effect,) = first.effects
    assert effect.values["event_vph"] > 0
    evening.until(evening.plans, arena, "an advice of max_pressure")
    evening.ticks(20, arena)
    assert city["intersection/quay"].couplings.event_vph == 0
    assert city["intersection/quay"].differs == {}
    assert city.commands().empty
    assert evening.commands == []
    summary = city.status()["aggregator"]
    assert summary["decisions"] >= 2
    assert summary["commands_sent"] == 0
    assert all(row.mode == "advise" for row in city.decisions(last=1000).itertuples())
