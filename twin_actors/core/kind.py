"""What a domain author writes: a Kind (five records and a handful of pure functions) and a Domain of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from twin_actors.core.columns import (
    Attributes,
    Column,
    Columns,
    Command,
    Couplings,
    Drivers,
    Reading,
    Role,
    State,
    Windows,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One stretch of time, per entity: ``dt_s`` seconds ending at ``at_s`` (s since the epoch, float64).

    ``points``: the samples ``(…, samples, n)`` are the points of a joint filter, of which only the first keeps its
    memory fields. A sum that no state depends on (ageing, vehicles served) may then be left as it is in the others.
    """

    dt_s: Column
    at_s: Column
    points: bool = False


Indicators: TypeAlias = Mapping[str, Column]


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """The name, unit and meaning of one column that ``indicators`` returns."""

    name: str
    unit: str
    doc: str = ""
    labels: tuple[str, ...] = ()  # of a rating: the words for 0, 1, 2, …, e.g. ("A", "B", "C", "D", "E", "F")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A limit with hysteresis: raised when ``of`` passes the limit for ``for_s``, cleared past ``clear``.

    ``of`` names an indicator or a scalar state field; exactly one of ``above`` and ``below`` is given, as a
    number or the name of a scalar attribute. ``clear`` defaults to the limit itself.
    """

    name: str
    of: str
    above: float | str | None = None
    below: float | str | None = None
    clear: float | str | None = None
    for_s: float = 0.0
    severity: Literal["info", "warning", "critical"] = "warning"
    says: str = ""
    emergency: bool = False

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"alert {self.name!r}: give exactly one of above and below")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the entities of a kind ask the city for, per entity: columns ``(n,)``.

    ``amount`` in units of the resource (0: nothing), ``urgency`` ≥ 0 weighs one unit of it, ``duration_s`` is how
    long a unit is bound on the spot.
    """

    amount: Column
    urgency: Column
    duration_s: Column


PredictFn: TypeAlias = Callable[[Any, Any, Any, Any, Step], Any]
ObserveFn: TypeAlias = Callable[[Any, Any, Any], Mapping[str, Column]]
IndicatorsFn: TypeAlias = Callable[[Any, Any, Any, Any], Indicators]
NeedsFn: TypeAlias = Callable[[Any, Any, Indicators], Mapping[str, Need]]
ControlFn: TypeAlias = Callable[[Any, Any, Any, Indicators], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """How hardware of a kind behaves when it is simulated; the truth moves by the kind's own ``predict``.

    ``drive(state, attributes, command, couplings, drivers, step, chance)`` returns the state with what the outside
    world decides (demand, weather) set anew before ``predict`` moves it; ``chance`` is a numpy Generator.
    Readings are what ``observe`` expects plus noise of the declared ``sd``.
    """

    drivers: type[Drivers]
    drive: Callable[[Any, Any, Any, Any, Any, Step, np.random.Generator], Any]
    period_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A class of entities with one model. All functions are pure and take columns.

    ``predict(state, attributes, command, couplings, step) -> State``
    ``indicators(state, attributes, command, windows) -> {name: column}``
    ``observe(state, attributes, command) -> {reading field: expected column}`` where a reading is not its state field
    ``needs(state, attributes, indicators) -> {resource: Need}``
    ``control(state, attributes, command, indicators) -> Command`` what a local controller would set
    """

    name: str
    doc: str
    attributes: type[Attributes]
    reading: type[Reading]
    state: type[State]
    predict: PredictFn
    indicators: IndicatorsFn
    shows: tuple[Indicator, ...]
    command: type[Command] = Command
    couplings: type[Couplings] = Couplings
    windows: type[Windows] = Windows
    observe: ObserveFn | None = None
    alerts: tuple[Alert, ...] = ()
    needs: NeedsFn | None = None
    control: ControlFn | None = None
    filter: Literal["diagonal", "joint"] = "diagonal"
    max_step_s: float = 60.0
    stale_after_s: float = 300.0
    devices: Devices | None = None
    headline: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_measurements()
        self._check_windows()
        known = {*(shown.name for shown in self.shows), *self.state.layout.fields}
        for alert in self.alerts:
            if alert.of not in known:
                raise ValueError(
                    f"kind {self.name}: alert {alert.name!r} watches {alert.of!r}, "
                    "which is neither an indicator nor a state"
                )
            for limit in (alert.above, alert.below, alert.clear):
                if isinstance(limit, str) and limit not in self.attributes.layout.fields:
                    raise ValueError(
                        f"kind {self.name}: alert {alert.name!r} takes its limit from {limit!r}, "
                        "which is not an attribute"
                    )

    def _check_measurements(self) -> None:
        for name, declared in self.reading.layout.fields.items():
            target = declared.of or name
            measured = self.state.layout.fields.get(target)
            if measured is None:
                if declared.of:
                    raise ValueError(
                        f"kind {self.name}: reading {name!r} measures {target!r}, which is not a state field"
                    )
                continue  # reported only, or expected by observe
            if measured.axes != declared.axes:
                raise ValueError(f"kind {self.name}: reading {name!r} and state {target!r} have different axes")
            if measured.role is Role.MEMORY:
                raise ValueError(f"kind {self.name}: {target!r} is memory and cannot be measured")

    def _check_windows(self) -> None:
        for name, declared in self.windows.layout.fields.items():
            source = self.reading.layout.fields.get(declared.of)
            if source is None or source.axes != declared.axes:
                raise ValueError(
                    f"kind {self.name}: window {name!r} keeps {declared.of!r}, which is not a reading of the same axes"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A plug-in: kinds, and the city-wide policies that a scenario may name."""

    name: str
    doc: str
    kinds: tuple[Kind, ...] = ()
    policies: Mapping[str, Any] = field(default_factory=dict)  # name -> twin_actors.core.view.Policy


def records(kind: Kind) -> dict[str, type[Columns]]:
    """The records of a kind by the name users know them by."""
    return {
        "attributes": kind.attributes,
        "reading": kind.reading,
        "state": kind.state,
        "command": kind.command,
        "couplings": kind.couplings,
        "windows": kind.windows,
    }
