"""The catalogue of installed domains: lookups, clashes, broken plug-ins and folders that shadow others."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twin_actors.core.columns import Attributes, Reading, State
from twin_actors.core.kind import Domain, Kind
from twin_actors.core.view import Policy
from twin_actors.scenario.catalogue import GROUP, Catalogue, CatalogueError, load_catalogue, load_domain

Plugin = Callable[..., importlib.metadata.EntryPoint]
SOURCE = "from twin_actors.core.kind import Domain\nDOMAIN = Domain(name='weather', doc='')\n"


def _kind(name: str) -> Kind:
    return Kind(
        name=name,
        doc="",
        attributes=Attributes,
        reading=Reading,
        state=State,
        predict=lambda *records: records[0],
        indicators=lambda *records: {},
        shows=(),
    )


def _domain(name: str, *kinds: str, **policies: Any) -> Domain:
    return Domain(name=name, doc="", kinds=tuple(map(_kind, kinds)), policies=policies)


def test_lookups_suggest_the_nearest_name() -> None:
    catalogue = Catalogue.of([_domain("venues", "venue", "park")])
    assert catalogue.kind("venue").name == "venue"
    with pytest.raises(CatalogueError, match=r"unknown kind 'venus' \(did you mean 'venue'\?\).*park, venue"):
        catalogue.kind("venus")
    with pytest.raises(CatalogueError, match="unknown policy 'x'; the installed domains bring: none"):
        catalogue.policy("x")


def test_clashes_are_refused() -> None:
    with pytest.raises(CatalogueError, match="'a' and 'b' both bring the kind 'venue'"):
        Catalogue.of([_domain("a", "venue"), _domain("b", "venue")])
    with pytest.raises(CatalogueError, match="two domains are called 'a'"):
        Catalogue.of([_domain("a", "venue"), _domain("a", "park")])
    policy = Policy(name="p", doc="", propose=lambda view, parameters: ())
    with pytest.raises(CatalogueError, match="both bring the policy 'p'"):
        Catalogue.of([_domain("a", p=policy), _domain("b", p=policy)])
    with pytest.raises(CatalogueError, match="not a Policy"):
        Catalogue.of([_domain("a", p=print)])
    with pytest.raises(CatalogueError, match="cannot be the name of a kind"):
        Catalogue.of([_domain("a", "city")])


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    """Write a plug-in module below the temporary folder and return its entry point."""

    def write(source: str, *, folder: str = "one", module: str = "strangers.weather") -> importlib.metadata.EntryPoint:
        path = (tmp_path / folder).joinpath(*module.split("."))
        path.mkdir(parents=True)
        (path / "__init__.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path / folder))
        return importlib.metadata.EntryPoint("weather", f"{module}:DOMAIN", GROUP)

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "strangers"]:
        del sys.modules[name]


def test_a_plugin_is_found(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    point = plugin(SOURCE)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point, point])
    load_catalogue.cache_clear()
    try:
        assert list(load_catalogue().domains) == ["weather"]
        assert load_catalogue() is load_catalogue()
    finally:
        load_catalogue.cache_clear()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_library_at_all\n", "ModuleNotFoundError: No module named 'no_such_library_at_all'"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("", "AttributeError"),
        ("DOMAIN = 5\n", "is a int, not a twin_actors.core.kind.Domain"),
    ],
)
def test_a_broken_plugin_is_named(plugin: Plugin, source: str, says: str) -> None:
    with pytest.raises(CatalogueError, match=f"domain plug-in 'weather'.*{says}"):
        load_domain(plugin(source))


def test_a_package_that_hides_the_plugin_is_named(plugin: Plugin, tmp_path: Path) -> None:
    point = plugin(SOURCE)
    plugin("", folder="two", module="strangers")
    with pytest.raises(CatalogueError, match=r"'strangers' at .*two.* shadows the right one"):
        load_domain(point)


def test_a_second_copy_on_the_path_is_warned_of(plugin: Plugin) -> None:
    point = plugin(SOURCE)
    plugin(SOURCE, folder="two")
    with pytest.warns(RuntimeWarning, match=r"exists 2 times .*two.*shadows.*one"):
        assert load_domain(point).name == "weather"
