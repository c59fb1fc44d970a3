"""The ``parameters`` of single entities: attributes and noises from a calibration, over what the rest says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from twin_actors.core.columns import Field
from twin_actors.core.kind import Kind
from twin_actors.core.layout import Layout
from twin_actors.scenario.catalogue import Catalogue
from twin_actors.scenario.document import Document
from twin_actors.scenario.errors import Path
from twin_actors.scenario.model import Entity, Value
from twin_actors.scenario.report import Report
from twin_actors.scenario.values import ValueFault, component_numbers, default_numbers


def with_parameters(
    entities: Sequence[Entity], document: Document, catalogue: Catalogue, report: Report
) -> tuple[Entity, ...]:
    """The entities with their own parameters; what is wrong with these goes into the report."""
    if not document.parameters:
        return tuple(entities)
    places = {entity.id: number for number, entity in enumerate(entities)}
    changed = list(entities)
    for name, section in document.parameters.items():
        path: Path = ("parameters", name)
        number = places.get(name)
        if number is None:
            if not report.entities_incomplete:
                report.add(path, f"no entity is called {name!r}", word=name, known=places)
            continue
        entity = changed[number]
        kind = catalogue.kinds[entity.kind]
        changed[number] = replace(
            entity,
            attributes={**entity.attributes, **_attributes(kind, entity, section.attributes, path, report)},
            sd=_noises(kind.reading.layout, "sd", section.sd, (*path, "sd"), report),
            drift=_noises(kind.state.layout, "drift", section.drift, (*path, "drift"), report),
        )
    return tuple(changed)


def _attributes(kind: Kind, entity: Entity, written: Mapping[str, Any], path: Path, report: Report) -> dict[str, Value]:
    checked: dict[str, Value] = {}
    for name, value in written.items():
        here = (*path, "attributes", name)
        declared = kind.attributes.layout.fields.get(name)
        if declared is None:
            _unknown(here, f"kind {kind.name!r} has no attribute {name!r}", name, kind.attributes.layout, report)
            continue
        said = entity.attributes.get(name)
        below = default_numbers(declared) if said is None else (said if isinstance(said, tuple) else (said,))
        numbers = _numbers(declared, value, below, here, report)
        if numbers is not None:
            checked[name] = numbers
    return checked


def _noises(layout: Layout, what: str, written: Mapping[str, Any], path: Path, report: Report) -> dict[str, Value]:
    checked: dict[str, Value] = {}
    for name, value in written.items():
        here = (*path, name)
        declared = layout.fields.get(name)
        if declared is None:
            _unknown(here, f"there is no field {name!r} to have a {what}", name, layout, report)
            continue
        noise = replace(declared, minimum=0.0, maximum=math.inf, normalise=False)
        below = (float(getattr(declared, what)),) * declared.size
        numbers = _numbers(noise, value, below, here, report)
        if numbers is not None:
            checked[name] = numbers
    return checked


def _numbers(declared: Field, value: Any, below: Sequence[float], path: Path, report: Report) -> Value | None:
    """The value in row order; components that are not said stay as they are ``below``."""
    try:
        numbers = component_numbers(declared, value)
    except ValueFault as fault:
        report.add((*path, *fault.below), fault.message, word=fault.word, known=fault.known)
        return None
    whole = tuple(old if new is None else new for new, old in zip(numbers, below, strict=True))
    return whole if declared.axes else whole[0]


def _unknown(path: Path, message: str, name: str, layout: Layout, report: Report) -> None:
    report.add(path, f"{message}; there are {', '.join(layout.fields) or 'none'}", word=name, known=layout.fields)
