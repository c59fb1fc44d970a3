"""The aggregator's view: columns of all twin actors merged per kind, each as fresh as its actor's last answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.fidelity import FidelityShown
from twin_actors.core.fidelity import summary as fidelity_summary
from twin_actors.core.kind import Kind, Need
from twin_actors.core.layout import Layout
from twin_actors.core.showing import Shown
from twin_actors.core.view import KindView, Links, View
from twin_actors.runtime.answering import Answer, Question, answer
from twin_actors.runtime.placement import ActorPlan
from twin_actors.runtime.plan import attribute_matrix
from twin_actors.scenario.catalogue import Catalogue
from twin_actors.scenario.model import Scenario
from twin_actors.wire.messages import iso


@dataclass(slots=True)
class _Merged:
    """Everything known of one kind's ``n`` twins; grown by whole answers of actors."""

    kind: Kind
    ids: tuple[str, ...]
    attributes: Column
    tags: tuple[Mapping[str, str], ...]
    lat_deg: Column
    lon_deg: Column
    x: Column
    sd: Column
    command: Column
    desired: Column
    couplings: Column
    age_s: Column
    revision: NDArray[np.int64]
    seen_at_s: Column
    rmse: Column
    covered: Column
    drifting: NDArray[np.bool_]
    indicators: dict[str, Column]
    alerts: dict[str, NDArray[np.bool_]]
    needs: dict[str, Need]
    proposed: Column | None

    @property
    def fidelity(self) -> FidelityShown:
        return FidelityShown(rmse=self.rmse, covered=self.covered, drifting=self.drifting)


class CityView:
    """Columns per kind in the order of the scenario; ``take`` writes an actor's answer into its places."""

    def __init__(self, scenario: Scenario, catalogue: Catalogue, actors: Sequence[ActorPlan]) -> None:
        self._merged: dict[str, _Merged] = {}
        position: dict[int, int] = {}
        for name in scenario.kinds_used():
            numbers = [number for number, entity in enumerate(scenario.entities) if entity.kind == name]
            position.update({number: column for column, number in enumerate(numbers)})
            self._merged[name] = _empty(catalogue.kinds[name], [scenario.entities[n] for n in numbers])
        self._places: dict[str, dict[str, NDArray[np.intp]]] = {}
        for actor in actors:
            places: dict[str, list[int]] = {}
            for number in actor.entities:
                places.setdefault(scenario.entities[number].kind, []).append(position[number])
            self._places[actor.name] = {kind: np.array(p, np.intp) for kind, p in places.items()}
        self._relations = _relations(
            scenario, {k: {e: i for i, e in enumerate(m.ids)} for k, m in self._merged.items()}
        )

    def take(self, actor: str, now_s: float, shown: Mapping[str, Shown | None]) -> None:
        """Write what one actor shows at ``now_s`` into the merged columns; None: what it showed before, now older."""
        for name, look in shown.items():
            merged, at = self._merged[name], self._places[actor][name]
            if look is None:
                merged.age_s[at] += np.maximum(now_s - merged.seen_at_s[at], 0.0)
                merged.seen_at_s[at] = now_s
                continue
            merged.x[:, at], merged.sd[:, at] = look.x, look.sd
            merged.command[:, at], merged.desired[:, at] = look.command, look.desired
            merged.couplings[:, at] = look.couplings
            merged.age_s[at], merged.revision[at], merged.seen_at_s[at] = look.age_s, look.revision, look.now_s
            merged.rmse[:, at], merged.covered[:, at] = look.fidelity.rmse, look.fidelity.covered
            merged.drifting[at] = look.fidelity.drifting
            n = len(merged.ids)
            for indicator, column in look.indicators.items():
                merged.indicators.setdefault(indicator, np.full(n, np.nan))[at] = column
            for alert, active in look.alerts.items():
                merged.alerts.setdefault(alert, np.zeros(n, np.bool_))[at] = active
            for resource, need in look.needs.items():
                whole = merged.needs.setdefault(
                    resource, Need(amount=np.zeros(n), urgency=np.zeros(n), duration_s=np.zeros(n))
                )
                whole.amount[at], whole.urgency[at] = need.amount, need.urgency
                whole.duration_s[at] = need.duration_s
            if look.proposed is not None:
                if merged.proposed is None:
                    merged.proposed = merged.command.copy()
                merged.proposed[:, at] = look.proposed

    def seen_at_s(self, actor: str) -> float:
        """The city time of the oldest part of what the view has of an actor; -inf before a first look."""
        oldest = [float(self._merged[kind].seen_at_s[at].min()) for kind, at in self._places[actor].items()]
        return -np.inf if not oldest or np.isnan(oldest).any() else min(oldest)

    def at(self, now_s: float) -> View:
        """The cut at ``now_s``: copies, so that what policies see stays what was recorded."""
        return View(now_s=now_s, kinds={n: _kind_view(m, now_s) for n, m in self._merged.items() if self._ready(m)},
                    relations=self._relations)  # fmt: skip

    @staticmethod
    def _ready(merged: _Merged) -> bool:
        """A kind takes part in decisions once all its twins have been seen once."""
        return bool(np.isfinite(merged.seen_at_s).all())

    def summary(self) -> dict[str, Any]:
        """Twins and raised alerts per kind, for status lines; ``oldest_look_s`` is None until all have been seen."""
        return {
            "kinds": {
                name: {
                    "twins": len(merged.ids),
                    "stale": int((merged.age_s > merged.kind.stale_after_s).sum()),
                    "silent": int(np.isinf(merged.age_s).sum()),
                    "alerts": int(sum(active.sum() for active in merged.alerts.values())),
                    "oldest_look_s": float(merged.seen_at_s.min()) if self._ready(merged) else None,
                    **fidelity_summary(merged.kind.reading.layout, merged.fidelity),
                }
                for name, merged in self._merged.items()
            }
        }

    def state_message(self, entity: str, now_s: float) -> bytes:
        """One twin as JSON for its ``state`` topic: estimate ± sd, indicators, alerts, desired and in force."""
        merged = self._merged[entity.split("/", 1)[0]]
        row = merged.ids.index(entity)
        kind = merged.kind

        def said(layout: Layout, matrix: Column) -> dict[str, Any]:
            column = [None if value != value else value for value in matrix[:, row].tolist()]
            return {
                name: column[place] if layout.fields[name].shape else column[place.start]
                for name, place in layout.places.items()
            }

        age_s = float(merged.age_s[row])
        return msgspec.json.encode(
            {
                "at": iso(now_s),
                "age_s": age_s if age_s != float("inf") else None,
                "revision": int(merged.revision[row]),
                "estimated": said(kind.state.layout, merged.x),
                "sd": said(kind.state.layout, merged.sd),
                "desired": said(kind.command.layout, merged.desired),
                "in_force": said(kind.command.layout, merged.command),
                "indicators": {name: float(column[row]) for name, column in merged.indicators.items()},
                "alerts": [name for name, active in merged.alerts.items() if active[row]],
            }
        )

    def select(self, question: Question) -> Answer:
        """The twins of a kind for which a condition holds, as they were seen last. Raises KeyError, Unsupported."""
        merged = self._merged[question.kind]
        as_of_s = float(merged.seen_at_s.min()) if self._ready(merged) else -np.inf
        found = answer(question, merged.kind, merged.ids, merged.attributes, merged, as_of_s)
        # what is in here goes on changing while the answer is on its way
        return found._replace(columns={name: np.array(column) for name, column in found.columns.items()})


