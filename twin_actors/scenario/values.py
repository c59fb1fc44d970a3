"""A field's value as written in a scenario, compared with the field's declaration: shape, labels and limits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twin_actors.core.columns import Field
from twin_actors.core.layout import Layout
from twin_actors.core.units import conversion
from twin_actors.scenario.errors import Path

_ROW = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]\Z")


class ValueFault(ValueError):
    """Why a value does not fit: the message, where below the value, and the words it could have been."""

    def __init__(self, message: str, below: Path = (), word: object = None, known: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message, self.below, self.word, self.known = message, below, word, tuple(known)


def component_numbers(declared: Field, value: Any) -> list[float | None]:
    """One number per component of ``declared`` in row order; None where a mapping leaves a component out.

    ``value`` is a number (for every component), a list (nested by axis, or flat), or a mapping of labels.
    Raises ValueFault for a wrong shape, unknown labels, numbers that are not finite or beyond the limits.
    """
    numbers = _spread(declared, value, 0, ())
    for number in numbers:
        if number is not None and not declared.minimum <= number <= declared.maximum:
            side, limit = (
                ("below the minimum", declared.minimum)
                if number < declared.minimum
                else ("above the maximum", declared.maximum)
            )
            raise ValueFault(f"{number:g} is {side} of {limit:g} {declared.unit}")
    return numbers


def _spread(declared: Field, value: Any, axis: int, below: Path) -> list[float | None]:
    rest = declared.axes[axis:]
    size = math.prod(len(a) for a in rest)
    if isinstance(value, Mapping):
        if not rest:
            raise ValueFault("must be one number, this field has no components", below)
        labels = rest[0].labels
        for label in value:
            if label not in labels:
                shown = ", ".join(labels)
                raise ValueFault(f"unknown {rest[0].name} {label!r}; there are {shown}", (*below, label), label, labels)
        part = size // len(labels)
        missing: list[float | None] = [None] * part
        spread: list[float | None] = []
        for label in labels:
            one = _spread(declared, value[label], axis + 1, (*below, label)) if label in value else missing
            spread.extend(one)
        return spread
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not rest:
            raise ValueFault("must be one number, this field has no components", below)
        nested = len(value) == len(rest[0]) and len(rest) > 1
        if not nested and len(value) != size:
            shown = " × ".join(f"{len(a)} {a.name}" for a in rest)
            raise ValueFault(f"has {len(value)} numbers, the field has {size} components ({shown})", below)
        parts = enumerate(value)
        if nested:
            return [n for i, part in parts for n in _spread(declared, part, axis + 1, (*below, i))]
        return [_finite(one, (*below, i)) for i, one in parts]
    return [_finite(value, below)] * size


def _finite(value: Any, below: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueFault(f"must be a number, not {value!r}", below)
    if not math.isfinite(value):
        raise ValueFault(f"must be a finite number, not {value}", below)
    return float(value)


def default_numbers(declared: Field) -> tuple[float, ...]:
    """The declared default of every component, NaN where there is none."""
    default = declared.default
    return default if isinstance(default, tuple) else (float(default),) * declared.size


def by_row(name: str, declared: Field, numbers: Sequence[float | None]) -> dict[str, float]:
    """The numbers that were given, keyed by row label: the field's name, or ``name[component]``."""
    labels = Layout.of({name: declared}).labels
    return {label: number for label, number in zip(labels, numbers, strict=True) if number is not None}


def split_row(label: str) -> tuple[str, tuple[str, ...]]:
    """The field and the component labels of ``field[a,b]``; no labels for a plain field name."""
    found = _ROW.match(label)
    if not found:
        return label, ()
    return found.group(1), tuple(part.strip() for part in found.group(2).split(","))


def check_row(layout: Layout, label: str) -> str:
    """The row that ``label`` names, written as the layout writes it; one field of a vector must say which component.

    Raises ValueFault for an unknown field or component.
    """
    name, parts = split_row(label)
    declared = layout.fields.get(name)
    if declared is None:
        raise ValueFault(
            f"unknown field {name!r}; there are {', '.join(layout.fields) or 'none'}", (), name, layout.fields
        )
    rows = Layout.of({name: declared}).labels
    row = f"{name}[{','.join(parts)}]" if parts else name
    if row not in rows:
        what = "has no components" if not declared.axes else f"has the components {', '.join(rows)}"
        raise ValueFault(f"no row {row!r}: the field {what}", (), row, rows)
    return row


def unit_conversion(from_unit: str | None, declared: Field) -> tuple[float, float]:
    """``(factor, offset)`` from a foreign unit to the field's own. Raises ValueFault when that makes no sense."""
    if from_unit is None:
        return 1.0, 0.0
    try:
        return conversion(from_unit, declared.unit)
    except ValueError as error:
        raise ValueFault(str(error)) from None
