"""Messages of gateways: readings of many entities at once, as a list of objects or as columns, taken apart by kind.

What is whole becomes columns in a few calls. An element that is not (a wrong type, a time nobody can read, a boot of
its own) becomes the single message that its device would have sent, and is judged like any other; so a message of a
gateway has the same outcome, reading by reading, as its elements sent one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from twin_actors.core.bundle import Bundle
from twin_actors.wire.decode import ReadingDecoder, SequenceNumber
from twin_actors.wire.elements import CANNOT_DECODE, MAX_PAYLOAD_BYTES, elements, is_list
from twin_actors.wire.faults import explain, quote, seconds
from twin_actors.wire.fields import Slot
from twin_actors.wire.reasons import Reason, brief

UNKNOWN: Final = -1
MOST_KEPT: Final = 1_024
LONGEST_KEPT: Final = 16_384
"""How many lists of entities are remembered, and of how many bytes at most."""
_text = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class Stray:
    """An element that belongs to no entity of the city; ``entity`` is what it says, "" where it says none."""

    entity: str
    reason: Reason
    detail: str
    payload: bytes


@dataclass(slots=True)
class Message:
    """A gateway's message taken apart. Every element is in one of the three; those of one entity keep their order."""

    gathered: list[Bundle] = field(default_factory=list)
    singles: list[tuple[int, bytes]] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)


class _Head(msgspec.Struct, gc=False):
    """A columnar message without its values."""

    entities: Raw
    values: Raw
    kind: str = ""
    ts: float | datetime | list[float | datetime | None] | None = None
    seq: list[SequenceNumber | None] | None = None
    boot: None = None  # anything else is judged singly


class _Element(msgspec.Struct, gc=False):
    """What tells an element of one form from one of the other."""

    entity: Raw | UnsetType = UNSET
    entities: Raw | UnsetType = UNSET


class _Columns(msgspec.Struct, gc=False):
    """A columnar message cell by cell, undecoded."""

    entities: list[str]
    values: dict[str, Raw]
    kind: str = ""
    ts: Raw | UnsetType = UNSET
    seq: Raw | UnsetType = UNSET
    boot: Raw | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class _Entities:
    """Whom the elements of a message are of: ``kinds`` there are, with the places of each (None: all of them), and the
    places of ``strange`` ones (None: there are none)."""

    ids: list[str]
    numbers: NDArray[np.int32]
    kinds: list[tuple[int, NDArray[np.bool_] | None]]
    strange: NDArray[np.bool_] | None


class _Uneven(ValueError):
    """Columns of different lengths."""


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_element = msgspec.json.Decoder(_Element).decode
_decode_columns = msgspec.json.Decoder(_Columns).decode
_decode_names = msgspec.json.Decoder(list[str]).decode
_decode_raws = msgspec.json.Decoder(list[Raw]).decode


class _KindForms:
    """The two forms of a gateway's message, typed for one kind."""

    def __init__(self, decoder: ReadingDecoder) -> None:
        self.decoder = decoder
        self._slots = decoder.slots
        self.fields = tuple((slot.key, 0 if slot.scalar else slot.size) for slot in self._slots)
        element = decoder.element_type
        self.decode_list = msgspec.json.Decoder(list[element]).decode  # type: ignore[valid-type]
        columns = [(slot.name, list[slot.type] | UnsetType, UNSET) for slot in self._slots]  # type: ignore[name-defined]
        names = {slot.name: slot.key for slot in self._slots}
        self._decode_values = msgspec.json.Decoder(
            msgspec.defstruct("ValueColumns", columns, rename=names, gc=False)
        ).decode

    def matrix(self, encoded: Raw, n: int) -> NDArray[np.float64]:
        """``values`` of a columnar message as (rows, n). Raises _Uneven, or one of CANNOT_DECODE."""
        said = self._decode_values(encoded)
        matrix = np.full((self.decoder.reading.layout.rows, n), np.nan)
        for slot in self._slots:
            column = getattr(said, slot.name)
            if column is UNSET:
                continue
            if len(column) != n:
                raise _Uneven(f"values.{slot.key} has {len(column)} elements, entities has {n}")
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


