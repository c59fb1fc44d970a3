"""RESCO's delay on a tiny run: what was lost, what waited to depart, and who never did. Needs no SUMO."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.traffic.sumo.trips import planned_departures, read_delay

ROUTES = """<routes>
<trip id="a" depart="100.00" from="x" to="y"/>
<vehicle id="b" depart="130.00"><route edges="x y"/></vehicle>
<trip id="late" depart="190.00" from="x" to="y"/>
<trip id="before" depart="99.00" from="x" to="y"/>
<trip id="after" depart="200.00" from="x" to="y"/>
</routes>"""
TRIPINFO = """<tripinfos>
<tripinfo id="a" depart="102.00" departDelay="2.00" arrival="150.00" timeLoss="10.50"/>
<tripinfo id="b" depart="130.00" departDelay="0.00" arrival="-1.00" timeLoss="31.00"/>
</tripinfos>"""


def test_delay_counts_lost_time_waiting_to_depart_and_those_who_never_did(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(ROUTES)
    (tmp_path / "t.xml").write_text(TRIPINFO)
    planned = planned_departures([tmp_path / "r.xml"], 100.0, 200.0)
    assert planned == {"a": 100.0, "b": 130.0, "late": 190.0}
    delay = read_delay(tmp_path / "t.xml", planned, 200.0)
    assert (delay.trips, delay.departed, delay.finished) == (3, 2, 1)
    assert delay.lost_s == pytest.approx(10.5 + 2.0 + 31.0)
    assert delay.never_s == pytest.approx(10.0)
    assert delay.mean_s == pytest.approx((43.5 + 10.0) / 3)


def test_a_run_without_trips_has_no_delay(tmp_path: Path) -> None:
    (tmp_path / "t.xml").write_text("<tripinfos/>")
    assert read_delay(tmp_path / "t.xml", {}, 200.0).mean_s == 0.0
