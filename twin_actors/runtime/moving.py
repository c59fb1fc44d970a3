"""Moving twin actors between nodes, one small group after another: hold, save, end, create elsewhere, let go.

A move is noted in the store before anything is done about it, so that a controller that finds it half done can
finish it or take it back. Nothing is lost in it at any point: what arrives for a held actor waits in the log, and an
actor that is created again goes on from its snapshot and the log like one that has crashed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import ray
from ray.exceptions import GetTimeoutError, RayError

from twin_actors.runtime.balancing import Move
from twin_actors.runtime.crew import Crew
from twin_actors.runtime.twin_actor import Hello
from twin_actors.runtime.whereabouts import Intent, Whereabouts

log = logging.getLogger(__name__)

CALL_S = 5.0
QUIET_S = 8.0
"""How long the calls that are under way to an actor may take to come back before its move begins."""
SAVE_S = 15.0
NAME_S = 10.0
"""How long the name of an ended actor may stay taken."""
HELLO_S = 45.0
CATCH_UP_S = 60.0
HOLD_S = QUIET_S + SAVE_S + NAME_S + HELLO_S
"""The router holds an actor no longer than this, should nobody let it go."""
GIVE_UP_S = 120.0
"""A half-done move whose actor does not answer for so long is left to Ray and to the reconciliation."""
POLL_S = 0.03

FINISHED, TAKEN_BACK, ELSEWHERE, SILENT = "finished", "taken back", "elsewhere", "does not answer yet"
RESTLESS, UNSAVED = "does not come to rest", "could not be saved"
MOVED, GIVEN_UP, FAILED = "moved", "given_up", "failed"
"""What a move comes to: on another node; still where it was, as well as before; not seen since."""
ENDS: Final = (
    (MOVED, "as_planned"), (MOVED, "elsewhere"), (GIVEN_UP, "restless"), (GIVEN_UP, "unsaved"),
    (GIVEN_UP, "interrupted"), (FAILED, "silent"),
)  # fmt: skip
"""Every outcome of a move with its reason: ``interrupted`` is one whose controller died before it ended the actor."""
AWAY = (ValueError, RayError, GetTimeoutError)
"""How an actor that cannot be asked shows itself."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One move that has come to an end: how, where the actor is now, how long its readings waited at most (s)."""

    number: int
    actor: str
    source: str
    target: str
    why: str
    outcome: str
    at_s: float
    waited_s: float
    snapshot_s: float