class GatewayDecoder:
    """Decodes messages of gateways for a city: ``decoders`` by kind, ``numbers`` by entity id, 0 … n−1."""

    def __init__(self, decoders: Mapping[str, ReadingDecoder], numbers: Mapping[str, int]) -> None:
        self._kinds = list(decoders)
        self._forms = [_KindForms(decoder) for decoder in decoders.values()]
        self._number = dict(numbers)
        place = {kind: number for number, kind in enumerate(self._kinds)}
        self._kind_of = np.empty(len(numbers), np.intp)
        for entity, number in numbers.items():
            self._kind_of[number] = place[entity.partition("/")[0]]
        self._recent: dict[tuple[str, bytes], _Entities] = {}
        self._known = {name for forms in self._forms for name, _ in forms.fields}
        self._usual = 0  # the kind of the last list: the next one is decoded as of that kind first

    def decode(self, payload: bytes, received_at_s: float) -> Message:
        """Never raises for what is in a payload; one that cannot be read at all is one stray element."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            detail = f"{len(payload):,} bytes, at most {MAX_PAYLOAD_BYTES:,} are read"
            return Message(strays=[Stray("", Reason.TOO_LARGE, detail, payload)])
        try:
            whole = self._list if is_list(payload) else self._columnar
            return whole(payload, received_at_s)
        except _Uneven as error:
            return Message(strays=[Stray("", Reason.WRONG_TYPE, str(error), payload)])
        except CANNOT_DECODE:
            return self._one_by_one(payload)

    # -- whole messages ----------------------------------------------------------------------------------------

    def _columnar(self, payload: bytes, received_at_s: float) -> Message:
        head = _decode_head(payload)
        of = self._entities(head.kind, bytes(head.entities))
        n = len(of.ids)
        if not n:
            return Message(strays=[Stray("", Reason.EMPTY, "entities is an empty list", payload)])
        ts_ms = _ts_column(head.ts, n)
        seq = _seq_column(head.seq, n)
        message = Message()
        singly = of.strange
        for kind, own in of.kinds:
            forms = self._forms[kind]
            values = forms.matrix(head.values, n)
            bad = self._gather(message, forms, own, of.numbers, ts_ms, values, seq, received_at_s)
            singly = bad if singly is None else singly if bad is None else singly | bad
        if singly is not None:
            cells = self._cells(payload)
            for place in np.flatnonzero(singly).tolist():
                self._place(message, of.ids[place], cells[place])
        return message

    def _list(self, payload: bytes, received_at_s: float) -> Message:
        structs = self._typed(payload)
        if not structs:
            return Message(strays=[Stray("", Reason.EMPTY, "an empty list", payload)])
        ids = [each.entity for each in structs]
        of = self._sorted(ids)
        message = Message()
        singly = of.strange
        for kind, own in of.kinds:
            forms = self._forms[kind]
            if kind != self._usual:
                self._usual = kind
                structs = forms.decode_list(payload)
            ts_ms, values, seq, booted = forms.decoder.taken(structs)
            bad = self._gather(message, forms, own, of.numbers, ts_ms, values, seq, received_at_s, booted)
            singly = bad if singly is None else singly if bad is None else singly | bad
        if singly is not None:
            raws = elements(payload)
            for place in np.flatnonzero(singly).tolist():
                self._place(message, ids[place], bytes(raws[place]))
        return message

    def _entities(self, kind: str, encoded: bytes) -> _Entities:
        """Whom a columnar message speaks for. Gateways name the same entities again and again, in the same words."""
        found = self._recent.get((kind, encoded))
        if found is None:
            names = _decode_names(encoded)
            found = self._sorted([f"{kind}/{name}" for name in names] if kind else names)
            if len(encoded) <= LONGEST_KEPT:
                if len(self._recent) >= MOST_KEPT:
                    self._recent.clear()
                self._recent[kind, encoded] = found
        return found

    def _sorted(self, ids: list[str]) -> _Entities:
        get = self._number.get
        numbers = np.array([get(entity, UNKNOWN) for entity in ids], np.int32)
        kinds = self._kind_of[numbers]
        known = numbers != UNKNOWN
        if known.all() and (kinds == kinds[:1]).all():
            return _Entities(ids, numbers, [(int(kinds[0]), None)] if ids else [], None)
        present = sorted(set(kinds[known].tolist()))
        return _Entities(
            ids, numbers, [(kind, known & (kinds == kind)) for kind in present], None if known.all() else ~known
        )

    def _typed(self, payload: bytes) -> list[Any]:
        """The elements as of the usual kind, or of the first one's, whose fields may be of other types."""
        try:
            return self._forms[self._usual].decode_list(payload)
        except CANNOT_DECODE:
            first = elements(payload)[:1]
            found = _decode_element(first[0]).entity if first else UNSET
            kind = "" if found is UNSET else _text(found).partition("/")[0]
            if kind not in self._kinds or self._kinds.index(kind) == self._usual:
                raise
            self._usual = self._kinds.index(kind)
            return self._forms[self._usual].decode_list(payload)

    @staticmethod
    def _gather(
        message: Message,
        forms: _KindForms,
        own: NDArray[np.bool_] | None,
        numbers: NDArray[np.int32],
        ts_ms: NDArray[np.float64],
        values: NDArray[np.float64],
        seq: NDArray[np.int64] | None,
        received_at_s: float,
        booted: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.bool_] | None:
        """Add the sound readings among a message's ``own`` of a kind (None: all). Returns which must be judged singly
        (None: none): the others, those of a boot, whose identity hangs on a text, and all of the same entities, whose
        order would be lost."""
        if own is None and booted is None and forms.decoder.all_sound(values, ts_ms, received_at_s):
            message.gathered.append(forms.gathered(numbers, ts_ms, values, seq))
            return None
        own = np.ones(len(numbers), np.bool_) if own is None else own
        bad = own & ~forms.decoder.sound(values, ts_ms, received_at_s)
        if booted is not None:
            bad |= own & booted
        if bad.any():
            bad = own & np.isin(numbers, numbers[bad])
        good = own & ~bad
        if good.all():
            message.gathered.append(forms.gathered(numbers, ts_ms, values, seq))
        elif good.any():
            part = None if seq is None else seq[good]
            message.gathered.append(forms.gathered(numbers[good], ts_ms[good], values[:, good], part))
        return bad if bad.any() else None

    # -- one by one --------------------------------------------------------------------------------------------

    def _one_by_one(self, payload: bytes) -> Message:
        message = Message()
        raws: Sequence[bytes | Raw] = [payload]
        if is_list(payload):
            try:
                raws = elements(payload)
            except CANNOT_DECODE as error:
                message.strays.append(Stray("", *_brief(explain(payload, error)), payload))
                return message
            if not raws:
                message.strays.append(Stray("", Reason.EMPTY, "an empty list", payload))
        for raw in raws:
            self._element(message, bytes(raw))
        return message

    def _element(self, message: Message, encoded: bytes) -> None:
        try:
            found = _decode_element(encoded)
            if found.entities is not UNSET:
                self._columns(message, encoded)
                return
            entity = "" if found.entity is UNSET else _text(found.entity)
        except CANNOT_DECODE as error:
            message.strays.append(Stray("", *_brief(explain(encoded, error)), encoded))
            return
        self._place(message, entity, encoded)

    def _columns(self, message: Message, encoded: bytes) -> None:
        """A columnar message, or one in a list, of which something cannot be read."""
        try:
            cells = self._cells(encoded)
            head = _decode_columns(encoded)
        except _Uneven as error:
            message.strays.append(Stray("", Reason.WRONG_TYPE, str(error), encoded))
            return
        if not cells:
            message.strays.append(Stray("", Reason.EMPTY, "entities is an empty list", encoded))
        for name, cell in zip(head.entities, cells, strict=True):
            self._place(message, f"{head.kind}/{name}" if head.kind else name, cell)

    def _cells(self, encoded: bytes) -> list[bytes]:
        """The elements of a columnar message as objects. Raises _Uneven, or one of CANNOT_DECODE."""
        said = _decode_columns(encoded)
        n = len(said.entities)
        kind = f"{said.kind}/" if said.kind else ""
        ids = [msgspec.json.encode(kind + name) for name in said.entities]
        columns = {
            name: _column(name, raw, n)
            for name, raw in (("ts", said.ts), ("seq", said.seq), ("boot", said.boot))
            if raw is not UNSET
        }
        keys = []
        for key, raw in said.values.items():
            if key in self._known or is_list(bytes(raw)):
                cells = _column(f"values.{key}", raw, n) if key in self._known else _decode_raws(raw)
                if len(cells) == n:  # what no kind knows may be anything
                    keys.append((msgspec.json.encode(key), cells))
        return [
            b'{"entity":' + ids[place]
            + b"".join(b',"%s":%s' % (name.encode(), bytes(column[place])) for name, column in columns.items())
            + b',"values":{'
            + b",".join(key + b":" + cell for key, cells in keys if (cell := bytes(cells[place])) != b"null") + b"}}"
            for place in range(n)
        ]  # fmt: skip

    def _place(self, message: Message, entity: str, encoded: bytes) -> None:
        number = self._number.get(entity, UNKNOWN)
        if number != UNKNOWN:
            message.singles.append((number, encoded))
            return
        if not entity:
            detail = f'the element {quote(encoded)} names no entity; write "entity": "kind/name" in it'
            message.strays.append(Stray("", Reason.UNKNOWN_ENTITY, brief(detail), encoded))
            return
        known = entity.partition("/")[0] in self._kinds
        reason = Reason.UNKNOWN_ENTITY if known else Reason.UNKNOWN_KIND
        message.strays.append(Stray(entity, reason, brief(entity), encoded))


