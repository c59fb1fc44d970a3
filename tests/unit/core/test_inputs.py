"""Batches of inputs, and the rounds in which they are applied."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.streams import UNHURRIED
from twin_actors.core.cleaning import NO_KEY
from twin_actors.core.inputs import FEWEST, PORTION, Batch, Channel, portions, rounds


def test_rounds_by_hand() -> None:
    # positions          0  1  2  3  4  5  6
    twins = np.array([4, 7, 4, 4, 9, 7, 4], np.intp)
    got = [part.tolist() for part in rounds(twins)]
    # first inputs of 4, 7, 9; then the second of 4 and 7; then the third, then the fourth of 4
    assert [sorted(part) for part in got] == [[0, 1, 4], [2, 5], [3], [6]]


def test_one_input_and_all_different_twins_are_one_round() -> None:
    assert [part.tolist() for part in rounds(np.array([3], np.intp))] == [[0]]
    assert [part.tolist() for part in rounds(np.array([5, 1, 3], np.intp))] == [[1, 2, 0]]  # by twin


@UNHURRIED
@given(st.lists(st.integers(0, 6), min_size=0, max_size=60))
def test_rounds_hold_every_input_once_in_the_order_of_each_twin(twins: list[int]) -> None:
    rows = np.array(twins, np.intp)
    parts = rounds(rows)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows)))
    for part in parts:
        assert len(set(rows[part].tolist())) == len(part), "a twin occurs twice in a round"
    for twin in set(twins):
        own = [position for part in parts for position in part.tolist() if rows[position] == twin]
        assert own == np.flatnonzero(rows == twin).tolist()
        # The k-th input of a twin is in round k: no round of the twin is empty before its last one.
        held = [bool((rows[part] == twin).any()) for part in parts]
        assert held == sorted(held, reverse=True)


@UNHURRIED
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60))
def test_there_are_as_many_rounds_as_the_busiest_twin_has_inputs(twins: list[int]) -> None:
    assert len(rounds(np.array(twins, np.intp))) == max(twins.count(twin) for twin in twins)


@pytest.mark.parametrize(("b", "rows"), [(0, 1), (1, 1), (512, 100_000), (513, 100_000), (40_000, 4), (65_537, 1)])
def test_portions_cover_a_round_once(b: int, rows: int) -> None:
    cut = portions(b, rows)
    assert np.concatenate([np.arange(b)[part] for part in cut] or [np.arange(0)]).tolist() == list(range(b))
    assert all((part.stop - part.start) * rows <= max(PORTION, FEWEST * rows) for part in cut)


def test_a_batch_without_channels_and_keys_is_of_readings_without_identity() -> None:
    batch = Batch(rows=np.zeros(2, np.intp), observed_at_s=np.zeros(2), values=np.zeros((1, 2)))
    assert len(batch) == 2
    assert batch.channels.tolist() == [Channel.READING, Channel.READING]
    assert batch.channels.dtype == np.uint8
    assert batch.keys.tolist() == [NO_KEY, NO_KEY]


@pytest.mark.parametrize(
    ("times", "values", "channels", "keys"), [(1, 2, 2, 2), (2, 3, 2, 2), (2, 2, 1, 2), (2, 2, 2, 3)]
)
def test_a_batch_needs_as_many_of_everything(times: int, values: int, channels: int, keys: int) -> None:
    with pytest.raises(ValueError, match="a batch of 2 rows needs 2 times, channels, keys and columns of values"):
        Batch(
            rows=np.zeros(2, np.intp),
            observed_at_s=np.zeros(times),
            values=np.zeros((1, values)),
            channels=np.zeros(channels, np.uint8),
            keys=np.zeros(keys, np.int64),
        )


def test_channels_keep_the_numbers_that_logs_hold() -> None:
    assert {channel.name: int(channel) for channel in Channel} == {
        "READING": 0,
        "DESIRED": 1,
        "COMMAND": 2,
        "COUPLING": 3,
    }
