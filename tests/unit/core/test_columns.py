"""Records of declared columns: layout, views, lifting over samples, and what a declaration refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.streams import UNHURRIED
from tests.unit.core.toy import PIPE, TankReading, TankState
from twin_actors.core.columns import (
    Attributes,
    Axis,
    Column,
    Columns,
    Command,
    Couplings,
    Drivers,
    Field,
    Reading,
    Role,
    State,
    Windows,
    attribute,
    command,
    coupling,
    driver,
    hourly,
    memory,
    profile,
    reading,
    running_total,
    state,
)
from twin_actors.core.layout import Layout

SIDE = Axis("side", ("left", "right"))


class Pond(State):
    depth_m: Column = state("m", default=1.5, unsure_sd=2.0, drift=0.5, minimum=0)
    flow_m3s: Column = state("m3/s", PIPE, default=(1, 2, 3), unsure_sd=1.0, drift=0.1)
    gate_m: Column = state("m", SIDE, PIPE, default=0.25, unsure_sd=1.0, drift=0.1)
    open_h: Column = memory("h")


# -- layout ------------------------------------------------------------------------------------------------------


def test_a_layout_gives_every_component_one_row_in_the_order_of_declaration() -> None:
    layout = Pond.layout
    assert layout.rows == 1 + 3 + 2 * 3 + 1
    assert layout.places == {
        "depth_m": slice(0, 1),
        "flow_m3s": slice(1, 4),
        "gate_m": slice(4, 10),
        "open_h": slice(10, 11),
    }
    assert layout.labels == (
        "depth_m",
        "flow_m3s[a]", "flow_m3s[b]", "flow_m3s[c]",
        "gate_m[left,a]", "gate_m[left,b]", "gate_m[left,c]",
        "gate_m[right,a]", "gate_m[right,b]", "gate_m[right,c]",
        "open_h",
    )  # fmt: skip
    assert layout.field_of_row() == ("depth_m", *["flow_m3s"] * 3, *["gate_m"] * 6, "open_h")


def test_per_row_repeats_a_declared_number_for_every_component() -> None:
    np.testing.assert_array_equal(Pond.layout.per_row("default")[:, 0], [1.5, 1, 2, 3, *[0.25] * 6, 0.0])
    np.testing.assert_array_equal(Pond.layout.per_row("unsure_sd")[:, 0], [2, *[1] * 9, 0])
    assert Pond.layout.per_row("minimum").shape == (11, 1)


def test_an_empty_layout_has_no_rows() -> None:
    layout = Layout.of({})
    assert (layout.rows, layout.labels, layout.per_row("minimum").shape) == (0, (), (0, 1))


def test_a_record_inherits_the_fields_of_its_base_first() -> None:
    class Deep(Pond):
        mud_m: Column = state("m", default=0, unsure_sd=1, drift=0)

    assert list(Deep.layout.fields) == [*Pond.layout.fields, "mud_m"]
    assert list(Pond.layout.fields) == ["depth_m", "flow_m3s", "gate_m", "open_h"]


def test_windows_put_their_slots_before_their_components() -> None:
    class Kept(Windows):
        flow_hourly: Column = hourly("m3/s", PIPE, of="flow_m3s", keep=2)
        flow_usual: Column = profile("m3/s", PIPE, of="flow_m3s", period="day", bins=24)

    fields = Kept.layout.fields
    assert fields["flow_hourly"].shape == (2, 3)
    assert fields["flow_usual"].shape == (24, 3)
    assert Kept.layout.labels[:6] == tuple(f"flow_hourly[{slot},{p}]" for slot in (0, 1) for p in "abc")
    assert fields["flow_usual"].period_s == 86_400
    assert profile("m", of="x").period_s == 7 * 86_400


# -- matrix and views --------------------------------------------------------------------------------------------


@st.composite
def shaped_records(draw: st.DrawFn) -> tuple[type[State], tuple[int, ...]]:
    """A record of a few fields with up to two axes, and the samples and entities to fill it with."""
    shapes = draw(st.lists(st.lists(st.integers(1, 4), max_size=2), min_size=1, max_size=4))
    fields: dict[str, Any] = {}
    for number, sizes in enumerate(shapes):
        axes = [Axis(f"axis{i}", tuple(map(str, range(size)))) for i, size in enumerate(sizes)]
        fields[f"field{number}"] = state("1", *axes, default=0.0, unsure_sd=1.0, drift=0.0)
    tail = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    return type("Drawn", (State,), fields), tail


@UNHURRIED
@given(shaped_records())
def test_of_block_and_block_are_inverse_for_any_shape_and_samples(
    drawn: tuple[type[State], tuple[int, ...]],
) -> None:
    record, tail = drawn
    matrix = np.random.default_rng(0).normal(size=(record.layout.rows, *tail))
    columns = record.of_block(matrix)
    np.testing.assert_array_equal(columns.block(tail), matrix)
    for name, declared in record.layout.fields.items():
        view = getattr(columns, name)
        assert view.shape == declared.shape + tail
        assert np.shares_memory(view, matrix)


@UNHURRIED
@given(shaped_records())
def test_block_copies_what_of_block_only_views(drawn: tuple[type[State], tuple[int, ...]]) -> None:
    record, tail = drawn
    matrix = np.zeros((record.layout.rows, *tail))
    assert not np.shares_memory(record.of_block(matrix).block(tail), matrix)


@UNHURRIED
@given(shaped_records(), st.data())
def test_block_into_the_matrix_it_came_from_says_the_same_as_a_copy(
    drawn: tuple[type[State], tuple[int, ...]], data: st.DataObject
) -> None:
    record, tail = drawn
    matrix = np.random.default_rng(0).normal(size=(record.layout.rows, *tail))
    columns = record.of_block(matrix)
    names = list(record.layout.fields)
    changes: dict[str, Any] = {}
    for name in data.draw(st.lists(st.sampled_from(names), unique=True)):
        same = [other for other in names if getattr(columns, other).shape == getattr(columns, name).shape]
        source = getattr(columns, data.draw(st.sampled_from(same)))
        # a sum is new memory; a view of another field, two of them swapped even, must not be read after it was written
        changes[name] = data.draw(st.sampled_from([source, source + 1.0, 7.0]))
    moved = columns.replace(**changes)
    expected = moved.block(tail)
    np.testing.assert_array_equal(moved.block(tail, into=matrix), expected)


def test_block_into_writes_where_it_may() -> None:
    matrix = np.zeros((Pond.layout.rows, 2))
    pond = Pond.of_block(matrix)
    assert pond.replace(gate_m=np.ones_like(pond.gate_m)).block((2,), into=matrix) is matrix
    assert pond.replace(depth_m=pond.depth_m[::-1]).block((2,), into=matrix) is not matrix


def test_block_broadcasts_scalars_over_components_samples_and_entities() -> None:
    pond = Pond(depth_m=[1.0, 2.0], flow_m3s=np.array([[1.0], [2.0], [3.0]]), gate_m=0.5)
    matrix = pond.block((2,))
    np.testing.assert_array_equal(matrix[0], [1, 2])
    np.testing.assert_array_equal(matrix[1:4], [[1, 1], [2, 2], [3, 3]])
    np.testing.assert_array_equal(matrix[4:10], np.full((6, 2), 0.5))
    np.testing.assert_array_equal(matrix[10], [0, 0])


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_scalars_multiply_vectors_alike_whatever_the_number_of_samples(samples: int) -> None:
    """Three samples are as many as PIPE has components: there, samples first would be silently wrong."""
    n = 3
    matrix = np.random.default_rng(samples).normal(size=(Pond.layout.rows, samples, n))
    lifted = Pond.of_block(matrix)
    got = (lifted.depth_m * lifted.flow_m3s).sum(axis=0)
    for sample in range(samples):
        for entity in range(n):
            depth, *flows = matrix[:4, sample, entity]
            assert got[sample, entity] == pytest.approx(depth * sum(flows), rel=1e-12)


def test_defaults_repeat_the_declared_numbers() -> None:
    ponds = Pond.defaults(2)
    np.testing.assert_array_equal(ponds.depth_m, [1.5, 1.5])
    np.testing.assert_array_equal(ponds.flow_m3s, [[1, 1], [2, 2], [3, 3]])
    assert np.isnan(TankReading.defaults(1).level_m).all()


# -- a record in hand --------------------------------------------------------------------------------------------


def test_replace_leaves_the_first_record_alone() -> None:
    before = TankState.defaults(2)
    after = before.replace(level_m=np.array([5.0, 6.0]))
    np.testing.assert_array_equal(before.level_m, [2, 2])
    np.testing.assert_array_equal(after.level_m, [5, 6])
    assert after.inflow_m3s is before.inflow_m3s
    assert type(after) is TankState


def test_replace_refuses_what_is_no_field() -> None:
    with pytest.raises(TypeError, match="TankState has no field levle_m"):
        TankState.defaults(1).replace(levle_m=1.0)


def test_a_record_refuses_what_is_no_field_and_names_its_fields() -> None:
    with pytest.raises(TypeError, match=r"no field wet; its fields are level_m, inflow_m3s, openings, pumped_h"):
        TankState(wet=1.0)


def test_a_default_that_differs_by_component_must_be_given() -> None:
    with pytest.raises(TypeError, match=r"Pond\(flow_m3s=…\) must be given: its default differs by component"):
        Pond(depth_m=1.0)


def test_a_record_is_frozen() -> None:
    pond = Pond.defaults(1)
    with pytest.raises(AttributeError, match=r"Pond is frozen; use \.replace\(depth_m=…\)"):
        pond.depth_m = np.zeros(1)


def test_a_record_shows_its_fields() -> None:
    assert repr(TankState.defaults(1)).startswith("TankState(level_m=array([2.]), inflow_m3s=array(")


# -- declarations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "declared", "role"),
    [
        (Attributes, attribute("m"), Role.ATTRIBUTE),
        (Reading, reading("m", sd=1.0), Role.READING),
        (Reading, running_total("1", of="x"), Role.RUNNING_TOTAL),
        (State, state("m", default=0, unsure_sd=1, drift=0), Role.STATE),
        (State, memory("h"), Role.MEMORY),
        (Command, command("1", default=0), Role.COMMAND),
        (Couplings, coupling("1"), Role.COUPLING),
        (Windows, hourly("m", of="x"), Role.HOURLY),
        (Windows, profile("m", of="x"), Role.PROFILE),
        (Drivers, driver("1", default=0), Role.DRIVER),
    ],
)
def test_each_record_takes_its_own_roles_only(record: type[Columns], declared: Field, role: Role) -> None:
    assert declared.role is role
    own: type[Columns] = type("Own", (record,), {"x": declared})
    assert own.layout.rows == declared.size
    for other in (Attributes, Reading, State, Command, Couplings, Windows, Drivers):
        if role not in other.ROLES:
            with pytest.raises(TypeError, match=rf"Foreign\.x is a {role.value}, expected one of: "):
                type("Foreign", (other,), {"x": declared})


def test_a_field_refuses_an_unknown_unit() -> None:
    with pytest.raises(ValueError, match="unknown unit 'furlong'"):
        attribute("furlong")


def test_a_field_refuses_limits_the_wrong_way_round() -> None:
    with pytest.raises(ValueError, match="minimum 2 is above maximum 1"):
        attribute("m", minimum=2, maximum=1)


def test_a_field_refuses_a_default_of_another_length() -> None:
    with pytest.raises(ValueError, match="default has 2 numbers, the field has 3 components"):
        state("m", PIPE, default=(1, 2), unsure_sd=1, drift=0)


@pytest.mark.parametrize("alpha", [0.0, -0.5, 1.5])
def test_a_field_refuses_a_smoothing_weight_outside_0_to_1(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        reading("m", sd=1.0, smooth=alpha)


@pytest.mark.parametrize("limits", [{}, {"minimum": 0.0}, {"maximum": 1.0}])
def test_normalisation_needs_both_limits(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="normalise needs a finite minimum and maximum"):
        reading("m", sd=1.0, normalise=True, **limits)


def test_a_running_total_knows_two_ways_with_resets() -> None:
    with pytest.raises(ValueError, match="resets is 'detect' or 'never', not 'maybe'"):
        running_total("1", of="x", resets="maybe")
    assert running_total("1", of="x").minimum == 0.0


def test_a_profile_runs_over_a_day_or_a_week() -> None:
    with pytest.raises(ValueError, match="period is 'day' or 'week', not 'year'"):
        profile("m", of="x", period="year")


def test_an_undeclared_limit_is_no_limit() -> None:
    declared = reading("m", sd=1.0)
    assert (declared.minimum, declared.maximum, declared.max_rate) == (-math.inf, math.inf, math.inf)
    assert declared.stuck_after_s == math.inf
    assert len(PIPE) == 3
