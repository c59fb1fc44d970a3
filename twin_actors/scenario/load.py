"""From files to a `Scenario`: read, layer, check the shape, check the meaning, and report all problems at once.

Layers, in the order given: mappings are merged key by key, later words win; the lists of entities, relations,
resources, policies, sources and fleets grow; any other list is replaced. ``!replace`` in front of the value of
a top-level key throws away what earlier files said about it. A key whose value is empty counts as not given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from twin_actors.scenario.catalogue import Catalogue, load_catalogue
from twin_actors.scenario.document import LISTS, Document
from twin_actors.scenario.entities import expand_entities
from twin_actors.scenario.errors import Problem, ScenarioError
from twin_actors.scenario.model import PublishedStates, Scenario
from twin_actors.scenario.parameters import with_parameters
from twin_actors.scenario.relations import Index, expand_relations
from twin_actors.scenario.report import Report
from twin_actors.scenario.routers import router_settings
from twin_actors.scenario.settings import (
    broker_settings,
    clock_settings,
    limits_settings,
    place_settings,
    placement_settings,
    policy_uses,
    resource_pools,
    retention_settings,
    store_url,
)
from twin_actors.scenario.shape import checked_document
from twin_actors.scenario.sources import expand_fleets, expand_sources
from twin_actors.scenario.yaml_text import YamlFile, collection_paused, read_yaml


def load_scenario(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, catalogue: Catalogue | None = None
) -> Scenario:
    """The scenario of one file, or of several layered ones.

    Raises ScenarioError with every problem of all files, and CatalogueError when an installed domain is broken.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    files = _read([FilePath(path) for path in paths])
    known = catalogue if catalogue is not None else load_catalogue()
    with collection_paused():
        merged, origins = _layered(files)
        report = Report(files, origins)
        document = checked_document(merged, report)
        scenario = _scenario(document, known, report, files)
        report.raise_if_any()
    return scenario


def _read(paths: Sequence[FilePath]) -> list[YamlFile]:
    if not paths:
        raise ScenarioError([Problem(file="scenario", line=0, key="", message="no scenario file was given")])
    files: list[YamlFile] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            files.append(read_yaml(path.expanduser(), str(path)))
        except ScenarioError as error:
            problems.extend(error.problems)
    if problems:
        raise ScenarioError(problems)
    return files


def _layered(files: Sequence[YamlFile]) -> tuple[dict[str, Any], dict[str, list[tuple[int, int]]]]:
    """The merged document, and for every element of a growing list its file and its position there."""
    merged: dict[str, Any] = {}
    origins: dict[str, list[tuple[int, int]]] = {}
    for number, file in enumerate(files):
        for key, value in file.content.items():
            if key in file.replaced:
                merged.pop(key, None)
                origins.pop(key, None)
            if value is None:
                continue
            if key in LISTS and isinstance(value, list) and isinstance(merged.get(key, []), list):
                merged[key] = [*merged.get(key, []), *value]
                origins.setdefault(key, []).extend((number, i) for i in range(len(value)))
            else:
                merged[key] = _merged(merged.get(key), value)
                origins.pop(key, None)
    return merged, origins


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


def _scenario(document: Document, catalogue: Catalogue, report: Report, files: Sequence[YamlFile]) -> Scenario:
    entities = with_parameters(expand_entities(document, catalogue, report), document, catalogue, report)
    index = Index(entities, report)
    return Scenario(
        city=document.city,
        root=document.root or document.city,
        place=place_settings(document, report),
        broker=broker_settings(document, report),
        cluster=document.cluster.address if document.cluster else None,
        store_url=store_url(document, report),
        retention=retention_settings(document),
        clock=clock_settings(document),
        placement=placement_settings(document, catalogue, report),
        routers=router_settings(document, catalogue, index, report),
        entities=entities,
        relations=expand_relations(document, index, report),
        resources=resource_pools(document, report),
        policies=policy_uses(document, catalogue, report),
        sources=expand_sources(document, catalogue, index, report),
        states=PublishedStates(
            entities=index.match(document.states.entities, ("states", "entities")), every_s=document.states.every
        )
        if document.states is not None
        else PublishedStates(),
        fleets=expand_fleets(document, catalogue, index, report),
        limits=limits_settings(document),
        tick_s=document.tick_s,
        files=tuple(str(file.path.resolve()) for file in files),
    )
