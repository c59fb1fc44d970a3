"""Typed decoding of telemetry: the payloads of one kind in, columns of readings out.

One msgspec decoder of a generated struct per kind does the parsing and typing in C; numpy turns a whole batch into
columns at once. Python runs per reading only to hand objects from one to the other.

**Identity.** ``key`` is a signed 64-bit number in three families that cannot collide:

- from the sequence number, where the device sends one: ``(crc32(boot) << 31 | seq mod 2**31) − 2**63``, always
  negative (``boot`` counts as empty text where it is not sent);
- else from the device's time: ``source << 52 | µs since 1970``, never negative, for sources up to 2,046 and times up
  to the year 2112;
- ``NO_IDENTITY`` (2**63 − 1) where the device sends neither, or only a time relative to our clock. Such readings are
  delivered at least once: a redelivery cannot be told from a new reading.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, Final
from zlib import crc32

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from twin_actors.core.columns import NAN, Reading
from twin_actors.wire.elements import CANNOT_DECODE, MAX_PAYLOAD_BYTES, Payload, elements, is_list, is_senml
from twin_actors.wire.faults import explain, nearest_field, parse_time, seconds, unknown_name
from twin_actors.wire.fields import FieldMap, Slot, slots_of
from twin_actors.wire.reasons import Reason, Rejected, brief
from twin_actors.wire.senml import SenmlFault, UnknownUnit, resolve, unit_conversion

__all__ = ["NO_IDENTITY", "Decoded", "FieldMap", "ReadingDecoder", "sequence_key", "time_key"]

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

NO_IDENTITY: Final = 2**63 - 1
LATEST_S: Final = 2**52 / 1e6  # the microseconds of a key end on 2112-09-17
MOST_SOURCES: Final = 2**11 - 1
_SEQ_BITS: Final = 31
_TIME_BITS: Final = 52
_INT64_MIN: Final = -(2**63)
_NEAR_S: Final = 30 * 86_400.0  # a ts this near to our clock in seconds was not meant in milliseconds

SequenceNumber = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Boot = Annotated[int, msgspec.Meta(ge=_INT64_MIN, le=2**63 - 1)]


@lru_cache(maxsize=4096)
def _boot_number(boot: str | int) -> int:
    return crc32(str(boot).encode())


def sequence_key(boot: str | int | None, seq: int) -> int:
    """The identity of a reading with a sequence number; see the module's text."""
    return ((0 if boot is None else _boot_number(boot)) << _SEQ_BITS | seq & (2**_SEQ_BITS - 1)) + _INT64_MIN


