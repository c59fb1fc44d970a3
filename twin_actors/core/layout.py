"""Where the fields of a record lie in its matrix, and what is declared of each row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from twin_actors.core.columns import Column, Field


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each field of a record lies in its (rows, …, n) matrix."""

    fields: Mapping[str, Field]
    places: Mapping[str, slice]
    rows: int
    labels: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, fields: Mapping[str, Field]) -> Layout:
        places: dict[str, slice] = {}
        labels: list[str] = []
        start = 0
        for name, declared in fields.items():
            places[name] = slice(start, start + declared.size)
            start += declared.size
            labels.extend(_row_labels(name, declared))
        return cls(dict(fields), places, start, tuple(labels))

    def per_row(self, of_field: str) -> Column:
        """One declared number per row, shape ``(rows, 1)``, e.g. ``per_row("minimum")``."""
        numbers: list[float] = []
        for declared in self.fields.values():
            number = getattr(declared, of_field)
            numbers.extend(number if isinstance(number, tuple) else (number,) * declared.size)
        return np.array(numbers, dtype=np.float64).reshape(self.rows, 1)

    def field_of_row(self) -> tuple[str, ...]:
        return tuple(name for name, declared in self.fields.items() for _ in range(declared.size))


def _row_labels(name: str, declared: Field) -> Iterator[str]:
    for place in np.ndindex(declared.shape):
        axes = declared.axes
        slots = len(place) - len(axes)
        parts = [str(slot) for slot in place[:slots]]
        parts += [axis.labels[i] for axis, i in zip(axes, place[slots:], strict=True)]
        yield f"{name}[{','.join(parts)}]" if parts else name
