"""The parameters of twins: attributes and noises of each, as the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Of ``n`` entities: ``attributes (rows, n)``, ``sd (reading rows, n)``, ``drift (state rows, n)`` in unit/√h."""

    attributes: Column
    sd: Column
    drift: Column

    @classmethod
    def declared(cls, kind: Kind, attributes: Column) -> Parameters:
        """Those attributes, with the noises that the kind declares."""
        n = attributes.shape[1]
        return cls(
            attributes=attributes,
            sd=np.repeat(kind.reading.layout.per_row("sd"), n, axis=1),
            drift=np.repeat(np.nan_to_num(kind.state.layout.per_row("drift")), n, axis=1),
        )

    def table(self, kind: Kind, ids: Sequence[str]) -> TwinTable:
        """Fresh twins with these parameters."""
        made = TwinTable(kind, ids, self.attributes)
        made.set_noises(self.sd, self.drift)
        return made


def picked(which: NDArray[np.bool_], new: Parameters, old: Parameters) -> Parameters:
    """The new ones of some entities, ``which (n,)``, and the old ones of the others."""
    return Parameters(
        attributes=np.where(which, new.attributes, old.attributes),
        sd=np.where(which, new.sd, old.sd),
        drift=np.where(which, new.drift, old.drift),
    )
