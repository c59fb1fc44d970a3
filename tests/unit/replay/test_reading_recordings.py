"""Reading recordings: times, names, shapes, and rows that cannot be used."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from twin_actors.runtime.replay import Recording, RecordingError, load_replay
from twin_actors.scenario.model import FieldMap, Replay, TimeColumns

MISSING = ("", "NA", "NaN", "nan", "null")


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()


def written(folder: Path, text: str, name: str = "recording.csv") -> str:
    path = folder / name
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


def one_level(file: str, **changes) -> Replay:
    settings = {
        "file": file,
        "kind": "tank",
        "time": TimeColumns(column="time"),
        "entity": "tank/north",
        "fields": (FieldMap(source="level", field="level_m"),),
        "missing": MISSING,
    }
    return Replay(**(settings | changes))


def loaded(folder: Path, text: str, **changes) -> Recording:
    return load_replay(one_level(written(folder, text), **changes))


def test_a_plain_csv(tmp_path):
    recording = loaded(tmp_path, "time,level\n2014-03-01T00:00:00Z,1.5\n2014-03-01T01:00:00+01:00,2\n")
    assert list(recording) == [
        ("tank/north", utc(2014, 3, 1), {"level_m": 1.5}),
        ("tank/north", utc(2014, 3, 1), {"level_m": 2.0}),
    ]
    assert (recording.bad_rows, recording.empty, len(recording)) == (0, 0, 2)


def test_local_times_become_utc(tmp_path):
    text = "time,level\n2014-03-01 08:00,1\n2014-03-01 09:00:30,1\n"
    recording = loaded(tmp_path, text, time=TimeColumns(column="time", zone="Asia/Shanghai"))
    assert recording.at_s.tolist() == [utc(2014, 3, 1), utc(2014, 3, 1, 1, 0, 30)]


def test_clocks_put_back_and_forward_are_read_with_fold_0(tmp_path):
    text = "time,level\n2014-03-30 02:30,1\n2014-10-26 02:30,2\n2014-10-26 03:00,3\n"
    recording = loaded(tmp_path, text, time=TimeColumns(column="time", zone="Europe/Berlin"))
    assert recording.at_s.tolist() == [
        utc(2014, 3, 30, 1, 30),  # does not occur: counted on from winter time
        utc(2014, 10, 26, 0, 30),  # occurs twice: the first, in summer time
        utc(2014, 10, 26, 2),
    ]


@pytest.mark.parametrize(
    ("format_", "cells"),
    [
        ("epoch_s", ("1393632000", "1393632000.25")),
        ("epoch_ms", ("1393632000000", "1393632000250")),
        ("%d.%m.%Y %H:%M:%S.%f", ("01.03.2014 00:00:00.0", "01.03.2014 00:00:00.25")),
        ("%Y%m%d%H%M%S.%f%z", ("20140301010000.0+0100", "20140301000000.25+0000")),
    ],
)
def test_formats_of_time(tmp_path, format_, cells):
    text = f"time,level\n{cells[0]},1\n{cells[1]},2\n"
    recording = loaded(tmp_path, text, time=TimeColumns(column="time", format=format_))
    assert recording.at_s.tolist() == [utc(2014, 3, 1), utc(2014, 3, 1) + 0.25]


def test_time_in_parts_of_which_hours_may_count_to_24(tmp_path):
    parts = {"year": "y", "month": "m", "day": "d", "hour": "h"}
    text = "y,m,d,h,level\n2014,3,1,7,1\n2014,3,1,24,2\n2014,2,30,1,3\n2014,3,,1,4\n"
    recording = loaded(tmp_path, text, time=TimeColumns(parts=parts, zone="Asia/Shanghai"))
    assert recording.at_s.tolist() == [utc(2014, 2, 28, 23), utc(2014, 3, 1, 16)]
    assert [bad.line for bad in recording.bad] == [4, 5]


def test_readings_come_in_the_order_of_time_then_of_the_file(tmp_path):
    text = "time,name,level\n30,a,1\n10,b,2\n30,b,3\n10,a,4\n"
    recording = loaded(
        tmp_path, text, time=TimeColumns(column="time", format="epoch_s"), entity=None, entity_column="name"
    )
    assert [(entity, values["level_m"]) for entity, _, values in recording] == [
        ("tank/b", 2.0),
        ("tank/a", 4.0),
        ("tank/a", 1.0),
        ("tank/b", 3.0),
    ]


def test_names_are_lowered_blanks_replaced_and_strangers_counted(tmp_path):
    text = "time,name,level\n10,North Quay,1\n20,EAST,2\n30, ,3\n40,west,4\n50,west,\n"
    replay = one_level(
        written(tmp_path, text),
        time=TimeColumns(column="time", format="epoch_s"),
        entity=None,
        entity_column="name",
        lower=True,
    )
    recording = load_replay(replay, {"tank/north-quay", "tank/east"})
    assert recording.entity.tolist() == ["tank/north-quay", "tank/east"]
    assert recording.strangers == {"tank/west": 1}
    assert [bad.line for bad in recording.bad] == [4]
    assert recording.empty == 1


def test_factor_offset_and_components(tmp_path):
    fields = (
        FieldMap(source="f", field="level_m", factor=0.5, offset=-3.0),
        FieldMap(source="a", field="inflow_m3s[a]", factor=0.001),
        FieldMap(source="c", field="inflow_m3s[c]"),
    )
    text = "time,f,a,c\n2014-03-01T00:00:00Z,10,250,\n2014-03-01T00:01:00Z,NA,NA,0.5\n2014-03-01T00:02:00Z,NA,,\n"
    recording = loaded(tmp_path, text, fields=fields)
    assert [values for _, _, values in recording] == [
        {"level_m": 2.0, "inflow_m3s": {"a": 0.25}},
        {"inflow_m3s": {"c": 0.5}},
    ]
    assert recording.empty == 1


def test_wide_every_column_is_an_entity(tmp_path):
    text = "time,Flinders Street,b\n20,3,\n10,1,2\n"
    recording = loaded(
        tmp_path,
        text,
        time=TimeColumns(column="time", format="epoch_s"),
        entity=None,
        fields=(),
        wide=FieldMap(source="", field="level_m", factor=10.0),
    )
    assert list(recording) == [
        ("tank/Flinders-Street", 10.0, {"level_m": 10.0}),
        ("tank/b", 10.0, {"level_m": 20.0}),
        ("tank/Flinders-Street", 20.0, {"level_m": 30.0}),
    ]
    assert recording.empty == 1


def test_from_start_to_end(tmp_path):
    text = "time,level\n" + "".join(f"{at},{at}\n" for at in range(10))
    recording = loaded(tmp_path, text, time=TimeColumns(column="time", format="epoch_s"), start_s=3.0, end_s=6.0)
    assert recording.at_s.tolist() == [3.0, 4.0, 5.0]


def test_bad_rows_are_counted_and_named_and_the_others_used(tmp_path):
    text = (
        "time,level,note\n2014-03-01T00:00:00Z,1,\n\nyesterday,2,\n2014-03-01T02:00:00Z,-,x\n"
        "2014-03-01T03:00:00Z,inf,\n2014-03-01T04:00:00Z,5,\n,6,\n"
    )
    recording = loaded(tmp_path, text)
    assert recording.values.tolist() == [[1.0, 5.0]]
    assert recording.bad_rows == 4
    assert [(bad.line, bad.reason) for bad in recording.bad] == [
        (4, "the time cannot be read (1970 to 2112): 'yesterday'"),
        (5, "level is not a number: '-'"),
        (6, "level is not a number: 'inf'"),
        (8, "the time cannot be read (1970 to 2112): 'nan'"),
    ]


def test_rows_with_too_many_cells_are_bad_and_short_ones_say_less(tmp_path):
    text = "time,level,note\n10,1,a\n20,2,b,c\n30,3\n40,4,d\n"
    recording = loaded(tmp_path, text, time=TimeColumns(column="time", format="epoch_s"))
    assert recording.at_s.tolist() == [10.0, 30.0, 40.0]
    assert recording.values.tolist() == [[1.0, 3.0, 4.0]]
    assert [(bad.line, bad.reason) for bad in recording.bad] == [(3, "4 cells for 3 columns")]


@pytest.mark.parametrize("tail", [",", ",x"])
def test_rows_that_are_all_too_long_are_not_shifted(tmp_path, tail):
    text = f"time,level\n10,1{tail}\n20,2{tail}\n"
    recording = loaded(tmp_path, text, time=TimeColumns(column="time", format="epoch_s"))
    assert recording.values.tolist() == [[1.0, 2.0] if tail == "," else []]
    assert recording.bad_rows == (0 if tail == "," else 2)


def test_packed_files_and_byte_order_marks(tmp_path):
    file = written(tmp_path, "\ufefftime,level\n10,1\n", "recording.csv.gz")
    recording = load_replay(one_level(file, time=TimeColumns(column="time", format="epoch_s")))
    assert recording.values.tolist() == [[1.0]]


def test_parquet_with_its_own_times(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    file = tmp_path / "recording.parquet"
    times = pd.to_datetime(["2014-03-01 08:00", "2014-03-01 09:00", None])
    pd.DataFrame({"time": times, "level": [1.0, None, 3.0]}).to_parquet(file)
    recording = load_replay(one_level(str(file), time=TimeColumns(column="time", zone="Asia/Shanghai")))
    assert recording.at_s.tolist() == [utc(2014, 3, 1)]
    assert [bad.line for bad in recording.bad] == [3]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.csv", None, "does not exist"),
        ("empty.csv", "", "is empty"),
        ("other.csv", "when,level\n1,2\n", "has no column 'time'; it has when, level"),
        ("text.parquet", "time,level\n", "is no Parquet file"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, text, words):
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(RecordingError, match=words):
        load_replay(one_level(str(file)))


def test_a_header_alone_is_a_recording_without_readings(tmp_path):
    recording = loaded(tmp_path, "time,level\n")
    assert len(recording) == 0
    assert list(recording) == []


def test_numbers_and_times_are_exact(tmp_path):
    text = "time,level\n1393632000.123,0.1\n1393632000.123457,5.827000141143799\n"
    recording = loaded(tmp_path, text, time=TimeColumns(column="time", format="epoch_s"))
    assert recording.values.tolist() == [[0.1, 5.827000141143799]]
    np.testing.assert_allclose(recording.at_s - 1393632000, [0.123, 0.123457], atol=3e-7)
