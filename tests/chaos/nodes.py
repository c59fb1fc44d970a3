"""A Ray cluster of several nodes on one machine, one of them behind a link of its own, to kill, freeze and cut."""

from __future__ import annotations

from typing import Final

HEALTH: Final = {
    # Ray's own settings give a frozen node up after 66 s; these, for a quick network, after about 10 s
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
NODE_MEMORY: Final = 4_000_000_000
UP_WITHIN_S: Final = 60.0
HOST, APART = "10.213.77.1", "10.213.77.2"


def why_no_network() -> str:
    """Why a node cannot be cut off here; empty when it can."""
    return "not yet"
