"""Air quality indices as pure functions: EPA (May 2024), HJ 633-2012 and HJ 633-2026.

All functions take columns of any shape and return the same shape; NaN in gives NaN out, negative
concentrations (an analyser's noise around zero) count as zero.

Sources: EPA-454/B-24-002, Technical Assistance Document for the Reporting of Daily Air Quality, May 2024,
section IV, Equation 1 and Table 6; HJ 633-2012, Table 1 and formula (1); HJ 633-2026, Table 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from twin_actors.core.columns import Column

Edition = Literal[2012, 2026]

POLLUTANTS = ("PM2.5", "PM10", "SO2", "NO2", "CO", "O3")
"""The order of the sub-indices that ``epa_sub_indices`` and ``hj_sub_indices`` return."""

MAIN_POLLUTANT = ("none", *POLLUTANTS)

CATEGORIES = (
    "good",
    "moderate",
    "unhealthy for sensitive groups",
    "unhealthy",
    "very unhealthy",
    "hazardous",
)
"""EPA's words (Table 1); the levels I to VI of HJ 633 have the same limits 50, 100, 150, 200 and 300."""

_CATEGORY_TOPS = np.array([50.0, 100.0, 150.0, 200.0, 300.0])

MOLAR_VOLUME_L = 24.4654  # litres per mole at 25 °C and 1 atm: R T / p = 8.314463 × 298.15 / 101.325
MOLAR_MASS_G = {"SO2": 64.064, "NO2": 46.006, "CO": 28.010, "O3": 47.998}

# One part in a million of the last digit kept: far above the error of float64 arithmetic (35.9 × 10 or a
# conversion from µg/m³ may come out as 358.9999999), far below what any instrument resolves.
_LAST_DIGIT = 1e-6
# Same purpose for rounding up: 150.00000000000003 is 150.
_INDEX_ERROR = 1e-9


def truncate(value: Column, decimals: int) -> Column:
    """Cut ``value`` to ``decimals`` decimal places as Table 6 asks, robust against float error (35.9 stays)."""
    scale = 10.0**decimals
    return np.asarray(np.floor(value * scale + _LAST_DIGIT) / scale)


def ppb_from_ugm3(ugm3: Column, gas: str) -> Column:
    """Mass to volume concentration at 25 °C and 1 atm (EPA's reference, 40 CFR 50.3), µg/m³ to ppb.

    Raises KeyError for a gas without a molar mass here.
    """
    return ugm3 * (MOLAR_VOLUME_L / MOLAR_MASS_G[gas])


def ugm3_from_ppb(ppb: Column, gas: str) -> Column:
    """The inverse of ``ppb_from_ugm3``."""
    return ppb * (MOLAR_MASS_G[gas] / MOLAR_VOLUME_L)


@dataclass(frozen=True, slots=True)
class Scale:
    """Classes of one pollutant and averaging time in Table 6, in units of the last digit kept.

    ``classes`` are (lowest, highest concentration, lowest, highest index); below the first the pollutant
    defines no index (0). Above the last the last slope goes on, unless ``capped``: then another averaging
    time takes over and this one stays at the index of its last class.
    """

    decimals: int
    classes: tuple[tuple[int, int, int, int], ...]
    capped: bool = False


_INDEX_CLASSES = ((0, 50), (51, 100), (101, 150), (151, 200), (201, 300), (301, 500))


def _scale(decimals: int, *limits: tuple[int, int], first: int = 0, capped: bool = False) -> Scale:
    """A scale from its concentration classes, the first of which is the index class number ``first``."""
    indices = _INDEX_CLASSES[first : first + len(limits)]
    classes = tuple((*limit, *index) for limit, index in zip(limits, indices, strict=True))
    return Scale(decimals, classes, capped)


