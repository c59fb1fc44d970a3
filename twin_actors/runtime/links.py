"""The router's calls to twin actors: bounded windows, deadlines, and one way back after any failure."""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from twin_actors.runtime.holder import NOTHING_APPLIED, Outcomes, Refused, Reply
from twin_actors.runtime.packing import Delivery
from twin_actors.runtime.routing import Routing, Share
from twin_actors.store.base import LogTrimmed, Store

log = logging.getLogger(__name__)

WINDOW = 4
"""Batches under way per twin actor; with fewer an actor idles between calls, with more its backlog hides in Ray."""
CALL_DEADLINE_S = 30.0
RETRY_S = (0.2, 5.0)
FULL_BATCH = 1000
FLUSH_S = 0.01
FLUSH_BUSY_S = 0.03
"""How long inputs may wait for company: a busy actor gains nothing from more and smaller calls."""


class Standing(enum.Enum):
    """How a twin actor stands with the router."""

    UP = "up"
    ASKING = "asking"  # a call was lost or refused: asking how far the actor has come
    RESTORING = "restoring"  # a new incarnation is given the last snapshot
    WAITING = "waiting"  # unreachable: trying again a little later


@dataclass(slots=True)
class Link:
    """One twin actor as the router calls it."""

    share: Share
    handle: Any
    standing: Standing = Standing.ASKING
    incarnation: str = ""
    calls: deque[tuple[Any, float]] = field(default_factory=deque)  # batches under way: (ref, sent at)
    question: tuple[Any, float] | None = None  # hello or restore under way
    snapshot: tuple[Any, float] | None = None
    snapshot_offset: int = -1
    retry_at: float = 0.0
    retry_s: float = RETRY_S[0]
    failures: int = 0
    last_error: str = ""
    fates_before: Any = None  # what an earlier router's readings became, by entity


class Links:
    """All links of a router. ``turn`` never blocks; whatever it learns goes into the routing."""

    def __init__(
        self,
        routing: Routing,
        store: Store,
        find: Callable[[str], Any],
        on_refused: Callable[[Share, list[tuple[Refused, Delivery]]], None],
    ) -> None:
        self._routing, self._store, self._find, self._on_refused = routing, store, find, on_refused
        self.links = {name: Link(share, None, Standing.WAITING) for name, share in routing.shares.items()}

    # -- one turn ----------------------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        self._collect(now)
        for link in self.links.values():
            if link.standing is Standing.UP:
                self._send(link, now)
            elif link.standing is Standing.WAITING and now >= link.retry_at:
                self._ask(link, now)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return all(
            not link.calls and not link.share.waiting and link.standing is Standing.UP for link in self.links.values()
        )

    def _send(self, link: Link, now: float) -> None:
        share = link.share
        while share.waiting and len(link.calls) < WINDOW:
            patience_s = FLUSH_BUSY_S if link.calls else FLUSH_S
            if len(share.waiting) < FULL_BATCH and now - share.oldest_s < patience_s:
                return
            blob = self._routing.next_batch(share)
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
            if now - oldest > CALL_DEADLINE_S:
                self._lose(link, now, f"no answer within {CALL_DEADLINE_S:.0f} s")

    def _answered(self, link: Link, ref: Any, now: float) -> None:
        try:
            answer = ray.get(ref, timeout=1.0)
        except (RayError, GetTimeoutError) as error:
            if link.snapshot and ref == link.snapshot[0]:
                link.snapshot = None
            else:
                self._lose(link, now, f"{type(error).__name__}: {str(error).splitlines()[0]}")
            return
        if link.snapshot and ref == link.snapshot[0]:
            link.snapshot = None
            offset, blob = answer
            self._store.save_snapshot(link.share.name, link.share.epoch, offset, blob)
            link.snapshot_offset = offset
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
            refused = self._routing.confirm(link.share, reply)
            if refused:
                self._on_refused(link.share, refused)
        else:
            link.calls.clear()
            self._ask(link, now)

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
        saved = self._store.load_snapshot(share.name)
        renewed = hello.incarnation != link.incarnation
        behind = renewed and hello.outcomes.offset < share.outcomes.offset
        if behind and saved is not None and link.standing is Standing.ASKING:
            link.standing = Standing.RESTORING
            link.question = (link.handle.restore.remote(saved.offset, saved.blob), now)
            return
        outcomes: Outcomes = hello.outcomes
        if share.before is None:
            # a router that starts anew counts from here; calls run in order, so this answer precedes all batches
            share.before = outcomes
            if outcomes.offset > NOTHING_APPLIED:
                link.fates_before = link.handle.fates_by_entity.remote()
                # nothing in our log can bring back what it holds from before: keep it at once
                link.snapshot = (link.handle.snapshot.remote(), now)
        if outcomes.offset >= share.outcomes.offset:  # it has applied what it was sent; only its answer was lost
            answer = Reply(True, hello.epoch, hello.incarnation, outcomes, hello.refused, share.latest_s, share.busy_s)
            refused = self._routing.confirm(share, answer)
            if refused:
                self._on_refused(share, refused)
        try:
            self._routing.rewind(share, outcomes)
        except LogTrimmed as error:
            self._lose(link, now, f"cannot be brought back: {error}")
            return
        link.incarnation = hello.incarnation
        link.standing = Standing.UP
        link.retry_s = RETRY_S[0]

    # -- snapshots ---------------------------------------------------------------------------------------------

    def take_snapshots(self, now: float) -> None:
        """Ask every actor that has moved on for a snapshot; the answers are saved as they come."""
        for link in self.links.values():
            moved_on = link.share.outcomes.offset > link.snapshot_offset
            if link.standing is Standing.UP and link.snapshot is None and moved_on:
                link.snapshot = (link.handle.snapshot.remote(), now)

    def oldest_needed(self, next_offset: int) -> int:
        """The first log offset that some actor would need to come back."""
        needed = next_offset
        for link in self.links.values():
            share = link.share
            pending = share.under_way or share.waiting
            if pending:
                needed = min(needed, pending[0].offset)
            if share.outcomes.offset > link.snapshot_offset:
                needed = min(needed, link.snapshot_offset + 1)
        return needed
