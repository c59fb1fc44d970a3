"""Conversion between units of one dimension: by hand, there and back, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.streams import UNHURRIED
from twin_actors.core.units import conversion, convert, known_unit, register_unit

DIMENSIONS = (
    ("1", "%"),
    ("s", "ms", "min", "h", "d"),
    ("m", "km", "ft", "mi", "mm"),
    ("m3", "l"),
    ("m3/s", "m3/h", "l/s"),
    ("kg", "t"),
    ("m/s", "km/h", "mph"),
    ("degC", "degF"),
    ("W", "kW", "MW"),
    ("MVA", "kVA"),
    ("kWh", "MWh"),
    ("V", "kV"),
    ("Pa", "hPa", "bar"),
    ("ug/m3", "mg/m3"),
    ("ppb", "ppm"),
    ("veh/s", "veh/min", "veh/h"),
    ("persons/s", "persons/min", "persons/h"),
)
PAIRS = [(a, b) for units in DIMENSIONS for a in units for b in units]


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "expected"),
    [
        (25, "%", "1", 0.25),
        (90, "min", "h", 1.5),
        (2, "d", "s", 172_800),
        (36, "km/h", "m/s", 10),
        (60, "mph", "km/h", 96.56064),  # a mile is 1.609344 km
        (1, "mi", "ft", 5280),
        (50, "degF", "degC", 10),
        (-40, "degC", "degF", -40),  # where the scales meet
        (100, "degC", "degF", 212),
        (2500, "kW", "MW", 2.5),
        (3.6, "m3/h", "l/s", 1),
        (1013.25, "hPa", "bar", 1.01325),
        (0.5, "veh/s", "veh/h", 1800),
        (120, "persons/h", "persons/min", 2),
        (40, "ppb", "ppm", 0.04),
        (0.3, "mg/m3", "ug/m3", 300),
        (12.7, "mm", "m", 0.0127),
    ],
)
def test_conversions_by_hand(value: float, from_unit: str, to_unit: str, expected: float) -> None:
    assert convert(value, from_unit, to_unit) == pytest.approx(expected, rel=1e-12)


@UNHURRIED
@given(st.sampled_from(PAIRS), st.floats(-1e6, 1e6))
def test_there_and_back_is_the_same_number(pair: tuple[str, str], value: float) -> None:
    a, b = pair
    # An offset of tens in one scale limits what a number near zero can keep: hence the absolute tolerance.
    assert convert(convert(value, a, b), b, a) == pytest.approx(value, rel=1e-9, abs=1e-9)


@UNHURRIED
@given(st.sampled_from([u for u in DIMENSIONS if len(u) > 2]), st.floats(-1e6, 1e6))
def test_a_detour_changes_nothing(units: tuple[str, ...], value: float) -> None:
    a, b, c, *_ = units
    assert convert(convert(value, a, b), b, c) == pytest.approx(convert(value, a, c), rel=1e-9, abs=1e-9)


def test_a_conversion_is_a_factor_and_an_offset() -> None:
    assert conversion("kW", "MW") == pytest.approx((1e-3, 0.0))
    assert conversion("degC", "degF") == pytest.approx((1.8, 32.0))


@pytest.mark.parametrize(("a", "b"), [("MW", "MVA"), ("ug/m3", "ppb"), ("degC", "K"), ("veh/h", "persons/h")])
def test_different_dimensions_do_not_convert(a: str, b: str) -> None:
    with pytest.raises(ValueError, match=f"cannot convert '{a}' .* to '{b}'"):
        conversion(a, b)


@pytest.mark.parametrize(("a", "b"), [("parsec", "m"), ("m", "parsec")])
def test_an_unknown_unit_is_named_beside_the_known_ones(a: str, b: str) -> None:
    assert not known_unit("parsec")
    with pytest.raises(ValueError, match=r"unknown unit 'parsec'; known units: .*km/h"):
        conversion(a, b)


def test_a_registered_unit_converts_and_may_be_registered_again_alike() -> None:
    for _ in range(2):
        register_unit("dozen persons", "persons", 12.0)
    assert known_unit("dozen persons")
    assert convert(3, "dozen persons", "persons") == 36


def test_a_unit_cannot_change_its_meaning() -> None:
    with pytest.raises(ValueError, match="unit 'km' already means"):
        register_unit("km", "length", 999.0)
    assert convert(1, "km", "m") == 1000
