"""The Gaussian plume against Turner's workbook, its dispersion curves, conservation of mass, and whose dust it is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.air.network import attribute_excess
from domains.air.plume import CLASSES, concentration_ugm3, per_gram, reach_m, spreads_m

# D. B. Turner, Workbook of Atmospheric Dispersion Estimates, AP-26, chapter 7, problems 1, 2 and 3: emission g/s,
# height m, wind m/s, class, x and y m, σy and σz read from his curves, printed concentration g/m³ with its two digits.
TURNER = [
    (3.0, 0.0, 7.0, "D", 3000.0, 0.0, 190.0, 65.0, 1.1e-5),
    (80.0, 60.0, 6.0, "D", 500.0, 0.0, 36.0, 18.5, 3.3e-5),
    (80.0, 60.0, 6.0, "D", 500.0, 50.0, 36.0, 18.5, 1.3e-5),
]


@pytest.mark.parametrize(("q", "h", "u", "stability", "x", "y", "sy", "sz", "printed"), TURNER)
def test_turners_problems(
    q: float, h: float, u: float, stability: str, x: float, y: float, sy: float, sz: float, printed: float
) -> None:
    with_his = float(concentration_ugm3(q, u, sy, sz, y, 0.0, h)) * 1e-6
    assert with_his == pytest.approx(printed, rel=0.05)  # two printed digits
    sigma_y, sigma_z = spreads_m(x, stability)
    assert float(sigma_y) == pytest.approx(sy, rel=0.03)  # his are read from a graph
    assert float(sigma_z) == pytest.approx(sz, rel=0.03)
    assert float(concentration_ugm3(q, u, sigma_y, sigma_z, y, 0.0, h)) * 1e-6 == pytest.approx(printed, rel=0.15)


def test_curves_widen_with_distance_and_narrow_with_stability() -> None:
    x = np.geomspace(50.0, 5e4, 200)
    for urban in (False, True):
        spread = {letter: spreads_m(x, letter, urban=urban) for letter in CLASSES}
        for sigma_y, sigma_z in spread.values():
            assert (np.diff(sigma_y) > 0.0).all()
            assert (np.diff(sigma_z) > -0.02 * sigma_z[1:]).all()  # the fits of ISC3 have small steps between pieces
        for one, other in pairwise(CLASSES):
            assert (spread[one][0] >= spread[other][0]).all()
            assert (spread[one][1] >= 0.98 * spread[other][1]).all()
    with pytest.raises(ValueError, match="not one of A, B, C"):
        spreads_m(x, "G")


@given(x=st.floats(100.0, 5000.0), h=st.floats(0.0, 100.0), u=st.floats(1.0, 10.0), stability=st.sampled_from(CLASSES))
def test_what_is_emitted_passes_every_cross_section(x: float, h: float, u: float, stability: str) -> None:
    """∫∫ χ u dy dz = Q: nothing is lost at the ground."""
    sigma_y, sigma_z = spreads_m(x, stability)
    y = np.linspace(-6, 6, 241) * sigma_y
    z = np.linspace(0.0, h + 7 * sigma_z, 600)
    field = concentration_ugm3(1.0, u, sigma_y, sigma_z, y[:, None], z, h) * 1e-6
    assert np.trapezoid(np.trapezoid(field * u, z, axis=1), y) == pytest.approx(1.0, rel=5e-3)


def test_wind_carries_it_downwind_only() -> None:
    """Wind blows to the east: the place in the east has it, west has none, north and south are the same."""
    east, north = np.array([1000.0, -1000.0, 1000.0, 1000.0]), np.array([0.0, 0.0, 200.0, -200.0])
    there = per_gram(east, north, 3.0, 0.0, 30.0, stability="D", urban=True)
    assert there[1] == 0.0
    assert there[0] > there[2] == pytest.approx(there[3])
    turned = per_gram(-north, east, 0.0, 3.0, 30.0, stability="D", urban=True)
    np.testing.assert_allclose(turned, there)
    assert not per_gram(east, north, 0.0, 0.0, 30.0, stability="D", urban=True).any()


def test_reach_is_where_the_ground_falls_below_the_limit() -> None:
    reach = reach_m(50.0, 3.0, 40.0, 15.0, stability="D", urban=True)
    sigma_y, sigma_z = spreads_m(np.array([reach, 1.03 * reach]), "D", urban=True)
    ground = concentration_ugm3(50.0, 3.0, sigma_y, sigma_z, 0.0, 0.0, 40.0)
    assert ground[0] > 15.0 > ground[1]
    assert reach_m(0.001, 3.0, 40.0, 15.0, stability="D", urban=True) == 0.0


def test_the_source_is_found_also_when_the_air_is_not_as_the_model_says() -> None:
    """200 scenes: truth by rural curves of class C or D in a wind 8° off, noise 4 µg/m³; model: urban, class D."""
    chance = np.random.default_rng(11)
    right, wanted, told = 0, [], []
    stations = chance.uniform(-6000.0, 6000.0, (40, 2))
    sources = np.array([[0.0, 0.0], [3500.0, -2500.0], [-3000.0, 3000.0], [-4000.0, -3500.0]])
    east, north = (stations[:, axis][:, None] - sources[:, axis] for axis in (0, 1))
    scenes = 0
    while scenes < 200:
        angle, speed, who = chance.uniform(0, 2 * np.pi), chance.uniform(1.5, 6.0), int(chance.integers(4))
        emission = chance.uniform(60.0, 250.0)
        truth = per_gram(
            east,
            north,
            speed * np.cos(angle),
            speed * np.sin(angle),
            40.0,
            stability=str(chance.choice(["C", "D"])),
            urban=False,
        )
        excess = emission * truth[:, who] + 4.0 * chance.standard_normal(40)
        if excess.max() < 30.0:
            continue  # no station stands in the plume
        scenes += 1
        off = angle + chance.normal(0.0, np.radians(8.0))
        model = per_gram(east, north, speed * np.cos(off), speed * np.sin(off), 40.0, stability="D", urban=True)
        found, _ = attribute_excess(model, np.maximum(excess, 0.0))
        worst = int(excess.argmax())
        right += int((model * found)[worst].argmax() == who)
        wanted.append(emission)
        told.append(found[who])
    assert right >= 0.8 * scenes, right
    ratio = np.array(told) / np.array(wanted)
    assert 0.3 < np.median(ratio) < 3.0


def test_attribution_is_exact_where_the_model_is() -> None:
    chance = np.random.default_rng(2)
    per_gs = chance.uniform(0.0, 0.5, (9, 3)) * (chance.uniform(size=(9, 3)) > 0.3)
    emission, explained = attribute_excess(per_gs, per_gs @ np.array([5.0, 0.0, 120.0]))
    np.testing.assert_allclose(emission, [5.0, 0.0, 120.0], atol=1e-6)
    assert explained == pytest.approx(1.0)
