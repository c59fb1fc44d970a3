"""A signalled intersection: store-and-forward queues per movement (TUC), control by max pressure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from domains.traffic import devices
from domains.traffic.axes import MOVEMENT, PHASE
from domains.traffic.control import effective_split, max_pressure_split, movement_green, webster_plan
from domains.traffic.equations import (
    HCM_SIGNAL_LIMITS_S,
    LEVELS,
    S_PER_H,
    control_delay_s,
    level_of_service,
)
from twin_actors.core import columns
from twin_actors.core.columns import Column, attribute, command, coupling, memory, reading, state
from twin_actors.core.kind import Alert, Devices, Indicator, Indicators, Kind, Need, Step

CYCLE_SHORTEST_S = 40.0
CYCLE_LONGEST_S = 180.0

# Which movement has green in which phase: left turns apart from through traffic, opposite approaches together.
FOUR_PHASES = (
    *(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
    *(0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    *(0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    *(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
)


class Attributes(columns.Attributes):
    """What the intersection is built like."""

    saturation_vph: Column = attribute("veh/h", MOVEMENT, minimum=0, maximum=20_000, default=1800)
    """Saturation flow of all lanes of a movement; 0: no such movement here."""
    serves: Column = attribute("1", PHASE, MOVEMENT, minimum=0, maximum=1, default=FOUR_PHASES)
    """1 where a phase gives green to a movement."""
    storage_veh: Column = attribute("veh", MOVEMENT, minimum=1, maximum=5000, default=60)
    """Vehicles that fit before the queue blocks the junction behind (about 7.5 m each and lane)."""
    lost_time_s: Column = attribute("s", minimum=0, maximum=40, default=12)
    """Start-up and clearance time lost in one cycle, all phases together."""
    min_green_s: Column = attribute("s", minimum=0, maximum=30, default=6)
    """Least green of a phase that serves anybody."""
    progression: Column = attribute("1", minimum=0, maximum=3, default=1)
    """Progression factor PF of HCM 2000, Exhibit 16-12: below 1 where platoons meet green."""


class Reading(columns.Reading):
    """What detectors report."""

    queue_veh: Column = reading("veh", MOVEMENT, minimum=0, maximum=2000, sd=1.5, max_rate=20, integer=True)
    demand_vph: Column = reading("veh/h", MOVEMENT, minimum=0, maximum=8000, sd=120, max_rate=1000)


class State(columns.State):
    """Queues and the demand that feeds them; both are estimated together, movement by movement."""

    queue_veh: Column = state("veh", MOVEMENT, minimum=0, default=0, unsure_sd=30, drift=60)
    demand_vph: Column = state("veh/h", MOVEMENT, minimum=0, default=300, unsure_sd=250, drift=150)
    coupled_vph: Column = memory("veh/h", MOVEMENT, minimum=0)
    """What other twins send here (upstream junctions, events), as of the last step."""
    blocked_share: Column = memory("1", MOVEMENT, minimum=0, maximum=1)
    """Share of the discharge that the road beyond has no room for (spillback), as of the last step."""
    served_veh: Column = memory("veh", minimum=0)
    """Vehicles that crossed, since the twin began."""
    turned_away_veh: Column = memory("veh", minimum=0)
    """Vehicles that perimeter metering kept out, since the twin began."""


class Command(columns.Command):
    """The signal plan in force, and the gate at the perimeter."""

    green_split: Column = command("1", PHASE, minimum=0, maximum=1, default=0.22)
    """Effective green of each phase as a share of the cycle; more than 1 − L/C in total is scaled down."""
    cycle_s: Column = command("s", minimum=CYCLE_SHORTEST_S, maximum=CYCLE_LONGEST_S, default=90)
    inflow_share: Column = command("1", minimum=0.3, maximum=1, default=1, hold_s=1800)
    """Share of the demand let in (perimeter metering); a gate that nobody renews opens again."""


class Couplings(columns.Couplings):
    """Traffic that other twins send."""

    upstream_vph: Column = coupling("veh/h", MOVEMENT)
    blocked_share: Column = coupling("1", MOVEMENT, hold_s=120)
    """1 where the road that a movement leads to is full: its vehicles wait though they have green."""
    event_vph: Column = coupling("veh/h")
    """Traffic of an event nearby, spread over the movements in proportion to their saturation flow."""


def coupled_vph(attributes: Attributes, couplings: Couplings) -> Column:
    """What other twins send to each movement ``(m, …)``, veh/h.

    Events, and upstream flow addressed to movements that do not exist here, are spread over those that do in
    proportion to saturation flow, so that no vehicle vanishes between two junctions.
    """
    saturation_vph = attributes.saturation_vph
    exists = saturation_vph > 0
    astray_vph = np.where(exists, 0.0, couplings.upstream_vph).sum(axis=0)
    share = saturation_vph / np.maximum(saturation_vph.sum(axis=0), 1.0)
    coupled: Column = np.where(exists, couplings.upstream_vph, 0.0) + (astray_vph + couplings.event_vph) * share
    return coupled


def arrival_vph(state: State, attributes: Attributes, command: Command) -> Column:
    """Flow that joins each queue ``(m, …)``, veh/h: the demand let in and what other twins send."""
    let_in = (attributes.saturation_vph > 0) * command.inflow_share
    arriving: Column = state.demand_vph * let_in
    arriving += state.coupled_vph
    return arriving


def green_share(attributes: Attributes, command: Command) -> Column:
    """Effective green of each movement as a share of the cycle, ``(m, …)``."""
    split = effective_split(command.green_split, attributes.lost_time_s, command.cycle_s)
    return movement_green(split, attributes.serves)


def capacity_vph(attributes: Attributes, command: Command) -> Column:
    """Capacity of each movement S g/C, ``(m, …)``, veh/h."""
    capacity: Column = attributes.saturation_vph * green_share(attributes, command)
    return capacity


def open_capacity_vph(state: State, attributes: Attributes, command: Command) -> Column:
    """Capacity of each movement ``(m, …)``, veh/h, without what a full road beyond keeps back."""
    open_vph: Column = capacity_vph(attributes, command) * (1.0 - np.clip(state.blocked_share, 0.0, 1.0))
    return open_vph


def predict(state: State, attributes: Attributes, command: Command, couplings: Couplings, step: Step) -> State:
    """x(k+1) = max(0, x(k) + T (arrivals − S g/C)): exact for any T while its inputs hold.

    Vehicles are conserved: demand + coupled flow = change of queue + served + turned away. What a full road beyond has
    no room for stays in the queue (spillback), so nothing vanishes between two junctions.
    Source: the store-and-forward model of Diakaki, Papageorgiou and Aboudolas (2002), Control Engineering
    Practice 10 (TUC).
    """
    hours = step.dt_s / S_PER_H
    coupled = state.replace(
        coupled_vph=coupled_vph(attributes, couplings), blocked_share=np.clip(couplings.blocked_share, 0.0, 1.0)
    )
    could_veh = open_capacity_vph(coupled, attributes, command) * hours
    there_veh = arrival_vph(coupled, attributes, command)
    there_veh *= hours
    there_veh += state.queue_veh
    served, summed = there_veh, state
    if step.points:  # no state depends on these sums: those of the first sample will do
        served, summed = there_veh[:, :1], state.replace(demand_vph=state.demand_vph[:, :1])
    leaving_veh = np.minimum(served, could_veh)
    away_veh = turned_away_vph(summed, attributes, command) * hours
    there_veh -= could_veh
    return coupled.replace(
        queue_veh=np.maximum(there_veh, 0.0, out=there_veh),
        served_veh=state.served_veh + leaving_veh.sum(axis=0),
        turned_away_veh=state.turned_away_veh + away_veh,
    )


def turned_away_vph(state: State, attributes: Attributes, command: Command) -> Column:
    """Demand that metering keeps out, all movements together ``(…)``, veh/h."""
    kept_out = (attributes.saturation_vph > 0) * (1.0 - command.inflow_share)
    away: Column = (state.demand_vph * kept_out).sum(axis=0)
    return away


def discharge_vph(state: State, attributes: Attributes, command: Command) -> Column:
    """Flow out of each movement ``(m, …)``, veh/h: capacity while anybody waits, else what arrives."""
    capacity = open_capacity_vph(state, attributes, command)
    arriving = arrival_vph(state, attributes, command)
    # Queues of less than a vehicle are left over by the filter rather than cars at a stop line.
    flowing: Column = np.where(state.queue_veh >= 1.0, capacity, np.minimum(arriving, capacity))
    return flowing


def delay_s(arriving_vph: Column, attributes: Attributes, command: Command) -> Column:
    """HCM 2000 control delay averaged over vehicles, s; 0 where nothing flows. ``(m, …)`` → ``(…)``."""
    per_movement_s = control_delay_s(
        arriving_vph,
        capacity_vph(attributes, command),
        green_share(attributes, command),
        command.cycle_s,
        progression=attributes.progression,
    )
    total_vph = arriving_vph.sum(axis=0)
    averaged: Column = (per_movement_s * arriving_vph).sum(axis=0) / np.maximum(total_vph, 1e-9)
    return averaged


def indicators(state: State, attributes: Attributes, command: Command, windows: columns.Windows) -> Indicators:
    """How full the intersection is and how it serves; see ``SHOWS``."""
    arriving_vph = arrival_vph(state, attributes, command)
    capacity = capacity_vph(attributes, command)
    mean_delay_s = delay_s(arriving_vph, attributes, command)
    cycle_s, _ = webster(arriving_vph, attributes)
    return {
        "waiting_veh": state.queue_veh.sum(axis=0),
        "longest_queue_veh": state.queue_veh.max(axis=0),
        "saturation": (arriving_vph / np.maximum(capacity, 1.0)).max(axis=0),
        "delay_s": mean_delay_s,
        "los": level_of_service(mean_delay_s, HCM_SIGNAL_LIMITS_S),
        "webster_cycle_s": cycle_s,
        "spillback": (state.queue_veh / attributes.storage_veh).max(axis=0),
        "blocked_share": np.where(attributes.saturation_vph > 0, state.blocked_share, 0.0).max(axis=0),
        "throughput_vph": discharge_vph(state, attributes, command).sum(axis=0),
        "turned_away_vph": turned_away_vph(state, attributes, command),
    }


SHOWS = (
    Indicator(name="waiting_veh", unit="veh", doc="Vehicles in all queues"),
    Indicator(name="longest_queue_veh", unit="veh", doc="Vehicles in the longest queue"),
    Indicator(name="saturation", unit="1", doc="Worst ratio of arrivals to capacity (v/c)"),
    Indicator(name="delay_s", unit="s", doc="HCM 2000 control delay of a vehicle, without initial queue"),
    Indicator(name="los", unit="1", doc="Level of service by HCM 2000, Exhibit 16-2", labels=LEVELS),
    Indicator(name="webster_cycle_s", unit="s", doc="Webster's optimum cycle, within the controller's limits"),
    Indicator(name="spillback", unit="1", doc="Fullest approach: queue as a share of its storage"),
    Indicator(name="blocked_share", unit="1", doc="Worst movement: share of its green that a full road beyond wastes"),
    Indicator(name="throughput_vph", unit="veh/h", doc="Vehicles that cross"),
    Indicator(name="turned_away_vph", unit="veh/h", doc="Demand that perimeter metering keeps out"),
)

ALERTS = (
    Alert(
        name="oversaturated",
        of="saturation",
        above=1.0,
        clear=0.9,
        for_s=60,
        says="More vehicles arrive than a movement can serve",
    ),
    Alert(
        name="gridlock",
        of="spillback",
        above=1.0,
        clear=0.7,
        for_s=120,
        severity="critical",
        emergency=True,
        says="A queue has filled its approach and blocks the junction behind",
    ),
)


def webster(arriving_vph: Column, attributes: Attributes) -> tuple[Column, Column]:
    """Webster's cycle ``(…)`` in s and splits ``(p, …)`` for flows ``(m, …)``, within the controller's limits."""
    return webster_plan(
        arriving_vph,
        attributes.saturation_vph,
        attributes.serves,
        lost_time_s=attributes.lost_time_s,
        min_green_s=attributes.min_green_s,
        shortest_s=CYCLE_SHORTEST_S,
        longest_s=CYCLE_LONGEST_S,
    )


def control(state: State, attributes: Attributes, command: Command, indicators: Indicators) -> Command:
    """The green split of max pressure within the cycle in force."""
    split = max_pressure_split(
        state.queue_veh,
        arrival_vph(state, attributes, command),
        attributes.saturation_vph,
        attributes.serves,
        lost_time_s=attributes.lost_time_s,
        min_green_s=attributes.min_green_s,
        cycle_s=command.cycle_s,
    )
    return command.replace(green_split=split)


OFFICER_FROM = 0.8
SECOND_OFFICER_FROM = 1.5


def needs(state: State, attributes: Attributes, indicators: Indicators) -> Mapping[str, Need]:
    """An officer where a queue is about to block the junction behind, a second where it long has.

    Urgency is the fill of the fullest approach (1: full), at most 5.
    """
    spillback = np.asarray(indicators["spillback"])
    officers = (spillback >= OFFICER_FROM).astype(np.float64) + (spillback >= SECOND_OFFICER_FROM)
    return {
        "traffic_officer": Need(
            amount=officers,
            urgency=np.where(officers > 0, np.minimum(spillback, 5.0), 0.0),
            duration_s=np.full_like(spillback, 1800.0),
        )
    }


def drive(
    state: State,
    attributes: Attributes,
    command: Command,
    couplings: Couplings,
    drivers: devices.IntersectionDrivers,
    step: Step,
    chance: np.random.Generator,
) -> State:
    """The demand that simulated detectors meet: a daily course with passing disturbances.

    Deviations from the course fade within ``devices.SWING_S``, so a story that changes ``demand_factor`` builds
    up over minutes, as a crowd does.
    """
    demand_vph = devices.wander(
        state.demand_vph,
        before=drivers.base_vph * devices.course(drivers, step.at_s - step.dt_s),
        after=drivers.base_vph * devices.course(drivers, step.at_s),
        swing=devices.DEMAND_SWING,
        dt_s=step.dt_s,
        chance=chance,
    )
    return state.replace(demand_vph=np.where(attributes.saturation_vph > 0, demand_vph, 0.0))


INTERSECTION = Kind(
    name="intersection",
    doc="A signalled intersection: queues and demand of eight movements, a plan of four phases.",
    attributes=Attributes,
    reading=Reading,
    state=State,
    command=Command,
    couplings=Couplings,
    predict=predict,
    indicators=indicators,
    shows=SHOWS,
    alerts=ALERTS,
    needs=needs,
    control=control,
    filter="joint",
    max_step_s=300.0,
    devices=Devices(drivers=devices.IntersectionDrivers, drive=drive),
    headline=("waiting_veh", "delay_s", "los"),
)
