"""The router's calls to twin actors: bounded windows, deadlines, and one way back after any failure."""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayError, RayTaskError

from twin_actors.runtime.holder import NOTHING_APPLIED, Reply
from twin_actors.runtime.intake import Refused
from twin_actors.runtime.packing import Delivery
from twin_actors.runtime.routing import Routing
from twin_actors.runtime.share import Share
from twin_actors.store.base import LogTrimmed, StoreUnavailable
from twin_actors.wire.process_start import SAME_S, began_s

log = logging.getLogger(__name__)

WINDOW = 4
"""Batches under way per twin actor; with fewer an actor idles between calls, with more its backlog hides in Ray."""
RETRY_S = (0.2, 5.0)
DEATHS = 3
"""How often an actor's process may end with the same input first and alone before that is put aside: processes also
end for reasons of their own."""
FULL_BATCH = 1000
FLUSH_S = 0.01
FLUSH_BUSY_S = 0.03
"""How long inputs may wait for company: a busy actor gains nothing from more and smaller calls."""


class Standing(enum.Enum):
    """How a twin actor stands with the router."""

    UP = "up"
    ASKING = "asking"  # a call was lost or refused: asking how far the actor has come
    WAITING = "waiting"  # unreachable: trying again a little later


@dataclass(slots=True)
class Link:
    """One twin actor as the router calls it."""

    share: Share
    handle: Any
    standing: Standing = Standing.ASKING
    incarnation: str = ""
    calls: deque[tuple[Any, float]] = field(default_factory=deque)  # batches under way: (ref, sent at)
    question: tuple[Any, float] | None = None  # hello under way
    snapshot: tuple[Any, float] | None = None
    snapshot_offset: int = NOTHING_APPLIED
    retry_at: float = 0.0
    retry_s: float = RETRY_S[0]
    failures: int = 0
    last_error: str = ""
    process: tuple[int, float] | None = None  # (pid, created at) of an actor on this machine
    met: bool = False  # it has introduced itself to this router
    suspect: int = NOTHING_APPLIED  # the first input of the last batch that did not come back
    harmed: int = 0  # how often in a row the same input did not come back
    held_until: float = 0.0  # it is being moved: nothing is sent before this moment, unless it is let go earlier

    @property
    def caught_up(self) -> bool:
        """It has applied again all that an earlier incarnation can be known to have applied."""
        return self.met and self.share.caught_up and not self.held_until


