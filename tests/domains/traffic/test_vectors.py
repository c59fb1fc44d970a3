"""The published vectors of traffic at their stated tolerance, from the shared data; errata are named.

Errata. The Wikibooks solution prints a longest queue of 9.66 vehicles and a total delay of 406 veh·s: it rounds the
arrival rate to 0.138 veh/s; exact are 9.722 and 408.33. The NPTEL worked example of HCM delay prints d2 = 16.81 s, but
its own formula gives 82.7 s; its d1 = 22.95 s is right, so only the derived Roess case is a vector here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domains.traffic.equations import (
    control_delay_s,
    incremental_delay_s,
    signal_queue,
    uniform_delay_s,
    webster_cycle_s,
)

FILE = Path(__file__).resolve().parents[4] / "shared/data/vectors/published_vectors.json"


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    if not FILE.exists():
        pytest.skip(f"{FILE.name} is not here: published vectors are read from ../shared/data/vectors")
    return json.loads(FILE.read_text())  # type: ignore[no-any-return]


def test_webster(vectors: dict[str, Any]) -> None:
    for case in vectors["webster"]["cases"]:
        ratio = np.array(case["q"], dtype=float) / np.array(case["s"], dtype=float)
        assert webster_cycle_s(ratio, case["L"]) == pytest.approx(case["C0"], abs=0.005)


def test_dd1_exact_and_as_printed(vectors: dict[str, Any]) -> None:
    given, printed, exact = (vectors["dd1_signal"][name] for name in ("inputs", "published", "exact"))

    def held_against(row: dict[str, float], arrival_vph: float, digits: float) -> None:
        queue = signal_queue(arrival_vph, given["saturation_vph"], given["green_s"], given["cycle_s"])
        assert queue.share_with_queue == pytest.approx(row["share_of_cycle_with_queue"], abs=0.005)
        assert queue.max_queue_veh == pytest.approx(row["max_queue_veh"], abs=digits)
        assert queue.total_delay_veh_s == pytest.approx(row["total_delay_veh_s"], abs=100 * digits)
        assert queue.mean_delay_s == pytest.approx(row["avg_delay_s"], abs=0.05)
        assert queue.max_delay_s == row["max_delay_s"]

    held_against(exact, given["arrival_vph"], 0.0001)
    held_against(printed, 0.138 * 3600, 0.01)  # the erratum: the publication's rounded arrival rate


def test_hcm_delay(vectors: dict[str, Any]) -> None:
    row = vectors["hcm2000_delay"]
    flow, capacity, share, cycle_s = 800.0, 775.0, np.array(0.4), 90.0
    assert uniform_delay_s(cycle_s, share, np.array(flow / capacity)) == pytest.approx(row["d1"], abs=0.05)
    assert incremental_delay_s(np.array(flow / capacity), np.array(capacity)) == pytest.approx(row["d2"], abs=0.05)
    assert control_delay_s(np.array(flow), np.array(capacity), share, cycle_s) == pytest.approx(row["d"], abs=0.05)