def _column(name: str, raw: Raw, n: int) -> Sequence[bytes | Raw]:
    """The cells of a column; of the envelope it may be one value for all."""
    if not is_list(bytes(raw)):
        if name.startswith("values."):
            raise _Uneven(f"{name} is no list; entities has {n} elements, and each column as many")
        return [bytes(raw)] * n
    cells: list[Raw] = _decode_raws(raw)
    if len(cells) != n:
        raise _Uneven(f"{name} has {len(cells)} elements, entities has {n}")
    return cells


def _ts_column(said: Any, n: int) -> NDArray[np.float64]:
    if not isinstance(said, list):
        return np.full(n, _ms(said))
    if len(said) != n:
        raise _Uneven(f"ts has {len(said)} elements, entities has {n}")
    try:
        return np.array(said, dtype=np.float64)  # null becomes NaN
    except TypeError:  # some times are text
        return np.array([_ms(each) for each in said], dtype=np.float64)


def _ms(said: float | datetime | None) -> float:
    if said is None:
        return np.nan
    return seconds(said) * 1e3 if isinstance(said, datetime) else said


def _seq_column(said: list[int | None] | None, n: int) -> NDArray[np.int64] | None:
    if said is None:
        return None
    if len(said) != n:
        raise _Uneven(f"seq has {len(said)} elements, entities has {n}")
    return np.array([-1 if each is None else each for each in said], np.int64)


def _brief(why: tuple[Reason, str]) -> Iterator[Any]:
    reason, detail = why
    return iter((reason, brief(detail)))
