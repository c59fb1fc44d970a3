"""Which name in a payload fills which rows of a reading, as the struct fields of a kind's decoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import NAN, Field, Reading
from twin_actors.core.layout import Layout

ENVELOPE: Final = frozenset({"ts", "seq", "boot", "values", "n", "bn", "entity"})
"""Names that mean something else in a payload (n and bn mark a SenML pack, entity an element of a gateway's list) and
cannot be fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMap:
    """Where a name of an existing fleet belongs: field value = payload value × ``factor`` + ``offset``.

    ``component`` is the label of one component of a vector field, for fleets that send components one by one.
    """

    field: str
    factor: float = 1.0
    offset: float = 0.0
    component: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One name in the payload and the rows ``start … start + size`` of the reading that it fills."""

    name: str  # of the struct field
    key: str  # in the payload
    start: int
    size: int
    scalar: bool
    unit: str
    labels: tuple[str, ...]
    factor: float
    offset: float
    type: Any
    default: float | tuple[float, ...]

    def one_of(self, component: int, value: float) -> float | tuple[float, ...]:
        """The slot's value when only one component is known."""
        if self.scalar:
            return value
        return tuple(value if i == component else NAN for i in range(self.size))

    def senml_names(self) -> Iterator[tuple[str, tuple[Slot, int]]]:
        """The names by which SenML records may call the slot or one of its components, with the component."""
        if self.scalar:
            yield self.key, (self, 0)
            return
        for component, label in enumerate(self.labels):
            for mark in "./:":
                yield f"{self.key}{mark}{label}", (self, component)

    def block(self, values: list[Any]) -> NDArray[np.float64]:
        """The rows ``(size, r)`` of a vector field out of ``r`` decoded structs."""
        return self.rows(list(map(attrgetter(self.name), values)))

    def rows(self, said: list[Any]) -> NDArray[np.float64]:
        """The rows ``(size, r)`` of what ``r`` readings say of a vector field."""
        total = len(said) * self.size
        try:
            flat = np.fromiter(chain.from_iterable(said), np.float64, total)
        except TypeError:  # some are objects of labels, or null
            flat = np.fromiter(chain.from_iterable(map(self._in_row_order, said)), np.float64, total)
        return flat.reshape(len(said), self.size).T

    def _in_row_order(self, said: Any) -> tuple[float | None, ...]:
        if said is None:
            return (NAN,) * self.size
        return said if isinstance(said, tuple) else msgspec.structs.astuple(said)


def slots_of(reading: type[Reading], fields: Mapping[str, FieldMap] | None) -> list[Slot]:
    """The slots of a kind's own field names, or of a fleet's names; raises ValueError for what does not fit."""
    layout = reading.layout
    if fields is None:
        fields = {name: FieldMap(field=name) for name in layout.fields}
    slots: list[Slot] = []
    taken: dict[int, str] = {}
    for key, mapped in fields.items():
        slot = _slot(f"f{len(slots)}", key, mapped, layout, reading.__name__)
        for row in range(slot.start, slot.start + slot.size):
            if row in taken:
                raise ValueError(f"fields {taken[row]!r} and {key!r} are both mapped to {layout.labels[row]!r}")
            taken[row] = key
        slots.append(slot)
    return slots


def _slot(name: str, key: str, mapped: FieldMap, layout: Layout, record: str) -> Slot:
    if key in ENVELOPE:
        raise ValueError(
            f"{key!r} cannot be a field of telemetry: it is part of the envelope ({', '.join(sorted(ENVELOPE))})"
        )
    declared = layout.fields.get(mapped.field)
    if declared is None:
        raise ValueError(
            f"{key!r} is mapped to {mapped.field!r}, which {record} does not have; its fields are "
            f"{', '.join(layout.fields)}"
        )
    if not (np.isfinite(mapped.factor) and np.isfinite(mapped.offset)) or mapped.factor == 0.0:
        raise ValueError(f"{key!r}: factor and offset are finite numbers, and factor is not 0")
    place = layout.places[mapped.field]
    labels = _labels(mapped.field, declared, layout)
    start, size = place.start, declared.size
    scalar = not declared.shape
    if mapped.component is not None:
        if mapped.component not in labels:
            raise ValueError(
                f"{key!r} is mapped to component {mapped.component!r} of {mapped.field!r}; its components are "
                f"{', '.join(labels) or 'none: it is a single number'}"
            )
        start, size, scalar = start + labels.index(mapped.component), 1, True
    return Slot(
        name=name,
        key=key,
        start=start,
        size=size,
        scalar=scalar,
        unit=declared.unit,
        labels=labels,
        factor=mapped.factor,
        offset=mapped.offset,
        type=float | None if scalar else _vector_type(size, labels),
        default=NAN if scalar else (NAN,) * size,
    )


def _labels(name: str, declared: Field, layout: Layout) -> tuple[str, ...]:
    """Component labels in row order; those of two axes are joined by a comma, as in ``Layout.labels``."""
    if not declared.shape:
        return ()
    return tuple(label[len(name) + 1 : -1] for label in layout.labels[layout.places[name]])


def _vector_type(size: int, labels: tuple[str, ...]) -> Any:
    """A list of exactly ``size`` numbers, an object of labels (unknown ones are errors), or null."""
    names = [f"c{component}" for component in range(size)]
    by_label = msgspec.defstruct(
        "Components",
        [(name, float | None, NAN) for name in names],
        rename=dict(zip(names, labels, strict=True)),
        forbid_unknown_fields=True,
        gc=False,
    )
    as_list = tuple.__class_getitem__((float | None,) * size)
    return as_list | by_label | None
