"""What the city can send: units, how long they travel, and the book of who is bound where until when."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from twin_actors.core.columns import Column

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG; Moritz 2000, Geodetic Reference System 1980)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Something that can be sent: a crew, a bus, a mobile generator; ``lat_deg``/``lon_deg`` is its base.

    ``capacity`` is how much of a need it covers, in units of the resource (1 for a crew, 0.5 for a 0.5 MW
    generator). ``pool`` is the resource it counts as; ``skills`` are further resources it can stand in for.
    ``speed_kmh`` 0 or a missing base means that its travel takes no time. A position that is not finite is
    stored as None, so that records compare equal and stay valid JSON.
    """

    id: str
    pool: str
    lat_deg: float | None = None
    lon_deg: float | None = None
    speed_kmh: float = 0.0
    skills: tuple[str, ...] = ()
    capacity: float = 1.0

    def __post_init__(self) -> None:
        _place(self, f"unit {self.id!r}")
        for name in ("speed_kmh", "capacity"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"unit {self.id!r}: {name} must be finite and not negative, not {value}")

    def can_serve(self, resource: str) -> bool:
        return resource == self.pool or resource in self.skills


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A unit sent to an entity for one demand; times in s since the epoch, position that of the entity.

    It leaves base at ``assigned_at_s``, works from ``arrives_at_s`` to ``until_s`` and then drives back. An
    ``until_s`` before ``arrives_at_s`` says that it was called back on its way.
    """

    unit: str
    demand: str
    entity: str
    amount: float
    assigned_at_s: float
    arrives_at_s: float
    until_s: float
    lat_deg: float | None = None
    lon_deg: float | None = None

    def __post_init__(self) -> None:
        _place(self, f"assignment of {self.unit!r}")
        times = (self.assigned_at_s, self.arrives_at_s, self.until_s)
        if not all(map(math.isfinite, times)) or min(times) < self.assigned_at_s:
            raise ValueError(
                f"assignment of {self.unit!r}: arrives_at_s {self.arrives_at_s} and until_s {self.until_s} "
                f"must be finite and not before assigned_at_s {self.assigned_at_s}"
            )

    @property
    def back_at_s(self) -> float:
        """When the unit is back at base: the way back takes as long as the way it had come."""
        return self.until_s + min(self.arrives_at_s, self.until_s) - self.assigned_at_s

    def on_site(self, now_s: float) -> bool:
        return self.arrives_at_s <= now_s < self.until_s

    def way_out(self, now_s: float) -> float:
        """How far from base the unit is, as a part of the whole way: 0 at base, 1 at the entity."""
        whole_s = self.arrives_at_s - self.assigned_at_s
        if whole_s <= 0.0:
            return 1.0 if self.assigned_at_s <= now_s < self.until_s else 0.0
        travelled_s = now_s - self.assigned_at_s if now_s < self.until_s else self.back_at_s - now_s
        return min(max(travelled_s / whole_s, 0.0), 1.0)


def distance_km(lat_deg: ArrayLike, lon_deg: ArrayLike, to_lat_deg: ArrayLike, to_lon_deg: ArrayLike) -> Column:
    """Great-circle distance in km (haversine, Sinnott 1984), arrays broadcast; NaN where a part is."""
    lat, lon, to_lat, to_lon = (
        np.radians(np.asarray(angle, dtype=np.float64)) for angle in (lat_deg, lon_deg, to_lat_deg, to_lon_deg)
    )
    haversine = np.sin((to_lat - lat) / 2.0) ** 2 + np.cos(lat) * np.cos(to_lat) * np.sin((to_lon - lon) / 2.0) ** 2
    # rounding can push antipodes past 1, where arcsin has no answer
    arc: Column = 2.0 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(haversine, 0.0, 1.0)))
    return arc


def travel_s(
    lat_deg: ArrayLike,
    lon_deg: ArrayLike,
    to_lat_deg: ArrayLike,
    to_lon_deg: ArrayLike,
    speed_kmh: ArrayLike,
) -> Column:
    """Travel time in s along the great circle, arrays broadcast.

    0 s where the speed is not positive or a position is unknown (NaN): a scenario without a map, or a
    resource that does not drive (megawatts), is then divided as if everything were at hand.
    """
    way_km, speed = np.broadcast_arrays(
        distance_km(lat_deg, lon_deg, to_lat_deg, to_lon_deg), np.asarray(speed_kmh, dtype=np.float64)
    )
    moves = (speed > 0.0) & np.isfinite(way_km)
    time_s: Column = np.divide(way_km * 3600.0, speed, out=np.zeros(way_km.shape), where=moves)
    return time_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """An immutable book of units and of what they are bound to, at most one assignment a unit.

    The return trip is counted: every trip starts and ends at base, and a unit is free once it is back. So
    travel times that allocation takes from the base are true, and no unit jumps across the city.
    Both tuples are ordered by unit id.
    """

    units: tuple[Unit, ...] = ()
    assignments: tuple[Assignment, ...] = ()

    @classmethod
    def of(cls, units: Iterable[Unit]) -> Self:
        """A fleet with every unit at base. ValueError when an id appears twice."""
        ordered = tuple(sorted(units, key=lambda unit: unit.id))
        refuse_duplicates("unit", [unit.id for unit in ordered])
        return cls(units=ordered)

    def free(self, now_s: float) -> tuple[Unit, ...]:
        """The units at base and not bound, by id."""
        bound = {held.unit for held in self.assignments if held.back_at_s > now_s}
        return tuple(unit for unit in self.units if unit.id not in bound)

    def assign(self, assignments: Iterable[Assignment]) -> Self:
        """Bind units. KeyError for a unit that is not of the fleet, ValueError for one that is not free."""
        known = {unit.id for unit in self.units}
        book = {held.unit: held for held in self.assignments}
        seen: set[str] = set()
        for wanted in assignments:
            if wanted.unit not in known:
                raise KeyError(self._unknown(wanted.unit))
            held = book.get(wanted.unit)
            if wanted.unit in seen or (held is not None and held.back_at_s > wanted.assigned_at_s):
                demand = "" if held is None else held.demand
                raise ValueError(
                    f"{wanted.unit} cannot serve demand {wanted.demand!r}: it is bound to demand {demand!r}; "
                    f"release that one first or choose a free unit"
                )
            seen.add(wanted.unit)
            book[wanted.unit] = wanted
        return self._with(book.values())

    def release(self, demand: str, now_s: float) -> Self:
        """End the work for ``demand`` now: its units turn back where they are. No-op: nobody serves it."""
        return self._with(
            replace(held, until_s=max(now_s, held.assigned_at_s))
            if held.demand == demand and held.until_s > now_s
            else held
            for held in self.assignments
        )

    def step(self, now_s: float) -> tuple[Self, tuple[Unit, ...]]:
        """The book at ``now_s`` and the units that have come back to base since, by id."""
        back = {held.unit for held in self.assignments if held.back_at_s <= now_s}
        if not back:
            return self, ()
        return (
            self._with(held for held in self.assignments if held.unit not in back),
            tuple(unit for unit in self.units if unit.id in back),
        )

    def position(self, unit: str, now_s: float) -> tuple[float, float] | None:
        """(lat_deg, lon_deg) of a unit: at base, on the straight line there or back, on site; None: unknown.

        A unit without a base is known only while it is on site. KeyError for a unit that is not of the fleet.
        """
        base = next((one for one in self.units if one.id == unit), None)
        if base is None:
            raise KeyError(self._unknown(unit))
        home = _point(base.lat_deg, base.lon_deg)
        held = next((one for one in self.assignments if one.unit == unit), None)
        if held is None:
            return home
        site, part = _point(held.lat_deg, held.lon_deg), held.way_out(now_s)
        if site is None or home is None or part in (0.0, 1.0):
            return site if part == 1.0 and site is not None else home
        east_deg = (site[1] - home[1] + 180.0) % 360.0 - 180.0  # the short way round
        lon_deg = (home[1] + part * east_deg + 180.0) % 360.0 - 180.0
        return home[0] + part * (site[0] - home[0]), lon_deg

    def _with(self, assignments: Iterable[Assignment]) -> Self:
        return replace(self, assignments=tuple(sorted(assignments, key=lambda held: held.unit)))

    def _unknown(self, unit: str) -> str:
        near = difflib.get_close_matches(unit, [one.id for one in self.units], n=1)
        return f"no unit {unit!r} in the fleet of {len(self.units)}" + (f" (did you mean {near[0]!r}?)" if near else "")


def refuse_duplicates(what: str, ids: list[str]) -> None:
    """ValueError naming the first of the sorted ``ids`` that appears twice."""
    for one, following in itertools.pairwise(ids):
        if one == following:
            raise ValueError(f"{what} id {one!r} appears twice; ids must be unique")


def _point(lat_deg: float | None, lon_deg: float | None) -> tuple[float, float] | None:
    return None if lat_deg is None or lon_deg is None else (lat_deg, lon_deg)


def _place(record: Unit | Assignment, name: str) -> None:
    """Make an unknown position None in both parts, and refuse one that is not on Earth."""
    lat_deg, lon_deg = known_position(record.lat_deg, record.lon_deg, name)
    object.__setattr__(record, "lat_deg", lat_deg)
    object.__setattr__(record, "lon_deg", lon_deg)


def known_position(lat_deg: float | None, lon_deg: float | None, name: str) -> tuple[float, float] | tuple[None, None]:
    """Both parts as floats, or both None where either is missing or NaN. ValueError off the Earth."""
    if lat_deg is None or lon_deg is None or math.isnan(lat_deg) or math.isnan(lon_deg):
        return None, None
    if not (-90.0 <= lat_deg <= 90.0 and -180.0 <= lon_deg <= 180.0):
        raise ValueError(
            f"{name}: position ({lat_deg}, {lon_deg}) is not on Earth; give lat_deg in [-90, 90] and "
            f"lon_deg in [-180, 180]"
        )
    return float(lat_deg), float(lon_deg)
