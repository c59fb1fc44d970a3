"""The kind's own model as a forecast method: twins filtered up to the origin, then ``predict`` rolled out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.forecasts.methods import Fitted
from twin_actors.core.forecasts.series import Rows, Series
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable


@dataclass(frozen=True, slots=True, kw_only=True)
class RollOut:
    """``history`` are the inputs of the twins ``ids`` in log order, ``field`` the state row or indicator that the
    series holds (a label such as ``queue_veh[nl]``). Commands and couplings are taken as they stand at the origin."""

    kind: Kind
    ids: tuple[str, ...]
    attributes: Column
    history: Batch
    field: str

    @property
    def name(self) -> str:
        return "model"

    def fit(self, series: Series, horizons: Sequence[int]) -> Fitted:
        known = {*self.kind.state.layout.labels, *(shown.name for shown in self.kind.shows)}
        if self.field not in known:
            raise ValueError(f"{self.kind.name} has no state or indicator {self.field!r}: {', '.join(sorted(known))}")
        return _RollOut(self, tuple(horizons))


@dataclass(frozen=True, slots=True)
class _RollOut:
    method: RollOut
    horizons: tuple[int, ...]

    def at(self, series: Series, origins: Rows) -> Column:
        """Inputs later than an origin have not been applied when its forecast is made (by device time)."""
        method = self.method
        table = TwinTable(method.kind, method.ids, method.attributes)
        made = np.empty((len(origins), len(self.horizons), len(method.ids)))
        order = np.argsort(method.history.observed_at_s, kind="stable")
        times = method.history.observed_at_s[order]
        applied = 0
        for place in np.argsort(origins, kind="stable"):
            at_s = series.until_s - (len(series) - 1 - int(origins[place])) * series.period_s
            upto = int(np.searchsorted(times, at_s, side="right"))
            if upto > applied:
                table.apply(_part(method.history, order[applied:upto]))
                applied = upto
            for number, horizon in enumerate(self.horizons):
                made[place, number] = self._value(table, at_s + horizon * series.period_s)
        return made

    def _value(self, table: TwinTable, at_s: float) -> Column:
        labels = table.kind.state.layout.labels
        if self.method.field in labels:
            x, _ = table.at(at_s)
            return np.asarray(x[labels.index(self.method.field)])
        return np.asarray(table.show(at_s, with_control=False).indicators[self.method.field])


def _part(batch: Batch, positions: Rows) -> Batch:
    return Batch(
        rows=batch.rows[positions],
        observed_at_s=batch.observed_at_s[positions],
        values=batch.values[:, positions],
        channels=batch.channels[positions],
        keys=batch.keys[positions],
    )
