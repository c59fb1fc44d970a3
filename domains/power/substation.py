"""The kind ``substation``: one transformer by IEC 60076-7 or IEEE C57.91, its load, voltage, blocks and ties."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from domains.power import loading, rhythm, thermal
from domains.power.devices import DEVICES
from domains.power.endurance import time_to_limit_h
from domains.power.records import (
    SubstationAttributes,
    SubstationCommand,
    SubstationCouplings,
    SubstationReading,
    SubstationState,
    SubstationWindows,
)
from twin_actors.core.columns import Column
from twin_actors.core.kind import Alert, Indicator, Indicators, Kind, Need, Step

# Temperatures and load are exact for any step; three minutes keep the ageing integral within 0.1 % (thermal.py).
MAX_STEP_S = 180.0
WEEK_S = 604_800.0

GENERATOR_BOUND_S = 4 * 3600.0
CREW_BOUND_S = 2 * 3600.0
AHEAD_H = np.arange(1.0, 25.0)
UNSERVED_URGENCY = 2.0  # customers without power weigh twice a transformer above its rating
OVERLOAD_URGENCY = 1.0
HOT_URGENCY = 10.0


def temperatures(state: SubstationState) -> thermal.Temperatures:
    """The thermal part of the state."""
    return thermal.Temperatures(
        ambient_c=state.ambient_temp_c, oil_c=state.oil_temp_c, h1_k=state.h1_k, h2_k=state.h2_k
    )


def predict(
    state: SubstationState,
    attributes: SubstationAttributes,
    command: SubstationCommand,
    couplings: SubstationCouplings,
    step: Step,
) -> SubstationState:
    """Heat or cool the transformer under the load that is left after shedding, exactly for any step.

    IEC 60076-7, exponential form, in closed form while demand, transfer and breakers hold; IEEE C57.91 clause 7 with
    its time constant taken anew in every step. Demand and voltage stay as they are; ambient fades slowly to its
    usual value. Ageing is ∫V dt, integrated along the course of the hot spot. The place in the week follows the
    clock, counted from the epoch as the core counts its profiles (a Thursday, 00:00 UTC).
    """
    served = loading.served_mw(state.demand_mw, couplings.transfer_mw, attributes, command)
    course = thermal.Course.of(temperatures(state), loading.load_factor(served, attributes), attributes)
    moved = course.after(step.dt_s)
    ageing = course.of_first_sample() if step.points else course  # no temperature depends on it
    return state.replace(
        ambient_temp_c=moved.ambient_c,
        oil_temp_c=moved.oil_c,
        h1_k=moved.h1_k,
        h2_k=moved.h2_k,
        ageing_h=state.ageing_h + ageing.loss_of_life_h(step.dt_s),
        transfer_mw=couplings.transfer_mw,
        hour_of_week_h=np.broadcast_to(np.mod(step.at_s, WEEK_S) / 3600.0, np.shape(state.demand_mw)),
    )


def observe(
    state: SubstationState, attributes: SubstationAttributes, command: SubstationCommand
) -> Mapping[str, Column]:
    """The meter sees what is served, MW: demand and transfer less what is shed."""
    return {"load_mw": loading.served_mw(state.demand_mw, state.transfer_mw, attributes, command)}


def indicators(
    state: SubstationState, attributes: SubstationAttributes, command: SubstationCommand, windows: SubstationWindows
) -> Indicators:
    """Load, temperatures, ageing and what is left, all ``(…, n)``; meanings and units in ``SHOWS``."""
    asked = loading.asked_mw(state.demand_mw, state.transfer_mw, command)
    shed = loading.shed_mw(asked, attributes, command)
    load = asked - shed
    factor = loading.load_factor(load, attributes)
    now = temperatures(state)
    hot_spot_c = now.hot_spot_c
    lasts_h = time_to_limit_h(
        thermal.Course.of(now, factor, attributes), attributes.hot_spot_limit_c, attributes.oil_limit_c
    )
    unexplained = rhythm.unexplained_mw(load, state, attributes, windows)
    rated = loading.rated_mw(attributes)
    permissible = thermal.permissible_load_factor(attributes.hot_spot_limit_c, state.ambient_temp_c, attributes)
    return {
        "load_mw": load,
        "load_factor": factor,
        "hot_spot_temp_c": hot_spot_c,
        "hot_spot_margin_k": attributes.hot_spot_limit_c - hot_spot_c,
        "oil_margin_k": attributes.oil_limit_c - state.oil_temp_c,
        "steady_hot_spot_temp_c": thermal.steady_hot_spot(factor, state.ambient_temp_c, attributes),
        "ageing_rate": thermal.ageing_rate(hot_spot_c, attributes.upgraded_paper, attributes.thermal_standard),
        "time_to_limit_h": lasts_h,
        "shed_mw": shed,
        "unserved_share": shed / np.maximum(asked, 1e-9),
        "overload_mw": np.maximum(load - rated, 0.0),
        "headroom_mw": permissible * rated - load,
        "expected_peak_mw": rhythm.load_ahead_mw(load, state, windows, AHEAD_H).max(axis=0),
        "unexplained_share": unexplained / np.maximum(load - unexplained, rhythm.LEAST_SHARE * rated),
        "base_load_ratio": rhythm.base_load_ratio(windows) + np.zeros_like(load),
    }


SHOWS = (
    Indicator(name="load_mw", unit="MW", doc="load through the transformer, after shedding"),
    Indicator(name="load_factor", unit="1", doc="load over rated power: K of IEC 60076-7"),
    Indicator(name="hot_spot_temp_c", unit="degC", doc="hottest spot of the winding: θo + Δθh1 − Δθh2"),
    Indicator(name="hot_spot_margin_k", unit="K", doc="hot_spot_limit_c less the hot spot; negative: too hot"),
    Indicator(name="oil_margin_k", unit="K", doc="oil_limit_c less the top oil; negative: too hot"),
    Indicator(name="steady_hot_spot_temp_c", unit="degC", doc="hot spot that the present load and ambient lead to"),
    Indicator(name="ageing_rate", unit="1", doc="relative ageing rate V of the insulation; 1 is normal life"),
    Indicator(
        name="time_to_limit_h",
        unit="h",
        doc="how long the present load can last until hot spot or top oil reach their limit; 72: for ever",
    ),
    Indicator(name="shed_mw", unit="MW", doc="load that is asked for and not served"),
    Indicator(name="unserved_share", unit="1", doc="shed_mw over all that is asked for"),
    Indicator(name="overload_mw", unit="MW", doc="load above the rated active power"),
    Indicator(
        name="headroom_mw",
        unit="MW",
        doc="load that could be added for ever until the hot spot reaches its limit; negative: too much already",
    ),
    Indicator(name="expected_peak_mw", unit="MW", doc="highest load expected in the next 24 hours, by the usual week"),
    Indicator(
        name="unexplained_share",
        unit="1",
        doc="load that follows neither the usual week nor the weather, over what these explain; 0: not yet known",
    ),
    Indicator(
        name="base_load_ratio",
        unit="1",
        doc="load of the quietest six hours of an average day over that of the busiest six; 0: not yet known",
    ),
)

ALERTS = (
    Alert(
        name="hot_transformer",
        of="hot_spot_margin_k",
        below=0.0,
        clear=5.0,
        severity="critical",
        says="the hot spot is above hot_spot_limit_c: shed load",
        emergency=True,
    ),
    Alert(
        name="oil_hot",
        of="oil_margin_k",
        below=0.0,
        clear=3.0,
        severity="critical",
        says="the top oil is above oil_limit_c",
    ),
    Alert(
        name="overload",
        of="load_factor",
        above=1.0,
        clear=0.95,
        for_s=60.0,
        says="the load is above the rated power",
    ),
    Alert(
        name="overload_ends_soon",
        of="time_to_limit_h",
        below=1.0,
        clear=1.5,
        for_s=60.0,
        says="at the present load the transformer reaches a temperature limit within an hour",
    ),
    Alert(
        name="load_without_reason",
        of="unexplained_share",
        above=0.15,
        clear=0.05,
        for_s=6 * 3600.0,
        severity="info",
        says="for six hours more load than the hour of the week and the weather explain",
    ),
    # EN 50160: 90 to 110 per cent of the nominal voltage.
    Alert(name="undervoltage", of="voltage_pu", below=0.9, clear=0.92, says="below 90 % of nominal"),
    Alert(name="overvoltage", of="voltage_pu", above=1.1, clear=1.08, says="above 110 % of nominal"),
)


def needs(state: SubstationState, attributes: SubstationAttributes, indicators: Indicators) -> Mapping[str, Need]:
    """``mobile_generator`` in MW: what is unserved and what is above the rating; ``crew``: one if too hot.

    A megawatt of a generator counts double where customers are without power; a crew grows more urgent with
    every kelvin above the limit.
    """
    unserved, overload = indicators["shed_mw"], indicators["overload_mw"]
    wanted = unserved + overload
    urgency = (UNSERVED_URGENCY * unserved + OVERLOAD_URGENCY * overload) / np.maximum(wanted, 1e-9)
    too_hot_k = np.maximum(-indicators["hot_spot_margin_k"], 0.0)
    hot = indicators["hot_spot_margin_k"] < 0.0
    return {
        "mobile_generator": Need(amount=wanted, urgency=urgency, duration_s=np.full_like(wanted, GENERATOR_BOUND_S)),
        "crew": Need(
            amount=hot.astype(np.float64),
            urgency=np.where(hot, HOT_URGENCY + too_hot_k, 0.0),
            duration_s=np.full_like(wanted, CREW_BOUND_S),
        ),
    }


SUBSTATION = Kind(
    name="substation",
    doc="A substation: transformer temperatures and ageing by IEC 60076-7 or IEEE C57.91, load, voltage, shedding.",
    attributes=SubstationAttributes,
    reading=SubstationReading,
    state=SubstationState,
    command=SubstationCommand,
    couplings=SubstationCouplings,
    windows=SubstationWindows,
    predict=predict,
    observe=observe,
    indicators=indicators,
    shows=SHOWS,
    alerts=ALERTS,
    needs=needs,
    filter="joint",
    max_step_s=MAX_STEP_S,
    devices=DEVICES,
    headline=("load_mw", "hot_spot_temp_c", "headroom_mw"),
)
