"""A readable card of one twin: reported, estimated ± sd, desired against in force, alerts, and how far to trust it."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from twin_actors.core.cleaning import Quality
from twin_actors.core.kind import Kind
from twin_actors.core.layout import Layout
from twin_actors.core.showing import Shown
from twin_actors.scenario.model import Entity

if TYPE_CHECKING:
    from twin_actors.runtime.predicted import PredictedTwin


class TwinCard:
    """One twin at one moment. Fields are attributes: ``card.load_mw``, ``card.reported.queue_veh``."""

    def __init__(
        self, kind: Kind, entity: Entity, shown: Shown, column: int, reported: dict[str, Any],
        predict: Callable[[], PredictedTwin] | None = None,
    ) -> None:  # fmt: skip
        self.kind, self.entity, self.id = kind, entity, entity.id
        self.at_s = shown.now_s
        self.age_s = max(float(shown.age_s[column]), 0.0)  # devices may be a moment ahead of us
        self.revision = int(shown.revision[column])
        self.estimated = Values(kind.state.layout, shown.x[:, column])
        self.sd = Values(kind.state.layout, shown.sd[:, column])
        self.in_force = Values(kind.command.layout, shown.command[:, column])
        self.desired = Values(kind.command.layout, shown.desired[:, column])
        self.couplings = Values(kind.couplings.layout, shown.couplings[:, column])
        self.reported = Values(kind.reading.layout, reported["value"])
        self.reported_at_s = Values(kind.reading.layout, reported["at_s"])
        self.quality = Values(kind.reading.layout, reported["quality"])
        self.indicators = {name: float(values[column]) for name, values in shown.indicators.items()}
        self.alerts = [name for name, active in shown.alerts.items() if active[column]]
        self.fates = dict(zip(("applied", "duplicate", "late", "rejected"), map(int, reported["fates"]), strict=True))
        self.missing_upstream = reported["missing_upstream"]
        self.score = Values(kind.reading.layout, reported["score"])
        self.reasons: dict[str, str] = reported["reasons"]
        self.model_errors, self.failure = reported["model_errors"], reported["failure"]
        self.innovation_rmse = Values(kind.reading.layout, shown.fidelity.rmse[:, column])
        self.coverage_90 = Values(kind.reading.layout, shown.fidelity.covered[:, column])
        self.drifting = bool(shown.fidelity.drifting[column])
        self._reported = reported
        self._predict = predict
        self.has_predicted = False

    @functools.cached_property
    def predicted(self) -> PredictedTwin:
        """Every field a quarter of an hour to a day ahead; worked out when it is first asked for, and then shown with
        the card. Raises ValueError for the card of a past moment."""
        if self._predict is None:
            raise ValueError(f"this card shows {self.id} as it was: ask city[{self.id!r}] for what will be")
        said = self._predict()
        self.has_predicted = True
        return said

    def source(self, field: str) -> str:
        """Where the value of a state field comes from: measured, estimated, or assumed (never measured)."""
        for name, declared in self.kind.reading.layout.fields.items():
            if (declared.of or name) == field:
                at_s = np.max(self._reported["at_s"][self.kind.reading.layout.places[name]])
                if np.isfinite(at_s):
                    return "measured" if self.at_s - at_s <= self.kind.stale_after_s else "stale"
        unsure = self.kind.state.layout.fields[field].unsure_sd
        if unsure == 0:
            return "computed"
        return "estimated" if np.max(getattr(self.sd, field)) < 0.98 * unsure else "assumed"

    @property
    def differs(self) -> dict[str, tuple[Any, Any]]:
        """Command fields in which what we asked for (desired) is not what is in force (reported)."""
        return {
            name: (getattr(self.desired, name), getattr(self.in_force, name))
            for name in self.kind.command.layout.fields
            if not np.all(
                np.isnan(getattr(self.desired, name))
                | np.isclose(getattr(self.desired, name), getattr(self.in_force, name))
            )
        }

    def __getattr__(self, name: str) -> Any:
        for part in ("estimated", "in_force", "reported"):
            values = self.__dict__.get(part)
            if values is not None and name in values.names:
                return getattr(values, name)
        if name in self.__dict__.get("indicators", {}):
            return self.indicators[name]
        raise AttributeError(f"{self.__dict__.get('id', 'twin')} has no field {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.estimated.names, *self.in_force.names, *self.indicators]

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """(field, value, unit, source, reported) for display."""
        lines = []
        for name, field in self.kind.state.layout.fields.items():
            value, sd = np.atleast_1d(getattr(self.estimated, name)), np.atleast_1d(getattr(self.sd, name))
            shown = " ".join(f"{v:.4g}±{s:.2g}" if s else f"{v:.4g}" for v, s in zip(value.flat, sd.flat, strict=True))
            said = [n for n, d in self.kind.reading.layout.fields.items() if (d.of or n) == name]
            last = " ".join(f"{v:.4g}" for n in said for v in np.atleast_1d(getattr(self.reported, n)).flat)
            lines.append((name, shown, field.unit, self.source(name), last))
        return lines

    def fidelity_rows(self) -> list[tuple[str, str, float, float]]:
        """(reading field, unit, innovation rmse, coverage of the 90 % interval), fields with a comparison only.

        Of a vector field the root mean square over its components and the least coverage of any.
        """
        rows = []
        for name, field in self.kind.reading.layout.fields.items():
            rmse = np.atleast_1d(getattr(self.innovation_rmse, name))
            covered = np.atleast_1d(getattr(self.coverage_90, name))
            known = np.isfinite(rmse)
            if known.any():
                rows.append((name, field.unit, float(np.sqrt((rmse[known] ** 2).mean())), float(covered[known].min())))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The card as plain values, for --json."""

        def plain(values: Values) -> dict[str, Any]:
            return {name: _number(getattr(values, name)) for name in values.names}

        return {
            "id": self.id,
            "at_s": self.at_s,
            "age_s": _number(self.age_s),
            "revision": self.revision,
            "reported": plain(self.reported),
            "quality": {name: _quality(getattr(self.quality, name)) for name in self.quality.names},
            "estimated": plain(self.estimated),
            "sd": plain(self.sd),
            "source": {name: self.source(name) for name in self.estimated.names},
            "in_force": plain(self.in_force),
            "desired": plain(self.desired),
            "couplings": plain(self.couplings),
            "indicators": {name: _number(value) for name, value in self.indicators.items()},
            "alerts": self.alerts,
            "fidelity": {
                "innovation_rmse": plain(self.innovation_rmse),
                "coverage_90": plain(self.coverage_90),
                "drifting": self.drifting,
            },
            "fates": self.fates,
            "missing_upstream": self.missing_upstream,
            "model_errors": self.model_errors,
            "failure": self.failure,
            "score": plain(self.score),
            "reasons": self.reasons,
            **({"predicted": self.predicted.to_dict()} if self.has_predicted else {}),
        }

    def __repr__(self) -> str:
        age = "never heard" if np.isinf(self.age_s) else f"heard {self.age_s:.0f} s ago"
        lines = [f"{self.id}  ({age}, revision {self.revision})"]
        for name, value, unit, source, said in self.rows():
            reported = f"  reported {said}" if said else ""
            lines.append(f"  {name:<22} {value} {unit}  [{source}]{reported}")
        for shown in self.kind.shows:
            value = self.indicators[shown.name]
            word = shown.labels[int(value)] if shown.labels and 0 <= value < len(shown.labels) else f"{value:.4g}"
            lines.append(f"  {shown.name:<22} {word} {'' if shown.labels else shown.unit}")
        for name, (desired, in_force) in self.differs.items():
            lines.append(f"  {name:<22} desired {desired} but in force {in_force}")
        for name, unit, rmse, covered in self.fidelity_rows():
            lines.append(
                f"  {name:<22} expected within {rmse:.3g} {unit} lately, 90 % interval held {100 * covered:.0f} %"
            )
        if self.drifting:
            lines.append("  DRIFTS: its intervals no longer hold its readings; check the sensor or calibrate the model")
        if self.model_errors:
            lines.append(f"  the model failed {self.model_errors} times: {self.failure or 'no finite state'}")
        lines += [f"  surprising: {words}" for words in self.reasons.values()]
        if self.alerts:
            lines.append(f"  ALERTS: {', '.join(self.alerts)}")
        if self.has_predicted:
            lines += ["  predicted", *(f"    {line}" for line in self.predicted.lines())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = "".join(
            "<tr>" + "".join(f"<td>{html.escape(part)}</td>" for part in row) + "</tr>" for row in self.rows()
        )
        head = "".join(f"<th>{name}</th>" for name in ("field", "value", "unit", "source", "reported"))
        predicted = f"<i>predicted</i>{self.predicted._repr_html_()}" if self.has_predicted else ""
        return f"<b>{html.escape(self.id)}</b><table><tr>{head}</tr>{cells}</table>{predicted}"


class Values:
    """Fields of one record of one twin as attributes: a number, or an array over components."""

    def __init__(self, layout: Layout, column: Any) -> None:
        self.names = tuple(layout.fields)
        for name, place in layout.places.items():
            shape = layout.fields[name].shape
            value = column[place].reshape(shape) if shape else column[place.start].item()
            self.__dict__[name] = value

    def __repr__(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.names)


def _number(value: Any) -> Any:
    array = np.asarray(value, dtype=np.float64)
    plain = np.where(np.isfinite(array), array, np.nan).tolist()

    def known(each: Any) -> Any:
        if isinstance(each, list):
            return [known(part) for part in each]
        return None if each != each else each

    return known(plain)


def _quality(value: Any) -> Any:
    codes = np.atleast_1d(np.asarray(value))
    words = [Quality(int(code)).name.lower() for code in codes.flat]
    return words[0] if len(words) == 1 else words
