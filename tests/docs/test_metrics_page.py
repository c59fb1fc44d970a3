"""The metrics page, its alert rules and the Grafana dashboard speak of metrics, labels and values that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from twin_actors.core.ledger import Ledger
from twin_actors.runtime.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
BOARD: dict[str, Any] = json.loads((ROOT / "docs/grafana/twin-actors.json").read_text())
PAGE = (ROOT / "docs/metrics.md").read_text()
LABELS = {metric.name: metric.labels for metric in METRICS}
COUNTERS = {metric.name for metric in METRICS if metric.counter}
FATES = {*Ledger().to_dict()} - {"unexplained", "balanced"}
VALUES = {
    "fate": FATES,
    "part": {"router", "aggregator", "controller"},
    "where": {"waiting", "under_way", "held_back"},
    "outcome": {"moved", "given_up", "failed"},
    "phase": {"sent", "acknowledged", "rejected", "expired", "open", "postponed"},
}
_SELECTOR = re.compile(r"(twin_actors_\w+)(?:\{([^}]*)\})?(?:\[([^\]]*)\])?")
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*(?:,|$)')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left)\s*\(([^)]*)\)")


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def rules() -> list[dict[str, Any]]:
    (found,) = (loaded for loaded in map(yaml.safe_load, fenced("yaml")) if "groups" in loaded)
    return [rule for group in found["groups"] for rule in group["rules"]]


def panels(inside: list[dict[str, Any]] = BOARD["panels"]) -> Iterator[dict[str, Any]]:
    for panel in inside:
        yield panel
        yield from panels(panel.get("panels", []))


def expressions() -> list[tuple[str, str, str]]:
    """(where, expression, legend) of every panel and every rule."""
    found = [
        (f"panel {panel['title']}", target["expr"], target["legendFormat"])
        for panel in panels()
        for target in panel.get("targets", [])
    ]
    return found + [(f"rule {rule['alert']}", rule["expr"], " ".join(rule["annotations"].values())) for rule in rules()]


def wrong_in(expression: str, legend: str = "") -> list[str]:
    """What an expression or its legend says that no metric has."""
    found: list[str] = []
    there: set[str] = set()
    selectors = list(_SELECTOR.finditer(expression))
    if not selectors:
        found.append("no metric at all")
    for selector in selectors:
        name, matchers, window = selector.groups()
        if name not in LABELS:
            found.append(f"no metric {name}")
            continue
        there.update(LABELS[name])
        for label, operator, value in _MATCHER.findall(matchers or ""):
            if label not in LABELS[name]:
                found.append(f"{name} has no label {label}")
            elif label in VALUES:
                wanted = value.split("|") if "~" in operator else [value]
                found += [f"{label} is never {each}" for each in wanted if each not in VALUES[label]]
        if _MATCHER.sub("", matchers or "").strip():
            found.append(f"unreadable: {matchers}")
        call = re.search(r"(\w+)\($", expression[: selector.start()])
        function = call[1] if call else ""
        if window and function in ("rate", "increase") and name not in COUNTERS:
            if name not in ("twin_actors_ledger", "twin_actors_commands", "twin_actors_router_log_offset"):
                found.append(f"{function} of {name}, which does not only grow")
            if '"in_flight"' in (matchers or "") or "open" in (matchers or ""):
                found.append(f"{function} of what goes up and down")
    for group in _GROUPING.findall(expression):
        found += [f"no metric here has the label {each}" for each in re.findall(r"\w+", group) if each not in there]
    kept = [set(re.findall(r"\w+", group)) for group in re.findall(r"\bby\s*\(([^)]*)\)", expression)]
    shown = set.intersection(*kept) if kept else there
    for label in re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", legend):
        if label not in shown:
            found.append(f"the legend names {label}, which the result does not have")
    if expression.count("(") != expression.count(")"):
        found.append("brackets do not match")
    return found


@pytest.mark.parametrize(("where", "expression", "legend"), expressions(), ids=lambda each: str(each)[:40])
def test_every_expression_names_what_exists(where: str, expression: str, legend: str) -> None:
    assert not wrong_in(expression, legend), where


@pytest.mark.parametrize(
    ("expression", "legend"),
    [
        ("twin_actors_nothing", ""),
        ('twin_actors_ledger{kind="venue"}', ""),
        ('twin_actors_ledger{fate="lost"}', ""),
        ('rate(twin_actors_ledger{fate="in_flight"}[5m])', ""),
        ("rate(twin_actors_kind_alerts[5m])", ""),
        ("sum by (entity) (twin_actors_backlog)", ""),
        ("sum by (city) (twin_actors_backlog)", "{{where}}"),
        ("up", ""),
        ("sum(twin_actors_backlog", ""),
    ],
)
def test_the_check_finds_what_is_wrong(expression: str, legend: str) -> None:
    assert wrong_in(expression, legend)


def test_the_dashboard_can_be_imported() -> None:
    assert BOARD["uid"] == "twin-actors-city"
    assert BOARD["schemaVersion"] >= 39
    variables = {each["name"]: each for each in BOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables["city"]["definition"])
    assert asked is not None
    assert asked[2] in LABELS[asked[1]]
    every = list(panels())
    assert len({panel["id"] for panel in every}) == len(every)
    for panel in every:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"]
        assert panel["targets"]
        assert all('city=~"$city"' in target["expr"] for target in panel["targets"]), panel["title"]


def test_panels_do_not_lie_on_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


def test_an_unexplained_reading_is_red() -> None:
    (panel,) = (each for each in panels() if each["title"] == "Unexplained readings")
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(step["color"], step["value"]) for step in steps] == [("green", None), ("red", 1)]


def test_the_page_lists_every_metric_with_its_labels() -> None:
    listed = {
        name: tuple(re.findall(r"\w+", labels)) for name, labels in re.findall(r"^\| `(\w+)\{([^}]*)\}` \|", PAGE, re.M)
    }
    assert listed == LABELS


def test_the_scrape_of_the_page_gives_both_ways_the_same_names() -> None:
    (config,) = (loaded for loaded in map(yaml.safe_load, fenced("yaml")) if "scrape_configs" in loaded)
    (job,) = config["scrape_configs"]
    kept, renamed, dropped = job["metric_relabel_configs"]
    for name in LABELS:
        assert re.fullmatch(kept["regex"], f"ray_{name}")
        renaming = re.fullmatch(renamed["regex"], f"ray_{name}")
        assert renaming is not None
        assert renaming[1] == name
    assert not any(re.fullmatch(dropped["regex"], label) for labels in LABELS.values() for label in labels)
    assert not re.fullmatch(kept["regex"], "ray_node_cpu_count")
