"""The model contract, and what the joint filter makes of an ambient temperature that nobody measures."""

from __future__ import annotations

import numpy as np

from domains.power import DOMAIN
from domains.power.records import (
    SubstationAttributes,
    SubstationCommand,
    SubstationCouplings,
    SubstationState,
)
from domains.power.substation import SUBSTATION, predict
from domains.power.thermal import steady_hot_spot
from twin_actors.core.columns import Column
from twin_actors.core.inputs import Batch, Channel
from twin_actors.core.kind import Step
from twin_actors.core.table import TwinTable
from twin_actors.testing.domains import check_domain


def test_domain_keeps_the_model_contract() -> None:
    check_domain(DOMAIN)


def stream(
    hours: float, ambient_c: float, demand_mw: float, fields: tuple[str, ...], n: int = 20
) -> tuple[TwinTable, Column, float]:
    """Feed ``n`` twins a reading every minute of a truth that moves by ``predict``; the table and the truth."""
    attributes = SubstationAttributes.defaults(n)
    truth = SubstationState.defaults(n).replace(
        demand_mw=np.full(n, demand_mw),
        ambient_temp_c=np.full(n, ambient_c),
        oil_temp_c=np.full(n, ambient_c + 30.0),
        h1_k=np.full(n, 30.0),
        h2_k=np.full(n, 15.0),
    )
    constants = attributes.block((n,))
    table = TwinTable(SUBSTATION, [f"substation/{i}" for i in range(n)], constants)
    layout, chance, at_s = SUBSTATION.reading.layout, np.random.default_rng(3), 1.78e9
    command, couplings = SubstationCommand.defaults(n), SubstationCouplings.defaults(n)
    for _ in range(round(hours * 60)):
        at_s += 60.0
        step = Step(dt_s=np.full(n, 60.0), at_s=np.full(n, at_s))
        truth = predict(truth, attributes, command, couplings, step).replace(ambient_temp_c=np.full(n, ambient_c))
        values = np.full((layout.rows, n), np.nan)
        exact = {"load_mw": truth.demand_mw, "oil_temp_c": truth.oil_temp_c, "voltage_pu": np.full(n, 1.0)}
        for name in fields:
            values[layout.places[name]] = exact[name] + layout.fields[name].sd * chance.standard_normal(n)
        table.apply(Batch(rows=np.arange(n), observed_at_s=np.full(n, at_s), values=values))
    return table, truth.block((n,)), at_s


def rows(name: str) -> slice:
    return SUBSTATION.state.layout.places[name]


def test_latent_ambient_is_found_from_oil_and_load() -> None:
    """The site is 14 K warmer than the twin assumes and nobody measures it: six hours of load and oil tell."""
    table, truth, at_s = stream(6.0, 34.0, 30.0, ("load_mw", "voltage_pu", "oil_temp_c"))
    x, variance = table.at(at_s)
    ambient = rows("ambient_temp_c")
    off_k = x[ambient] - truth[ambient]
    assert abs(off_k.mean()) < 1.0
    assert np.sqrt((off_k**2).mean()) < 2.0
    assert (np.sqrt(variance[ambient]) < 3.0).all()
    within = np.abs(off_k) < 2.6 * np.sqrt(variance[ambient])
    assert within.mean() >= 0.9


def test_six_hours_ahead_the_hot_spot_is_right_to_two_kelvin() -> None:
    """Without the correction of the latent ambient this forecast is off by the 14 K that the site is warmer."""
    table, truth, at_s = stream(6.0, 34.0, 30.0, ("load_mw", "oil_temp_c"))
    ahead, _ = table.at(at_s + 6 * 3600.0)
    hot_spot = ahead[rows("oil_temp_c")] + ahead[rows("h1_k")] - ahead[rows("h2_k")]
    factor = np.full(truth.shape[1], 30.0 / 38.0)
    settled = steady_hot_spot(factor, np.full(truth.shape[1], 34.0), SubstationAttributes.defaults(truth.shape[1]))
    assert abs((hot_spot - settled).mean()) < 2.0


def test_gradients_that_nothing_measures_forget_their_start() -> None:
    table, truth, at_s = stream(4.0, 20.0, 30.0, ("load_mw", "oil_temp_c"))
    x, variance = table.at(at_s)
    for name, unsure_sd in (("h1_k", 15.0), ("h2_k", 8.0)):
        np.testing.assert_allclose(x[rows(name)], truth[rows(name)], atol=1.5)
        assert (np.sqrt(variance[rows(name)]) < unsure_sd / 5).all()


def test_shedding_does_not_move_the_demand_that_is_estimated() -> None:
    """Measured load is demand less shed: with a block out the twin still knows what customers want."""
    n = 1
    attributes = SubstationAttributes.defaults(n).replace(block_mw=np.full((5, n), 5.0))
    table = TwinTable(SUBSTATION, ["substation/0"], attributes.block((n,)))
    layout = SUBSTATION.reading.layout
    for minute in range(30):
        at_s = np.array([1.78e9 + 60.0 * minute])
        if minute == 15:
            shed = np.array([[1.0], [1.0], [0.0], [0.0], [0.0], [np.nan]])
            table.apply(
                Batch(
                    rows=np.zeros(1, np.intp),
                    observed_at_s=at_s,
                    values=shed,
                    channels=np.array([Channel.COMMAND], np.uint8),
                )
            )
        values = np.full((layout.rows, n), np.nan)
        values[layout.places["load_mw"]] = 30.0 if minute < 15 else 20.0
        table.apply(Batch(rows=np.zeros(1, np.intp), observed_at_s=at_s, values=values))
    shown = table.show(float(at_s[0]))
    assert shown.x[rows("demand_mw")][0, 0] == np.float64(shown.indicators["load_mw"][0] + 10.0)
    np.testing.assert_allclose(shown.x[rows("demand_mw")], 30.0, atol=0.1)
    np.testing.assert_allclose(shown.indicators["shed_mw"], 10.0)
