"""Training on history: attributes and noises of a kind's model, fitted per entity and kept only where they do better.

What is fitted is the likelihood of the innovations (see ``likelihood``). All entities take their trial steps in one
pass, and each keeps a step or not by its own likelihood, so that the fixed cost of a pass is shared by all of them.

Noises are scaled at the end so that the 90 % interval held 90 % of the training readings: heavy tails make the most
likely variance too wide or too narrow for that. New parameters are judged on the last part of the history, which the
fit has not seen, by the same likelihood; an entity for which they are not better keeps its old ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.fidelity import Z2_90
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.likelihood import Score, likelihoods, run, scored
from twin_actors.core.parameters import Parameters, picked

SWEEPS = 8
NOISE_RANGE = 1e3
"""Noises stay within this factor of what the kind declares."""

_FEWEST = 20  # readings of an entity in either part; with fewer it keeps its parameters
_NOISE_STEP, _ATTRIBUTE_STEP = 0.7, 0.2  # first trial, of the logarithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What came out of a fit, with the evidence. ``better (n,)``: whose parameters are new; the others' are the old."""

    kind: str
    ids: tuple[str, ...]
    fitted: tuple[str, ...]
    before: Parameters
    after: Parameters
    better: NDArray[np.bool_]
    train_s: tuple[float, float]
    validation_s: tuple[float, float]
    train: tuple[Score, Score]  # with the old and the new parameters
    validation: tuple[Score, Score]
    rows: tuple[str, ...] = field(repr=False)

    def evidence(self) -> list[dict[str, float | str | bool | list[float] | dict[str, list[float | None]]]]:
        """One plain record an entity: periods, and likelihood, rmse and coverage on unseen time before and after."""
        old, new = self.validation
        return [
            {
                "entity": entity,
                "better": bool(self.better[i]),
                "train_s": list(self.train_s),
                "validation_s": list(self.validation_s),
                "readings": float(new.count[i]),
                "likelihood_before": _plain(old.likelihood[i]),
                "likelihood_after": _plain(new.likelihood[i]),
                "rmse": {row: [_known(old.rmse[r, i]), _known(new.rmse[r, i])] for r, row in enumerate(self.rows)},
                "coverage_90": {
                    row: [_known(old.coverage[r, i]), _known(new.coverage[r, i])] for r, row in enumerate(self.rows)
                },
            }
            for i, entity in enumerate(self.ids)
        ]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _plain(value: float) -> float:
    return float(value) if np.isfinite(value) else 1e300


def calibrate(
    kind: Kind,
    ids: Sequence[str],
    start: Parameters,
    history: Batch,
    *,
    fit: Sequence[str] = (),
    free: NDArray[np.bool_] | None = None,
    noises: bool = True,
    validation: float = 0.3,
    sweeps: int = SWEEPS,
) -> Calibration:
    """Fit ``fit`` (attribute names or row labels) and the noises to ``history``, the inputs of the twins in log order.

    The last ``validation`` share of the time is not seen by the fit. ``free (attribute rows, n)`` says whose attributes
    may change (default: all in ``fit``). Attributes stay within their declared limits. Raises ValueError for unknown
    attributes and a history without readings.
    """
    layout = kind.attributes.layout
    unknown = [name for name in fit if name not in layout.fields and name not in layout.labels]
    if unknown:
        raise ValueError(
            f"kind {kind.name} has no attribute {unknown[0]!r}; it has {', '.join(layout.fields) or 'none'}"
        )
    if not len(history):
        raise ValueError(f"the history has no readings of kind {kind.name}: check the mapping and the names")
    if not 0 < validation < 1:
        raise ValueError(f"validation is a share of the time between 0 and 1, not {validation:g}")
    begin_s, end_s = float(history.observed_at_s.min()), float(history.observed_at_s.max())
    split_s = end_s - validation * (end_s - begin_s)
    early = history.observed_at_s <= split_s
    seen, unseen = _part(history, early), _part(history, ~early)

    rows = [
        row for row, (label, name) in enumerate(zip(layout.labels, layout.field_of_row(), strict=True))
        if name in fit or label in fit
    ]  # fmt: skip
    knobs = [_Knob.attribute(kind, row, start, free) for row in rows]
    if noises:
        measured = _noisy_rows(kind)
        knobs += [_Knob.noise("sd", row, start) for row in measured[0]]
        knobs += [_Knob.noise("drift", row, start) for row in measured[1]]
    found = _searched(kind, ids, start, seen, knobs, sweeps)
    if noises:
        found = _covering(kind, ids, found, start, seen)
    scores = [scored(kind, ids, parameters, seen, unseen) for parameters in (start, found)]
    old, new = scores[0][1], scores[1][1]
    enough = (scores[0][0].count >= _FEWEST) & (new.count >= _FEWEST)
    with np.errstate(invalid="ignore"):
        better = enough & (new.likelihood < old.likelihood)
    return Calibration(
        kind=kind.name,
        ids=tuple(ids),
        fitted=tuple(fit),
        before=start,
        after=picked(better, found, start),
        better=better,
        train_s=(begin_s, split_s),
        validation_s=(split_s, end_s),
        train=(scores[0][0], scores[1][0]),
        validation=(old, new),
        rows=kind.reading.layout.labels,
    )


