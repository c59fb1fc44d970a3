"""Conditions over columns, safely and without pandas: the common part of what ``DataFrame.query`` understands.

Names of columns (in backquotes where they are no identifiers), numbers and strings; comparisons, also chained; ``and``,
``or``, ``not`` and their signs ``&``, ``|``, ``~``, which bind as the words do; ``in`` and ``not in`` a list; ``+``,
``-``, ``*``, ``/`` of numbers; ``name.between(low, high)``, ``name.isna()`` and ``name.notna()``. For everything that
pandas might mean otherwise ``Condition.of`` and ``holds`` raise Unsupported: then a frame has to answer.
"""

from __future__ import annotations

import ast
import io
import operator
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Mask: TypeAlias = NDArray[np.bool_]
Values: TypeAlias = NDArray[Any]
"""A column of numbers (float64), of truth values (bool) or of words (object: str, or None where nothing is said)."""

MOST_CHARACTERS: Final = 10_000
MOST_DEPTH: Final = 50
EXACT: Final = 2**53
"""Whole numbers up to here are the same as a float."""

_BACKQUOTED: Final = "_backquoted_{}_"
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


class Unsupported(Exception):
    """This module does not answer the expression; that does not make it wrong."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed expression and the names of the columns that it reads."""

    tree: ast.expr
    columns: Mapping[str, str]  # by the name that stands in the tree

    @classmethod
    def of(cls, text: str) -> Condition:
        """Raises Unsupported for what is not in the language of this module."""
        if len(text) > MOST_CHARACTERS:
            raise Unsupported("the expression is too long")
        plain, quoted = _without_backquotes(text.strip())
        try:
            tree = ast.parse(_with_words(plain), mode="eval").body
        except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError) as error:
            raise Unsupported(f"it cannot be parsed: {error}") from error
        _check(tree, MOST_DEPTH)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        return cls(tree, {name: quoted.get(name, name) for name in names})

    def holds(self, column: Callable[[str], Values]) -> Mask:
        """Where it holds, ``(n,)``. ``column`` gives columns ``(n,)`` by name and raises KeyError for unknown ones."""
        try:
            values = {name: column(real) for name, real in self.columns.items()}
        except KeyError as error:
            raise Unsupported(f"there is no column {error}") from error
        with np.errstate(all="ignore"):
            found = _Evaluation(values).visit(self.tree)
        if not _is_column(found, bool):
            raise Unsupported("it is no condition")
        mask: Mask = found
        return mask


def _without_backquotes(text: str) -> tuple[str, dict[str, str]]:
    """The text with identifiers in the place of backquoted names, and those names by identifier."""
    parts: list[str] = []
    names: dict[str, str] = {}
    quote, at = "", 0
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\":
                parts.append(text[at : at + 2])
                at += 2
                continue
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "`":
            end = text.find("`", at + 1)
            if end < 0:
                raise Unsupported("a backquote is not closed")
            mark = _BACKQUOTED.format(len(names))
            names[mark] = text[at + 1 : end]
            parts.append(f" {mark} ")
            at = end + 1
            continue
        parts.append(character)
        at += 1
    return "".join(parts), names


def _with_words(text: str) -> str:
    """``and`` and ``or`` for & and |, so that they bind more loosely than comparisons."""
    words = {"&": "and", "|": "or"}
    tokens = [
        (tokenize.NAME, words[token.string]) if token.type == tokenize.OP and token.string in words else token[:2]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    ]
    return tokenize.untokenize(tokens).strip()


def _check(node: ast.AST, depth: int) -> None:
    if depth < 0:
        raise Unsupported("it is nested too deeply")
    for child in ast.iter_child_nodes(node):
        _check(child, depth - 1)


def _is_column(value: Any, *kinds: type) -> bool:
    return isinstance(value, np.ndarray) and value.dtype in kinds


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_exact(value: Any) -> bool:
    """A number that is the same as a float."""
    return _is_number(value) and (isinstance(value, float) or abs(value) <= EXACT)