def _empty(kind: Kind, entities: Sequence[Any]) -> _Merged:
    n = len(entities)
    state = kind.state.layout
    return _Merged(
        kind=kind,
        ids=tuple(entity.id for entity in entities),
        attributes=attribute_matrix(kind, entities),
        tags=tuple(entity.tags for entity in entities),
        lat_deg=np.array([np.nan if e.lat_deg is None else e.lat_deg for e in entities]),
        lon_deg=np.array([np.nan if e.lon_deg is None else e.lon_deg for e in entities]),
        x=np.repeat(state.per_row("default"), n, axis=1),
        sd=np.repeat(state.per_row("unsure_sd"), n, axis=1),
        command=np.repeat(kind.command.layout.per_row("default"), n, axis=1),
        desired=np.full((kind.command.layout.rows, n), np.nan),
        couplings=np.repeat(kind.couplings.layout.per_row("default"), n, axis=1),
        age_s=np.full(n, np.inf),
        revision=np.zeros(n, np.int64),
        seen_at_s=np.full(n, np.nan),
        rmse=np.full((kind.reading.layout.rows, n), np.nan),
        covered=np.full((kind.reading.layout.rows, n), np.nan),
        drifting=np.zeros(n, np.bool_),
        indicators={},
        alerts={},
        needs={},
        proposed=None,
    )


def _kind_view(merged: _Merged, now_s: float) -> KindView:
    kind = merged.kind
    waited_s = np.maximum(now_s - merged.seen_at_s, 0.0)
    return KindView(
        kind=kind,
        ids=merged.ids,
        attributes=kind.attributes.of_block(merged.attributes),
        state=kind.state.of_block(merged.x.copy()),
        sd=kind.state.of_block(merged.sd.copy()),
        command=kind.command.of_block(merged.command.copy()),
        desired=kind.command.of_block(merged.desired.copy()),
        couplings=kind.couplings.of_block(merged.couplings.copy()),
        proposed=None if merged.proposed is None else kind.command.of_block(merged.proposed.copy()),
        indicators={name: column.copy() for name, column in merged.indicators.items()},
        alerts={name: active.copy() for name, active in merged.alerts.items()},
        needs={
            resource: Need(amount=need.amount.copy(), urgency=need.urgency.copy(), duration_s=need.duration_s.copy())
            for resource, need in merged.needs.items()
        },
        age_s=merged.age_s + waited_s,
        revision=merged.revision.copy(),
        tags=merged.tags,
        lat_deg=merged.lat_deg,
        lon_deg=merged.lon_deg,
    )


def _relations(scenario: Scenario, place: Mapping[str, Mapping[str, int]]) -> dict[tuple[str, str, str], Links]:
    grouped: dict[tuple[str, str, str], list[tuple[int, int, float, float]]] = {}
    for relation in scenario.relations:
        source_kind, target_kind = relation.source.split("/", 1)[0], relation.target.split("/", 1)[0]
        grouped.setdefault((relation.name, source_kind, target_kind), []).append(
            (
                place[source_kind][relation.source],
                place[target_kind][relation.target],
                relation.share,
                relation.delay_s,
            )
        )
    return {
        key: Links(
            source=np.array([row[0] for row in rows], np.intp),
            target=np.array([row[1] for row in rows], np.intp),
            share=np.array([row[2] for row in rows]),
            delay_s=np.array([row[3] for row in rows]),
        )
        for key, rows in grouped.items()
    }
