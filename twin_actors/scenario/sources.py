"""Where telemetry comes from: simulated devices and their story, replays of recordings, fleets that exist already."""

from __future__ import annotations

import csv
import gzip
import re
import string
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from twin_actors.core.kind import Kind
from twin_actors.core.layout import Layout
from twin_actors.scenario.catalogue import Catalogue
from twin_actors.scenario.document import Document
from twin_actors.scenario.errors import Path
from twin_actors.scenario.model import FieldMap, Fleet, Replay, Simulation, StoryStep, TimeColumns
from twin_actors.scenario.names import entity_name
from twin_actors.scenario.relations import Index
from twin_actors.scenario.report import Report
from twin_actors.scenario.sections.sources import FieldSection, ReplaySection, SimulateEntry, StoryEntry
from twin_actors.scenario.settings import check_zone
from twin_actors.scenario.values import ValueFault, by_row, check_row, component_numbers, split_row, unit_conversion

_RECORDINGS = (".csv", ".csv.gz", ".parquet")


def expand_sources(
    document: Document, catalogue: Catalogue, index: Index, report: Report
) -> tuple[Simulation | Replay, ...]:
    sources: list[Simulation | Replay] = []
    simulated: dict[str, Path] = {}
    for i, entry in enumerate(document.sources):
        path: Path = ("sources", i)
        if isinstance(entry, SimulateEntry):
            sources.append(_simulation(path, entry, catalogue, index, report, simulated))
        else:
            replay = _replay((*path, "replay"), entry.replay, catalogue, index, report)
            if replay is not None:
                sources.append(replay)
    return tuple(sources)


def _simulation(
    path: Path,
    entry: SimulateEntry,
    catalogue: Catalogue,
    index: Index,
    report: Report,
    simulated: dict[str, Path],
) -> Simulation:
    section = entry.simulate
    here = (*path, "simulate", "entities")
    if section.entities is None:
        ids = tuple(one for one, e in index.entities.items() if catalogue.kinds[e.kind].devices is not None)
    else:
        ids = index.match(section.entities, here)
        for kind in sorted({index.entities[one].kind for one in ids}):
            if catalogue.kinds[kind].devices is None:
                report.add(here, f"kind {kind!r} has no simulated devices")
    twice = [one for one in ids if one in simulated]
    if twice:
        first = report.where(simulated[twice[0]])
        report.add(here, f"{twice[0]!r} is simulated twice, first at {first}: two devices would speak for it")
    simulated.update(dict.fromkeys(ids, path))
    own = frozenset(ids)
    story = tuple(
        _story_step((*path, "story", i), step, own, catalogue, index, report) for i, step in enumerate(entry.story)
    )
    return Simulation(
        entities=ids,
        period_s=section.period,
        gap_share=section.gap_share,
        noise=section.noise,
        seed=section.seed,
        story=story,
    )


def _story_step(
    path: Path, step: StoryEntry, own: frozenset[str], catalogue: Catalogue, index: Index, report: Report
) -> StoryStep:
    matched = index.match(step.entity, (*path, "entity"))
    ids = tuple(one for one in matched if one in own)
    if matched and not ids:
        report.add((*path, "entity"), f"{matched[0]!r} is not among the entities that this source simulates")
    drivers: dict[str, float] = {}
    state: dict[str, float] = {}
    for name in sorted({index.entities[one].kind for one in ids}):
        kind = catalogue.kinds[name]
        if kind.devices is not None:
            drivers.update(_rows((*path, "set"), "driver", step.drivers, kind.devices.drivers.layout, name, report))
        state.update(_rows((*path, "state"), "state field", step.state, kind.state.layout, name, report))
        if step.field is not None:
            _row((*path, "field"), step.field, kind.reading.layout, name, report, whole=True)
    return StoryStep(
        at_s=step.at,
        entities=ids,
        for_s=step.lasts,
        drivers=drivers,
        state=state,
        fault=step.fault,
        value=step.value,
        reading=step.field or "",
    )


