"""``new-domain``: a third-party domain package that works at once, to be changed into one's own."""

from __future__ import annotations

import keyword
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated

import typer

from twin_actors.cli.faults import Failed
from twin_actors.cli.voice import AsJson, Voice

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
SUFFIX = ".tmpl"
"""Of template files, so that no tool takes them for Python or YAML of this project."""


def new_domain(
    name: Annotated[str, typer.Argument(help="The domain's name: small letters, digits and _, e.g. waste.")],
    into: Annotated[Path, typer.Option(help="The folder in which the package's folder is made.")] = Path("."),
    kind: Annotated[str, typer.Option(help="The name of its first kind [default: NAME_bin].")] = "",
    as_json: AsJson = False,
) -> None:
    """Write a package that brings a domain of your own: a small working kind, devices, a policy, tests, a scenario."""
    kind = kind or f"{name}_bin"
    for each in (name, kind):
        if not _NAME.match(each) or keyword.iskeyword(each):
            raise typer.BadParameter(f"{each!r} is no name for it: use small letters, digits and _, a letter first")
    folder = into / f"twin-actors-{name.replace('_', '-')}"
    if folder.exists():
        raise Failed(f"{folder} exists already: choose another name or --into another folder")
    written = render(name, kind, folder)
    package = f"twin_actors_{name}"
    Voice(as_json).result(
        {"folder": str(folder), "package": package, "files": [str(path) for path in written]},
        f"{folder}: {len(written)} files",
        f"  install it   pip install -e {folder}",
        f"  test it      pytest {folder}",
        f"  run it       twin-actors up {folder / f'{name}.yaml'}",
        f"  make it yours, beginning with {folder / package / 'model.py'}",
    )


def render(name: str, kind: str, folder: Path) -> list[Path]:
    """Write all files of the package into ``folder``; their paths, relative to it."""
    words = {
        "name": name,
        "kind": kind,
        "package": f"twin_actors_{name}",
        "distribution": f"twin-actors-{name.replace('_', '-')}",
        "Kind": "".join(part.capitalize() for part in kind.split("_")),
        "KIND": kind.upper(),
    }
    written = []
    for path, template in _files(resources.files("twin_actors.cli") / "templates" / "domain", Path()):
        target = Path(*(Template(part).substitute(words) for part in path.parts))
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(Template(template.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
        written.append(target)
    return sorted(written)


def _files(folder: Traversable, below: Path) -> list[tuple[Path, Traversable]]:
    """Template files with the path that each is to have; ``$`` names in paths are filled in like those in texts."""
    found: list[tuple[Path, Traversable]] = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _files(each, below / ("$package" if each.name == "package" else each.name))
        elif each.name.endswith(SUFFIX):
            name = each.name.removesuffix(SUFFIX)
            found.append((below / ("$name.yaml" if name == "scenario.yaml" else name), each))
    return found
