"""Which city a command means: the one it names, or the only one that runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.faults import Failed
from twin_actors.scenario.errors import nearest

if TYPE_CHECKING:
    from twin_actors.runtime.city import City
    from twin_actors.scenario.model import Scenario

CityName = Annotated[str | None, typer.Argument(metavar="CITY", help="The city's name; the only one if one runs.")]
Files = Annotated[list[Path] | None, typer.Argument(metavar="FILES", help="Scenario files, layered in this order.")]
Layered = Annotated[list[Path] | None, typer.Option("--file", "-f", help="One more file on top; may be repeated.")]


def chosen(name: str | None) -> str:
    """The name of the running city that is meant. Raises Failed, with the names there are."""
    from twin_actors.runtime import local

    there = tuple(local.cities())
    if name is not None:
        if name in there:
            return name
        guess = nearest(name, there)
        hint = f" (did you mean {guess!r}?)" if guess else ""
        raise Failed(f"no city called {name!r} runs here{hint}; running: {', '.join(there) or 'none'}")
    if not there:
        raise Failed("no city runs here; start one with 'twin-actors up FILE'")
    if len(there) > 1:
        raise Failed(f"{len(there)} cities run here, say which one: {', '.join(there)}")
    return there[0]


def connected(name: str | None) -> City:
    """The running city that is meant, connected; use it as a context manager. Raises Failed and CityNotFound."""
    from twin_actors.runtime.city import City

    return City.connect(chosen(name))


def with_city(words: Sequence[str], count: int, usage: str) -> tuple[str | None, list[str]]:
    """``[CITY] word…`` as the city and exactly ``count`` words. Raises BadParameter with the usage."""
    if len(words) == count:
        return None, list(words)
    if len(words) == count + 1:
        return words[0], list(words[1:])
    raise typer.BadParameter(f"expected {usage}")


def city_and_entities(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """``[CITY] [ENTITY…]``: ids have a slash, which no city's name has."""
    if words and "/" not in words[0] and "=" not in words[0]:
        return words[0], list(words[1:])
    return None, list(words)


def all_files(files: Sequence[Path] | None, layered: Sequence[Path] | None) -> list[Path]:
    """All scenario files of a command in their order. Raises BadParameter when there are none."""
    paths = [*(files or ()), *(layered or ())]
    if not paths:
        raise typer.BadParameter("name at least one scenario file")
    return paths


def read_scenario(files: Sequence[Path] | None, layered: Sequence[Path] | None) -> Scenario:
    """The scenario of a command's files. Raises ScenarioError, CatalogueError and BadParameter."""
    from twin_actors.scenario import load_scenario

    return load_scenario(all_files(files, layered))


def seconds(text: Any) -> float:
    """Seconds of ``30s``, ``5min``, ``2h`` or a bare number, longer than 0. Raises BadParameter."""
    from pydantic_core import PydanticCustomError

    from twin_actors.scenario.words import positive_duration_s

    try:
        return positive_duration_s(_number_or_text(text))
    except PydanticCustomError as error:
        raise typer.BadParameter(error.message()) from None


def _number_or_text(text: Any) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
