"""What a twin actor does, without Ray: take packed batches in log order, keep the twins, answer with counts."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin_actors.core.cleaning import Fate
from twin_actors.core.inputs import Batch
from twin_actors.core.outlook import Outlook
from twin_actors.core.showing import Shown, Stamp, only, stamp, unchanged
from twin_actors.core.table import TwinTable
from twin_actors.runtime.answering import Answer, Question, answer
from twin_actors.runtime.intake import Group, Intake, Refused
from twin_actors.runtime.packing import PackedBatch, unpack
from twin_actors.wire.decode import ReadingDecoder

REASONS_S = 86_400.0  # how long before its last input a twin still tells what was surprising
REFUSED_KEPT = 10_000
NOTHING_APPLIED = -1
"""The offset before the first input of any log."""


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


class Holder:
    """Twins of any kinds. Places 0 … n−1 run through the groups in order."""

    def __init__(
        self, tables: Sequence[TwinTable], decoders: Mapping[str, Mapping[int, ReadingDecoder]], *,
        epoch: int, incarnation: str, future_s: float = 5.0,
    ) -> None:  # fmt: skip
        self.epoch = epoch
        self.incarnation = incarnation
        self.offset = NOTHING_APPLIED
        self.busy_s = 0.0
        self.refused: deque[Refused] = deque(maxlen=REFUSED_KEPT)  # for a router that has missed the answer
        self._shown: dict[str, tuple[Stamp, Shown]] = {}  # the last look, by kind
        self.groups: list[Group] = []
        first = 0
        for table in tables:
            self.groups.append(Group(table, decoders[table.kind.name], first))
            first += len(table)
        self._group_of_place = np.repeat(np.arange(len(self.groups)), [len(g.table) for g in self.groups])
        self.intake = Intake(first, future_s=future_s)

    @property
    def latest_s(self) -> float:
        """The newest moment that any twin was observed at."""
        return self.intake.latest_s

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
        merged = self.intake.read(group, batch, chosen, refused)
        if merged is None:
            return
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

    def _reply(self, ok: bool, refused: list[Refused]) -> Reply:
        refused.sort(key=lambda each: (each.offset, each.element))
        self.refused.extend(refused)
        return Reply(
            ok, self.epoch, self.incarnation, self.outcomes(), refused, float(self.intake.latest_s), self.busy_s
        )

    def settle(self) -> None:
        """Let go of the plan that the twins were made from: ids of their own, side by side, hold none of its memory.

        Python gives memory back in pieces of a megabyte, each kept for one short string that is left in it.
        """
        for group in self.groups:
            joined = "\n".join(group.table.ids)
            group.table.ids = ()
            gc.collect()
            group.table.ids = tuple(joined.split("\n"))

    # -- answers -----------------------------------------------------------------------------------------------

    def outcomes(self) -> Outcomes:
        totals = np.zeros(len(Fate), np.int64)
        fields = 0
        for group in self.groups:
            totals += group.table.fates.sum(axis=1)
            fields += int(group.table.rejected_fields.sum())
        applied, duplicate, late, rejected = map(int, totals)
        return Outcomes(self.offset, applied, duplicate, late, rejected, fields, int(self.intake.missing.sum()))

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

    def ahead(self, entity: str, until_s: Sequence[float]) -> Outlook:
        """One twin by its own model at some moments to come. Raises KeyError."""
        for group in self.groups:
            if entity in group.table.ids:
                return group.table.ahead(entity, np.array(until_s, dtype=np.float64))
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
                    "missing_upstream": int(self.intake.missing[group.first + twin]),
                    "time_s": float(table.time_s[twin]),
                }
        raise KeyError(entity)

    # -- snapshots ---------------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[int, bytes]:
        """All twins at the offset applied last, as (offset, blob)."""
        arrays: dict[str, NDArray[Any]] = {
            "ids": self._ids(),
            "last_seq": self.intake.last_seq,
            "last_boot": self.intake.last_boot,
            "missing": self.intake.missing,
            "latest_s": np.array([self.intake.latest_s]),
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
            raise ValueError(
                f"snapshot of other twins than these {len(self.intake.missing)}, or of another order of them"
            )
        for group in self.groups:
            prefix = f"{group.table.kind.name}:"
            group.table.restore({n[len(prefix) :]: array for n, array in arrays.items() if n.startswith(prefix)})
        self.intake.last_seq, self.intake.last_boot, self.intake.missing = (
            arrays["last_seq"],
            arrays["last_boot"],
            arrays["missing"],
        )
        self.intake.latest_s = float(arrays["latest_s"][0])
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