def time_key(source: int, observed_at_s: float) -> int:
    """The identity of a reading without a sequence number but with the device's time."""
    return source << _TIME_BITS | round(observed_at_s * 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The accepted readings of a batch as columns of length r, in the order of arrival, and the rejected ones.

    ``values`` is ``(rows, r)`` in the order of the reading's Layout, NaN where not said. ``message`` is the index of
    the payload, ``element`` the place in a list payload (else 0). ``seq`` and ``boot`` (its CRC-32) are -1 where the
    device sent none; ``timed`` says whether it sent a time (otherwise ``observed_at_s`` is when it was received).
    """

    values: Floats
    observed_at_s: Floats
    timed: NDArray[np.bool_]
    message: Integers
    element: Integers
    key: Integers
    seq: Integers
    boot: Integers
    rejected: list[Rejected]

    def __len__(self) -> int:
        return len(self.observed_at_s)


@dataclass(slots=True)
class _Batch:
    """What has been parsed so far: structs, and where they came from as runs of (message, first element, count)."""

    payloads: Sequence[Payload]
    structs: list[Any] = field(default_factory=list)
    runs: list[tuple[int, int, int]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    clockless: list[int] = field(default_factory=list)  # structs whose time hangs on our clock
    converted: bool = False

    def add(self, struct: Any, message: int, element: int) -> None:
        self.structs.append(struct)
        self.runs.append((message, element, 1))

    def reject(self, message: int, element: int, why: tuple[Reason, str]) -> None:
        reason, detail = why
        self.rejected.append(Rejected(message, element, reason, brief(detail)))


class ReadingDecoder:
    """Decodes the telemetry of one kind.

    ``fields`` maps the names in the payload to fields of the reading; with it only the mapped names count.
    Raises ValueError for a mapping that does not fit, or a field named like an envelope key.
    """

    def __init__(self, reading: type[Reading], fields: Mapping[str, FieldMap] | None = None) -> None:
        self.reading = reading
        self._slots = slots_of(reading, fields)
        self._rows = reading.layout.rows
        self._known = [slot.key for slot in self._slots]
        names = {slot.name: slot.key for slot in self._slots}
        declared = [(slot.name, slot.type, slot.default) for slot in self._slots]
        self._values_type = msgspec.defstruct("Values", declared, rename=names, gc=False)
        envelope = [
            ("ts", float | datetime | None, NAN),
            ("seq", SequenceNumber | None, -1),
            ("boot", str | _Boot | None, None),
            ("values", self._values_type | UnsetType, UNSET),
            ("n", Raw | UnsetType, UNSET),
            ("bn", Raw | UnsetType, UNSET),
        ]
        self._message_type = msgspec.defstruct("Message", [*envelope, *declared], rename=names, gc=False)
        self.element_type = msgspec.defstruct(
            "Element", [("entity", str), *envelope, *declared], rename=names, gc=False
        )
        """An element of a gateway's list, which names its entity; see ``taken``."""
        self._decode_one = msgspec.json.Decoder(self._message_type).decode
        self._decode_many = msgspec.json.Decoder(list[self._message_type]).decode  # type: ignore[name-defined]
        self._scalars = [slot for slot in self._slots if slot.scalar]
        self._vectors = [slot for slot in self._slots if not slot.scalar]
        self._scalar_rows = np.array([slot.start for slot in self._scalars], dtype=np.intp)
        self._scalars_fill_rows = self._scalar_rows.tolist() == list(range(self._rows))
        self._get_scalars = operator.attrgetter(*(s.name for s in self._scalars)) if self._scalars else None
        self._scaled = any(slot.factor != 1.0 or slot.offset != 0.0 for slot in self._slots)
        self._senml_places = {name: place for slot in self._slots for name, place in slot.senml_names()}

    def decode(self, payloads: Sequence[Payload], received_at_s: Floats, sources: Sequence[int]) -> Decoded:
        """All readings of ``m`` payloads; ``received_at_s`` (m,) in s, ``sources`` (m,) small numbers of topics.

        Never raises for what is in a payload. The number of readings accepted and rejected is the sum of
        ``count_readings`` over the payloads. Raises ValueError for a source outside 0 … 2,046.
        """
        total = len(payloads)
        batch = _Batch(payloads)
        if total and max(map(len, payloads)) <= MAX_PAYLOAD_BYTES:
            try:  # the usual case: nothing but good objects
                batch.structs = list(map(self._decode_one, payloads))
                message = np.arange(total)
                return self._columns(batch, message, np.zeros(total, np.int64), received_at_s, sources)
            except CANNOT_DECODE:
                batch.structs = []
        for index, payload in enumerate(payloads):
            self._decode_payload(batch, index, payload, received_at_s)
        if not batch.runs:
            nowhere = np.zeros(0, np.int64)
            return self._columns(batch, nowhere, nowhere, received_at_s, sources)
        messages, firsts, counts = np.array(batch.runs, dtype=np.int64).T
        message = np.repeat(messages, counts)
        element = np.arange(len(message)) - np.repeat(np.cumsum(counts) - counts - firsts, counts)
        return self._columns(batch, message, element, received_at_s, sources)

    def _decode_payload(self, batch: _Batch, index: int, payload: Payload, received_at_s: Floats) -> None:
        if len(payload) > MAX_PAYLOAD_BYTES:
            why = f"{len(payload):,} bytes, at most {MAX_PAYLOAD_BYTES:,} are read"
            batch.reject(index, 0, (Reason.TOO_LARGE, why))
        elif is_list(payload):
            self._decode_list(batch, index, payload, received_at_s)
        else:
            self._decode_element(batch, index, 0, payload)

    def _decode_element(self, batch: _Batch, index: int, element: int, encoded: Payload | Raw) -> None:
        try:
            batch.add(self._decode_one(encoded), index, element)
        except CANNOT_DECODE as error:
            copied = bytes(encoded)
            why = explain(copied, error)
            repaired = self._with_parsed_time(copied) if why[0] is Reason.BAD_TIME else None
            if repaired is not None:
                batch.add(repaired, index, element)
            else:
                batch.reject(index, element, why)

    def _decode_list(self, batch: _Batch, index: int, payload: Payload, received_at_s: Floats) -> None:
        try:
            structs = self._decode_many(payload)
        except CANNOT_DECODE:
            structs = None
        if structs:
            first = structs[0]
            if first.values is not UNSET or (first.n is UNSET and first.bn is UNSET):
                batch.structs += structs
                batch.runs.append((index, 0, len(structs)))
                return
        try:
            raws = elements(payload)
        except CANNOT_DECODE as error:
            batch.reject(index, 0, explain(bytes(payload), error))
            return
        if not raws:
            batch.reject(index, 0, (Reason.EMPTY, "an empty list"))
        elif is_senml(raws):
            self._decode_senml(batch, index, raws, float(received_at_s[index]))
        else:
            for element, raw in enumerate(raws):
                self._decode_element(batch, index, element, raw)

    def _decode_senml(self, batch: _Batch, index: int, raws: list[Raw], now_s: float) -> None:
        readings = 0
        for found in resolve(raws, now_s, explain):
            readings += 1
            if isinstance(found, SenmlFault):
                batch.reject(index, found.element, (found.reason, found.detail))
                continue
            place = self._senml_place(found.name)
            if place is None:
                why = unknown_name([found.name], self._senml_places)
                batch.reject(index, found.element, (Reason.NO_KNOWN_FIELD, why))
                continue
            slot, component = place
            value = found.value
            if found.unit:
                try:
                    factor, offset = unit_conversion(found.unit, slot.unit)
                except UnknownUnit as error:
                    why = f"record {found.name!r}: {error}"
                    batch.reject(index, found.element, (Reason.UNKNOWN_UNIT, why))
                    continue
                # the slot's own scale is applied to the whole column later and must not count here
                value = (value * factor + offset - slot.offset) / slot.factor
            if not found.fixed:
                batch.clockless.append(len(batch.structs))
            values = self._values_type(**{slot.name: slot.one_of(component, value)})
            batch.add(self._message_type(ts=found.time_s * 1000.0, values=values), index, found.element)
            batch.converted = True
        if not readings:
            batch.reject(index, 0, (Reason.EMPTY, "a SenML pack without any value"))

    def _senml_place(self, name: str) -> tuple[Slot, int] | None:
        """The field that a SenML name ends in: the longest tail after a separator (RFC 8428, section 4.5.1)."""
        place = self._senml_places.get(name)
        start = 0
        while place is None and start < len(name):
            cuts = [cut for cut in (name.find(mark, start) for mark in ":/.") if cut >= 0]
            if not cuts:
                return None
            start = min(cuts) + 1
            place = self._senml_places.get(name[start:])
        return place

    def _with_parsed_time(self, encoded: bytes) -> Any | None:
        """The message when its time is ISO 8601 in a form that msgspec does not read; None when it is not."""
        try:
            said = msgspec.json.decode(encoded)
            ts = said.get("ts")
            parsed = parse_time(ts) if isinstance(ts, str) else None
            if parsed is None:
                return None
            envelope = {key: value for key, value in said.items() if key not in ("n", "bn")}
            return msgspec.convert({**envelope, "ts": parsed}, self._message_type)
        except CANNOT_DECODE:
            return None

    def _columns(
        self, batch: _Batch, message: Integers, element: Integers, received_at_s: Floats, sources: Sequence[int]
    ) -> Decoded:
        structs = batch.structs
        matrix = self._matrix([s if s.values is UNSET else s.values for s in structs])
        ts = _stamps(structs)
        received = np.asarray(received_at_s, dtype=np.float64)[message]
        source = np.asarray(sources, dtype=np.int64)
        if source.size and (source.min() < 0 or source.max() >= MOST_SOURCES):
            raise ValueError(f"sources lie between 0 and {MOST_SOURCES - 1}, not {source.min()} … {source.max()}")
        observed, timed, readable, key = _times(ts, received, source[message])
        key[batch.clockless] = NO_IDENTITY
        seq, boot = self._sequence(structs)
        _number(key, seq, boot)

        good = (matrix == matrix).any(axis=0) & readable
        if self._scaled or batch.converted:
            good &= ~np.isinf(matrix).any(axis=0)
        if not good.all():
            self._reject(batch, np.flatnonzero(~good), matrix, readable, ts, received, message, element)
            matrix, observed, timed = matrix[:, good], observed[good], timed[good]
            message, element = message[good], element[good]
            key, seq, boot = key[good], seq[good], boot[good]
        return Decoded(
            values=matrix,
            observed_at_s=observed,
            timed=timed,
            message=message,
            element=element,
            key=key,
            seq=seq,
            boot=boot,
            rejected=batch.rejected,
        )

    def _matrix(self, values: list[Any]) -> Floats:
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
        if self._scaled:
            for slot in self._slots:
                rows = matrix[slot.start : slot.start + slot.size]
                with np.errstate(over="ignore"):  # an overflow is found and rejected as not finite
                    rows *= slot.factor
                    rows += slot.offset
        return matrix

    @property
    def slots(self) -> list[Slot]:
        """Which name in a payload fills which rows."""
        return self._slots

    def taken(self, structs: list[Any]) -> tuple[Floats, Floats, Integers | None, NDArray[np.bool_] | None]:
        """Structs of ``element_type`` as columns: times in ms, values (rows, r), sequence numbers (None: none has one),
        and which of them name a boot (None: none does)."""
        matrix = self._matrix([s if s.values is UNSET else s.values for s in structs])
        ts = _stamps(structs)
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
        slots = {slot.key: slot for slot in self._slots}
        rows: list[int] = []
        for name, size in fields:
            slot = slots.get(name)
            if slot is None or size != (0 if slot.scalar else slot.size) or self._scaled:
                return None
            rows += range(slot.start, slot.start + slot.size)
        return np.array(rows, np.intp)

    def columns(
        self, values: Floats, ts_ms: Floats, seq: Integers | None, received_at_s: Floats, sources: Integers
    ) -> Decoded:
        """Readings that stand in columns already, ``values (rows, r)``, as ``decode`` gives them: the same identities
        and times. What says nothing, or has a time that cannot be read, is not for here: see ``sound``.
        """
        observed, timed, _, key = _times(ts_ms, received_at_s, sources)
        boot = np.full(len(ts_ms), -1, np.int64)
        seq = boot if seq is None else seq
        _number(key, seq, boot)
        place = np.arange(len(ts_ms))
        return Decoded(
            values=values, observed_at_s=observed, timed=timed, message=place, element=np.zeros_like(place),
            key=key, seq=seq, boot=boot, rejected=[],
        )  # fmt: skip

    @staticmethod
    def all_sound(values: Floats, ts_ms: Floats, received_at_s: float) -> bool:
        """Whether ``sound`` is sure to hold for all of them: every value is said, and every time."""
        first_s, last_s = ts_ms.min() / 1000.0, ts_ms.max() / 1000.0  # NaN where one is
        far = last_s * 1000.0 < received_at_s - _NEAR_S or first_s * 1000.0 > received_at_s + _NEAR_S
        return bool(first_s >= 0.0 and last_s < LATEST_S and far and values.min(initial=0.0) <= 0.0)

    @staticmethod
    def sound(values: Floats, ts_ms: Floats, received_at_s: float) -> NDArray[np.bool_]:
        """Which of such readings ``decode`` would accept."""
        received = np.full(len(ts_ms), received_at_s)
        _, _, readable, _ = _times(ts_ms, received, np.zeros(len(ts_ms), np.int64))
        return (values == values).any(axis=0) & readable

    @staticmethod
    def _sequence(structs: list[Any]) -> tuple[Integers, Integers]:
        """Sequence numbers and boots, -1 where there are none."""
        total = len(structs)
        said = [s.seq for s in structs]
        boots = [s.boot for s in structs]
        seq = np.fromiter((-1 if s is None else s for s in said), np.int64, total)
        if boots.count(None) == total:
            boot = np.full(total, -1, dtype=np.int64)
        else:
            boot = np.array([-1 if b is None else _boot_number(b) for b in boots], dtype=np.int64)
        return seq, boot

    def _reject(
        self,
        batch: _Batch,
        bad: NDArray[np.intp],
        matrix: Floats,
        readable: NDArray[np.bool_],
        ts: Floats,
        received: Floats,
        message: Integers,
        element: Integers,
    ) -> None:
        parts: dict[int, list[Raw]] = {}
        for position in bad:
            index, place = int(message[position]), int(element[position])
            column = matrix[:, position]
            if np.isinf(column).any():
                label = self.reading.layout.labels[int(np.flatnonzero(np.isinf(column))[0])]
                batch.reject(index, place, (Reason.NOT_FINITE, f"{label} overflows when it is converted"))
            elif np.isnan(column).all():
                encoded: Payload | Raw = batch.payloads[index]
                if is_list(batch.payloads[index]):
                    if index not in parts:
                        parts[index] = elements(batch.payloads[index])
                    encoded = parts[index][place]
                batch.reject(index, place, nearest_field(bytes(encoded), self._known))
            else:
                batch.reject(index, place, (Reason.BAD_TIME, _time_fault(ts[position], received[position])))


def _stamps(structs: list[Any]) -> Floats:
    """The devices' times in ms, NaN where they sent none."""
    stamps = [s.ts for s in structs]
    try:
        return np.fromiter(stamps, np.float64, len(stamps))
    except TypeError:  # some times are text
        return np.array([seconds(t) * 1e3 if isinstance(t, datetime) else t for t in stamps], dtype=np.float64)


def _times(
    ts: Floats, received: Floats, source: Integers
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_], Integers]:
    """When readings were observed, which say so, which times can be read, and identities by time."""
    timed = ts == ts
    observed = np.where(timed, ts / 1000.0, received)
    readable = (observed >= 0.0) & (observed < LATEST_S) & ~(timed & (np.abs(ts - received) < _NEAR_S))
    micros = np.rint(np.where(readable, observed, 0.0) * 1e6).astype(np.int64)
    return observed, timed, readable, np.where(timed, source << _TIME_BITS | micros, NO_IDENTITY)


def _number(key: Integers, seq: Integers, boot: Integers) -> None:
    """Put identities by sequence number in place of those by time."""
    numbered = seq >= 0
    if numbered.any():
        family = (np.maximum(boot, 0) << _SEQ_BITS | seq & (2**_SEQ_BITS - 1)) + _INT64_MIN
        np.copyto(key, family, where=numbered)


def _time_fault(ts: float, received_at_s: float) -> str:
    if abs(ts - received_at_s) < _NEAR_S:
        return f"ts {ts:.0f} is in seconds: multiply it by 1,000"
    for unit, per_ms in (("microseconds", 1e3), ("nanoseconds", 1e6)):
        if abs(ts / per_ms / 1000.0 - received_at_s) < _NEAR_S:
            return f"ts {ts:.0f} is in {unit}: divide it by {per_ms:,.0f}"
    return f"ts {ts:g} ms is before 1970 or after 2112"
