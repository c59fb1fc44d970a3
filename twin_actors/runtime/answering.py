"""Questions about a kind, answered by whoever holds its twins: the columns asked for, of the twins that are meant."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.expressions import Condition, Values
from twin_actors.core.fidelity import FidelityShown, least_covered
from twin_actors.core.kind import Kind

LEAST_COVERED = "coverage_90"
RMSE = "_rmse"


class Words(NamedTuple):
    """A column of words, each sort once: ``words[codes]``."""

    codes: NDArray[np.int32]
    words: NDArray[Any]


class Question(NamedTuple):
    """Which twins, and what of them. ``given`` has what the scenario alone knows and the condition reads."""

    kind: str
    condition: str = ""  # empty: all of them
    columns: tuple[str, ...] | None = None  # None: all there are
    given: Mapping[str, Words | Column] = {}


class Answer(NamedTuple):
    """``columns`` of the twins at the places ``rows`` (None: all), as of a moment of city time.

    ``twins`` and ``checksum`` say which twins, in which order, the places are of.
    """

    twins: int
    checksum: int
    as_of_s: float
    rows: NDArray[np.int32] | None
    columns: Mapping[str, NDArray[Any]]


class Sayable(Protocol):
    """What is known of ``n`` twins: a table's ``Shown``, or the merged view of a kind."""

    @property
    def x(self) -> Column: ...
    @property
    def sd(self) -> Column: ...
    @property
    def command(self) -> Column: ...
    @property
    def desired(self) -> Column: ...
    @property
    def indicators(self) -> Mapping[str, Column]: ...
    @property
    def alerts(self) -> Mapping[str, NDArray[np.bool_]]: ...
    @property
    def age_s(self) -> Column: ...
    @property
    def fidelity(self) -> FidelityShown: ...


def checksum(ids: Sequence[str]) -> int:
    return zlib.crc32("\n".join(ids).encode())


def units_of(kind: Kind) -> dict[str, str]:
    """The units of a kind's columns by name, in the order in which frames have them; alerts have none."""
    units: dict[str, str] = {}
    for layout, suffix in (
        (kind.attributes.layout, ""), (kind.state.layout, ""), (kind.state.layout, "_sd"),
        (kind.command.layout, ""), (kind.command.layout, "_desired"),
    ):  # fmt: skip
        for label, name in zip(layout.labels, layout.field_of_row(), strict=True):
            units[label + suffix] = layout.fields[name].unit
    units.update({shown.name: shown.unit for shown in kind.shows})
    return {**units, "age_s": "s", LEAST_COVERED: "1"}


def rmse_units_of(kind: Kind) -> dict[str, str]:
    """Columns that a frame has only when asked for by name: by how much each reading row differed, with units."""
    layout = kind.reading.layout
    names = zip(layout.labels, layout.field_of_row(), strict=True)
    return {label + RMSE: layout.fields[name].unit for label, name in names}


def columns_of(kind: Kind, attributes: Column, said: Sayable) -> dict[str, NDArray[Any]]:
    """Everything by name, ``(n,)`` each: ``…_sd`` of an estimate, ``…_desired`` of a command, ``alert_…``, and
    ``coverage_90``, how often the 90 % interval of the worst row of late held its readings.

    Where a name stands for two things, an indicator goes before a state, a state before an attribute.
    """
    columns: dict[str, NDArray[Any]] = {}
    for layout, matrix, suffix in (
        (kind.attributes.layout, attributes, ""), (kind.state.layout, said.x, ""), (kind.state.layout, said.sd, "_sd"),
        (kind.command.layout, said.command, ""), (kind.command.layout, said.desired, "_desired"),
    ):  # fmt: skip
        columns.update({label + suffix: row for label, row in zip(layout.labels, matrix, strict=True)})
    for shown in kind.shows:
        if shown.name in said.indicators:
            columns[shown.name] = said.indicators[shown.name]
    columns.update({f"alert_{name}": active for name, active in said.alerts.items()})
    return {**columns, "age_s": said.age_s, LEAST_COVERED: least_covered(said.fidelity)}


def answer(
    question: Question, kind: Kind, ids: Sequence[str], attributes: Column, said: Sayable, as_of_s: float
) -> Answer:
    """Raises Unsupported for a condition that only a whole frame can answer."""
    columns = columns_of(kind, attributes, said)
    known = {**dict(zip(rmse_units_of(kind), said.fidelity.rmse, strict=True)), **columns}

    def column(name: str) -> Values:
        given = question.given.get(name)
        if given is not None:
            return given.words[given.codes] if isinstance(given, Words) else given
        return np.array(ids, object) if name == "entity" and name not in known else known[name]

    rows = None
    if question.condition:
        rows = np.flatnonzero(Condition.of(question.condition).holds(column)).astype(np.int32)
    wanted = columns if question.columns is None else [name for name in question.columns if name in known]
    chosen = {name: known[name] if rows is None else known[name][rows] for name in wanted}
    return Answer(len(ids), checksum(ids), as_of_s, rows, chosen)
