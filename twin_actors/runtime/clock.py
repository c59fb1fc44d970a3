"""The city's clock: wall time, wall time at another pace, or the time that the newest reading tells."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Shared by all processes of a city through its folder, so that all of them read the same time.

    ``scaled``: ``start_s`` at the wall moment ``origin_s``, then ``speed`` city seconds per second. ``events``: devices
    may speak of any past; arrivals are stamped with wall time and "now" is the newest reading seen.
    """

    mode: Literal["wall", "scaled", "events"] = "wall"
    speed: float = 1.0
    start_s: float = 0.0
    origin_s: float = 0.0

    def now_s(self) -> float:
        """Seconds since the epoch, UTC, on the city's clock (wall time in mode ``events``)."""
        wall_s = time.time()
        if self.mode != "scaled":
            return wall_s
        return self.start_s + (wall_s - self.origin_s) * self.speed

    def wall_seconds(self, city_s: float) -> float:
        """How long a stretch of city time takes."""
        return city_s / self.speed if self.mode == "scaled" else city_s
