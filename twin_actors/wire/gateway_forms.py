"""The two forms of a gateway's message, a list of objects and columns: typed for each kind, and whole, as numbers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from twin_actors.core.bundle import Bundle
from twin_actors.wire.decode import ReadingDecoder
from twin_actors.wire.faults import seconds
from twin_actors.wire.fields import Slot
from twin_actors.wire.identity import SequenceNumber


class Head(msgspec.Struct, gc=False):
    """A columnar message without its values."""

    entities: Raw
    values: Raw
    kind: str = ""
    ts: float | datetime | list[float | datetime | None] | None = None
    seq: list[SequenceNumber | None] | None = None
    boot: None = None  # anything else is judged singly


class Element(msgspec.Struct, gc=False):
    """What tells an element of one form from one of the other."""

    entity: Raw | UnsetType = UNSET
    entities: Raw | UnsetType = UNSET


class Columns(msgspec.Struct, gc=False):
    """A columnar message cell by cell, undecoded."""

    entities: list[str]
    values: dict[str, Raw]
    kind: str = ""
    ts: Raw | UnsetType = UNSET
    seq: Raw | UnsetType = UNSET
    boot: Raw | UnsetType = UNSET


class Uneven(ValueError):
    """Columns of different lengths."""


decode_head = msgspec.json.Decoder(Head).decode
decode_element = msgspec.json.Decoder(Element).decode
decode_columns = msgspec.json.Decoder(Columns).decode
decode_names = msgspec.json.Decoder(list[str]).decode
decode_raws = msgspec.json.Decoder(list[Raw]).decode
decode_text = msgspec.json.Decoder(str).decode


class KindForms:
    """The two forms of a gateway's message, typed for one kind."""

    def __init__(self, decoder: ReadingDecoder) -> None:
        self.decoder = decoder
        self._slots = decoder.structs.slots
        self.fields = tuple((slot.key, 0 if slot.scalar else slot.size) for slot in self._slots)
        element = decoder.structs.element_type
        self.decode_list = msgspec.json.Decoder(list[element]).decode  # type: ignore[valid-type]
        columns = [(slot.name, list[slot.type] | UnsetType, UNSET) for slot in self._slots]  # type: ignore[name-defined]
        names = {slot.name: slot.key for slot in self._slots}
        self._decode_values = msgspec.json.Decoder(
            msgspec.defstruct("ValueColumns", columns, rename=names, gc=False)
        ).decode

    def matrix(self, encoded: Raw, n: int) -> NDArray[np.float64]:
        """``values`` of a columnar message as (rows, n). Raises Uneven, or one of CANNOT_DECODE."""
        said = self._decode_values(encoded)
        matrix = np.full((self.decoder.reading.layout.rows, n), np.nan)
        for slot in self._slots:
            column = getattr(said, slot.name)
            if column is UNSET:
                continue
            if len(column) != n:
                raise Uneven(f"values.{slot.key} has {len(column)} elements, entities has {n}")
            matrix[slot.start : slot.start + slot.size] = _rows(slot, column)
        return matrix

    def gathered(
        self,
        numbers: NDArray[np.int32],
        ts_ms: NDArray[np.float64],
        values: NDArray[np.float64],
        seq: NDArray[np.int64] | None,
    ) -> Bundle:
        """Columns without the fields of which nothing is said."""
        said = (values == values).any(axis=1)
        if said.all():
            return Bundle(self.fields, numbers, ts_ms, values, seq)
        places = [slice(slot.start, slot.start + slot.size) for slot in self._slots]
        kept = [number for number, place in enumerate(places) if said[place].any()]
        rows = np.concatenate([values[places[number]] for number in kept])
        return Bundle(tuple(self.fields[number] for number in kept), numbers, ts_ms, rows, seq)


def _rows(slot: Slot, column: list[Any]) -> NDArray[np.float64]:
    if slot.scalar:
        return np.array(column, dtype=np.float64)[None]  # null becomes NaN
    return slot.rows(column)


def ts_column(said: Any, n: int) -> NDArray[np.float64]:
    """Times in ms ``(n,)``, NaN where none is said. Raises Uneven."""
    if not isinstance(said, list):
        return np.full(n, _ms(said))
    if len(said) != n:
        raise Uneven(f"ts has {len(said)} elements, entities has {n}")
    try:
        return np.array(said, dtype=np.float64)  # null becomes NaN
    except TypeError:  # some times are text
        return np.array([_ms(each) for each in said], dtype=np.float64)


def _ms(said: float | datetime | None) -> float:
    if said is None:
        return np.nan
    return seconds(said) * 1e3 if isinstance(said, datetime) else said


def seq_column(said: list[int | None] | None, n: int) -> NDArray[np.int64] | None:
    """Sequence numbers ``(n,)``, -1 where none is said. Raises Uneven."""
    if said is None:
        return None
    if len(said) != n:
        raise Uneven(f"seq has {len(said)} elements, entities has {n}")
    return np.array([-1 if each is None else each for each in said], np.int64)
