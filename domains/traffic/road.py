"""A road section: speed, flow and occupancy as its detectors see them, and a variable speed limit."""

from __future__ import annotations

import numpy as np

from domains.traffic import devices
from domains.traffic.equations import (
    HCM_FREEWAY_LIMITS_VEH_KM,
    LEVELS,
    S_PER_H,
    bpr_speed_kmh,
    density_veh_km,
    level_of_service,
)
from twin_actors.core import columns
from twin_actors.core.columns import Column, attribute, command, coupling, memory, profile, reading, state
from twin_actors.core.kind import Alert, Devices, Indicator, Indicators, Kind, Step

EASE_S = 3 * S_PER_H
"""Time constant with which speed returns to what the flow allows.

Fitted by least squares to METR-LA (1-7 March 2012, 100 detectors, first 80 % of the week): the deviation from
each detector's 85th percentile fades with 2.3, 2.9 and 3.3 h at horizons of 15, 30 and 60 min. On the last 20 % the
mean absolute error with 3 h is 3.49, 4.25 and 5.55 mph, of repeat-last 3.53, 4.26 and 5.63, with 1 h 3.80, 4.94
and 6.55: the pull must be weak.
"""
STANDSTILL_KMH = 1.0
HOURS = 168
DETECTED_LENGTH_KM = 0.0065
"""Length of a vehicle and of the loop together; occupancy = density × length (Athol 1965, HRR 72)."""


class Attributes(columns.Attributes):
    """What the section is built like."""

    length_km: Column = attribute("km", minimum=0.01, maximum=100, default=1)
    lanes: Column = attribute("1", minimum=1, maximum=12, default=2)
    free_speed_kmh: Column = attribute("km/h", minimum=5, maximum=200, default=100)
    jam_density_veh_km: Column = attribute("veh/km", minimum=20, maximum=300, default=130)
    """Density at standstill, of one lane."""
    capacity_vph: Column = attribute("veh/h", minimum=100, maximum=50_000, default=4000)
    """Capacity of all lanes together."""
    incident_occdf: Column = attribute("1", minimum=0.01, maximum=1, default=0.08)
    """T1 of the incident test: occupancy here minus that downstream. Thresholds are a site's own; calibrate them."""
    incident_occrdf: Column = attribute("1", minimum=0.01, maximum=1, default=0.5)
    """T2: the same difference as a share of the occupancy here."""
    incident_docc: Column = attribute("1", minimum=0.01, maximum=1, default=0.15)
    """T3: occupancy downstream at most, so that the jam does not reach on there."""


class Reading(columns.Reading):
    """What detectors report."""

    speed_kmh: Column = reading("km/h", minimum=0, maximum=200, sd=2.0, max_rate=20)
    flow_vph: Column = reading("veh/h", minimum=0, maximum=60_000, sd=120)
    occupancy: Column = reading("1", minimum=0, maximum=1, sd=0.01)


class State(columns.State):
    """Speed, flow of all lanes and the share of time that a loop is covered."""

    speed_kmh: Column = state("km/h", minimum=0, maximum=200, default=80, unsure_sd=25, drift=18)
    flow_vph: Column = state("veh/h", minimum=0, default=1500, unsure_sd=900, drift=600)
    occupancy: Column = state("1", minimum=0, maximum=1, default=0.08, unsure_sd=0.08, drift=0.05)
    event_flow_vph: Column = memory("veh/h", minimum=0)
    """The part of the flow that an event sends here, as of the last step."""
    week_hour: Column = memory("h", minimum=0, maximum=168)
    """Hour of the week, counted from the epoch as profiles are (a Thursday, 00:00 UTC)."""
    downstream_occupancy: Column = memory("1", default=-1, minimum=-1, maximum=1)
    """Occupancy of the next section downstream, as of the last step; −1: unknown."""


class Command(columns.Command):
    """The variable speed limit."""

    speed_limit_kmh: Column = command("km/h", minimum=20, maximum=130, default=120)


class Windows(columns.Windows):
    """The usual course of flow, learnt from readings."""

    usual_vph: Column = profile("veh/h", of="flow_vph", period="week", bins=HOURS)


class Couplings(columns.Couplings):
    """Traffic that other twins send."""

    event_vph: Column = coupling("veh/h")
    downstream_occupancy: Column = coupling("1", default=-1, hold_s=180)


def wanted_speed_kmh(attributes: Attributes, command: Command) -> Column:
    """Speed on the empty section, km/h: free speed within the limit in force."""
    speed_kmh: Column = np.minimum(attributes.free_speed_kmh, command.speed_limit_kmh)
    return speed_kmh


def loop_occupancy(flow_vph: Column, speed_kmh: Column, lanes: Column, jam_veh_km: Column) -> Column:
    """Share of time a loop is covered at this flow and speed, 0…1."""
    density = density_veh_km(flow_vph, speed_kmh, lanes, jam_veh_km)
    covered: Column = np.minimum(density * DETECTED_LENGTH_KM, 1.0)
    return covered