EPA_2024: Mapping[str, Scale] = {
    "PM2.5_24h": _scale(1, (0, 90), (91, 354), (355, 554), (555, 1254), (1255, 2254), (2255, 3254)),
    "PM10_24h": _scale(0, (0, 54), (55, 154), (155, 254), (255, 354), (355, 424), (425, 604)),
    "O3_8h": _scale(3, (0, 54), (55, 70), (71, 85), (86, 105), (106, 200), capped=True),
    "O3_1h": _scale(3, (125, 164), (165, 204), (205, 404), (405, 604), first=2),
    "CO_8h": _scale(1, (0, 44), (45, 94), (95, 124), (125, 154), (155, 304), (305, 504)),
    "SO2_1h": _scale(0, (0, 35), (36, 75), (76, 185), (186, 304), capped=True),
    "SO2_24h": _scale(0, (305, 604), (605, 1004), first=4),
    "NO2_1h": _scale(0, (0, 53), (54, 100), (101, 360), (361, 649), (650, 1249), (1250, 2049)),
}
"""Table 6. Units: PM µg/m³, O3 and CO ppm, SO2 and NO2 ppb."""


def epa_sub_index(name: str, concentration: Column) -> Column:
    """The index of one pollutant: truncate, interpolate (Equation 1), round to the nearest integer.

    ``name`` is a key of ``EPA_2024`` and ``concentration`` in its unit. The 8-hour ozone index ends at 300
    and the 1-hour SO2 index at 200, where the 1-hour ozone and 24-hour SO2 tables take over. Beyond the top
    of Table 6 the slope of the highest class continues past 500. Raises KeyError for an unknown name.
    """
    scale = EPA_2024[name]
    table = np.array(scale.classes, dtype=np.float64)
    low, high, index_low, index_high = table.T
    digits = np.floor(np.maximum(concentration, 0.0) * 10.0**scale.decimals + _LAST_DIGIT)
    if scale.capped:
        digits = np.minimum(digits, high[-1])
    place = np.searchsorted(low, digits, side="right") - 1
    at = np.maximum(place, 0)
    # Integers until the one division, so that a tie is seen as exactly .5 and rounds up.
    rise = (index_high[at] - index_low[at]) * (digits - low[at]) / (high[at] - low[at])
    return np.asarray(np.where(place < 0, 0.0, np.floor(index_low[at] + rise + 0.5)))


_IAQI = np.array([0.0, 50.0, 100.0, 150.0, 200.0, 300.0, 400.0, 500.0])

HJ_633_2012: Mapping[str, tuple[float, ...]] = {
    "SO2_24h": (0, 50, 150, 475, 800, 1600, 2100, 2620),
    "SO2_1h": (0, 150, 500, 650, 800),
    "NO2_24h": (0, 40, 80, 180, 280, 565, 750, 940),
    "NO2_1h": (0, 100, 200, 700, 1200, 2340, 3090, 3840),
    "PM10_24h": (0, 50, 150, 250, 350, 420, 500, 600),
    "CO_24h": (0, 2, 4, 14, 24, 36, 48, 60),
    "CO_1h": (0, 5, 10, 35, 60, 90, 120, 150),
    "O3_1h": (0, 160, 200, 300, 400, 800, 1000, 1200),
    "O3_8h": (0, 100, 160, 215, 265, 800),
    "PM2.5_24h": (0, 35, 75, 115, 150, 250, 350, 500),
}
"""Table 1: concentrations at IAQI 0, 50, 100, 150, 200, 300, 400, 500. Units: µg/m³, CO mg/m³."""

HJ_633_2026: Mapping[str, tuple[float, ...]] = {
    **HJ_633_2012,
    "PM10_24h": (0, 50, 120, 250, 350, 420, 500, 600),
    "PM2.5_24h": (0, 35, 60, 115, 150, 250, 350, 500),
}
"""Table 3 of the 2026 edition: PM2.5 and PM10 are stricter at IAQI 100, the others as in 2012."""


