"""Metrics of a city: their names and meanings, samples from what its actors say of themselves, and Prometheus text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from twin_actors.core.ledger import Ledger
from twin_actors.runtime.merging import merged_status

MOST_NODES = 100
"""Nodes with series of their own, the fullest."""
MOST_ACTORS = 200
"""Twin actors with series of their own; a city of one entity an actor would make tens of thousands otherwise."""


@dataclass(frozen=True, slots=True)
class Metric:
    """``labels`` come in this order; ``counter`` says that it only grows, until its actor is started again."""

    name: str
    says: str
    labels: tuple[str, ...] = ("city",)
    counter: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series; ``values`` are those of the metric's labels, in their order."""

    metric: Metric
    values: tuple[str, ...]
    value: float

    @property
    def labels(self) -> dict[str, str]:
        return dict(zip(self.metric.labels, self.values, strict=True))


_ACTOR, _KIND = ("city", "actor"), ("city", "kind")

_OF_ACTOR: Mapping[str, Metric] = {
    "applied": Metric("twin_actors_actor_applied_total", "Readings that changed a twin of this actor", _ACTOR, True),
    "waiting": Metric("twin_actors_actor_waiting", "Inputs that wait for this actor", _ACTOR),
    "under_way": Metric("twin_actors_actor_under_way", "Inputs in calls that this actor has not answered", _ACTOR),
    "held_back": Metric("twin_actors_actor_held_back", "Newest readings held back before this actor", _ACTOR),
    "shed": Metric("twin_actors_actor_shed_total", "Readings shed before this actor", _ACTOR, True),
    "failures": Metric("twin_actors_actor_failures_total", "Calls to this actor that were lost", _ACTOR, True),
    "quarantined": Metric("twin_actors_actor_quarantined", "Inputs put aside that this actor did not survive", _ACTOR),
    "busy_s": Metric("twin_actors_actor_busy_seconds_total", "Time spent in applying inputs, s", _ACTOR, True),
    "epoch": Metric("twin_actors_actor_epoch", "How often this actor has been started, ever", _ACTOR),
}
_ACTOR_UP = Metric("twin_actors_actor_up", "1: takes readings; 0: being asked or not reachable", _ACTOR)
_SNAPSHOT_LAG = Metric("twin_actors_actor_snapshot_lag", "Log offsets between its last snapshot and its state", _ACTOR)
_ACTORS = Metric("twin_actors_actors", "Twin actors")
_ACTORS_UP = Metric("twin_actors_actors_up", "Twin actors that take readings")
_LEFT_OUT = Metric("twin_actors_actors_left_out", "Twin actors without series of their own")
_BACKLOG = Metric("twin_actors_backlog", "Inputs before all twin actors together", ("city", "where"))

_OF_KIND: Mapping[str, Metric] = {
    "twins": Metric("twin_actors_kind_twins", "Twins", _KIND),
    "stale": Metric("twin_actors_kind_stale", "Twins whose last reading is older than their kind allows", _KIND),
    "silent": Metric("twin_actors_kind_silent", "Twins that have never had a reading", _KIND),
    "alerts": Metric("twin_actors_kind_alerts", "Alerts that are raised now", _KIND),
    "coverage_90": Metric(
        "twin_actors_kind_coverage_90", "Share of readings within the 90 % band that their twin expected", _KIND
    ),
    "drifting": Metric("twin_actors_kind_drifting", "Twins whose model has left what their readings say", _KIND),
}
_KIND_RMSE = Metric(
    "twin_actors_kind_innovation_rmse",
    "Root mean square of what readings differed by from what their twin expected, in the field's unit",
    ("city", "kind", "field"),
)

_OF_ROUTER: Mapping[str, Metric] = {
    "epoch": Metric("twin_actors_router_epoch", "How often the router has been started, ever"),
    "recovered": Metric("twin_actors_router_recovered", "1: all twins have caught up with the log since it started"),
    "uncommitted": Metric("twin_actors_router_uncommitted", "Inputs received and not yet durable"),
    "store_failures": Metric("twin_actors_router_store_failures_total", "Failed commits of the log", counter=True),
    "connected": Metric("twin_actors_router_broker_connected", "1: connected to the broker and subscribed"),
    "broker_dropped": Metric(
        "twin_actors_router_broker_dropped_total", "Messages that the broker says it has dropped", counter=True
    ),
    "reconnects": Metric(
        "twin_actors_router_reconnects_total", "Connections to the broker after the first", ("city",), True
    ),
    "unpublished": Metric(
        "twin_actors_router_unpublished_total", "Messages for the broker that found no room in its queue", counter=True
    ),
    "log_offset": Metric("twin_actors_router_log_offset", "Offset up to which the log is durable"),
    "open_commands": Metric("twin_actors_router_open_commands", "Commands that devices have not answered"),
    "cpu_s": Metric("twin_actors_router_cpu_seconds_total", "CPU time of the router's process, s", counter=True),
}
_STORE_TROUBLE = Metric("twin_actors_router_store_trouble", "1: the store cannot be written")
_DEAD_LETTERS = Metric("twin_actors_dead_letters_total", "Messages that became dead letters", ("city", "reason"), True)

