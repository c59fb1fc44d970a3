"""Rebalancing and draining as people ask for them: order it from the controller, follow it, say what has come of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twin_actors.runtime.driving import Progress

if TYPE_CHECKING:
    import pandas as pd

Call = Callable[..., Any]
"""``City._call``: asks an actor, also one that is being started again, within a deadline."""
FOLLOW_EVERY_S = 0.2
MOVE_COLUMNS = ("actor", "source", "target", "why", "outcome", "at_s", "waited_s", "snapshot_s")
NODE_COLUMNS = (
    "node", "address", "state", "actors", "twins", "memory_bytes", "capacity_bytes", "readings_per_s", "cores",
    "labels", "left",
)  # fmt: skip

SIZE_COLUMNS = (
    "kind",
    "twins",
    "per_actor",
    "bound",
    "says",
    "readings_per_s",
    "measured_s",
    "reading_us",
    "twin_bytes",
)


class Stranded(RuntimeError):
    """Twin actors cannot leave a node because no open node has room, or the labels, for them."""


def nodes(call: Call) -> pd.DataFrame:
    """One row per node that can hold twin actors."""
    return _frame(call("controller", "nodes"), NODE_COLUMNS).set_index("node")


def sizes(call: Call) -> pd.DataFrame:
    """One row per kind."""
    return _frame(call("controller", "sizes"), SIZE_COLUMNS).set_index("kind")


def moves(call: Call, last: int) -> pd.DataFrame:
    """The last moves that have come to an end."""
    return _frame(call("controller", "moves", last)["ended"], MOVE_COLUMNS)


def rebalance(call: Call, *, dry_run: bool, deadline_s: float, progress: Progress | None) -> pd.DataFrame:
    """The moves that even the nodes out; unless ``dry_run`` they are made. Raises TimeoutError."""
    said = call("controller", "rebalance", dry_run, again=False)
    if dry_run or not said["moves"]:
        return _frame(said["moves"], ("actor", "source", "target"))
    total, before = len(said["moves"]), said["count"]
    idle = 0

    def done() -> bool:
        nonlocal idle
        state = call("controller", "moves", 0)
        made = state["count"] - before
        if progress is not None:
            progress("moving twin actors", min(max(made, 0), total), total)
        # an order is taken up a moment after it was given, and some moves may have become unnecessary meanwhile
        idle = 0 if state["waiting"] or state["under_way"] else idle + 1
        return made >= total or idle >= 10

    _follow(done, deadline_s, f"{total} twin actors had not moved")
    made = call("controller", "moves", 10 * total)["ended"]
    names = {move["actor"] for move in said["moves"]}
    latest = {move["actor"]: move for move in made if move["actor"] in names}
    return _frame(list(latest.values()), MOVE_COLUMNS)


def drain(call: Call, node: str, *, undo: bool, deadline_s: float, progress: Progress | None) -> pd.DataFrame:
    """Close a node, and return when nothing of the city but its controller stands on it; ``undo`` opens it again.

    Raises KeyError for an unknown node, ValueError for the only open one, Stranded, TimeoutError.
    """
    before = call("controller", "moves", 0)["count"]
    said = call("controller", "drain", node, undo, again=False)
    if undo:
        return nodes(call)
    total = len(said["moves"])

    def done() -> bool:
        if progress is not None:
            state = call("controller", "moves", 0)
            progress("moving twin actors", min(max(state["count"] - before, 0), total), total)
        lines = [each for each in call("controller", "nodes") if each["state"] != "open" and _is(each, node)]
        if not any(each["actors"] or each["left"] for each in lines):
            return True
        state = call("controller", "moves", 0)
        stranded = [name for name in state["stranded"] if name not in state["astray"]]
        if stranded:
            raise Stranded(
                f"no open node has room, or the labels, for {', '.join(stranded[:5])}, which stay on {node}: add a "
                "node, and the drain goes on by itself; 'twin-actors drain --undo' opens the node again"
            )
        return False

    _follow(done, deadline_s, f"{node} was not empty")
    made = call("controller", "moves", 0)["count"] - before
    return _frame(call("controller", "moves", made)["ended"] if made else [], MOVE_COLUMNS)


def _is(line: dict[str, Any], node: str) -> bool:
    return bool(line["address"] == node or line["node"].startswith(node))


def _follow(done: Callable[[], bool], deadline_s: float, what: str) -> None:
    deadline = time.monotonic() + deadline_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} after {deadline_s:.0f} s; it goes on: see city.moves() and city.nodes()")
        time.sleep(FOLLOW_EVERY_S)  # progress is a question, not an event; the loop has a deadline


def _frame(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))
