"""A venue (stadium, hall, station): people inside from two running totals, crowding, egress, emptying."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from domains.venues import devices
from domains.venues.doors import counted, inside_persons, net_persons, reflected
from domains.venues.egress import venue_egress_s
from domains.venues.forecast import event_arrivals, event_departures
from domains.venues.pedestrians import LEVELS, QUEUING_PER_M2, WALKWAY_PER_M2, level_of_service
from domains.venues.records import VenueAttributes, VenueCommand, VenueCouplings, VenueReading, VenueState
from twin_actors.core.columns import Column
from twin_actors.core.kind import Alert, Indicator, Indicators, Kind, Need, Step

FILLING_MIN = 5.0
"""The local controller lets in at most what would fill the remaining places in this many minutes."""

HOUR_S = 3600.0


def entry_capacity_pmin(attributes: VenueAttributes, command: VenueCommand) -> Column:
    """How many persons a minute the open gates let in."""
    capacity: Column = attributes.gates * attributes.gate_flow_pmin * command.gates_open
    return capacity


def occupancy_persons(state: VenueState, attributes: VenueAttributes) -> Column:
    """Persons inside, never below zero; see ``doors`` for what is done about counters that err."""
    return inside_persons(state, attributes)


def predict(
    state: VenueState,
    attributes: VenueAttributes,
    command: VenueCommand,
    couplings: VenueCouplings,
    step: Step,
) -> VenueState:
    """Conservation of people; exact for any step while flows, gates and arrivals hold.

    entered' = entered + min(max(inflow + arrivals, event), open gates) dt;  left' = left + max(outflow, event) dt, but
    nobody leaves who is not inside. A total never falls, also not where counters disagree. An event's visitors are
    expected about its start and its end; counters that see them already do not count them twice (the larger of both).
    """
    from_s = step.at_s - step.dt_s
    coming = event_arrivals(from_s, step.at_s, attributes.event_start_s, attributes.event_persons)
    going = event_departures(from_s, step.at_s, attributes.event_end_s, attributes.event_persons)
    wish_in = np.maximum((state.inflow_pmin + couplings.arrivals_pmin) / 60 * step.dt_s, coming)
    entries = np.minimum(wish_in, entry_capacity_pmin(attributes, command) / 60 * step.dt_s)
    wish_out = np.maximum(state.outflow_pmin / 60 * step.dt_s, going)
    state = reflected(state, attributes)
    there = net_persons(state, attributes) + state.uncounted_persons
    most = np.maximum(there + entries * (1.0 - state.miscount), 0.0)
    moved = state.replace(
        entered_persons=state.entered_persons + entries,
        left_persons=state.left_persons + np.minimum(wish_out, most),
    )
    return counted(state, moved, attributes, step.dt_s, step.at_s)


def indicators(state: VenueState, attributes: VenueAttributes, command: VenueCommand, windows: Any) -> Indicators:
    """Occupancy, crowding and movement of the crowd; columns ``(…, n)``."""
    occupancy = occupancy_persons(state, attributes)
    density = occupancy / attributes.area_m2
    entry_pmin = np.minimum(state.inflow_pmin, entry_capacity_pmin(attributes, command))
    # An empty venue cannot empty further, whatever the last outflow was.
    exit_pmin = np.where(occupancy > 0, state.outflow_pmin, np.minimum(state.outflow_pmin, entry_pmin))
    net_pmin = entry_pmin - exit_pmin
    return {
        "occupancy_persons": occupancy,
        "density_per_m2": density,
        "los": level_of_service(density, WALKWAY_PER_M2),
        "los_queuing": level_of_service(density, QUEUING_PER_M2),
        "egress_s": venue_egress_s(
            occupancy,
            density,
            attributes.exit_width_m,
            attributes.longest_walk_m,
            attributes.stair_width_m,
            attributes.stair_length_m,
        ),
        "fill": occupancy / attributes.capacity_persons,
        "net_flow_pmin": net_pmin,
        "expected_arrivals_persons": event_arrivals(
            state.clock_s, state.clock_s + HOUR_S, attributes.event_start_s, attributes.event_persons
        )
        + np.zeros_like(occupancy),
        "counter_error_share": state.miscount + np.zeros_like(occupancy),
        "emptying": np.maximum(-net_pmin, 0.0) / attributes.emptying_at_pmin,
    }


def needs(state: VenueState, attributes: VenueAttributes, indicators: Indicators) -> Mapping[str, Need]:
    """Stewards and buses for the people still inside, while the venue empties; columns ``(n,)``.

    One steward per ``persons_per_steward``, one bus per ``persons_per_bus`` of those who travel by bus
    (``bus_share``). A unit is bound until the venue is empty at the present net outflow.
    """
    inside = indicators["occupancy_persons"]
    emptying = indicators["emptying"]
    active = (emptying > 1.0) & (inside >= 1.0)
    duration_s = np.where(active, inside / np.maximum(emptying * attributes.emptying_at_pmin, 1e-9) * 60, 0.0)
    crowding = 1.0 + indicators["density_per_m2"]
    stewards = np.where(active, np.ceil(inside / attributes.persons_per_steward), 0.0)
    buses = np.where(active, np.ceil(inside * attributes.bus_share / attributes.persons_per_bus), 0.0)
    return {
        "steward": Need(amount=stewards, urgency=np.where(active, 2.0 * crowding, 0.0), duration_s=duration_s),
        "bus": Need(amount=buses, urgency=np.where(active, crowding, 0.0), duration_s=duration_s),
    }


def control(
    state: VenueState, attributes: VenueAttributes, command: VenueCommand, indicators: Indicators
) -> VenueCommand:
    """Close gates as the venue fills: entry at most fills the remaining places in ``FILLING_MIN`` minutes."""
    places = np.maximum(attributes.capacity_persons - indicators["occupancy_persons"], 0.0)
    all_gates_pmin = np.maximum(attributes.gates * attributes.gate_flow_pmin, 1e-9)
    return VenueCommand(gates_open=np.clip(places / FILLING_MIN / all_gates_pmin, 0.0, 1.0))


VENUE = Kind(
    name="venue",
    doc="A place where people gather: occupancy from running totals, crowding and egress.",
    attributes=VenueAttributes,
    reading=VenueReading,
    state=VenueState,
    command=VenueCommand,
    couplings=VenueCouplings,
    predict=predict,
    indicators=indicators,
    needs=needs,
    control=control,
    filter="joint",
    max_step_s=300.0,
    stale_after_s=300.0,
    shows=(
        Indicator(name="occupancy_persons", unit="persons", doc="persons inside"),
        Indicator(name="density_per_m2", unit="persons/m2", doc="persons per m² of the public area"),
        Indicator(name="los", unit="1", doc="Fruin's walkway level of service by density", labels=LEVELS),
        Indicator(name="los_queuing", unit="1", doc="Fruin's level of service of waiting by density", labels=LEVELS),
        Indicator(name="egress_s", unit="s", doc="time until all are out: walk, then exit queue"),
        Indicator(name="fill", unit="1", doc="occupancy divided by capacity"),
        Indicator(name="net_flow_pmin", unit="persons/min", doc="entering less leaving; negative: emptying"),
        Indicator(name="expected_arrivals_persons", unit="persons", doc="visitors of the event in the next hour"),
        Indicator(name="counter_error_share", unit="1", doc="entries counted too many, as learnt from empty nights"),
        Indicator(name="emptying", unit="1", doc="net outflow divided by the flow that counts as emptying"),
    ),
    alerts=(
        Alert(
            name="crowded",
            of="density_per_m2",
            above="crowded_per_m2",
            clear="calm_per_m2",
            for_s=60.0,
            severity="warning",
            says="more people per square metre than the operator's limit",
        ),
        Alert(
            name="over_capacity",
            of="fill",
            above=1.0,
            clear=0.97,
            for_s=30.0,
            severity="critical",
            says="more people inside than the licensed capacity",
            emergency=True,
        ),
        Alert(
            name="emptying",
            of="emptying",
            above=1.0,
            clear=0.5,
            for_s=60.0,
            severity="info",
            says="the crowd is going home: streets and buses nearby will feel it",
        ),
    ),
    devices=devices.VENUE_DEVICES,
    headline=("occupancy_persons", "fill", "los", "net_flow_pmin", "egress_s"),
)