_OF_AGGREGATOR: Mapping[str, Metric] = {
    "epoch": Metric("twin_actors_aggregator_epoch", "How often the aggregator has been started, ever"),
    "tick": Metric("twin_actors_ticks_total", "Ticks since the city began", counter=True),
    "tick_wall_s": Metric("twin_actors_tick_seconds", "How long the last tick took, s"),
    "tick_budget_s": Metric("twin_actors_tick_budget_seconds", "How long a tick may look and start policies, s"),
    "short_ticks": Metric("twin_actors_short_ticks_total", "Ticks that had to leave something out", counter=True),
    "actors_late": Metric("twin_actors_tick_late_actors", "Twin actors that the last tick went on without"),
    "oldest_late_s": Metric("twin_actors_tick_oldest_late_seconds", "Age of the oldest part of the view of those, s"),
    "late_looks": Metric("twin_actors_late_looks_total", "Times a tick went on without a twin actor", counter=True),
    "policies_left_out": Metric("twin_actors_tick_policies_left_out", "Policies that the last tick had no time for"),
    "policies_postponed": Metric(
        "twin_actors_policies_postponed_total", "Times a policy was left for the next tick", counter=True
    ),
    "failed_ticks": Metric("twin_actors_failed_ticks_total", "Ticks that ended with an error", counter=True),
    "decisions": Metric("twin_actors_decisions_total", "Decisions of policies and people", counter=True),
    "alerts_raised": Metric("twin_actors_alerts_raised_total", "Alerts of twins ever raised", counter=True),
    "emergencies": Metric("twin_actors_emergencies_total", "Emergencies ever opened", counter=True),
    "emergencies_open": Metric("twin_actors_emergencies_open", "Emergencies that are not closed"),
    "units": Metric("twin_actors_units", "Units of the city's resources"),
    "units_busy": Metric("twin_actors_units_busy", "Units that are assigned"),
}
_COMMANDS = Metric("twin_actors_commands", "Commands to devices by phase", ("city", "phase"))
_PHASES = ("sent", "acknowledged", "rejected", "expired", "open", "postponed")

_OF_HISTORY: Mapping[str, Metric] = {
    "runs": Metric("twin_actors_history_runs_total", "Times that history was tidied", counter=True),
    "sealed_entries": Metric(
        "twin_actors_history_sealed_entries_total", "Inputs moved from log to history", counter=True
    ),
}
_HISTORY_TROUBLE = Metric("twin_actors_history_trouble", "1: history stays in the log because it cannot be tidied")

_LEDGER = Metric("twin_actors_ledger", "Readings by fate; received is the sum of all others", ("city", "fate"))
_UNEXPLAINED = Metric("twin_actors_unexplained", "Readings without exactly one fate; anything but 0 is a fault")
_ANSWERS = Metric("twin_actors_answers", "1: this part of the city answers", ("city", "part"))
_ALARMS = Metric("twin_actors_alarms", "Alarms of the city's own places that are raised now", ("city", "alarm"))
_RECREATED = Metric("twin_actors_recreated_total", "Actors that had disappeared and were created again", counter=True)

_MOVES = Metric(
    "twin_actors_moves_total", "Moves of twin actors between nodes that have come to an end, ever", counter=True
)
_MOVES_OPEN = Metric("twin_actors_moves_open", "Moves that wait or are under way", ("city", "where"))
_MOVES_ENDED = Metric(
    "twin_actors_moves_ended_total", "Moves that have come to an end, by outcome", ("city", "outcome", "reason"), True
)
_LONGEST_WAIT = Metric(
    "twin_actors_moves_longest_wait_seconds", "The longest that readings have waited for a twin that moved, s"
)
_NODE = ("city", "node")
_OF_NODE: Mapping[str, Metric] = {
    "actors": Metric("twin_actors_node_actors", "Twin actors on this node", _NODE),
    "twins": Metric("twin_actors_node_twins", "Twins on this node", _NODE),
    "memory_bytes": Metric("twin_actors_node_memory_bytes", "Memory kept for twin actors on this node", _NODE),
    "capacity_bytes": Metric(
        "twin_actors_node_capacity_bytes",
        "Memory there is for twin actors on this node, what they take included",
        _NODE,
    ),
    "readings_per_s": Metric("twin_actors_node_readings_per_second", "Readings for the twins on this node", _NODE),
}
_NODE_OPEN = Metric("twin_actors_node_open", "1: takes twin actors; 0: closed, or about to end", _NODE)
_NODES_LEFT_OUT = Metric("twin_actors_nodes_left_out", "Nodes without series of their own")
_STRANDED = Metric("twin_actors_stranded_actors", "Twin actors that must leave their node and find no room elsewhere")

