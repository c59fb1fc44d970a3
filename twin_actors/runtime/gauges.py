"""Samples as gauges of Ray's own metrics endpoint, where they are called ``ray_twin_actors_…``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Gauge

from twin_actors.core.ledger import Ledger
from twin_actors.runtime.metrics import METRICS, samples


class Gauges:
    """All are gauges, also what only grows: the values are counted elsewhere, and Ray's counters only add.

    A series that is not shown again is dropped by Ray after two of its report intervals.
    """

    def __init__(self) -> None:
        self._gauges = {each.name: Gauge(each.name, description=each.says, tag_keys=each.labels) for each in METRICS}
        self._shown: frozenset[str] = frozenset()

    def show(self, status: Mapping[str, Any], ledger: Ledger | None) -> None:
        """``status`` and ``ledger`` as ``metrics.samples`` takes them."""
        found = samples(status, ledger, self._shown)
        self._shown = frozenset(sample.labels["actor"] for sample in found if "actor" in sample.metric.labels)
        for sample in found:
            self._gauges[sample.metric.name].set(float(sample.value), tags=sample.labels)
