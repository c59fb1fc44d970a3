"""What people do to a running city's make-up: apply another scenario, add, remove, rename and re-attribute, split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twin_actors.runtime import driving, shutdown
from twin_actors.runtime.changing import Change, difference
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.processes import Record
from twin_actors.scenario import edits

if TYPE_CHECKING:
    from twin_actors.scenario.model import Scenario

CHANGED_WITHIN_S = 300.0
READY_WITHIN_S = 60.0


class Reshaped:
    """The part of ``City`` that changes it. Twins that a change does not touch live on; nothing of QoS 1 is lost.

    Routers, the aggregator and the twin actors that are touched stop for some seconds; meanwhile the broker keeps what
    devices say at QoS 1. All of it may also be done by ``apply`` with a scenario file, which stays the truth for the
    next launch: what is only changed here is forgotten by a launch from the old file.
    """

    plan: CityPlan
    scenario: Scenario
    _record: Record

    def _call(self, actor: str, method: str, *arguments: Any, deadline_s: float = ..., again: bool = ...) -> Any: ...

    def _look_again(self) -> None: ...

    def apply(
        self, scenario: str | Path | Sequence[str | Path] | Scenario, *, renamed: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Change:  # fmt: skip
        """Take over another scenario; returns what differs. With ``dry_run`` nothing is done about it.

        Other ``placement.labels`` make twin actors move to nodes that have them, a few at a time, after this has
        returned; the change names them, and those that stay because there is no such node.
        ``renamed`` gives old ids by new ones; without it an entity under another name is another entity. Raises
        ScenarioError, ChangeRefused for what only a launch can take over, and ValueError; then nothing has changed.
        """
        from twin_actors.scenario import Scenario as ScenarioRecord
        from twin_actors.scenario import load_scenario

        if not isinstance(scenario, ScenarioRecord):
            files = [scenario] if isinstance(scenario, str | Path) else list(scenario)
            scenario = load_scenario([Path(file) for file in files])
        change = difference(self.scenario, scenario, renamed)
        if dry_run and not change.refused and self.scenario.placement.labels != scenario.placement.labels:
            return cast(Change, self._call("controller", "preview", scenario.to_json(), dict(renamed or {})))
        if dry_run or change.empty:
            return change
        return self._change(scenario, renamed or {})

    def add(
        self, entity: str, *, at: tuple[float, float] | None = None, tags: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> Change:  # fmt: skip
        """One entity more, e.g. ``city.add("footfall/gate-9", at=(53.5, 9.9))``. Raises ValueError."""
        return self._change(
            edits.with_entity(self.scenario, self.plan.catalogue, entity, attributes, at=at, tags=tags), {}
        )

    def remove(self, *entities: str) -> Change:
        """Entities less, with their relations and simulated devices; their history stays. Raises KeyError."""
        return self._change(edits.without_entities(self.scenario, *entities), {})

    def rename(self, old: str, new: str) -> Change:
        """Another id, and with it other topics; the twin and its history go along. Raises KeyError, ValueError."""
        return self._change(edits.with_name(self.scenario, old, new), {new: old})

    def set_attributes(self, entity: str, **attributes: Any) -> Change:
        """Other attributes of one entity, ``None`` for the default. Raises KeyError, ValueError."""
        return self._change(edits.with_attributes(self.scenario, self.plan.catalogue, entity, attributes), {})

    def split(self, actor: str) -> list[str]:
        """Divide a twin actor that has too much to do; returns the names of the new ones. Raises ValueError."""
        before = {each.name for each in self.plan.actors}
        self._change(self.scenario, {}, actor)
        return sorted({each.name for each in self.plan.actors} - before)

    def _change(self, scenario: Scenario, renamed: Mapping[str, str], split: str = "") -> Change:
        before = self.scenario
        change: Change = self._call(
            "controller", "change", scenario.to_json(), dict(renamed), split,
            deadline_s=CHANGED_WITHIN_S, again=False,
        )  # fmt: skip
        if change.empty and not split:
            return change
        self._look_again()
        driving.wait_for_routers(self._record, deadline_s=READY_WITHIN_S)
        driving.wait_for_first_look(self._record, deadline_s=READY_WITHIN_S)
        if _simulated(before) != _simulated(self.scenario):
            shutdown.renew_devices(self._record.city)
        return change


def _simulated(scenario: Scenario) -> tuple[object, Iterable[object]]:
    """What the device host goes by."""
    return (
        scenario.sources,
        [(each.id, dict(each.attributes)) for each in scenario.entities] if scenario.sources else [],
    )
