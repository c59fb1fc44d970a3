"""The ledger as metrics of Ray's own endpoint (Prometheus form): one gauge a fate, never a tag an entity."""

from __future__ import annotations

from ray.util.metrics import Gauge

from twin_actors.core.ledger import Ledger


class LedgerMetrics:
    """Gauges ``twin_actors_ledger{city, fate}`` and ``twin_actors_unexplained{city}``."""

    def __init__(self, city: str) -> None:
        self._fates = Gauge("twin_actors_ledger", description="Readings by fate", tag_keys=("city", "fate"))
        self._unexplained = Gauge(
            "twin_actors_unexplained", description="Readings without exactly one fate", tag_keys=("city",)
        )
        self._city = city

    def show(self, ledger: Ledger) -> None:
        for fate in ("received", "applied", "duplicate", "late", "dead_lettered", "shed", "in_flight"):
            self._fates.set(getattr(ledger, fate), tags={"city": self._city, "fate": fate})
        self._unexplained.set(ledger.unexplained, tags={"city": self._city})
