"""The same comparison as ``benchmarks/power_peers.py``, where the two peers are installed somewhere."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

THERMAL, GRID = os.environ.get("TWIN_ACTORS_PEER_THERMAL"), os.environ.get("TWIN_ACTORS_PEER_GRID")
pytestmark = pytest.mark.slow


def benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "power_peers.py"
    spec = importlib.util.spec_from_file_location("power_peers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not THERMAL, reason="TWIN_ACTORS_PEER_THERMAL names no python with transformer-thermal-model")
def test_temperatures_are_those_of_an_independent_implementation() -> None:
    assert THERMAL is not None
    result = benchmark().temperatures(THERMAL)
    for name in ("standard's example", "three days"):
        assert result[name]["oil_difference_k"] < 1e-9
        assert result[name]["hot_spot_difference_k"] < 1e-9


@pytest.mark.skipif(not GRID, reason="TWIN_ACTORS_PEER_GRID names no python with pandapower")
def test_shedding_relieves_the_overloaded_transformer_of_a_power_flow() -> None:
    assert GRID is not None
    result = benchmark().grid(GRID)
    assert result["loading_before_percent"] == pytest.approx(101.41, abs=0.01)
    assert result["slack_before_mw"] == pytest.approx(45.04573, abs=1e-4)
    assert result["loading_after_percent"] <= 95.5
    assert result["shed_mw"] >= result["asked_mw"]
