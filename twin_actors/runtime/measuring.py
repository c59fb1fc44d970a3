"""What the twins of each kind have been measured to take: readings a second, time per reading, memory per twin.

The figures are kept in the city's store, so that the next launch can size its twin actors by them. A rate rises within
a minute and falls within a day: an actor is sized for the busy hours of its twins, not for the quiet one before
``down``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from twin_actors.runtime.placement import ACTOR_BYTES, ROUGHLY
from twin_actors.store import Store

MEASURED_KEY: Final = "placement/measured"
RISE_S, FALL_S = 60.0, 86_400.0
"""Time constants of a rate that grows and of one that shrinks."""
BUSY = 0.2
"""Share of its time that an actor must be applying inputs before the time per reading counts: a lone reading pays for
a whole call, of which hundreds share one under load."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the twins of one kind take, all ``twins`` of them together (1/s), over how long that was seen (s).

    ``reading_us`` is the time of a reading in its twin actor, None while no actor was busy enough to tell;
    ``twin_bytes`` the memory of one twin, None while no actor takes noticeably more than one without twins.
    """

    twins: int
    readings_per_s: float
    over_s: float
    reading_us: float | None = None
    twin_bytes: float | None = None

    @property
    def of_one(self) -> float:
        """Readings a second of one twin."""
        return self.readings_per_s / self.twins


def kept_measures(store: Store) -> dict[str, Measured]:
    """By kind; empty for a city that has never been measured. Raises StoreUnavailable."""
    said = store.get(MEASURED_KEY)
    return {} if said is None else msgspec.msgpack.decode(said, type=dict[str, Measured])


def keep_measures(store: Store, measured: Mapping[str, Measured]) -> None:
    """One value, no larger than there are kinds. Raises StoreUnavailable."""
    store.put(MEASURED_KEY, msgspec.msgpack.encode(measured))


class Meter:
    """Takes what routers count, look after look, and says how fast it grows: by twin actor, and smoothed by kind."""

    def __init__(self, measured: Mapping[str, Measured]) -> None:
        self.measured = dict(measured)
        self.rates: dict[str, float] = {}
        """Readings a second of every twin actor, between the last two looks."""
        self._at_s: float | None = None
        self._received: Mapping[str, int] = {}
        self._actors: dict[str, tuple[int, int, float]] = {}

    def take(
        self,
        now_s: float,
        actors: Mapping[str, Mapping[str, Any]],
        received: Mapping[str, int],
        kinds: Mapping[str, Mapping[str, int]],
        memory_bytes: Mapping[str, int],
    ) -> None:
        """One look at a moment of a clock that never turns back.

        ``actors`` are the routers' lines (``received``, ``applied``, ``busy_s``), ``received`` counts by kind,
        ``kinds`` says how many twins of which kinds an actor holds, ``memory_bytes`` what it takes. A count that has
        gone down is that of a new incarnation, and tells nothing until the next look.
        """
        now = {name: (line["received"], line["applied"], line["busy_s"]) for name, line in actors.items()}
        dt_s = 0.0 if self._at_s is None else now_s - self._at_s
        if dt_s > 0.0:
            grown = {
                name: tuple(new - old for new, old in zip(now[name], before, strict=True))
                for name, before in self._actors.items()
                if name in now
            }
            self.rates = {name: max(received, 0) / dt_s for name, (received, _, _) in grown.items()}
            twins = _twins(kinds)
            cost_us = _cost_us(grown, kinds, dt_s)
            own_bytes = _twin_bytes(kinds, memory_bytes)
            for kind, count in twins.items():
                if received.get(kind, 0) >= self._received.get(kind, math.inf):
                    rate = (received[kind] - self._received[kind]) / dt_s
                    self._smooth(kind, count, rate, dt_s, cost_us.get(kind), own_bytes.get(kind))
        self._at_s, self._received, self._actors = now_s, dict(received), now

    def _smooth(
        self, kind: str, twins: int, rate: float, dt_s: float, cost_us: float | None, own_bytes: float | None
    ) -> None:
        was = self.measured.get(kind) or Measured(twins=twins, readings_per_s=rate, over_s=0.0)
        known = was.of_one * twins  # of as many twins as there are now
        time_constant_s = RISE_S if rate > known else FALL_S
        # a plain mean at first, until that is slower than the time constant
        weight = max(-math.expm1(-dt_s / time_constant_s), dt_s / (was.over_s + dt_s))
        if cost_us is not None and was.reading_us is not None:
            cost_us = was.reading_us - math.expm1(-dt_s / RISE_S) * (cost_us - was.reading_us)
        self.measured[kind] = Measured(
            twins=twins,
            readings_per_s=known + weight * (rate - known),
            over_s=was.over_s + dt_s,
            reading_us=was.reading_us if cost_us is None else cost_us,
            twin_bytes=was.twin_bytes if own_bytes is None else own_bytes,
        )


def _twins(kinds: Mapping[str, Mapping[str, int]]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for held in kinds.values():
        counted.update(held)
    return counted


def _cost_us(
    grown: Mapping[str, tuple[float, ...]], kinds: Mapping[str, Mapping[str, int]], dt_s: float
) -> dict[str, float]:
    """Time per reading by kind: over all actors that were busy enough and hold some of it."""
    busy: dict[str, float] = {}
    applied: dict[str, float] = {}
    for name, (_, readings, busy_s) in grown.items():
        if readings > 0 and busy_s >= BUSY * dt_s:
            for kind in kinds.get(name, ()):
                busy[kind] = busy.get(kind, 0.0) + busy_s
                applied[kind] = applied.get(kind, 0.0) + readings
    return {kind: 1e6 * busy[kind] / applied[kind] for kind in applied}


def _twin_bytes(kinds: Mapping[str, Mapping[str, int]], memory_bytes: Mapping[str, int]) -> dict[str, float]:
    """Memory per twin by kind: over all actors that hold some of it and take more than an ordinary one."""
    taken: Counter[str] = Counter()
    twins: Counter[str] = Counter()
    for name, held in kinds.items():
        more = memory_bytes.get(name, 0) - ACTOR_BYTES
        if more > (ROUGHLY - 1.0) * ACTOR_BYTES:
            for kind in held:
                taken[kind] += more
                twins[kind] += sum(held.values())
    return {kind: taken[kind] / twins[kind] for kind in taken}