class _Evaluation(ast.NodeVisitor):
    """Columns, numbers and words; everything that is not spelled out is Unsupported."""

    def __init__(self, columns: Mapping[str, Values]) -> None:
        self._columns = columns

    def generic_visit(self, node: ast.AST) -> Any:
        raise Unsupported(f"{type(node).__name__} is not known here")

    def visit_Name(self, node: ast.Name) -> Any:
        return self._columns[node.id]

    def visit_Constant(self, node: ast.Constant) -> Any:
        value = node.value
        if isinstance(value, str) or _is_exact(value):
            return value
        raise Unsupported(f"{value!r} is not known here")

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.Not | ast.Invert) and _is_column(value, bool):
            return ~value
        if isinstance(node.op, ast.USub) and (_is_number(value) or _is_column(value, np.float64)):
            return -value
        raise Unsupported("this sign is not known here")

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        work = _ARITHMETIC.get(type(node.op))
        sides = self.visit(node.left), self.visit(node.right)
        numbers = all(_is_number(side) or _is_column(side, np.float64) for side in sides)
        if work is None or not numbers or not any(isinstance(side, np.ndarray) for side in sides):
            raise Unsupported("this arithmetic is not known here")
        return work(*sides)

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        parts = [self.visit(value) for value in node.values]
        if not all(_is_column(part, bool) for part in parts):
            raise Unsupported("only conditions are joined here")
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return join.reduce(parts)

    def visit_Compare(self, node: ast.Compare) -> Any:
        if len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
            found = self._is_in(self.visit(node.left), node.comparators[0])
            return found if isinstance(node.ops[0], ast.In) else ~found
        sides = [self.visit(each) for each in (node.left, *node.comparators)]
        parts = [
            self._compared(sign, left, right) for sign, left, right in zip(node.ops, sides[:-1], sides[1:], strict=True)
        ]
        return np.logical_and.reduce(parts)

    @staticmethod
    def _compared(sign: ast.cmpop, left: Any, right: Any) -> Mask:
        compare = _COMPARISONS.get(type(sign))
        if compare is None:
            raise Unsupported("this comparison is not known here")
        sides = (left, right)
        if any(isinstance(side, np.ndarray) for side in sides):
            if all(_is_number(side) or _is_column(side, np.float64) for side in sides):
                return np.asarray(compare(left, right))
            words = all(isinstance(side, str) or _is_column(side, object) for side in sides)
            one_column = sum(isinstance(side, np.ndarray) for side in sides) == 1
            if words and one_column and isinstance(sign, ast.Eq | ast.NotEq):
                return np.asarray(compare(left, right), np.bool_)
        raise Unsupported("these two are not compared here")

    @staticmethod
    def _is_in(value: Any, listed: ast.expr) -> Mask:
        if not isinstance(listed, ast.List | ast.Tuple):
            raise Unsupported("in needs a list")
        wanted = [item.value for item in listed.elts if isinstance(item, ast.Constant)]
        whole = len(wanted) == len(listed.elts)
        if whole and _is_column(value, np.float64) and all(_is_exact(each) for each in wanted):
            return np.isin(value, np.array(wanted, np.float64))
        if whole and _is_column(value, object) and all(isinstance(each, str) for each in wanted):
            known = frozenset(wanted)
            return np.fromiter((each in known for each in value), np.bool_, len(value))
        raise Unsupported("this list is not known here")

    def visit_Call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Attribute) or node.keywords:
            raise Unsupported("this call is not known here")
        value = self.visit(node.func.value)
        if not _is_column(value, np.float64):
            raise Unsupported("this call is not known here")
        if node.func.attr in ("isna", "notna") and not node.args:
            return np.isnan(value) == (node.func.attr == "isna")
        if node.func.attr == "between" and len(node.args) == 2:
            low, high = (self.visit(each) for each in node.args)
            if _is_number(low) and _is_number(high):
                return (value >= low) & (value <= high)
        raise Unsupported("this call is not known here")
