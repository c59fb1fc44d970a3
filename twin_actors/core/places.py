"""Where twins lie in a table: by number, or side by side, where its memory is used as it lies."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Places: TypeAlias = NDArray[np.intp] | slice
"""Columns of a table: by their numbers, or a slice where they lie side by side."""


def place_of(twins: NDArray[np.intp]) -> Places:
    """Where the columns of distinct ``twins (b,)``, at least one, are: a slice if they follow each other, so that a
    table's memory is read and written as it lies, without being gathered first."""
    first, b = int(twins[0]), len(twins)
    if b == 1 or (int(twins[-1]) - first == b - 1 and bool((np.diff(twins) == 1).all())):
        return slice(first, first + b)
    return twins


def run_of(numbers: NDArray[np.intp]) -> Places:
    """The same numbers as a slice if they follow each other; also of none."""
    return place_of(numbers) if len(numbers) else slice(0, 0)


def taken(array: NDArray[Any], place: Places) -> NDArray[Any]:
    """Columns of ``(…, n)``: a view where they lie side by side, else a copy, in either case with the twins of a row
    side by side (indexing would lay the copy the other way round)."""
    return array[..., place] if isinstance(place, slice) else np.take(array, place, axis=-1)
