"""What msgspec makes of the payloads of one kind, a generated struct for each reading, and structs as columns."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from twin_actors.core.columns import NAN, Reading
from twin_actors.wire.faults import seconds
from twin_actors.wire.fields import FieldMap, Slot, slots_of
from twin_actors.wire.identity import Boot, Floats, Integers, SequenceNumber, boot_number


class Structs:
    """``fields`` maps the names in the payload to fields of the reading; with it only the mapped names count.

    Raises ValueError for a mapping that does not fit, or a field named like an envelope key.
    """

    def __init__(self, reading: type[Reading], fields: Mapping[str, FieldMap] | None = None) -> None:
        self.slots: list[Slot] = slots_of(reading, fields)
        """Which name in a payload fills which rows."""
        self._rows = reading.layout.rows
        names = {slot.name: slot.key for slot in self.slots}
        declared = [(slot.name, slot.type, slot.default) for slot in self.slots]
        self.values_type = msgspec.defstruct("Values", declared, rename=names, gc=False)
        envelope = [
            ("ts", float | datetime | None, NAN),
            ("seq", SequenceNumber | None, -1),
            ("boot", str | Boot | None, None),
            ("values", self.values_type | UnsetType, UNSET),
            ("n", Raw | UnsetType, UNSET),
            ("bn", Raw | UnsetType, UNSET),
        ]
        self.message_type = msgspec.defstruct("Message", [*envelope, *declared], rename=names, gc=False)
        self.element_type = msgspec.defstruct(
            "Element", [("entity", str), *envelope, *declared], rename=names, gc=False
        )
        """An element of a gateway's list, which names its entity; see ``taken``."""
        self._scalars = [slot for slot in self.slots if slot.scalar]
        self._vectors = [slot for slot in self.slots if not slot.scalar]
        self._scalar_rows = np.array([slot.start for slot in self._scalars], dtype=np.intp)
        self._scalars_fill_rows = self._scalar_rows.tolist() == list(range(self._rows))
        self._get_scalars = operator.attrgetter(*(s.name for s in self._scalars)) if self._scalars else None
        self.scaled = any(slot.factor != 1.0 or slot.offset != 0.0 for slot in self.slots)

    def matrix(self, structs: list[Any]) -> Floats:
        """The values of messages or elements as ``(rows, r)``, NaN where not said."""
        values = [s if s.values is UNSET else s.values for s in structs]
        total = len(values)
        matrix = np.full((self._rows, total), NAN)
        if self._get_scalars is not None:
            width = len(self._scalars)
            said = map(self._get_scalars, values)
            flat = said if width == 1 else chain.from_iterable(said)
            block = np.fromiter(flat, np.float64, total * width).reshape(total, width).T
            if self._scalars_fill_rows:
                matrix[...] = block
            else:
                matrix[self._scalar_rows] = block
        for slot in self._vectors:
            matrix[slot.start : slot.start + slot.size] = slot.block(values)
        if self.scaled:
            for slot in self.slots:
                rows = matrix[slot.start : slot.start + slot.size]
                with np.errstate(over="ignore"):  # an overflow is found and rejected as not finite
                    rows *= slot.factor
                    rows += slot.offset
        return matrix

    def taken(self, structs: list[Any]) -> tuple[Floats, Floats, Integers | None, NDArray[np.bool_] | None]:
        """Structs of ``element_type`` as columns: times in ms, values (rows, r), sequence numbers (None: none has one),
        and which of them name a boot (None: none does)."""
        matrix = self.matrix(structs)
        ts = stamps(structs)
        seq: Integers | None = None
        said = [s.seq for s in structs]
        if said.count(-1) != len(said):
            seq = np.fromiter((-1 if s is None else s for s in said), np.int64, len(said))
        boots = [s.boot for s in structs]
        if boots.count(None) == len(boots):
            return ts, matrix, seq, None
        return ts, matrix, seq, np.array([boot is not None for boot in boots])

    def rows_of(self, fields: Sequence[tuple[str, int]]) -> NDArray[np.intp] | None:
        """The rows that fields (name, components; 0: a single number) fill, in their order; None where one does not
        fit the reading, as in a log that was written for another version of its kind."""
        slots = {slot.key: slot for slot in self.slots}
        rows: list[int] = []
        for name, size in fields:
            slot = slots.get(name)
            if slot is None or size != (0 if slot.scalar else slot.size) or self.scaled:
                return None
            rows += range(slot.start, slot.start + slot.size)
        return np.array(rows, np.intp)


def stamps(structs: list[Any]) -> Floats:
    """The devices' times in ms, NaN where they sent none."""
    said = [s.ts for s in structs]
    try:
        return np.fromiter(said, np.float64, len(said))
    except TypeError:  # some times are text
        return np.array([seconds(t) * 1e3 if isinstance(t, datetime) else t for t in said], dtype=np.float64)


def sequence(structs: list[Any]) -> tuple[Integers, Integers]:
    """Sequence numbers and boots, -1 where there are none."""
    total = len(structs)
    said = [s.seq for s in structs]
    boots = [s.boot for s in structs]
    seq = np.fromiter((-1 if s is None else s for s in said), np.int64, total)
    if boots.count(None) == total:
        boot = np.full(total, -1, dtype=np.int64)
    else:
        boot = np.array([-1 if b is None else boot_number(b) for b in boots], dtype=np.int64)
    return seq, boot
