"""Intersections and roads as columns, with what a test does not care about at its default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from domains.traffic import DOMAIN
from twin_actors.core.kind import Indicators, Kind, Step

AT_S = 1_780_000_000.0


@dataclass
class Bench:
    """The records of ``n`` entities of one kind, moved by its ``predict``."""

    kind: Kind
    n: int
    state: Any
    attributes: Any
    command: Any
    couplings: Any

    def set(self, record: str, **fields: Any) -> Bench:
        """Set fields of a record; one number per component is repeated for every entity."""
        old = getattr(self, record)
        shaped = {}
        for name, value in fields.items():
            column = np.asarray(value, dtype=np.float64)
            if column.ndim == 1 and old.layout.fields[name].shape == column.shape:
                column = column[:, None]
            shaped[name] = np.broadcast_to(column, getattr(old, name).shape).copy()
        setattr(self, record, old.replace(**shaped))
        return self

    def step(self, dt_s: float) -> None:
        step = Step(dt_s=np.full(self.n, dt_s), at_s=np.full(self.n, AT_S))
        self.state = self.kind.predict(self.state, self.attributes, self.command, self.couplings, step)

    def indicators(self) -> Indicators:
        windows = self.kind.windows.of_block(np.full((self.kind.windows.layout.rows, self.n), np.nan))
        return self.kind.indicators(self.state, self.attributes, self.command, windows)

    def records(self) -> Mapping[str, Any]:
        return {name: getattr(self, name) for name in ("state", "attributes", "command", "couplings")}


def make_bench(kind_name: str, n: int = 1) -> Bench:
    kind = next(kind for kind in DOMAIN.kinds if kind.name == kind_name)
    return Bench(
        kind=kind,
        n=n,
        state=kind.state.defaults(n),
        attributes=kind.attributes.defaults(n),
        command=kind.command.defaults(n),
        couplings=kind.couplings.defaults(n),
    )


@pytest.fixture(scope="session")
def bench() -> Callable[..., Bench]:
    return make_bench


@pytest.fixture(scope="session")
def only() -> Callable[..., np.ndarray]:
    """Eight numbers, zero but for the named movements: ``only(nt=450)``."""
    labels = ("nl", "nt", "el", "et", "sl", "st", "wl", "wt")

    def numbers(**named: float) -> np.ndarray:
        return np.array([named.get(label, 0.0) for label in labels])

    return numbers
