"""Public recordings through real Replay objects: what they hold is known, so counts and units can be checked."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from twin_actors.runtime.plan import attribute_matrix
from twin_actors.runtime.replay import Recording, load_replay
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.scenario.model import Entity, FieldMap, Replay, TimeColumns
from twin_actors.testing.offline import offline_twins

DATA = Path(os.environ.get("TWIN_ACTORS_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no public recordings in {DATA}: set TWIN_ACTORS_DATA to their folder"
)
MISSING = ("", "NA", "NaN", "nan", "null")
BEIJING = (
    FieldMap(source="PM2.5", field="pm25_ugm3"),
    FieldMap(source="PM10", field="pm10_ugm3"),
    FieldMap(source="SO2", field="so2_ugm3"),
    FieldMap(source="NO2", field="no2_ugm3"),
    FieldMap(source="CO", field="co_mgm3", factor=0.001),
    FieldMap(source="O3", field="o3_ugm3"),
    FieldMap(source="TEMP", field="temp_c"),
    FieldMap(source="WSPM", field="wind_ms"),
)


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()


def values_of(recording: Recording, field: str) -> np.ndarray:
    return recording.values[recording.fields.index(field)]


def beijing(file: Path, start_s: float, end_s: float) -> Replay:
    parts = {part: part for part in ("year", "month", "day", "hour")}
    return Replay(
        file=str(file),
        kind="air_station",
        time=TimeColumns(parts=parts, zone="Asia/Shanghai"),
        entity_column="station",
        lower=True,
        fields=BEIJING,
        start_s=start_s,
        end_s=end_s,
        missing=MISSING,
    )


def test_a_day_of_beijing_air():
    files = sorted((DATA / "beijing_air").glob("*.csv"))
    assert len(files) == 12
    day = utc(2014, 2, 28, 16)  # 1 March, 0 h, local time
    recordings = [load_replay(beijing(file, day, day + 86_400)) for file in files]
    assert all(len(recording) + recording.empty == 24 for recording in recordings)
    assert sum(map(len, recordings)) > 280
    assert not any(recording.bad_rows for recording in recordings)
    first = recordings[0]
    assert next(iter(first))[:2] == ("air_station/aotizhongxin", day)
    assert values_of(first, "pm25_ugm3")[0] == 195.0
    assert values_of(first, "co_mgm3")[0] == pytest.approx(3.2)
    assert np.isnan(values_of(first, "o3_ugm3")[0])
    assert len({entity for recording in recordings for entity in recording.entity}) == 12


def test_twins_of_a_beijing_station():
    day = utc(2014, 2, 28, 16)
    recording = load_replay(beijing(DATA / "beijing_air" / "Dongsi_2014-03_2015-02.csv", day, day + 7 * 86_400))
    kind = load_catalogue().kinds["air_station"]
    station = Entity(id="air_station/dongsi", kind="air_station", name="dongsi")
    table = offline_twins(recording, kind, [station.id], attribute_matrix(kind, [station]))
    assert table.fates.sum() == len(recording)
    assert table.fates[0, 0] > 0.95 * len(recording)
    assert table.time_s[0] == recording.at_s[-1]


def test_metr_la_speeds():
    recording = load_replay(
        Replay(
            file=str(DATA / "metr_la" / "los_speed_first100.csv"),
            kind="road",
            time=TimeColumns(column="timestamp", zone="America/Los_Angeles"),
            wide=FieldMap(source="", field="speed_kmh", factor=1.609344),
            missing=MISSING,
        )
    )
    assert len(recording) == 7 * 288 * 100
    assert recording.at_s[0] == utc(2012, 3, 1, 8)
    assert recording.at_s[-1] == utc(2012, 3, 8, 7, 55)
    assert recording.entity[:2].tolist() == ["road/773869", "road/767541"]
    assert 80 < np.median(recording.values) < 115
    assert recording.values.max() < 130


def test_ett_transformer():
    recording = load_replay(
        Replay(
            file=str(DATA / "ett" / "ETTh1.csv"),
            kind="substation",
            time=TimeColumns(column="date", zone="Asia/Shanghai"),
            entity="substation/north",
            fields=(
                FieldMap(source="HUFL", field="load_mw", factor=2.0),
                FieldMap(source="OT", field="oil_temp_c"),
            ),
            missing=MISSING,
        )
    )
    assert len(recording) == 17_420
    assert recording.bad_rows == 0
    assert recording.at_s[0] == utc(2016, 6, 30, 16)
    assert values_of(recording, "load_mw")[0] == 2.0 * 5.827000141143799
    oil_c = values_of(recording, "oil_temp_c")
    assert oil_c[:8640].mean() == pytest.approx(17.1283, abs=1e-3)  # as its publishers state
    assert oil_c[:8640].std() == pytest.approx(9.1765, abs=1e-3)


def test_melbourne_pedestrians():
    recording = load_replay(
        Replay(
            file=str(DATA / "melbourne_ped" / "ped_2014_hourly.csv"),
            kind="footfall",
            time=TimeColumns(column="timestamp", zone="Australia/Melbourne"),
            wide=FieldMap(source="", field="flow_pph"),
            missing=MISSING,
        )
    )
    assert len(recording) + recording.empty == 8760 * 12
    assert next(iter(recording)) == (
        "footfall/Flinders-Street-Station-Underpass",
        utc(2013, 12, 31, 13),
        {"flow_pph": 2965.0},
    )
    assert len(set(recording.entity)) == 12
    birrarung = (recording.entity == "footfall/Birrarung-Marr").sum()
    assert birrarung / 8760 == pytest.approx(0.35, abs=0.02)
    assert recording.values.min() >= 0
