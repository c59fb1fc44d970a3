"""A small made-up city of four kinds, so that these tests need no installed domain."""

from __future__ import annotations

from typing import Any

import pytest

from twin_actors.core.columns import (
    Attributes,
    Axis,
    Column,
    Drivers,
    Reading,
    State,
    attribute,
    driver,
    reading,
    state,
)
from twin_actors.core.kind import Devices, Domain, Kind
from twin_actors.core.view import Policy
from twin_actors.scenario import Catalogue

MOVEMENT = Axis("movement", ("north", "east", "south"))


class CrossingAttributes(Attributes):
    saturation_vph: Column = attribute("veh/h", MOVEMENT, default=1800, minimum=0, maximum=4000)
    lanes: Column = attribute("1", MOVEMENT, minimum=1)


class CrossingReading(Reading):
    queue_veh: Column = reading("veh", MOVEMENT, minimum=0, sd=1)
    speed_kmh: Column = reading("km/h", minimum=0, sd=2)


class CrossingState(State):
    queue_veh: Column = state("veh", MOVEMENT, default=0, unsure_sd=30, drift=60)


class CrossingDrivers(Drivers):
    arrivals_vph: Column = driver("veh/h", MOVEMENT, default=300, minimum=0)


class HallAttributes(Attributes):
    area_m2: Column = attribute("m2", minimum=1, maximum=1e6)
    doors: Column = attribute("1", default=4, minimum=0)


class HallReading(Reading):
    occupancy_persons: Column = reading("persons", minimum=0, sd=2)


class HallState(State):
    occupancy_persons: Column = state("persons", default=0, unsure_sd=100, drift=50)


class HallDrivers(Drivers):
    departures_pmin: Column = driver("persons/min", default=0, minimum=0)


class AirAttributes(Attributes):
    background_ugm3: Column = attribute("ug/m3", default=8, minimum=0)


class AirReading(Reading):
    pm25_ugm3: Column = reading("ug/m3", minimum=0, maximum=1000, sd=2)
    temp_c: Column = reading("degC", sd=0.5)


class AirState(State):
    pm25_ugm3: Column = state("ug/m3", default=10, unsure_sd=10, drift=5)
    temp_c: Column = state("degC", default=10, unsure_sd=10, drift=1)


def _stay(state: Any, *others: Any) -> Any:
    return state


def _nothing(*records: Any) -> dict[str, Column]:
    return {}


def _kind(name: str, *records: type[Any], drivers: type[Drivers] | None = None) -> Kind:
    devices = Devices(drivers=drivers, drive=_stay) if drivers is not None else None
    return Kind(
        name=name,
        doc="",
        attributes=records[0],
        reading=records[1],
        state=records[2],
        predict=_stay,
        indicators=_nothing,
        shows=(),
        devices=devices,
    )


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    kinds = (
        _kind("intersection", CrossingAttributes, CrossingReading, CrossingState, drivers=CrossingDrivers),
        _kind("venue", HallAttributes, HallReading, HallState, drivers=HallDrivers),
        _kind("air_station", AirAttributes, AirReading, AirState),
    )
    emptying = Policy(
        name="venue_emptying",
        doc="",
        propose=lambda view, parameters: (),
        defaults={"outflow_min_pmin": 50.0, "steps": 3, "loud": True, "style": "calm"},
    )
    return Catalogue.of([Domain(name="tiny", doc="", kinds=kinds, policies={emptying.name: emptying})])
