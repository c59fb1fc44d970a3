"""Words for the control room: how long an overload can last (``overload_advice``), and where load is wasted."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from domains.power import loading, thermal
from domains.power.endurance import time_to_limit_h
from domains.power.records import SubstationAttributes, SubstationState
from domains.power.shedding import KIND
from twin_actors.core.columns import Column
from twin_actors.core.view import KindView, Parameters, Policy, Proposal, View

_MOST_FACTOR = 4.0
_HALVINGS = 20


def load_factor_for(state: SubstationState, attributes: SubstationAttributes, hours_h: float) -> Column:
    """The largest load factor ``(…, n)`` that can be held from now on for ``hours_h`` hours before a limit is reached.

    By bisection of ``time_to_limit_h``, to 4·2⁻²⁰; 0 where the transformer is at a limit already, 4 at most.
    """
    start = thermal.Temperatures(
        ambient_c=state.ambient_temp_c, oil_c=state.oil_temp_c, h1_k=state.h1_k, h2_k=state.h2_k
    )
    low: Column = np.zeros(np.shape(state.oil_temp_c))
    high = np.full_like(low, _MOST_FACTOR)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        course = thermal.Course.of(start, middle, attributes)
        lasts = time_to_limit_h(course, attributes.hot_spot_limit_c, attributes.oil_limit_c) >= hours_h
        low, high = np.where(lasts, middle, low), np.where(lasts, high, middle)
    return low


def in_words(hours_h: float) -> str:
    """A duration as people say it: ``1 h 20 min``."""
    minutes = round(hours_h * 60.0)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _some(record: SubstationState | SubstationAttributes, rows: NDArray[np.intp]) -> dict[str, Column]:
    return {name: getattr(record, name)[..., rows] for name in record.layout.fields}


def overload_advice(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """One proposal without effects for each substation whose load cannot last ``within_h`` hours, shortest first."""
    seen = view.kinds.get(KIND)
    if seen is None or not seen.ids:
        return
    lasts_h = seen.indicators["time_to_limit_h"]
    heard = seen.age_s <= float(parameters["max_age_s"])
    rows = np.flatnonzero(heard & (lasts_h < float(parameters["within_h"])))
    if not len(rows):
        return
    rows = rows[np.argsort(lasts_h[rows], kind="stable")]
    attributes = SubstationAttributes(**_some(seen.attributes, rows))
    state = SubstationState(**_some(seen.state, rows))
    rated_mw = loading.rated_mw(attributes)
    hours_h = float(parameters["within_h"])
    for_hours_mw = load_factor_for(state, attributes, hours_h) * rated_mw
    for_ever_mw = (
        thermal.permissible_load_factor(attributes.hot_spot_limit_c, state.ambient_temp_c, attributes) * rated_mw
    )
    for place, row in enumerate(rows.tolist()):
        entity, load_mw = seen.ids[row], float(seen.indicators["load_mw"][row])
        lasts = "no longer: it is past a limit" if lasts_h[row] <= 0.0 else f"{in_words(float(lasts_h[row]))} more"
        yield Proposal(
            key=f"overload_advice/{entity}",
            reason=(
                f"{entity}: {load_mw:.1f} MW can last {lasts} (limits {attributes.hot_spot_limit_c[place]:.0f} °C hot "
                f"spot, {attributes.oil_limit_c[place]:.0f} °C oil); {for_hours_mw[place]:.1f} MW could for "
                f"{in_words(hours_h)}, {for_ever_mw[place]:.1f} MW for ever; the next day's peak is expected at "
                f"{seen.indicators['expected_peak_mw'][row]:.1f} MW"
            ),
            effects=(),
            because=(entity,),
            cooldown_s=float(parameters["cooldown_s"]),
            objective=float(lasts_h[row]),
        )


OVERLOAD_ADVICE = Policy(
    name="overload_advice",
    doc="Says how long a load can last that reaches a temperature limit within within_h, and what load could last.",
    propose=overload_advice,
    defaults={"within_h": 4.0, "max_age_s": 900.0, "cooldown_s": 900.0},
)


def find_waste(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """One proposal without effects for each substation with a load that follows neither weather nor rhythm."""
    seen = view.kinds.get(KIND)
    if seen is None or not seen.ids:
        return
    heard = seen.age_s <= float(parameters["max_age_s"])
    yield from _unexplained(seen, heard, parameters)
    yield from _without_rhythm(seen, heard, parameters)


def _unexplained(seen: KindView, heard: NDArray[np.bool_], parameters: Parameters) -> Iterable[Proposal]:
    share, load_mw = seen.indicators["unexplained_share"], seen.indicators["load_mw"]
    for row in np.flatnonzero(heard & seen.alerts["load_without_reason"]).tolist():
        entity = seen.ids[row]
        more_mw = float(load_mw[row] * share[row] / (1.0 + share[row])) if share[row] > -1.0 else 0.0
        yield Proposal(
            key=f"find_waste/{entity}/unexplained",
            reason=(
                f"{entity}: {more_mw:.1f} MW ({share[row]:.0%}) more than the hour of the week and "
                f"{_weather(seen, row)} explain, for hours: look for plant left "
                "running, a fault to earth, or customers that are new"
            ),
            effects=(),
            because=(entity,),
            cooldown_s=float(parameters["cooldown_s"]),
            objective=24.0 * max(more_mw, 0.0),
        )


def _weather(seen: KindView, row: int) -> str:
    known = seen.attributes.heating_mw_per_k[row] > 0.0 or seen.attributes.cooling_mw_per_k[row] > 0.0
    outside = f"{seen.state.ambient_temp_c[row]:.0f} °C outside"
    return outside if known else f"{outside} (no answer to weather is known)"


def _without_rhythm(seen: KindView, heard: NDArray[np.bool_], parameters: Parameters) -> Iterable[Proposal]:
    ratio, limit = seen.indicators["base_load_ratio"], float(parameters["base_load_limit"])
    for row in np.flatnonzero(heard & (ratio > limit)).tolist():
        entity, load_mw = seen.ids[row], float(seen.indicators["load_mw"][row])
        saving_mw = load_mw * float(ratio[row] - limit)
        yield Proposal(
            key=f"find_waste/{entity}/rhythm",
            reason=(
                f"{entity}: the quietest six hours of the day draw {ratio[row]:.0%} of the busiest six (usual: below "
                f"{limit:.0%}): look at what runs at night"
            ),
            effects=(),
            because=(entity,),
            cooldown_s=float(parameters["cooldown_s"]),
            objective=6.0 * saving_mw,
        )


FIND_WASTE = Policy(
    name="find_waste",
    doc=(
        "Names substations with load that neither the hour of the week nor the weather explains (alert "
        "load_without_reason), or whose nights draw more than base_load_limit of their days. The objective on record "
        "is the energy in question, MWh a day."
    ),
    propose=find_waste,
    defaults={"base_load_limit": 0.85, "max_age_s": 900.0, "cooldown_s": 86_400.0},
)