def _part(batch: Batch, chosen: NDArray[np.bool_]) -> Batch:
    return Batch(
        rows=batch.rows[chosen],
        observed_at_s=batch.observed_at_s[chosen],
        values=batch.values[:, chosen],
        channels=batch.channels[chosen],
        keys=batch.keys[chosen],
    )


def _noisy_rows(kind: Kind) -> tuple[list[int], list[int]]:
    """Reading rows with an sd, and state rows with a drift."""
    sd = kind.reading.layout.per_row("sd")[:, 0]
    drift = np.nan_to_num(kind.state.layout.per_row("drift")[:, 0])
    return np.flatnonzero(sd > 0).tolist(), np.flatnonzero(drift > 0).tolist()


@dataclass(slots=True)
class _Knob:
    """One parameter of every entity: where it stands, its limits ``(n,)``, its present step and what may change."""

    record: str
    row: int
    low: Column
    high: Column
    by_factor: NDArray[np.bool_]  # a positive number moves by factors, another by addition
    step: Column
    free: NDArray[np.bool_]

    @classmethod
    def attribute(cls, kind: Kind, row: int, start: Parameters, free: NDArray[np.bool_] | None) -> _Knob:
        layout = kind.attributes.layout
        n = start.attributes.shape[1]
        low = np.full(n, layout.per_row("minimum")[row, 0])
        high = np.full(n, layout.per_row("maximum")[row, 0])
        value = start.attributes[row]
        by_factor = (value > 0) & (low >= 0)
        span = np.where(np.isfinite(high - low), high - low, np.maximum(np.abs(value), 1.0))
        step = np.where(by_factor, _ATTRIBUTE_STEP, 0.1 * span)
        return cls("attributes", row, low, high, by_factor, step, np.ones(n, np.bool_) if free is None else free[row])

    @classmethod
    def noise(cls, record: str, row: int, start: Parameters) -> _Knob:
        value = getattr(start, record)[row]
        n = len(value)
        return cls(
            record,
            row,
            value / NOISE_RANGE,
            value * NOISE_RANGE,
            np.ones(n, np.bool_),
            np.full(n, _NOISE_STEP),
            value > 0,
        )

    def moved(self, parameters: Parameters, direction: float) -> Parameters:
        whole = getattr(parameters, self.record).copy()
        value = whole[self.row]
        by = direction * self.step
        with np.errstate(over="ignore"):
            tried = np.where(self.by_factor, value * np.exp(np.minimum(by, 50.0)), value + by)
        whole[self.row] = np.where(self.free, np.clip(tried, self.low, self.high), value)
        return replace(parameters, **{self.record: whole})


