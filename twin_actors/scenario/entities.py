"""Expanding what a scenario says about entities: inline, by pattern and count, from CSV and from GeoJSON."""

from __future__ import annotations

import csv
import json
import math
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.kind import Kind
from twin_actors.scenario.catalogue import Catalogue
from twin_actors.scenario.document import Document
from twin_actors.scenario.errors import Path, key_text
from twin_actors.scenario.model import Entity, Value
from twin_actors.scenario.report import Report
from twin_actors.scenario.sections.entities import CsvEntities, GeoJsonEntities, InlineEntity, PatternEntities
from twin_actors.scenario.values import ValueFault, component_numbers, default_numbers, split_row
from twin_actors.scenario.words import name_fault

MOST_ENTITIES = 200_000
METRES_PER_DEGREE = 6_371_008.8 * math.pi / 180  # along a meridian of the mean Earth radius (IUGG 1980)


class Spot(NamedTuple):
    """A place in a data file that the scenario names; line 0 where only the key tells."""

    file: str
    line: int
    key: str


Place: TypeAlias = Path | Spot
Complain: TypeAlias = Callable[..., None]
"""``complain(below, message, word=, known=)``: a problem at a path below the thing under examination."""


def expand_entities(document: Document, catalogue: Catalogue, report: Report) -> tuple[Entity, ...]:
    """All entities of the scenario in its order; what is wrong goes into the report."""
    expansion = _Expansion(catalogue, report)
    for i, entry in enumerate(document.entities):
        path: Path = ("entities", i)
        kind = catalogue.kinds.get(entry.kind)
        if kind is None:
            known = ", ".join(sorted(catalogue.kinds)) or "none, as no domain is installed"
            report.add(
                (*path, "kind"),
                f"unknown kind {entry.kind!r}; there are {known}",
                word=entry.kind,
                known=catalogue.kinds,
            )
            report.entities_incomplete = True
        elif isinstance(entry, InlineEntity):
            expansion.inline(path, entry, kind)
        elif isinstance(entry, PatternEntities):
            expansion.pattern(path, entry, kind)
        elif isinstance(entry, CsvEntities):
            expansion.rows(path, entry, kind)
        else:
            expansion.features(path, entry, kind)
    if not document.entities and not report.entities_incomplete:
        report.add(("entities",), "a city needs at least one entity")
    return tuple(expansion.found)


def attribute_columns(kind: Kind, entities: Sequence[Entity]) -> Column:
    """The attributes of entities of one kind as a matrix ``(rows, n)``, with the kind's defaults filled in."""
    layout = kind.attributes.layout
    matrix = np.repeat(layout.per_row("default"), len(entities), axis=1)
    for name, place in layout.places.items():
        given = [(i, e.attributes[name]) for i, e in enumerate(entities) if name in e.attributes]
        if given:
            where = [i for i, _ in given]
            matrix[place, where] = (
                np.array([value for _, value in given], dtype=np.float64)
                .reshape(len(given), layout.fields[name].size)
                .T
            )
    return matrix


def check_attributes(kind: Kind, written: Mapping[str, Any], complain: Complain) -> dict[str, Value]:
    """The attributes of one entity, checked; those with a default may be absent, a None counts as absent."""
    fields = kind.attributes.layout.fields
    checked: dict[str, Value] = {}
    for name, value in written.items():
        declared = fields.get(name)
        if declared is None:
            known = ", ".join(fields) or "none"
            complain((name,), f"kind {kind.name!r} has no attribute {name!r}; it has {known}", word=name, known=fields)
            continue
        if value is None:
            continue
        try:
            numbers = component_numbers(declared, value)
        except ValueFault as fault:
            complain((name, *fault.below), fault.message, word=fault.word, known=fault.known)
            continue
        whole = tuple(
            default if one is None else one for one, default in zip(numbers, default_numbers(declared), strict=True)
        )
        if any(math.isnan(one) for one in whole):
            complain((name,), f"a component of {name!r} is missing and has no default")
        checked[name] = whole if declared.axes else whole[0]
    for name, declared in fields.items():
        if written.get(name) is None and any(map(math.isnan, default_numbers(declared))):
            complain((), f"the attribute {name!r} ({declared.unit}) is missing and has no default")
    return checked


