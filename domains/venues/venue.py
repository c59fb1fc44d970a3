"""A venue (stadium, hall, station): people inside from two running totals, crowding, egress, emptying."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from domains.venues import devices
from domains.venues.pedestrians import (
    LEVELS,
    WALKWAY_PER_M2,
    egress_time_s,
    level_of_service,
    persons_inside,
)
from twin_actors.core.columns import (
    Attributes,
    Column,
    Command,
    Couplings,
    Reading,
    State,
    attribute,
    command,
    coupling,
    running_total,
    state,
)
from twin_actors.core.kind import Alert, Indicator, Indicators, Kind, Need, Step

FILLING_MIN = 5.0
"""The local controller lets in at most what would fill the remaining places in this many minutes."""


class VenueAttributes(Attributes):
    """What is built, and what the operator calls crowded or emptying."""

    area_m2: Column = attribute("m2", minimum=1.0)
    capacity_persons: Column = attribute("persons", minimum=1.0)
    exit_width_m: Column = attribute("m", minimum=0.1)  # effective: clear width less boundary layers
    gates: Column = attribute("1", default=20.0, minimum=0.0)
    # One turnstile lets 660 persons an hour in (Guide to Safety at Sports Grounds, 6th ed., entry capacity).
    gate_flow_pmin: Column = attribute("persons/min", default=11.0, minimum=0.0)
    longest_walk_m: Column = attribute("m", default=40.0, minimum=0.0)
    initial_persons: Column = attribute("persons", default=0.0, minimum=0.0)
    crowded_per_m2: Column = attribute("persons/m2", default=2.17, minimum=0.0)
    calm_per_m2: Column = attribute("persons/m2", default=1.90, minimum=0.0)
    emptying_at_pmin: Column = attribute("persons/min", default=60.0, minimum=0.1)
    persons_per_steward: Column = attribute("persons", default=250.0, minimum=1.0)
    bus_share: Column = attribute("1", default=0.15, minimum=0.0, maximum=1.0)
    persons_per_bus: Column = attribute("persons", default=60.0, minimum=1.0)


class VenueReading(Reading):
    """The counters at the doors, since they were switched on."""

    in_persons: Column = running_total("persons", of="entered_persons", sd=1.0)
    out_persons: Column = running_total("persons", of="left_persons", sd=1.0)


class VenueState(State):
    """Levels of the two totals, and the two flows that move them (latent: no device measures a flow)."""

    entered_persons: Column = state("persons", minimum=0.0, default=0.0, unsure_sd=10_000.0, drift=60.0)
    left_persons: Column = state("persons", minimum=0.0, default=0.0, unsure_sd=10_000.0, drift=60.0)
    inflow_pmin: Column = state("persons/min", minimum=0.0, default=0.0, unsure_sd=150.0, drift=250.0)
    outflow_pmin: Column = state("persons/min", minimum=0.0, default=0.0, unsure_sd=150.0, drift=250.0)


class VenueCommand(Command):
    """What the city may ask of a venue."""

    gates_open: Column = command("1", minimum=0.0, maximum=1.0, default=1.0)  # share of the entry gates


class VenueCouplings(Couplings):
    """People whom other twins send."""

    arrivals_pmin: Column = coupling("persons/min", default=0.0)


def entry_capacity_pmin(attributes: VenueAttributes, command: VenueCommand) -> Column:
    """How many persons a minute the open gates let in."""
    capacity: Column = attributes.gates * attributes.gate_flow_pmin * command.gates_open
    return capacity


def occupancy_persons(state: VenueState, attributes: VenueAttributes) -> Column:
    """Persons inside: initial + entered − left, never below zero."""
    return persons_inside(attributes.initial_persons, state.entered_persons, state.left_persons)


def predict(
    state: VenueState,
    attributes: VenueAttributes,
    command: VenueCommand,
    couplings: VenueCouplings,
    step: Step,
) -> VenueState:
    """Conservation of people; exact for any step while flows, gates and arrivals hold.

    entered' = entered + min(inflow + arrivals, open gates) dt;  left' = left + outflow dt, but nobody leaves
    who is not inside: left' ≤ initial + entered'. A total never falls, also not where counters disagree.
    """
    entry_pmin = np.minimum(state.inflow_pmin + couplings.arrivals_pmin, entry_capacity_pmin(attributes, command))
    entered = state.entered_persons + entry_pmin / 60 * step.dt_s
    wish = state.left_persons + state.outflow_pmin / 60 * step.dt_s
    most = attributes.initial_persons + entered
    left = np.maximum(np.minimum(wish, most), state.left_persons)
    return state.replace(entered_persons=entered, left_persons=left)


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
        "egress_s": egress_time_s(occupancy, density, attributes.exit_width_m, attributes.longest_walk_m),
        "fill": occupancy / attributes.capacity_persons,
        "net_flow_pmin": net_pmin,
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
        Indicator(name="egress_s", unit="s", doc="time until all are out: walk, then exit queue"),
        Indicator(name="fill", unit="1", doc="occupancy divided by capacity"),
        Indicator(name="net_flow_pmin", unit="persons/min", doc="entering less leaving; negative: emptying"),
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
