"""How commands speak: tables and words for people, one JSON value for machines."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout; words go to stderr.")]

LONGEST_CELL = 120
WIDTH_OF_FILES = 250
"""Columns of a pipe or a file, which have no width of their own: nothing that people search for is cut off."""


class Voice:
    """Where a command's words go. With ``as_json`` stdout carries nothing but the one value given to ``result``."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._stdout = sys.stdout
        self.err = _console(stderr=True)
        self.out = self.err if as_json else _console(stderr=False)

    def say(self, *what: RenderableType) -> None:
        """For people: stdout, or stderr in JSON mode."""
        for each in what:
            self.out.print(each, markup=False, soft_wrap=isinstance(each, str))

    def warn(self, message: str) -> None:
        """For people, always on stderr."""
        self.err.print(message, markup=False, soft_wrap=True)

    def result(self, value: Any, *shown: RenderableType) -> None:
        """The answer: ``value`` as JSON, or ``shown`` for people."""
        if self.as_json:
            print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False), file=self._stdout, flush=True)
        else:
            self.say(*shown)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH_OF_FILES
    return console


def plain(value: Any) -> Any:
    """Records, arrays, frames and enums as what JSON knows; numbers that are not finite become null."""
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(each) for key, each in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "__struct_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if hasattr(value, "to_dict") and hasattr(value, "reset_index"):
        return frame_records(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Sequence | set | frozenset):
        return [plain(each) for each in value]
    return str(value)


def frame_records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a pandas frame as plain mappings, with its named index as the first key."""
    whole = frame.reset_index() if frame.index.name else frame
    return [plain(row) for row in whole.to_dict(orient="records")]


def moment(at_s: float | None) -> str:
    """An instant (s since the epoch) in UTC as people read it."""
    if at_s is None or at_s != at_s:
        return ""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """A duration as people read it: 8.1 s, 3 min 20 s, 2 h 5 min, 4 d 3 h."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for name, size, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {name}" + (f" {rest} {smaller}" if rest else "")
    raise AssertionError("60 s are a minute")


def words(name: str, value: Any) -> str:
    """One cell of a table. ``name`` is its column: those ending in ``at_s`` hold instants."""
    if isinstance(value, float) and (name == "at_s" or name.endswith("_at_s")):
        return moment(value)
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        text = ", ".join(f"{key}={words(key, each)}" for key, each in value.items() if each not in (None, ""))
    elif isinstance(value, list):
        text = "; ".join(words(name, each) for each in value)
    else:
        text = str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = (), *, title: str = "") -> RenderableType:
    """A table of mappings; without ``columns`` all keys of the first row."""
    from rich.table import Table
    from rich.text import Text

    columns = columns or list(rows[0] if rows else ())
    made = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in columns:
        number = any(isinstance(row.get(name), int | float) and not isinstance(row.get(name), bool) for row in rows)
        is_time = name == "at_s" or name.endswith("_at_s")
        head = name.removesuffix("_s") if is_time else name
        made.add_column(head, justify="right" if number and not is_time else "left")
    for row in rows:
        made.add_row(*(Text(words(name, row.get(name))) for name in columns))
    return made
