"""A signal that is driven stage by stage: what its lane detectors see, what is coming, and which stage shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domains.traffic import devices
from domains.traffic.axes import LANE, STAGE
from domains.traffic.equations import S_PER_H
from domains.traffic.stages import kappa_step, shown_serves, stage_mask
from twin_actors.core import columns
from twin_actors.core.columns import Column, attribute, command, coupling, memory, reading, state
from twin_actors.core.kind import Alert, Devices, Indicator, Indicators, Kind, Step
from twin_actors.core.units import register_unit

register_unit("veh*s", "vehicle time")

PROGRAM = -1.0
"""The stage that means: the signal runs a program of its own."""
FULL = 0.9
"""An exit this full takes no further vehicle."""


class Attributes(columns.Attributes):
    """What the signal is built like."""

    serves: Column = attribute("1", STAGE, LANE, minimum=0, maximum=1, default=0)
    """How far a stage serves a lane: 1 all its ways have green, 0 none; stages without any do not exist."""
    saturation_vph: Column = attribute("veh/h", LANE, minimum=0, maximum=4000, default=0)
    """Saturation flow of a lane; 0: no such lane here."""
    storage_veh: Column = attribute("veh", LANE, minimum=1, maximum=1000, default=26)
    """Vehicles that fit within the detectors' reach (200 m)."""
    lost_time_s: Column = attribute("s", minimum=0, maximum=15, default=3.6)
    """Lost at each change of stage: yellow, clearance and start-up."""
    min_green_s: Column = attribute("s", minimum=0, maximum=60, default=5)
    max_green_s: Column = attribute("s", minimum=10, maximum=600, default=120)


class Reading(columns.Reading):
    """What lane detectors and the controller report.

    Anomalies are sought in what a lane's detectors count and in what arrives there. The rest is left unwatched: who
    stands, who is near and who blocks the junction are among those counted, the exits are other signals' lanes, and
    the stage with its clock does what it is told.
    """

    queue_veh: Column = reading("veh", LANE, minimum=0, maximum=1000, sd=0.3, watched=False)
    """Vehicles that stand."""
    near_veh: Column = reading("veh", LANE, minimum=0, maximum=1000, sd=0.3, watched=False)
    """Vehicles within 50 m of the stop line, standing or not."""
    count_veh: Column = reading("veh", LANE, minimum=0, maximum=1000, sd=0.3)
    """Vehicles within the detectors' reach."""
    box_veh: Column = reading("veh", LANE, minimum=0, maximum=200, sd=0.3, watched=False)
    """Vehicles from this lane that stand inside the junction."""
    exit_share: Column = reading("1", LANE, minimum=0, maximum=1, sd=0.02, watched=False)
    """How full the fullest exit of the lane is."""
    arrival_vph: Column = reading("veh/h", LANE, minimum=0, maximum=8000, sd=360)
    """Vehicles that came within reach since the last reading; one in ten seconds is 360 veh/h."""
    stage: Column = reading("1", minimum=PROGRAM, maximum=7, sd=0.01, integer=True, watched=False)
    """The stage that shows, counted from 0; −1: a program of the signal's own."""
    stage_s: Column = reading("s", minimum=0, maximum=86_400, sd=0.5, watched=False)
    """How long it has been showing, its yellow before it included."""


class State(columns.State):
    """Vehicles lane by lane and the stage that shows."""

    queue_veh: Column = state("veh", LANE, minimum=0, default=0, unsure_sd=8, drift=120)
    near_veh: Column = state("veh", LANE, minimum=0, default=0, unsure_sd=6, drift=120)
    count_veh: Column = state("veh", LANE, minimum=0, default=0, unsure_sd=12, drift=120)
    box_veh: Column = state("veh", LANE, minimum=0, default=0, unsure_sd=2, drift=120)
    exit_share: Column = state("1", LANE, minimum=0, maximum=1, default=0, unsure_sd=0.3, drift=8)
    arrival_vph: Column = state("veh/h", LANE, minimum=0, default=150, unsure_sd=200, drift=570)
    """The drift lets single arrivals be smoothed over about two minutes."""
    stage: Column = state("1", minimum=PROGRAM, maximum=7, default=PROGRAM, unsure_sd=4, drift=60)
    stage_s: Column = state("s", minimum=0, default=0, unsure_sd=60, drift=600)
    red_veh_s: Column = memory("veh*s", STAGE, minimum=0)
    """SOTL's κ: vehicles near the stop line times the time that their stage has been red."""
    served_veh: Column = memory("veh", minimum=0)
    """Vehicles that crossed by the model, since the twin began."""
    blocked_veh: Column = memory("veh", minimum=0)
    """Arrivals that found the approach full and wait on the road behind (spillback), since the twin began."""


class Command(columns.Command):
    """The stage to show."""

    stage: Column = command("1", minimum=PROGRAM, maximum=7, default=PROGRAM)
    clearance_s: Column = command("s", minimum=0, maximum=20, default=0)
    """Longest all-red after yellow while vehicles are still inside the junction."""


class Couplings(columns.Couplings):
    """Traffic that neighbours send."""

    upstream_vph: Column = coupling("veh/h", LANE, hold_s=120)


def discharge_vph(state: State, attributes: Attributes, green: NDArray[np.bool_]) -> Column:
    """Saturation flow of each lane that the stage serves and whose exit has room, ``(l, …)``, veh/h."""
    flow_vph = shown_serves(attributes.serves, state.stage, green)
    flow_vph *= attributes.saturation_vph
    flow_vph *= state.exit_share < FULL
    return flow_vph


