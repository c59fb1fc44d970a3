"""Scenario files: YAML read, checked against the installed domains and frozen into a `Scenario`.

Importing this room is light; pydantic and the YAML reader load with the first scenario file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from twin_actors.scenario.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from twin_actors.scenario.catalogue import Catalogue, CatalogueError, load_catalogue
    from twin_actors.scenario.document import schema
    from twin_actors.scenario.entities import attribute_columns
    from twin_actors.scenario.load import load_scenario
    from twin_actors.scenario.model import Entity, Scenario

__all__ = [
    "Catalogue",
    "CatalogueError",
    "Entity",
    "Problem",
    "Scenario",
    "ScenarioError",
    "attribute_columns",
    "load_catalogue",
    "load_scenario",
    "schema",
]

_HOME = {
    "Catalogue": "catalogue",
    "CatalogueError": "catalogue",
    "load_catalogue": "catalogue",
    "schema": "document",
    "attribute_columns": "entities",
    "load_scenario": "load",
    "Entity": "model",
    "Scenario": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
