"""The shape of a scenario: pydantic's findings in the users' words, and a document to go on with in spite of them.

A faulty part is reported and left out, so that the meaning of all other parts is checked in the same run.
"""

from __future__ import annotations

import copy
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from twin_actors.scenario.document import FORMS, LISTS, Document
from twin_actors.scenario.errors import Path
from twin_actors.scenario.report import Report

_ROUNDS = 8
_ENTITY_FORMS = ("name", "pattern", "csv", "geojson")
_SOURCE_FORMS = ("simulate", "replay")


def checked_document(merged: dict[str, Any], report: Report) -> Document:
    """The document; its faulty parts are in the report and not in the result."""
    for _ in range(_ROUNDS):
        try:
            return Document.model_validate(merged)
        except ValidationError as error:
            found = error.errors(include_url=False)
        for one in found:
            _tell(one, report)
        # A copy: the files keep what their authors wrote.
        merged = _without_faults(copy.deepcopy(merged), found, report)
    report.raise_if_any()
    raise AssertionError("a document without its faulty parts must be valid")


def _tell(error: ErrorDetails, report: Report) -> None:
    path = _plain(error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        known = _known_keys(error["loc"])
        report.add(
            path, f"unknown key {path[-1]!r}; known here: {', '.join(sorted(known))}", word=path[-1], known=known
        )
    elif kind == "missing" and path[0] == "entities" and path[-1] == "name" and len(path) == 3:
        report.add(path[:-1], f"an entity needs one of {', '.join(map(repr, _ENTITY_FORMS))}")
    elif kind == "missing" and path[0] == "sources" and path[-1] == "simulate" and len(path) == 3:
        report.add(path[:-1], "a source needs 'simulate' or 'replay'")
    elif kind == "missing":
        report.add(path, f"the key {path[-1]!r} is required")
    elif kind == "literal_error":
        known = [one for one in error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ") if one]
        report.add(path, f"{error['input']!r} is not one of {', '.join(known)}", word=error["input"], known=known)
    else:
        report.add(path, _words(error))


def _words(error: ErrorDetails) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}…"
    if kind == "scenario":
        return error["msg"]
    simple = {
        "string_type": "must be text",
        "int_type": "must be a whole number",
        "bool_type": "must be true or false",
        "bool_parsing": "must be true or false",
        "dict_type": "must be a mapping of keys",
        "model_type": "must be a mapping of keys",
        "model_attributes_type": "must be a mapping of keys",
        "tuple_type": "must be a list",
        "greater_than": f"must be above {context.get('gt')}",
        "greater_than_equal": f"must be at least {context.get('ge')}",
        "less_than": f"must be below {context.get('lt')}",
        "less_than_equal": f"must be at most {context.get('le')}",
    }
    if kind in simple:
        return f"{simple[kind]}, not {shown}"
    if kind in ("string_too_short", "too_short"):
        return "must not be empty"
    if kind == "string_pattern_mismatch":
        return f"{shown} is no name of a city: small letters, digits and '-', a letter first"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, not {shown}"


def _plain(loc: tuple[int | str, ...]) -> Path:
    """The place without the tags that pydantic puts in for the form of an entity or source."""
    return tuple(part for part in loc if part not in FORMS)


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at the parent of ``loc`` takes."""
    model: type[BaseModel] | None = Document
    for part in loc[:-1]:
        if isinstance(part, str) and part in FORMS:
            model = FORMS[part]
        elif isinstance(part, str) and model is not None:
            by_key = {field.alias or name: field for name, field in model.model_fields.items()}
            if part in by_key:
                model = _model_in(by_key[part].annotation)
    if model is None:
        return []
    known = [field.alias or name for name, field in model.model_fields.items()]
    if len(loc) == 4 and loc[0] == "entities":
        known += [key for key in _ENTITY_FORMS if key not in known]
    if len(loc) == 4 and loc[0] == "sources":
        known += [key for key in _SOURCE_FORMS if key not in known]
    return known


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)


def _without_faults(merged: dict[str, Any], found: Iterable[ErrorDetails], report: Report) -> dict[str, Any]:
    elements: set[tuple[str, int]] = set()
    # Unknown keys first: the parts they stand in may have to go as a whole.
    for error in sorted(found, key=lambda error: error["type"] != "extra_forbidden"):
        path = _plain(error["loc"])
        if error["type"] == "extra_forbidden":
            _parent(merged, path).pop(path[-1], None)
        elif path == ("city",):
            merged["city"] = "city"
        elif len(path) > 1 and path[0] in LISTS and isinstance(path[1], int):
            elements.add((str(path[0]), path[1]))
        else:
            merged.pop(str(path[0]), None)
            report.entities_incomplete |= path[0] == "entities"
    for key, position in sorted(elements, reverse=True):
        if key in merged:
            del merged[key][position]
            report.drop(key, position)
            report.entities_incomplete |= key == "entities"
    return merged


def _parent(merged: dict[str, Any], path: Path) -> Any:
    value: Any = merged
    for part in path[:-1]:
        value = value[part]
    return value
