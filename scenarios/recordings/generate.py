"""Make the recordings that scenarios/replay.yaml plays: a summer day of four air stations and six road sensors.

    python scenarios/recordings/generate.py

The day comes from the domains' own simulated devices with a fixed seed, written the way such files look in real life:
local time, one file long and one wide, speeds in mph, carbon monoxide in µg/m³, and gaps.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from twin_actors.core.simulation import SimulatedFleet
from twin_actors.core.units import convert
from twin_actors.scenario.catalogue import load_catalogue

HERE = Path(__file__).resolve().parent
ZONE = ZoneInfo("Europe/Berlin")
START_S = datetime(2026, 6, 12, 0, 0, tzinfo=ZONE).timestamp()
POLLUTANTS = {"PM2.5": "pm25_ugm3", "PM10": "pm10_ugm3", "SO2": "so2_ugm3", "NO2": "no2_ugm3", "CO": "co_mgm3",
              "O3": "o3_ugm3"}  # fmt: skip
GAP_SHARE = 0.02


def simulate(kind: str, names: list[str], every_s: float, count: int) -> np.ndarray:
    """Readings ``(count, rows, n)`` of simulated devices of one kind, ``every_s`` apart."""
    described = load_catalogue().kinds[kind]
    attributes = np.repeat(described.attributes.layout.per_row("default"), len(names), axis=1)
    if kind == "road":
        for field, value in (("length_km", 0.9), ("lanes", 2), ("free_speed_kmh", 80)):
            attributes[described.attributes.layout.places[field]] = value
    fleet = SimulatedFleet(described, [f"{kind}/{name}" for name in names], attributes, seed=12)
    rows = []
    for step in range(count):
        fleet.step(START_S + step * every_s)
        rows.append(fleet.readings(START_S + step * every_s))
    return np.stack(rows)


def local(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).astimezone(ZONE).strftime("%Y-%m-%d %H:%M")


def air(path: Path) -> None:
    """Hourly, long: one row a station and hour, µg/m³ throughout, NA where nothing was measured."""
    names = ["altona", "centre", "harbour", "park"]
    said = simulate("air_station", names, 3600, 24)
    layout = load_catalogue().kinds["air_station"].reading.layout
    gaps = np.random.default_rng(3).uniform(size=said.shape) < GAP_SHARE
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["time", "station", *POLLUTANTS])
        for hour in range(24):
            for column, name in enumerate(names):
                cells = []
                for field in POLLUTANTS.values():
                    row = layout.places[field].start
                    value = said[hour, row, column] * (1000 if field == "co_mgm3" else 1)
                    cells.append("NA" if gaps[hour, row, column] else f"{value:.1f}")
                out.writerow([local(START_S + hour * 3600), name, *cells])


def road(path: Path) -> None:
    """Every five minutes, wide: one column a sensor, mph."""
    names = [f"s{number}" for number in range(1, 7)]
    said = simulate("road", names, 300, 288)
    row = load_catalogue().kinds["road"].reading.layout.places["speed_kmh"].start
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["time", *names])
        for step in range(288):
            speeds = [f"{convert(value, 'km/h', 'mph'):.2f}" for value in said[step, row]]
            out.writerow([local(START_S + step * 300), *speeds])


def main(folder: Path = HERE) -> None:
    air(folder / "air.csv")
    road(folder / "road.csv")


if __name__ == "__main__":
    main()
