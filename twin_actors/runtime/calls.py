"""Calls of others to a thread that owns its state alone: it does what they ask, and they wait for what comes of it."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

CALL_DEADLINE_S = 10.0
MOST_WAITING = 1000


class Calls:
    """``wake()`` ends the pause of the thread that serves."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._queue: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue(maxsize=MOST_WAITING)

    @property
    def waiting(self) -> bool:
        return not self._queue.empty()

    def ask(self, work: Callable[[], T]) -> T:
        """Have the thread do something and wait for it, with a deadline."""
        result: Future[T] = Future()
        self._queue.put((work, result), timeout=CALL_DEADLINE_S)
        self._wake()
        return result.result(timeout=CALL_DEADLINE_S)

    def serve(self) -> None:
        """Do all that is asked now; what it raises is raised where it was asked."""
        while True:
            try:
                work, result = self._queue.get_nowait()
            except queue.Empty:
                return
            try:
                result.set_result(work())
            except Exception as error:
                result.set_exception(error)
