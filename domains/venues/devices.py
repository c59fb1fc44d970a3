"""How the counters of venues and walkways behave when they are simulated."""

from __future__ import annotations

from typing import Any

import numpy as np

from domains.venues.doors import inside_persons
from domains.venues.pedestrians import exit_specific_flow, flow_capacity_per_s
from twin_actors.core.columns import Column, Drivers, driver
from twin_actors.core.kind import Devices, Step


class VenueDrivers(Drivers):
    """People who come to the gates and people who want to go home."""

    arrivals_pmin: Column = driver("persons/min", default=20.0, minimum=0.0)
    departures_pmin: Column = driver("persons/min", default=20.0, minimum=0.0)


class FootfallDrivers(Drivers):
    """People who walk past."""

    passers_pph: Column = driver("persons/h", default=600.0, minimum=0.0)


def whole_persons_pmin(mean_pmin: Column, dt_s: Column, chance: np.random.Generator) -> Column:
    """A Poisson number of persons in each stretch of ``dt_s`` as a rate; the mean where no time passes."""
    mean, seconds = np.broadcast_arrays(mean_pmin, dt_s)
    persons = chance.poisson(np.maximum(mean, 0.0) * seconds / 60)
    rate: Column = np.divide(persons * 60.0, seconds, out=np.array(mean, dtype=np.float64), where=seconds > 0)
    return rate


def drive_venue(
    state: Any,
    attributes: Any,
    command: Any,
    couplings: Any,
    drivers: VenueDrivers,
    step: Step,
    chance: np.random.Generator,
) -> Any:
    """People arrive and leave at random about the drivers' means; the exits let out what their width allows.

    The entry gates and the number of people inside are limits of the kind's own ``predict``.
    """
    inside = inside_persons(state, attributes)
    specific = exit_specific_flow(inside / attributes.area_m2)
    exits_pmin = flow_capacity_per_s(specific, attributes.exit_width_m) * 60
    return state.replace(
        inflow_pmin=whole_persons_pmin(drivers.arrivals_pmin, step.dt_s, chance),
        outflow_pmin=np.minimum(whole_persons_pmin(drivers.departures_pmin, step.dt_s, chance), exits_pmin),
    )


def drive_footfall(
    state: Any,
    attributes: Any,
    command: Any,
    couplings: Any,
    drivers: FootfallDrivers,
    step: Step,
    chance: np.random.Generator,
) -> Any:
    """The walkway carries what the driver says; the counter's scatter is the reading's declared ``sd``."""
    return state.replace(flow_pph=np.broadcast_to(drivers.passers_pph, np.shape(state.flow_pph)))


VENUE_DEVICES = Devices(drivers=VenueDrivers, drive=drive_venue, period_s=10.0)
FOOTFALL_DEVICES = Devices(drivers=FootfallDrivers, drive=drive_footfall, period_s=60.0)