METRICS: tuple[Metric, ...] = (
    _LEDGER, _UNEXPLAINED, _ANSWERS, _ALARMS, _RECREATED, _MOVES, _MOVES_OPEN, _MOVES_ENDED, _LONGEST_WAIT,
    _STRANDED, *_OF_NODE.values(), _NODE_OPEN, _NODES_LEFT_OUT,
    _ACTORS, _ACTORS_UP, _LEFT_OUT, _BACKLOG, _ACTOR_UP, *_OF_ACTOR.values(), _SNAPSHOT_LAG,
    *_OF_KIND.values(), _KIND_RMSE,
    *_OF_ROUTER.values(), _STORE_TROUBLE, _DEAD_LETTERS,
    *_OF_AGGREGATOR.values(), _COMMANDS,
    *_OF_HISTORY.values(), _HISTORY_TROUBLE,
)  # fmt: skip


def gather(city: str, routers: Sequence[str], ask: Callable[[str, str], Any]) -> list[Sample]:
    """Samples of a running city. ``ask(actor, method)`` gives an actor's answer, None where it does not answer.

    Several routers count as one, which does not answer while one of them does not.
    """
    statuses = [ask(router, "status") for router in routers]
    router = None if None in statuses else merged_status(statuses)
    status = {"city": city, "router": router, "aggregator": ask("aggregator", "status")}
    status["controller"] = ask("controller", "progress")
    ledger = None
    if router is not None and router["recovered"]:  # else the answer could take minutes
        parts = [ask(name, "ledger") for name in routers]
        ledger = None if None in parts else sum(parts, start=Ledger())
    return samples(status, ledger)


def samples(status: Mapping[str, Any], ledger: Ledger | None, shown: Collection[str] = ()) -> list[Sample]:
    """Samples of what ``City.status`` says; a part that is None does not answer, and no ledger means not known now.

    ``shown`` are the twin actors that have series already (see ``chosen``). What is None is no sample.
    """
    return list(_samples(status, ledger, shown))


def _samples(status: Mapping[str, Any], ledger: Ledger | None, shown: Collection[str]) -> Iterator[Sample]:
    city: str = status["city"]
    router, aggregator, controller = status["router"], status["aggregator"], status["controller"]
    if ledger is not None:
        for field in fields(ledger):
            yield Sample(_LEDGER, (city, field.name), getattr(ledger, field.name))
        yield Sample(_UNEXPLAINED, (city,), ledger.unexplained)
    for part in ("router", "aggregator", "controller"):
        yield Sample(_ANSWERS, (city, part), float(status[part] is not None))
    if router is not None:
        yield from _each(_OF_ROUTER, router, (city,))
        yield Sample(_STORE_TROUBLE, (city,), float(bool(router["store_trouble"])))
        for reason, count in router["dead_letter_reasons"].items():
            yield Sample(_DEAD_LETTERS, (city, str(reason)), count)
        yield from _of_actors(city, router["actors"], shown)
    if aggregator is not None:
        yield from _each(_OF_AGGREGATOR, aggregator, (city,))
        for phase in _PHASES:
            yield Sample(_COMMANDS, (city, phase), aggregator[f"commands_{phase}"])
        for kind, counts in aggregator["kinds"].items():
            yield from _each(_OF_KIND, counts, (city, kind))
            for field, rmse in counts["innovation_rmse"].items():
                yield Sample(_KIND_RMSE, (city, kind, field), rmse)
    if controller is not None:
        yield Sample(_RECREATED, (city,), controller["recreated"])
        moves = controller["moves"]
        yield Sample(_MOVES, (city,), moves["count"])
        yield Sample(_MOVES_OPEN, (city, "waiting"), moves["waiting"])
        yield Sample(_MOVES_OPEN, (city, "under_way"), len(moves["under_way"]))
        for outcome, reason, count in moves["ends"]:
            yield Sample(_MOVES_ENDED, (city, outcome, reason), count)
        yield Sample(_LONGEST_WAIT, (city,), moves["longest_wait_s"])
        yield Sample(_STRANDED, (city,), len(moves["stranded"]))
        yield from _of_nodes(city, controller["nodes"])
        by_alarm: dict[str, int] = {}
        for each in controller["audit"]["alarms"]:
            by_alarm[each["alarm"]] = by_alarm.get(each["alarm"], 0) + 1
        for alarm, count in sorted(by_alarm.items()):
            yield Sample(_ALARMS, (city, alarm), count)
        yield from _each(_OF_HISTORY, controller["history"], (city,))
        yield Sample(_HISTORY_TROUBLE, (city,), float(bool(controller["history"]["trouble"])))


