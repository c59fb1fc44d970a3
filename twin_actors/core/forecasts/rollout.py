"""The kind's own model as a forecast method: twins filtered up to the origin, then ``predict`` rolled out.

All origins of a backtest are filtered and rolled side by side: each pair of an origin and an entity is a column of one
table, which has heard the last ``warm`` inputs before its origin and nothing later. A thousand inputs of a single twin
one by one cost about as much as a thousand of each of a hundred such twins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.forecasts.methods import Fitted
from twin_actors.core.forecasts.series import Rows, Series
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.rolling import roll
from twin_actors.core.table import TwinTable

MODEL = "model"

MOST_STEPS = 80_000
"""Steps of ``predict`` times columns that one call may take, about: what bounds the number of its origins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollOut:
    """``history`` are the inputs of the twins ``ids`` in log order, ``fields`` the reading rows, state rows or
    indicators that the series holds (labels such as ``queue_veh[nl]``; of a reading row it is what the device would
    say). The series has a column for each field of each twin, twin by twin.

    Commands and couplings are those in ``history``, taken as they stand at the origin, else at their defaults. A call
    for more than ``most_origins`` origins answers that many of them, evenly spaced and the last one always, and says
    NaN at the others. ``noises`` are ``sd (reading rows, n)`` and ``drift (state rows, n)`` of a calibration.
    """

    kind: Kind
    ids: tuple[str, ...]
    attributes: Column
    history: Batch
    fields: tuple[str, ...]
    noises: tuple[Column, Column] | None = None
    most_origins: int = 160
    warm: int = 48

    @property
    def name(self) -> str:
        return MODEL

    def fit(self, series: Series, horizons: Sequence[int]) -> Fitted:
        known = {
            *self.kind.reading.layout.labels,
            *self.kind.state.layout.labels,
            *(shown.name for shown in self.kind.shows),
        }
        for field in self.fields:
            if field not in known:
                raise ValueError(
                    f"{self.kind.name} has no reading, state or indicator {field!r}: {', '.join(sorted(known))}"
                )
        return _RollOut(self, tuple(horizons))


@dataclass(frozen=True, slots=True)
class _RollOut:
    method: RollOut
    horizons: tuple[int, ...]

    def at(self, series: Series, origins: Rows) -> Column:
        """Inputs later than an origin have not been applied when its forecast is made (by device time)."""
        method = self.method
        made = np.full((len(origins), len(self.horizons), len(method.ids) * len(method.fields)), np.nan)
        chosen = self._chosen(series, len(origins))
        at_s = series.until_s - (len(series) - 1 - origins[chosen]).astype(np.float64) * series.period_s
        table = self._filtered(at_s)
        since_s = np.repeat(at_s, len(method.ids))
        low, high = (table.kind.state.layout.per_row(name) for name in ("minimum", "maximum"))
        # a pair that has heard nothing starts at its origin
        now_s = np.where(np.isfinite(table.time_s), table.time_s, since_s)
        x, command, coupling = table.x, table.command, table.coupling
        for number in np.argsort(self.horizons):
            until_s = np.maximum(now_s, since_s + self.horizons[number] * series.period_s)
            x, command, coupling = roll(table.kind, x, table.attributes, command, coupling, now_s, until_s)
            x, now_s = np.clip(x, low, high), until_s
            values = self._values(table, x, command.value, until_s)
            made[chosen, number] = values.T.reshape(len(chosen), -1)
        return made

    def _chosen(self, series: Series, count: int) -> Rows:
        longest_s = max(self.horizons) * series.period_s
        steps = max(longest_s / self.method.kind.max_step_s, 1.0) * len(self.method.ids)
        most = int(np.clip(MOST_STEPS / steps, 1, self.method.most_origins))
        return np.unique(np.linspace(count - 1, 0, min(most, count)).round().astype(np.intp))

    def _filtered(self, at_s: Column) -> TwinTable:
        """A table of all pairs, origin by origin, each as its twin would stand at ``at_s`` of its origin."""
        method, history = self.method, self.method.history
        n = len(method.ids)
        table = TwinTable(
            method.kind,
            [f"{entity}@{number}" for number in range(len(at_s)) for entity in method.ids],
            np.tile(method.attributes, len(at_s)),
        )
        if method.noises is not None:
            sd, drift = method.noises
            table.set_noises(np.tile(sd, len(at_s)), np.tile(drift, len(at_s)))
        positions, columns = [], []
        for entity in range(n):
            own = np.flatnonzero(history.rows == entity)
            own = own[np.argsort(history.observed_at_s[own], kind="stable")]
            until = np.searchsorted(history.observed_at_s[own], at_s, side="right")
            for number, end in enumerate(until.tolist()):
                heard = own[max(end - method.warm, 0) : end]
                positions.append(heard)
                columns.append(np.full(len(heard), number * n + entity, np.intp))
        taken = np.concatenate(positions)
        table.apply(
            Batch(
                rows=np.concatenate(columns),
                observed_at_s=history.observed_at_s[taken],
                values=history.values[:, taken],
                channels=history.channels[taken],
                keys=history.keys[taken],
            )
        )
        return table

    def _values(self, table: TwinTable, x: Column, command: Column, until_s: Column) -> Column:
        """The fields of all pairs in state ``x`` at ``until_s``, ``(fields, pairs)``."""
        reading, state = table.kind.reading.layout.labels, table.kind.state.layout.labels
        said = table.expected(x, command)
        made = np.empty((len(self.method.fields), len(table)))
        for row, field in enumerate(self.method.fields):
            if field in reading:
                made[row] = said[reading.index(field)]
            elif field in state:
                made[row] = x[state.index(field)]
            else:
                for moment in np.unique(until_s):
                    shown = table.show(float(moment), with_control=False).indicators[field]
                    made[row] = np.where(until_s == moment, shown, made[row])
        return made
