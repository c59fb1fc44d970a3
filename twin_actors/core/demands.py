"""What entities ask for, and the question of who serves whom as columns over units and demands."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.resources import Unit, known_position, refuse_duplicates, travel_s

TINY = 1e-12
"""Gains below this part of the largest possible gain are rounding, not gains."""

Plan: TypeAlias = NDArray[np.intp]
"""For each unit the place of its demand, −1: it stays."""


LEAST_AMOUNT = 1e-9
"""What is asked for below this is nothing: no resource is divided so finely, and a program's prices would overflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one entity asks for: ``amount`` in units of ``resource``, each worth ``urgency`` where covered.

    ``duration_s`` is how long a unit is bound on the spot. A position that is not finite is stored as None.
    """

    id: str
    entity: str
    resource: str
    amount: float
    urgency: float
    duration_s: float
    lat_deg: float | None = None
    lon_deg: float | None = None

    def __post_init__(self) -> None:
        for name in ("amount", "urgency", "duration_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"demand {self.id!r}: {name} must be finite and not negative, not {value}")
        lat_deg, lon_deg = known_position(self.lat_deg, self.lon_deg, f"demand {self.id!r}")
        object.__setattr__(self, "lat_deg", lat_deg)
        object.__setattr__(self, "lon_deg", lon_deg)


@dataclass(frozen=True, slots=True)
class Problem:
    """Columns over u units and d demands, both in the order of their ids."""

    units: tuple[Unit, ...]
    demands: tuple[Demand, ...]
    capacity: Column  # (u,)
    amount: Column  # (d,)
    urgency: Column  # (d,)
    travel_s: Column  # (u, d)
    cost: Column  # (u, d), of the way there
    able: NDArray[np.bool_]  # (u, d), and alone in the plan the unit would gain there
    tiny: float

    @classmethod
    def of(cls, demands: Iterable[Demand], units: Iterable[Unit], travel_cost_per_h: float) -> Problem:
        wanted = tuple(sorted(demands, key=lambda demand: demand.id))
        fleet = tuple(sorted(units, key=lambda unit: unit.id))
        refuse_duplicates("demand", [demand.id for demand in wanted])
        refuse_duplicates("unit", [unit.id for unit in fleet])

        def column(numbers: Iterable[float | None]) -> Column:
            return np.array(list(numbers), dtype=np.float64)  # None becomes NaN

        capacity = column(unit.capacity for unit in fleet)
        amount = column(demand.amount if demand.amount >= LEAST_AMOUNT else 0.0 for demand in wanted)
        urgency = column(demand.urgency for demand in wanted)
        way_s = travel_s(
            column(unit.lat_deg for unit in fleet)[:, None],
            column(unit.lon_deg for unit in fleet)[:, None],
            column(demand.lat_deg for demand in wanted),
            column(demand.lon_deg for demand in wanted),
            column(unit.speed_kmh for unit in fleet)[:, None],
        )
        cost = way_s / 3600.0 * travel_cost_per_h
        resources = sorted({demand.resource for demand in wanted})
        place = {resource: i for i, resource in enumerate(resources)}
        skilled = np.array(
            [[unit.can_serve(resource) for resource in resources] for unit in fleet], dtype=np.bool_
        ).reshape(len(fleet), len(resources))
        able = skilled[:, [place[demand.resource] for demand in wanted]]
        alone = urgency * np.minimum(capacity[:, None], amount)
        tiny = TINY * float(alone.max(initial=0.0))
        return cls(fleet, wanted, capacity, amount, urgency, way_s, cost, able & (alone - cost > tiny), tiny)

    def forbid(self, unit: int, demand: int) -> Problem:
        able = self.able.copy()
        able[unit, demand] = False
        return replace(self, able=able)

    def carried(self, plan: Plan) -> Column:
        """Capacity sent to each demand ``(d,)``, also what goes beyond its amount."""
        sent = plan >= 0
        carried = np.zeros(len(self.demands))
        np.add.at(carried, plan[sent], self.capacity[sent])
        return carried

    def objective(self, plan: Plan) -> float:
        sent = np.flatnonzero(plan >= 0)
        gain = np.sum(self.urgency * np.minimum(self.amount, self.carried(plan)))
        return float(gain - np.sum(self.cost[sent, plan[sent]]))
