"""Messages of gateways: readings of many entities at once, as a list of objects or as columns, taken apart by kind.

What is whole becomes columns in a few calls. An element that is not (a wrong type, a time nobody can read, a boot of
its own) becomes the single message that its device would have sent, and is judged like any other; so a message of a
gateway has the same outcome, reading by reading, as its elements sent one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from twin_actors.wire.decode import ReadingDecoder
from twin_actors.wire.elements import CANNOT_DECODE, MAX_PAYLOAD_BYTES, elements, is_list
from twin_actors.wire.gateway_elements import UNKNOWN, Elements, Message, Stray
from twin_actors.wire.gateway_forms import (
    KindForms,
    Uneven,
    decode_element,
    decode_head,
    decode_names,
    decode_text,
    seq_column,
    ts_column,
)
from twin_actors.wire.reasons import Reason

MOST_KEPT: Final = 1_024
LONGEST_KEPT: Final = 16_384
"""How many lists of entities are remembered, and of how many bytes at most."""


@dataclass(frozen=True, slots=True)
class _Entities:
    """Whom the elements of a message are of: ``kinds`` there are, with the places of each (None: all of them), and the
    places of ``strange`` ones (None: there are none)."""

    ids: list[str]
    numbers: NDArray[np.int32]
    kinds: list[tuple[int, NDArray[np.bool_] | None]]
    strange: NDArray[np.bool_] | None


class GatewayDecoder:
    """Decodes messages of gateways for a city: ``decoders`` by kind, ``numbers`` by entity id, 0 … n−1."""

    def __init__(self, decoders: Mapping[str, ReadingDecoder], numbers: Mapping[str, int]) -> None:
        self._kinds = list(decoders)
        self._forms = [KindForms(decoder) for decoder in decoders.values()]
        self._number = dict(numbers)
        place = {kind: number for number, kind in enumerate(self._kinds)}
        self._kind_of = np.empty(len(numbers), np.intp)
        for entity, number in numbers.items():
            self._kind_of[number] = place[entity.partition("/")[0]]
        self._recent: dict[tuple[str, bytes], _Entities] = {}
        known = {name for forms in self._forms for name, _ in forms.fields}
        self._elements = Elements(self._kinds, self._number, known)
        self._usual = 0  # the kind of the last list: the next one is decoded as of that kind first

    def decode(self, payload: bytes, received_at_s: float) -> Message:
        """Never raises for what is in a payload; one that cannot be read at all is one stray element."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            detail = f"{len(payload):,} bytes, at most {MAX_PAYLOAD_BYTES:,} are read"
            return Message(strays=[Stray("", Reason.TOO_LARGE, detail, payload)])
        try:
            whole = self._list if is_list(payload) else self._columnar
            return whole(payload, received_at_s)
        except Uneven as error:
            return Message(strays=[Stray("", Reason.WRONG_TYPE, str(error), payload)])
        except CANNOT_DECODE:
            return self._elements.one_by_one(payload)

    def _columnar(self, payload: bytes, received_at_s: float) -> Message:
        head = decode_head(payload)
        of = self._entities(head.kind, bytes(head.entities))
        n = len(of.ids)
        if not n:
            return Message(strays=[Stray("", Reason.EMPTY, "entities is an empty list", payload)])
        ts_ms = ts_column(head.ts, n)
        seq = seq_column(head.seq, n)
        message = Message()
        singly = of.strange
        for kind, own in of.kinds:
            forms = self._forms[kind]
            values = forms.matrix(head.values, n)
            bad = self._gather(message, forms, own, of.numbers, ts_ms, values, seq, received_at_s)
            singly = bad if singly is None else singly if bad is None else singly | bad
        if singly is not None:
            cells = self._elements.cells(payload)
            for place in np.flatnonzero(singly).tolist():
                self._elements.place(message, of.ids[place], cells[place])
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
            ts_ms, values, seq, booted = forms.decoder.structs.taken(structs)
            bad = self._gather(message, forms, own, of.numbers, ts_ms, values, seq, received_at_s, booted)
            singly = bad if singly is None else singly if bad is None else singly | bad
        if singly is not None:
            raws = elements(payload)
            for place in np.flatnonzero(singly).tolist():
                self._elements.place(message, ids[place], bytes(raws[place]))
        return message

    def _entities(self, kind: str, encoded: bytes) -> _Entities:
        """Whom a columnar message speaks for. Gateways name the same entities again and again, in the same words."""
        found = self._recent.get((kind, encoded))
        if found is None:
            names = decode_names(encoded)
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
            found = decode_element(first[0]).entity if first else UNSET
            kind = "" if found is UNSET else decode_text(found).partition("/")[0]
            if kind not in self._kinds or self._kinds.index(kind) == self._usual:
                raise
            self._usual = self._kinds.index(kind)
            return self._forms[self._usual].decode_list(payload)

    @staticmethod
    def _gather(
        message: Message,
        forms: KindForms,
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
