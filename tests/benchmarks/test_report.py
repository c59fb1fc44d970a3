"""The benchmark report: its rows and goals, the peers' twin against ours, a quick run, and the paper plan."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from domains.venues import DOMAIN as VENUES
from twin_actors.core.inputs import Batch
from twin_actors.core.table import TwinTable
from twin_actors.testing.domains import plausible_attributes

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
COLUMNS = {"name", "value", "unit", "peer", "ratio", "goal", "met"}


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The benchmark's modules, which are scripts beside each other and no package."""
    for folder in (BENCHMARKS, BENCHMARKS / "peers"):
        monkeypatch.syspath_prepend(str(folder))
    import equation
    import report
    import report_rows
    import scaling

    return SimpleNamespace(equation=equation, report=report, rows=report_rows, scaling=scaling)


def ingest(**changed: float) -> dict[str, Any]:
    return {
        "readings_per_s": 200.0, "bare_paho_per_s": 100.0, "one_call_per_message_per_s": 5.0, "ratio_to_bare_paho": 2.0,
        "ratio_to_one_call_per_message": 40.0, "router_cpu_us_per_reading": 3.0, "twin_actor_cpu_us_per_reading": 2.0,
        "bare_paho_cpu_us_per_message": 10.0, "latency_p50_ms": 20.0, "latency_p99_ms": 50.0,
        "latency_at_readings_per_s": 100.0, **changed,
    }  # fmt: skip


def test_the_peers_twin_is_the_products_on_clean_readings(scripts: SimpleNamespace) -> None:
    kind = next(kind for kind in VENUES.kinds if kind.name == "footfall")
    table = TwinTable(kind, ["footfall/1"], plausible_attributes(kind, 1, np.random.default_rng(0)))
    twin = scripts.equation.FlowTwin()
    random = np.random.default_rng(7)
    at_s = 1.7e9 + np.cumsum(random.uniform(0.001, 4000.0, 60))
    flows = random.uniform(0.0, 3000.0, 60)
    place = kind.reading.layout.places["flow_pph"]
    for number, (at, flow) in enumerate(zip(at_s, flows, strict=True)):
        values = np.full((kind.reading.layout.rows, 1), np.nan)
        values[place] = flow
        table.apply(
            Batch(rows=np.zeros(1, np.intp), observed_at_s=np.array([at]), values=values, keys=np.array([number]))
        )
        twin.update(float(at), float(flow))
        assert table.x[0, 0] == pytest.approx(twin.flow_pph, rel=1e-9)
        assert table.variance[0, 0] == pytest.approx(twin.variance, rel=1e-9)


def test_rows_carry_peer_ratio_and_goal(scripts: SimpleNamespace) -> None:
    found = {row.name: row for row in scripts.rows.rows({"ingest": ingest()})}
    assert all(set(row.as_dict()) >= COLUMNS for row in found.values())
    row = found["ingest, QoS 0"]
    assert (row.ratio, row.goal, row.met) == (2.0, "ratio ≥ 0.95", True)
    assert found["latency p99 at half the peak rate"].met is True
    assert found["latency p50 at half the peak rate"].met is None


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"ratio_to_bare_paho": 0.94}, "ingest, QoS 0"),
        ({"ratio_to_one_call_per_message": 19.9}, "ingest, QoS 0, against one Ray call per message"),
        ({"latency_p99_ms": 100.1}, "latency p99 at half the peak rate"),
    ],
)
def test_a_missed_goal_is_said_with_what_limits_it(scripts: SimpleNamespace, changed: Any, name: str) -> None:
    results = {"ingest": ingest(**changed)}
    found = scripts.rows.rows(results)
    assert [row.name for row in found if row.met is False] == [name]
    page = scripts.report.markdown(found, results)
    assert page.count("**no**") == 1
    assert f"- {name} (" in page.partition("What limits")[2]


def test_a_part_that_could_not_run_is_a_row_with_its_reason(scripts: SimpleNamespace) -> None:
    (row,) = scripts.rows.rows({"gateway": {"skipped": "no network"}})
    assert (row.value, row.met, row.note) == (None, None, "skipped: no network")


def test_gateways_have_rows_for_each_store(scripts: SimpleNamespace) -> None:
    def of(rate: float) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for form in ("columns", "list"):
            figures |= {
                f"ingest_{form}_readings_per_s": rate, f"paho_json_dict_{form}_readings_per_s": 2e5,
                f"bare_paho_{form}_readings_per_s": 4e5, f"ratio_to_paho_json_dict_{form}": rate / 2e5,
            }  # fmt: skip
        return figures

    results = {"gateway": {"readings_per_message": 100, **of(6e5), "durable": {"sqlite": of(3e5)}}}
    found = {row.name: row for row in scripts.rows.rows(results)}
    assert len(found) == 4
    memory = found["gateway batches as columns, 100 readings a message"]
    disk = found["gateway batches as columns, 100 readings a message, QoS 1, durable log in SQLite"]
    assert (memory.value, memory.ratio, memory.met) == (6e5, 3.0, True)
    assert (disk.value, disk.ratio, disk.goal, disk.met) == (3e5, 1.5, "", None)
    assert disk.peer == "paho, json and a dictionary, QoS 1"


