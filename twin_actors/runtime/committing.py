"""Group commits beside the router's thread: while one group is written, the next one gathers."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from twin_actors.store.base import Entry, Log, StoreUnavailable
from twin_actors.store.bundles import count_inputs

log = logging.getLogger(__name__)

RETRY_S = (0.1, 5.0)


class Committed(NamedTuple):
    """A group that is in the log now: the offset of its first entry."""

    first: int
    entries: Sequence[Entry]


class Committer:
    """Writes one group at a time in a thread of its own; ``done`` gives it back when it is durable.

    A store that cannot be written is tried again for ever, with backoff, and says so in ``trouble``: nothing that was
    taken is given up. When a newer writer has taken over, or the log is found damaged, ``ended`` is called with the
    reason and nothing is written any more.
    """

    def __init__(self, log: Log, epoch: int, *, wake: Callable[[], None], ended: Callable[[Exception], None]) -> None:
        self._log, self._epoch, self._wake, self._ended = log, epoch, wake, ended
        self._next = log.next_offset
        self._work: queue.Queue[Sequence[Entry] | None] = queue.Queue(maxsize=1)
        self._done: queue.Queue[Committed] = queue.Queue(maxsize=1)
        self._busy = False
        self._stopping = threading.Event()
        self.trouble = ""
        self.trouble_since: float | None = None
        self.failures = 0
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """A group is being written, or waits to be taken back by ``done``."""
        return self._busy

    def begin(self, entries: Sequence[Entry]) -> None:
        """Have a group written. Only when not ``busy``."""
        self._busy = True
        self._work.put_nowait(entries)

    def done(self) -> Committed | None:
        """The group that has become durable since the last time, once."""
        try:
            committed = self._done.get_nowait()
        except queue.Empty:
            return None
        self._busy = False
        return committed

    def stop(self, deadline_s: float = 5.0) -> None:
        """End the thread after the group under way, or at once when the store does not take it."""
        self._stopping.set()
        try:
            self._work.put(None, timeout=deadline_s)
        except queue.Full:
            log.warning("the committer still waits for the store; what it holds is not acknowledged and comes again")
        self._thread.join(deadline_s)

    # -- its thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (entries := self._work.get()) is not None:
            if not self._write(entries):
                return
            self._wake()

    def _write(self, entries: Sequence[Entry]) -> bool:
        delay_s = RETRY_S[0]
        while True:
            try:
                first = self._log.append(self._epoch, entries, self._next)
            except StoreUnavailable as error:
                self.failures += 1
                if self.trouble_since is None:
                    self.trouble_since = time.monotonic()
                    log.error("the store does not take the log: %s", error)
                self.trouble = str(error)
                if self._stopping.wait(delay_s):
                    return False
                delay_s = min(delay_s * 2, RETRY_S[1])
                continue
            except Exception as error:  # StaleEpoch, StoreDamaged, a fault of ours: a router without a log must end
                self._ended(error)
                return False
            self._next = first + count_inputs(entries)
            if self.trouble_since is not None:
                log.warning("the store takes the log again after %.1f s", time.monotonic() - self.trouble_since)
            self.trouble, self.trouble_since = "", None
            self._done.put_nowait(Committed(first, entries))
            return True
