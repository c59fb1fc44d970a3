"""The twin table: one twin or ten thousand of a kind, as columns, moved by their inputs in log order."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core import estimation as est
from twin_actors.core import folding, snapshots
from twin_actors.core.cleaning import Cleaned, CleaningMemory, CleaningRules, Fate, clean
from twin_actors.core.columns import Column
from twin_actors.core.detection.compiled import detect
from twin_actors.core.detection.ensemble import flag
from twin_actors.core.detection.memory import DetectionMemory
from twin_actors.core.detection.reasons import reason
from twin_actors.core.fidelity import Fidelity
from twin_actors.core.inputs import Batch, Channel, portions, rounds
from twin_actors.core.kernels import WrongArray
from twin_actors.core.kind import Kind
from twin_actors.core.monitoring import Latches
from twin_actors.core.outlook import Outlook, headline, of_rolled
from twin_actors.core.places import Places, place_of, run_of, taken
from twin_actors.core.rejections import Rejection, rejection
from twin_actors.core.rolling import Held, roll
from twin_actors.core.showing import Rolled, Shown, show
from twin_actors.core.windows import WindowTable

MOST_FRAMES = 4
"""Frames of a failing model that are kept: those nearest to the fault."""
FATES = tuple(fate.name.lower() for fate in Fate)


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
        reading = kind.reading.layout
        self.watched = np.flatnonzero([reading.fields[name].watched for name in reading.field_of_row()])
        self._joint = est.JointPlan.of(kind) if kind.filter == "joint" else None
        state = kind.state.layout
        samples = 1 + 2 * self._joint.directions if self._joint else 1
        self._step_rows = kind.attributes.layout.rows + reading.rows + state.rows * samples
        self._limits = state.per_row("minimum"), state.per_row("maximum")

        self.attributes = np.array(attributes, dtype=np.float64)
        self.x = np.repeat(state.per_row("default"), n, axis=1)
        self.variance = np.repeat(self._plan.unsure2, n, axis=1)
        self.covariances = self._fresh_covariances(n)
        self.time_s = np.full(n, -np.inf)
        self.heard_at_s = np.full(n, -np.inf)
        self.command = Held.defaults(kind.command.layout, n)
        self.coupling = Held.defaults(kind.couplings.layout, n)
        self.desired = np.full((kind.command.layout.rows, n), np.nan)
        self.cleaning = CleaningMemory.empty(reading.rows, n, self._rules)
        self.windows = WindowTable(kind, n)
        self.latches = Latches.empty(len(kind.alerts), n)
        self.turns = 0  # how often a look has found alerts raised or cleared
        self.detection = DetectionMemory.empty(len(self.watched), n)
        self.score = np.full((reading.rows, n), np.nan, np.float32)  # NaN: not watched, or nothing usable was said
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
                values = taken(batch.values, place_of(part))
                if channel == Channel.READING:
                    for own in portions(len(part), self._step_rows):
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
        cleaned = self._clean(twins, at_s, values, keys)
        self.fates[cleaned.fate, twins] += 1  # twins of a round are distinct
        if cleaned.refused.any():
            self.rejected_fields[twins] += cleaned.refused.sum(axis=0)
        news = cleaned.fate == Fate.APPLIED
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
            rows = self.watched
            found = np.nonzero(flag(self.detection, twins, at_s, values[rows], cleaned.verdict[rows]))
            self.score[rows[found[0]], twins[found[1]]] = 1.0
        for column in map(int, np.flatnonzero(cleaned.fate == Fate.REJECTED)):
            if column in failed:
                continue
            rejections.append(
                rejection(self.kind.reading.layout, self._rules, cleaned, values, column, int(positions[column]))
            )
        return cleaned.fate

    def _clean(self, twins: NDArray[np.intp], at_s: Column, values: Column, keys: NDArray[np.int64]) -> Cleaned:
        cleaned = clean(self._rules, self.cleaning.gather(place_of(twins)), values, at_s, keys)
        self.cleaning.keep(twins, cleaned, keys)
        return cleaned

    def _guarded(
        self, stage: Callable[..., None], twins: NDArray[np.intp], *columns: NDArray[Any], first: int = 0
    ) -> list[int]:
        """Run a stage that calls the model; where it raises, run it twin by twin and leave out only the culprits.

        A twin whose model raises keeps its state; the failure is counted in ``model_errors`` and its traceback is
        kept in ``failures``. Stages may be run again: time that has been moved is not moved twice. Returns the
        columns that failed. Raises WrongArray, which is a mistake of ours.
        """
        try:
            stage(twins, *columns)
        except WrongArray:
            raise  # no model's failure: twin by twin it would only be slow, and hidden
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

    def _estimate(self, twins: NDArray[np.intp], at_s: Column, values: Column, usable: NDArray[np.bool_]) -> None:
        place = place_of(twins)
        in_place = isinstance(place, slice)  # what is read of the table are views, and no model speaks after a write
        until_s = np.maximum(self.time_s[place], at_s)
        self._advance(twins, until_s)
        noise = self.sd2[:, place]
        if (until_s > at_s).any():  # older than what is known: it may have drifted since
            age_h = (until_s - at_s) / 3600.0
            drift2_h = self.drift2_h[:, place][self._plan.measured]
            noise = noise + np.where(self._plan.measured[:, None] >= 0, drift2_h, 0.0) * age_h
        x, attributes, command = taken(self.x, place), self.attributes[:, place], self.command.value[:, place]
        if self._joint is None:
            variance = taken(self.variance, place)
            expected = None if self.kind.observe is None else self._expected(x, attributes, command)
            innovation, spread = folding.fold_diagonal(
                self._plan, x, variance, values, usable, noise, self._limits, expected
            )
            if not in_place:
                self.variance[:, place] = variance
        else:
            covariances = [taken(covariance, place) for covariance in self.covariances]
            observed = None
            if self.kind.observe is not None:
                observed = partial(self._observed, attributes=attributes[:, None], command=command[:, None])
            innovation, spread = folding.fold_joint(self._joint, x, covariances, values, usable, noise, observed)
            if not in_place:
                for mine, changed in zip(self.covariances, covariances, strict=True):
                    mine[..., place] = changed
            self.variance[:, place] = est.variance_of(self._joint, covariances, len(x))
            np.clip(x, *self._limits, out=x)
        if not in_place:
            self.x[:, place] = x
        watched = run_of(self.watched)
        if len(self.watched):
            score = detect(
                self.detection,
                twins,
                at_s,
                values[watched],
                innovation[watched],
                spread[watched],
                self._rules.total[watched],
            )
            if in_place or isinstance(watched, slice):
                self.score[watched, place] = score
            else:
                self.score[watched[:, None], twins] = score
        self.fidelity.record(innovation, spread, place)
        if not self.windows.empty:
            self.windows.record(values, usable, at_s, twins)
        self.heard_at_s[place] = np.maximum(self.heard_at_s[place], at_s)

    def _limited(self, x: Column) -> Column:
        """States ``(S, …)`` within their declared limits; ``x`` is overwritten."""
        lift = (slice(None),) + (None,) * (x.ndim - 2)
        low, high = self._limits
        return np.clip(x, low[lift], high[lift], out=x)

    def _expected(self, x: Column, attributes: Column, command: Column) -> Column:
        """What each reading row should say; a row that measures nothing and is not observed expects NaN."""
        expected = self._plan.measured_of(x)
        for name, column in self._observed(x, attributes, command).items():
            expected[self.kind.reading.layout.places[name]] = column
        return expected

    def _observed(self, x: Column, attributes: Column, command: Column) -> dict[str, Column]:
        """What ``observe`` expects of the reading fields that it knows, ``(size, …, b)`` by name."""
        kind = self.kind
        if kind.observe is None:
            return {}
        columns = kind.observe(
            kind.state.of_block(x), kind.attributes.of_block(attributes), kind.command.of_block(command)
        )
        tail = x.shape[1:]
        fields = kind.reading.layout.fields
        return {
            name: np.broadcast_to(column, fields[name].shape + tail).reshape(-1, *tail)
            for name, column in columns.items()
        }

    def _ask(self, twins: NDArray[np.intp], values: Column) -> None:
        said = values[: self.desired.shape[0]]
        self.desired[:, twins] = np.where(np.isnan(said), self.desired[:, twins], said)

    def _hold(self, held: Held, twins: NDArray[np.intp], at_s: Column, values: Column) -> None:
        until_s = np.maximum(self.time_s[twins], at_s)
        self._guarded(self._advance, twins, until_s)
        held.put(twins, values[: held.value.shape[0]], until_s)

    # -- time --------------------------------------------------------------------------------------------------

    def _advance(self, twins: NDArray[np.intp], until_s: Column) -> None:
        place = place_of(twins)
        if self._joint is None and isinstance(place, slice) and self._advanced(place, until_s):
            return
        x, variance, covariances, command, coupling, errors = self._rolled(place, until_s)
        self.x[:, place], self.variance[:, place] = x, variance
        for mine, moved in zip(self.covariances, covariances, strict=True):
            mine[..., place] = moved
        self.command.scatter(place, command)
        self.coupling.scatter(place, coupling)
        self.time_s[place] = until_s
        if errors is not None:
            self.model_errors[place] += errors

    def _advanced(self, place: slice, until_s: Column) -> bool:
        """Advance twins that lie side by side in place; False: nothing has changed, and it takes the other way."""
        since_s = self.time_s[place]
        elapsed_s = np.where(np.isfinite(since_s), until_s - since_s, 0.0)
        if not (elapsed_s > 0).any():
            return False
        x, held = self.x[:, place], (self.command.gather(place), self.coupling.gather(place))
        moved, command, coupling = roll(self.kind, x, self.attributes[:, place], *held, until_s - elapsed_s, until_s)
        variance, drift2_h = self.variance[:, place], self.drift2_h[:, place]
        if not folding.advance(self._plan, moved, x, variance, drift2_h, elapsed_s, self._limits):
            return False
        if command is not held[0]:
            self.command.scatter(place, command)
        if coupling is not held[1]:
            self.coupling.scatter(place, coupling)
        self.time_s[place] = until_s
        return True

    def _rolled(
        self, place: Places, until_s: Column
    ) -> tuple[Column, Column, list[Column], Held, Held, NDArray[np.int64] | None]:
        """The twins at ``until_s``; where nothing moved, what is returned are the table's own columns."""
        since_s = self.time_s[place]
        x, variance = self.x[:, place], self.variance[:, place]
        command, coupling = self.command.gather(place), self.coupling.gather(place)
        covariances = [taken(covariance, place) for covariance in self.covariances]
        elapsed_s = np.where(np.isfinite(since_s), until_s - since_s, 0.0)
        if not (elapsed_s > 0).any():
            return x, variance, covariances, command, coupling, None
        attributes = self.attributes[:, place]
        start_s = until_s - elapsed_s
        drift2_h = self.drift2_h[:, place]
        if self._joint is None:
            moved, command, coupling = roll(self.kind, x, attributes, command, coupling, start_s, until_s)
            grown = est.grow_variance(variance, drift2_h, self._plan.unsure2, elapsed_s)
            spread: list[Column] = []
        else:
            factors = [folding.cholesky(covariance) for covariance in covariances]
            points = folding.spread_points(self._joint, x, factors, self._limits)
            points, command, coupling = roll(
                self.kind, points, attributes, command, coupling, start_s, until_s, points=True
            )
            moved = points[:, 0]
            spread = est.covariances_of(self._joint, points)
            elapsed_h = elapsed_s / 3600.0
            for block, covariance in zip(self._joint.blocks, spread, strict=True):
                for i in range(block.size):
                    covariance[i, i] += drift2_h[block.rows[i]] * elapsed_h
            spread = est.limit_covariances(self._joint, spread, self._plan.unsure2)
            if not (elapsed_s > 0).all():
                spread = [np.where(elapsed_s > 0, new, old) for old, new in zip(covariances, spread, strict=True)]
            grown = est.variance_of(self._joint, spread, x.shape[0])
        errors = None
        if not all(np.isfinite(part.sum()) for part in (moved, grown, *spread)):
            # a model that fails for one twin leaves it where it was, and its neighbours alone
            sound = np.isfinite(moved).all(axis=0) & np.isfinite(grown).all(axis=0)
            for covariance in spread:
                sound &= np.isfinite(covariance).all(axis=(0, 1, 2))
            spread = [np.where(sound, new, old) for new, old in zip(spread, covariances, strict=True)]
            grown = np.where(sound, grown, variance)
            moved = np.where(sound, moved, x)
            errors = np.where(sound, 0, 1)
        return self._limited(moved), grown, spread, command, coupling, errors

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

    def expected(self, x: Column, command: Column) -> Column:
        """What the device of each twin would say in state ``x (S, n)`` under ``command (rows, n)``: ``(R, n)``, NaN in
        rows that measure nothing."""
        return self._expected(x, self.attributes, command)

    def ahead(self, entity: str, until_s: Column) -> Outlook:
        """One twin rolled to each of ``until_s (H,)``, with what its device would say then; nothing is written back.

        Commands and couplings hold for as long as they do now. Raises KeyError for an entity that is not in the table.
        """
        if entity not in self.ids:
            raise KeyError(f"{entity} is not in this table of kind {self.kind.name}")
        twin = self.ids.index(entity)
        place, until_s = np.full(len(until_s), twin), np.maximum(self.time_s[twin], until_s)
        x, variance, covariances, command, _, _ = self._rolled(place, until_s)
        attributes, windows = self.attributes[:, place], self.windows.of_twin(twin, until_s)
        return of_rolled(
            self._plan, self._joint, x, variance, covariances, self.sd2[:, place],
            lambda points: self._observed(points, attributes[:, None], command.value[:, None]),
            self.kind.reading.layout.places,
            lambda points: headline(self.kind, self._limited(points), attributes, command.value, windows),
        )  # fmt: skip

    def explain(self, entity: str, since_s: float = -np.inf) -> dict[str, str]:
        """Why a row of this twin last scored a half or more, by its label and in plain words; empty: never.

        Only alarms observed at ``since_s`` or later. Raises KeyError for an entity that is not in the table.
        """
        if entity not in self.ids:
            raise KeyError(f"{entity} is not in this table of kind {self.kind.name}")
        twin, layout = self.ids.index(entity), self.kind.reading.layout
        names = layout.field_of_row()
        alarms = {int(row): self.detection.last_alarm(number, twin) for number, row in enumerate(self.watched)}
        return {
            layout.labels[row]: reason(layout.labels[row], layout.fields[names[row]].unit, alarm)
            for row, alarm in alarms.items()
            if alarm["at_s"] >= since_s  # NaN: there was none
        }

    # -- snapshots ---------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Every array of the table by name; ``restore`` of the same kind and ids brings the twins back exactly."""
        return snapshots.take(self)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot. Raises ValueError when it was made of another model or number of twins.

        Attributes stay as they are: the scenario says what they are now. What an older version kept otherwise is
        converted, what it did not keep begins anew; see ``snapshots.restore``.
        """
        snapshots.restore(self, arrays)
