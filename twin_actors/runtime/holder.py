"""What a twin actor does, without Ray: take packed batches in log order, keep the twins, answer with counts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin_actors.core.cleaning import NO_KEY, Fate
from twin_actors.core.columns import Column, Columns
from twin_actors.core.inputs import Batch, Channel
from twin_actors.core.kind import Kind
from twin_actors.core.showing import Shown, Stamp, only, stamp, unchanged
from twin_actors.core.table import TwinTable
from twin_actors.runtime.answering import Answer, Question, answer
from twin_actors.runtime.notes import Told
from twin_actors.runtime.packing import PackedBatch, unpack
from twin_actors.wire.decode import Decoded, ReadingDecoder
from twin_actors.wire.reasons import Reason

REASONS_S = 86_400.0  # how long before its last input a twin still tells what was surprising
REFUSED_KEPT = 10_000
LARGEST_GAP = 10**9
"""A device that skips more numbers than this has not lost them: its numbering is another one."""
NOTHING_APPLIED = -1
"""The offset before the first input of any log."""


class Refused(msgspec.Struct, frozen=True):
    """A reading without use: offset in the log, element of its payload, reason, words for the sender."""

    offset: int
    element: int
    reason: str
    detail: str


class Outcomes(msgspec.Struct, frozen=True):
    """Running counts of one twin actor up to an offset, over all its twins."""

    offset: int
    applied: int
    duplicate: int
    late: int
    dead_lettered: int
    rejected_fields: int
    missing_upstream: int


class Reply(msgspec.Struct, frozen=True):
    """The answer to a batch. ``ok`` is False when it does not follow on ``outcomes.offset``: resend from there."""

    ok: bool
    epoch: int
    incarnation: str
    outcomes: Outcomes
    refused: list[Refused]
    latest_s: float
    busy_s: float


@dataclass(frozen=True, slots=True)
class Group:
    """The twins of one kind in an actor, with their places among all its twins."""

    table: TwinTable
    decoders: Mapping[int, ReadingDecoder]  # by source; -1 for all sources that are not remapped
    first: int


class Holder:
    """Twins of any kinds. Places 0 … n−1 run through the groups in order."""

    def __init__(
        self, tables: Sequence[TwinTable], decoders: Mapping[str, Mapping[int, ReadingDecoder]], *,
        epoch: int, incarnation: str, future_s: float = 5.0,
    ) -> None:  # fmt: skip
        self.epoch = epoch
        self.incarnation = incarnation
        self.future_s = future_s
        self.offset = NOTHING_APPLIED
        self.latest_s = -np.inf
        self.busy_s = 0.0
        self.refused: deque[Refused] = deque(maxlen=REFUSED_KEPT)  # for a router that has missed the answer
        self._shown: dict[str, tuple[Stamp, Shown]] = {}  # the last look, by kind
        self._told = msgspec.json.Decoder(Told)
        self.groups: list[Group] = []
        first = 0
        for table in tables:
            self.groups.append(Group(table, decoders[table.kind.name], first))
            first += len(table)
        self._group_of_place = np.repeat(np.arange(len(self.groups)), [len(g.table) for g in self.groups])
        self.last_seq = np.full(first, -1, np.int64)
        self.last_boot = np.full(first, -1, np.int64)
        self.missing = np.zeros(first, np.int64)

    # -- inputs ------------------------------------------------------------------------------------------------

    def apply(self, blob: bytes) -> Reply:
        """Apply a batch if it is the next one; otherwise change nothing and say which offset was applied last."""
        started = time.perf_counter()
        batch = unpack(blob)
        if batch.epoch != self.epoch or batch.after > self.offset:
            return self._reply(False, [])
        refused: list[Refused] = []
        new = np.flatnonzero(batch.offsets > self.offset)
        if len(new):
            groups = self._group_of_place[batch.places[new]]
            for number in np.unique(groups):
                self._apply_group(self.groups[number], batch, new[groups == number], refused)
            self.offset = int(batch.offsets[-1])
        self.busy_s += time.perf_counter() - started
        return self._reply(True, refused)

    def _apply_group(self, group: Group, batch: PackedBatch, chosen: NDArray[np.intp], refused: list[Refused]) -> None:
        readings = chosen[batch.channels[chosen] == Channel.READING]
        others = chosen[batch.channels[chosen] != Channel.READING]
        parts: list[_Part] = []
        if batch.bundles and len(readings):
            together = self._together(group.decoders[-1], batch, readings)
            if together is not None:
                positions, decoded = together
                parts.append(self._judge(group, batch, positions, decoded, refused))
                readings = readings[~np.isin(readings, positions, assume_unique=True)]
        for source_group, decoder in self._by_decoder(group, batch, readings):
            parts.append(self._decode(group, decoder, batch, source_group, refused))
        if len(others):
            parts.append(self._tell(group.table.kind, batch, others, group.first, refused))
        parts = [part for part in parts if len(part.position)]
        if not parts:
            return
        if len(parts) == 1:
            merged = parts[0]
        else:
            merged = _merge(parts)
        applied = group.table.apply(
            Batch(
                rows=merged.row,
                observed_at_s=merged.at_s,
                values=merged.values,
                channels=merged.channel,
                keys=merged.key,
            )
        )
        for rejection in applied.rejections:
            offset = int(batch.offsets[merged.position[rejection.position]])
            element = int(merged.element[rejection.position])
            refused.append(Refused(offset, element, rejection.reason, rejection.detail))

    @staticmethod
    def _by_decoder(
        group: Group, batch: PackedBatch, readings: NDArray[np.intp]
    ) -> list[tuple[NDArray[np.intp], ReadingDecoder]]:
        if not len(readings):
            return []
        if len(group.decoders) == 1:
            return [(readings, group.decoders[-1])]
        sources = batch.sources[readings]
        remapped = np.isin(sources, list(group.decoders))
        chosen = [(readings[~remapped], group.decoders[-1])]
        chosen += [
            (readings[sources == source], group.decoders[int(source)]) for source in np.unique(sources[remapped])
        ]
        return [(part, decoder) for part, decoder in chosen if len(part)]

    def _decode(
        self, group: Group, decoder: ReadingDecoder, batch: PackedBatch, readings: NDArray[np.intp],
        refused: list[Refused],
    ) -> _Part:  # fmt: skip
        decoded = decoder.decode(
            [batch.payloads[position] for position in readings.tolist()],
            batch.received_at_s[readings],
            batch.sources[readings].tolist(),
        )
        return self._judge(group, batch, readings, decoded, refused)

    @staticmethod
    def _together(
        decoder: ReadingDecoder, batch: PackedBatch, readings: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], Decoded] | None:
        """The readings among some that stand in bundles, and what they say; None where none does.

        A bundle that was written for another version of the kind is taken apart, and decoded like single messages.
        """
        positions: list[NDArray[np.intp]] = []
        values: list[Column] = []
        ts_ms: list[Column] = []
        seqs: list[NDArray[np.int64]] = []
        for start, bundle in batch.bundles:
            low, high = np.searchsorted(readings, (start, start + len(bundle)))
            if low == high:
                continue
            rows = decoder.rows_of(bundle.fields)
            own = readings[low:high]
            if rows is None:
                batch.payloads[start : start + len(bundle)] = bundle.payloads()
                continue
            chosen = own - start
            matrix = np.full((decoder.reading.layout.rows, len(chosen)), np.nan)
            matrix[rows] = bundle.values[:, chosen]
            positions.append(own)
            values.append(matrix)
            ts_ms.append(bundle.ts_ms[chosen])
            seqs.append(np.full(len(chosen), -1, np.int64) if bundle.seq is None else bundle.seq[chosen])
        if not positions:
            return None
        found = np.concatenate(positions)
        decoded = decoder.columns(
            np.concatenate(values, axis=1),
            np.concatenate(ts_ms),
            np.concatenate(seqs),
            batch.received_at_s[found],
            batch.sources[found].astype(np.int64),
        )
        return found, decoded

    def _judge(
        self, group: Group, batch: PackedBatch, readings: NDArray[np.intp], decoded: Decoded, refused: list[Refused]
    ) -> _Part:
        """Count and explain what cannot be used; the rest is for the twins."""
        received = batch.received_at_s[readings]
        rows = batch.places[readings] - group.first
        table = group.table
        for rejected in decoded.rejected:
            table.fates[Fate.REJECTED, rows[rejected.message]] += 1
            offset = int(batch.offsets[readings[rejected.message]])
            refused.append(Refused(offset, rejected.element, str(rejected.reason.value), rejected.detail))
        message = decoded.message
        ahead_s = decoded.observed_at_s - received[message]
        keep = ahead_s <= self.future_s
        if not keep.all():
            for number in np.flatnonzero(~keep):
                table.fates[Fate.REJECTED, rows[message[number]]] += 1
                refused.append(
                    Refused(
                        int(batch.offsets[readings[message[number]]]),
                        int(decoded.element[number]),
                        Reason.CLOCK_AHEAD.value,
                        f"the device's clock is {ahead_s[number]:.0f} s ahead of ours "
                        f"(allowed: {self.future_s:g} s); set its clock",
                    )
                )
        used = message[keep]
        self._count_missing(batch.places[readings][used], decoded.seq[keep], decoded.boot[keep])
        observed = decoded.observed_at_s[keep]
        if len(observed):
            self.latest_s = max(self.latest_s, float(observed.max()))
        return _Part(
            position=readings[used],
            element=decoded.element[keep],
            row=rows[used].astype(np.intp),
            channel=np.zeros(len(used), np.uint8),
            at_s=observed,
            key=decoded.key[keep],
            values=decoded.values[:, keep],
        )

    def _count_missing(self, places: NDArray[np.int32], seq: NDArray[np.int64], boot: NDArray[np.int64]) -> None:
        """Gaps in a device's own numbering: lost before they reached us. A new boot starts a new count."""
        for number in np.flatnonzero(seq >= 0).tolist():
            place, now = int(places[number]), int(seq[number])
            last, same_boot = int(self.last_seq[place]), self.last_boot[place] == boot[number]
            gap = now - last - 1
            if same_boot and last >= 0 and 0 < gap <= LARGEST_GAP:
                self.missing[place] += gap
            if not same_boot or now > last:
                self.last_seq[place], self.last_boot[place] = now, boot[number]

    def _tell(
        self, kind: Kind, batch: PackedBatch, chosen: NDArray[np.intp], first: int, refused: list[Refused]
    ) -> _Part:
        """Commands and couplings. One that cannot be read is refused: raising would end every resend of its batch."""
        records: dict[int, type[Columns]] = {
            Channel.DESIRED: kind.command,
            Channel.COMMAND: kind.command,
            Channel.COUPLING: kind.couplings,
        }
        rows = max(record.layout.rows for record in records.values())
        values = np.full((rows, len(chosen)), np.nan)
        at_s = np.empty(len(chosen))
        sound = np.ones(len(chosen), np.bool_)
        for number, position in enumerate(chosen.tolist()):
            try:
                channel = Channel(int(batch.channels[position]))
                told = self._told.decode(batch.payloads[position])
                layout = records[channel].layout
                unknown = told.values.keys() - layout.places.keys()
                if unknown:
                    raise ValueError(f"{kind.name} has no {channel.name.lower()} field {min(unknown)!r}")
                at_s[number] = told.at_s
                for name, value in told.values.items():
                    values[layout.places[name], number] = value
            except (msgspec.MsgspecError, ValueError) as error:
                sound[number] = False
                offset = int(batch.offsets[position])
                refused.append(Refused(offset, 0, Reason.WRONG_TYPE.value, f"the city's own input: {error}"))
        if not sound.all():
            chosen, values, at_s = chosen[sound], values[:, sound], at_s[sound]
        return _Part(
            position=chosen,
            element=np.zeros(len(chosen), np.intp),
            row=(batch.places[chosen] - first).astype(np.intp),
            channel=batch.channels[chosen],
            at_s=at_s,
            key=np.full(len(chosen), NO_KEY, np.int64),
            values=values,
        )

    def _reply(self, ok: bool, refused: list[Refused]) -> Reply:
        refused.sort(key=lambda each: (each.offset, each.element))
        self.refused.extend(refused)
        return Reply(ok, self.epoch, self.incarnation, self.outcomes(), refused, float(self.latest_s), self.busy_s)

    # -- answers -----------------------------------------------------------------------------------------------

    def outcomes(self) -> Outcomes:
        totals = np.zeros(len(Fate), np.int64)
        fields = 0
        for group in self.groups:
            totals += group.table.fates.sum(axis=1)
            fields += int(group.table.rejected_fields.sum())
        applied, duplicate, late, rejected = map(int, totals)
        return Outcomes(self.offset, applied, duplicate, late, rejected, fields, int(self.missing.sum()))

    def fates_by_entity(self) -> tuple[int, dict[str, tuple[int, ...]]]:
        """The offset applied last, and (applied, duplicate, late, dead-lettered) of every twin up to it."""
        fates = {
            entity: tuple(map(int, column))
            for group in self.groups
            for entity, column in zip(group.table.ids, group.table.fates.T, strict=True)
        }
        return self.offset, fates

    def show(self, now_s: float, *, with_control: bool) -> dict[str, Shown]:
        """Every kind of this actor at ``now_s``."""
        return {group.table.kind.name: group.table.show(now_s, with_control=with_control) for group in self.groups}

    def show_one(self, entity: str, now_s: float) -> Shown:
        """One twin at ``now_s``. Raises KeyError."""
        for group in self.groups:
            if entity in group.table.ids:
                return only(group.table.show(now_s), group.table.ids.index(entity))
        raise KeyError(entity)

    def select(self, question: Question, now_s: float) -> Answer:
        """The twins of one kind for which a condition holds, at ``now_s``. Raises KeyError, Unsupported."""
        for group in self.groups:
            table = group.table
            if table.kind.name == question.kind:
                shown = self._as_before(table, now_s) or table.show(now_s, with_control=False)
                return answer(question, table.kind, table.ids, table.attributes, shown, now_s)
        raise KeyError(question.kind)

    def look(self, now_s: float, known: Mapping[str, Stamp]) -> dict[str, tuple[Stamp, Shown | None]]:
        """What every kind shows, None where that is what was shown at the stamp that the asker knows."""
        looks: dict[str, tuple[Stamp, Shown | None]] = {}
        for group in self.groups:
            name, table = group.table.kind.name, group.table
            before = known.get(name)
            if before is not None and unchanged(table, before, now_s):
                looks[name] = before._replace(at_s=now_s), None
            else:
                shown = self._as_before(table, now_s) or table.show(now_s)
                self._shown[name] = stamp(table, now_s), shown
                looks[name] = self._shown[name]
        return looks

    def _as_before(self, table: TwinTable, now_s: float) -> Shown | None:
        """What the last look showed, older by now, where another one would show nothing else."""
        before = self._shown.get(table.kind.name)
        if before is None or not unchanged(table, before[0], now_s):
            return None
        shown = before[1]
        return replace(shown, now_s=now_s, age_s=shown.age_s + (now_s - shown.now_s))

    def reported(self, entity: str) -> dict[str, Any]:
        """The last reading of one twin, its quality and time, by row label."""
        for group in self.groups:
            if entity in group.table.ids:
                table, twin = group.table, group.table.ids.index(entity)
                memory = table.cleaning
                return {
                    "label": table.kind.reading.layout.labels,
                    "value": memory.value[:, twin].copy(),
                    "at_s": memory.at_s[:, twin].copy(),
                    "quality": memory.quality[:, twin].copy(),
                    "score": table.score[:, twin].copy(),
                    "reasons": table.explain(entity, float(table.time_s[twin]) - REASONS_S),
                    "fates": table.fates[:, twin].copy(),
                    "rejected_fields": int(table.rejected_fields[twin]),
                    "model_errors": int(table.model_errors[twin]),
                    "failure": table.failures.get(entity, ""),
                    "missing_upstream": int(self.missing[group.first + twin]),
                    "time_s": float(table.time_s[twin]),
                }
        raise KeyError(entity)

    # -- snapshots ---------------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[int, bytes]:
        """All twins at the offset applied last, as (offset, blob)."""
        arrays: dict[str, NDArray[Any]] = {
            "ids": self._ids(),
            "last_seq": self.last_seq,
            "last_boot": self.last_boot,
            "missing": self.missing,
            "latest_s": np.array([self.latest_s]),
        }
        for group in self.groups:
            for name, array in group.table.snapshot().items():
                arrays[f"{group.table.kind.name}:{name}"] = array
        failures = {entity: words for group in self.groups for entity, words in group.table.failures.items()}
        arrays["failures"] = np.frombuffer(msgspec.msgpack.encode(failures), np.uint8)
        arrays["refused"] = np.frombuffer(msgspec.msgpack.encode(list(self.refused)), np.uint8)
        packed = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}
        return self.offset, msgspec.msgpack.encode(packed)

    def restore(self, offset: int, blob: bytes) -> None:
        """Take over a snapshot made at ``offset``. Raises ValueError when it is of other twins, or is none."""
        try:
            packed = msgspec.msgpack.decode(blob, type=dict[str, tuple[str, tuple[int, ...], bytes]])
        except msgspec.MsgspecError as error:
            raise ValueError(f"no snapshot of twins: {error}") from error
        arrays = {
            name: np.frombuffer(data, np.dtype(dtype)).reshape(shape).copy()
            for name, (dtype, shape, data) in packed.items()
        }
        own = self._ids()
        if not np.array_equal(arrays.get("ids", own[:0]), own):
            raise ValueError(f"snapshot of other twins than these {len(self.missing)}, or of another order of them")
        for group in self.groups:
            prefix = f"{group.table.kind.name}:"
            group.table.restore({n[len(prefix) :]: array for n, array in arrays.items() if n.startswith(prefix)})
        self.last_seq, self.last_boot, self.missing = arrays["last_seq"], arrays["last_boot"], arrays["missing"]
        self.latest_s = float(arrays["latest_s"][0])
        failures = msgspec.msgpack.decode(arrays["failures"].tobytes(), type=dict[str, str])
        for group in self.groups:
            group.table.failures = {entity: words for entity, words in failures.items() if entity in group.table.ids}
        self.refused.clear()
        self.refused.extend(msgspec.msgpack.decode(arrays["refused"].tobytes(), type=list[Refused]))
        self.offset = offset

    def _ids(self) -> NDArray[np.uint8]:
        """The ids of all twins in their order, as bytes."""
        ids = "\n".join(entity for group in self.groups for entity in group.table.ids)
        return np.frombuffer(ids.encode(), np.uint8)


@dataclass(frozen=True, slots=True)
class _Part:
    """Decoded inputs of one sort; ``position`` is their place in the packed batch."""

    position: NDArray[np.intp]
    element: NDArray[np.intp]
    row: NDArray[np.intp]
    channel: NDArray[np.uint8]
    at_s: Column
    key: NDArray[np.int64]
    values: Column


def _merge(parts: list[_Part]) -> _Part:
    """One part in arrival order."""
    rows = max(part.values.shape[0] for part in parts)
    values = np.full((rows, sum(len(part.position) for part in parts)), np.nan)
    at = 0
    for part in parts:
        values[: part.values.shape[0], at : at + len(part.position)] = part.values
        at += len(part.position)
    position = np.concatenate([part.position for part in parts])
    element = np.concatenate([part.element for part in parts])
    order = np.lexsort((element, position))
    return _Part(
        position=position[order],
        element=element[order],
        row=np.concatenate([part.row for part in parts])[order],
        channel=np.concatenate([part.channel for part in parts])[order],
        at_s=np.concatenate([part.at_s for part in parts])[order],
        key=np.concatenate([part.key for part in parts])[order],
        values=values[:, order],
    )