def test_nodes_that_hold_no_twins_meet_no_goal(scripts: SimpleNamespace) -> None:
    def of(cpu: float, spread: int) -> dict[str, Any]:
        return {"cpu_us_per_reading": cpu, "nodes_with_twins": spread, "twin_actors_by_node": [4],
                "ray_services_cpu_us": 1.0}  # fmt: skip

    packed = scripts.rows.rows({"city_nodes": {"nodes": {"1": of(5.0, 1), "4": of(5.0, 1)}}})[-1]
    spread = scripts.rows.rows({"city_nodes": {"nodes": {"1": of(5.0, 1), "4": of(6.0, 4)}}})[-1]
    assert (packed.met, spread.met) == (None, False)
    assert "1 of 4 nodes" in packed.note


def test_an_interrupted_run_goes_on_from_what_is_kept(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run_part(part: Any, quick: bool) -> dict[str, Any]:
        ran.append(part.name)
        return ingest() if part.name == "ingest" else {"skipped": "it failed"}

    monkeypatch.setattr(scripts.report, "run_part", run_part)
    monkeypatch.setattr(scripts.report, "commit", lambda: "abc")
    order = ["ingest", "durable"]
    assert scripts.report.measure(order, tmp_path, quick=True, resume=True) == ["durable"]
    assert scripts.report.measure(order, tmp_path, quick=True, resume=True) == ["durable"]
    assert ran == ["ingest", "durable", "durable"]
    monkeypatch.setattr(scripts.report, "commit", lambda: "def")
    scripts.report.measure(["ingest"], tmp_path, quick=True, resume=True)
    assert ran[-1] == "ingest", "another commit's figures are measured again"


@pytest.mark.slow  # three quarters of a minute; the rows and the page have quick tests above
def test_a_quick_run_measures_and_writes_the_report(tmp_path: Path) -> None:
    if shutil.which("mosquitto") is None and shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin") is None:
        pytest.skip("Mosquitto is not installed")
    words = ["--quick", "--parts", "ingest", "--results", str(tmp_path), "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "report.py"), *words], capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "report.json").read_text())
    assert {"ingest, QoS 0", "latency p99 at half the peak rate"} <= {row["name"] for row in found}
    for row in found:
        assert set(row) >= COLUMNS
        assert row["value"] > 0
        assert (row["met"] is None) == (row["goal"] == "")
    kept = json.loads((tmp_path / "ingest.json").read_text())
    assert kept["ledger_balanced"] is True
    assert kept["twins_compared"] > 0
    assert kept["run"]["quick"] is True
    assert "these figures mean nothing" in (tmp_path / "report.md").read_text()


def figures(scripts: SimpleNamespace, **changed: float) -> dict[str, Any]:
    measured = {"router_us": 6.0, "twin_us": 3.0, "router_rate": 80_000.0, "broker_rate": 50_000.0, "paho_us": 17.0,
                "log_us": 12.0, "twin_bytes": 2_000.0, "actor_bytes": 66e6, "tick_ms": 400.0,
                "launch_s": 20.0}  # fmt: skip
    figure = scripts.scaling.Figure
    found = {**{name: figure(value, "", "here") for name, value in measured.items()}, **scripts.scaling.ASSUMED}
    return {**found, **{name: figure(value, "", "here") for name, value in changed.items()}}


def test_the_plan_follows_from_its_figures(scripts: SimpleNamespace) -> None:
    lines, uses, money = scripts.scaling.plan(figures(scripts))
    by_name = {line.what: line.region for line in lines}
    assert by_name["readings, mean"] == pytest.approx(100_000 * 2 / 60)
    assert by_name["twin actors"] == 10
    assert by_name["raw readings"] == pytest.approx(100_000 * 2 * 1440 * 30 * 200 / 1e9)
    assert money["disks"] == pytest.approx((by_name["raw readings"] + by_name["rolled-up history"]) * 10 * 0.10)
    assert [used for _, used, _ in uses] == sorted((used for _, used, _ in uses), reverse=True)
    ten_times, _, _ = scripts.scaling.plan(figures(scripts, per_minute=20.0))
    more = {line.what: line.region for line in ten_times}
    assert more["routers"] > by_name["routers"]
    assert more["raw readings"] == pytest.approx(10 * by_name["raw readings"])


def test_a_report_without_the_rows_says_which_part_is_missing(scripts: SimpleNamespace) -> None:
    with pytest.raises(scripts.scaling.FigureMissing, match=r"run benchmarks/report\.py"):
        scripts.scaling.measured([])


def test_the_scaling_page_is_what_the_kept_report_gives(scripts: SimpleNamespace) -> None:
    report = json.loads((BENCHMARKS / "report.json").read_text())
    try:
        figures = scripts.scaling.measured(report)
    except scripts.scaling.FigureMissing as missing:
        pytest.skip(f"the kept report has not all parts yet: {missing}")
    computed = scripts.scaling.tables({**figures, **scripts.scaling.ASSUMED})
    page = (ROOT / "docs/scaling.md").read_text()
    assert scripts.scaling.page_with(page, computed) == page, "run python benchmarks/scaling.py --write"