class _Expansion:
    """The entities found so far, and where each was declared."""

    def __init__(self, catalogue: Catalogue, report: Report) -> None:
        self._catalogue = catalogue
        self._report = report
        self._declared: dict[str, Place] = {}
        self._refused = False
        self.found: list[Entity] = []

    def inline(self, path: Path, entry: InlineEntity, kind: Kind) -> None:
        attributes = check_attributes(kind, entry.attributes, self._complain((*path, "attributes")))
        lat_deg, lon_deg = entry.at or (None, None)
        self._add(path, kind, entry.name, attributes, entry.tags, lat_deg, lon_deg)

    def pattern(self, path: Path, entry: PatternEntities, kind: Kind) -> None:
        """Numbered entities, all with the same attributes; names and tags follow ``n`` (and the grid)."""
        attributes = check_attributes(kind, entry.attributes, self._complain((*path, "attributes")))
        if self._too_many(path, entry.count):
            return
        allowed = {"n", "row", "column"} if entry.grid else {"n"}
        templates = {(*path, "pattern"): entry.pattern}
        templates.update({(*path, "tags", tag): text for tag, text in entry.tags.items()})
        faults = [(where, fault) for where, text in templates.items() if (fault := _template_fault(text, allowed))]
        if not faults and entry.count > 1 and not _fields_of(entry.pattern):
            faults.append(
                ((*path, "pattern"), f"all {entry.count} entities would be called {entry.pattern!r}; put {{n}} in")
            )
        for where, fault in faults:
            self._report.add(where, fault)
        if faults:
            self._report.entities_incomplete = True
            return
        varied = {tag: text for tag, text in entry.tags.items() if _fields_of(text)}
        fixed = dict(entry.tags)
        for i in range(entry.count):
            places = {"n": entry.first + i}
            lat_deg, lon_deg = entry.at or (None, None)
            if entry.grid:
                row, column = divmod(i, entry.grid.columns)
                places.update(row=row, column=column)
                lat_deg, lon_deg = _grid_position(entry.grid.origin, entry.grid.spacing_m, row, column)
            tags = {**fixed, **{t: x.format_map(places) for t, x in varied.items()}} if varied else fixed
            if not self._add(path, kind, entry.pattern.format_map(places), attributes, tags, lat_deg, lon_deg):
                return  # the other names of the pattern are most likely wrong in the same way

    def rows(self, path: Path, entry: CsvEntities, kind: Kind) -> None:
        """One entity per row; an empty cell takes the attribute's default."""
        file = self._report.existing((*path, "csv"), entry.csv)
        if file is None:
            self._report.entities_incomplete = True
            return
        columns = entry.columns
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                rows = csv.DictReader(lines)
                header = list(rows.fieldnames or ())
                lat = columns.lat_deg or ("lat_deg" if "lat_deg" in header else None)
                lon = columns.lon_deg or ("lon_deg" if "lon_deg" in header else None)
                if not self._columns_exist(path, entry, header):
                    return
                for row in rows:
                    place = Spot(entry.csv, rows.line_num, "")
                    attributes = self._csv_attributes(place, entry, kind, row)
                    position = [self._csv_number(place, row, c) if c else None for c in (lat, lon)]
                    tags = {**entry.tags, **{tag: row[c] or "" for tag, c in columns.tags.items()}}
                    if not self._add(place, kind, row[columns.name] or "", attributes, tags, *position):
                        self._report.entities_incomplete = True
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            self._report.add((*path, "csv"), f"{entry.csv!r} cannot be read as CSV: {error}")
            self._report.entities_incomplete = True

    def features(self, path: Path, entry: GeoJsonEntities, kind: Kind) -> None:
        """One entity per feature; anything but a point stands at the centre of its bounding box."""
        for at, feature in self._features((*path, "geojson"), entry.geojson):
            properties = feature.get("properties") or {}
            name = properties.get(entry.name_property)
            if name is None:
                self._problem(
                    Spot(entry.geojson, 0, f"{at}.properties"),
                    f"the feature has no property {entry.name_property!r} to take its name from",
                    word=entry.name_property,
                    known=properties,
                )
                continue
            mapped = {
                attribute: properties.get(value) if isinstance(value, str) else value
                for attribute, value in entry.attributes.items()
            }
            complain = self._complain(Spot(entry.geojson, 0, f"{at}.properties"))
            attributes = check_attributes(kind, _gather(mapped), complain)
            tags = {tag: str(properties.get(source, "")) for tag, source in entry.tags.items()}
            place = Spot(entry.geojson, 0, at)
            lat_deg, lon_deg = _centre(feature.get("geometry"))
            self._add(place, kind, str(name), attributes, tags, lat_deg, lon_deg)

    def _features(self, path: Path, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        file = self._report.existing(path, name)
        content = None
        if file is not None:
            try:
                content = json.loads(file.read_text(encoding="utf-8-sig"))
            except (OSError, ValueError) as error:
                self._report.add(path, f"{name!r} cannot be read as GeoJSON: {error}")
                content = None
            else:
                if not isinstance(content, dict) or not isinstance(content.get("features"), list):
                    self._report.add(path, f"{name!r} is not a GeoJSON FeatureCollection")
                    content = None
        if content is None:
            self._report.entities_incomplete = True
            return
        for i, feature in enumerate(content["features"]):
            yield f"features[{i}]", feature if isinstance(feature, dict) else {}

    def _columns_exist(self, path: Path, entry: CsvEntities, header: list[str]) -> bool:
        columns = entry.columns
        needed: list[tuple[Path, str]] = [(("name",), columns.name)]
        needed += [((key,), c) for key, c in (("lat_deg", columns.lat_deg), ("lon_deg", columns.lon_deg)) if c]
        needed += [(("attributes", key), c) for key, c in columns.attributes.items()]
        needed += [(("tags", key), c) for key, c in columns.tags.items()]
        complete = True
        for below, column in needed:
            if column not in header:
                complete = False
                self._report.add(
                    (*path, "columns", *below),
                    f"{entry.csv!r} has no column {column!r}; it has {', '.join(header) or 'none'}",
                    word=column,
                    known=header,
                )
        self._report.entities_incomplete |= not complete
        return complete

    def _csv_attributes(
        self, place: Spot, entry: CsvEntities, kind: Kind, row: Mapping[str, str | None]
    ) -> dict[str, Value]:
        written = dict(entry.attributes)
        for attribute, column in entry.columns.attributes.items():
            number = self._csv_number(place, row, column)
            if number is not None:
                written[attribute] = number
            else:
                written.setdefault(attribute, None)
        return check_attributes(kind, _gather(written), self._complain(place))

    def _csv_number(self, place: Spot, row: Mapping[str, str | None], column: str) -> float | None:
        text = (row[column] or "").strip()
        if not text:
            return None
        try:
            return float(text)
        except ValueError:
            self._problem(Spot(place.file, place.line, column), f"must be a number, not {text!r}")
            return None

    def _add(
        self,
        place: Place,
        kind: Kind,
        name: str,
        attributes: Mapping[str, Value],
        tags: Mapping[str, str],
        lat_deg: float | None,
        lon_deg: float | None,
    ) -> bool:
        """Take one entity in; false when it cannot be, which has then been reported."""
        fault = name_fault(name)
        if fault:
            self._problem(place, fault)
            return False
        if (lat_deg is None) != (lon_deg is None):
            self._problem(place, f"entity {name!r} has only one of latitude and longitude")
            return False
        if lat_deg is not None and lon_deg is not None and not (abs(lat_deg) <= 90 and abs(lon_deg) <= 180):
            self._problem(place, f"entity {name!r} lies at {lat_deg:g}, {lon_deg:g}, which is not on Earth")
            return False
        identity = f"{kind.name}/{name}"
        if identity in self._declared:
            first = self._where(self._declared[identity])
            self._problem(place, f"entity {identity!r} is declared twice, first at {first}")
            return False
        self._declared[identity] = place
        if self._too_many(place, 1):
            return False
        self.found.append(
            Entity(
                id=identity,
                kind=kind.name,
                name=name,
                attributes=attributes,
                tags=tags,
                lat_deg=lat_deg,
                lon_deg=lon_deg,
            )
        )
        return True

    def _too_many(self, place: Place, more: int) -> bool:
        if len(self.found) + more <= MOST_ENTITIES:
            return False
        if not self._refused:
            self._refused = True
            self._problem(
                place,
                f"{len(self.found) + more:,} entities are more than the {MOST_ENTITIES:,} that one city may have; "
                "divide it into several cities",
            )
        self._report.entities_incomplete = True
        return True

    def _where(self, place: Place) -> str:
        if isinstance(place, Spot):
            return f"{place.file}:{place.line or place.key}"
        return self._report.where(place)

    def _complain(self, place: Place) -> Complain:
        def complain(below: Path, message: str, **guess: Any) -> None:
            if isinstance(place, Spot):
                key = ".".join(part for part in (place.key, key_text(below)) if part)
                self._problem(Spot(place.file, place.line, key), message, **guess)
            else:
                self._problem((*place, *below), message, **guess)

        return complain

    def _problem(self, place: Place, message: str, **guess: Any) -> None:
        if isinstance(place, Spot):
            self._report.add_in(place.file, place.line, place.key, message, **guess)
        else:
            self._report.add(place, message, **guess)


def _gather(written: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a[x]": 1, "a[y]": 2}`` as ``{"a": {"x": 1, "y": 2}}``."""
    gathered: dict[str, Any] = {}
    for label, value in written.items():
        name, parts = split_row(label)
        if not parts:
            gathered[name] = value
        elif value is not None:
            inner = gathered.setdefault(name, {})
            for part in parts[:-1]:
                inner = inner.setdefault(part, {})
            inner[parts[-1]] = value
    return gathered


def _fields_of(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _template_fault(template: str, allowed: set[str]) -> str:
    """Why a name template cannot be used: only plain numbers go in, so a format cannot reach into objects."""
    try:
        fields = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        return f"{template!r} is not a pattern: {error}"
    for _, name, layout, conversion in fields:
        plain = all(c.isdigit() for c in (layout or "").removesuffix("d")) and len(layout or "") <= 3
        if name not in allowed or conversion or not plain:
            known = ", ".join(f"{{{one}}}" for one in sorted(allowed))
            return f"{template!r} may only contain {known}, with a width such as {{n:04d}}"
    return ""


def _grid_position(origin: tuple[float, float], spacing_m: float, row: int, column: int) -> tuple[float, float]:
    """Degrees of a grid point, on the tangent plane at the origin (good to 0.1 % over a city)."""
    per_degree_east = METRES_PER_DEGREE * max(math.cos(math.radians(origin[0])), 1e-6)
    return origin[0] + row * spacing_m / METRES_PER_DEGREE, origin[1] + column * spacing_m / per_degree_east


def _centre(geometry: Any) -> tuple[float | None, float | None]:
    """Latitude and longitude of a GeoJSON geometry (RFC 7946: longitude first), None without coordinates."""
    points = list(_points(geometry.get("coordinates"))) if isinstance(geometry, dict) else []
    if not points:
        return None, None
    longitudes, latitudes = zip(*points, strict=True)
    return (min(latitudes) + max(latitudes)) / 2, (min(longitudes) + max(longitudes)) / 2


def _points(coordinates: Any) -> Iterator[tuple[float, float]]:
    if not isinstance(coordinates, list) or not coordinates:
        return
    if all(isinstance(one, int | float) for one in coordinates[:2]) and len(coordinates) >= 2:
        yield float(coordinates[0]), float(coordinates[1])
        return
    for inner in coordinates:
        yield from _points(inner)
