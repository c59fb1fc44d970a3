"""What is wrong with a scenario: every problem at once, each with file, line, key and the nearest valid word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Where a value stands in a document: keys and list positions from its root."""

SHOWN = 100
"""More problems than this are counted, not printed: a wrong column of a CSV file repeats in every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to put right; ``line`` counts from 1 and is 0 where a file has no lines to name."""

    file: str
    line: int
    key: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{place}: {key}{self.message}{hint}"


class ScenarioError(ValueError):
    """A scenario that cannot be used; ``problems`` holds all that was found, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"… and {len(self.problems) - SHOWN:,} more problems")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[ScenarioError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


def nearest(word: object, known: Iterable[str]) -> str:
    """The word of ``known`` that a user most likely meant, or an empty string."""
    candidates = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(str(word).casefold(), candidates, n=1, cutoff=0.55)
    return candidates[found[0]] if found else ""


def key_text(path: Path) -> str:
    """The way users write a place: ``entities[3].attributes.area_m2``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
