"""What a Kind and its parts refuse when they are declared, in words that name the mistake."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.unit.core.toy import DOMAIN, JOINT, PIPE, TANK, TankReading, TankState, tank
from twin_actors.core.columns import (
    Column,
    Command,
    Couplings,
    Reading,
    State,
    Windows,
    hourly,
    memory,
    reading,
    state,
)
from twin_actors.core.kind import Alert, Domain, records


def test_the_toy_kinds_are_kinds() -> None:
    assert [kind.name for kind in DOMAIN.kinds] == ["tank", "joint_tank"]
    assert (TANK.filter, JOINT.filter) == ("diagonal", "joint")


def test_records_are_found_by_the_names_that_users_know() -> None:
    assert list(records(TANK)) == ["attributes", "reading", "state", "command", "couplings", "windows"]
    assert records(TANK)["reading"] is TankReading


def test_a_kind_without_commands_couplings_and_windows_has_empty_ones() -> None:
    fields = {f.name: f.default for f in dataclasses.fields(type(TANK))}
    assert (fields["command"], fields["couplings"], fields["windows"]) == (Command, Couplings, Windows)
    assert Command.layout.rows == Couplings.layout.rows == Windows.layout.rows == 0


def test_a_kind_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TANK.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("limits", [{}, {"above": 1.0, "below": 2.0}])
def test_an_alert_has_exactly_one_limit(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="alert 'full': give exactly one of above and below"):
        Alert(name="full", of="level_m", **limits)


def test_an_alert_watches_an_indicator_or_a_state() -> None:
    with pytest.raises(ValueError, match="kind tank: alert 'a' watches 'colour', which is neither"):
        tank(alerts=(Alert(name="a", of="colour", above=1.0),))
    for watched in ("volume_m3", "level_m"):
        assert tank(alerts=(Alert(name="a", of=watched, above=1.0),)).alerts[0].of == watched


@pytest.mark.parametrize("limit", ["above", "below", "clear"])
def test_an_alert_takes_a_named_limit_from_an_attribute_only(limit: str) -> None:
    limits: dict[str, Any] = {"above": 1.0} if limit == "clear" else {}
    with pytest.raises(ValueError, match="takes its limit from 'volume_m3', which is not an attribute"):
        tank(alerts=(Alert(name="a", of="level_m", **(limits | {limit: "volume_m3"})),))


def test_a_reading_measures_a_state_that_exists() -> None:
    class Wrong(Reading):
        depth_m: Column = reading("m", sd=0.1, of="depth_of_water_m")

    with pytest.raises(ValueError, match="reading 'depth_m' measures 'depth_of_water_m', which is not a state"):
        tank(reading=Wrong, windows=Windows)


def test_a_reading_that_names_no_state_is_only_reported() -> None:
    class Extra(TankReading):
        battery_v: Column = reading("V", sd=0.1)

    assert "battery_v" in tank(reading=Extra).reading.layout.fields


def test_a_reading_and_its_state_have_the_same_axes() -> None:
    class Wrong(Reading):
        level_m: Column = reading("m", PIPE, sd=0.1)

    with pytest.raises(ValueError, match="reading 'level_m' and state 'level_m' have different axes"):
        tank(reading=Wrong, windows=Windows)


def test_memory_is_exact_and_cannot_be_measured() -> None:
    class Hours(Reading):
        pumped_h: Column = reading("h", sd=0.1)

    with pytest.raises(ValueError, match="kind tank: 'pumped_h' is memory and cannot be measured"):
        tank(reading=Hours, windows=Windows)


def test_a_window_keeps_a_reading_of_the_same_axes() -> None:
    class Nothing(Windows):
        rain_hourly: Column = hourly("m", of="rain_m")

    class OtherAxes(Windows):
        level_hourly: Column = hourly("m", PIPE, of="level_m")

    for wrong in (Nothing, OtherAxes):
        with pytest.raises(ValueError, match=r"kind tank: window '\w+' keeps '\w+', which is not a reading"):
            tank(windows=wrong)


def test_a_measured_state_may_have_another_name() -> None:
    class Named(Reading):
        gauge_m: Column = reading("m", sd=0.1, of="level_m")

    class Level(State):
        level_m: Column = state("m", default=0, unsure_sd=1, drift=0)
        filled_h: Column = memory("h")

    kind = tank(reading=Named, state=Level, windows=Windows, alerts=())
    assert kind.reading.layout.fields["gauge_m"].of == "level_m"
    assert TankState.layout.rows == 6


def test_a_domain_may_be_of_policies_alone() -> None:
    assert Domain(name="empty", doc="Nothing.").kinds == ()
