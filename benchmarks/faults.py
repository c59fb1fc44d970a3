"""Injected sensor faults on Beijing air stations, found by the twins and by comparison with their neighbours.

python benchmarks/faults.py [--data FOLDER] [--seed 7] [--json]

The protocol is in docs/detection.md: PM2.5 of twelve stations for a year, hourly; one fault per station and 30 days
after a first month without; every alarm of the fault's own sort outside a fault counts as false, what is wrong in
the real data included.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.detection.memory import View
from twin_actors.core.detection.neighbours import NeighbourMemory, Neighbours, neighbour_residual
from twin_actors.core.inputs import Batch
from twin_actors.core.table import TwinTable
from twin_actors.scenario.catalogue import load_catalogue

SHARED = Path(os.environ.get("TWIN_ACTORS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
DATA = SHARED / "beijing_air"
COLUMNS = ("PM2.5", "PM10", "SO2", "NO2", "CO", "O3", "WSPM", "TEMP")
FIELDS = ("pm25_ugm3", "pm10_ugm3", "so2_ugm3", "no2_ugm3", "co_mgm3", "o3_ugm3", "wind_ms", "temp_c")
WARM_UP = EVERY = 720  # hours: no fault in the first month, then one in each
HOURS = {"bias": 48, "drift": 96, "gain": 48, "stuck": 48, "spike": 1}
DIAGNOSIS = {"bias": "lasting", "drift": "lasting", "gain": "lasting", "stuck": "stuck", "spike": "spike"}
GRACE = {
    "bias": 0,
    "drift": 0,
    "gain": 0,
    "stuck": 0,
    "spike": 1,
}  # readings after its end in which a fault may be found
SETTLING = 48  # hours after a fault in which alarms count neither way: the sensor is back, and that is a change too
EVENT_GAP = 24  # alarms closer than this are one
Block = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fault:
    station: int
    begin: int
    end: int


def load(folder: Path = DATA) -> tuple[list[str], Block, Block]:
    """Station names, times ``(T,)`` in s since the epoch, values ``(fields, T, stations)``, NaN: missing."""
    names, blocks, at_s = [], [], np.zeros(0)
    for file in sorted(folder.glob("*.csv")):
        with file.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        names.append(rows[0]["station"])
        local = [datetime(*(int(row[part]) for part in ("year", "month", "day", "hour")), tzinfo=UTC) for row in rows]
        at_s = np.array([moment.timestamp() for moment in local]) - 8 * 3600.0
        blocks.append([[float(row[name]) if row[name] != "NA" else np.nan for row in rows] for name in COLUMNS])
    if not blocks:
        raise FileNotFoundError(f"no station's CSV file is in {folder}")
    values = np.moveaxis(np.array(blocks), 0, 2)
    values[COLUMNS.index("CO")] /= 1000.0
    return names, at_s, values


def sigma(pm25: Block) -> Block:
    """One sigma of each station: the standard deviation of its difference from the median of the others."""
    n = pm25.shape[1]
    made = np.zeros(n)
    for station in range(n):
        others = np.delete(pm25, station, axis=1)
        known = ~np.isnan(others).all(axis=1) & ~np.isnan(pm25[:, station])
        made[station] = np.std(pm25[known, station] - np.nanmedian(others[known], axis=1))
    return made


def inject(pm25: Block, kind: str, seed: int) -> tuple[Block, list[Fault]]:
    """The series ``(T, stations)`` with one fault of the kind per station and month, at random hours."""
    chance = np.random.default_rng(seed)
    spoilt, faults, size = pm25.copy(), [], sigma(pm25)
    for station in range(pm25.shape[1]):
        for month in range(WARM_UP, len(pm25) - EVERY + 1, EVERY):
            begin = month + int(chance.integers(24, EVERY - HOURS[kind] - SETTLING))
            end = begin + HOURS[kind]
            up = chance.random() < 0.5
            part = spoilt[begin:end, station]
            if kind == "bias":
                part += 3 * size[station]
            elif kind == "drift":
                part += 6 * size[station] * np.arange(1, len(part) + 1) / len(part)
            elif kind == "gain":
                part *= 2.5 if up else 0.4
            elif kind == "spike":
                part += 6 * size[station]
            else:
                said = pm25[:begin, station]
                part[:] = said[~np.isnan(said)][-1]
            faults.append(Fault(station, begin, end))
    return spoilt, faults


def alarms(at_s: Block, values: Block, neighbours: Neighbours) -> dict[str, NDArray[np.bool_]]:
    """Where ``(T, stations)`` PM2.5 is called stuck by its twin, and lastingly off or spiking by its neighbours."""
    kind = load_catalogue().kind("air_station")
    _, hours, n = values.shape
    layout = kind.reading.layout
    constants = np.repeat(kind.attributes.layout.per_row("default"), n, axis=1)
    table = TwinTable(kind, [f"air_station/{number}" for number in range(n)], constants)
    memory = NeighbourMemory.empty(n)
    raised = {name: np.zeros((hours, n), np.bool_) for name in ("stuck", "lasting", "spike")}
    row = layout.places["pm25_ugm3"].start
    block = np.full((layout.rows, n), np.nan)
    for hour in range(hours):
        for number, name in enumerate(FIELDS):
            block[layout.places[name].start] = values[number, hour]
        table.apply(Batch(rows=np.arange(n), observed_at_s=np.full(n, at_s[hour]), values=block))
        alarm = table.detection.alarms(row)
        now = alarm["at_s"] == at_s[hour]
        raised["stuck"][hour] = now & np.isin(alarm["view"], (View.STUCK, View.STUCK_DECLARED))
        said = np.where(table.cleaning.at_s[row] == at_s[hour], table.cleaning.value[row], np.nan)
        scores, memory = neighbour_residual(memory, said, neighbours)
        raised["lasting"][hour] = (scores.score >= 0.5) & (scores.lasting >= 1)
        raised["spike"][hour] = (scores.score >= 0.5) & (scores.spike >= 1)
    return raised


def judge(raised: NDArray[np.bool_], faults: list[Fault], grace: int) -> dict[str, float]:
    """F1 over faults and false events, and the median delay of what was found, in hours."""
    found, delays, false = 0, [], 0
    for fault in faults:
        hits = np.flatnonzero(raised[fault.begin : fault.end + grace, fault.station])
        if len(hits):
            found += 1
            delays.append(int(hits[0]))
    for station in range(raised.shape[1]):
        outside = raised[:, station].copy()
        outside[:WARM_UP] = False
        for fault in faults:
            if fault.station == station:
                outside[fault.begin : fault.end + SETTLING] = False
        at = np.flatnonzero(outside)
        false += int(len(at) > 0) + int((np.diff(at) > EVENT_GAP).sum())
    missed = len(faults) - found
    return {
        "f1": 2 * found / max(2 * found + false + missed, 1),
        "found": found,
        "missed": missed,
        "false": false,
        "delay_h": float(np.median(delays)) if delays else float("nan"),
    }


def measure(folder: Path = DATA, seed: int = 7, kinds: tuple[str, ...] = tuple(HOURS)) -> dict[str, Any]:
    """``fault_f1`` and ``fault_delay_h`` by kind of fault, with the counts behind them."""
    _, at_s, values = load(folder)
    n = values.shape[2]
    everybody = Neighbours.of_weights(np.ones((n, n)), n - 1)
    rows, any_alarm = {}, {}
    for kind in kinds:
        pm25, faults = inject(values[0], kind, seed)
        raised = alarms(at_s, np.concatenate([pm25[None], values[1:]]), everybody)
        rows[kind] = judge(raised[DIAGNOSIS[kind]], faults, GRACE[kind])
        any_alarm[kind] = judge(np.logical_or.reduce(list(raised.values())), faults, GRACE[kind])
    return {
        "fault_f1": {kind: row["f1"] for kind, row in rows.items()},
        "fault_f1_any_alarm": {kind: row["f1"] for kind, row in any_alarm.items()},
        "fault_delay_h": {kind: row["delay_h"] for kind, row in rows.items()},
        "faults": rows,
        "sigma_ugm3": sigma(values[0]).round(1).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    measured = measure(arguments.data, arguments.seed)
    if arguments.json:
        print(json.dumps(measured, indent=2))
        return
    print(f"{'fault':8}{'F1':>7}{'found':>7}{'missed':>8}{'false':>7}{'delay':>9}{'F1, any alarm':>16}")
    for kind, row in measured["faults"].items():
        counts = f"{row['found']:7}{row['missed']:8}{row['false']:7}"
        other = measured["fault_f1_any_alarm"][kind]
        print(f"{kind:8}{row['f1']:7.2f}{counts}{row['delay_h']:7.0f} h{other:16.2f}")


if __name__ == "__main__":
    main()
