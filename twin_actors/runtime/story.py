"""The story of a simulation: what happens to simulated entities, each step at its own moment of the city's clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twin_actors.core.layout import Layout
from twin_actors.core.simulation import Rows, SimulatedFleet
from twin_actors.scenario.model import StoryStep


@dataclass(frozen=True, slots=True)
class _Scene:
    """One step as it concerns one fleet."""

    step: StoryStep
    rows: Rows
    begin_s: float
    end_s: float
    drivers: dict[str, float]
    state: dict[str, float]


def _known(layout: Layout, values: dict[str, float]) -> dict[str, float]:
    """A step may name entities of several kinds; each takes what it has."""
    return {label: value for label, value in values.items() if label in layout.labels}


class Story:
    """Plays the steps that concern one fleet; times count from ``start_s``. Of overlapping steps the later one wins."""

    def __init__(self, steps: Sequence[StoryStep], fleet: SimulatedFleet, start_s: float) -> None:
        self._fleet = fleet
        column = {entity: place for place, entity in enumerate(fleet.ids)}
        devices = fleet.kind.devices
        assert devices is not None  # a fleet cannot be made without
        self._scenes: list[_Scene] = []
        for step in sorted(steps, key=lambda step: step.at_s):
            rows = np.array([column[entity] for entity in step.entities if entity in column], dtype=np.intp)
            if len(rows):
                begin_s = start_s + step.at_s
                self._scenes.append(
                    _Scene(
                        step,
                        rows,
                        begin_s,
                        np.inf if step.for_s is None else begin_s + step.for_s,
                        _known(devices.drivers.layout, dict(step.drivers)),
                        _known(fleet.kind.state.layout, dict(step.state)),
                    )
                )
        moments = {scene.begin_s for scene in self._scenes} | {scene.end_s for scene in self._scenes}
        self._moments = sorted(moment for moment in moments if np.isfinite(moment))
        self._done = 0

    @property
    def next_s(self) -> float:
        """When something happens next; infinity when the story is told."""
        return self._moments[self._done] if self._done < len(self._moments) else np.inf

    def play(self, until_s: float) -> None:
        """Let everything happen that is due by ``until_s``, each at its own time."""
        while self.next_s <= until_s:
            now_s = self._moments[self._done]
            self._done += 1
            self._happen(now_s)

    def _happen(self, now_s: float) -> None:
        fleet = self._fleet
        turning = [scene for scene in self._scenes if now_s in (scene.begin_s, scene.end_s)]
        for scene in turning:
            if scene.state and scene.begin_s == now_s:
                fleet.set_state(scene.rows, scene.state, now_s)
        driven = [scene.rows for scene in turning if scene.drivers]
        failing = [scene.rows for scene in turning if scene.step.fault]
        if driven:
            fleet.clear_drivers(np.unique(np.concatenate(driven)), now_s)
        if failing:
            fleet.clear_faults(np.unique(np.concatenate(failing)))
        for scene in self._scenes:
            if not scene.begin_s <= now_s < scene.end_s:
                continue
            if driven and scene.drivers:
                rows = np.intersect1d(scene.rows, np.concatenate(driven))
                fleet.set_drivers(rows, scene.drivers, now_s)
            step = scene.step
            if failing and step.fault:
                rows = np.intersect1d(scene.rows, np.concatenate(failing))
                fleet.set_fault(rows, step.fault, scene.begin_s, value=step.value or 0.0, reading=step.reading)
