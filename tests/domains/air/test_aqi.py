"""Indices against the published tables and worked examples of their standards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.air import aqi

# EPA-454/B-24-002, May 2024, Table 6: lowest and highest concentration of each class, as printed.
TABLE_6: dict[str, list[tuple[float, float] | None]] = {
    "PM2.5_24h": [(0.0, 9.0), (9.1, 35.4), (35.5, 55.4), (55.5, 125.4), (125.5, 225.4), (225.5, 325.4)],
    "PM10_24h": [(0, 54), (55, 154), (155, 254), (255, 354), (355, 424), (425, 604)],
    "O3_8h": [(0.0, 0.054), (0.055, 0.070), (0.071, 0.085), (0.086, 0.105), (0.106, 0.200), None],
    "O3_1h": [None, None, (0.125, 0.164), (0.165, 0.204), (0.205, 0.404), (0.405, 0.604)],
    "CO_8h": [(0.0, 4.4), (4.5, 9.4), (9.5, 12.4), (12.5, 15.4), (15.5, 30.4), (30.5, 50.4)],
    "SO2_1h": [(0, 35), (36, 75), (76, 185), (186, 304), None, None],
    "SO2_24h": [None, None, None, None, (305, 604), (605, 1004)],
    "NO2_1h": [(0, 53), (54, 100), (101, 360), (361, 649), (650, 1249), (1250, 2049)],
}
INDEX_CLASSES = [(0, 50), (51, 100), (101, 150), (151, 200), (201, 300), (301, 500)]
DIGITS = {"PM2.5_24h": 1, "CO_8h": 1, "O3_8h": 3, "O3_1h": 3}
EDGES = [
    (name, concentration, index)
    for name, classes in TABLE_6.items()
    for limits, indices in zip(classes, INDEX_CLASSES, strict=True)
    if limits is not None
    for concentration, index in zip(limits, indices, strict=True)
]


def epa(name: str, concentration: float) -> float:
    return float(aqi.epa_sub_index(name, np.array([concentration]))[0])


def hj(name: str, concentration: float, edition: aqi.Edition = 2012) -> float:
    return float(aqi.hj_sub_index(name, np.array([concentration]), edition)[0])


@pytest.mark.parametrize(("name", "concentration", "index"), EDGES)
def test_every_edge_of_table_6(name: str, concentration: float, index: int) -> None:
    assert epa(name, concentration) == index


@pytest.mark.parametrize(("name", "concentration", "index"), EDGES)
def test_truncation_keeps_what_lies_between_classes_in_the_lower_one(
    name: str, concentration: float, index: int
) -> None:
    almost_the_next_digit = concentration + 0.99 * 10.0 ** -DIGITS.get(name, 0)
    assert epa(name, almost_the_next_digit) == index


@pytest.mark.parametrize(
    ("name", "concentration", "index"),
    [("O3_8h", 0.07853333, 126), ("PM2.5_24h", 35.9, 102), ("CO_8h", 8.4, 90)],
)
def test_epa_worked_examples(name: str, concentration: float, index: int) -> None:
    assert epa(name, concentration) == index


def test_erratum_one_hour_ozone_of_0_162_is_147_by_equation_1() -> None:
    """The document prints 148; Equation 1 gives (150 − 101)/(0.164 − 0.125) × 0.037 + 101 = 147.49."""
    assert epa("O3_1h", 0.162) == 147


def test_above_table_6_the_slope_of_the_highest_class_continues() -> None:
    assert epa("PM2.5_24h", 325.5) == round(301 + 199 * 100.0 / 99.9)
    assert epa("PM2.5_24h", 600.0) == round(301 + 199 * 374.5 / 99.9)
    assert epa("PM10_24h", 1000.0) == round(301 + 199 * 575 / 179)


def test_scales_hand_over_where_another_averaging_time_takes_over() -> None:
    assert epa("O3_8h", 0.5) == 300
    assert epa("SO2_1h", 900.0) == 200
    assert epa("O3_1h", 0.124) == 0
    assert epa("SO2_24h", 304.0) == 0


def test_truncate_is_robust_against_float_error() -> None:
    tenths = np.arange(0, 20_000) / 10.0
    np.testing.assert_array_equal(aqi.truncate(tenths, 1), tenths)
    assert aqi.truncate(np.array([35.9, 35.99, 0.1 + 0.7]), 1).tolist() == [35.9, 35.9, 0.8]


def test_every_class_edge_survives_the_way_through_micrograms() -> None:
    for gas, name in (("SO2", "SO2_1h"), ("NO2", "NO2_1h")):
        for _, ppb, index in (edge for edge in EDGES if edge[0] == name):
            through = aqi.ppb_from_ugm3(aqi.ugm3_from_ppb(np.array([float(ppb)]), gas), gas)
            assert float(aqi.epa_sub_index(name, through)[0]) == index


def test_micrograms_of_the_gases_at_25_degrees_and_one_atmosphere() -> None:
    """Handbook factors at 25 °C and 1 atm: 1 ppb is 1.96 O3, 1.88 NO2, 2.62 SO2 and 1.145 CO in µg/m³."""
    factors = {gas: float(aqi.ugm3_from_ppb(np.array([1.0]), gas)[0]) for gas in aqi.MOLAR_MASS_G}
    assert factors == pytest.approx({"O3": 1.96, "NO2": 1.88, "SO2": 2.62, "CO": 1.145}, abs=0.005)


@pytest.mark.parametrize(
    ("name", "concentration", "index"),
    [("PM2.5_24h", 120, 158), ("PM10_24h", 200, 125), ("O3_1h", 210, 105), ("CO_24h", 3, 75), ("NO2_24h", 100, 110)],
)
def test_hj_633_2012_rounds_up(name: str, concentration: float, index: int) -> None:
    assert hj(name, concentration) == index


# HJ 633-2012, Table 1.
TABLE_1 = {
    "SO2_24h": [0, 50, 150, 475, 800, 1600, 2100, 2620],
    "SO2_1h": [0, 150, 500, 650, 800],
    "NO2_24h": [0, 40, 80, 180, 280, 565, 750, 940],
    "NO2_1h": [0, 100, 200, 700, 1200, 2340, 3090, 3840],
    "PM10_24h": [0, 50, 150, 250, 350, 420, 500, 600],
    "CO_24h": [0, 2, 4, 14, 24, 36, 48, 60],
    "CO_1h": [0, 5, 10, 35, 60, 90, 120, 150],
    "O3_1h": [0, 160, 200, 300, 400, 800, 1000, 1200],
    "O3_8h": [0, 100, 160, 215, 265, 800],
    "PM2.5_24h": [0, 35, 75, 115, 150, 250, 350, 500],
}
# HJ 633-2026, Table 3: what differs.
TABLE_3 = {
    **TABLE_1,
    "PM2.5_24h": [0, 35, 60, 115, 150, 250, 350, 500],
    "PM10_24h": [0, 50, 120, 250, 350, 420, 500, 600],
}
IAQI = [0, 50, 100, 150, 200, 300, 400, 500]


@pytest.mark.parametrize("name", TABLE_1)
def test_every_edge_of_both_editions(name: str) -> None:
    editions: tuple[tuple[aqi.Edition, dict[str, list[int]]], ...] = ((2012, TABLE_1), (2026, TABLE_3))
    for edition, table in editions:
        for concentration, index in zip(table[name], IAQI, strict=False):
            assert hj(name, concentration, edition) == index
            if index < 200:  # anything above an edge is rounded up into the next whole number
                assert hj(name, concentration + 1e-4, edition) == index + 1


def test_2026_is_stricter_for_particles() -> None:
    assert (hj("PM2.5_24h", 50, 2012), hj("PM2.5_24h", 50, 2026)) == (69, 80)  # 50 + 50·15/40 and 50 + 50·15/25
    assert (hj("PM10_24h", 85, 2012), hj("PM10_24h", 85, 2026)) == (68, 75)  # 50 + 50·35/100 and 50 + 50·35/70
    assert hj("PM2.5_24h", 120, 2026) == 158


def test_above_800_the_editions_differ() -> None:
    for name, index in (("SO2_1h", 200), ("O3_8h", 300)):
        assert hj(name, 800.0) == hj(name, 800.0, 2026) == index
        assert np.isnan(hj(name, 801.0))
        assert hj(name, 801.0, 2026) == index
    assert hj("PM2.5_24h", 5000.0) == 500


def test_not_a_number_stays_and_noise_below_zero_is_zero() -> None:
    for name in aqi.EPA_2024:
        assert np.isnan(epa(name, np.nan))
        assert epa(name, -3.0) == 0
    for name in aqi.HJ_633_2012:
        assert np.isnan(hj(name, np.nan))
        assert hj(name, -3.0) == 0


def test_categories_change_above_their_tops() -> None:
    index = np.array([0.0, 50, 51, 100, 101, 150, 151, 200, 201, 300, 301, 900])
    assert aqi.category(index).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def averages(**values: float) -> aqi.Averages:
    names = aqi.Averages.__dataclass_fields__
    return aqi.Averages(**{name: np.array([values.get(name, 0.0)]) for name in names})


def test_sulphur_dioxide_is_200_while_only_the_hour_is_above_its_scale() -> None:
    hour, day = (
        float(aqi.ugm3_from_ppb(np.array([400.0]), "SO2")[0]),
        float(aqi.ugm3_from_ppb(np.array([604.0]), "SO2")[0]),
    )
    place = aqi.POLLUTANTS.index("SO2")
    assert aqi.epa_sub_indices(averages(so2_1h=hour, so2_24h=100.0))[place, 0] == 200
    assert aqi.epa_sub_indices(averages(so2_1h=hour, so2_24h=day))[place, 0] == 300


def test_carbon_monoxide_in_milligrams_is_read_in_ppm() -> None:
    co_mgm3 = float(aqi.ugm3_from_ppb(np.array([8.4]), "CO")[0])
    assert aqi.epa_sub_indices(averages(co_8h=co_mgm3))[aqi.POLLUTANTS.index("CO"), 0] == 90


def test_ozone_takes_the_higher_of_eight_hours_and_one() -> None:
    ppm = float(aqi.ugm3_from_ppb(np.array([1000.0]), "O3")[0])
    place = aqi.POLLUTANTS.index("O3")
    assert aqi.epa_sub_indices(averages(o3_8h=0.07853333 * ppm, o3_1h=0.1 * ppm))[place, 0] == 126
    assert aqi.epa_sub_indices(averages(o3_8h=0.07853333 * ppm, o3_1h=0.162 * ppm))[place, 0] == 147
    assert aqi.hj_sub_indices(averages(o3_8h=160.0, o3_1h=210.0), 2012)[place, 0] == 105


def test_hj_above_800_in_the_2012_edition_reads_the_other_average() -> None:
    high = averages(so2_1h=900.0, so2_24h=100.0, o3_8h=900.0, o3_1h=500.0)
    so2, o3 = aqi.POLLUTANTS.index("SO2"), aqi.POLLUTANTS.index("O3")
    assert aqi.hj_sub_indices(high, 2012)[[so2, o3], 0].tolist() == [75, 225]
    assert aqi.hj_sub_indices(high, 2026)[[so2, o3], 0].tolist() == [200, 300]


concentrations = st.floats(0.0, 3000.0, allow_nan=False)


@given(name=st.sampled_from(sorted(aqi.EPA_2024)), one=concentrations, other=concentrations)
def test_epa_index_never_falls_when_the_concentration_rises(name: str, one: float, other: float) -> None:
    scale = 1e-3 if name.startswith("O3") else 1.0
    low, high = sorted((one * scale, other * scale))
    assert epa(name, low) <= epa(name, high)


@given(
    name=st.sampled_from(sorted(aqi.HJ_633_2012)),
    edition=st.sampled_from((2012, 2026)),
    one=concentrations,
    other=concentrations,
)
def test_hj_index_never_falls_when_the_concentration_rises(
    name: str, edition: aqi.Edition, one: float, other: float
) -> None:
    low, high = (hj(name, value, edition) for value in sorted((one, other)))
    assert low <= high or np.isnan(high)
