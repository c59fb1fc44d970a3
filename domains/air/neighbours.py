"""What a station should read by its neighbours: ordinary kriging of logarithms, with its error, and simpler rules.

Concentrations in a city differ by factors, so logarithms are interpolated. The correlation falls with the distance as
e^(−d/60 km), a tenth of the variance is local to a station (nugget), and the variance is that of ``SILL``; the three
were chosen on twelve Beijing stations, March to August 2014, and are judged on September to February.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.resources import distance_km

RANGE_KM = 60.0
NUGGET = 0.1
SILL = {"pm25_ugm3": 0.20, "pm10_ugm3": 0.38, "so2_ugm3": 0.41, "no2_ugm3": 0.38, "co_mgm3": 0.17, "o3_ugm3": 0.59}
"""Variance of the logarithm at far distance within a city, by pollutant."""

FLOOR = {"pm25_ugm3": 3.0, "pm10_ugm3": 5.0, "so2_ugm3": 2.0, "no2_ugm3": 3.0, "co_mgm3": 0.1, "o3_ugm3": 3.0}
"""Added before the logarithm: below this, analysers' noise is all there is."""

_UNKNOWN = 1e6  # variance of a station that says nothing, in units of the sill


def distances_km(lat_deg: Column, lon_deg: Column) -> Column:
    """Great-circle distances ``(n, n)`` between all stations."""
    return distance_km(lat_deg[:, None], lon_deg[:, None], lat_deg, lon_deg)


@dataclass(frozen=True, slots=True)
class Expected:
    """What each of ``n`` stations should read by the others: the value ``(…, n)`` and its sd as a logarithm.

    NaN where fewer than two neighbours say anything.
    """

    value: Column
    log_sd: Column


def kriged(values: Column, known: NDArray[np.bool_], distance: Column, *, sill: float, floor: float) -> Expected:
    """Leave-one-out ordinary kriging of ``values (…, n)``, for stations that are known and for those that are not.

    One inverse for all: with K the bordered covariance matrix, y_i − ŷ_i = (K⁻¹y)_i/(K⁻¹)_ii and var_i = 1/(K⁻¹)_ii
    (Dubrule, Cross validation of kriging in a unique neighborhood, Math. Geology 15, 1983). ``distance (n, n)`` in km.
    """
    n = values.shape[-1]
    logs = np.log(np.maximum(np.where(known, values, 0.0), 0.0) + floor)
    count = known.sum(axis=-1)
    mean = np.where(known, logs, 0.0).sum(axis=-1) / np.maximum(count, 1)
    y = np.where(known, logs, mean[..., None])
    border = np.zeros((*values.shape[:-1], n + 1, n + 1))
    border[..., :n, :n] = np.exp(-distance / RANGE_KM)
    place = np.arange(n)
    border[..., place, place] += NUGGET + np.where(known, 0.0, _UNKNOWN)
    border[..., n, :n] = border[..., :n, n] = 1.0
    inverse = np.linalg.inv(border)[..., :n, :n]
    own = inverse[..., place, place]
    wrong = np.einsum("...ij,...j->...i", inverse, y) / own
    variance = np.maximum(1.0 / own - np.where(known, 0.0, _UNKNOWN), NUGGET)
    enough = count[..., None] - known >= 2
    expected = np.maximum(np.exp(y - wrong) - floor, 0.0)
    return Expected(value=np.where(enough, expected, np.nan), log_sd=np.where(enough, np.sqrt(sill * variance), np.nan))


def surprise(values: Column, known: NDArray[np.bool_], expected: Expected, floor: float) -> Column:
    """(ln value − ln expected)/sd, ``(…, n)``: how many standard deviations a station is above its neighbours.

    Zero for a station that is unknown or has too few neighbours.
    """
    apart = np.log(np.maximum(values, 0.0) + floor) - np.log(expected.value + floor)
    z = apart / expected.log_sd
    return np.where(known & ~np.isnan(z), z, 0.0)


def inverse_distance(values: Column, known: NDArray[np.bool_], distance: Column, power: float = 2.0) -> Column:
    """The others weighted by d^−power, ``(…, n)``; ``power`` 0 is their mean, NaN where none is known."""
    away = ~np.eye(values.shape[-1], dtype=np.bool_)
    weight = np.where(away, np.maximum(distance, 1e-3) ** -power, 0.0)
    total = np.where(known, 1.0, 0.0) @ weight
    summed = np.where(known, values, 0.0) @ weight
    return np.where(total > 0.0, summed / np.where(total > 0.0, total, 1.0), np.nan)


def nearest(values: Column, known: NDArray[np.bool_], distance: Column) -> Column:
    """The nearest other station that is known, ``(…, n)``; NaN where there is none."""
    n = values.shape[-1]
    far = np.where(known[..., None, :] & ~np.eye(n, dtype=np.bool_), distance, np.inf)
    choice = far.argmin(axis=-1)
    found = np.take_along_axis(values, choice, axis=-1)
    return np.where(np.isfinite(far.min(axis=-1)), found, np.nan)