def hj_sub_index(name: str, concentration: Column, edition: Edition = 2012) -> Column:
    """The IAQI of one pollutant: interpolated and rounded up to an integer, at most 500.

    ``name`` is a key of ``HJ_633_2012`` and ``concentration`` in its unit. SO2_1h and O3_8h above 800 µg/m³:
    the 2012 edition computes no index from them (NaN), the 2026 edition counts 200 and 300. Raises KeyError
    for an unknown name.
    """
    limits = (HJ_633_2012 if edition == 2012 else HJ_633_2026)[name]
    index = np.interp(np.maximum(concentration, 0.0), limits, _IAQI[: len(limits)])
    rounded_up = np.ceil(index - _INDEX_ERROR) + 0.0  # + 0.0: ceil gives −0 for what lies just below zero
    if edition == 2012 and len(limits) < len(_IAQI):
        rounded_up = np.where(np.asarray(concentration) > limits[-1], np.nan, rounded_up)
    return np.asarray(rounded_up)


@dataclass(frozen=True, slots=True, kw_only=True)
class Averages:
    """What the indices are computed from: columns of one shape in µg/m³, CO in mg/m³."""

    pm25_nowcast: Column
    pm10_nowcast: Column
    pm25_24h: Column
    pm10_24h: Column
    so2_1h: Column
    so2_24h: Column
    no2_1h: Column
    co_1h: Column
    co_8h: Column
    o3_1h: Column
    o3_8h: Column


def epa_sub_indices(averages: Averages) -> Column:
    """EPA's current index of each pollutant in the order of ``POLLUTANTS``, shape ``(6, …, n)``.

    Ozone is the higher of its 8-hour and 1-hour index, SO2 that of its 1-hour and 24-hour index (section IV,
    "Using both O3 1-hour and 8-hour values" and "Calculating AQI values for SO2": 200 while the hour is at
    305 ppb or more and the day is not). PM is read from the 24-hour scale with the NowCast.
    """
    so2_ppb = ppb_from_ugm3(averages.so2_1h, "SO2")
    so2_day_ppb = ppb_from_ugm3(averages.so2_24h, "SO2")
    o3_hour_ppm = ppb_from_ugm3(averages.o3_1h, "O3") / 1000.0
    o3_ppm = ppb_from_ugm3(averages.o3_8h, "O3") / 1000.0
    return np.stack(
        (
            epa_sub_index("PM2.5_24h", averages.pm25_nowcast),
            epa_sub_index("PM10_24h", averages.pm10_nowcast),
            np.maximum(epa_sub_index("SO2_1h", so2_ppb), epa_sub_index("SO2_24h", so2_day_ppb)),
            epa_sub_index("NO2_1h", ppb_from_ugm3(averages.no2_1h, "NO2")),
            epa_sub_index("CO_8h", ppb_from_ugm3(averages.co_8h, "CO")),  # mg/m³ to ppm has the same factor
            np.maximum(epa_sub_index("O3_8h", o3_ppm), epa_sub_index("O3_1h", o3_hour_ppm)),
        )
    )


def hj_sub_indices(averages: Averages, edition: Edition) -> Column:
    """The IAQI of each pollutant in the hourly report of HJ 633, shape ``(6, …, n)``.

    The hourly report takes 1-hour means of the gases, the running 8-hour mean of ozone and the running
    24-hour means of PM. In the 2012 edition SO2 above 800 µg/m³ in an hour is read from its 24-hour mean,
    and ozone above 800 µg/m³ in eight hours from its 1-hour mean (notes 2 and 3 of Table 1).
    """
    so2 = hj_sub_index("SO2_1h", averages.so2_1h, edition)
    return np.stack(
        (
            hj_sub_index("PM2.5_24h", averages.pm25_24h, edition),
            hj_sub_index("PM10_24h", averages.pm10_24h, edition),
            np.where(np.isnan(so2), hj_sub_index("SO2_24h", averages.so2_24h, edition), so2),
            hj_sub_index("NO2_1h", averages.no2_1h, edition),
            hj_sub_index("CO_1h", averages.co_1h, edition),
            np.fmax(
                hj_sub_index("O3_1h", averages.o3_1h, edition),
                hj_sub_index("O3_8h", averages.o3_8h, edition),
            ),
        )
    )


def category(index: Column) -> Column:
    """Place of an index in ``CATEGORIES``, 0 to 5."""
    return np.searchsorted(_CATEGORY_TOPS, index, side="left").astype(np.float64)
