"""Twins of every kind are the same to the bit whether compiled loops or numpy moves them."""

from __future__ import annotations

import numpy as np
import pytest

from twin_actors.core.inputs import Batch, Channel
from twin_actors.core.kernels import VARIABLE, kernels
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.testing.domains import plausible_attributes

KINDS = load_catalogue().kinds
TWINS = 30
BATCHES = 90  # past the readings in which a row learns its scale


def batches(kind: Kind, seed: int) -> list[Batch]:
    """What a bad network tells of twins: late, repeated, missing and wild readings, commands and couplings."""
    chance = np.random.default_rng(seed)
    reading, state = kind.reading.layout, kind.state.layout
    usual = np.zeros((reading.rows, 1))
    for name, field in reading.fields.items():
        if (field.of or name) in state.fields:
            usual[reading.places[name]] = state.per_row("default")[state.places[field.of or name]]
    most_rows = max(reading.rows, kind.command.layout.rows, kind.couplings.layout.rows)
    told = []
    for number in range(BATCHES):
        everyone = chance.random() < 0.5
        rows = np.arange(TWINS) if everyone else chance.integers(0, TWINS, chance.integers(1, 2 * TWINS))
        b = len(rows)
        values = np.full((most_rows, b), np.nan)
        spread = np.maximum(np.abs(usual), 1.0) * chance.choice([0.0, 0.1, 3.0])
        said = np.clip(
            usual + chance.normal(0, 1, (reading.rows, b)) * spread,
            reading.per_row("minimum"),
            reading.per_row("maximum"),
        )
        if not everyone or chance.random() < 0.3:
            said[chance.random(said.shape) < 0.2] = np.nan
            odd = chance.choice([1e12, -1e12, np.inf, 0.0], said.shape)
            said = np.where(chance.random(said.shape) < 0.02, odd, said)
        values[: reading.rows] = said
        channels = np.full(b, Channel.READING)
        if not everyone:
            channels = chance.choice([Channel.READING, Channel.COMMAND, Channel.COUPLING], b, p=[0.8, 0.1, 0.1])
        for channel, layout in ((Channel.COMMAND, kind.command.layout), (Channel.COUPLING, kind.couplings.layout)):
            of = channels == channel
            values[:, of] = np.nan
            values[: layout.rows, of] = layout.per_row("default") * (1 + chance.random((layout.rows, of.sum())))
        late_s = np.where(chance.random(b) < 0.1, 400.0, 0.0)
        told.append(
            Batch(
                rows=rows.astype(np.intp),
                observed_at_s=1e9 + 300.0 * number - (np.zeros(b) if everyone else late_s),
                values=values,
                keys=number - (chance.random(b) < 0.05),
                channels=channels,
            )
        )
    return told


def lived(kind: Kind, seed: int, own_noises: bool) -> TwinTable:
    kernels.cache_clear()
    table = TwinTable(
        kind, [f"{kind.name}/{n}" for n in range(TWINS)], plausible_attributes(kind, TWINS, np.random.default_rng(seed))
    )
    if own_noises:
        by_twin = np.linspace(0.5, 2.0, TWINS)
        table.set_noises(
            np.asfortranarray(np.sqrt(table.sd2) * by_twin), np.asfortranarray(np.sqrt(table.drift2_h) * by_twin)
        )
    for batch in batches(kind, seed):
        table.apply(batch)
    return table


@pytest.mark.skipif(kernels().loops is None, reason=kernels().says)
@pytest.mark.parametrize("own_noises", [False, True])
@pytest.mark.parametrize("name", sorted(KINDS))
def test_same_twins(name, own_noises, monkeypatch):
    compiled = lived(KINDS[name], 1, own_noises)
    with monkeypatch.context() as without:
        without.setenv(VARIABLE, "off")
        by_numpy = lived(KINDS[name], 1, own_noises)
        assert kernels().loops is None
    kernels.cache_clear()
    assert compiled.fates.sum(axis=1)[0] > BATCHES * TWINS / 3  # the stream is not all refused
    mine, theirs = compiled.snapshot(), by_numpy.snapshot()
    for key, array in theirs.items():
        assert mine[key].dtype == array.dtype, key
        assert mine[key].tobytes() == array.tobytes(), f"{key}: {np.argwhere(mine[key] != array)[:5]}"
