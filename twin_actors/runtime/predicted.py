"""``card.predicted``: what one twin will be, from its history where that suffices, else by its own model."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column, Role
from twin_actors.core.forecasts import MODEL, Predicted, period_of, predicted_field, span
from twin_actors.core.kind import Kind
from twin_actors.core.layout import Layout
from twin_actors.core.outlook import Outlook
from twin_actors.runtime.past import Readings
from twin_actors.runtime.predicting import USABLE, rolled_out
from twin_actors.scenario.model import Entity

if TYPE_CHECKING:
    import pandas as pd

HORIZONS_S = (900.0, 3600.0, 21_600.0, 86_400.0)
"""A quarter of an hour, an hour, a shift, a day. A field that is said less often is forecast in whole periods."""

TOGETHER = 8.0
"""Horizons share one grid of their past while the longest is not more than so many times the shortest: a day ahead
wants weeks of coarse rows, a quarter of an hour the last hours as they were."""

REACH_S = 60 * 86_400.0
"""The past that is looked at, at most."""
LOOK_S = 3 * 3600.0
MOST_MESSAGES = 30_000
"""What is read of it, about: what is said every 10 s reaches back for three days and a half."""

UNSAID = "no reading says it by itself"
INDICATOR = "an indicator, from the state"
Z90 = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedRow:
    """One row of a field at one horizon. ``mae`` and ``last_mae`` are NaN without a backtest; ``why`` says then why."""

    field: str
    unit: str
    horizon_s: float
    at_s: float
    method: str
    q05: float
    q50: float
    q95: float
    mae: float
    last_mae: float
    coverage_90: float
    why: str

    def __str__(self) -> str:
        if not self.method:
            return f"{self.field:<22} +{span(self.horizon_s):<6} not known: {self.why}"
        said = f"{self.q50:.4g} [{self.q05:.4g}, {self.q95:.4g}] {self.unit}"
        if self.why:
            return f"{self.field:<22} +{span(self.horizon_s):<6} {said}  by the {self.method}: {self.why}"
        return (
            f"{self.field:<22} +{span(self.horizon_s):<6} {said}  by {self.method}, off by {self.mae:.3g} so far "
            f"(last value: {self.last_mae:.3g}), covered {100 * self.coverage_90:.0f} %"
        )


class PredictedTwin:
    """What one twin is predicted to say and be: ``predicted["load_mw"]`` are its rows, ``predicted.frame`` all of them.

    Quantiles q05, q50 and q95 of every row. ``method`` is what a rolling backtest has chosen for the field and horizon,
    with its mean absolute error, that of repeating the last value, and the share that the interval held. "model" is the
    twin's own model rolled forward: with an error where it has competed in the backtest, else (and then ``why`` says
    why) with the filter's standard deviation and no backtest.
    """

    def __init__(self, entity: str, made_at_s: float, rows: Sequence[PredictedRow]) -> None:
        self.entity, self.made_at_s, self.rows = entity, made_at_s, tuple(rows)

    def __iter__(self) -> Iterator[PredictedRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, field: str) -> tuple[PredictedRow, ...]:
        """The rows of a field (all its components) or of one label. Raises KeyError with the fields there are."""
        found = tuple(row for row in self.rows if field in (row.field, row.field.partition("[")[0]))
        if not found:
            there = ", ".join(dict.fromkeys(row.field.partition("[")[0] for row in self.rows))
            raise KeyError(f"nothing of {self.entity} called {field!r} is predicted; there are: {there}")
        return found

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a field and horizon (in s); the moment made is in ``df.attrs["made_at_s"]``."""
        import pandas as pd

        frame = pd.DataFrame([asdict(row) for row in self.rows], columns=list(PredictedRow.__slots__))
        frame["at"] = pd.to_datetime(frame.pop("at_s"), unit="s", utc=True)
        frame.attrs.update(entity=self.entity, made_at_s=self.made_at_s)
        return frame.set_index(["field", "horizon_s"])

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain rows for --json; None where a number is not known."""
        return [{name: None if value != value else value for name, value in asdict(row).items()} for row in self.rows]

    def lines(self) -> list[str]:
        return [str(row) for row in self.rows]

    def __repr__(self) -> str:
        return "\n".join([f"{self.entity} predicted", *(f"  {line}" for line in self.lines())])

    def _repr_html_(self) -> str:
        names = ("field", "ahead", "5 %", "50 %", "95 %", "unit", "method", "error", "of the last value", "")
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in table_row(row).values()) + "</tr>"
            for row in self.rows
        )
        head = "".join(f"<th>{name}</th>" for name in names)
        return f"<table><tr>{head}</tr>{body}</table>"


def table_row(row: PredictedRow) -> dict[str, str]:
    """A row as words for a table on a screen."""

    def number(value: float) -> str:
        return "" if value != value else f"{value:.4g}"

    return {
        "field": row.field, "ahead": span(row.horizon_s), "5 %": number(row.q05), "50 %": number(row.q50),
        "95 %": number(row.q95), "unit": row.unit, "method": row.method, "error": number(row.mae),
        "last value's": number(row.last_mae), "why": row.why,
    }  # fmt: skip


class FromHistory(NamedTuple):
    """What the history of one reading field gives: forecasts of some labels; and what is left to the model, and why."""

    found: Mapping[tuple[str, float], tuple[Predicted, int, int]]  # by label and horizon: whose, horizon, column
    left: Mapping[tuple[str, float], str]


def forecastable(kind: Kind) -> tuple[str, ...]:
    """Reading fields that are forecast from their history: those that are watched, but for running totals."""
    fields = kind.reading.layout.fields
    return tuple(name for name, field in fields.items() if field.role is Role.READING and field.watched)


def by_model_alone(kind: Kind) -> tuple[str, ...]:
    """Estimated state fields of which no forecastable reading speaks."""
    readings = kind.reading.layout.fields
    spoken = {readings[name].of or name for name in forecastable(kind)}
    return tuple(
        name for name, field in kind.state.layout.fields.items() if field.role is Role.STATE and name not in spoken
    )


def since_s(heard: Callable[[float], int], now_s: float) -> float:
    """From when on to read a twin's history, so that it is long and about MOST_MESSAGES at most.

    ``heard(since_s)`` counts messages since a moment; the last hours say how often the device speaks.
    """
    lately = heard(now_s - LOOK_S)
    return now_s - min(REACH_S, MOST_MESSAGES * LOOK_S / max(lately, 1))


def from_history(
    kind: Kind, said: Readings, *, now_s: float, horizons_s: Sequence[float] = HORIZONS_S, entity: Entity | None = None
) -> dict[str, FromHistory]:
    """Every forecastable field from what its device has said, as far as that reaches.

    With the scenario's ``entity`` its own model, rolled out from the same readings, competes with the other methods.
    """
    return {name: _field_from_history(kind, name, said, now_s, horizons_s, entity) for name in forecastable(kind)}


def moments(
    histories: Mapping[str, FromHistory], now_s: float, horizons_s: Sequence[float] = HORIZONS_S
) -> list[float]:
    """The moments that the model is asked for: all horizons, and those that a field's own periods have made of them."""
    own = {horizon for each in histories.values() for _, horizon in each.left}
    return [now_s + horizon for horizon in sorted({*horizons_s, *own})]


