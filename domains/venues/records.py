"""The records of a venue: what is built, what its door counters say, what is remembered, obeyed and sent."""

from __future__ import annotations

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
    memory,
    running_total,
    state,
)


class VenueAttributes(Attributes):
    """What is built, what the operator calls crowded or emptying, when it is empty, and the next event.

    ``empty_at_h`` is the hour of the day (UTC) at which nobody is inside, −1: there is none; there the door counters
    are set to zero and their error of the day is learnt with ``counter_learning``. An event with ``event_persons``
    starts and ends at ``event_start_s`` and ``event_end_s`` (seconds since the epoch).
    """

    area_m2: Column = attribute("m2", minimum=1.0)
    capacity_persons: Column = attribute("persons", minimum=1.0)
    exit_width_m: Column = attribute("m", minimum=0.1)  # effective: clear width less boundary layers
    gates: Column = attribute("1", default=20.0, minimum=0.0)
    # One turnstile lets 660 persons an hour in (Guide to Safety at Sports Grounds, 6th ed., entry capacity).
    gate_flow_pmin: Column = attribute("persons/min", default=11.0, minimum=0.0)
    longest_walk_m: Column = attribute("m", default=40.0, minimum=0.0)
    stair_width_m: Column = attribute("m", default=0.0, minimum=0.0)  # of all stairs down; 0: no stairs on the way
    stair_length_m: Column = attribute("m", default=0.0, minimum=0.0)
    initial_persons: Column = attribute("persons", default=0.0, minimum=0.0)
    empty_at_h: Column = attribute("h", default=-1.0, minimum=-1.0, maximum=24.0)
    counter_learning: Column = attribute("1", default=0.15, minimum=0.0, maximum=1.0)
    event_start_s: Column = attribute("s", default=0.0, minimum=0.0)
    event_end_s: Column = attribute("s", default=0.0, minimum=0.0)
    event_persons: Column = attribute("persons", default=0.0, minimum=0.0)
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
    """Levels of the two totals, the two flows that move them (latent: none is measured), and the counters' error.

    The memories are those of ``doors``: both totals when the venue was last empty and how often that has been, the
    share of entries that are counted too many, and persons who must have come in uncounted since.
    """

    entered_persons: Column = state("persons", minimum=0.0, default=0.0, unsure_sd=10_000.0, drift=60.0)
    left_persons: Column = state("persons", minimum=0.0, default=0.0, unsure_sd=10_000.0, drift=60.0)
    inflow_pmin: Column = state("persons/min", minimum=0.0, default=0.0, unsure_sd=150.0, drift=250.0)
    outflow_pmin: Column = state("persons/min", minimum=0.0, default=0.0, unsure_sd=150.0, drift=250.0)
    entered_before_persons: Column = memory("persons")
    left_before_persons: Column = memory("persons")
    nights: Column = memory("1", minimum=0.0)
    miscount: Column = memory("1", minimum=-1.0, maximum=1.0)
    uncounted_persons: Column = memory("persons", minimum=0.0)
    clock_s: Column = memory("s")


class VenueCommand(Command):
    """What the city may ask of a venue."""

    gates_open: Column = command("1", minimum=0.0, maximum=1.0, default=1.0)  # share of the entry gates


class VenueCouplings(Couplings):
    """People whom other twins send."""

    arrivals_pmin: Column = coupling("persons/min", default=0.0)
