"""Where every twin actor stands, where it is to stand, and which moves are under way: kept in the city's store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from twin_actors.runtime.balancing import Move
from twin_actors.runtime.measuring import Measured, keep_measures, kept_measures
from twin_actors.runtime.nodes import Node
from twin_actors.store import Store

PLACES_KEY = "placement/actors"
MOVES_KEY = "placement/moves"
CLOSED_KEY = "placement/closed"
MOVES_TABLE = "moves"

T = TypeVar("T")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a twin actor was last seen, and what it takes. ``reserved_bytes`` is what Ray keeps for it there."""

    node: str
    address: str
    labels: dict[str, str]
    memory_bytes: int
    reserved_bytes: int
    twins: int


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A move that has been begun; whoever finds it finishes it or takes it back. ``epoch`` is the one to be ended."""

    actor: str
    source: str
    target: str
    epoch: int
    why: str
    began_s: float


class Whereabouts:
    """The controller's book of places. Every change that a successor must know is in the store before it is made.

    All methods that write raise StoreUnavailable, and have then changed nothing.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.places = self._kept(PLACES_KEY, dict[str, Place]) or {}
        self.intents = self._kept(MOVES_KEY, dict[str, Intent]) or {}
        self.closed = set(self._kept(CLOSED_KEY, list[str]) or ())
        self.wished: dict[str, str] = {}  # where an actor is to be created; a twin actor until it has been seen

    def _kept(self, key: str, of: type[T]) -> T | None:
        said = self._store.get(key)
        return None if said is None else msgspec.msgpack.decode(said, type=of)

    def _keep(self, key: str, value: object) -> None:
        self._store.put(key, msgspec.msgpack.encode(value))

    # -- places ------------------------------------------------------------------------------------------------

    def see(self, seen: Mapping[str, Place]) -> None:
        """Keep where twin actors have been met, if that is news."""
        news = {name: place for name, place in seen.items() if self.places.get(name) != place}
        if news:
            places = {**self.places, **news}
            self._keep(PLACES_KEY, places)
            self.places = places

    def forget_all_but(self, names: set[str]) -> None:
        """Actors of an earlier packing are no longer there."""
        left = {name: place for name, place in self.places.items() if name in names}
        if left.keys() != self.places.keys():
            self._keep(PLACES_KEY, left)
            self.places = left

    def target(self, actor: str) -> str:
        """Where an actor is to be created, if anybody has said so."""
        intent = self.intents.get(actor)
        if intent is not None:
            return intent.target
        return self.wished.get(actor, "")

    # -- what was measured -------------------------------------------------------------------------------------

    def measured(self) -> dict[str, Measured]:
        """What the twins of every kind take, as far as that was kept."""
        return kept_measures(self._store)

    def keep_measured(self, measured: Mapping[str, Measured]) -> None:
        """Keep that for the next launch."""
        keep_measures(self._store, measured)

    # -- moves under way ---------------------------------------------------------------------------------------

    def begin(self, moves: Mapping[str, Move], epochs: Mapping[str, int], why: str) -> None:
        """Note moves before anything is done about them."""
        now_s = time.time()
        begun = {
            name: Intent(actor=name, source=move.source, target=move.target, epoch=epochs[name], why=why, began_s=now_s)
            for name, move in moves.items()
        }
        intents = {**self.intents, **begun}
        self._keep(MOVES_KEY, intents)
        self.intents = intents

    def done(self, *actors: str) -> None:
        """These moves have come to an end, whichever."""
        left = {name: intent for name, intent in self.intents.items() if name not in actors}
        if left.keys() != self.intents.keys():
            self._keep(MOVES_KEY, left)
            self.intents = left

    def record(self, row: Mapping[str, Any]) -> None:
        """Keep how a move has ended."""
        self._store.record(MOVES_TABLE, [row])

    def recorded(self, last: int) -> list[Mapping[str, Any]]:
        """How the last moves have ended, oldest first."""
        return self._store.records(MOVES_TABLE, last) if last > 0 else []

    # -- closed nodes ------------------------------------------------------------------------------------------

    def close_node(self, node: str) -> None:
        """No twin actor is to stand on a node any more."""
        self._keep(CLOSED_KEY, sorted({*self.closed, node}))
        self.closed = {*self.closed, node}

    def open_node(self, node: str) -> None:
        self._keep(CLOSED_KEY, sorted(self.closed - {node}))
        self.closed = self.closed - {node}

    def forget_nodes_but(self, nodes: Mapping[str, Node]) -> None:
        """A node that is gone never comes back under the same id."""
        gone = self.closed - nodes.keys()
        if gone:
            self._keep(CLOSED_KEY, sorted(self.closed - gone))
            self.closed = self.closed - gone