class Links:
    """All links of a router. ``turn`` never blocks; whatever it learns goes into the routing.

    ``on_harm(share, delivery, words)`` is told of an input that an actor did not survive twice in a row.
    """

    def __init__(
        self,
        routing: Routing,
        find: Callable[[str], Any],
        on_refused: Callable[[Share, list[tuple[Refused, Delivery]]], None],
        on_harm: Callable[[Share, Delivery, str], None],
        *,
        answer_s: float,
    ) -> None:
        self._answer_s = answer_s
        self._node = ray.get_runtime_context().get_node_id()
        self._routing, self._find, self._on_refused, self._on_harm = routing, find, on_refused, on_harm
        self.links = {name: Link(share, None, Standing.WAITING) for name, share in routing.shares.items()}

    # -- one turn ----------------------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        self._collect(now)
        for link in self.links.values():
            if link.held_until:
                if now < link.held_until:
                    continue
                log.warning("twin actor %s: nobody has let it go after its move", link.share.name)
                self.let_go(link.share.name, now)
            elif link.standing is Standing.UP:
                self._send(link, now)
            elif link.standing is Standing.WAITING and now >= link.retry_at:
                self._ask(link, now)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return all(
            not link.calls and not link.share.load and link.standing is Standing.UP for link in self.links.values()
        )

    @property
    def caught_up(self) -> bool:
        """Every twin actor has introduced itself and is as far as any incarnation of it was."""
        return all(link.caught_up for link in self.links.values())

    def _send(self, link: Link, now: float) -> None:
        share = link.share
        window = 1 if share.careful else WINDOW
        while share.load and len(link.calls) < window:
            patience_s = FLUSH_BUSY_S if link.calls else FLUSH_S
            if share.load < FULL_BATCH and now - share.oldest_s < patience_s:
                return
            try:
                blob = self._routing.next_batch(share)
            except StoreUnavailable as error:  # what waits in the log waits on
                link.last_error = str(error)
                return
            if blob is None:
                return
            share.oldest_s = now
            link.calls.append((link.handle.apply.remote(blob), now))

    def _collect(self, now: float) -> None:
        waiting: dict[Any, Link] = {}
        for link in self.links.values():
            if link.calls:
                waiting[link.calls[0][0]] = link
            if link.question:
                waiting[link.question[0]] = link
            if link.snapshot:
                waiting[link.snapshot[0]] = link
        if not waiting:
            return
        ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        for ref in ready:
            self._answered(waiting[ref], ref, now)
        for link in self.links.values():
            oldest = min((at for _, at in (*link.calls, *filter(None, (link.question,)))), default=now)
            if now - oldest > self._answer_s:
                self._replace_hung(link, now)

    def _answered(self, link: Link, ref: Any, now: float) -> None:
        of_snapshot = link.snapshot is not None and ref == link.snapshot[0]
        try:
            answer = ray.get(ref, timeout=1.0)
        except RayTaskError as error:
            if of_snapshot:
                link.snapshot = None
                link.last_error = f"snapshot: {_words(error)}"
                return
            if link.calls and ref == link.calls[0][0]:
                self._suspect(link, now, f"{type(error.cause).__name__}: {error.cause}")
                # it may have applied a part of the batch: only snapshot and log bring it back whole
                self._end_actor(link)
            self._lose(link, now, _words(error))
            return
        except (RayError, GetTimeoutError) as error:
            if of_snapshot:
                link.snapshot = None
                return
            if link.calls and ref == link.calls[0][0] and isinstance(error, ActorDiedError | ActorUnavailableError):
                self._suspect(link, now, f"its process ended: {_words(error)}", times=DEATHS)
            self._lose(link, now, _words(error))
            return
        if of_snapshot:
            link.snapshot = None
            link.snapshot_offset = max(link.snapshot_offset, answer)
        elif link.question and ref == link.question[0]:
            link.question = None
            self._introduced(link, answer, now)
        elif link.calls and ref == link.calls[0][0]:
            link.calls.popleft()
            self._replied(link, answer, now)
            # further batches of the window are often ready by now
            while link.calls and ray.wait([link.calls[0][0]], timeout=0)[0]:
                self._answered(link, link.calls[0][0], now)

    def _replied(self, link: Link, reply: Reply, now: float) -> None:
        if reply.epoch != link.share.epoch:
            self._lose(link, now, f"epoch {reply.epoch} answered, {link.share.epoch} was expected")
        elif reply.ok and reply.incarnation == link.incarnation:
            if link.harmed and reply.outcomes.offset >= link.suspect:
                link.harmed = 0
            try:
                refused = self._routing.confirm(link.share, reply)
            except (
                StoreUnavailable
            ) as error:  # refused readings are in the log only: asked for again with the next hello
                self._lose(link, now, str(error))
                return
            if refused:
                self._on_refused(link.share, refused)
        else:
            link.calls.clear()
            self._ask(link, now)

    # -- moves -------------------------------------------------------------------------------------------------

    def hold(self, name: str, until: float) -> int:
        """Send an actor nothing until it is let go, or a moment has come; returns how many calls are under way to it.

        What arrives for it meanwhile waits, in memory and in the log, as for any actor that is busy.
        """
        link = self.links[name]
        link.held_until = until
        return len(link.calls) + (link.question is not None)

    def let_go(self, name: str, now: float) -> None:
        """The move is over: ask whoever answers under the name now how far it has come, and go on from there."""
        link = self.links[name]
        if link.held_until:
            link.held_until = 0.0
            link.calls.clear()
            link.question = link.snapshot = None
            link.retry_s = RETRY_S[0]
            self._ask(link, now)

    # -- inputs that do harm -----------------------------------------------------------------------------------

    def _suspect(self, link: Link, now: float, words: str, *, times: int = 2) -> None:
        """The first batch under way did not come back: send its inputs one by one, and put the culprit aside."""
        share = link.share
        if not share.under_way:
            return
        first = share.under_way[0]
        link.harmed = link.harmed + 1 if first.offset == link.suspect else 1
        link.suspect = first.offset
        if share.suspects(first) and link.harmed >= times:
            log.error("twin actor %s: input %d is put aside: %s", share.name, first.offset, words)
            self._on_harm(share, first, words)
            link.harmed = 0
        else:
            share.beware()

    def _replace_hung(self, link: Link, now: float) -> None:
        """An actor that does not answer in time is ended, so that Ray starts it again; a stuck input is suspected."""
        words = f"no answer within {self._answer_s:g} s"
        if link.calls:
            self._suspect(link, now, f"{words}: it may never come to an end")
        self._end_actor(link)
        self._lose(link, now, words)

    def _end_actor(self, link: Link) -> None:
        """End an actor's process; Ray starts the next incarnation."""
        if link.handle is not None:
            try:
                ray.kill(link.handle, no_restart=False)
            except RayError as error:
                log.warning("twin actor %s could not be ended: %s", link.share.name, error)
        if link.process is not None:  # Ray asks the process to end itself, which a stopped one does not hear
            end_process(link.process)
            link.process = None

    # -- the one way back --------------------------------------------------------------------------------------

    def _lose(self, link: Link, now: float, why: str) -> None:
        log.warning("twin actor %s: %s", link.share.name, why)
        link.failures += 1
        link.last_error = why
        self._wait(link, now)

    def _wait(self, link: Link, now: float) -> None:
        link.calls.clear()
        link.question = link.snapshot = None
        link.standing = Standing.WAITING
        link.retry_at = now + link.retry_s
        link.retry_s = min(link.retry_s * 2, RETRY_S[1])

    def _ask(self, link: Link, now: float) -> None:
        try:
            link.handle = self._find(link.share.name)
        except ValueError as error:
            self._lose(link, now, f"not there yet ({error})")
            return
        link.standing = Standing.ASKING
        link.question = (link.handle.hello.remote(), now)

    def _introduced(self, link: Link, hello: Any, now: float) -> None:
        share = link.share
        if hello.epoch < share.epoch:
            self._lose(link, now, f"epoch {hello.epoch} answers, but epoch {share.epoch} has taken over")
            return
        share.epoch = hello.epoch
        try:
            self._catch_up(share, hello)
        except (LogTrimmed, StoreUnavailable) as error:
            self._lose(link, now, f"cannot be brought back now: {error}")
            return
        link.snapshot_offset = max(link.snapshot_offset, hello.snapshot_offset)
        link.incarnation = hello.incarnation
        link.process = (hello.pid, hello.began_s) if hello.node == self._node else None
        link.met = True
        link.standing = Standing.UP
        link.retry_s = RETRY_S[0]

    def _catch_up(self, share: Share, hello: Any) -> None:
        """Take what an actor says of itself, and queue everything behind it. Raises LogTrimmed, StoreUnavailable."""
        outcomes = hello.outcomes
        if outcomes.offset >= share.reached:  # it has applied what it was sent; only its answer was lost
            answer = Reply(True, hello.epoch, hello.incarnation, outcomes, hello.refused, share.latest_s, share.busy_s)
            known = share.reached
            refused = self._routing.confirm(share, answer)
            share.reached = known  # rewind must know what this router's queue begins with
            if refused:
                self._on_refused(share, refused)
        self._routing.rewind(share, outcomes.offset)

    # -- snapshots ---------------------------------------------------------------------------------------------

    def take_snapshots(self, now: float) -> None:
        """Ask every actor that has moved on to save a snapshot."""
        for link in self.links.values():
            moved_on = link.share.reached > link.snapshot_offset
            if link.standing is Standing.UP and link.snapshot is None and moved_on:
                link.snapshot = (link.handle.save.remote(), now)

    def oldest_needed(self, own: int) -> int:
        """The first log offset that the router (from ``own`` on) or some actor would need to come back."""
        needed = own
        for link in self.links.values():
            # an actor that has nothing to save needs nothing, however old its snapshot is
            nothing_since = (
                link.met
                and not link.share.load
                and not link.share.under_way
                and (link.share.reached <= link.snapshot_offset)
            )
            if nothing_since:
                link.share.idle_at, link.share.idle_until = link.share.reached, self._routing.committed_until
            else:
                needed = min(needed, max(link.snapshot_offset + 1, self._idle_until(link)))
        return needed

    @staticmethod
    def _idle_until(link: Link) -> int:
        """Where its inputs begin again after a rest that its snapshot knows of; 0 where it knows of none."""
        return link.share.idle_until if link.snapshot_offset >= link.share.idle_at else 0


def end_process(process: tuple[int, float]) -> None:
    """kill -9 of exactly this process; nothing happens when it has ended, or its id is another's by now."""
    pid, began = process
    try:
        found = psutil.Process(pid)
        if abs(began_s(pid) - began) <= SAME_S:
            found.kill()
    except psutil.NoSuchProcess:
        return


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0]}"