def predict(state: State, attributes: Attributes, command: Command, couplings: Couplings, step: Step) -> State:
    """Store and forward per lane under the stage that shows; exact while its inputs hold.

    Vehicles are conserved: arrivals = change of count + served + blocked. What finds its approach full stays on the
    road behind; what finds its exit full is not served (spillback). Equation: x(k+1) = min(max(0, x + T (a − s)),
    storage), s = S where the stage serves the lane (Diakaki, Papageorgiou and Aboudolas 2002).
    """
    hours = step.dt_s / S_PER_H
    green = attributes.serves > 0  # (p, l, …), the largest array by far: looked through once
    arriving_veh = state.arrival_vph + couplings.upstream_vph
    arriving_veh *= attributes.saturation_vph > 0
    arriving_veh *= hours
    could_veh = discharge_vph(state, attributes, green)
    could_veh *= hours
    stored_veh = state.count_veh + arriving_veh
    leaving_veh = np.minimum(stored_veh, could_veh)
    stored_veh -= leaving_veh
    full_veh = np.maximum(attributes.storage_veh, state.count_veh)
    count_veh = np.minimum(stored_veh, full_veh, out=full_veh)
    growth_veh = np.subtract(arriving_veh, could_veh, out=arriving_veh)
    near_veh = np.clip(state.near_veh + growth_veh, 0.0, count_veh)
    queue_veh = np.add(state.queue_veh, growth_veh, out=growth_veh)
    np.clip(queue_veh, 0.0, count_veh, out=queue_veh)
    between_veh = state.near_veh + near_veh
    between_veh *= 0.5
    stored_veh -= count_veh
    return state.replace(
        count_veh=count_veh,
        near_veh=near_veh,
        queue_veh=queue_veh,
        stage_s=state.stage_s + step.dt_s,
        red_veh_s=kappa_step(state.red_veh_s, between_veh, green, state.stage, step.dt_s),
        served_veh=state.served_veh + leaving_veh.sum(axis=0),
        blocked_veh=state.blocked_veh + stored_veh.sum(axis=0),
    )


def indicators(state: State, attributes: Attributes, command: Command, windows: columns.Windows) -> Indicators:
    """What waits, what comes, and what stands in the way; see ``SHOWS``."""
    exists = attributes.saturation_vph > 0
    return {
        "waiting_veh": state.queue_veh.sum(axis=0),
        "coming_vph": np.where(exists, state.arrival_vph, 0.0).sum(axis=0),
        "spillback": np.where(exists, state.count_veh / attributes.storage_veh, 0.0).max(axis=0),
        "exit_blocked": np.where(exists, state.exit_share, 0.0).max(axis=0),
        "box_veh": state.box_veh.sum(axis=0),
        "starving_s": np.where(
            state.queue_veh.sum(axis=0) > 0,
            np.where(stage_mask(attributes.serves), state.red_veh_s, 0.0).max(axis=0),
            0.0,
        ),
    }


SHOWS = (
    Indicator(name="waiting_veh", unit="veh", doc="Vehicles that stand on all lanes"),
    Indicator(name="coming_vph", unit="veh/h", doc="Arrivals on all lanes"),
    Indicator(name="spillback", unit="1", doc="Fullest approach: vehicles as a share of what fits"),
    Indicator(name="exit_blocked", unit="1", doc="How full the fullest exit is"),
    Indicator(name="box_veh", unit="veh", doc="Vehicles that stand inside the junction"),
    Indicator(name="starving_s", unit="veh*s", doc="Worst stage: vehicles before its red × the time they are there"),
)

ALERTS = (
    Alert(
        name="spillback",
        of="spillback",
        above=0.95,
        clear=0.7,
        for_s=60,
        says="A queue has filled its approach and reaches the junction behind",
    ),
    Alert(
        name="locked",
        of="box_veh",
        above=6.0,
        clear=2.0,
        for_s=60,
        severity="critical",
        emergency=True,
        says="Vehicles stand inside the junction and block each other",
    ),
)


def drive(
    state: State,
    attributes: Attributes,
    command: Command,
    couplings: Couplings,
    drivers: devices.SignalDrivers,
    step: Step,
    chance: np.random.Generator,
) -> State:
    """Simulated arrivals with a daily course; the stage obeys its command, else a fixed program runs."""
    exists = attributes.saturation_vph > 0
    arriving_vph = devices.wander(
        state.arrival_vph,
        before=drivers.base_vph * devices.course(drivers, step.at_s - step.dt_s),
        after=drivers.base_vph * devices.course(drivers, step.at_s),
        swing=devices.DEMAND_SWING,
        dt_s=step.dt_s,
        chance=chance,
    )
    stages = np.maximum(stage_mask(attributes.serves).sum(axis=0), 1)
    program = np.mod(np.floor(step.at_s / devices.PROGRAM_STAGE_S), stages)
    shows = np.where(command.stage >= 0, np.minimum(np.rint(command.stage), stages - 1), program)
    return state.replace(
        arrival_vph=np.where(exists, arriving_vph, 0.0),
        stage=shows,
        stage_s=np.where(shows == np.rint(state.stage), state.stage_s, 0.0),
    )


SIGNAL = Kind(
    name="signal",
    doc="A traffic signal driven stage by stage: lane detectors, arrivals, spillback and the stage that shows.",
    attributes=Attributes,
    reading=Reading,
    state=State,
    command=Command,
    couplings=Couplings,
    predict=predict,
    indicators=indicators,
    shows=SHOWS,
    alerts=ALERTS,
    max_step_s=60.0,
    devices=Devices(drivers=devices.SignalDrivers, drive=drive),
    headline=("waiting_veh", "coming_vph", "stage"),
)
