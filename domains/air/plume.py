"""A Gaussian plume: what a chimney adds to the air at a place downwind, and how far it reaches.

Dispersion by Pasquill's stability classes A (very unstable) to F (stable), rural: the curves of Pasquill and Gifford as
fitted in EPA's ISC3 model (EPA-454/B-95-003b, Tables 1-1 and 1-2); urban: Briggs' formulas for McElroy and Pooler's
St. Louis data (ibid., Table 1-3). Distances in m, concentrations in µg/m³ for an emission in g/s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]

CLASSES = "ABCDEF"

# σy = 465.11628 x tan(0.017453293 (c − d ln x)), x in km: (c, d) of each class.
_SIDEWAYS = {
    "A": (24.1670, 2.5334),
    "B": (18.3330, 1.8096),
    "C": (12.5000, 1.0857),
    "D": (8.3330, 0.72382),
    "E": (6.2500, 0.54287),
    "F": (4.1667, 0.36191),
}

# σz = a x^b, x in km: (up to x, a, b).
_UPWARDS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "A": (
        (0.10, 122.800, 0.94470),
        (0.15, 158.080, 1.05420),
        (0.20, 170.220, 1.09320),
        (0.25, 179.520, 1.12620),
        (0.30, 217.410, 1.26440),
        (0.40, 258.890, 1.40940),
        (0.50, 346.750, 1.72830),
        (np.inf, 453.850, 2.11660),
    ),
    "B": ((0.20, 90.673, 0.93198), (0.40, 98.483, 0.98332), (np.inf, 109.300, 1.09710)),
    "C": ((np.inf, 61.141, 0.91465),),
    "D": (
        (0.30, 34.459, 0.86974),
        (1.00, 32.093, 0.81066),
        (3.00, 32.093, 0.64403),
        (10.0, 33.504, 0.60486),
        (30.0, 36.650, 0.56589),
        (np.inf, 44.053, 0.51179),
    ),
    "E": (
        (0.10, 24.260, 0.83660),
        (0.30, 23.331, 0.81956),
        (1.00, 21.628, 0.75660),
        (2.00, 21.628, 0.63077),
        (4.00, 22.534, 0.57154),
        (10.0, 24.703, 0.50527),
        (20.0, 26.970, 0.46713),
        (40.0, 35.420, 0.37615),
        (np.inf, 47.618, 0.29592),
    ),
    "F": (
        (0.20, 15.209, 0.81558),
        (0.70, 14.457, 0.78407),
        (1.00, 13.953, 0.68465),
        (2.00, 13.953, 0.63227),
        (3.00, 14.823, 0.54503),
        (7.00, 16.187, 0.46490),
        (15.0, 17.836, 0.41507),
        (30.0, 22.651, 0.32681),
        (60.0, 27.074, 0.27436),
        (np.inf, 34.219, 0.21716),
    ),
}
HIGHEST_SPREAD_M = 5000.0

# Briggs, urban: σy = p x (1 + 0.0004 x)^−½ and σz = q x (1 + r x)^s, x in m.
_URBAN = {
    "A": (0.32, 0.24, 0.001, 0.5),
    "B": (0.32, 0.24, 0.001, 0.5),
    "C": (0.22, 0.20, 0.0, 0.0),
    "D": (0.16, 0.14, 0.0003, -0.5),
    "E": (0.11, 0.08, 0.0015, -0.5),
    "F": (0.11, 0.08, 0.0015, -0.5),
}

CALM_MS = 1.0
"""The formula has the wind in its denominator and does not hold in calm air; ISC3 takes at least 1 m/s too."""


def known_class(stability: str) -> str:
    """One of A to F, or ValueError."""
    letter = stability.strip().upper()
    if letter not in _SIDEWAYS:
        raise ValueError(f"stability class {stability!r} is not one of A, B, C, D, E and F")
    return letter


def spreads_m(downwind_m: ArrayLike, stability: str, *, urban: bool = False) -> tuple[Numbers, Numbers]:
    """(σy, σz) in m at distances downwind; a tenth of a metre from the source on, so never zero."""
    letter = known_class(stability)
    x = np.maximum(np.asarray(downwind_m, dtype=np.float64), 0.1)
    if urban:
        sideways, upwards, bend, power = _URBAN[letter]
        return sideways * x * (1.0 + 0.0004 * x) ** -0.5, upwards * x * (1.0 + bend * x) ** power
    km = x / 1000.0
    c, d = _SIDEWAYS[letter]
    sigma_y = 465.11628 * km * np.tan(0.017453293 * (c - d * np.log(km)))
    until, a, b = np.array(_UPWARDS[letter]).T
    piece = np.searchsorted(until, km, side="left")
    return sigma_y, np.minimum(a[piece] * km ** b[piece], HIGHEST_SPREAD_M)


def concentration_ugm3(
    emission_gs: ArrayLike,
    wind_ms: ArrayLike,
    sigma_y_m: ArrayLike,
    sigma_z_m: ArrayLike,
    crosswind_m: ArrayLike,
    receptor_m: ArrayLike,
    source_m: ArrayLike,
) -> Numbers:
    """χ = Q/(2π u σy σz)·e^(−y²/2σy²)·[e^(−(z−H)²/2σz²) + e^(−(z+H)²/2σz²)], reflected at the ground.

    Turner, Workbook of Atmospheric Dispersion Estimates (AP-26, 1970), equation 3.1. ``receptor_m`` z and ``source_m``
    H are heights above ground.
    """
    q, u, y = (np.asarray(part, dtype=np.float64) for part in (emission_gs, wind_ms, crosswind_m))
    sy, sz = np.asarray(sigma_y_m, dtype=np.float64), np.asarray(sigma_z_m, dtype=np.float64)
    z, h = np.asarray(receptor_m, dtype=np.float64), np.asarray(source_m, dtype=np.float64)
    beside = np.exp(-0.5 * (y / sy) ** 2)
    above = np.exp(-0.5 * ((z - h) / sz) ** 2) + np.exp(-0.5 * ((z + h) / sz) ** 2)
    return np.asarray(1e6 * q / (2.0 * np.pi * np.maximum(u, CALM_MS) * sy * sz) * beside * above)


def per_gram(
    east_m: Numbers,
    north_m: Numbers,
    wind_east_ms: float,
    wind_north_ms: float,
    source_m: ArrayLike,
    *,
    stability: str,
    urban: bool,
    receptor_m: float = 2.0,
) -> Numbers:
    """Concentration in µg/m³ per g/s at places ``east_m``, ``north_m`` from the source; zero upwind.

    ``wind_east_ms`` and ``wind_north_ms`` say where the wind blows to. Shapes broadcast.
    """
    speed = float(np.hypot(wind_east_ms, wind_north_ms))
    if speed == 0.0:
        return np.zeros(np.broadcast(east_m, north_m, source_m).shape)
    along = (east_m * wind_east_ms + north_m * wind_north_ms) / speed
    across = (north_m * wind_east_ms - east_m * wind_north_ms) / speed
    sigma_y, sigma_z = spreads_m(along, stability, urban=urban)
    there = concentration_ugm3(1.0, speed, sigma_y, sigma_z, across, receptor_m, source_m)
    return np.where(along > 0.0, there, 0.0)


def reach_m(
    emission_gs: float, wind_ms: float, source_m: float, limit_ugm3: float, *, stability: str, urban: bool
) -> float:
    """How far downwind the ground under the plume's axis stays above ``limit_ugm3``, m; 0 where it never does.

    By looking every 2 % of the distance from 10 m to 100 km.
    """
    away = np.geomspace(10.0, 1e5, 466)
    sigma_y, sigma_z = spreads_m(away, stability, urban=urban)
    ground = concentration_ugm3(emission_gs, wind_ms, sigma_y, sigma_z, 0.0, 0.0, source_m)
    above = np.flatnonzero(ground > limit_ugm3)
    return float(away[above[-1]]) if len(above) else 0.0
