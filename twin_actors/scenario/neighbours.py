"""The nearest of many places, by distance on the Earth: exact, and without comparing every pair."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column

_SAME_PLACE = 1e-16
"""Squares of distances on the unit sphere closer than this are the same: 6 cm at the Earth's surface."""


def nearest_places(
    lat_deg: Column, lon_deg: Column, to_lat_deg: Column, to_lon_deg: Column, own: Sequence[int], k: int
) -> list[NDArray[np.intp]]:
    """For each of n places the positions of its ``k`` nearest among m others, nearest first.

    ``own[i]`` is where place i stands among the others (-1: nowhere), so that it is not its own neighbour. Of
    places equally far, the first wins, whatever the last digit says.
    """
    to = _on_sphere(to_lat_deg, to_lon_deg)
    points = _on_sphere(lat_deg, lon_deg)
    # Around the middle of the city the differences keep the digits that they lose on the unit sphere.
    middle = to.mean(axis=0)
    to, points = to - middle, points - middle
    size = _cell_size(to, k)
    cells: dict[tuple[int, ...], list[int]] = {}
    for j, cell in enumerate(np.floor(to / size).astype(np.int64).tolist()):
        cells.setdefault(tuple(cell), []).append(j)
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, cell in enumerate(np.floor(points / size).astype(np.int64).tolist()):
        groups.setdefault(tuple(cell), []).append(i)
    found: list[NDArray[np.intp]] = [np.zeros(0, np.intp)] * len(points)
    for cell, members in groups.items():
        for reach in (1, 2, 0):
            near = _around(cell, cells, reach) if reach else np.arange(len(to))
            square = ((points[members][:, None, :] - to[near][None, :, :]) ** 2).sum(axis=-1)
            square[near[None, :] == np.array([own[i] for i in members])[:, None]] = np.inf
            # Nothing outside the cells looked at can be nearer than the cells reach.
            if not reach or (
                len(near) > k and np.all(np.partition(square, k - 1, axis=1)[:, k - 1] < (reach * size) ** 2)
            ):
                break
        for i, row in zip(members, square, strict=True):
            order = np.argsort(np.round(row / _SAME_PLACE), kind="stable")[:k]
            found[i] = near[order[np.isfinite(row[order])]]
    return found


def _on_sphere(lat_deg: Column, lon_deg: Column) -> Column:
    """Unit vectors ``(n, 3)`` from the centre of the Earth."""
    lat, lon = np.radians(lat_deg), np.radians(lon_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _cell_size(points: Column, k: int) -> float:
    """The edge of cubes that hold about ``k + 1`` of places spread evenly over the surface."""
    extents = np.sort(np.ptp(points, axis=0))
    area = max(extents[-1] * extents[-2], extents[-1] ** 2 / len(points), _SAME_PLACE)
    return float(np.sqrt(area * (k + 1) / len(points)))


def _around(cell: tuple[int, ...], cells: dict[tuple[int, ...], list[int]], reach: int) -> NDArray[np.intp]:
    steps = range(-reach, reach + 1)
    x, y, z = cell
    found: list[int] = []
    for dx, dy, dz in itertools.product(steps, steps, steps):
        found.extend(cells.get((x + dx, y + dy, z + dz), ()))
    return np.array(sorted(found), dtype=np.intp)