def _rows(
    path: Path, what: str, written: Mapping[str, Any], layout: Layout, kind: str, report: Report
) -> dict[str, float]:
    rows: dict[str, float] = {}
    for name, value in written.items():
        declared = layout.fields.get(name)
        if declared is None:
            known = ", ".join(layout.fields) or "none"
            report.add(
                (*path, name), f"kind {kind!r} has no {what} {name!r}; it has {known}", word=name, known=layout.fields
            )
            continue
        try:
            rows.update(by_row(name, declared, component_numbers(declared, value)))
        except ValueFault as fault:
            report.add((*path, name, *fault.below), fault.message, word=fault.word, known=fault.known)
    return rows


def _row(path: Path, label: str, layout: Layout, kind: str, report: Report, *, whole: bool = False) -> str | None:
    """The reading row that ``label`` names (``whole``: or a whole vector field), or None and a problem."""
    if whole and label in layout.fields:
        return label
    try:
        return check_row(layout, label)
    except ValueFault as fault:
        report.add(path, f"kind {kind!r}: {fault.message}", word=fault.word, known=fault.known)
        return None


def _field_map(path: Path, source: str, section: FieldSection, kind: Kind, report: Report) -> FieldMap | None:
    """The numbers of one foreign column as a reading row: its own factor and offset, then its unit."""
    layout = kind.reading.layout
    row = _row((*path, "field"), section.field, layout, kind.name, report)
    if row is None:
        return None
    try:
        factor, offset = unit_conversion(section.unit, layout.fields[split_row(row)[0]])
    except ValueFault as fault:
        report.add((*path, "unit"), fault.message)
        return None
    return FieldMap(source=source, field=row, factor=section.factor * factor, offset=section.offset * factor + offset)


def _field_maps(path: Path, fields: Mapping[str, FieldSection], kind: Kind, report: Report) -> tuple[FieldMap, ...]:
    maps: list[FieldMap] = []
    taken: dict[str, str] = {}
    for source, section in fields.items():
        found = _field_map((*path, source), source, section, kind, report)
        if found is None:
            continue
        first = taken.setdefault(found.field, source)
        if first != source:
            report.add((*path, source), f"{found.field!r} is already taken from {first!r}")
        maps.append(found)
    return tuple(maps)


def _known_kind(path: Path, name: str, catalogue: Catalogue, report: Report) -> Kind | None:
    kind = catalogue.kinds.get(name)
    if kind is None:
        report.add(path, f"unknown kind {name!r}", word=name, known=catalogue.kinds)
    return kind


def _replay(path: Path, section: ReplaySection, catalogue: Catalogue, index: Index, report: Report) -> Replay | None:
    kind = _known_kind((*path, "kind"), section.kind, catalogue, report)
    file = report.existing((*path, "file"), section.file)
    check_zone(section.time.zone, (*path, "time", "zone"), report)
    entity = None
    if kind is not None and section.entity is not None and section.entity.name is not None:
        entity = index.name(kind.name, section.entity.name, (*path, "entity", "name"))
    fields: tuple[FieldMap, ...] = ()
    wide = None
    if kind is not None:
        fields = _field_maps((*path, "fields"), section.fields, kind, report)
        if section.wide is not None:
            wide = _field_map((*path, "wide"), "", section.wide, kind, report)
    if file is not None:
        _check_columns(path, section, file, index, report)
    if kind is None or file is None:
        return None
    parts = section.time.columns.model_dump(exclude_none=True) if section.time.columns else {}
    return Replay(
        file=str(file),
        kind=kind.name,
        time=TimeColumns(column=section.time.column, parts=parts, zone=section.time.zone, format=section.time.format),
        entity=entity,
        entity_column=section.entity.column if section.entity else None,
        lower=section.entity.lower if section.entity else False,
        fields=fields,
        wide=wide,
        speed=None if isinstance(section.speed, str) else section.speed,
        start_s=section.start,
        end_s=section.end,
        missing=section.missing,
    )