def _searched(
    kind: Kind, ids: Sequence[str], start: Parameters, seen: Batch, knobs: Sequence[_Knob], sweeps: int
) -> Parameters:
    """Pattern search (Hooke and Jeeves, J. ACM 8, 1961), every entity by itself.

    A sweep tries each parameter up and down, all trials of all entities as twins of one pass, then all moves that
    helped together; an entity takes the best of these. A step that helps grows by half, one that does not is halved.
    """
    best = start
    level = likelihoods(kind, ids, [start], seen)[0]
    for _ in range(sweeps if knobs else 0):
        singles = [knob.moved(best, direction) for knob in knobs for direction in (1.0, -1.0)]
        likelihood = likelihoods(kind, ids, singles, seen).reshape(len(knobs), 2, -1)
        likelihood = np.where(np.isnan(likelihood), np.inf, likelihood)
        together = best
        for order, knob in enumerate(knobs):
            up = likelihood[order, 0] <= likelihood[order, 1]
            helped = likelihood[order].min(axis=0) < level
            whole = getattr(together, knob.record).copy()
            moves = [getattr(singles[2 * order + way], knob.record)[knob.row] for way in (0, 1)]
            whole[knob.row] = np.where(helped, np.where(up, *moves), whole[knob.row])
            together = replace(together, **{knob.record: whole})
            knob.step = np.where(helped, 1.5 * knob.step, 0.5 * knob.step)
        joined = likelihoods(kind, ids, [together], seen)[0]
        for tried, its in zip([*singles, together], [*likelihood.reshape(len(singles), -1), joined], strict=True):
            gain = its < level
            best = picked(gain, tried, best)
            level = np.where(gain, its, level)
    return best


def _covering(kind: Kind, ids: Sequence[str], found: Parameters, start: Parameters, seen: Batch) -> Parameters:
    """Scale sd and drift together, so that 90 % of the training readings lay within 1.645 standard deviations.

    Scaling both leaves the gains and so the estimates as they are. With the diagonal filter every state field has
    its own scale, with the joint one an entity has one for all.
    """
    z, _ = run(kind, ids, found, seen)[0].matrices(kind.reading.layout.rows, len(ids))
    sd, drift = found.sd.copy(), found.drift.copy()
    reading, state = kind.reading.layout, kind.state.layout
    whole = _scale_of(z.reshape(-1, len(ids)))
    if kind.filter == "joint" or kind.observe is not None:
        sd, drift = sd * whole, drift * whole
    else:
        places = {name: (declared.of or name) for name, declared in reading.fields.items()}
        for name, target in places.items():
            own = [other for other, of in places.items() if of == target]
            if target not in state.fields:
                continue
            size = reading.fields[name].size
            for part in range(size):
                rows = [reading.places[other].start + part for other in own]
                scale = _scale_of(z[:, rows].reshape(-1, len(ids)))
                sd[reading.places[name].start + part] *= scale
                if own[0] == name:  # once a state field, however many readings measure it
                    drift[state.places[target].start + part] *= scale
    return replace(
        found,
        sd=np.clip(sd, start.sd / NOISE_RANGE, start.sd * NOISE_RANGE),
        drift=np.clip(drift, start.drift / NOISE_RANGE, start.drift * NOISE_RANGE),
    )


def _scale_of(z: Column) -> Column:
    """The 90 % quantile of |z| over that of the normal distribution, by column; 1 where there are too few."""
    enough = np.isfinite(z).sum(axis=0) >= _FEWEST
    scale = np.ones(z.shape[1])
    if enough.any():
        scale[enough] = np.nanquantile(z[:, enough], 0.9, axis=0) / np.sqrt(Z2_90)
    return np.where(scale > 0, scale, 1.0)


def changes(calibration: Calibration, kind: Kind) -> Mapping[str, dict[str, dict[str, float | list[float]]]]:
    """New parameters by entity and record, as a scenario's ``parameters`` section says them; only of those that are
    better, and only what differs from before."""
    records = {"attributes": kind.attributes.layout, "sd": kind.reading.layout, "drift": kind.state.layout}
    said: dict[str, dict[str, dict[str, float | list[float]]]] = {}
    for column, entity in enumerate(calibration.ids):
        if not calibration.better[column]:
            continue
        entry: dict[str, dict[str, float | list[float]]] = {}
        for record, layout in records.items():
            new = getattr(calibration.after, record)[:, column]
            old = getattr(calibration.before, record)[:, column]
            for name, place in layout.places.items():
                if not np.array_equal(new[place], old[place]):
                    numbers = [float(f"{value:.6g}") for value in new[place]]
                    entry.setdefault(record, {})[name] = numbers if layout.fields[name].shape else numbers[0]
        if entry:
            said[entity] = entry
    return said
