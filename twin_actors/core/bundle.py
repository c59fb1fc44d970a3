"""Readings of many entities of one kind as columns: what a gateway says at once, until they are rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Fields: TypeAlias = tuple[tuple[str, int], ...]
"""Names of the fields whose rows a bundle holds, each with its number of components; 0: a single number."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Readings as columns of one length, in their order.

    ``numbers`` are their entities; ``ts_ms`` the device's time, NaN where it sent none; ``values`` (rows, n) the rows
    of ``fields``, NaN where not said; ``seq`` the device's own numbers, -1 where there are none.
    """

    fields: Fields
    numbers: NDArray[np.int32]
    ts_ms: NDArray[np.float64]
    values: NDArray[np.float64]
    seq: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def part(self, chosen: NDArray[np.intp], numbers: NDArray[np.int32]) -> Bundle:
        """Some of its readings, under other numbers."""
        seq = None if self.seq is None else self.seq[chosen]
        return Bundle(self.fields, numbers, self.ts_ms[chosen], self.values[:, chosen], seq)
