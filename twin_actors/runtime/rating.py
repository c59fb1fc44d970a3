"""How many readings arrive for every twin actor and kind: asked of the routers, and kept in the store now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from twin_actors.runtime.crew import Crew
from twin_actors.runtime.measuring import Measured, Meter
from twin_actors.runtime.whereabouts import Whereabouts

LOOK_EVERY_S = 5.0
KEEP_EVERY_S = 60.0
"""How often what was measured goes into the store, and once more at the end."""
CALL_S = 5.0


class Rating:
    """Of one controller; all is done by the thread that places actors."""

    def __init__(self, crew: Crew, whereabouts: Whereabouts) -> None:
        self._crew, self._whereabouts = crew, whereabouts
        self._meter = Meter(whereabouts.measured())
        self._looked_at = self._kept_at = float("-inf")

    @property
    def rates(self) -> Mapping[str, float]:
        """Readings a second of every twin actor, of late."""
        return self._meter.rates

    @property
    def measured(self) -> Mapping[str, Measured]:
        """What the twins of every kind take."""
        return self._meter.measured

    @property
    def is_time(self) -> bool:
        """Whether to look again."""
        return time.monotonic() - self._looked_at >= LOOK_EVERY_S

    def lines(self) -> dict[str, Mapping[str, Any]]:
        """How every twin actor stands with its router. Raises what an absent router raises."""
        asked = [self._crew.find(router).status.remote() for router in self._crew.routers]
        lines: dict[str, Mapping[str, Any]] = {}
        for status in ray.get(asked, timeout=CALL_S):
            lines |= status["actors"]
        return lines

    def look(self, *, last: bool = False) -> None:
        """Ask the routers what has arrived, and keep it now and then. Raises StoreUnavailable."""
        with suppress(ValueError, RayError, TimeoutError):  # a router that is away tells next time what it counted
            asked = [self._crew.find(router).received_by_kind.remote() for router in self._crew.routers]
            lines, received = self.lines(), Counter[str]()
            for counts in ray.get(asked, timeout=CALL_S):
                received.update(counts)
            memory = {name: hello.memory_bytes for name, hello in list(self._crew.hellos.items())}
            now = time.monotonic()
            self._meter.take(now, lines, received, self._crew.kinds, memory)
            self._looked_at = now
        if last or self._looked_at - self._kept_at >= KEEP_EVERY_S:
            self._whereabouts.keep_measured(self._meter.measured)
            self._kept_at = self._looked_at
