"""Twelve Beijing stations: where they stand and what they measured, March 2014 to February 2015, hourly."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from twin_actors.core.columns import Column

DATA = Path(os.environ.get("TWIN_ACTORS_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
FOLDER = DATA / "beijing_air"
needs_beijing = pytest.mark.skipif(not FOLDER.exists(), reason=f"the Beijing stations are not at {FOLDER}")

# Positions as the city's monitoring network publishes them, to a thousandth of a degree.
STATIONS = {
    "Aotizhongxin": (39.982, 116.397),
    "Changping": (40.217, 116.230),
    "Dingling": (40.292, 116.220),
    "Dongsi": (39.929, 116.417),
    "Guanyuan": (39.929, 116.339),
    "Gucheng": (39.914, 116.184),
    "Huairou": (40.328, 116.628),
    "Nongzhanguan": (39.937, 116.461),
    "Shunyi": (40.127, 116.655),
    "Tiantan": (39.886, 116.407),
    "Wanliu": (39.987, 116.287),
    "Wanshouxigong": (39.878, 116.352),
}
LAT, LON = (np.array([place[axis] for place in STATIONS.values()]) for axis in (0, 1))


def measured(*pollutants: str) -> list[Column]:
    """Hours × stations for each pollutant, µg/m³, NaN where missing."""
    columns: list[list[list[float]]] = [[] for _ in pollutants]
    for name in STATIONS:
        with (FOLDER / f"{name}_2014-03_2015-02.csv").open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        for column, pollutant in zip(columns, pollutants, strict=True):
            column.append([np.nan if row[pollutant] == "NA" else float(row[pollutant]) for row in rows])
    return [np.array(column).T for column in columns]
