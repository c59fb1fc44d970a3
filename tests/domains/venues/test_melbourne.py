"""The usual week against simple baselines on real counts: Melbourne, eleven places, September to December 2014."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from domains.venues.footfall import FOOTFALL
from twin_actors.core.columns import Column
from twin_actors.core.inputs import Batch
from twin_actors.core.table import TwinTable

COUNTS = Path(__file__).parents[4] / "shared/data/melbourne_ped/ped_2014_hourly.csv"
SPARSE = "Birrarung Marr"  # 65 % of its hours are missing
DAY, WEEK = 24, 168


def counts_from(month: int) -> tuple[Column, Column]:
    """Hours ``(h,)`` in s and counts ``(h, places)`` in persons/h, NaN where missing."""
    with COUNTS.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if int(row["timestamp"][5:7]) >= month]
    places = [name for name in rows[0] if name not in ("timestamp", SPARSE)]
    at_s = [datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp() for row in rows]
    return np.array(at_s), np.array([[float(row[name] or "nan") for name in places] for row in rows])


@pytest.mark.skipif(not COUNTS.exists(), reason="the Melbourne counts are not on this machine")
def test_the_usual_week_is_as_good_as_last_week_and_far_better_than_yesterday() -> None:
    at_s, counts = counts_from(month=7)
    n = counts.shape[1]
    twins = TwinTable(FOOTFALL, [f"footfall/{k}" for k in range(n)], FOOTFALL.attributes.defaults(n).block((n,)))
    first = int(np.searchsorted(at_s, datetime(2014, 9, 1, tzinfo=UTC).timestamp()))
    usual = np.full_like(counts, np.nan)
    covered: list[bool] = []
    for hour, now_s in enumerate(at_s):
        said = np.flatnonzero(~np.isnan(counts[hour]))
        if hour >= first:
            now = twins.show(float(now_s), with_control=False)
            usual[hour] = now.indicators["usual_pph"]
            miss = np.abs(counts[hour] - now.x[0])[said]
            covered.extend(miss < 1.96 * np.hypot(now.sd[0], 60.0)[said])
        twins.apply(Batch(rows=said, observed_at_s=np.full(len(said), now_s), values=counts[hour][said][None]))

    def error_pph(expected: Column) -> float:
        return float(np.nanmean(np.abs(expected - counts[first:])))

    last_week, yesterday = counts[first - WEEK : -WEEK], counts[first - DAY : -DAY]
    assert error_pph(yesterday) == pytest.approx(206, abs=1)
    assert error_pph(last_week) == pytest.approx(128, abs=1)
    assert error_pph(usual[first:]) < 0.65 * error_pph(yesterday)
    assert error_pph(usual[first:]) < 1.05 * error_pph(last_week)
    assert 0.88 < np.mean(covered) < 0.99  # of the next hour's counts lie within what is called 95 %
