"""Typed decoding of telemetry: the payloads of one kind in, columns of readings out.

One msgspec decoder of a generated struct per kind does the parsing and typing in C; numpy turns a whole batch into
columns at once. Python runs per reading only to hand objects from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw
from numpy.typing import NDArray

from twin_actors.core.columns import Reading
from twin_actors.wire.elements import CANNOT_DECODE, MAX_PAYLOAD_BYTES, Payload, elements, is_list, is_senml
from twin_actors.wire.faults import explain, nearest_field, parse_time, unknown_name
from twin_actors.wire.fields import FieldMap, Slot
from twin_actors.wire.identity import (
    LATEST_S,
    MOST_SOURCES,
    NEAR_S,
    NO_IDENTITY,
    Floats,
    Integers,
    number,
    time_fault,
    times,
)
from twin_actors.wire.reasons import Reason, Rejected, brief
from twin_actors.wire.senml import SenmlFault, UnknownUnit, resolve, unit_conversion
from twin_actors.wire.structs import Structs, sequence, stamps


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
        self.structs = structs = Structs(reading, fields)
        self._known = [slot.key for slot in structs.slots]
        self._decode_one = msgspec.json.Decoder(structs.message_type).decode
        self._decode_many = msgspec.json.Decoder(list[structs.message_type]).decode  # type: ignore[name-defined]
        self._senml_places = {name: place for slot in structs.slots for name, place in slot.senml_names()}

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
            values = self.structs.values_type(**{slot.name: slot.one_of(component, value)})
            batch.add(self.structs.message_type(ts=found.time_s * 1000.0, values=values), index, found.element)
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
            return msgspec.convert({**envelope, "ts": parsed}, self.structs.message_type)
        except CANNOT_DECODE:
            return None

    def _columns(
        self, batch: _Batch, message: Integers, element: Integers, received_at_s: Floats, sources: Sequence[int]
    ) -> Decoded:
        structs = batch.structs
        matrix = self.structs.matrix(structs)
        ts = stamps(structs)
        received = np.asarray(received_at_s, dtype=np.float64)[message]
        source = np.asarray(sources, dtype=np.int64)
        if source.size and (source.min() < 0 or source.max() >= MOST_SOURCES):
            raise ValueError(f"sources lie between 0 and {MOST_SOURCES - 1}, not {source.min()} … {source.max()}")
        observed, timed, readable, key = times(ts, received, source[message])
        key[batch.clockless] = NO_IDENTITY
        seq, boot = sequence(structs)
        number(key, seq, boot)

        good = (matrix == matrix).any(axis=0) & readable
        if self.structs.scaled or batch.converted:
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

    def columns(
        self, values: Floats, ts_ms: Floats, seq: Integers | None, received_at_s: Floats, sources: Integers
    ) -> Decoded:
        """Readings that stand in columns already, ``values (rows, r)``, as ``decode`` gives them: the same identities
        and times. What says nothing, or has a time that cannot be read, is not for here: see ``sound``.
        """
        observed, timed, _, key = times(ts_ms, received_at_s, sources)
        boot = np.full(len(ts_ms), -1, np.int64)
        seq = boot if seq is None else seq
        number(key, seq, boot)
        place = np.arange(len(ts_ms))
        return Decoded(
            values=values, observed_at_s=observed, timed=timed, message=place, element=np.zeros_like(place),
            key=key, seq=seq, boot=boot, rejected=[],
        )  # fmt: skip

    @staticmethod
    def all_sound(values: Floats, ts_ms: Floats, received_at_s: float) -> bool:
        """Whether ``sound`` is sure to hold for all of them: every value is said, and every time."""
        first_s, last_s = ts_ms.min() / 1000.0, ts_ms.max() / 1000.0  # NaN where one is
        far = last_s * 1000.0 < received_at_s - NEAR_S or first_s * 1000.0 > received_at_s + NEAR_S
        return bool(first_s >= 0.0 and last_s < LATEST_S and far and values.min(initial=0.0) <= 0.0)

    @staticmethod
    def sound(values: Floats, ts_ms: Floats, received_at_s: float) -> NDArray[np.bool_]:
        """Which of such readings ``decode`` would accept."""
        received = np.full(len(ts_ms), received_at_s)
        _, _, readable, _ = times(ts_ms, received, np.zeros(len(ts_ms), np.int64))
        return (values == values).any(axis=0) & readable

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
                batch.reject(index, place, (Reason.BAD_TIME, time_fault(ts[position], received[position])))