def predict(state: State, attributes: Attributes, command: Command, couplings: Couplings, step: Step) -> State:
    """Flow stays, plus what an event adds; speed and occupancy ease towards what that flow allows.

    Short-term traffic is close to a random walk, so flow keeps its last value and speed returns with ``EASE_S``
    to BPR's speed at the flow. The step is exact (exponential), so any cut of the time gives the same. A speed
    limit is obeyed at once. The flow that passes is at most the capacity; demand beyond it slows it down.
    """
    base_vph = np.maximum(state.flow_vph - state.event_flow_vph, 0.0)
    wanted_vph = base_vph + couplings.event_vph
    flow_vph = np.minimum(wanted_vph, np.maximum(attributes.capacity_vph, base_vph))
    wanted_kmh = wanted_speed_kmh(attributes, command)
    target_kmh = bpr_speed_kmh(wanted_kmh, wanted_vph, attributes.capacity_vph)
    target_occupancy = loop_occupancy(flow_vph, target_kmh, attributes.lanes, attributes.jam_density_veh_km)
    keep = np.exp(-step.dt_s / EASE_S)
    obeyed_kmh = np.minimum(state.speed_kmh, command.speed_limit_kmh)
    return state.replace(
        speed_kmh=target_kmh + (obeyed_kmh - target_kmh) * keep,
        flow_vph=flow_vph,
        occupancy=target_occupancy + (state.occupancy - target_occupancy) * keep,
        event_flow_vph=flow_vph - base_vph,
        week_hour=np.mod(step.at_s / S_PER_H, HOURS),
        downstream_occupancy=np.clip(couplings.downstream_occupancy, -1.0, 1.0),
    )


def incident_score(
    occupancy: Column, downstream: Column, occdf: Column | float, occrdf: Column | float, docc: Column | float
) -> Column:
    """How far an incident between two stations is passed, 1 and more: all three tests of California algorithm 7.

    OCCDF = OCC(i) − OCC(i+1) ≥ T1, OCCRDF = OCCDF/OCC(i) ≥ T2, DOCC = OCC(i+1) ≤ T3; the score is the least of value
    over threshold (T3 over value). 0 where ``downstream`` is unknown (negative). The algorithm's persistence test is
    the alert's ``for_s``. Source: Payne and Tignor (1978), Transportation Research Record 682.
    """
    difference = occupancy - downstream
    relative = difference / np.maximum(occupancy, 1e-6)
    score = np.minimum(np.minimum(difference / occdf, relative / occrdf), docc / np.maximum(downstream, 1e-6))
    passed: Column = np.where(downstream < 0, 0.0, np.clip(score, 0.0, 10.0))
    return passed


def slow_for_flow(speed_kmh: Column, flow_vph: Column, wanted_kmh: Column, capacity_vph: Column) -> Column:
    """Loss of speed that the flow does not explain, 0…1: 1 − v/v(q), and 0 above 80 % of capacity.

    A queue at a bottleneck discharges near capacity; behind an incident speed falls while flow falls too, so the
    residual of the speed-flow relation is large at small flow (Persaud and Hall 1989, Transportation Research A 23).
    """
    explained_kmh = bpr_speed_kmh(wanted_kmh, flow_vph, capacity_vph)
    residual = np.clip(1.0 - speed_kmh / np.maximum(explained_kmh, 1.0), 0.0, 1.0)
    slow: Column = np.where(flow_vph <= 0.8 * capacity_vph, residual, 0.0)
    return slow


def usual_flow_vph(state: State, windows: Windows) -> Column:
    """What usually comes at this hour of the week, veh/h; the estimate itself until the profile knows the hour."""
    week = np.asarray(windows.usual_vph)
    tail = np.shape(state.flow_vph)
    samples = len(tail) - (week.ndim - 1)
    if samples > 0:  # a forked state carries sample axes that the profile does not have
        week = week.reshape(week.shape[0], *[1] * samples, *week.shape[1:])
    week = np.broadcast_to(week, (week.shape[0], *tail))
    hour = np.clip(np.floor(state.week_hour), 0, HOURS - 1).astype(np.intp)
    usual = np.take_along_axis(week, np.broadcast_to(hour, tail)[None], axis=0)[0]
    expected: Column = np.where(np.isnan(usual), state.flow_vph, usual)
    return expected


