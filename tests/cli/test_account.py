"""The account of a run and how values are shown, without a city."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from twin_actors.cli.asking import _must_balance, _setting
from twin_actors.cli.cities import city_and_entities, seconds, with_city
from twin_actors.cli.faults import ExitCode, Failed, explained
from twin_actors.cli.live import Look, keep_showing, rendered
from twin_actors.cli.summary import shown, summarise
from twin_actors.cli.voice import Voice, moment, plain, span, words
from twin_actors.core.ledger import Ledger
from twin_actors.runtime.pace import Pace
from twin_actors.runtime.placement import LaunchRefused
from twin_actors.scenario import CatalogueError, Problem, ScenarioError

PROMISED = {
    "city", "twins", "actors", "launch_s", "readings_received", "readings_applied", "dead_lettered", "duplicates",
    "late", "shed", "in_flight", "alerts", "decisions", "allocations", "commands_sent", "commands_acknowledged",
    "commands_expired", "emergencies", "ledger_balanced", "unexplained", "kinds",
}  # fmt: skip

STATUS: Mapping[str, Any] = {
    "city": "little",
    "now_s": 1_780_000_000.0,
    "aggregator": {
        "tick": 30,
        "failed_ticks": 0,
        "errors": ["tick 3: ValueError: no"],
        "kinds": {"venue": {"twins": 2, "stale": 1, "silent": 0, "alerts": 1, "oldest_look_s": 1.0}},
        "decisions": 4,
        "allocations": 1,
        "alerts_raised": 3,
        "alerts_active": 1,
        "emergencies": 2,
        "emergencies_open": 1,
        "commands_sent": 5,
        "commands_acknowledged": 3,
        "commands_rejected": 1,
        "commands_expired": 1,
        **Pace().summary(2.0),
    },
    "router": {
        "connected": True,
        "broker_error": "",
        "protocol": "5",
        "open_commands": 0,
        "rejected_fields": 0,
        "missing_upstream": 2,
        "dead_letter_reasons": {"not-json": 1},
        "actors": {"twins:00001": {"standing": "up", "last_error": ""}},
    },
    "controller": {"total": 1},
}
LEDGER = Ledger(received=10, applied=6, duplicate=1, late=1, dead_lettered=1, shed=0, in_flight=1)


def screen(*what: Any) -> str:
    console = Console(file=StringIO(), width=200)
    for each in what:
        console.print(each)
    return console.file.getvalue()  # type: ignore[attr-defined]


def account(ledger: Ledger = LEDGER) -> dict[str, Any]:
    return summarise(city="little", twins=2, launch_s=1.23456, ran_s=30.0, ledger=ledger, status=STATUS)


def test_the_account_holds_what_is_promised() -> None:
    said = account()
    assert said.keys() >= PROMISED
    assert json.loads(json.dumps(plain(said), allow_nan=False)) == said
    assert (said["readings_received"], said["duplicates"], said["in_flight"]) == (10, 1, 1)
    assert (said["alerts"], said["emergencies"], said["commands_expired"]) == (3, 2, 1)
    assert said["kinds"] == {"venue": {"twins": 2, "stale": 1, "silent": 0, "alerts": 1}}
    assert said["ledger_balanced"] is True


@given(st.builds(Ledger, **{name: st.integers(0, 10**9) for name in ("received", "applied", "late", "in_flight")}))
def test_the_account_never_hides_an_unbalanced_ledger(ledger: Ledger) -> None:
    said = account(ledger)
    assert said["unexplained"] == ledger.received - ledger.applied - ledger.late - ledger.in_flight
    assert said["ledger_balanced"] == (said["unexplained"] == 0)


def test_the_account_is_readable() -> None:
    text = screen(*shown(account()))
    assert "10 received (0/s) = 6 applied + 1 duplicate" in text
    assert "5 sent, 3 acknowledged, 1 rejected, 1 expired" in text
    assert "error: tick 3" in text
    assert "UNEXPLAINED" in screen(*shown(account(Ledger(received=3))))


def test_an_unbalanced_ledger_has_an_exit_code_of_its_own() -> None:
    _must_balance({"": LEDGER})
    with pytest.raises(Failed, match=r"venue \+3") as caught:
        _must_balance({"": LEDGER, "venue": Ledger(received=3)})
    assert caught.value.code == ExitCode.LEDGER_UNBALANCED == 4


def test_the_live_view_says_rates_states_and_decisions() -> None:
    decision = {"at_s": 1_780_000_000.0, "policy": "calm", "mode": "act", "reason": "because"}
    before = Look(status=dict(STATUS), ledger=Ledger(), taken_s=0.0)
    now = Look(status=dict(STATUS), ledger=LEDGER, decisions=[decision], taken_s=2.0)
    text = screen(rendered("little", now, before))
    for part in ("tick 30", "5 readings/s", "1/1 actors up", "[balanced]", "calm (act): because", "error: tick 3"):
        assert part in text
    assert "does not answer" in screen(rendered("little", Look(error="router does not answer")))


def test_the_view_is_shown_until_its_time_is_over_or_somebody_stops_it() -> None:
    looks: list[int] = []
    stop = threading.Event()

    def show() -> str:
        looks.append(1)
        if len(looks) == 3:
            stop.set()
        return "seen"

    keep_showing(Voice(True), show, stop, refresh_s=0.001)
    assert len(looks) == 3
    keep_showing(Voice(True), show, threading.Event(), for_s=1e-9)
    assert len(looks) == 4


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Spot:
    at_s: float
    colour: Colour
    values: Mapping[str, Any]


def test_everything_becomes_plain_json() -> None:
    import pandas as pd

    spot = Spot(float("nan"), Colour.RED, {"a": (1.0, np.float64("inf")), "b": b"\xff{", "n": np.int64(3)})
    assert plain(spot) == {"at_s": None, "colour": "red", "values": {"a": [1.0, None], "b": "\\xff{", "n": 3}}
    frame = pd.DataFrame({"x": [1.5, np.nan]}, index=pd.Index(["v/1", "v/2"], name="entity"))
    assert plain(frame) == [{"entity": "v/1", "x": 1.5}, {"entity": "v/2", "x": None}]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_whatever_it_is_json_can_carry_it(value: Any) -> None:
    json.dumps(plain(value), allow_nan=False)


def test_times_and_numbers_for_people() -> None:
    assert moment(0.0) == "1970-01-01 00:00:00"
    assert moment(None) == moment(float("nan")) == ""
    assert [span(s) for s in (0.5, 59, 200, 7500, 90_000)] == ["0.5 s", "59 s", "3 min 20 s", "2 h 5 min", "1 d 1 h"]
    assert words("at_s", 0.0) == "1970-01-01 00:00:00"
    assert words("x", 0.123456) == "0.1235"
    assert words("x", {"gates_open": 0.5, "note": ""}) == "gates_open=0.5"
    assert len(words("x", "y" * 500)) == 120


def test_words_of_the_command_line() -> None:
    assert seconds("30s") == seconds("30") == 30.0
    assert seconds("5min") == 300.0
    assert with_city(["venue/a"], 1, "") == (None, ["venue/a"])
    assert with_city(["town", "venue/a"], 1, "") == ("town", ["venue/a"])
    assert city_and_entities(["venue/a", "venue/b"]) == (None, ["venue/a", "venue/b"])
    assert city_and_entities(["town"]) == ("town", [])
    assert _setting("gates_open=0.5") == ("gates_open", 0.5)
    assert _setting("green_split=0.2,0.3") == ("green_split", (0.2, 0.3))


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (KeyError("no entity 'x'"), "no entity 'x'", 1),
        (TimeoutError("too slow"), "too slow", 1),
        (LaunchRefused("too big"), "too big", 3),
        (CatalogueError("two domains"), "two domains", 2),
        (ScenarioError([Problem(file="f", line=1, key="k", message="m")]), "f:1: k: m\n1 problem", 2),
        (TypeError("odd"), "unexpected TypeError: odd (run it again with --debug", 1),
    ],
)
def test_errors_have_words_and_codes(error: Exception, message: str, code: int) -> None:
    said, found = explained(error)
    assert said.startswith(message)
    assert found == code
