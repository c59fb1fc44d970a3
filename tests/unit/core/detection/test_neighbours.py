"""Comparison with neighbours: whom, by what, and which faults it tells apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.streams import NAN, UNHURRIED
from twin_actors.core.columns import Column
from twin_actors.core.detection.neighbours import (
    NeighbourMemory,
    Neighbours,
    NeighbourScores,
    neighbour_reason,
    neighbour_residual,
    weighted_median,
)

N, HOURS = 6, 400
ALL = Neighbours.of_weights(np.ones((N, N)), N - 1)


def city(seed: int = 0) -> Column:
    """One weather for all, a share of its own for each, and noise: ``(hours, N)``."""
    chance = np.random.default_rng(seed)
    common = 60 * np.exp(np.cumsum(chance.normal(0, 0.03, HOURS)))
    return common[:, None] * np.linspace(0.97, 1.03, N) * np.exp(chance.normal(0, 0.05, (HOURS, N)))


def run(values: Column, neighbours: Neighbours = ALL) -> list[NeighbourScores]:
    memory, made = NeighbourMemory.empty(values.shape[1]), []
    for row in values:
        scores, memory = neighbour_residual(memory, row, neighbours)
        made.append(scores)
    return made


def test_weighted_medians_by_hand() -> None:
    values = np.array([[1.0, 5, 9], [1, 5, 9], [NAN, 5, 9], [NAN, NAN, NAN], [3, 1, 2]])
    weight = np.array([[1.0, 1, 1], [5, 1, 1], [9, 1, 2], [1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(weighted_median(values, weight), [5, 1, 9, NAN, 1])


def test_neighbours_by_weight_and_by_place() -> None:
    chosen = Neighbours.of_weights(np.array([[9.0, 1, 3], [0, 0, 2], [0, 0, 5]]), 2)
    assert chosen.index[0].tolist() == [2, 1]
    assert chosen.weight.tolist() == [[3, 1], [2, 0], [0, 0]]
    placed = Neighbours.of_places(np.array([40.0, 40.0, 40.0]), np.array([116.0, 116.1, 116.5]), 2, reach_km=10)
    assert placed.index[0, 0] == 1
    assert placed.weight.tolist() == [[1, 0], [1, 0], [0, 0]]
    with pytest.raises(ValueError, match="square matrix"):
        Neighbours.of_weights(np.ones((2, 3)))


def test_what_all_share_is_no_fault() -> None:
    values = city()
    values[300:] *= 3
    assert max(np.nanmax(scores.score) for scores in run(values)) < 0.5


@pytest.mark.parametrize(("share", "off"), [(1.0, 25.0), (1.4, 0.0), (0.6, 0.0)])
def test_a_lasting_fault_is_found_and_its_neighbours_are_left_alone(share: float, off: float) -> None:
    values = city()
    values[300:, 2] = values[300:, 2] * share + off
    made = run(values)
    found = np.array([scores.score for scores in made]) >= 0.5
    assert not found[:300].any()
    assert found[300:330, 2].any()
    assert not np.delete(found, 2, axis=1)[:330].any()
    last = made[-1]
    assert last.expected[2] == pytest.approx(city()[-1, 2], rel=0.25)
    side = "above" if share * 50 + off > 50 else "below"
    assert f"stays {side} what its neighbours suggest" in neighbour_reason("x", "m", float(values[-1, 2]), last, 2)


def test_a_spike_is_known_one_reading_later() -> None:
    values = city()
    values[300, 4] += 60
    made = run(values)
    found = [(hour, twin) for hour, scores in enumerate(made) for twin in np.flatnonzero(scores.score >= 0.5)]
    assert found == [(301, 4)]
    assert "jumped and came back" in neighbour_reason("x", "m", 1.0, made[301], 4)


def test_nobody_to_compare_with_is_no_score() -> None:
    scores, _ = neighbour_residual(NeighbourMemory.empty(N), np.array([1.0, NAN, NAN, NAN, NAN, NAN]), ALL)
    assert np.isnan(scores.score).all()


@UNHURRIED
@given(st.lists(st.lists(st.floats(allow_infinity=False), min_size=N, max_size=N), min_size=1, max_size=60))
def test_scores_are_scores_whatever_is_said(values: list[list[float]]) -> None:
    for scores in run(np.clip(np.array(values), -1e150, 1e150)):
        said = scores.score[~np.isnan(scores.score)]
        assert ((said >= 0) & (said <= 1)).all()
