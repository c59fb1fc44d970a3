"""Which router takes which entities: what a scenario says under ``routers``, each entity in one of them."""

from __future__ import annotations

from twin_actors.scenario.catalogue import Catalogue
from twin_actors.scenario.document import Document
from twin_actors.scenario.errors import Path
from twin_actors.scenario.model import RouterSettings
from twin_actors.scenario.relations import Index
from twin_actors.scenario.report import Report


def router_settings(
    document: Document, catalogue: Catalogue, index: Index, report: Report
) -> tuple[RouterSettings, ...]:
    """Single entities go before whole kinds. Twice the same kind or entity, or a router of nobody, is a problem."""
    found: list[RouterSettings] = []
    sound: list[str] = []
    kinds: dict[str, str] = {}
    singles: dict[str, str] = {}
    for name, section in document.routers.items():
        path: Path = ("routers", name)
        problems = len(report.problems)
        for i, kind in enumerate(section.kinds):
            if kind not in catalogue.kinds:
                report.add((*path, "kinds", i), f"unknown kind {kind!r}", word=kind, known=catalogue.kinds)
            elif kinds.setdefault(kind, name) != name:
                report.add((*path, "kinds", i), f"{kind} is taken by the router {kinds[kind]!r} already")
        entities = index.match(section.entities, (*path, "entities")) if section.entities is not None else ()
        twice = [entity for entity in entities if singles.setdefault(entity, name) != name]
        if twice:
            report.add((*path, "entities"), f"{twice[0]} is taken by the router {singles[twice[0]]!r} already")
        found.append(RouterSettings(name=name, kinds=section.kinds, entities=entities))
        if len(report.problems) == problems:
            sound.append(name)
    if not report.entities_incomplete:
        busy = {singles.get(entity.id, kinds.get(entity.kind, "")) for entity in index.entities.values()}
        for name in sound:
            if name not in busy:
                report.add(("routers", name), "no entity is left for this router: remove it")
    return tuple(found)
