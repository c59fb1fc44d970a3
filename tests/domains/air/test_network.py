"""The network's policies: who is checked, who is filled in, whose dust it is, and what each says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from domains.air import DOMAIN
from domains.air.emitter import EMITTER, EmitterAttributes, EmitterState
from domains.air.network import CHECK_STATIONS, FILL_IN_AIR, FIND_SOURCE, check_stations, fill_in, find_source
from domains.air.plume import per_gram
from domains.air.records import AirAttributes, AirCouplings, AirState, AirWindows
from domains.air.station import AIR_STATION, indicators, predict
from tests.domains.air.beijing import LAT, LON, STATIONS
from twin_actors.core.columns import Column, Command, Couplings
from twin_actors.core.kind import Kind, Step
from twin_actors.core.view import CoupleTo, KindView, View

N = len(STATIONS)


def seen(kind: Kind, ids: tuple[str, ...], lat: Column, lon: Column, **changed: Any) -> KindView:
    n = len(ids)
    record: dict[str, Any] = {
        "kind": kind,
        "ids": ids,
        "command": Command(),
        "desired": Command(),
        "couplings": Couplings(),
        "proposed": None,
        "alerts": {alert.name: np.zeros(n, np.bool_) for alert in kind.alerts},
        "needs": {},
        "age_s": np.zeros(n),
        "revision": np.zeros(n, np.int64),
        "tags": ({},) * n,
        "lat_deg": lat,
        "lon_deg": lon,
        "indicators": {},
    }
    record.update(changed)
    return KindView(**{**record, "sd": record["state"]})


def stations(state: AirState, age_s: Column | None = None, alerts: dict[str, Any] | None = None) -> KindView:
    attributes = AirAttributes.defaults(N)
    return seen(
        AIR_STATION,
        tuple(f"air_station/{name.lower()}" for name in STATIONS),
        LAT,
        LON,
        state=state,
        attributes=attributes,
        indicators=indicators(state, attributes, Command(), AirWindows.defaults(N)),
        age_s=np.zeros(N) if age_s is None else age_s,
        alerts={"pm25_above_pm10": np.zeros(N, np.bool_)} | (alerts or {}),
    )


def view(**kinds: KindView) -> View:
    return View(now_s=1.78e9, kinds=kinds)


def even(**changed: Column) -> AirState:
    return AirState.defaults(N).replace(pm25_ugm3=np.full(N, 60.0), **changed)


def test_a_station_that_does_not_fit_is_named_with_what_its_neighbours_make_of_it() -> None:
    wrong = even().pm25_ugm3.copy()
    wrong[3] = 240.0
    lines = list(check_stations(view(air_station=stations(even().replace(pm25_ugm3=wrong))), CHECK_STATIONS.defaults))
    assert {line.because for line in lines} == {("air_station/dongsi",)}
    assert "24-hour mean of pm25_ugm3 is 240, its neighbours make it 60" in lines[0].reason
    assert not any(line.effects for line in lines)
    assert not list(check_stations(view(air_station=stations(even())), CHECK_STATIONS.defaults))
    order = {"pm25_above_pm10": np.arange(N) == 2}
    (line,) = check_stations(view(air_station=stations(even(), alerts=order)), CHECK_STATIONS.defaults)
    assert line.key == "check_stations/air_station/dingling/order"


def test_a_silent_station_follows_its_neighbours_instead_of_its_background() -> None:
    age_s = np.where(np.arange(N) == 4, 1e4, 60.0)
    state = even(no2_ugm3=np.full(N, 44.0)).replace(co_mgm3=np.full(N, 1.2))
    (proposal,) = fill_in(view(air_station=stations(state, age_s)), FILL_IN_AIR.defaults)
    (effect,) = proposal.effects
    assert isinstance(effect, CoupleTo)
    assert effect.entity == "air_station/guanyuan"
    assert effect.values["nearby_pm25_ugm3"] == pytest.approx(60.0, rel=1e-3)
    assert effect.values["nearby_co_mgm3"] == pytest.approx(1.2, rel=1e-3)
    assert len(proposal.because) == 3
    assert "silent for 2.8 h" in proposal.reason

    one = AirState.defaults(2).replace(pm25_ugm3=np.full(2, 5.0))
    told = AirCouplings.defaults(2).replace(nearby_pm25_ugm3=np.array([60.0, -1.0]))
    step = Step(dt_s=np.full(2, 12 * 3600.0), at_s=np.full(2, 1.78e9))
    after = predict(one, AirAttributes.defaults(2), Command(), told, step)
    assert after.pm25_ugm3[0] == pytest.approx(60.0, abs=0.3)
    assert after.pm25_ugm3[1] == pytest.approx(8.0, abs=0.1)
    assert not list(fill_in(view(air_station=stations(even())), FILL_IN_AIR.defaults))
    assert not list(fill_in(view(air_station=stations(even(), np.full(N, 1e5))), FILL_IN_AIR.defaults))


def emitters() -> KindView:
    """A works 1.5 km west of Guanyuan and one far in the north."""
    lat, lon = np.array([39.929, 40.45]), np.array([116.339 - 0.0176, 116.3])
    state = EmitterState.defaults(2)
    return seen(
        EMITTER, ("emitter/works", "emitter/kiln"), lat, lon, state=state, attributes=EmitterAttributes.defaults(2)
    )


def test_the_source_upwind_is_named_with_what_it_must_emit() -> None:
    metre = np.radians(1.0) * 6371008.8
    east = (LON - (116.339 - 0.0176)) * metre * np.cos(np.radians(LAT.mean()))
    north = (LAT - 39.929) * metre
    added = 200.0 * per_gram(east, north, 3.0, 0.0, 40.0, stability="D", urban=True)
    assert added[4] > 60.0
    blown = even(wind_east_ms=np.full(N, 3.0)).replace(pm25_ugm3=20.0 + added)
    (proposal,) = find_source(view(air_station=stations(blown), emitter=emitters()), FIND_SOURCE.defaults)
    assert proposal.because == ("emitter/works", "air_station/guanyuan")
    assert "from 270°" in proposal.reason
    assert "it would emit 200.0 g/s" in proposal.reason
    assert proposal.objective == pytest.approx(1.0, abs=0.01)

    against = blown.replace(wind_east_ms=np.full(N, -3.0))
    assert not list(find_source(view(air_station=stations(against), emitter=emitters()), FIND_SOURCE.defaults))
    calm = blown.replace(wind_east_ms=np.zeros(N))
    assert not list(find_source(view(air_station=stations(calm), emitter=emitters()), FIND_SOURCE.defaults))
    assert not list(find_source(view(air_station=stations(even()), emitter=emitters()), FIND_SOURCE.defaults))


def test_the_domain_offers_them() -> None:
    assert {"check_stations", "fill_in_air", "find_source"} <= set(DOMAIN.policies)