def predicted_twin(
    kind: Kind,
    entity: str,
    histories: Mapping[str, FromHistory],
    outlook: Outlook,
    *,
    now_s: float,
    until_s: Sequence[float],
    horizons_s: Sequence[float] = HORIZONS_S,
) -> PredictedTwin:
    """Put together what history says (``from_history``) and what the twin's model says at ``until_s`` (``moments``)."""
    column = {round(moment - now_s, 6): number for number, moment in enumerate(until_s)}
    reading, state = kind.reading.layout, kind.state.layout
    rows: list[PredictedRow] = []
    for name, history in histories.items():
        for label in _labels(reading, name):
            own = [horizon for of, horizon in {**history.found, **history.left} if of == label]
            for horizon in sorted(own):
                found = history.found.get((label, horizon))
                if found is not None:
                    rows.append(_by_history(label, reading.fields[name].unit, found))
                else:
                    at, place = column[round(horizon, 6)], reading.labels.index(label)
                    rows.append(
                        _by_model(
                            reading, label, now_s, horizon, outlook.expected[place, at], outlook.spread[place, at],
                            history.left[label, horizon],
                        )
                    )  # fmt: skip
    for name in by_model_alone(kind):
        for label in _labels(state, name):
            place = state.labels.index(label)
            for horizon in horizons_s:
                at = column[round(horizon, 6)]
                rows.append(
                    _by_model(state, label, now_s, horizon, outlook.x[place, at], outlook.sd[place, at], UNSAID)
                )
    units = {shown.name: shown.unit for shown in kind.shows}
    for name, (mean, sd) in outlook.indicators.items():
        if name in histories or name in state.fields:
            continue  # told above, and better
        for horizon in horizons_s:
            at = column[round(horizon, 6)]
            rows.append(_model_row(name, units[name], now_s, horizon, (mean[at], sd[at]), (-np.inf, np.inf), INDICATOR))
    return PredictedTwin(entity, now_s, rows)


def _labels(layout: Layout, name: str) -> list[str]:
    place = layout.places[name]
    return list(layout.labels[place])


