"""The twin table: one twin or ten thousand of a kind, as columns, moved by their inputs in log order."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core import estimation as est
from twin_actors.core.cleaning import CleaningMemory, CleaningRules, Fate, clean
from twin_actors.core.columns import Column
from twin_actors.core.detection.ensemble import detect, flag
from twin_actors.core.detection.memory import DetectionMemory
from twin_actors.core.detection.reasons import reason
from twin_actors.core.fidelity import Fidelity
from twin_actors.core.inputs import Batch, Channel, portions, rounds
from twin_actors.core.kind import Kind
from twin_actors.core.monitoring import Latches
from twin_actors.core.rolling import Held, roll
from twin_actors.core.showing import Rolled, Shown, show
from twin_actors.core.windows import WindowTable

SERVICES = ("fidelity", "detection", "windows", "ewma")
"""Parts of a snapshot beside the twins' state that another version may lack (ewma: an older detector)."""
MOST_FRAMES = 4
"""Frames of a failing model that are kept: those nearest to the fault."""
FATES = tuple(fate.name.lower() for fate in Fate)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A reading of which nothing could be accepted: its position in the batch and the words for its sender."""

    position: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch: one Fate per input (commands and couplings are always applied)."""

    fates: NDArray[np.uint8]
    rejections: tuple[Rejection, ...]


