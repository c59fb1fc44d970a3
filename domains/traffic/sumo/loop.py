"""The twins and their policy beside a simulation in one process: for development and tests, without a broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from domains.traffic.signal import SIGNAL
from domains.traffic.staging import SIGNAL_STAGES
from domains.traffic.sumo.mapping import attributes_of, entity_id, readings_of
from domains.traffic.sumo.network import Network
from domains.traffic.sumo.simulation import Observation
from twin_actors.core.inputs import Batch
from twin_actors.core.table import TwinTable
from twin_actors.core.view import CommandTo, KindView, View

EPOCH_S = 1_700_000_000.0
"""Added to simulated seconds: twins speak of seconds since 1970."""


class TwinLoop:
    """A table of twins for the signals of a network, and the orders that a policy gives on what they know."""

    def __init__(self, network: Network, parameters: Mapping[str, Any] | None = None) -> None:
        self._signals = tuple(network.signals)
        self._parameters = {**SIGNAL_STAGES.defaults, **(parameters or {})}
        attributes = SIGNAL.attributes.defaults(len(self._signals)).block((len(self._signals),))
        for column, signal in enumerate(network.signals.values()):
            for name, numbers in attributes_of(network, signal).items():
                attributes[SIGNAL.attributes.layout.places[name], column] = numbers
        self.table = TwinTable(SIGNAL, [entity_id(each) for each in self._signals], attributes)

    def decide(self, observations: Mapping[str, Observation]) -> dict[str, tuple[int, float]]:
        """Tell the twins what is seen and ask the policy: stage and clearance, s, by signal."""
        layout, n = SIGNAL.reading.layout, len(self._signals)
        values = np.full((layout.rows, n), np.nan)
        at_s = np.array([EPOCH_S + observations[each].at_s for each in self._signals])
        for column, signal in enumerate(self._signals):
            for name, said in readings_of(observations[signal]).items():
                values[layout.places[name], column] = said
        self.table.apply(Batch(rows=np.arange(n), observed_at_s=at_s, values=values))
        view = self._view(float(at_s.max()))
        orders: dict[str, tuple[int, float]] = {}
        name_of = dict(zip(self.table.ids, self._signals, strict=True))
        for proposal in SIGNAL_STAGES.propose(view, self._parameters):
            for effect in proposal.effects:
                if isinstance(effect, CommandTo):
                    stage, clearance_s = effect.values["stage"], effect.values["clearance_s"]
                    assert isinstance(stage, float)
                    assert isinstance(clearance_s, float)
                    orders[name_of[effect.entity]] = (int(stage), clearance_s)
        return orders

    def _view(self, now_s: float) -> View:
        shown, n = self.table.show(now_s), len(self._signals)
        nowhere = np.full(n, np.nan)
        seen = KindView(
            kind=SIGNAL,
            ids=tuple(self.table.ids),
            attributes=SIGNAL.attributes.of_block(self.table.attributes),
            state=SIGNAL.state.of_block(shown.x),
            sd=SIGNAL.state.of_block(shown.sd),
            command=SIGNAL.command.of_block(shown.command),
            desired=SIGNAL.command.of_block(shown.desired),
            couplings=SIGNAL.couplings.of_block(shown.couplings),
            proposed=None,
            indicators=shown.indicators,
            alerts=shown.alerts,
            needs=shown.needs,
            age_s=shown.age_s,
            revision=shown.revision,
            tags=tuple({} for _ in range(n)),
            lat_deg=nowhere,
            lon_deg=nowhere,
        )
        return View(now_s=now_s, kinds={SIGNAL.name: seen})
