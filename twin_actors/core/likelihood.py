"""How well parameters explain a history: the likelihood of the innovations, their size, and what the intervals held.

The likelihood of a model is that of its innovations (Schweppe, "Evaluation of likelihood functions for Gaussian
signals", IEEE Trans. Information Theory 11, 1965): −log L = ½ Σ (log S + ν²/S), with ν what a reading differed from
what was expected and S the variance of that. It is run through the same twin table as live twins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.fidelity import Z2_90, Fidelity
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.parameters import Parameters
from twin_actors.core.places import Places

MOST_TWINS = 20_000
"""Trials that run side by side, as twins of one table."""

_FARTHEST_Z = 4.0  # beyond, a reading counts linearly: one fault must not set the noise of a year


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How parameters did over a stretch of history, by entity ``(n,)``; rmse and coverage by reading row ``(R, n)``."""

    likelihood: Column  # mean −log L of a value; less is better; NaN where nothing was compared
    rmse: Column
    coverage: Column
    count: Column


@dataclass(slots=True)
class Compared(Fidelity):
    """Stands in a table where its fidelity does, and keeps every innovation as z."""

    nll: Column
    z: list[tuple[Places, Column, Column]]

    def record(self, innovation: Column, variance: Column, place: Places) -> None:
        bounded = np.clip(innovation, -1e150, 1e150)
        safe = np.maximum(variance, 1e-300)
        z = np.abs(bounded) / np.sqrt(safe)
        square = np.where(z <= _FARTHEST_Z, z * z, 2 * _FARTHEST_Z * z - _FARTHEST_Z**2)
        self.nll[place] += np.nansum(0.5 * (square + np.log(safe)), axis=0)
        self.z.append((place, z, bounded))

    def matrices(self, rows: int, n: int) -> tuple[Column, Column]:
        """All |z| and innovations as ``(compared, R, n)``, NaN where a twin had none."""
        z = np.full((len(self.z), rows, n), np.nan)
        innovation = np.full_like(z, np.nan)
        for order, (place, each, apart) in enumerate(self.z):
            z[order][:, place], innovation[order][:, place] = each, apart
        return z, innovation


def run(kind: Kind, ids: Sequence[str], parameters: Parameters, *parts: Batch) -> list[Compared]:
    """What twins with these parameters compared in each of the successive parts."""
    table = parameters.table(kind, ids)
    rows, n = kind.reading.layout.rows, len(ids)
    compared = []
    for part in parts:
        blank = Fidelity.empty(rows, n)
        keeper = Compared(blank.error2, blank.covered, blank.drifting, np.zeros(n), [])
        table.fidelity = keeper
        table.apply(part)
        compared.append(keeper)
    keeper.nll[table.model_errors > 0] = np.inf
    return compared


def likelihoods(kind: Kind, ids: Sequence[str], trials: Sequence[Parameters], seen: Batch) -> Column:
    """−log L of each trial, ``(trials, n)``: trials are further twins of the same table, as many as fit a pass."""
    n = len(ids)
    found = []
    at_once = max(MOST_TWINS // n, 1)
    for first in range(0, len(trials), at_once):
        part = trials[first : first + at_once]
        copies = len(part)
        stacked = Parameters(
            attributes=np.concatenate([each.attributes for each in part], axis=1),
            sd=np.concatenate([each.sd for each in part], axis=1),
            drift=np.concatenate([each.drift for each in part], axis=1),
        )
        batch = Batch(
            rows=(seen.rows + n * np.arange(copies)[:, None]).reshape(-1),
            observed_at_s=np.tile(seen.observed_at_s, copies),
            values=np.tile(seen.values, copies),
            channels=np.tile(seen.channels, copies),
            keys=np.tile(seen.keys, copies),
        )
        names = [f"{entity}#{copy}" for copy in range(copies) for entity in ids]
        found.append(run(kind, names, stacked, batch)[0].nll.reshape(copies, n))
    return np.concatenate(found)


def scored(kind: Kind, ids: Sequence[str], parameters: Parameters, *parts: Batch) -> list[Score]:
    """How twins with these parameters did in each of the successive parts."""
    scores = []
    for compared in run(kind, ids, parameters, *parts):
        z, innovation = compared.matrices(kind.reading.layout.rows, len(ids))
        known = np.isfinite(z)
        count = known.sum(axis=0)
        some = np.where(count > 0, count, np.nan)
        every = count.sum(axis=0)
        scores.append(
            Score(
                likelihood=np.where(every > 0, compared.nll, np.nan) / np.maximum(every, 1),
                rmse=np.sqrt(np.nansum(innovation**2, axis=0) / some),
                coverage=np.where(known, z * z <= Z2_90, False).sum(axis=0) / some,
                count=every.astype(np.float64),
            )
        )
    return scores
