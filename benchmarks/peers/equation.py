"""The peers' twin: one passer-by count with its variance, by the same Kalman step as the kind ``footfall``.

Nothing is cleaned, detected, logged or kept: it is what a good engineer writes in an afternoon. On readings that
need no cleaning it gives the same flow as the product's twin, which every run checks.
"""

from __future__ import annotations

DEFAULT_PPH, UNSURE_SD, DRIFT, SD = 300.0, 800.0, 400.0, 60.0
"""Of ``domains/venues/footfall.py``: the flow before any reading, its sd, its drift per √hour, the counter's sd."""


class FlowTwin:
    """The flow of one walkway in persons/h."""

    __slots__ = ("at_s", "flow_pph", "variance")

    def __init__(self) -> None:
        self.flow_pph, self.variance, self.at_s = DEFAULT_PPH, UNSURE_SD**2, 0.0

    def update(self, at_s: float, value: float) -> None:
        """x += P/(P + R) (z − x), after P has grown by drift²·t, never beyond that of a value never measured."""
        prior = min(self.variance + DRIFT**2 * (at_s - self.at_s) / 3600.0, UNSURE_SD**2)
        gain = prior / (prior + SD**2)
        self.flow_pph += gain * (value - self.flow_pph)
        self.variance = prior * (1.0 - gain)
        self.at_s = at_s
