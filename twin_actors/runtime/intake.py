"""From a packed batch to what the twins of one kind take in; what cannot be used is refused, with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin_actors.core.cleaning import NO_KEY, Fate
from twin_actors.core.columns import Column, Columns
from twin_actors.core.inputs import Channel
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable
from twin_actors.runtime.notes import Told
from twin_actors.runtime.packing import PackedBatch
from twin_actors.store.bundles import payloads
from twin_actors.wire.decode import Decoded, ReadingDecoder
from twin_actors.wire.reasons import Reason

LARGEST_GAP = 10**9
"""A device that skips more numbers than this has not lost them: its numbering is another one."""


class Refused(msgspec.Struct, frozen=True):
    """A reading without use: offset in the log, element of its payload, reason, words for the sender."""

    offset: int
    element: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Group:
    """The twins of one kind in an actor, with their places among all its twins."""

    table: TwinTable
    decoders: Mapping[int, ReadingDecoder]  # by source; -1 for all sources that are not remapped
    first: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """Decoded inputs of one sort; ``position`` is their place in the packed batch."""

    position: NDArray[np.intp]
    element: NDArray[np.intp]
    row: NDArray[np.intp]
    channel: NDArray[np.uint8]
    at_s: Column
    key: NDArray[np.int64]
    values: Column


def merge(parts: list[Inputs]) -> Inputs:
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
    return Inputs(
        position=position[order],
        element=element[order],
        row=np.concatenate([part.row for part in parts])[order],
        channel=np.concatenate([part.channel for part in parts])[order],
        at_s=np.concatenate([part.at_s for part in parts])[order],
        key=np.concatenate([part.key for part in parts])[order],
        values=values[:, order],
    )


class Intake:
    """Decodes what comes for ``twins`` of any kinds, and counts what their devices have said and never arrived.

    ``future_s`` is how far a device's clock may be ahead of ours; ``latest_s`` the newest moment that was observed.
    """

    def __init__(self, twins: int, *, future_s: float) -> None:
        self.future_s = future_s
        self.latest_s = -np.inf
        self.last_seq = np.full(twins, -1, np.int64)
        self.last_boot = np.full(twins, -1, np.int64)
        self.missing = np.zeros(twins, np.int64)
        self._told = msgspec.json.Decoder(Told)

    def take_over(self, twin: int, other: Intake, its: int) -> None:
        """Go on with the numbering of a twin that another one has held at place ``its``."""
        for mine, theirs in (
            (self.last_seq, other.last_seq),
            (self.last_boot, other.last_boot),
            (self.missing, other.missing),
        ):
            mine[twin] = theirs[its]

    def read(self, group: Group, batch: PackedBatch, chosen: NDArray[np.intp], refused: list[Refused]) -> Inputs | None:
        """The ``chosen`` inputs of a batch, all for one group, in their order; None where none can be used."""
        readings = chosen[batch.channels[chosen] == Channel.READING]
        others = chosen[batch.channels[chosen] != Channel.READING]
        parts: list[Inputs] = []
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
            return None
        return parts[0] if len(parts) == 1 else merge(parts)

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
    ) -> Inputs:  # fmt: skip
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
            rows = decoder.structs.rows_of(bundle.fields)
            own = readings[low:high]
            if rows is None:
                batch.payloads[start : start + len(bundle)] = payloads(bundle)
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
    ) -> Inputs:
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
        return Inputs(
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
    ) -> Inputs:
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
        return Inputs(
            position=chosen,
            element=np.zeros(len(chosen), np.intp),
            row=(batch.places[chosen] - first).astype(np.intp),
            channel=batch.channels[chosen],
            at_s=at_s,
            key=np.full(len(chosen), NO_KEY, np.int64),
            values=values,
        )
