"""Small edits of a checked scenario: an entity more or less, another name, other attributes; references follow."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from twin_actors.scenario.catalogue import Catalogue
from twin_actors.scenario.entities import check_attributes
from twin_actors.scenario.model import Entity, Replay, Scenario, Simulation, Value
from twin_actors.scenario.words import name_fault


def with_entity(
    scenario: Scenario, catalogue: Catalogue, entity: str, attributes: Mapping[str, Any], *,
    at: tuple[float, float] | None = None, tags: Mapping[str, str] | None = None,
) -> Scenario:  # fmt: skip
    """One entity more. Raises ValueError for a name or attributes that the scenario file would not take."""
    kind, _, name = entity.partition("/")
    if kind not in catalogue.kinds:
        raise ValueError(f"unknown kind {kind!r}{_near(kind, catalogue.kinds)}; there are {', '.join(catalogue.kinds)}")
    if fault := name_fault(name):
        raise ValueError(f"{entity!r}: {fault}")
    if any(each.id == entity for each in scenario.entities):
        raise ValueError(f"{entity} is in the city already")
    lat_deg, lon_deg = at or (None, None)
    new = Entity(
        id=entity, kind=kind, name=name, attributes=_checked(catalogue, kind, attributes), tags=dict(tags or {}),
        lat_deg=lat_deg, lon_deg=lon_deg,
    )  # fmt: skip
    return replace(scenario, entities=(*scenario.entities, new))


def without_entities(scenario: Scenario, *entities: str) -> Scenario:
    """Some entities less; relations, sources, states and routers forget them. Raises KeyError for unknown ones."""
    gone = set(entities)
    for entity in entities:
        _find(scenario, entity)
    relations = tuple(each for each in scenario.relations if not {each.source, each.target} & gone)
    left = replace(scenario, entities=tuple(e for e in scenario.entities if e.id not in gone), relations=relations)
    return _referring(left, lambda entity: None if entity in gone else entity)


def with_name(scenario: Scenario, old: str, new: str) -> Scenario:
    """An entity under another id of its kind; everything that names it follows. Raises KeyError, ValueError."""
    entity = _find(scenario, old)
    kind, _, name = new.partition("/")
    if kind != entity.kind:
        raise ValueError(f"{old} cannot become {new}: an entity keeps its kind")
    if fault := name_fault(name):
        raise ValueError(f"{new!r}: {fault}")
    if any(each.id == new for each in scenario.entities):
        raise ValueError(f"{new} is in the city already")
    renamed = replace(
        scenario,
        entities=tuple(replace(each, id=new, name=name) if each is entity else each for each in scenario.entities),
        relations=tuple(
            replace(each, **{end: new for end in ("source", "target") if getattr(each, end) == old})  # type: ignore[arg-type]
            for each in scenario.relations
        ),
    )  # fmt: skip
    return _referring(renamed, lambda entity: new if entity == old else entity)


def with_attributes(scenario: Scenario, catalogue: Catalogue, entity: str, attributes: Mapping[str, Any]) -> Scenario:
    """Other attributes of one entity; those that are not named stay. Raises KeyError, ValueError."""
    found = _find(scenario, entity)
    changed = replace(found, attributes=_checked(catalogue, found.kind, {**found.attributes, **attributes}))
    return replace(scenario, entities=tuple(changed if each is found else each for each in scenario.entities))


def with_parameters(scenario: Scenario, parameters: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Scenario:
    """Fitted ``attributes``, ``sd`` and ``drift`` by entity, over what it has. Raises KeyError for unknown entities."""
    for entity in parameters:
        _find(scenario, entity)

    def fitted(each: Entity) -> Entity:
        def over(part: str) -> dict[str, Value]:
            said = parameters[each.id].get(part, {})
            return {**getattr(each, part), **{name: _value(number) for name, number in said.items()}}

        if each.id not in parameters:
            return each
        return replace(each, attributes=over("attributes"), sd=over("sd"), drift=over("drift"))

    return replace(scenario, entities=tuple(map(fitted, scenario.entities)))


def _value(number: Any) -> Value:
    return float(number) if isinstance(number, int | float) else tuple(map(float, number))


def _find(scenario: Scenario, entity: str) -> Entity:
    for each in scenario.entities:
        if each.id == entity:
            return each
    raise KeyError(f"{scenario.city} has no entity {entity!r}{_near(entity, [each.id for each in scenario.entities])}")


def _near(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _checked(catalogue: Catalogue, kind: str, attributes: Mapping[str, Any]) -> dict[str, Value]:
    faults: list[str] = []

    def complain(below: tuple[Any, ...], message: str, **_: Any) -> None:
        faults.append(f"{'.'.join(map(str, below))}: {message}" if below else message)

    checked = check_attributes(catalogue.kinds[kind], attributes, complain)
    if faults:
        raise ValueError("; ".join(faults))
    return checked


def _referring(scenario: Scenario, to: Callable[[str], str | None]) -> Scenario:
    """The scenario with every mention of an entity put through ``to``; None takes it out."""

    def these(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new for entity in ids if (new := to(entity)) is not None)

    sources: list[Simulation | Replay] = []
    for source in scenario.sources:
        if isinstance(source, Replay):
            if source.entity is None:
                sources.append(source)
            elif (entity := to(source.entity)) is not None:
                sources.append(msgspec.structs.replace(source, entity=entity))
            continue
        story = tuple(replace(step, entities=these(step.entities)) for step in source.story)
        simulated = msgspec.structs.replace(
            source, entities=these(source.entities), story=tuple(step for step in story if step.entities)
        )
        if simulated.entities:
            sources.append(simulated)
    return replace(
        scenario,
        sources=tuple(sources),
        states=replace(scenario.states, entities=these(scenario.states.entities)),
        routers=tuple(replace(router, entities=these(router.entities)) for router in scenario.routers),
    )
