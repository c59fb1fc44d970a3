"""How a city's ticks keep to their budget: what each one had to leave out, for those who ask."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_NOTES = 1_000
MOST_NAMED = 10
"""Late actors that a status names; it counts them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickNote:
    """One tick: wall seconds spent on looking and deciding, twin actors that did not answer in time, jobs left out.

    ``late`` has the age of each actor's part of the view in seconds of city time (inf: never seen); ``left_out`` has
    for each policy the number of ticks in a row that it has been left out of.
    """

    tick: int
    at_s: float
    look_s: float
    decide_s: float
    late: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def short(self) -> bool:
        return bool(self.late or self.left_out)


def words(said: Mapping[str, Any]) -> str:
    """What the last tick left out, in a line for people; empty: nothing. ``said`` is what ``Pace.summary`` said."""
    parts = []
    if said["actors_late"]:
        named = ", ".join(
            f"{name} ({'never seen' if age_s == float('inf') else f'{age_s:.0f} s old'})"
            for name, age_s in said["left_out"]["actors"].items()
        )
        more = said["actors_late"] - len(said["left_out"]["actors"])
        parts.append(f"twin actors {named}" + (f" and {more} more" if more else ""))
    if said["policies_left_out"]:
        named = ", ".join(f"{name} ({count}x in a row)" for name, count in said["left_out"]["policies"].items())
        parts.append(f"for want of time {named}")
    return f"the last tick went on without {'; '.join(parts)}" if parts else ""


class Pace:
    """The last ticks that left something out, and counts over all."""

    def __init__(self) -> None:
        self._last: TickNote | None = None
        self._short: deque[TickNote] = deque(maxlen=MOST_NOTES)
        self._late_looks = self._postponed = self._short_ticks = 0

    def note(self, tick: TickNote) -> None:
        self._last = tick
        self._late_looks += len(tick.late)
        self._postponed += len(tick.left_out)
        if tick.short:
            self._short_ticks += 1
            self._short.append(tick)

    def short(self, last: int) -> list[TickNote]:
        """The last ticks that left something out, oldest first."""
        return list(self._short)[-last:] if last > 0 else []

    def summary(self, budget_s: float) -> dict[str, Any]:
        """For status lines and metrics; of many late actors the oldest are named."""
        tick = self._last or TickNote(tick=0, at_s=0.0, look_s=0.0, decide_s=0.0)
        oldest = sorted(tick.late.items(), key=lambda item: -item[1])
        return {
            "tick_budget_s": budget_s,
            "tick_look_s": tick.look_s,
            "tick_decide_s": tick.decide_s,
            "actors_late": len(tick.late),
            "oldest_late_s": max(tick.late.values(), default=0.0),
            "policies_left_out": len(tick.left_out),
            "short_ticks": self._short_ticks,
            "late_looks": self._late_looks,
            "policies_postponed": self._postponed,
            "left_out": {"actors": dict(oldest[:MOST_NAMED]), "policies": dict(tick.left_out)},
        }
