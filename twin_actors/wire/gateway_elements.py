"""A gateway's message element by element: each becomes the single message that its device would have sent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from twin_actors.core.bundle import Bundle
from twin_actors.wire.elements import CANNOT_DECODE, elements, is_list
from twin_actors.wire.faults import explain, quote
from twin_actors.wire.gateway_forms import Uneven, decode_columns, decode_element, decode_raws, decode_text
from twin_actors.wire.reasons import Reason, brief

UNKNOWN: Final = -1


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


class Elements:
    """Elements of entities numbered by ``numbers`` (of ``kinds``, whose readings have the ``known`` fields)."""

    def __init__(self, kinds: Collection[str], numbers: Mapping[str, int], known: Collection[str]) -> None:
        self._kinds, self._number, self._known = kinds, numbers, known

    def one_by_one(self, payload: bytes) -> Message:
        """A message of which something cannot be read."""
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
            found = decode_element(encoded)
            if found.entities is not UNSET:
                self._columns(message, encoded)
                return
            entity = "" if found.entity is UNSET else decode_text(found.entity)
        except CANNOT_DECODE as error:
            message.strays.append(Stray("", *_brief(explain(encoded, error)), encoded))
            return
        self.place(message, entity, encoded)

    def _columns(self, message: Message, encoded: bytes) -> None:
        """A columnar message, or one in a list, of which something cannot be read."""
        try:
            cells = self.cells(encoded)
            head = decode_columns(encoded)
        except Uneven as error:
            message.strays.append(Stray("", Reason.WRONG_TYPE, str(error), encoded))
            return
        if not cells:
            message.strays.append(Stray("", Reason.EMPTY, "entities is an empty list", encoded))
        for name, cell in zip(head.entities, cells, strict=True):
            self.place(message, f"{head.kind}/{name}" if head.kind else name, cell)

    def cells(self, encoded: bytes) -> list[bytes]:
        """The elements of a columnar message as objects. Raises Uneven, or one of CANNOT_DECODE."""
        said = decode_columns(encoded)
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
                cells = _column(f"values.{key}", raw, n) if key in self._known else decode_raws(raw)
                if len(cells) == n:  # what no kind knows may be anything
                    keys.append((msgspec.json.encode(key), cells))
        return [
            b'{"entity":' + ids[place]
            + b"".join(b',"%s":%s' % (name.encode(), bytes(column[place])) for name, column in columns.items())
            + b',"values":{'
            + b",".join(key + b":" + cell for key, cells in keys if (cell := bytes(cells[place])) != b"null") + b"}}"
            for place in range(n)
        ]  # fmt: skip

    def place(self, message: Message, entity: str, encoded: bytes) -> None:
        """Add an element to what is to be judged singly, or to the strays."""
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
            raise Uneven(f"{name} is no list; entities has {n} elements, and each column as many")
        return [bytes(raw)] * n
    cells: list[Raw] = decode_raws(raw)
    if len(cells) != n:
        raise Uneven(f"{name} has {len(cells)} elements, entities has {n}")
    return cells


def _brief(why: tuple[Reason, str]) -> Iterator[Any]:
    reason, detail = why
    return iter((reason, brief(detail)))
