"""Playing recordings: the messages that devices would have sent, as fast as they go or in the rhythm of their time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from twin_actors.runtime.recording import BadRow, Recording, RecordingError, load_replay
from twin_actors.wire.messages import encode_reading

__all__ = ["BadRow", "Recording", "RecordingError", "ReplayStalled", "load_replay", "messages", "play"]

NO_ROOM_WAIT_S: Final = 0.005
REPORT_EVERY_S: Final = 0.5


class ReplayStalled(TimeoutError):
    """No room for another message by the deadline; the text says how far the replay came."""


def messages(recording: Recording) -> Iterator[tuple[str, float, bytes]]:
    """``(entity id, observed_at_s, payload)`` in order; payloads are what the entity's own device would send."""
    for entity, at_s, values in recording:
        ts: Any = round(at_s * 1e3)  # an integer wherever milliseconds say it all
        if ts / 1e3 != at_s:
            ts = at_s * 1e3
        yield entity, at_s, encode_reading(values, ts)


def play(
    recording: Recording,
    publish: Callable[[str, bytes], bool],
    *,
    speed: float | None,
    from_s: float | None = None,
    on_progress: Callable[[int, float], None] | None = None,
    stopping: threading.Event | None = None,
    deadline_s: float = 60.0,
) -> int:
    """Hand every message to ``publish(entity id, payload)``; the number of messages that it took.

    ``publish`` returns False while it has no room; then the message is offered again, for at most ``deadline_s``,
    after which ReplayStalled is raised: nothing is left out. ``speed`` None is as fast as there is room. Otherwise a
    message is due (its time − ``from_s``) / speed after the call, whatever the messages before it took; ``from_s``
    defaults to the time of the first. ``on_progress(messages, observed_at_s)`` is called twice a second and at the end.
    Ends early, without an error, when ``stopping`` is set.
    """
    stopping = stopping if stopping is not None else threading.Event()
    began = reported = time.monotonic()
    sent, last_s = 0, 0.0
    for entity, at_s, payload in messages(recording):
        if speed is not None:
            from_s = at_s if from_s is None else from_s
            wait_s = began + (at_s - from_s) / speed - time.monotonic()
            while wait_s > 0 and not stopping.wait(min(wait_s, threading.TIMEOUT_MAX)):
                wait_s = began + (at_s - from_s) / speed - time.monotonic()
        if stopping.is_set():
            break
        if not publish(entity, payload) and not _publish_later(entity, payload, publish, stopping, deadline_s):
            if stopping.is_set():
                break
            raise ReplayStalled(
                f"{recording.file}: no message could be sent for {deadline_s:g} s, "
                f"{sent:,} of {len(recording):,} were. Is the broker up, and does it keep pace?"
            )
        sent, last_s = sent + 1, at_s
        now = time.monotonic()
        if on_progress is not None and now - reported >= REPORT_EVERY_S:
            reported = now
            on_progress(sent, at_s)
    if on_progress is not None and sent:
        on_progress(sent, last_s)
    return sent


def _publish_later(
    entity: str,
    payload: bytes,
    publish: Callable[[str, bytes], bool],
    stopping: threading.Event,
    deadline_s: float,
) -> bool:
    end = time.monotonic() + deadline_s
    while not stopping.wait(NO_ROOM_WAIT_S):
        if publish(entity, payload):
            return True
        if time.monotonic() >= end:
            return False
    return False
