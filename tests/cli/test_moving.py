"""``twin-actors nodes | rebalance | drain``: what is asked of the city, and what is said of its answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from twin_actors.cli import moving
from twin_actors.runtime import relocating

EAST, WEST = "e" * 56, "f" * 56


class Cluster:
    """A controller's answers, as ``relocating`` asks for them: two nodes, one move that would even them out."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.ended: list[dict[str, Any]] = []
        self.closed = False

    def call(self, actor: str, method: str, *arguments: Any, **_: Any) -> Any:
        assert actor == "controller"
        self.asked.append((method, *arguments))
        return getattr(self, f"on_{method}")(*arguments)

    def on_nodes(self) -> list[dict[str, Any]]:
        left = [] if self.ended or not self.closed else ["twins:00001"]
        common = {"memory_bytes": 65_000_000, "capacity_bytes": 600_000_000, "readings_per_s": 7.0, "cores": 2.0}
        return [
            {"node": EAST, "address": "192.0.2.1", "state": "open", "actors": 1, "labels": {"zone": "a"}, "left": []}
            | common,
            {"node": WEST, "address": "192.0.2.2", "state": "closed" if self.closed else "open",
             "actors": len(left), "labels": {}, "left": left} | common,
        ]  # fmt: skip

    def on_moves(self, last: int) -> dict[str, Any]:
        return {
            "waiting": 0,
            "under_way": [],
            "count": len(self.ended),
            "stranded": [],
            "astray": [],
            "ended": self.ended[-last:],
        }

    def on_rebalance(self, dry_run: bool) -> dict[str, Any]:
        before = len(self.ended)
        if not dry_run:
            self._move()
        moves = [{"actor": "twins:00001", "source": WEST, "target": EAST}]
        return {"moves": moves, "stranded": [], "count": before}

    def on_drain(self, node: str, undo: bool) -> dict[str, Any]:
        if node != "192.0.2.2":
            raise KeyError(f"no node {node!r}; those that hold twins: 192.0.2.1, 192.0.2.2")
        self.closed = not undo
        if not undo:
            self._move()
        return {"moves": [{"actor": "twins:00001", "source": WEST, "target": EAST}], "stranded": []}

    def _move(self) -> None:
        self.ended.append(
            {"actor": "twins:00001", "source": WEST, "target": EAST, "why": "drain", "outcome": "finished",
             "at_s": 1.0, "waited_s": 0.75, "snapshot_s": 0.01}
        )  # fmt: skip


class There:
    """The part of a City that these commands use."""

    def __init__(self, cluster: Cluster) -> None:
        self._call = cluster.call

    def nodes(self) -> Any:
        return relocating.nodes(self._call)

    def rebalance(self, **options: Any) -> Any:
        return relocating.rebalance(self._call, **options)

    def drain(self, node: str, **options: Any) -> Any:
        return relocating.drain(self._call, node, **options)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()

    def connected(name: str | None) -> AbstractContextManager[Any]:
        return nullcontext(There(made))

    monkeypatch.setattr(moving, "connected", connected)
    return made


def test_a_dry_run_prints_the_moves_and_makes_none(run: Callable[..., Any], cluster: Cluster) -> None:
    result = run("rebalance", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == [{"actor": "twins:00001", "source": WEST, "target": EAST}]
    assert ("rebalance", True) in cluster.asked
    assert not cluster.ended


def test_rebalance_says_how_every_move_ended(run: Callable[..., Any], cluster: Cluster) -> None:
    result = run("rebalance", "harbour")
    assert result.exit_code == 0, result.stderr
    assert "twins:00001" in result.stdout
    assert "finished" in result.stdout
    assert "0.75" in result.stdout


def test_drain_closes_a_node_and_undo_opens_it(run: Callable[..., Any], cluster: Cluster) -> None:
    result = run("drain", "harbour", "192.0.2.2", "--json")
    assert result.exit_code == 0, result.stderr
    assert [row["outcome"] for row in json.loads(result.stdout)] == ["finished"]
    assert cluster.closed
    result = run("drain", "192.0.2.2", "--undo")
    assert (result.exit_code, result.stdout) == (0, "192.0.2.2 is open again\n")
    assert not cluster.closed


def test_an_unknown_node_is_answered_with_those_there_are(run: Callable[..., Any], cluster: Cluster) -> None:
    result = run("drain", "192.0.2.9")
    assert result.exit_code == 1
    assert "those that hold twins: 192.0.2.1, 192.0.2.2" in result.stderr


def test_nodes_are_listed(run: Callable[..., Any], cluster: Cluster) -> None:
    result = run("nodes")
    assert result.exit_code == 0, result.stderr
    assert "192.0.2.1" in result.stdout
    assert "zone=a" in result.stdout
    assert "0.07 of 0.60 GB" in result.stdout


def test_without_a_city_it_says_how_to_start_one(run: Callable[..., Any]) -> None:
    for words in (("rebalance",), ("nodes",), ("drain", "192.0.2.1"), ("ps", "harbour")):
        result = run(*words)
        assert result.exit_code == 1
        assert "runs here" in result.stderr
