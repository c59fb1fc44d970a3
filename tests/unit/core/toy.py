"""Two small kinds for the core's own tests: a tank measured directly, and one whose inflow is latent."""

import numpy as np

from twin_actors.core.columns import (
    Attributes,
    Axis,
    Column,
    Command,
    Couplings,
    Drivers,
    Reading,
    State,
    Windows,
    attribute,
    command,
    coupling,
    driver,
    hourly,
    memory,
    reading,
    running_total,
    state,
)
from twin_actors.core.kind import Alert, Devices, Domain, Indicator, Kind, Need

PIPE = Axis("pipe", ("a", "b", "c"))


class TankAttributes(Attributes):
    area_m2: Column = attribute("m2", default=10.0, minimum=0.1)
    alarm_m: Column = attribute("m", default=4.0)


class TankReading(Reading):
    level_m: Column = reading("m", minimum=0, maximum=10, sd=0.1, max_rate=1.0, stuck_after_s=600)
    inflow_m3s: Column = reading("m3/s", PIPE, minimum=0, maximum=5, sd=0.05)
    opened: Column = running_total("1", of="openings")


class TankState(State):
    level_m: Column = state("m", minimum=0, maximum=10, default=2, unsure_sd=1.0, drift=0.5)
    inflow_m3s: Column = state("m3/s", PIPE, minimum=0, default=0.01, unsure_sd=0.2, drift=0.1)
    openings: Column = state("1", default=0, unsure_sd=100, drift=10)
    pumped_h: Column = memory("h")


class TankCommand(Command):
    outflow_m3s: Column = command("m3/s", default=0.0, minimum=0, maximum=2, hold_s=600)


class TankCouplings(Couplings):
    rain_m3s: Column = coupling("m3/s", default=0.0, hold_s=300)


class TankWindows(Windows):
    level_hourly_m: Column = hourly("m", of="level_m", keep=4)


class TankDrivers(Drivers):
    inflow_m3s: Column = driver("m3/s", default=0.02)


def predict(state, attributes, command, couplings, step):
    """dV/dt = Σ inflow + rain − outflow."""
    net = state.inflow_m3s.sum(axis=0) + couplings.rain_m3s - command.outflow_m3s
    return state.replace(
        level_m=np.clip(state.level_m + net * step.dt_s / attributes.area_m2, 0, 10),
        pumped_h=state.pumped_h + (command.outflow_m3s > 0) * step.dt_s / 3600,
    )


def indicators(state, attributes, command, windows):
    """Volume above ground."""
    return {"volume_m3": state.level_m * attributes.area_m2}


def needs(state, attributes, indicators):
    """A pump for every full tank."""
    full = (state.level_m > attributes.alarm_m) * 1.0
    return {"pump": Need(amount=full, urgency=full * 2, duration_s=full * 600)}


def drive(state, attributes, command, couplings, drivers, step, chance):
    """The outside decides the inflow."""
    noise = 0.001 * chance.standard_normal(np.shape(state.inflow_m3s))
    return state.replace(inflow_m3s=np.maximum(drivers.inflow_m3s / 3 + noise, 0))


def tank(**changes) -> Kind:
    described = {
        "name": "tank",
        "doc": "A tank with three inlets.",
        "attributes": TankAttributes,
        "reading": TankReading,
        "state": TankState,
        "command": TankCommand,
        "couplings": TankCouplings,
        "windows": TankWindows,
        "predict": predict,
        "indicators": indicators,
        "shows": (Indicator(name="volume_m3", unit="m3", doc="What is in it."),),
        "alerts": (Alert(name="full", of="level_m", above="alarm_m", clear=3.5, for_s=10, severity="critical"),),
        "needs": needs,
        "devices": Devices(drivers=TankDrivers, drive=drive),
    }
    return Kind(**(described | changes))


TANK = tank()
JOINT = tank(name="joint_tank", filter="joint")
DOMAIN = Domain(name="toys", doc="For tests.", kinds=(TANK, JOINT))
