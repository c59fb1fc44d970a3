"""Declared columns: the records a kind is made of, stored as one (rows, …, n) matrix with fields as views.

The entity is always the last axis, samples (if any) stand before it, and the components of a vector field
come first: ``(component, …, sample, …, entity)``. With that order scalars broadcast over vectors and a sum
over components is ``sum(axis=0)``, whatever the number of samples.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.layout import Layout
from twin_actors.core.units import known_unit

Column: TypeAlias = NDArray[np.float64]
"""One field of many entities: ``(n,)``, or ``(components, n)`` with samples before ``n`` when forked."""

INF = math.inf
NAN = math.nan


@dataclass(frozen=True, slots=True)
class Axis:
    """The named components of a vector field, e.g. the movements of an intersection."""

    name: str
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


class Role(enum.Enum):
    """What a declared field is for; a record may only hold fields of the roles it names in ``ROLES``."""

    ATTRIBUTE = "attribute"
    READING = "reading"
    RUNNING_TOTAL = "running_total"
    STATE = "state"
    MEMORY = "memory"
    COMMAND = "command"
    COUPLING = "coupling"
    HOURLY = "hourly"
    PROFILE = "profile"
    DRIVER = "driver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A declared column: its unit, its limits and how far it can be trusted.

    ``sd`` is the standard deviation of one measurement, ``unsure_sd`` that of a value never measured,
    ``drift`` the growth of uncertainty in unit/√hour while nothing is heard.
    """

    role: Role
    unit: str
    axes: tuple[Axis, ...] = ()
    minimum: float = -INF
    maximum: float = INF
    default: float | tuple[float, ...] = NAN  # a tuple gives one number per component, in row order
    sd: float = 0.0
    of: str = ""
    max_rate: float = INF
    stuck_after_s: float = INF
    integer: bool = False
    smooth: float = 1.0
    normalise: bool = False
    watched: bool = True
    unsure_sd: float = 0.0
    drift: float = 0.0
    hold_s: float = INF
    resets: str = "detect"
    keep: int = 0
    period_s: float = 0.0
    bins: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Component shape: ``()`` for a scalar, ``(8,)`` for eight movements; windows add their slots first."""
        components = tuple(len(axis) for axis in self.axes)
        if self.role is Role.HOURLY:
            return (self.keep, *components)
        if self.role is Role.PROFILE:
            return (self.bins, *components)
        return components

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __post_init__(self) -> None:
        if not known_unit(self.unit):
            raise ValueError(f"unknown unit {self.unit!r}: use a unit of twin_actors.core.units or register it there")
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        if isinstance(self.default, tuple) and len(self.default) != self.size:
            raise ValueError(f"default has {len(self.default)} numbers, the field has {self.size} components")
        if not 0 < self.smooth <= 1:
            raise ValueError(f"smooth is the α of y = αx + (1 − α)y and must lie in (0, 1], not {self.smooth}")
        if self.normalise and not (math.isfinite(self.minimum) and math.isfinite(self.maximum)):
            raise ValueError("normalise needs a finite minimum and maximum: y = (x − min)/(max − min)")


def attribute(
    unit: str,
    *axes: Axis,
    default: float | tuple[float, ...] = NAN,
    minimum: float = -INF,
    maximum: float = INF,
) -> Any:
    """A constant of an entity, e.g. rated power. Without ``default`` the scenario must give it."""
    return Field(role=Role.ATTRIBUTE, unit=unit, axes=axes, default=default, minimum=minimum, maximum=maximum)


def reading(
    unit: str,
    *axes: Axis,
    minimum: float = -INF,
    maximum: float = INF,
    sd: float,
    of: str = "",
    max_rate: float = INF,
    stuck_after_s: float = INF,
    integer: bool = False,
    smooth: float = 1.0,
    normalise: bool = False,
    watched: bool = True,
) -> Any:
    """What a device reports. ``of`` names the state field it measures (default: the one of its own name).

    ``max_rate`` in unit/s and ``stuck_after_s`` in s are cleaning limits; ``smooth`` is the α of the
    exponential filter y[n] = αx[n] + (1 − α)y[n−1] (1: off, the default, because a smoothed input makes the
    errors of neighbouring readings dependent and spoils the filter's intervals); ``normalise`` turns the
    cleaned value into y = (x − min)/(max − min). ``watched=False`` leaves a field without an anomaly detector (half a
    kilobyte a row): no score and no reason, while cleaning, estimate and the twin's fidelity go on.
    """
    return Field(
        role=Role.READING,
        unit=unit,
        axes=axes,
        minimum=minimum,
        maximum=maximum,
        sd=sd,
        of=of,
        max_rate=max_rate,
        stuck_after_s=stuck_after_s,
        integer=integer,
        smooth=smooth,
        normalise=normalise,
        watched=watched,
    )


MOST_COUNTED: Final = 2.0**53
"""Counters beyond this no longer count one by one in a float64; a larger total is a fault of its device."""


def running_total(
    unit: str, *axes: Axis, of: str, sd: float = 0.5, maximum: float = MOST_COUNTED, resets: str = "detect"
) -> Any:
    """A device's own counter, seen as the level of the state field ``of``; lost messages heal by themselves.

    ``resets="detect"``: a total below the last one is taken for a restart of the counter and the level goes on
    from where it was. ``resets="never"``: the total is the level as it is, also when it falls.
    """
    if resets not in ("detect", "never"):
        raise ValueError(f"resets is 'detect' or 'never', not {resets!r}")
    return Field(
        role=Role.RUNNING_TOTAL,
        unit=unit,
        axes=axes,
        minimum=0.0,
        maximum=maximum,
        sd=sd,
        of=of,
        resets=resets,
    )


def state(
    unit: str,
    *axes: Axis,
    default: float | tuple[float, ...],
    unsure_sd: float,
    drift: float,
    minimum: float = -INF,
    maximum: float = INF,
) -> Any:
    """Something that needs its own past and is estimated, with ``drift`` in unit/√hour."""
    return Field(
        role=Role.STATE,
        unit=unit,
        axes=axes,
        default=default,
        unsure_sd=unsure_sd,
        drift=drift,
        minimum=minimum,
        maximum=maximum,
    )


def memory(unit: str, *axes: Axis, default: float = 0.0, minimum: float = -INF, maximum: float = INF) -> Any:
    """Exact state that only ``predict`` moves and nothing measures, e.g. hours of insulation ageing."""
    return Field(role=Role.MEMORY, unit=unit, axes=axes, default=default, minimum=minimum, maximum=maximum)


def command(
    unit: str,
    *axes: Axis,
    default: float | tuple[float, ...],
    minimum: float = -INF,
    maximum: float = INF,
    hold_s: float = INF,
) -> Any:
    """A set point of a device; it returns to ``default`` when ``hold_s`` has passed since it took effect."""
    return Field(
        role=Role.COMMAND,
        unit=unit,
        axes=axes,
        default=default,
        minimum=minimum,
        maximum=maximum,
        hold_s=hold_s,
    )


def coupling(unit: str, *axes: Axis, default: float = 0.0, hold_s: float = 900.0) -> Any:
    """What other twins do to this one; it returns to ``default`` after ``hold_s`` without news."""
    return Field(role=Role.COUPLING, unit=unit, axes=axes, default=default, hold_s=hold_s)


def hourly(unit: str, *axes: Axis, of: str, keep: int = 12) -> Any:
    """Clock-hour means of the reading field ``of``: slot 0 is the hour under way, NaN where nothing was said."""
    return Field(role=Role.HOURLY, unit=unit, axes=axes, of=of, keep=keep)


def profile(unit: str, *axes: Axis, of: str, period: str = "week", bins: int = 168) -> Any:
    """The usual course of the reading field ``of`` over a day or week, learnt bin by bin; NaN until seen."""
    periods = {"day": 86_400.0, "week": 604_800.0}
    if period not in periods:
        raise ValueError(f"period is 'day' or 'week', not {period!r}")
    return Field(role=Role.PROFILE, unit=unit, axes=axes, of=of, bins=bins, period_s=periods[period])


def driver(
    unit: str, *axes: Axis, default: float | tuple[float, ...], minimum: float = -INF, maximum: float = INF
) -> Any:
    """What the outside world does to a simulated entity (demand, weather); a story may set it."""
    return Field(role=Role.DRIVER, unit=unit, axes=axes, default=default, minimum=minimum, maximum=maximum)


def _same_memory(one: Column, other: Column) -> bool:
    """Whether two columns are views of the very same numbers."""
    return bool(
        isinstance(one, np.ndarray)
        and one.shape == other.shape
        and one.strides == other.strides
        and one.__array_interface__["data"][0] == other.__array_interface__["data"][0]
    )


class Columns:
    """A frozen record of declared columns. Subclass it and declare fields; never assign to an instance."""

    ROLES: ClassVar[frozenset[Role]] = frozenset(Role)
    layout: ClassVar[Layout] = Layout({}, {}, 0, ())
    _views: ClassVar[tuple[tuple[str, int | slice, tuple[int, ...]], ...]] = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        fields = dict(cls.layout.fields)
        for name, value in list(vars(cls).items()):
            if isinstance(value, Field):
                if value.role not in cls.ROLES:
                    allowed = ", ".join(sorted(role.value for role in cls.ROLES))
                    raise TypeError(f"{cls.__name__}.{name} is a {value.role.value}, expected one of: {allowed}")
                fields[name] = value
                delattr(cls, name)
        cls.layout = Layout.of(fields)
        cls._views = tuple(
            (
                name,
                cls.layout.places[name].start if not declared.shape else cls.layout.places[name],
                declared.shape if len(declared.shape) > 1 else (),
            )
            for name, declared in fields.items()
        )

    def __init__(self, **columns: Any) -> None:
        unknown = columns.keys() - self.layout.fields.keys()
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no field {', '.join(sorted(unknown))}; "
                f"its fields are {', '.join(self.layout.fields)}"
            )
        for name, declared in self.layout.fields.items():
            if name not in columns and isinstance(declared.default, tuple):
                raise TypeError(f"{type(self).__name__}({name}=…) must be given: its default differs by component")
            value = columns.get(name, declared.default)
            self.__dict__[name] = np.asarray(value, dtype=np.float64)

    @classmethod
    def of_block(cls, matrix: Column) -> Self:
        """Fields as views of ``matrix`` ``(rows, …, n)``; nothing is copied."""
        self = object.__new__(cls)
        columns = self.__dict__
        for name, place, shape in cls._views:
            view = matrix[place]
            columns[name] = view.reshape(shape + matrix.shape[1:]) if shape else view
        return self

    @classmethod
    def of_fields(cls, columns: Mapping[str, Any]) -> Self:
        """Every field as it is given, ``(size, …, n)``, in whatever type of number; nothing is copied or checked."""
        self = object.__new__(cls)
        self.__dict__.update(columns)
        return self

    def block(self, tail: tuple[int, ...], into: Column | None = None) -> Column:
        """The matrix ``(rows, *tail)`` of this record; fields are broadcast over ``tail`` (a copy).

        ``into``: the matrix that a record was made of by ``of_block``, which this one follows from and which nobody
        needs any more. It is overwritten with what has changed, unless a column lies in the memory of another.
        """
        mine = {} if into is None else type(self).of_block(into).__dict__
        changed = [name for name, old in mine.items() if not _same_memory(self.__dict__[name], old)]
        if into is None or any(np.may_share_memory(into, self.__dict__[name]) for name in changed):
            matrix, changed = np.empty((self.layout.rows, *tail), dtype=np.float64), list(self.layout.places)
        else:
            matrix = into
        for name in changed:
            shape = self.layout.fields[name].shape
            matrix[self.layout.places[name]].reshape(shape + tail)[...] = self.__dict__[name]
        return matrix

    def replace(self, **columns: Any) -> Self:
        """The same record with some columns changed."""
        unknown = columns.keys() - self.layout.fields.keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        changed = object.__new__(type(self))
        changed.__dict__.update(self.__dict__)
        changed.__dict__.update(columns)
        return changed

    @classmethod
    def defaults(cls, n: int) -> Self:
        """Declared defaults for ``n`` entities (NaN where a field has none)."""
        return cls.of_block(np.repeat(cls.layout.per_row("default"), n, axis=1))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; use .replace({name}=…)")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self.layout.fields)
        return f"{type(self).__name__}({shown})"


class Attributes(Columns):
    """Constants of an entity."""

    ROLES = frozenset({Role.ATTRIBUTE})


class Reading(Columns):
    """What devices report."""

    ROLES = frozenset({Role.READING, Role.RUNNING_TOTAL})


class State(Columns):
    """What needs its own past."""

    ROLES = frozenset({Role.STATE, Role.MEMORY})


class Command(Columns):
    """Set points in force."""

    ROLES = frozenset({Role.COMMAND})


class Couplings(Columns):
    """What other twins do to this one."""

    ROLES = frozenset({Role.COUPLING})


class Windows(Columns):
    """Recent hours and usual courses, kept by the core outside the state matrix."""

    ROLES = frozenset({Role.HOURLY, Role.PROFILE})


class Drivers(Columns):
    """What the outside world does to a simulated entity."""

    ROLES = frozenset({Role.DRIVER})