class TwinTable:
    """Twins of one kind. ``attributes (rows, n)`` must be finite; everything else starts at its default."""

    def __init__(self, kind: Kind, ids: Sequence[str], attributes: Column) -> None:
        self.kind = kind
        self.ids = tuple(ids)
        n = len(self.ids)
        expected = (kind.attributes.layout.rows, n)
        if attributes.shape != expected:
            raise ValueError(f"kind {kind.name}: attributes have shape {attributes.shape}, expected {expected}")
        bad = np.argwhere(~np.isfinite(attributes))
        if len(bad):
            row, twin = bad[0]
            raise ValueError(
                f"{self.ids[twin]}: attribute {kind.attributes.layout.labels[row]} is missing or not finite"
            )
        self._rules = CleaningRules.of(kind.reading)
        self._plan = est.MeasurementPlan.of(kind)
        self._joint = est.JointPlan.of(kind) if kind.filter == "joint" else None
        state = kind.state.layout
        self._low, self._high = state.per_row("minimum"), state.per_row("maximum")

        self.attributes = np.array(attributes, dtype=np.float64)
        self.x = np.repeat(state.per_row("default"), n, axis=1)
        self.variance = np.repeat(self._plan.unsure2, n, axis=1)
        self.covariances = self._fresh_covariances(n)
        self.time_s = np.full(n, -np.inf)
        self.heard_at_s = np.full(n, -np.inf)
        self.command = Held.defaults(kind.command.layout, n)
        self.coupling = Held.defaults(kind.couplings.layout, n)
        self.desired = np.full((kind.command.layout.rows, n), np.nan)
        self.cleaning = CleaningMemory.empty(kind.reading.layout.rows, n)
        self.windows = WindowTable(kind, n)
        self.latches = Latches.empty(len(kind.alerts), n)
        self.turns = 0  # how often a look has found alerts raised or cleared
        self.detection = DetectionMemory.empty(kind.reading.layout.rows, n)
        self.score = np.full((kind.reading.layout.rows, n), np.nan)
        self.fidelity = Fidelity.empty(kind.reading.layout.rows, n)
        # as declared by the kind for all its twins (no memory of their own) until set_noises gives each its own
        self.sd2 = np.broadcast_to(self._plan.sd2, (kind.reading.layout.rows, n))
        self.drift2_h = np.broadcast_to(self._plan.state_drift2_h, (state.rows, n))
        self.revision = np.zeros(n, np.int64)
        self.fates = np.zeros((len(Fate), n), np.int64)
        self.rejected_fields = np.zeros(n, np.int64)
        self.model_errors = np.zeros(n, np.int64)
        self.failures: dict[str, str] = {}  # the last words of models that raised, by entity

    def __len__(self) -> int:
        return len(self.ids)

    def set_noises(self, sd: Column, drift: Column) -> None:
        """Noises by twin in place of the kind's: ``sd (reading rows, n)``, ``drift (state rows, n)`` in unit/√hour."""
        if sd.shape != self.sd2.shape or drift.shape != self.drift2_h.shape:
            raise ValueError(f"kind {self.kind.name}: noises have shapes {sd.shape} and {drift.shape}")
        if not (np.isfinite(sd).all() and np.isfinite(drift).all() and (sd >= 0).all() and (drift >= 0).all()):
            raise ValueError(f"kind {self.kind.name}: noises are finite numbers of at least 0")
        self.sd2, self.drift2_h = sd**2, drift**2

    def _fresh_covariances(self, n: int) -> list[Column]:
        if self._joint is None:
            return []
        made = []
        for block in self._joint.blocks:
            k, m = block.rows.shape
            covariance = np.zeros((k, k, m, n))
            covariance[np.arange(k), np.arange(k)] = self._plan.unsure2[block.rows]
            made.append(covariance)
        return made

    # -- inputs ------------------------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> Applied:
        """Apply inputs in arrival order. Any cut of the same inputs into batches gives the same twins."""
        fates = np.full(len(batch), Fate.APPLIED, np.uint8)
        rejections: list[Rejection] = []
        if not len(batch):
            return Applied(fates, ())
        for positions in rounds(batch.rows):
            channels = batch.channels[positions]
            for channel in np.unique(channels):
                part = positions[channels == channel]
                twins, at_s = batch.rows[part], batch.observed_at_s[part]
                values = batch.values[:, part]
                if channel == Channel.READING:
                    for own in portions(len(part), self.kind.reading.layout.rows):
                        fates[part[own]] = self._apply_readings(
                            twins[own], at_s[own], values[:, own], batch.keys[part[own]], part[own], rejections
                        )
                elif channel == Channel.DESIRED:
                    self._ask(twins, values)
                elif channel == Channel.COMMAND:
                    self._hold(self.command, twins, at_s, values)
                else:
                    self._hold(self.coupling, twins, at_s, values)
                self.revision[twins] += 1
        return Applied(fates, tuple(sorted(rejections, key=lambda r: r.position)))

    def _apply_readings(
        self,
        twins: NDArray[np.intp],
        at_s: Column,
        values: Column,
        keys: NDArray[np.int64],
        positions: NDArray[np.intp],
        rejections: list[Rejection],
    ) -> NDArray[np.uint8]:
        values = values[: self.kind.reading.layout.rows]
        before = self.cleaning.gather(twins)
        cleaned = clean(self._rules, before, values, at_s, keys)
        self.cleaning.keep(twins, cleaned, keys)
        np.add.at(self.fates, (cleaned.fate, twins), 1)
        self.rejected_fields[twins] += cleaned.refused.sum(axis=0)
        news = cleaned.accepted.any(axis=0)
        if news.all():
            failed = self._guarded(self._estimate, twins, at_s, cleaned.values, cleaned.usable)
        elif news.any():
            failed = self._guarded(
                self._estimate, twins[news], at_s[news], cleaned.values[:, news], cleaned.usable[:, news]
            )
            failed = [int(np.flatnonzero(news)[column]) for column in failed]
        else:
            failed = []
        for column in failed:  # its twin is as it was before: the reading is not applied, and its sender must know
            twin = int(twins[column])
            self.fates[cleaned.fate[column], twin] -= 1
            self.fates[Fate.REJECTED, twin] += 1
            cleaned.fate[column] = Fate.REJECTED
            rejections.append(Rejection(int(positions[column]), "model_failed", self.failures[self.ids[twin]]))
        if (cleaned.refused | (cleaned.accepted & ~cleaned.usable)).any():
            found = flag(self.detection, twins, at_s, values, cleaned.verdict)
            self.score[:, twins] = np.where(found, 1.0, self.score[:, twins])
        for column in map(int, np.flatnonzero(cleaned.fate == Fate.REJECTED)):
            if column in failed:
                continue
            row = int(np.argmax(cleaned.refused[:, column]))
            rejections.append(self._rejection(int(positions[column]), row, values[row, column], before, column))
        return cleaned.fate

    def _guarded(
        self, stage: Callable[..., None], twins: NDArray[np.intp], *columns: NDArray[Any], first: int = 0
    ) -> list[int]:
        """Run a stage that calls the model; where it raises, run it twin by twin and leave out only the culprits.

        A twin whose model raises keeps its state; the failure is counted in ``model_errors`` and its traceback is
        kept in ``failures``. Stages may be run again: time that has been moved is not moved twice. Returns the
        columns that failed.
        """
        try:
            stage(twins, *columns)
        except Exception:
            if len(twins) > 1:
                failed = []
                for n in range(len(twins)):
                    part = slice(n, n + 1)
                    failed += self._guarded(stage, twins[part], *(column[..., part] for column in columns), first=n)
                return failed
            self.model_errors[twins] += 1
            self.failures[self.ids[int(twins[0])]] = traceback.format_exc(limit=-MOST_FRAMES).strip()
            return [first]
        return []

    def _rejection(self, position: int, row: int, value: float, before: CleaningMemory, column: int) -> Rejection:
        if np.isnan(value):
            return Rejection(position, "empty", "no field of the reading has a value")
        label = self.kind.reading.layout.labels[row]
        low, high = float(self._rules.minimum[row, 0]), float(self._rules.maximum[row, 0])
        if self._rules.integer[row, 0]:
            value = float(np.rint(value))
        if not (low <= value <= high and np.isfinite(value)):
            return Rejection(position, "out_of_range", f"{label} = {value:g} is outside {low:g} to {high:g}")
        return Rejection(
            position,
            "rate",
            f"{label} = {value:g} after {before.value[row, column]:g} changes faster than "
            f"{float(self._rules.max_rate[row, 0]):g} per second",
        )

    def _estimate(self, twins: NDArray[np.intp], at_s: Column, values: Column, usable: NDArray[np.bool_]) -> None:
        until_s = np.maximum(self.time_s[twins], at_s)
        self._advance(twins, until_s)
        age_h = (until_s - at_s) / 3600.0
        drift2_h = self.drift2_h[:, twins]
        aged = np.where(self._plan.measured[:, None] >= 0, drift2_h[self._plan.measured], 0.0) * age_h
        noise = self.sd2[:, twins] + aged
        x, attributes, command = self.x[:, twins], self.attributes[:, twins], self.command.value[:, twins]
        if self._joint is None:
            expected = self._expected(x, attributes, command)
            estimate = est.estimate_diagonal(self._plan, x, self.variance[:, twins], expected, values, usable, noise)
        else:
            covariances = [covariance[..., twins] for covariance in self.covariances]
            points = est.spread_points(self._joint, x, covariances)
            seen = self._expected(points, attributes[:, None], command[:, None])
            estimate, covariances = est.estimate_joint(
                self._joint,
                x,
                covariances,
                seen[:, 0],
                est.slopes(self._joint, seen),
                values,
                usable,
                noise,
            )
            for mine, changed in zip(self.covariances, covariances, strict=True):
                mine[..., twins] = changed
        self.x[:, twins] = np.clip(estimate.x, self._low, self._high)
        self.variance[:, twins] = estimate.variance
        self.score[:, twins] = detect(
            self.detection,
            twins,
            at_s,
            values,
            estimate.innovation,
            estimate.innovation_variance,
            self._rules.total,
        )
        self.fidelity.record(estimate.innovation, estimate.innovation_variance, twins)
        if not self.windows.empty:
            self.windows.record(values, usable, at_s, twins)
        self.heard_at_s[twins] = np.maximum(self.heard_at_s[twins], at_s)

    def _expected(self, x: Column, attributes: Column, command: Column) -> Column:
        """What each reading row should say; a row that measures nothing and is not observed expects NaN."""
        tail = x.shape[1:]
        measured = self._plan.measured
        expected = np.where((measured >= 0).reshape(-1, *[1] * len(tail)), x[measured], np.nan)
        if self.kind.observe is not None:
            seen = self.kind.observe(
                self.kind.state.of_block(x),
                self.kind.attributes.of_block(attributes),
                self.kind.command.of_block(command),
            )
            for name, column in seen.items():
                place = self.kind.reading.layout.places[name]
                expected[place].reshape(self.kind.reading.layout.fields[name].shape + tail)[...] = column
        return expected

    def _ask(self, twins: NDArray[np.intp], values: Column) -> None:
        said = values[: self.desired.shape[0]]
        self.desired[:, twins] = np.where(np.isnan(said), self.desired[:, twins], said)

    def _hold(self, held: Held, twins: NDArray[np.intp], at_s: Column, values: Column) -> None:
        until_s = np.maximum(self.time_s[twins], at_s)
        self._guarded(self._advance, twins, until_s)
        held.put(twins, values[: held.value.shape[0]], until_s)

    # -- time --------------------------------------------------------------------------------------------------

    def _advance(self, twins: NDArray[np.intp], until_s: Column) -> None:
        x, variance, covariances, command, coupling, errors = self._rolled(twins, until_s)
        self.x[:, twins], self.variance[:, twins] = x, variance
        for mine, moved in zip(self.covariances, covariances, strict=True):
            mine[..., twins] = moved
        self.command.scatter(twins, command)
        self.coupling.scatter(twins, coupling)
        self.time_s[twins] = until_s
        self.model_errors[twins] += errors

    def _rolled(
        self, twins: NDArray[np.intp], until_s: Column
    ) -> tuple[Column, Column, list[Column], Held, Held, NDArray[np.int64]]:
        since_s = self.time_s[twins]
        x = self.x[:, twins]
        command, coupling = self.command.gather(twins), self.coupling.gather(twins)
        covariances = [covariance[..., twins] for covariance in self.covariances]
        known = np.isfinite(since_s)
        elapsed_s = np.where(known, until_s - np.where(known, since_s, until_s), 0.0)
        no_errors = np.zeros(len(twins), np.int64)
        if not (elapsed_s > 0).any():
            return x, self.variance[:, twins], covariances, command, coupling, no_errors
        attributes = self.attributes[:, twins]
        start_s = until_s - elapsed_s
        if self._joint is None:
            moved, command, coupling = roll(self.kind, x, attributes, command, coupling, start_s, until_s)
            variance = est.grow_variance(
                self.variance[:, twins], self.drift2_h[:, twins], self._plan.unsure2, elapsed_s
            )
        else:
            points = est.spread_points(self._joint, x, covariances)
            points = np.clip(points, self._low[:, None], self._high[:, None])
            points, command, coupling = roll(self.kind, points, attributes, command, coupling, start_s, until_s)
            moved = points[:, 0]
            spread = est.covariances_of(self._joint, points)
            drift2_h = self.drift2_h[:, twins]
            for block, covariance in zip(self._joint.blocks, spread, strict=True):
                own = np.arange(block.size)
                covariance[own, own] += drift2_h[block.rows] * (elapsed_s / 3600.0)
            spread = est.limit_covariances(self._joint, spread, self._plan.unsure2)
            still = elapsed_s <= 0
            covariances = [np.where(still, old, new) for old, new in zip(covariances, spread, strict=True)]
            variance = est.variance_of(self._joint, covariances, x.shape[0])
        sound = np.isfinite(moved).all(axis=0) & np.isfinite(variance).all(axis=0)
        for covariance in covariances:
            sound &= np.isfinite(covariance).all(axis=(0, 1, 2))
        if not sound.all():  # a model that fails for one twin leaves it where it was, and its neighbours alone
            before = [covariance[..., twins] for covariance in self.covariances]
            covariances = [np.where(sound, new, old) for new, old in zip(covariances, before, strict=True)]
            variance = np.where(sound, variance, self.variance[:, twins])
            moved = np.where(sound, moved, x)
        return np.clip(moved, self._low, self._high), variance, covariances, command, coupling, np.where(sound, 0, 1)

    def at(self, now_s: float) -> tuple[Column, Column]:
        """State and variance of all twins rolled forward to ``now_s`` (twins ahead of it stay where they are)."""
        twins = np.arange(len(self))
        x, variance, *_ = self._rolled(twins, np.maximum(self.time_s, now_s))
        return x, variance

    # -- showing -----------------------------------------------------------------------------------------------

    def show(self, now_s: float, *, with_control: bool = True) -> Shown:
        """Stages monitor and detect at ``now_s``: indicators, alert latches, needs and what control would set.

        The latches are kept; nothing else changes. Twins that are ahead of ``now_s`` are shown at their own time.
        """
        return show(self, now_s, with_control=with_control)

    def rolled(self, until_s: Column) -> Rolled:
        """All twins moved to ``until_s (n,)``, nothing written back."""
        x, variance, _, command, coupling, _ = self._rolled(np.arange(len(self)), until_s)
        return Rolled(x, variance, command.value, coupling.value)

    def explain(self, entity: str, since_s: float = -np.inf) -> dict[str, str]:
        """Why a row of this twin last scored a half or more, by its label and in plain words; empty: never.

        Only alarms observed at ``since_s`` or later. Raises KeyError for an entity that is not in the table.
        """
        if entity not in self.ids:
            raise KeyError(f"{entity} is not in this table of kind {self.kind.name}")
        twin, layout = self.ids.index(entity), self.kind.reading.layout
        alarms = [self.detection.last_alarm(row, twin) for row in range(layout.rows)]
        return {
            label: reason(label, layout.fields[name].unit, alarm)
            for label, name, alarm in zip(layout.labels, layout.field_of_row(), alarms, strict=True)
            if alarm["at_s"] >= since_s  # NaN: there was none
        }

    # -- snapshots ---------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Every array of the table by name; ``restore`` of the same kind and ids brings the twins back exactly."""
        arrays: dict[str, NDArray[Any]] = {
            name: getattr(self, name)
            for name in (
                "attributes", "x", "variance", "time_s", "heard_at_s", "desired", "score", "revision",
                "fates", "rejected_fields", "model_errors",
            )
        }  # fmt: skip
        for number, covariance in enumerate(self.covariances):
            arrays[f"covariance.{number}"] = covariance
        for name, part in (
            ("cleaning", self.cleaning),
            ("detection", self.detection),
            ("command", self.command),
            ("coupling", self.coupling),
            ("latches", self.latches),
            ("fidelity", self.fidelity),
        ):
            for field in fields(part):
                arrays[f"{name}.{field.name}"] = getattr(part, field.name)
        for name in ("mean", "count", "hour"):
            arrays[f"windows.{name}"] = getattr(self.windows, name)
        return {name: array.copy() for name, array in arrays.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot. Raises ValueError when it was made of another model or number of twins.

        Attributes stay as they are: the scenario says what they are now. Services that one of the two versions does
        not have (see ``SERVICES``) begin anew, so that a version that learns more takes up the twins of an older one.
        """
        current = self.snapshot()
        differing = [name for name in current.keys() ^ arrays.keys() if name.partition(".")[0] not in SERVICES]
        if differing:
            raise ValueError(f"snapshot of another model of kind {self.kind.name}: {', '.join(sorted(differing))}")
        arrays = {name: array for name, array in arrays.items() if name in current}
        for name, array in arrays.items():
            if current[name].shape != array.shape:
                raise ValueError(
                    f"snapshot of kind {self.kind.name}: {name} has shape {array.shape}, expected {current[name].shape}"
                )
        for name, array in arrays.items():
            owner, _, attribute = name.partition(".")
            if name == "attributes":
                continue
            copy = np.array(array, dtype=current[name].dtype)
            if owner == "covariance":
                self.covariances[int(attribute)] = copy
            elif attribute:
                setattr(getattr(self, owner), attribute, copy)
            else:
                setattr(self, owner, copy)
