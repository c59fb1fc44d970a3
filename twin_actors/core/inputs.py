"""Inputs of twins in log order: readings, what was asked of devices, commands in force, couplings."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.cleaning import NO_KEY
from twin_actors.core.columns import Column


class Channel(enum.IntEnum):
    """What an input says; the numbers are stored in logs and must not change."""

    READING = 0
    DESIRED = 1  # a command was issued: shown as desired until the device follows
    COMMAND = 2  # a command was acknowledged: in force from now on
    COUPLING = 3


def _none() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """``b`` inputs of one kind in arrival order.

    ``rows (b,)`` are the twins' columns in their table, ``channels (b,)`` a Channel each, ``values (r, b)`` the
    values in the rows of the channel's record (NaN: not said; rows beyond the record's are ignored).
    ``keys (b,)`` are identities of readings (NO_KEY: none).
    """

    rows: NDArray[np.intp]
    observed_at_s: Column
    values: Column
    channels: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    keys: NDArray[np.int64] = field(default_factory=_none)

    def __post_init__(self) -> None:
        b = len(self.rows)
        if not len(self.channels):
            object.__setattr__(self, "channels", np.zeros(b, np.uint8))
        if not len(self.keys):
            object.__setattr__(self, "keys", np.full(b, NO_KEY, np.int64))
        if not (len(self.observed_at_s) == len(self.channels) == len(self.keys) == self.values.shape[-1] == b):
            raise ValueError(f"a batch of {b} rows needs {b} times, channels, keys and columns of values")

    def __len__(self) -> int:
        return len(self.rows)


def rounds(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Positions of a batch cut into rounds: the k-th input of each twin is in round k, in arrival order.

    Within a round no twin occurs twice, so a round is one vectorised step, by ascending twin because memory that is
    read in order costs half; across rounds every twin sees its own inputs in the order in which they arrived, however
    the stream was cut into batches.
    """
    b = len(rows)
    if b == 1:
        return [np.zeros(1, np.intp)]
    order = np.argsort(rows, kind="stable")
    grouped = rows[order]
    starts = np.r_[True, grouped[1:] != grouped[:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(b), 0))
    rank = np.empty(b, np.intp)
    rank[order] = np.arange(b) - first
    if rank.max(initial=0) == 0:
        return [order]
    by_rank = order[np.argsort(rank[order], kind="stable")]
    bounds = np.flatnonzero(np.diff(rank[by_rank])) + 1
    return list(np.split(by_rank, bounds))


PORTION = 1_048_576
"""Numbers that a step reads and moves at a time: so few that the memory allocator keeps what their arrays take at hand
(some megabytes each), so many that the calls of one step, a few hundred, are shared by thousands of twins."""
FEWEST = 512
"""Twins of a portion at least: numpy takes a record row by row, and short rows cost more than a full cache."""


def portions(b: int, rows: int) -> list[slice]:
    """A round of ``b`` readings that take ``rows`` numbers each, cut so that a portion takes about ``PORTION``."""
    size = max(PORTION // max(rows, 1), FEWEST)
    return [slice(begin, begin + size) for begin in range(0, b, size)]