def _each(metrics: Mapping[str, Metric], said: Mapping[str, Any], values: tuple[str, ...]) -> Iterator[Sample]:
    for name, metric in metrics.items():
        value = said[name]
        if value is not None:
            yield Sample(metric, values, value)


def _of_nodes(city: str, nodes: Sequence[Mapping[str, Any]]) -> Iterator[Sample]:
    """By address: a node that comes back has another id, and the same series. Where several share an address, as on
    one machine, by the beginning of the id too."""
    own = sorted(nodes, key=lambda node: (-node["actors"], node["node"]))[:MOST_NODES]
    shared = Counter(node["address"] for node in nodes)
    for node in own:
        address = node["address"]
        name = address if shared[address] == 1 else f"{address}#{node['node'][:8]}"
        yield from _each(_OF_NODE, node, (city, name))
        yield Sample(_NODE_OPEN, (city, name), float(node["state"] == "open"))
    yield Sample(_NODES_LEFT_OUT, (city,), len(nodes) - len(own))


def _of_actors(city: str, actors: Mapping[str, Mapping[str, Any]], shown: Collection[str]) -> Iterator[Sample]:
    own = chosen(actors, shown)
    yield Sample(_ACTORS, (city,), len(actors))
    yield Sample(_ACTORS_UP, (city,), sum(actor["standing"] == "up" for actor in actors.values()))
    yield Sample(_LEFT_OUT, (city,), len(actors) - len(own))
    for where in ("waiting", "under_way", "held_back"):
        yield Sample(_BACKLOG, (city, where), sum(actor[where] for actor in actors.values()))
    for name in own:
        actor = actors[name]
        yield Sample(_ACTOR_UP, (city, name), float(actor["standing"] == "up"))
        yield from _each(_OF_ACTOR, actor, (city, name))
        # a new incarnation begins at its snapshot, and answers no offset before its first call
        yield Sample(_SNAPSHOT_LAG, (city, name), max(actor["offset"] - actor["snapshot_offset"], 0))


def chosen(actors: Mapping[str, Mapping[str, Any]], shown: Collection[str] = ()) -> list[str]:
    """The twin actors that get series of their own, sorted by name: at most ``MOST_ACTORS``.

    Those that are not up come first, then those with the largest backlog, then those of ``shown``, which have series
    already. Backlogs count by their power of two: who has series loses them only to one with a clearly larger backlog,
    else series would come and go with every look.
    """
    if len(actors) <= MOST_ACTORS:
        return sorted(actors)
    had = frozenset(shown)

    def rank(name: str) -> tuple[bool, int, bool, str]:
        actor = actors[name]
        backlog = actor["waiting"] + actor["under_way"] + actor["held_back"]
        return actor["standing"] == "up", -int(backlog).bit_length(), name not in had, name

    return sorted(sorted(actors, key=rank)[:MOST_ACTORS])


def exposition(found: Iterable[Sample]) -> str:
    """Samples in Prometheus' text format, version 0.0.4, grouped by metric in the order of ``METRICS``."""
    grouped: dict[str, list[Sample]] = {metric.name: [] for metric in METRICS}
    for sample in found:
        grouped[sample.metric.name].append(sample)
    lines: list[str] = []
    for metric in METRICS:
        if not grouped[metric.name]:
            continue
        lines.append(f"# HELP {metric.name} {_escaped(metric.says)}")
        lines.append(f"# TYPE {metric.name} {'counter' if metric.counter else 'gauge'}")
        for sample in grouped[metric.name]:
            labels = ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in sample.labels.items())
            lines.append(f"{metric.name}{{{labels}}} {_number(sample.value)}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) else repr(float(value))
