"""Group commits beside the thread of the router: one at a time, tried again, ended by a newer writer."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from twin_actors.runtime import committing
from twin_actors.runtime.committing import Committer
from twin_actors.store import Entry, MemoryStore, StaleEpoch, StoreDamaged, StoreUnavailable
from twin_actors.store.memory import MemoryLog
from twin_actors.testing.live import eventually

ENTRIES = [Entry(0, 0, 0, 1.0, b"{}"), Entry(1, 0, 0, 1.0, b"{}")]


class Moody(MemoryLog):
    """A log that fails as often as it is told to; with ``after``, when it has written already."""

    def __init__(self, *failures: Exception, after: bool = False) -> None:
        super().__init__(first=0)
        self.failures, self.after = list(failures), after

    def append(self, epoch: int, entries: Sequence[Entry], expected: int | None = None) -> int:
        if self.failures and not self.after:
            raise self.failures.pop(0)
        first = super().append(epoch, entries, expected)
        if self.failures:
            raise self.failures.pop(0)
        return first


class Desk:
    """A committer with what it calls."""

    def __init__(self, log: MemoryLog) -> None:
        self.woken = threading.Event()
        self.ends: list[Exception] = []
        self.committer = Committer(log, 1, wake=self.woken.set, ended=self.ends.append)


def test_a_group_is_given_back_when_it_is_durable() -> None:
    log = MemoryStore(first_offset=0).log("router")
    desk = Desk(log)
    for first in (0, 2):
        desk.woken.clear()
        assert not desk.committer.busy
        desk.committer.begin(ENTRIES)
        assert desk.woken.wait(5)
        assert desk.committer.busy
        assert desk.committer.done() == (first, ENTRIES)
        assert desk.committer.done() is None
    desk.committer.stop()
    assert log.next_offset == 4


def test_a_store_that_is_away_is_tried_again(monkeypatch) -> None:
    monkeypatch.setattr(committing, "RETRY_S", (0.01, 0.02))
    log = Moody(StoreUnavailable("away"), StoreUnavailable("still away"))
    desk = Desk(log)
    desk.committer.begin(ENTRIES)
    assert desk.woken.wait(5)
    assert desk.committer.done() == (0, ENTRIES)
    assert (desk.committer.failures, desk.committer.trouble) == (2, "")
    assert desk.ends == []


def test_a_group_whose_answer_was_lost_is_not_written_twice(monkeypatch) -> None:
    monkeypatch.setattr(committing, "RETRY_S", (0.01, 0.02))
    log = Moody(StoreUnavailable("who knows"), after=True)
    desk = Desk(log)
    desk.committer.begin(ENTRIES)
    assert desk.woken.wait(5)
    assert desk.committer.done() == (0, ENTRIES)
    assert log.next_offset == 2


def test_a_newer_writer_or_a_damaged_log_ends_it() -> None:
    for reason in (StaleEpoch("2 has taken over"), StoreDamaged("torn")):
        desk = Desk(Moody(reason))
        desk.committer.begin(ENTRIES)
        eventually(lambda desk=desk: desk.ends, within_s=5)
        assert desk.ends == [reason]
        assert desk.committer.done() is None


def test_it_can_be_stopped_while_the_store_is_away() -> None:
    desk = Desk(Moody(*[StoreUnavailable("away")] * 1000))
    desk.committer.begin(ENTRIES)
    eventually(lambda: desk.committer.trouble == "away", within_s=5)
    desk.committer.stop(deadline_s=0.5)
    assert desk.committer.busy
