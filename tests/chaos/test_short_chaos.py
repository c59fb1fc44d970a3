"""Chaos as the ordinary tests run it: a dozen faults in two legs, nothing lost, twins equal to the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import ON_ONE_MACHINE
from tests.chaos.runner import LEGS, by_kind, percentile, share_out
from twin_actors.testing.postgres import why_not
from twin_actors.wire.broker import find_mosquitto

ROOT = Path(__file__).parents[2]
needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed")


def chaos(*words: str, within_s: float) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--json", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=within_s,
    )  # fmt: skip
    assert done.stdout.strip(), done.stderr[-4000:]
    report: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == report["passed"]
    assert report["passed"], done.stderr[-4000:]
    return report


@needs_mosquitto
@pytest.mark.timeout(420)
def test_a_dozen_faults_lose_nothing() -> None:
    report = chaos("--faults", "13", "--seed", "11", "--legs", "b,c", "--broker-kills", "0", within_s=400)
    assert report["faults"] == 13
    assert report["lost"] == report["duplicated_commands"] == report["unrecovered"] == 0
    assert report["equal_to_truth"]
    assert report["ledger_balanced"]
    assert report["monotone"]
    # a run that says little has proved little
    assert report["acknowledged"] > 3_000
    assert report["gathered"] > 1_000
    assert report["commands"] > 20
    assert report["polls"] > 20
    assert len(report["kinds"]) >= 6
    assert all(line["recovered"] == line["count"] for line in report["kinds"].values())


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sixty_faults_in_all_legs() -> None:
    legs = "a,b,c" if why_not() else "a,b,c,d"
    report = chaos("--faults", "60", "--seed", "12", "--legs", legs, within_s=3500)
    assert report["faults"] == 60


def test_faults_are_dealt_out_by_the_seed_alone() -> None:
    legs = list(LEGS)
    dealt = share_out(200, legs, 1, {})
    assert dealt == share_out(200, legs, 1, {})
    assert dealt != share_out(200, legs, 2, {})
    assert sum(map(len, dealt.values())) == 200
    for leg in "abc":
        counts = {kind: dealt[leg].count(kind) for kind in ON_ONE_MACHINE}
        assert max(counts.values()) - min(counts.values()) <= 1
    assert {"kill_raylet", "freeze_node", "cut_network", "restart_store"} <= set(dealt["d"])
    assert "cut_network" not in share_out(200, legs, 1, {"cut_network": "no root"})["d"]


def test_percentiles_are_values_that_occurred() -> None:
    faults = [{"kind": "k", "recovery_s": float(n), "overlap_s": n / 10} for n in range(1, 21)]
    line = by_kind([*faults, {"kind": "k", "recovery_s": None, "overlap_s": 0.0}])["k"]
    assert line["count"] == 21
    assert line["recovered"] == 20
    assert (line["recovery_p50_s"], line["recovery_p95_s"], line["recovery_max_s"]) == (10.0, 19.0, 20.0)
    assert line["overlap_max_s"] == 2.0
    assert percentile([1.0], 0.95) == 1.0
