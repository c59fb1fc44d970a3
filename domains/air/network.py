"""Policies over the network of stations: who disagrees with the neighbours, who is filled in, whose dust it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from domains.air.neighbours import FLOOR, SILL, distances_km, kriged, surprise
from domains.air.plume import known_class, per_gram, reach_m
from twin_actors.core.columns import Column
from twin_actors.core.resources import EARTH_RADIUS_KM
from twin_actors.core.view import CoupleTo, KindView, Parameters, Policy, Proposal, Value, View

STATION, SOURCE = "air_station", "emitter"


def _placed(seen: KindView) -> NDArray[np.bool_]:
    return np.isfinite(seen.lat_deg) & np.isfinite(seen.lon_deg)


def check_stations(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """Words for each station whose day or moment does not fit its neighbours, or whose PM2.5 exceeds its PM10."""
    seen = view.kinds.get(STATION)
    if seen is None or not seen.ids:
        return
    heard = seen.age_s <= float(parameters["max_age_s"])
    placed = _placed(seen)
    if placed.sum() >= 3:
        at = np.flatnonzero(placed)
        distance = distances_km(seen.lat_deg[at], seen.lon_deg[at])
        yield from _misfits(seen, at, heard[at], distance, parameters)
    for row in np.flatnonzero(heard & seen.alerts["pm25_above_pm10"]).tolist():
        yield Proposal(
            key=f"check_stations/{seen.ids[row]}/order",
            reason=(
                f"{seen.ids[row]}: PM2.5 is above PM10 by {seen.indicators['pm_order_excess_ugm3'][row]:.0f} µg/m³ "
                "more than the margin for hours: one of the two analysers is wrong"
            ),
            effects=(),
            because=(seen.ids[row],),
            cooldown_s=float(parameters["cooldown_s"]),
        )


def _misfits(
    seen: KindView, at: NDArray[np.intp], known: NDArray[np.bool_], distance: Column, parameters: Parameters
) -> Iterator[Proposal]:
    for what, field, values, limit in (
        ("day", "pm25_ugm3", seen.indicators["pm25_24h_ugm3"][at], float(parameters["day_z"])),
        ("now", "pm25_ugm3", seen.state.pm25_ugm3[at], float(parameters["now_z"])),
        ("now", "no2_ugm3", seen.state.no2_ugm3[at], float(parameters["now_z"])),
        ("now", "o3_ugm3", seen.state.o3_ugm3[at], float(parameters["now_z"])),
    ):
        expected = kriged(values, known, distance, sill=SILL[field], floor=FLOOR[field])
        z = surprise(values, known, expected, FLOOR[field])
        for place in np.flatnonzero(np.abs(z) > limit).tolist():
            entity = seen.ids[at[place]]
            mean = "24-hour mean" if what == "day" else "value"
            hint = "bias or drift of the analyser" if what == "day" else "a fault, or a source close by"
            yield Proposal(
                key=f"check_stations/{entity}/{field}/{what}",
                reason=(
                    f"{entity}: {mean} of {field} is {values[place]:.3g}, its neighbours make it "
                    f"{expected.value[place]:.3g} ({z[place]:+.1f} sd): {hint}"
                ),
                effects=(),
                because=(entity,),
                cooldown_s=float(parameters["cooldown_s"]),
                objective=float(abs(z[place])),
                bound=limit,
            )


CHECK_STATIONS = Policy(
    name="check_stations",
    doc=(
        "Names stations whose 24-hour mean of PM2.5 (bias, drift) or whose present PM2.5, NO2 or O3 lies more than "
        "day_z or now_z standard deviations off what their neighbours make it (kriging), or with PM2.5 above PM10."
    ),
    propose=check_stations,
    defaults={"day_z": 3.0, "now_z": 4.0, "max_age_s": 7800.0, "cooldown_s": 21_600.0},
)


def fill_in(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """Tell each silent station what its neighbours make of its air: its twin then follows them and not a constant."""
    seen = view.kinds.get(STATION)
    if seen is None or not seen.ids:
        return
    at = np.flatnonzero(_placed(seen))
    if len(at) < 3:
        return
    known = seen.age_s[at] <= float(parameters["silent_s"])
    if known.all():
        return
    distance = distances_km(seen.lat_deg[at], seen.lon_deg[at])
    near = np.where(known & ~np.eye(len(at), dtype=np.bool_), distance, np.inf).min(axis=1)
    told: dict[str, Column] = {}
    for field, sill in SILL.items():
        values = getattr(seen.state, field)[at]
        told[f"nearby_{field}"] = kriged(values, known, distance, sill=sill, floor=FLOOR[field]).value
    for place in np.flatnonzero(~known & (near <= float(parameters["within_km"]))).tolist():
        values_told: dict[str, Value] = {
            name: round(float(column[place]), 4) for name, column in told.items() if np.isfinite(column[place])
        }
        if not values_told:
            continue
        entity = seen.ids[at[place]]
        others = np.flatnonzero(known)[np.argsort(distance[place][known], kind="stable")][:3]
        yield Proposal(
            key=f"fill_in_air/{entity}",
            reason=(
                f"{entity} has been silent for {_hours(float(seen.age_s[at[place]]))}; its neighbours make PM2.5 "
                f"{told['nearby_pm25_ugm3'][place]:.0f} µg/m³"
            ),
            effects=(CoupleTo(entity=entity, values=values_told),),
            because=tuple(seen.ids[at[other]] for other in others.tolist()),
            cooldown_s=float(parameters["cooldown_s"]),
        )


def _hours(age_s: float) -> str:
    return f"{age_s / 3600.0:.1f} h" if np.isfinite(age_s) else "ever"


FILL_IN_AIR = Policy(
    name="fill_in_air",
    doc=(
        "A station silent for silent_s with a neighbour within_km gets what kriging from the others makes of its six "
        "pollutants; its twin relaxes to that instead of its background for as long as it is told."
    ),
    propose=fill_in,
    defaults={"silent_s": 7800.0, "within_km": 60.0, "cooldown_s": 300.0},
)


def find_source(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """Which of the known sources explains what stations measure above background, by non-negative least squares.

    excess_i = Σ_j G_ij q_j, q ≥ 0, with G of the Gaussian plume in the mean wind of the stations. Nothing is said in
    calm air, without excess, or where the sources explain less than ``explained_min`` of it.
    """
    stations, sources = view.kinds.get(STATION), view.kinds.get(SOURCE)
    if stations is None or sources is None:
        return
    at = np.flatnonzero(_placed(stations) & (stations.age_s <= float(parameters["max_age_s"])))
    of = np.flatnonzero(_placed(sources))
    if len(at) < 3 or not len(of):
        return
    east, north = (float(getattr(stations.state, name)[at].mean()) for name in ("wind_east_ms", "wind_north_ms"))
    speed = float(np.hypot(east, north))
    pm25 = stations.state.pm25_ugm3[at]
    excess = np.maximum(pm25 - np.quantile(pm25, float(parameters["background_quantile"])), 0.0)
    if speed < float(parameters["wind_min_ms"]) or excess.max() < float(parameters["noticeable_ugm3"]):
        return
    stability, urban = known_class(str(parameters["stability"])), bool(parameters["urban"])
    per_gs = transfer(stations, at, sources, of, east, north, stability=stability, urban=urban)
    emission, explained = attribute_excess(per_gs, excess)
    share = per_gs * emission
    worst = int(excess.argmax())
    leader = int(share[worst].argmax())
    if explained < float(parameters["explained_min"]) or share[worst, leader] <= 0.0:
        return
    source, station = sources.ids[of[leader]], stations.ids[at[worst]]
    reach = reach_m(
        float(emission[leader]),
        speed,
        float(sources.attributes.height_m[of[leader]]),
        float(parameters["noticeable_ugm3"]),
        stability=stability,
        urban=urban,
    )
    yield Proposal(
        key=f"find_source/{source}",
        reason=(
            f"{source} explains {share[worst, leader]:.0f} of {excess[worst]:.0f} µg/m³ above the background at "
            f"{station} (wind {speed:.1f} m/s from {np.degrees(np.arctan2(-east, -north)) % 360.0:.0f}°): it would "
            f"emit {emission[leader]:.1f} g/s, usual {sources.attributes.usual_gs[of[leader]]:.1f}; more than "
            f"{float(parameters['noticeable_ugm3']):.0f} µg/m³ down to {reach / 1000.0:.1f} km"
        ),
        effects=(),
        because=(source, station),
        cooldown_s=float(parameters["cooldown_s"]),
        objective=explained,
        bound=1.0,
    )


def transfer(
    stations: KindView,
    at: NDArray[np.intp],
    sources: KindView,
    of: NDArray[np.intp],
    wind_east_ms: float,
    wind_north_ms: float,
    *,
    stability: str,
    urban: bool,
) -> Column:
    """µg/m³ at each station for each g/s of each source, ``(stations, sources)``."""
    metres = np.radians(1.0) * EARTH_RADIUS_KM * 1000.0
    north_m = metres * (stations.lat_deg[at][:, None] - sources.lat_deg[of])
    shrink = np.cos(np.radians(stations.lat_deg[at].mean()))
    east_m = metres * shrink * (stations.lon_deg[at][:, None] - sources.lon_deg[of])
    height_m = sources.attributes.height_m[of]
    return per_gram(east_m, north_m, wind_east_ms, wind_north_ms, height_m, stability=stability, urban=urban)


def attribute_excess(per_gs: Column, excess: Column) -> tuple[Column, float]:
    """Emissions q ≥ 0 in g/s that explain the excess best, and the share of its squares that they explain.

    Lawson and Hanson, Solving Least Squares Problems, 1974, ch. 23 (scipy.optimize.nnls, imported here because whoever
    only holds twins does not need it).
    """
    from scipy.optimize import nnls

    scale = np.maximum(per_gs.max(axis=0), 1e-12)  # columns of one size, so that far sources are not lost in rounding
    found, left = nnls(per_gs / scale, excess)
    return found / scale, float(1.0 - left**2 / max(float((excess**2).sum()), 1e-12))


FIND_SOURCE = Policy(
    name="find_source",
    doc=(
        "Which emitter explains PM2.5 above the background (background_quantile of the stations), by a Gaussian plume "
        "of class stability in the stations' mean wind and non-negative least squares. Advice; on record is the share "
        "of the excess (squares) that is explained."
    ),
    propose=find_source,
    defaults={
        "stability": "D",
        "urban": True,
        "background_quantile": 0.3,
        "noticeable_ugm3": 15.0,
        "wind_min_ms": 1.0,
        "explained_min": 0.6,
        "max_age_s": 7800.0,
        "cooldown_s": 3600.0,
    },
)
