"""Snapshots of earlier versions, and of kinds that declared otherwise, are taken over by the table of today."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.core.streams import told
from tests.unit.core.toy import TankReading, tank
from twin_actors.core.cleaning import Quality
from twin_actors.core.columns import Column, Windows, hourly, profile, reading
from twin_actors.core.kind import Kind
from twin_actors.core.older_snapshots import CONSTANT
from twin_actors.core.table import TwinTable

T0 = 1_000_000.0
SLOTS = {
    "count": 0, "deviation": 1, "magnitude": 2, "long": 3, "short": 4, "largest_shift": 5, "long_log": 6,
    "short_log": 7, "largest_ratio": 8, "season_quantile": 9, "season_excess": 10, "season_count": 11,
    "season_mean": 12, "model_quantile": 13, "model_excess": 14, "model_count": 15, "model_mean": 16, "peak": 17,
    "age": 18, "last": 19, "last_at_s": 20, "run": 21, "longest_run": 22,
}  # fmt: skip
LEVELS = ("long", "short", "long_log", "short_log", "last", "last_at_s")
ALARM = {
    "at_s": 0, "score": 1, "value": 2, "before": 3, "before_at_s": 4, "short": 5, "long": 6, "usual": 7, "expected": 8,
    "statistic": 9, "run": 10, "view": 11,
}  # fmt: skip


class Unwatched(TankReading):
    level_m: Column = reading("m", minimum=0, maximum=10, sd=0.1, max_rate=1.0, watched=False)


class Week(Windows):
    level_week_m: Column = profile("m", of="level_m", period="day", bins=4)
    level_hourly_m: Column = hourly("m", of="level_m", keep=3)


def lived(kind: Kind) -> TwinTable:
    """Two tanks that have each said something 80 times, one of them a leap that is an alarm."""
    table = TwinTable(kind, ["tank/0", "tank/1"], np.repeat([[10.0], [4.0]], 2, axis=1))
    chance = np.random.default_rng(0)
    for number in range(80):
        for twin in range(2):
            level = 3 + chance.normal(0, 0.1) + (5 if number == 75 and twin else 0)
            table.apply(told(T0 + 600 * number, level=level, inflow=chance.uniform(0, 1, 3), opened=number, twin=twin))
    return table


def as_once(table: TwinTable) -> dict[str, NDArray[Any]]:
    """The table's snapshot as version 0.1 wrote it in its first months, all rows of the reading being watched."""
    arrays = table.snapshot()
    levels, scales = arrays.pop("detection.levels"), arrays.pop("detection.scales")
    rows = np.zeros((23, *levels.shape[1:]))
    rows[[SLOTS[name] for name in LEVELS]] = levels
    rows[[place for name, place in SLOTS.items() if name not in LEVELS]] = scales
    alarm = np.zeros((12, *levels.shape[1:]))
    alarm[[ALARM["at_s"], ALARM["before_at_s"]]] = arrays.pop("detection.alarm_at_s")
    order = ("score", "value", "before", "short", "long", "usual", "expected", "statistic", "run", "view")
    alarm[[ALARM[name] for name in order]] = arrays["detection.alarm"]
    arrays |= {"detection.rows": rows, "detection.alarm": alarm}
    arrays["score"] = arrays["score"].astype(np.float64)
    for part in ("mean", "count"):
        hours = arrays[f"windows.{part}"].astype(np.float64)
        days = arrays.pop("windows.course" if part == "mean" else "windows.weight").astype(np.float64)
        arrays[f"windows.{part}"] = np.concatenate([days, hours])  # in the order of Week
    for held in ("command", "coupling"):
        for constant in CONSTANT:
            arrays[f"{held}.{constant}"] = np.zeros_like(arrays[f"{held}.value"])
    rows_of_reading, n = arrays["cleaning.at_s"].shape
    for part, empty in (("offset", 0.0), ("smoothed", np.nan), ("changed_at_s", -np.inf)):
        if not len(arrays[f"cleaning.{part}"]):
            arrays[f"cleaning.{part}"] = np.full((rows_of_reading, n), empty)
    return arrays


def test_the_older_columns_are_converted() -> None:
    kind = tank(windows=Week)
    before = lived(kind)
    assert before.explain("tank/1"), "an alarm was raised"
    after = TwinTable(kind, before.ids, before.attributes)
    after.restore(as_once(before))
    now = after.snapshot()
    for name, array in before.snapshot().items():
        np.testing.assert_array_equal(now[name], array, err_msg=name)
        assert now[name].dtype == array.dtype, name
    assert after.explain("tank/1") == before.explain("tank/1")


def test_a_kind_that_no_longer_watches_a_field_drops_its_detector_and_keeps_the_others() -> None:
    before = lived(tank(windows=Week))
    after = TwinTable(tank(reading=Unwatched, windows=Week), before.ids, before.attributes)
    after.restore(as_once(before))
    np.testing.assert_array_equal(after.detection.scales, before.detection.scales[:, 1:])
    assert set(after.explain("tank/1")) == set(before.explain("tank/1")) - {"level_m"}


def test_detection_begins_anew_where_the_snapshot_has_other_fields_watched() -> None:
    before = lived(tank(reading=Unwatched))
    after = TwinTable(tank(), before.ids, before.attributes)
    after.restore(before.snapshot())
    np.testing.assert_array_equal(after.x, before.x)
    assert not after.detection.scales.any()
    assert after.explain("tank/1") == {}


class NeverStuck(TankReading):
    level_m: Column = reading("m", minimum=0, maximum=10, sd=0.1, max_rate=1.0)


def test_a_limit_for_stuck_values_that_is_new_counts_from_the_last_reading() -> None:
    before = lived(tank(reading=NeverStuck))
    after = TwinTable(tank(), before.ids, before.attributes)
    after.restore(before.snapshot())
    np.testing.assert_array_equal(after.cleaning.changed_at_s, before.cleaning.at_s)
    level = float(before.cleaning.value[0, 0])
    last_s = float(before.cleaning.at_s[0, 0])
    for later_s, quality in ((60.0, Quality.GOOD), (660.0, Quality.STUCK)):
        after.apply(told(last_s + later_s, level=level))
        assert after.cleaning.quality[0, 0] == quality


@pytest.mark.parametrize("missing", ["x", "cleaning.at_s", "command.value"])
def test_what_a_twin_cannot_be_without_is_asked_for(missing: str) -> None:
    before = lived(tank())
    arrays = before.snapshot()
    del arrays[missing]
    with pytest.raises(ValueError, match=f"snapshot of another model of kind tank: {missing}"):
        TwinTable(tank(), before.ids, before.attributes).restore(arrays)
