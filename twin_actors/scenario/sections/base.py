"""What all sections of the scenario file share: they are frozen and know their keys, ids may be patterns."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from twin_actors.scenario.words import Text

_VALUE_SCHEMA = {
    "description": "a number, one number per component, or component: number",
    "anyOf": [{"type": "number"}, {"type": "array"}, {"type": "object"}],
}
ValueAsWritten = Annotated[Any, WithJsonSchema(_VALUE_SCHEMA)]
"""A field's value before the catalogue says which shape it must have."""


def _tag_text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


TagValue = Annotated[str, BeforeValidator(_tag_text)]
Tags = dict[str, TagValue]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Patterns = Annotated[
    tuple[Text, ...],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One id or glob such as ``intersection/n-*``, or a list of them."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