def _check_columns(path: Path, section: ReplaySection, file: FilePath, index: Index, report: Report) -> None:
    if not file.name.endswith(_RECORDINGS):
        report.add((*path, "file"), f"a recording is a file of type {', '.join(_RECORDINGS)}, not {file.name!r}")
        return
    if file.suffix == ".parquet":
        return  # its columns are checked where pyarrow is loaded anyway
    try:
        header = _header(file)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        report.add((*path, "file"), f"{section.file!r} cannot be read as CSV: {error}")
        return
    time = section.time
    needed: list[tuple[Path, str]] = [((*path, "fields", column), column) for column in section.fields]
    if time.column is not None:
        needed.append(((*path, "time", "column"), time.column))
    if time.columns is not None:
        parts = time.columns.model_dump(exclude_none=True)
        needed += [((*path, "time", "columns", part), column) for part, column in parts.items()]
    if section.entity is not None and section.entity.column is not None:
        needed.append(((*path, "entity", "column"), section.entity.column))
    for where, column in needed:
        if column not in header:
            shown = ", ".join(header[:20]) + (", …" if len(header) > 20 else "")
            report.add(where, f"{section.file!r} has no column {column!r}; it has {shown}", word=column, known=header)
    if section.wide is not None and not report.entities_incomplete:
        times = {column for _, column in needed}
        if not set(index.names(section.kind)) & {entity_name(column) for column in header if column not in times}:
            report.add(
                (*path, "wide"), f"no column of {section.file!r} is the name of a {section.kind} of this scenario"
            )


def _header(file: FilePath) -> list[str]:
    packed = file.suffix == ".gz"
    with (
        gzip.open(file, "rt", encoding="utf-8-sig", newline="")
        if packed
        else file.open(encoding="utf-8-sig", newline="")
    ) as lines:
        return next(csv.reader(lines), [])


def expand_fleets(document: Document, catalogue: Catalogue, index: Index, report: Report) -> tuple[Fleet, ...]:
    fleets: list[Fleet] = []
    for i, entry in enumerate(document.fleets):
        path: Path = ("fleets", i)
        levels = entry.topic.split("/")
        fault = _filter_fault(levels)
        if fault:
            report.add((*path, "topic"), f"{entry.topic!r} is no MQTT topic filter: {fault}")
        else:
            _check_name(path, entry.name, levels.count("+"), report)
        kind = _known_kind((*path, "kind"), entry.kind, catalogue, report)
        if kind is None:
            continue
        for device, name in entry.names.items():
            index.name(kind.name, name, (*path, "names", device))
        if not _placeholders(entry.name):
            index.name(kind.name, entry.names.get(entry.name, entry.name), (*path, "name"))
        maps = _field_maps((*path, "fields"), entry.fields, kind, report)
        fleets.append(Fleet(topic=entry.topic, kind=kind.name, name=entry.name, names=dict(entry.names), fields=maps))
    return tuple(fleets)


def _filter_fault(levels: list[str]) -> str:
    """Why this is no topic filter (MQTT 5.0, 4.7.1), or an empty string."""
    for place, level in enumerate(levels):
        if "#" in level and (level != "#" or place != len(levels) - 1):
            return "'#' stands alone at the end"
        if "+" in level and level != "+":
            return "'+' stands alone in its level"
    if levels[0].startswith("$"):
        return "topics with '$' in front belong to the broker"
    return ""


def _placeholders(template: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError:
        return ["?"]


def _check_name(path: Path, template: str, levels: int, report: Report) -> None:
    for name in _placeholders(template):
        if not re.fullmatch(r"[1-9][0-9]*", name) or int(name) > levels:
            has = "one level with '+'" if levels == 1 else f"{levels} levels with '+'"
            report.add(
                (*path, "name"),
                f"{template!r} cannot be filled: the topic has {has}, written {{1}}, {{2}}, … in their order",
            )
            return
