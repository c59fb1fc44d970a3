"""What a policy sees and what it may say: the city as columns at one recorded cut, and proposals for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.kind import Kind, Need

Value: TypeAlias = float | tuple[float, ...]
"""A scalar field's value, or one number per component of a vector field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindView:
    """All twins of one kind at the cut, ``n`` entities: every record with the entity on its last axis.

    ``state`` is the estimate rolled forward to the view's time, ``sd`` its standard deviation in the same
    record; ``command`` is in force, ``desired`` was asked for last (NaN: nothing asked), ``proposed`` is what
    the kind's own ``control`` would set. ``age_s`` counts from the twin's last reading (inf: never heard).
    """

    kind: Kind
    ids: tuple[str, ...]
    attributes: Any
    state: Any
    sd: Any
    command: Any
    desired: Any
    couplings: Any
    proposed: Any | None
    indicators: Mapping[str, Column]
    alerts: Mapping[str, NDArray[np.bool_]]
    needs: Mapping[str, Need]
    age_s: Column
    revision: NDArray[np.int64]
    tags: tuple[Mapping[str, str], ...]
    lat_deg: Column
    lon_deg: Column

    def row(self, entity: str) -> int:
        return self.ids.index(entity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Relations of one name between two kinds, as columns of equal length ``k``.

    ``source`` and ``target`` index the entities of the two KindViews, ``share`` is the part of the effect that
    goes this way (1: all of it), ``delay_s`` how long it takes to arrive.
    """

    source: NDArray[np.intp]
    target: NDArray[np.intp]
    share: Column
    delay_s: Column


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The city as one recorded cut, at ``now_s`` of the city's clock."""

    now_s: float
    kinds: Mapping[str, KindView]
    relations: Mapping[tuple[str, str, str], Links] = field(default_factory=dict)

    def links(self, name: str, source_kind: str, target_kind: str) -> Links:
        """The relations called ``name`` from one kind to another; empty when the scenario has none."""
        nothing = np.zeros(0)
        return self.relations.get(
            (name, source_kind, target_kind),
            Links(source=nothing.astype(np.intp), target=nothing.astype(np.intp), share=nothing, delay_s=nothing),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandTo:
    """An order to one entity's device; it expires ``expires_s`` after it was issued."""

    entity: str
    values: Mapping[str, Value]
    expires_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CoupleTo:
    """What one twin does to another, taking effect ``after_s`` from the decision."""

    entity: str
    values: Mapping[str, Value]
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a policy wants done and why. ``key`` names the matter: it is not decided again for ``cooldown_s``.

    ``because`` names the twins that were decisive (their revision and age go on record with the decision).
    """

    key: str
    reason: str
    effects: tuple[CommandTo | CoupleTo, ...]
    because: tuple[str, ...]
    cooldown_s: float = 60.0
    objective: float | None = None
    bound: float | None = None


Parameters: TypeAlias = Mapping[str, Any]
PolicyFn: TypeAlias = Callable[[View, Parameters], Iterable[Proposal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A rule for the whole city that a scenario switches on by name, with its parameters and their defaults."""

    name: str
    doc: str
    propose: PolicyFn
    defaults: Mapping[str, float | str | bool] = field(default_factory=dict)
