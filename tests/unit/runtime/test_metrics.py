"""Metrics: samples from a city's status, the bound on series of actors, and text that Prometheus' own parser reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.runtime.cities import UNHURRIED
from twin_actors.core.ledger import Ledger
from twin_actors.runtime.metrics import METRICS, MOST_ACTORS, MOST_NODES, Sample, chosen, exposition, gather, samples
from twin_actors.runtime.pace import Pace

LEDGER = Ledger(received=10, applied=6, duplicate=1, late=1, dead_lettered=1, shed=0, in_flight=1)


def actor(**other: Any) -> dict[str, Any]:
    return {
        "standing": "up", "epoch": 1, "applied": 6, "offset": 41, "snapshot_offset": 30, "waiting": 3, "under_way": 2,
        "held_back": 1, "busy_s": 0.25, "failures": 4, "quarantined": 0, "shed": 0,
    } | other  # fmt: skip


def status(actors: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "city": "little",
        "router": {
            "epoch": 2, "recovered": True, "uncommitted": 7, "store_trouble": "disk full", "store_failures": 3,
            "connected": True, "broker_dropped": None, "reconnects": 1, "unpublished": 0, "log_offset": 99,
            "open_commands": 2, "cpu_s": 1.5, "dead_letter_reasons": {"not_json": 1},
            "actors": {"twins:00001": actor()} if actors is None else actors,
        },
        "aggregator": {
            "epoch": 1, "tick": 30, "tick_wall_s": 0.004, **Pace().summary(2.0),
            "failed_ticks": 0, "decisions": 4, "alerts_raised": 3,
            "emergencies": 2, "emergencies_open": 1, "units": 5, "units_busy": 2, "commands_sent": 5,
            "commands_acknowledged": 3, "commands_rejected": 1, "commands_expired": 1, "commands_open": 0,
            "commands_postponed": 0,
            "kinds": {
                "venue": {"twins": 2, "stale": 1, "silent": 0, "alerts": 1, "coverage_90": 0.91, "drifting": 1,
                          "innovation_rmse": {"in_persons": 12.5}},
                "footfall": {"twins": 3, "stale": 0, "silent": 3, "alerts": 0, "coverage_90": None, "drifting": 0,
                             "innovation_rmse": {}},
            },
        },
        "controller": {
            "recreated": 1,
            "audit": {"alarms": [{"alarm": "not_up"}, {"alarm": "not_up"}, {"alarm": "unavailable"}]},
            "history": {"runs": 8, "sealed_entries": 1000, "trouble": ""},
            "moves": {"count": 12, "waiting": 4, "under_way": ["twins:00001", "twins:00002"],
                      "stranded": ["twins:00003"], "trouble": "", "longest_wait_s": 2.5,
                      "ends": [("moved", "as_planned", 7), ("moved", "elsewhere", 0), ("given_up", "restless", 2),
                               ("given_up", "unsaved", 0), ("given_up", "interrupted", 0), ("failed", "silent", 1)]},
            "nodes": [node("ab" * 14, "10.0.0.1"), node("cd" * 14, "10.0.0.2", state="leaving", actors=1)],
        },
    }  # fmt: skip


def node(name: str, address: str, **other: Any) -> dict[str, Any]:
    return {
        "node": name, "address": address, "state": "open", "actors": 3, "twins": 30, "memory_bytes": 200_000_000,
        "capacity_bytes": 900_000_000, "readings_per_s": 12.5, "cores": 2.0, "labels": {}, "left": [],
    } | other  # fmt: skip


def values(found: list[Sample]) -> dict[tuple[str, ...], float]:
    """By name without the common prefix, and labels without the city."""
    assert all(sample.values[0] == "little" for sample in found)
    return {(each.metric.name.removeprefix("twin_actors_"), *each.values[1:]): each.value for each in found}


def parsed(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_metric_has_its_value() -> None:
    found = values(samples(status(), LEDGER))
    expected = {
        ("ledger", "received"): 10, ("ledger", "applied"): 6, ("ledger", "in_flight"): 1, ("unexplained",): 0,
        ("answers", "router"): 1, ("alarms", "not_up"): 2, ("alarms", "unavailable"): 1, ("recreated_total",): 1,
        ("actors",): 1, ("actors_up",): 1, ("actors_left_out",): 0, ("backlog", "waiting"): 3,
        ("backlog", "under_way"): 2, ("backlog", "held_back"): 1, ("actor_up", "twins:00001"): 1,
        ("actor_applied_total", "twins:00001"): 6, ("actor_snapshot_lag", "twins:00001"): 11,
        ("actor_busy_seconds_total", "twins:00001"): 0.25, ("actor_failures_total", "twins:00001"): 4,
        ("kind_twins", "venue"): 2, ("kind_coverage_90", "venue"): 0.91,
        ("kind_innovation_rmse", "venue", "in_persons"): 12.5, ("kind_silent", "footfall"): 3,
        ("router_store_trouble",): 1, ("router_broker_connected",): 1, ("router_uncommitted",): 7,
        ("dead_letters_total", "not_json"): 1, ("ticks_total",): 30, ("tick_seconds",): 0.004,
        ("commands", "acknowledged"): 3, ("emergencies_open",): 1, ("history_sealed_entries_total",): 1000,
        ("history_trouble",): 0, ("moves_total",): 12, ("moves_open", "waiting"): 4, ("moves_open", "under_way"): 2,
        ("stranded_actors",): 1, ("moves_ended_total", "moved", "as_planned"): 7,
        ("moves_ended_total", "given_up", "restless"): 2, ("moves_ended_total", "failed", "silent"): 1,
        ("moves_longest_wait_seconds",): 2.5, ("node_actors", "10.0.0.2"): 1, ("node_twins", "10.0.0.1"): 30,
        ("node_memory_bytes", "10.0.0.1"): 200_000_000, ("node_capacity_bytes", "10.0.0.1"): 900_000_000,
        ("node_readings_per_second", "10.0.0.1"): 12.5, ("node_open", "10.0.0.1"): 1, ("node_open", "10.0.0.2"): 0,
        ("nodes_left_out",): 0,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected


def test_what_is_not_known_is_no_sample() -> None:
    """A broker that does not count what it drops, a kind that nothing has been compared of, a ledger not known now."""
    found = values(samples(status(), None))
    assert ("router_broker_dropped_total",) not in found
    assert ("kind_coverage_90", "footfall") not in found
    assert not {"ledger", "unexplained"} & {name for name, *_ in found}
    assert {sample.metric for sample in samples(status(), LEDGER)} == set(METRICS) - {
        metric for metric in METRICS if metric.name == "twin_actors_router_broker_dropped_total"
    }


def test_series_of_nodes_are_bounded_and_nodes_that_share_an_address_are_told_apart() -> None:
    said = status()
    said["controller"]["nodes"] = [node(f"{n:08x}" * 7, "127.0.0.1", actors=n) for n in range(MOST_NODES + 20)]
    found = values(samples(said, None))
    shown = {key[1]: value for key, value in found.items() if key[0] == "node_actors"}
    assert len(shown) == MOST_NODES
    assert min(shown.values()) == 20, "the fullest"
    assert shown[f"127.0.0.1#{50:08x}"] == 50
    assert found["nodes_left_out",] == 20


def test_an_unexplained_reading_shows_with_its_sign() -> None:
    assert values(samples(status(), Ledger(received=1, applied=3)))["unexplained",] == -2


def test_a_part_that_does_not_answer_is_said_and_its_samples_are_missing() -> None:
    asked = []

    def ask(name: str, method: str) -> Any:
        asked.append((name, method))
        return None if name == "router" else status()[name]

    found = values(gather("little", ("router",), ask))
    assert found["answers", "router"] == 0
    assert found["answers", "aggregator"] == found["answers", "controller"] == 1
    assert ("ticks_total",) in found
    assert not any(name.startswith(("router_", "actor", "ledger")) for name, *_ in found)
    assert ("router", "ledger") not in asked


@pytest.mark.parametrize("recovered", [True, False])
def test_a_ledger_is_asked_for_only_when_it_can_be_had(recovered: bool) -> None:
    router = status()["router"] | {"recovered": recovered}
    answers = {"status": router, "ledger": LEDGER}
    found = values(gather("little", ("router",), lambda name, method: answers[method] if name == "router" else None))
    assert (("unexplained",) in found) is recovered
    assert found["router_recovered",] == recovered


def test_an_actor_that_begins_again_has_no_negative_lag() -> None:
    found = values(samples(status({"a": actor(offset=-1, snapshot_offset=500)}), None))
    assert found["actor_snapshot_lag", "a"] == 0


def test_of_many_actors_those_in_trouble_have_series_and_the_rest_is_counted() -> None:
    calm = actor(waiting=0, under_way=0, held_back=0)
    actors = {f"twins:{n:05}": dict(calm) for n in range(10_000)}
    actors["twins:09000"]["waiting"] = 50_000
    actors["twins:09999"]["standing"] = "waiting"
    found = samples(status(actors), None)
    said = values(found)
    shown = {each.labels["actor"] for each in found if "actor" in each.metric.labels}
    assert len(shown) == MOST_ACTORS
    assert {"twins:09000", "twins:09999"} <= shown
    assert said["actors_left_out",] == 10_000 - MOST_ACTORS
    assert (said["actors",], said["actors_up",]) == (10_000, 9_999)
    assert said["backlog", "waiting"] == 50_000


@UNHURRIED
@given(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=3 * MOST_ACTORS), st.randoms())
def test_the_choice_is_bounded_and_never_leaves_out_more_trouble_than_it_shows(
    backlogs: list[tuple[int, bool]], random: Any
) -> None:
    actors = {
        f"{n}": actor(waiting=waiting, under_way=0, held_back=0, standing="up" if up else "asking")
        for n, (waiting, up) in enumerate(backlogs)
    }
    own = chosen(actors, random.sample(sorted(actors), len(actors) // 2))
    assert len(own) == len(set(own)) == min(len(actors), MOST_ACTORS)
    left = actors.keys() - set(own)
    if any(actors[name]["standing"] != "up" for name in left):
        assert all(actors[name]["standing"] != "up" for name in own)
    most_left = max((actors[name]["waiting"] for name in left if actors[name]["standing"] == "up"), default=0)
    for name in own:
        assert actors[name]["standing"] != "up" or 2 * actors[name]["waiting"] >= most_left - 1


def test_series_do_not_come_and_go_with_small_changes() -> None:
    first = {f"{n:04}": actor(waiting=100 + n % 3) for n in range(1000)}
    shown = chosen(first)
    second = {name: actor(waiting=102 - n % 3) for n, name in enumerate(reversed(first))}
    assert chosen(second, shown) == shown
    second["0999"]["waiting"] = 400
    assert set(chosen(second, shown)) - set(shown) == {"0999"}


def test_the_text_is_what_prometheus_reads() -> None:
    found = samples(status(), LEDGER)
    text = exposition(found)
    assert parsed(text) == {(s.metric.name, frozenset(s.labels.items())): s.value for s in found}
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["twin_actors_actor_applied"].type == "counter"
    assert families["twin_actors_ledger"].type == "gauge"
    assert all(family.documentation for family in families.values())
    assert exposition([]) == ""


@given(st.text(), st.floats(allow_nan=True) | st.integers(-(2**53), 2**53))
def test_any_label_and_any_number_survive_the_text(label: str, value: float) -> None:
    metric = next(each for each in METRICS if each.labels == ("city", "kind"))
    back = parsed(exposition([Sample(metric, ("little", label), value)]))
    ((_, labels),) = back
    assert dict(labels) == {"city": "little", "kind": label}
    (number,) = back.values()
    assert number == value or (math.isnan(number) and math.isnan(value))


def test_names_and_labels_follow_the_conventions() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("twin_actors_")
        assert metric.name.endswith("_total") == metric.counter, metric.name
        assert metric.labels[0] == "city"
        assert "entity" not in metric.labels
        assert metric.says
