"""Finding entities by id and glob, and turning what a scenario says about relations into pairs."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.scenario.document import Document
from twin_actors.scenario.errors import Path
from twin_actors.scenario.model import Entity, Relation
from twin_actors.scenario.neighbours import nearest_places
from twin_actors.scenario.report import Report
from twin_actors.scenario.sections.entities import RelationEntry

MOST_PAIRS = 2_000_000
_GLOB = re.compile(r"[*?\[]")


class Index:
    """All entities by id, and the ids that match what a scenario writes."""

    def __init__(self, entities: Sequence[Entity], report: Report) -> None:
        self.entities = {entity.id: entity for entity in entities}
        self._report = report
        self._by_kind: dict[str, list[str]] = {}
        for entity in entities:
            self._by_kind.setdefault(entity.kind, []).append(entity.id)

    def match(self, patterns: Sequence[str], path: Path) -> tuple[str, ...]:
        """The ids that the patterns name, each once, in scenario order within a pattern; a pattern without a
        match is a problem."""
        found: dict[str, None] = {}
        for i, pattern in enumerate(patterns):
            matches = self._matches(pattern)
            if not matches and not self._report.entities_incomplete:
                self._unmatched(pattern, (*path, i))
            found.update(dict.fromkeys(matches))
        return tuple(found)

    def name(self, kind: str, name: str, path: Path) -> str | None:
        """The id of the entity ``name`` of a kind, or None and a problem."""
        identity = f"{kind}/{name}"
        if identity in self.entities:
            return identity
        if not self._report.entities_incomplete:
            names = [one.partition("/")[2] for one in self._by_kind.get(kind, [])]
            self._report.add(path, f"there is no {kind} {name!r}", word=name, known=names)
        return None

    def names(self, kind: str) -> frozenset[str]:
        return frozenset(self.entities[one].name for one in self._by_kind.get(kind, []))

    def _matches(self, pattern: str) -> Sequence[str]:
        if not _GLOB.search(pattern):
            return [pattern] if pattern in self.entities else []
        kind, slash, name = pattern.partition("/")
        if slash and not _GLOB.search(kind):
            candidates: Sequence[str] = self._by_kind.get(kind, [])
            if name == "*":
                return candidates
        else:
            candidates = list(self.entities)
        matches = re.compile(fnmatch.translate(pattern)).match
        return [one for one in candidates if matches(one)]

    def _unmatched(self, pattern: str, path: Path) -> None:
        kind, slash, _ = pattern.partition("/")
        if not slash:
            self._report.add(
                path, f"{pattern!r} is no entity: write kind/name, or a glob such as 'kind/*'",
                word=pattern, known=[*(f"{one}/*" for one in self._by_kind), *self.entities],
            )  # fmt: skip
        elif _GLOB.search(pattern):
            known = [f"{one}/*" for one in self._by_kind]
            self._report.add(path, f"no entity matches {pattern!r}", word=pattern, known=known)
        else:
            known = self._by_kind.get(kind) or list(self.entities)
            self._report.add(path, f"there is no entity {pattern!r}", word=pattern, known=known)


def expand_relations(document: Document, index: Index, report: Report) -> tuple[Relation, ...]:
    """Every ``from`` with every ``to``, or with its ``nearest`` ones; never an entity with itself."""
    pairs: dict[tuple[str, str, str], Relation] = {}
    declared: dict[tuple[str, str, str], Path] = {}
    for i, entry in enumerate(document.relations):
        path: Path = ("relations", i)
        sources = index.match(entry.source, (*path, "from"))
        targets = index.match(entry.target, (*path, "to"))
        per_source = min(entry.nearest or len(targets), len(targets))
        if len(pairs) + len(sources) * per_source > MOST_PAIRS:
            report.add(
                path,
                f"{len(sources):,} × {per_source:,} pairs are more than the {MOST_PAIRS:,} that one city may have; "
                "use 'nearest', or narrower patterns",
            )
            continue
        before = len(pairs)
        repeated = None
        for source, chosen in _chosen(entry, sources, targets, index, report, path):
            for target in chosen:
                key = (entry.name, source, target)
                if key in pairs:
                    repeated = key
                    continue
                declared[key] = path
                pairs[key] = Relation(
                    name=entry.name, source=source, target=target, share=entry.share, delay_s=entry.delay
                )
        if repeated is not None:
            name, source, target = repeated
            report.add(
                path,
                f"the relation {name!r} from {source} to {target} is declared twice, "
                f"first at {report.where(declared[repeated])}",
            )
        elif sources and targets and len(pairs) == before and entry.nearest is None:
            report.add(path, "relates nothing: an entity has no relation with itself")
    return tuple(pairs.values())


def _chosen(
    entry: RelationEntry,
    sources: Sequence[str],
    targets: Sequence[str],
    index: Index,
    report: Report,
    path: Path,
) -> list[tuple[str, Sequence[str]]]:
    if entry.nearest is None:
        return [(source, [t for t in targets if t != source]) for source in sources]
    nowhere = [one for one in (*sources, *targets) if index.entities[one].lat_deg is None]
    if nowhere:
        report.add(
            (*path, "nearest"),
            f"'nearest' needs coordinates, and {len(nowhere)} of these entities have none, such as {nowhere[0]}",
        )
        return []
    if not sources or not targets:
        return []
    place = {target: j for j, target in enumerate(targets)}
    own = [place.get(source, -1) for source in sources]
    wanted = min(entry.nearest, len(targets))
    found = nearest_places(*_coordinates(sources, index), *_coordinates(targets, index), own, wanted)
    return [(source, [targets[j] for j in near]) for source, near in zip(sources, found, strict=True)]


def _coordinates(ids: Sequence[str], index: Index) -> tuple[Column, Column]:
    """Latitudes and longitudes in degrees, ``(n,)`` each, of entities that have both."""
    entities = [index.entities[one] for one in ids]
    lat_deg = np.array([entity.lat_deg for entity in entities], dtype=np.float64)
    return lat_deg, np.array([entity.lon_deg for entity in entities], dtype=np.float64)
