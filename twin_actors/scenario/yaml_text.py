"""Reading one YAML file: plain values as YAML 1.2 means them, every value with the line it stands on.

YAML 1.1 reads ``no`` as false, ``12:30`` as 750, ``007`` as an octal number and ``1e3`` as text. Here only
``true`` and ``false`` are truth values, numbers are written as in JSON (plus ``.nan`` and ``.inf``, which the
scenario then refuses by name) and all else is text. A key that stands twice in one mapping is an error.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from twin_actors.scenario.errors import Path, Problem, ScenarioError, key_text

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_PLAIN, _TEXT, _COLLECTION = "plain", "text", "collection"
REPLACE = "!replace"
_DEEPEST = 40
_MOST_DIGITS = 19  # with its sign; 18 digits fit 64 bits, which is what files and wire can carry


class _PlainLoader(_Loader):  # type: ignore[misc]  # the C loader has no type information
    """Composes nodes without PyYAML's own (YAML 1.1) ideas of what plain words mean."""

    def descend_resolver(self, current_node: object, current_index: object) -> None: ...

    def ascend_resolver(self) -> None: ...

    def resolve(self, kind: type[Node], value: object, implicit: Any) -> str:
        if kind is not ScalarNode:
            return _COLLECTION
        return _PLAIN if implicit[0] else _TEXT


@dataclass(frozen=True, slots=True)
class YamlFile:
    """One file as read: its ``content``, and the nodes that know the lines."""

    path: FilePath
    shown: str
    root: MappingNode
    content: dict[str, Any]
    replaced: frozenset[str] = field(default_factory=frozenset)

    def line(self, path: Path) -> tuple[int, int]:
        """``(line, depth)``: where ``path`` stands, and how many of its parts this file really has."""
        node: Node = self.root
        line = 0
        for depth, part in enumerate(path):
            found = _child(node, part)
            if found is None:
                return max(line, 1), depth
            where, node = found
            line = where.start_mark.line + 1
        return max(line, 1), len(path)


def read_yaml(path: FilePath, shown: str) -> YamlFile:
    """The content of one scenario file. Raises ScenarioError: unreadable, no YAML, no mapping, repeated keys."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _error(shown, 0, "the scenario file does not exist") from None
    except UnicodeDecodeError as error:
        raise _error(shown, 0, f"the file is not UTF-8 text: {error.reason}") from error
    except OSError as error:
        raise _error(shown, 0, f"the file cannot be read: {error.strerror or error}") from error
    with collection_paused():
        try:
            root = yaml.compose(text, Loader=_PlainLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = " ".join(part for part in (error.context, error.problem) if part)
            raise _error(shown, mark.line + 1 if mark else 0, f"not valid YAML: {what}") from error
        except yaml.YAMLError as error:
            raise _error(shown, 0, f"not valid YAML: {error}") from error
        if root is None:
            raise _error(shown, 1, "the file is empty; it needs at least 'city:' and 'entities:'")
        if not isinstance(root, MappingNode):
            raise _error(shown, root.start_mark.line + 1, "a scenario is a mapping of keys such as 'city:'")
        builder = _Builder(shown)
        content = builder.mapping(root, (), 0)
    if builder.problems:
        raise ScenarioError(builder.problems)
    replaced = frozenset(
        str(key.value)
        for key, value in root.value
        if isinstance(value, SequenceNode | MappingNode) and value.tag == REPLACE
    )
    return YamlFile(path, shown, root, content, replaced)


@contextmanager
def collection_paused() -> Iterator[None]:
    """Hold the cyclic garbage collector while many small objects are made: it takes two thirds of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Builder:
    """Turns nodes into plain Python values and notes what a mapping must not hold."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.problems: list[Problem] = []

    def value(self, node: Node, path: Path, depth: int) -> Any:
        if isinstance(node, ScalarNode):
            return self.scalar(node, path)
        if depth > _DEEPEST:
            # Also what ends an alias that contains itself.
            self.note(node, path, f"values are nested more than {_DEEPEST} levels deep")
            return None
        if isinstance(node, MappingNode):
            return self.mapping(node, path, depth)
        self.check_tag(node, path)
        return [self.value(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]

    def scalar(self, node: ScalarNode, path: Path) -> Any:
        text: str = node.value
        if node.tag == _PLAIN:
            if text in _WORDS:
                return _WORDS[text]
            if _INTEGER.match(text):
                if len(text) > _MOST_DIGITS:
                    most = _MOST_DIGITS - 1
                    self.note(node, path, f"a whole number has at most {most} digits; quote it if it is text")
                    return None
                return int(text)
            if _NUMBER.match(text):
                return float(text)
        elif node.tag not in (_TEXT, "tag:yaml.org,2002:str"):
            self.note(node, path, f"unknown tag {node.tag!r}")
        return text

    def mapping(self, node: MappingNode, path: Path, depth: int) -> dict[str, Any]:
        self.check_tag(node, path)
        result: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.note(key_node, path, "a key must be a word, not a list or a mapping")
                continue
            key: str = key_node.value
            if key == "<<" and key_node.tag == _PLAIN:
                merged.extend(self.merged(value_node, path, depth))
                continue
            if key in first:
                self.note(key_node, (*path, key), f"the key stands twice, first on line {first[key]}")
                continue
            first[key] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, (*path, key), depth + 1)
        for earlier in merged:
            result = {**earlier, **result}
        return result

    def merged(self, node: Node, path: Path, depth: int) -> list[dict[str, Any]]:
        """The mappings behind a merge key ``<<``: one, or a list of which the first has precedence."""
        sources = node.value if isinstance(node, SequenceNode) else [node]
        found: list[dict[str, Any]] = []
        for source in sources:
            if isinstance(source, MappingNode) and depth <= _DEEPEST:
                found.append(self.mapping(source, path, depth + 1))
            else:
                self.note(source, path, "'<<' takes an alias of a mapping, or a list of them")
        return found

    def check_tag(self, node: Node, path: Path) -> None:
        if node.tag == REPLACE and len(path) == 1:
            return
        if node.tag not in (_COLLECTION, "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"):
            self.note(node, path, f"unknown tag {node.tag!r}; only '{REPLACE}' after a top-level key has a meaning")

    def note(self, node: Node, path: Path, message: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(file=self.shown, line=line, key=key_text(path), message=message))


def _child(node: Node, part: str | int) -> tuple[Node, Node] | None:
    """The node whose line to name, and the node to go on with."""
    if isinstance(node, MappingNode):
        for key_node, value_node in node.value:
            if isinstance(key_node, ScalarNode) and key_node.value == part:
                return key_node, value_node
        for key_node, value_node in node.value:
            if isinstance(key_node, ScalarNode) and key_node.value == "<<":
                sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                for source in sources:
                    found = _child(source, part) if isinstance(source, MappingNode) else None
                    if found is not None:
                        return found
    elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _error(shown: str, line: int, message: str) -> ScenarioError:
    return ScenarioError([Problem(file=shown, line=line, key="", message=message)])
