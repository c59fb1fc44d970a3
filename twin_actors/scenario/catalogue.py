"""The domains that are installed: found by entry point, checked for clashes, and asked for kinds by name."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twin_actors.core.kind import Domain, Kind
from twin_actors.core.view import Policy
from twin_actors.scenario.errors import nearest

GROUP = "twin_actors.domains"
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_RESERVED = {"city", "gateway"}  # {root}/city/… carries the city's own messages, {root}/gateway/… those of gateways


class CatalogueError(ValueError):
    """A domain plug-in that cannot be used, or a name that no domain brings."""


@dataclass(frozen=True)
class Catalogue:
    """Everything a scenario may name: domains, their kinds and their policies."""

    domains: Mapping[str, Domain] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)

    @classmethod
    def of(cls, domains: Iterable[Domain]) -> Catalogue:
        """The catalogue of these domains. Raises CatalogueError when two bring the same name."""
        by_name: dict[str, Domain] = {}
        kinds: dict[str, Kind] = {}
        policies: dict[str, Policy] = {}
        owner: dict[tuple[str, str], str] = {}

        def claim(what: str, name: str, domain: str) -> None:
            if (what, name) in owner:
                raise CatalogueError(
                    f"the domains {owner[what, name]!r} and {domain!r} both bring the {what} {name!r}: "
                    "uninstall one of them"
                )
            owner[what, name] = domain

        for domain in domains:
            if domain.name in by_name:
                raise CatalogueError(f"two domains are called {domain.name!r}: uninstall one of them")
            by_name[domain.name] = domain
            for kind in domain.kinds:
                if not _NAME.match(kind.name) or kind.name in _RESERVED:
                    raise CatalogueError(
                        f"domain {domain.name!r}: {kind.name!r} cannot be the name of a kind; use small letters, "
                        "digits and _, and not 'city' or 'gateway', which are levels of other topics"
                    )
                claim("kind", kind.name, domain.name)
                kinds[kind.name] = kind
            for name, policy in domain.policies.items():
                if not isinstance(policy, Policy):
                    raise CatalogueError(
                        f"domain {domain.name!r}: policy {name!r} is a {type(policy).__name__}, not a Policy"
                    )
                claim("policy", name, domain.name)
                policies[name] = policy
        return cls(by_name, kinds, policies)

    def kind(self, name: str) -> Kind:
        """The kind called ``name``. Raises CatalogueError with the nearest name."""
        if name in self.kinds:
            return self.kinds[name]
        raise CatalogueError(_unknown("kind", name, self.kinds))

    def policy(self, name: str) -> Policy:
        """The policy called ``name``. Raises CatalogueError with the nearest name."""
        if name in self.policies:
            return self.policies[name]
        raise CatalogueError(_unknown("policy", name, self.policies))


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    guess = nearest(name, known)
    hint = f" (did you mean {guess!r}?)" if guess else ""
    return f"unknown {what} {name!r}{hint}; the installed domains bring: {', '.join(known) or 'none'}"


@functools.cache
def load_catalogue() -> Catalogue:
    """All installed domains, read once per process.

    Raises CatalogueError that names the plug-in when one cannot be imported, is no Domain, or clashes with another.
    Warns (RuntimeWarning) when a folder elsewhere on the path has the same module as a plug-in.
    """
    points = sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    # An editable and a built copy of one distribution list the same entry points twice.
    return Catalogue.of([load_domain(point) for point in dict.fromkeys(points)])


def load_domain(point: importlib.metadata.EntryPoint) -> Domain:
    """The domain behind one entry point. Raises CatalogueError that names the plug-in and its package."""
    package = point.dist.name if point.dist is not None else "an unnamed package"
    who = f"domain plug-in {point.name!r} ({point.value}, from {package})"
    try:
        loaded = point.load()
    except Exception as error:  # whatever a stranger's module raises, the user must learn whose it is
        raise CatalogueError(
            f"{who} cannot be loaded: {type(error).__name__}: {error}. {_shadowed(point.module)}"
            "Repair or uninstall that package."
        ) from error
    if not isinstance(loaded, Domain):
        raise CatalogueError(f"{who} is a {type(loaded).__name__}, not a twin_actors.core.kind.Domain")
    copies = _copies(point.module)
    if len(copies) > 1:
        warnings.warn(
            f"{who} exists {len(copies)} times on the Python path; {copies[0]} shadows {', '.join(copies[1:])}",
            RuntimeWarning,
            stacklevel=2,
        )
    return loaded


def _top_folders(top: str) -> tuple[list[Path], bool]:
    """Folders of a top-level package, and whether it is an ordinary one that hides all others of its name."""
    try:
        package = importlib.import_module(top)
    except ImportError:
        return [], False
    folders = [Path(folder) for folder in getattr(package, "__path__", ())]
    return folders, getattr(package, "__file__", None) is not None


def _shadowed(module: str) -> str:
    """Why a module was not found, when a foreign package of the same name stands before the right one."""
    top, _, rest = module.partition(".")
    folders, ordinary = _top_folders(top)
    if not rest or not folders or not ordinary or _copies(module):
        return ""
    return f"The package {top!r} at {folders[0]} has no {rest!r} and shadows the right one: rename or remove it. "


def _copies(module: str) -> list[str]:
    """The places on the path where a module of a namespace package exists; Python imports the first."""
    top, _, rest = module.partition(".")
    if not rest:
        return []
    below = Path(*rest.split("."))
    places = [folder / below for folder in _top_folders(top)[0]]
    found = [str(p) for p in places if (p / "__init__.py").is_file() or p.with_suffix(".py").is_file()]
    return list(dict.fromkeys(found))