def indicators(state: State, attributes: Attributes, command: Command, windows: Windows) -> Indicators:
    """How the section runs; see ``SHOWS``. Below 1 km/h speed counts as 1 in times and densities."""
    speed_kmh = np.maximum(state.speed_kmh, STANDSTILL_KMH)
    free_kmh = attributes.free_speed_kmh
    travel_time_s = attributes.length_km / speed_kmh * S_PER_H
    density = density_veh_km(state.flow_vph, state.speed_kmh, attributes.lanes, attributes.jam_density_veh_km)
    return {
        "travel_time_s": travel_time_s,
        "delay_s": np.maximum(travel_time_s - attributes.length_km / free_kmh * S_PER_H, 0.0),
        "density_veh_km": density,
        "congestion": np.clip(1.0 - state.speed_kmh / free_kmh, 0.0, 1.0),
        "saturation": state.flow_vph / attributes.capacity_vph,
        "los": level_of_service(density, HCM_FREEWAY_LIMITS_VEH_KM),
        "incident": incident_score(
            state.occupancy,
            state.downstream_occupancy,
            attributes.incident_occdf,
            attributes.incident_occrdf,
            attributes.incident_docc,
        ),
        "slow_for_flow": slow_for_flow(
            state.speed_kmh, state.flow_vph, wanted_speed_kmh(attributes, command), attributes.capacity_vph
        ),
        "usual_flow_vph": usual_flow_vph(state, windows),
    }


SHOWS = (
    Indicator(name="travel_time_s", unit="s", doc="Time through the section at its speed"),
    Indicator(name="delay_s", unit="s", doc="Travel time beyond that at free speed"),
    Indicator(name="density_veh_km", unit="veh/km", doc="Vehicles per kilometre of lane: flow over speed"),
    Indicator(name="congestion", unit="1", doc="Loss of speed: 1 − v/v_free, 0 to 1"),
    Indicator(name="saturation", unit="1", doc="Flow as a share of capacity"),
    Indicator(
        name="incident", unit="1", doc="California algorithm 7 against the section downstream; 1: all tests passed"
    ),
    Indicator(name="slow_for_flow", unit="1", doc="Loss of speed that the flow does not explain"),
    Indicator(name="usual_flow_vph", unit="veh/h", doc="Usual flow at this hour of the week"),
    Indicator(name="los", unit="1", doc="Level of service by density, HCM 2000, Exhibit 23-2", labels=LEVELS),
)

ALERTS = (
    Alert(
        name="incident",
        of="incident",
        above=1.0,
        clear=0.7,
        for_s=60,
        severity="critical",
        emergency=True,
        says="Traffic stands here and flows freely behind: something blocks the road",
    ),
    Alert(
        name="incident_suspected",
        of="slow_for_flow",
        above=0.5,
        clear=0.35,
        for_s=120,
        says="Much slower than so little traffic explains",
    ),
    Alert(
        name="congested",
        of="congestion",
        above=0.5,
        clear=0.4,
        for_s=120,
        says="Traffic moves at less than half of its free speed",
    ),
    Alert(
        name="standstill",
        of="congestion",
        above=0.9,
        clear=0.75,
        for_s=180,
        severity="critical",
        says="Traffic hardly moves",
    ),
)


def drive(
    state: State,
    attributes: Attributes,
    command: Command,
    couplings: Couplings,
    drivers: devices.RoadDrivers,
    step: Step,
    chance: np.random.Generator,
) -> State:
    """Flow with a daily course; speed that follows it within minutes, also when an incident closes lanes.

    The event's flow rides on top: ``predict`` adds and removes it. Speed wanders by ``devices.SPEED_SWING``.
    """
    base_vph = np.maximum(state.flow_vph - state.event_flow_vph, 0.0)
    height_vph = drivers.peak_share * attributes.capacity_vph
    course_vph = height_vph * devices.course(drivers, step.at_s)
    base_vph = devices.wander(
        base_vph,
        before=height_vph * devices.course(drivers, step.at_s - step.dt_s),
        after=course_vph,
        swing=devices.DEMAND_SWING,
        dt_s=step.dt_s,
        chance=chance,
    )
    open_vph = attributes.capacity_vph * (1.0 - drivers.lanes_closed_share)
    # Behind a closure the queue is fed by those who want to pass, not by the fewer who can.
    asked_vph = np.maximum(base_vph, course_vph) + couplings.event_vph
    flow_kmh = bpr_speed_kmh(wanted_speed_kmh(attributes, command), asked_vph, open_vph)
    speed_kmh = devices.wander(
        state.speed_kmh,
        before=flow_kmh,
        after=flow_kmh,
        swing=devices.SPEED_SWING,
        dt_s=step.dt_s,
        chance=chance,
    )
    flow_vph = np.minimum(base_vph, open_vph)
    return state.replace(
        flow_vph=flow_vph + state.event_flow_vph,
        speed_kmh=np.minimum(speed_kmh, 200.0),
        occupancy=loop_occupancy(
            flow_vph + state.event_flow_vph, speed_kmh, attributes.lanes, attributes.jam_density_veh_km
        ),
    )


ROAD = Kind(
    name="road",
    doc="A road section with detectors of speed, flow and occupancy, and a variable speed limit.",
    attributes=Attributes,
    reading=Reading,
    state=State,
    command=Command,
    couplings=Couplings,
    windows=Windows,
    predict=predict,
    indicators=indicators,
    shows=SHOWS,
    alerts=ALERTS,
    devices=Devices(drivers=devices.RoadDrivers, drive=drive),
    headline=("speed_kmh", "travel_time_s", "los"),
)
