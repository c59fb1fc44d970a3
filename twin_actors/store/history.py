"""What history is made of: decoded values on their way into rolled-up buckets, retention, and a report of tidying."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_actors.store.base import Entry

Floats = NDArray[np.float64]


class Values(NamedTuple):
    """What entries said about one field row of one entity: ``at_s`` and ``values`` (m,), in log order.

    ``field`` is the row's label as the city's history shows it. NaN values ("not said") are left out of history.
    """

    entity: int
    field: str
    at_s: Floats
    values: Floats


Decode = Callable[[Sequence[tuple[int, Entry]]], Iterable[Values]]
"""Makes values of log entries, which the store itself cannot read. Gets up to some ten thousand at a time, those of an
entity in log order. What cannot be decoded it leaves out; anything it raises ends the tidying."""


class Resolution(enum.Enum):
    """How wide the buckets of rolled-up history are."""

    MINUTE = "minute"
    HOUR = "hour"

    @property
    def width_s(self) -> int:
        return 60 if self is Resolution.MINUTE else 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """Buckets of one field row of one entity in order of time, each array (m,): ``at_s`` is where a bucket begins.

    ``last`` is the value with the latest time in the bucket; of equal times, the one that came last.
    """

    at_s: Floats
    count: NDArray[np.int64]
    minimum: Floats
    mean: Floats
    maximum: Floats
    last: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long history is kept, in seconds of city time: raw readings and hourly snapshots, minutes, hours."""

    raw_s: float = 30 * 86400.0
    minute_s: float = 90 * 86400.0
    hour_s: float = 5 * 365 * 86400.0

    def __post_init__(self) -> None:
        if not 0 < self.raw_s <= self.minute_s <= self.hour_s:
            raise ValueError(
                f"retention must rise from raw ({self.raw_s:.0f} s) over minutes ({self.minute_s:.0f} s) to hours "
                f"({self.hour_s:.0f} s): the coarser outlives the finer that it was made from"
            )


@dataclass(slots=True, kw_only=True)
class Tidied:
    """What one tidying did, summed over the logs."""

    sealed_entries: int = 0
    sealed_files: int = 0
    rolled_entries: int = 0
    forgotten_entries: int = 0
    forgotten_rollups: int = 0
    forgotten_snapshots: int = 0
    forgotten_letters: int = 0
    forgotten_records: int = 0
    note: str = ""
    """What kept it from doing all of it, such as a missing library; empty when nothing did."""
