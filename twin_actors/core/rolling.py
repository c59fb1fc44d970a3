"""The dynamic equation x̂(t) = f(S, x̂(t−1), u(t)): rolling states through time under inputs that may lapse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.kind import Kind, Step
from twin_actors.core.layout import Layout
from twin_actors.core.places import Places

MOST_STEPS = 1440
"""A silence is rolled through in at most this many steps, however long it was: a day at a minute each."""


@dataclass(slots=True)
class Held:
    """Inputs in force ``(rows, n)``, each until a moment at which it falls back to its default."""

    value: Column
    until_s: Column
    default: Column  # (rows, 1), the same for all
    hold_s: Column  # (rows, 1)

    @classmethod
    def defaults(cls, layout: Layout, n: int) -> Self:
        default = layout.per_row("default")
        value = np.repeat(default, n, axis=1)
        return cls(value, np.full_like(value, np.inf), default, layout.per_row("hold_s"))

    def gather(self, place: Places) -> Self:
        return type(self)(self.value[:, place], self.until_s[:, place], self.default, self.hold_s)

    def scatter(self, place: Places, part: Held) -> None:
        self.value[:, place] = part.value
        self.until_s[:, place] = part.until_s

    def put(self, twins: NDArray[np.intp], values: Column, at_s: Column) -> None:
        """Take values into force at ``at_s (b,)``; NaN leaves what is there."""
        said = ~np.isnan(values)
        self.value[:, twins] = np.where(said, values, self.value[:, twins])
        self.until_s[:, twins] = np.where(said, at_s + self.hold_s, self.until_s[:, twins])

    def lapse(self, at_s: Column) -> Self:
        """The same inputs with those past their time back at their defaults."""
        over = self.until_s <= at_s
        if not over.any():
            return self
        return type(self)(
            np.where(over, self.default, self.value),
            np.where(over, np.inf, self.until_s),
            self.default,
            self.hold_s,
        )

    def next_lapse_s(self) -> Column:
        return self.until_s.min(axis=0) if len(self.until_s) else np.full(self.until_s.shape[1], np.inf)


def roll(
    kind: Kind,
    x: Column,
    attributes: Column,
    command: Held,
    coupling: Held,
    since_s: Column,
    until_s: Column,
    *,
    points: bool = False,
) -> tuple[Column, Held, Held]:
    """Move states ``(S, b)`` or ``(S, samples, b)`` from ``since_s`` to ``until_s`` (``(b,)`` each), without chance.

    Steps end where an input lapses and are never longer than the kind's ``max_step_s`` (longer only where a
    silence would take more than MOST_STEPS). All records of a call are lifted to the shape of ``x`` together.
    ``points``: the samples are a filter's points (see Step), and ``x`` is overwritten.
    """
    lift = (slice(None),) + (None,) * (x.ndim - 2)
    tail = x.shape[1:]
    lifted_attributes = kind.attributes.of_block(attributes[lift])
    longest_s = np.maximum(kind.max_step_s, (until_s - since_s) / MOST_STEPS)
    now_s = since_s
    lapse_s = np.minimum(command.next_lapse_s(), coupling.next_lapse_s())
    while True:
        if (lapse_s <= now_s).any():
            command, coupling = command.lapse(now_s), coupling.lapse(now_s)
            lapse_s = np.minimum(command.next_lapse_s(), coupling.next_lapse_s())
        ahead = now_s < until_s
        if not ahead.any():
            return x, command, coupling
        stop_s = np.minimum(until_s, lapse_s)
        rest_s = np.where(ahead, stop_s - now_s, 0.0)
        pieces = np.maximum(np.ceil(rest_s / longest_s - 1e-9), 1.0)
        then_s = np.where(ahead, np.where(pieces <= 1, stop_s, now_s + rest_s / pieces), now_s)
        dt_s = then_s - now_s  # not rest/pieces: rounded moments must add up to the time that has passed
        now_s = then_s
        moved = kind.predict(
            kind.state.of_block(x),
            lifted_attributes,
            kind.command.of_block(command.value[lift]),
            kind.couplings.of_block(coupling.value[lift]),
            Step(dt_s=dt_s, at_s=now_s, points=points),
        )
        if ahead.all():
            x = moved.block(tail, into=x if points else None)  # points are made to be moved: nobody else has them
        else:
            x = np.where(ahead, moved.block(tail), x)
