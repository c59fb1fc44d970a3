"""What a table shows of its twins at a moment, and whether a second look would show anything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.fidelity import DRIFTS, FidelityShown
from twin_actors.core.kind import Need
from twin_actors.core.monitoring import monitor

if TYPE_CHECKING:
    from twin_actors.core.table import TwinTable


@dataclass(frozen=True, slots=True)
class Shown:
    """Every twin of a table as it is at ``now_s``, ``n`` columns each; nothing of it is written back."""

    now_s: float
    x: Column
    sd: Column
    command: Column
    desired: Column
    couplings: Column
    indicators: Mapping[str, Column]
    alerts: Mapping[str, NDArray[np.bool_]]
    needs: Mapping[str, Need]
    proposed: Column | None
    age_s: Column
    revision: NDArray[np.int64]
    fidelity: FidelityShown


def only(shown: Shown, column: int) -> Shown:
    """One twin of those shown."""

    def one(array: NDArray[Any]) -> NDArray[Any]:
        return array[..., column : column + 1].copy()

    return Shown(
        now_s=shown.now_s,
        x=one(shown.x),
        sd=one(shown.sd),
        command=one(shown.command),
        desired=one(shown.desired),
        couplings=one(shown.couplings),
        indicators={name: one(values) for name, values in shown.indicators.items()},
        alerts={name: one(active) for name, active in shown.alerts.items()},
        needs={
            resource: Need(amount=one(need.amount), urgency=one(need.urgency), duration_s=one(need.duration_s))
            for resource, need in shown.needs.items()
        },
        proposed=None if shown.proposed is None else one(shown.proposed),
        age_s=one(shown.age_s),
        revision=one(shown.revision),
        fidelity=FidelityShown(
            rmse=one(shown.fidelity.rmse), covered=one(shown.fidelity.covered), drifting=one(shown.fidelity.drifting)
        ),
    )


class Rolled(NamedTuple):
    """State, variance, and commands and couplings in force of all twins at some moments, each ``(rows, n)``."""

    x: Column
    variance: Column
    command: Column
    couplings: Column


class Stamp(NamedTuple):
    """What a table had taken in and found when it showed itself at ``at_s``; see ``unchanged``."""

    inputs: int
    turns: int
    at_s: float


def show(table: TwinTable, now_s: float, *, with_control: bool) -> Shown:
    """See ``TwinTable.show``."""
    kind, n = table.kind, len(table)
    until_s = np.maximum(table.time_s, now_s)
    x, variance, command, couplings = table.rolled(until_s)
    state, attributes = kind.state.of_block(x), kind.attributes.of_block(table.attributes)
    in_force = kind.command.of_block(command)
    windows = table.windows.at(until_s)
    indicators = {
        name: np.array(np.broadcast_to(column, (n,)), dtype=np.float64)  # its own: a row would keep all its matrix
        for name, column in kind.indicators(state, attributes, in_force, windows).items()
    }
    scalars = {name: x[place.start] for name, place in kind.state.layout.places.items()}
    constants = {name: table.attributes[place.start] for name, place in kind.attributes.layout.places.items()}
    latches = monitor(kind.alerts, {**scalars, **indicators}, constants, table.latches, now_s)
    table.turns += not np.array_equal(latches.active, table.latches.active)
    table.latches = latches
    proposed = None
    if with_control and kind.control is not None:
        proposed = kind.control(state, attributes, in_force, indicators).block((n,))
    fidelity = FidelityShown.of(table.fidelity)
    alerts = {alert.name: latches.active[row].copy() for row, alert in enumerate(kind.alerts)}
    return Shown(
        now_s=now_s,
        x=x,
        sd=np.sqrt(np.maximum(variance, 0.0)),
        command=command,
        desired=table.desired.copy(),
        couplings=couplings,
        indicators=indicators,
        alerts={**alerts, DRIFTS.name: fidelity.drifting},
        needs={} if kind.needs is None else kind.needs(state, attributes, indicators),
        proposed=proposed,
        age_s=np.where(np.isfinite(table.heard_at_s), now_s - table.heard_at_s, np.inf),
        revision=table.revision.copy(),
        fidelity=fidelity,
    )


def stamp(table: TwinTable, at_s: float) -> Stamp:
    """To be taken right after ``show`` at ``at_s``."""
    return Stamp(int(table.revision.sum()), table.turns, at_s)


def unchanged(table: TwinTable, known: Stamp, now_s: float) -> bool:
    """Whether ``show`` at ``now_s`` would show, but for ages, what it did when ``known`` was taken.

    So it is when no input has come and no twin has time to be rolled through: twins that have never heard anything,
    or a clock that stands. An alert that waits for its time (``for_s``) keeps a table from being unchanged.
    """
    if known[:2] != (int(table.revision.sum()), table.turns) or now_s < known.at_s:
        return False
    if now_s == known.at_s:
        return True
    waiting = ~np.isnan(table.latches.since_s) & ~table.latches.active
    rolling = np.isfinite(table.time_s) & (table.time_s < now_s)
    return not rolling.any() and not waiting.any()