def _field_from_history(
    kind: Kind, name: str, said: Readings, now_s: float, horizons_s: Sequence[float], entity: Entity | None
) -> FromHistory:
    layout = kind.reading.layout
    place = layout.places[name]
    use = np.isin(said.quality[place], USABLE) & np.isfinite(said.values[place]) & (said.observed_at_s <= now_s)
    known = np.flatnonzero(use.any(axis=1))  # components that have said something
    component, number = np.nonzero(use[known])
    at_s, values = said.observed_at_s[number], said.values[place][known][component, number]
    labels = [layout.labels[place.start + row] for row in known.tolist()]
    silent = [label for label in _labels(layout, name) if label not in labels]
    found: dict[tuple[str, float], tuple[Predicted, int, int]] = {}
    left = {(label, horizon): "it has said nothing so far" for label in silent for horizon in horizons_s}
    if not len(at_s):
        return FromHistory(found, left)
    usual_s = period_of(at_s, component, 0.0)
    own = sorted({float(np.ceil(horizon / usual_s - 1e-9)) * usual_s for horizon in horizons_s})
    reach_s = now_s - float(at_s.min())
    for horizons in _grouped(own):
        enough = [horizon for horizon in horizons if _needs_s(at_s, component, horizon) <= reach_s]
        if enough:
            said_so = predicted_field(
                kind, labels[0], at_s=at_s, entity=component, values=values, entities=len(labels), now_s=now_s,
                horizons_s=enough, more_methods=[rolled_out(kind, entity, said, labels)] if entity is not None else (),
            )  # fmt: skip
            for order, horizon in enumerate(enough):
                found.update({(label, horizon): (said_so, order, n) for n, label in enumerate(labels)})
        for horizon in horizons:
            if horizon not in enough:
                needs_s = _needs_s(at_s, component, horizon)
                why = f"a history of {_about(reach_s)} is too short, it takes {_about(needs_s)}"
                left.update({(label, horizon): why for label in labels})
    unknown = {key for key, (each, order, n) in found.items() if not np.isfinite(each.quantiles[:, order, n]).all()}
    left.update(dict.fromkeys(unknown, "what it said has too many gaps"))
    return FromHistory({key: value for key, value in found.items() if key not in unknown}, left)


def _grouped(horizons_s: Sequence[float]) -> list[list[float]]:
    """Rising horizons in groups that are forecast together."""
    groups: list[list[float]] = []
    for horizon in horizons_s:
        if groups and horizon <= TOGETHER * groups[-1][0]:
            groups[-1].append(horizon)
        else:
            groups.append([horizon])
    return groups


def _needs_s(at_s: Column, component: NDArray[np.intp], horizon_s: float) -> float:
    """The least history for a backtest of this horizon; see ``core.forecasts.predicted``."""
    period_s = period_of(at_s, component, horizon_s)
    return (3 * np.ceil(horizon_s / period_s - 1e-9) + 12) * period_s


def _about(seconds: float) -> str:
    """A stretch of time in its largest unit."""
    for name, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.0f} s"


def _by_history(label: str, unit: str, found: tuple[Predicted, int, int]) -> PredictedRow:
    said, order, n = found
    middle = said.levels.index(0.5)
    return PredictedRow(
        field=label,
        unit=unit,
        horizon_s=said.horizons_s[order],
        at_s=said.at_s[order],
        method=said.methods[order],
        q05=float(said.quantiles[0, order, n]),
        q50=float(said.quantiles[middle, order, n]),
        q95=float(said.quantiles[-1, order, n]),
        mae=float(said.mae[order, n]),
        last_mae=float(said.last_mae[order, n]),
        coverage_90=float(said.coverage[order]),
        why="",
    )


def _by_model(
    layout: Layout, label: str, now_s: float, horizon_s: float, middle: float, sd: float, why: str
) -> PredictedRow:
    field = layout.fields[layout.field_of_row()[layout.labels.index(label)]]
    return _model_row(label, field.unit, now_s, horizon_s, (middle, sd), (field.minimum, field.maximum), why)


def _model_row(
    label: str, unit: str, now_s: float, horizon_s: float, said: tuple[float, float], limits: tuple[float, float],
    why: str,
) -> PredictedRow:  # fmt: skip
    """The filter's own distribution, taken for normal and cut at the field's limits."""
    middle, sd = said
    known = bool(np.isfinite(middle) and np.isfinite(sd))
    low, mid, high = np.clip([middle - Z90 * sd, middle, middle + Z90 * sd], *limits)
    return PredictedRow(
        field=label,
        unit=unit,
        horizon_s=horizon_s,
        at_s=now_s + horizon_s,
        method=MODEL if known else "",
        q05=float(low),
        q50=float(mid),
        q95=float(high),
        mae=float("nan"),
        last_mae=float("nan"),
        coverage_90=float("nan"),
        why=why if known else f"{why}, and the model does not know it",
    )
