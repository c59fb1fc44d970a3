"""A forecast of one declared field from its readings as they came: irregular, with gaps, of one twin or of many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.forecasts.methods import Method
from twin_actors.core.forecasts.predicted import Predicted, default_methods, predicted
from twin_actors.core.forecasts.series import Series, resample
from twin_actors.core.kind import Kind
from twin_actors.core.layout import Layout

PERIODS_S = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 10_800.0, 21_600.0, 86_400.0)
"""Grids to choose from; each divides a day."""

MOST_ROWS = 5000
"""The past that is looked at: at an hour, seven months; at five minutes, 17 days."""


def period_of(at_s: Column, entity: NDArray[np.intp], horizon_s: float) -> float:
    """The finest of PERIODS_S that the readings fill and that the longest horizon does not stretch over 720 rows.

    Readings fill a grid whose period is not shorter than the median time between two of an entity.
    """
    order = np.lexsort((at_s, entity))
    gaps = np.diff(at_s[order])[np.diff(entity[order]) == 0]
    usual = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else PERIODS_S[-1]
    least = max(usual * 0.999, horizon_s / 720)
    return next((period for period in PERIODS_S if period >= least), PERIODS_S[-1])


def predicted_field(
    kind: Kind,
    label: str,
    *,
    at_s: Column,
    entity: NDArray[np.intp],
    values: Column,
    entities: int,
    now_s: float,
    horizons_s: Sequence[float],
    period_s: float | None = None,
    methods: Sequence[Method] | None = None,
    more_methods: Sequence[Method] = (),
) -> Predicted:
    """Forecast the reading or state row ``label`` of ``entities`` twins from readings ``(m,)`` up to ``now_s``.

    ``entity (m,)`` are columns from 0. The readings are brought to a grid of ``period_s`` (default: ``period_of``)
    that ends at ``now_s``; a horizon is rounded up to whole periods. ``more_methods``, such as the kind's RollOut,
    compete with those that ``methods`` or, by default, the length of the past offer. Forecasts keep to the field's
    declared limits. Raises KeyError for an unknown row and ValueError where the past is too short.
    """
    low, high = _limits(kind, label)
    known = at_s <= now_s
    at_s, entity, values = at_s[known], entity[known], values[known]
    if not len(at_s):
        raise ValueError(f"{kind.name} {label}: there is no history before now to forecast from")
    if not horizons_s or min(horizons_s) <= 0:
        raise ValueError("give at least one horizon above 0 s")
    period = period_s if period_s is not None else period_of(at_s, entity, max(horizons_s))
    rows = int(np.clip(np.floor((now_s - at_s.min()) / period + 1e-9) + 1, 1, MOST_ROWS))
    series = resample(at_s, entity, values, entities=entities, period_s=period, until_s=now_s, rows=rows)
    whole = tuple(float(np.ceil(horizon / period - 1e-9)) * period for horizon in horizons_s)
    if more_methods:
        methods = [*(methods if methods is not None else _offered(series, whole)), *more_methods]
    return predicted(series, whole, methods=methods, minimum=low, maximum=high)


def _offered(series: Series, horizons_s: tuple[float, ...]) -> Sequence[Method]:
    return default_methods(series.head(max(round(0.6 * len(series)), 1)), series.steps(horizons_s))


def _limits(kind: Kind, label: str) -> tuple[float, float]:
    layout: Layout
    for layout in (kind.reading.layout, kind.state.layout):
        if label in layout.labels:
            row = layout.labels.index(label)
            return float(layout.per_row("minimum")[row, 0]), float(layout.per_row("maximum")[row, 0])
    there = dict.fromkeys((*kind.reading.layout.labels, *kind.state.layout.labels))
    raise KeyError(f"{kind.name} has no row {label!r}; it has {', '.join(there)}")