class Mover:
    """Carries moves out. All is done by one thread of the controller; ``guard`` ends a controller that is outdated."""

    def __init__(self, crew: Crew, whereabouts: Whereabouts, guard: Callable[[], None]) -> None:
        self._crew, self._whereabouts, self._guard = crew, whereabouts, guard
        self.count = max((row["number"] for row in whereabouts.recorded(1)), default=0)
        self.under_way: tuple[str, ...] = ()
        self.ends = dict.fromkeys(ENDS, 0)  # of this controller's life, as what follows
        self.longest_wait_s = 0.0

    # -- a group -----------------------------------------------------------------------------------------------

    def carry_out(self, moves: Sequence[Move], why: str, *, must: bool) -> None:
        """Move some twin actors at once and return when the routers call them up and caught up, or after deadlines.

        ``must``: their nodes are about to end, so an actor that cannot be saved or does not come to rest is moved all
        the same; otherwise such a one stays. Raises StoreUnavailable before anything is done.
        """
        moves = [move for move in moves if move.actor in self._crew.hellos and move.actor in self._crew.twin_actors]
        if not moves:
            return
        self._guard()
        going = {move.actor: move for move in moves}
        epochs = {name: self._crew.hellos[name].epoch for name in going}
        self._whereabouts.begin(going, epochs, why)
        self.under_way = tuple(going)
        began = time.monotonic()
        try:
            self._rest(going, must=must)
            saved_s = self._save(going, must=must)
            handles = self._replace(going)
            hellos = self._introduced(handles)
            self._let_go(going)
            self._wait_caught_up(list(hellos))
            waited_s = time.monotonic() - began
            for name, move in going.items():
                self._ended(self._whereabouts.intents[name], hellos.get(name), waited_s, saved_s.get(name, 0.0))
                if hellos.get(name) is None:
                    log.warning("twin actor %s does not answer yet after its move from %s", name, move.source[:8])
        finally:
            self.under_way = ()

    def _of_router(self, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        by_router: dict[str, list[str]] = {}
        for name in names:
            by_router.setdefault(self._crew.twin_actors[name].router, []).append(name)
        yield from by_router.items()

    def _rest(self, going: dict[str, Move], *, must: bool) -> None:
        """Have the routers send nothing more, and wait until what is under way has come back."""
        deadline = time.monotonic() + QUIET_S
        restless = set(going)
        while restless:
            under_way: dict[str, int] = {}
            for router, names in self._of_router(sorted(restless)):
                with suppress(*AWAY):  # a router that is being started again sends nothing
                    handle = self._crew.find(router)
                    under_way |= ray.get(handle.hold.remote(names, HOLD_S), timeout=CALL_S)
            restless = {name for name in restless if under_way.get(name)}
            if time.monotonic() > deadline:
                break
            if restless:
                time.sleep(POLL_S)  # a pause between two looks, bounded by the deadline
        if restless and not must:
            self._take_back(going, restless, RESTLESS)

    def _save(self, going: dict[str, Move], *, must: bool) -> dict[str, float]:
        """Have every actor keep a snapshot. Returns how long each took (s)."""
        saving, failed, took = {}, set(), {}
        began = time.monotonic()
        for name in going:
            try:
                saving[self._crew.find(name).save.remote()] = name
            except ValueError:
                failed.add(name)
        waiting = list(saving)
        while waiting and time.monotonic() - began < SAVE_S:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=SAVE_S - (time.monotonic() - began))
            for ref in done:
                took[saving[ref]] = time.monotonic() - began
                try:
                    ray.get(ref, timeout=CALL_S)
                except AWAY as error:
                    failed.add(saving[ref])
                    log.warning("%s could not save its twins: %s", saving[ref], str(error).splitlines()[0])
        failed |= {saving[ref] for ref in waiting}
        if failed and not must:
            self._take_back(going, failed, UNSAVED)
        return took

    def _take_back(self, going: dict[str, Move], names: set[str], why: str) -> None:
        """These stay where they are."""
        reason = {RESTLESS: "restless", UNSAVED: "unsaved"}[why]
        for name in sorted(names):
            log.warning("twin actor %s is not moved: it %s", name, why)
            del going[name]
        self._let_go(sorted(names))
        for name in sorted(names):
            intent = self._whereabouts.intents[name]
            self._note(intent, TAKEN_BACK, intent.source, 0.0, 0.0, (GIVEN_UP, reason))
            self._whereabouts.done(name)

    def _replace(self, going: Mapping[str, Move]) -> dict[str, Any]:
        """End the actors for good and create them on their new nodes, under the names that the routers know."""
        if not going:
            return {}
        self._guard()
        made = {}
        with self._crew.lock:
            for name in going:
                with suppress(*AWAY):  # it has gone by itself
                    ray.kill(self._crew.find(name), no_restart=True)
            deadline = time.monotonic() + NAME_S
            for name in going:
                while name not in made:
                    try:
                        made[name] = self._crew.create(name, anew=True)
                    except ValueError:
                        if time.monotonic() > deadline:
                            log.warning("the name %s is still taken; the reconciliation creates it again", name)
                            break
                        time.sleep(POLL_S)  # Ray lets go of a name a moment after the end; bounded by the deadline
        return made

    def _introduced(self, handles: Mapping[str, Any]) -> dict[str, Hello]:
        asked = {handle.hello.remote(): name for name, handle in handles.items()}
        met: dict[str, Hello] = {}
        waiting, deadline = list(asked), time.monotonic() + HELLO_S
        while waiting and time.monotonic() < deadline:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=max(deadline - time.monotonic(), 0.0))
            for ref in done:
                try:
                    met[asked[ref]] = ray.get(ref, timeout=CALL_S)
                except AWAY as error:
                    log.warning("%s: %s", asked[ref], str(error).splitlines()[0])
        for name, hello in met.items():
            self._crew.meet(name, hello)
        return met

    def _let_go(self, names: Sequence[str] | Mapping[str, Move]) -> None:
        for router, own in self._of_router(list(names)):
            try:
                ray.get(self._crew.find(router).let_go.remote(own), timeout=CALL_S)
            except AWAY as error:  # a new router asks everybody by itself, an old one when the hold has run out
                log.warning("%s could not be told of moved actors: %s", router, str(error).splitlines()[0])

    def _wait_caught_up(self, names: Sequence[str]) -> None:
        """Until the routers have sent again, and seen applied, what had arrived until now."""
        deadline = time.monotonic() + CATCH_UP_S
        for router, own in self._of_router(names):
            target: int | None = None
            behind = set(own)
            while behind and time.monotonic() < deadline:
                with suppress(*AWAY):
                    status = ray.get(self._crew.find(router).status.remote(), timeout=CALL_S)
                    target = status["log_offset"] if target is None else target
                    behind = {name for name in behind if not _caught_up(status["actors"].get(name), target)}
                if behind:
                    time.sleep(POLL_S)  # a pause between two looks, bounded by the deadline
            if behind:
                log.warning("%s: not caught up after their moves: %s", router, ", ".join(sorted(behind)))

    # -- what was left half done ---------------------------------------------------------------------------------

    def resume(self) -> None:
        """Finish or take back the moves that somebody before has begun; what does not answer is looked at again."""
        for name, intent in list(self._whereabouts.intents.items()):
            if name not in self._crew.twin_actors:
                self._whereabouts.done(name)
                continue
            self._guard()
            try:
                with self._crew.lock:
                    handle = self._found_or_created(name)
                hello = ray.get(handle.hello.remote(), timeout=CALL_S)
            except AWAY as error:
                log.info("half-moved %s does not answer: %s", name, str(error).splitlines()[0])
                if time.time() - intent.began_s > GIVE_UP_S:
                    self._ended(intent, None, GIVE_UP_S, 0.0)
                continue
            self._crew.meet(name, hello)
            self._let_go([name])
            self._ended(intent, hello, time.time() - intent.began_s, 0.0)

    def _found_or_created(self, name: str) -> Any:
        try:
            return self._crew.find(name)
        except ValueError:
            return self._crew.create(name)

    def _ended(self, intent: Intent, hello: Hello | None, waited_s: float, snapshot_s: float) -> None:
        if hello is None:
            outcome, target, end = SILENT, "", (FAILED, "silent")
        elif hello.epoch <= intent.epoch:
            outcome, target, end = TAKEN_BACK, hello.node, (GIVEN_UP, "interrupted")
        elif hello.node == intent.target:
            outcome, target, end = FINISHED, hello.node, (MOVED, "as_planned")
        else:
            outcome, target, end = ELSEWHERE, hello.node, (MOVED, "elsewhere")
        self._note(intent, outcome, target, waited_s, snapshot_s, end)
        self._whereabouts.done(intent.actor)

    def _note(
        self, intent: Intent, outcome: str, target: str, waited_s: float, snapshot_s: float, end: tuple[str, str]
    ) -> None:
        number, actor = self.count + 1, intent.actor
        moved = Moved(number, actor, intent.source, target, intent.why, outcome, time.time(), waited_s, snapshot_s)
        self._whereabouts.record(asdict(moved))
        self.count = number
        self.ends[end] += 1
        self.longest_wait_s = max(self.longest_wait_s, waited_s)
        log.info("%s: move from %s to %s %s", actor, intent.source[:8], target[:8], outcome)


def _caught_up(line: Mapping[str, Any] | None, target: int) -> bool:
    """Whether an actor that stands with its router like this has all that had been logged before ``target``."""
    if line is None or line["standing"] != "up" or not line["caught_up"]:
        return False
    nothing_waits = not line["waiting"] and not line["under_way"]
    return bool(nothing_waits or line["offset"] >= target - 1)
