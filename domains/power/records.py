"""The records of a substation: what it is made of, reports, remembers, obeys and receives from others."""

from __future__ import annotations

from twin_actors.core.columns import (
    Attributes,
    Axis,
    Column,
    Command,
    Couplings,
    Reading,
    State,
    Windows,
    attribute,
    command,
    coupling,
    memory,
    profile,
    reading,
    state,
)
from twin_actors.core.units import register_unit

register_unit("MW/K", "power per temperature difference")

BLOCK = Axis("block", ("b1", "b2", "b3", "b4", "b5"))
"""Groups of feeders behind one breaker each, the units in which load is shed."""


class SubstationAttributes(Attributes):
    """The transformer, its blocks, and how its customers' load answers the weather.

    ``thermal_standard``: 0 IEC 60076-7, 1 IEEE C57.91 clause 7 (oil_exponent is its n, winding_exponent its 2m).

    Thermal defaults: the recommended characteristics of IEC 60076-7 for an ONAF power transformer.

    For an ONAN distribution transformer: oil_rise_k 55, hotspot_factor × gradient_k 23, oil_tau_min 180,
    winding_tau_min 4, loss_ratio 5, winding_exponent 1.6, k11 1, k21 1, k22 2.
    """

    thermal_standard: Column = attribute("1", default=0.0, minimum=0.0, maximum=1.0)
    rated_mva: Column = attribute("MVA", default=40.0, minimum=0.01, maximum=5000.0)
    power_factor: Column = attribute("1", default=0.95, minimum=0.1, maximum=1.0)
    block_mw: Column = attribute("MW", BLOCK, default=0.0, minimum=0.0)  # 0: there is no such block
    block_priority: Column = attribute("1", BLOCK, default=1.0)  # larger is shed later, equal: b1 first
    oil_rise_k: Column = attribute("K", default=52.0, minimum=1.0, maximum=120.0)
    hotspot_factor: Column = attribute("1", default=1.3, minimum=1.0, maximum=5.0)
    gradient_k: Column = attribute("K", default=20.0, minimum=1.0, maximum=100.0)
    loss_ratio: Column = attribute("1", default=6.0, minimum=0.1)
    oil_exponent: Column = attribute("1", default=0.8, minimum=0.5, maximum=1.2)
    winding_exponent: Column = attribute("1", default=1.3, minimum=1.0, maximum=2.5)
    oil_tau_min: Column = attribute("min", default=150.0, minimum=1.0, maximum=1000.0)
    winding_tau_min: Column = attribute("min", default=7.0, minimum=0.5, maximum=60.0)
    k11: Column = attribute("1", default=0.5, minimum=0.1, maximum=2.0)
    k21: Column = attribute("1", default=2.0, minimum=1.0, maximum=5.0)
    k22: Column = attribute("1", default=2.0, minimum=0.5, maximum=5.0)
    upgraded_paper: Column = attribute("1", default=0.0, minimum=0.0, maximum=1.0)  # 1: thermally upgraded
    ambient_default_c: Column = attribute("degC", default=20.0, minimum=-50.0, maximum=60.0)
    hot_spot_limit_c: Column = attribute("degC", default=120.0, minimum=60.0, maximum=200.0)
    oil_limit_c: Column = attribute("degC", default=105.0, minimum=40.0, maximum=150.0)
    sag_pu: Column = attribute("pu", default=0.04, minimum=0.0, maximum=0.3)  # from no load to rated load
    heating_mw_per_k: Column = attribute("MW/K", default=0.0, minimum=0.0)  # below that temperature
    heating_below_c: Column = attribute("degC", default=15.0)
    cooling_mw_per_k: Column = attribute("MW/K", default=0.0, minimum=0.0)  # above that temperature
    cooling_above_c: Column = attribute("degC", default=22.0)


class SubstationReading(Reading):
    """What the substation's telecontrol reports; ``load_mw`` is what is served, after shedding.

    The rates only catch leaps that no switching and no weather can make: a block may go within one message.
    """

    load_mw: Column = reading("MW", minimum=0.0, maximum=2000.0, sd=0.2, max_rate=100.0)
    voltage_pu: Column = reading("pu", minimum=0.0, maximum=1.5, sd=0.004, max_rate=0.5)
    oil_temp_c: Column = reading("degC", minimum=-40.0, maximum=180.0, sd=0.5, max_rate=3.0)
    ambient_temp_c: Column = reading("degC", minimum=-50.0, maximum=60.0, sd=0.5, max_rate=3.0)


class SubstationState(State):
    """The defaults are one steady state: half load of the default transformer at 20 °C.

    The hot-spot gradients are estimated although nothing measures them: where a twin starts they are as unsure
    as anything, and the joint filter lets that fade with their own time constants and carries the doubt about
    the load into them, so that the hot spot's interval is honest. ``ageing_h`` and the transfer in force are
    exact. ``transfer_mw`` repeats the coupling because what a meter sees depends on it.
    """

    demand_mw: Column = state("MW", default=19.0, minimum=0.0, maximum=4000.0, unsure_sd=15.0, drift=3.0)
    voltage_pu: Column = state("pu", default=1.0, minimum=0.0, maximum=1.5, unsure_sd=0.05, drift=0.02)
    ambient_temp_c: Column = state("degC", default=20.0, minimum=-50.0, maximum=60.0, unsure_sd=8.0, drift=1.5)
    oil_temp_c: Column = state("degC", default=42.8, minimum=-50.0, maximum=250.0, unsure_sd=15.0, drift=0.5)
    h1_k: Column = state("K", default=21.1, minimum=0.0, maximum=500.0, unsure_sd=15.0, drift=1.0)
    h2_k: Column = state("K", default=10.6, minimum=0.0, maximum=500.0, unsure_sd=8.0, drift=0.5)
    ageing_h: Column = memory("h", minimum=0.0)
    transfer_mw: Column = memory("MW")
    hour_of_week_h: Column = memory("h", minimum=0.0, maximum=168.0)  # where the usual week is read


class SubstationWindows(Windows):
    """The usual week of load and weather, hour by hour (UTC)."""

    usual_load_mw: Column = profile("MW", of="load_mw", period="week", bins=168)
    usual_ambient_c: Column = profile("degC", of="ambient_temp_c", period="week", bins=168)


class SubstationCommand(Command):
    """Breaker positions of the blocks (0 connected, 1 disconnected; a breaker stays where it was put), and ties.

    ``tie_mw`` is the net load that the tie switches to neighbours bring here (negative: take away from here).
    """

    block_shed: Column = command("1", BLOCK, default=0.0, minimum=0.0, maximum=1.0)
    tie_mw: Column = command("MW", default=0.0, minimum=-2000.0, maximum=2000.0)


class SubstationCouplings(Couplings):
    """Load that neighbours moved here (negative: moved away from here)."""

    transfer_mw: Column = coupling("MW", default=0.0)
