"""One field of one twin, from what its device has said to what it will say; the kind's own model competes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twin_actors.core.cleaning import Quality
from twin_actors.core.forecasts import Predicted, RollOut, predicted_field
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.runtime.past import Readings
from twin_actors.runtime.plan import attribute_matrix, noise_matrices
from twin_actors.scenario.model import Entity
from twin_actors.wire.identity import time_key

USABLE = (Quality.GOOD, Quality.LATE)
"""Qualities that a forecast rests on. A late reading was too late for the twin; here it is in place."""


def predicted_from_readings(
    kind: Kind,
    label: str,
    said: Readings,
    *,
    now_s: float,
    horizons_s: Sequence[float],
    period_s: float | None = None,
    entity: Entity | None = None,
) -> Predicted:
    """Forecast the reading row ``label`` (``field`` or ``field[component]``) of the entity whose device said ``said``.

    With the scenario's ``entity`` its own model, rolled out from the same readings, competes with the other methods.
    Raises KeyError for an unknown row and ValueError for a history that is too short; the text says how many periods
    are needed.
    """
    labels = kind.reading.layout.labels
    if label not in labels:
        raise KeyError(f"{kind.name} has no reading row {label!r}: {', '.join(labels)}")
    row = labels.index(label)
    use = np.isin(said.quality[row], USABLE) & np.isfinite(said.values[row])
    return predicted_field(
        kind,
        label,
        at_s=said.observed_at_s[use],
        entity=np.zeros(np.count_nonzero(use), np.intp),
        values=said.values[row][use],
        entities=1,
        now_s=now_s,
        horizons_s=horizons_s,
        period_s=period_s,
        more_methods=[rolled_out(kind, entity, said, [label])] if entity is not None else (),
    )


def rolled_out(kind: Kind, entity: Entity, said: Readings, labels: Sequence[str]) -> RollOut:
    """The twin's own model as a method: everything that its device has said, with the parameters of the scenario."""
    at_s = said.observed_at_s
    history = Batch(
        rows=np.zeros(len(at_s), np.intp),
        observed_at_s=at_s,
        values=said.values,
        keys=np.array([time_key(0, one) for one in at_s.tolist()], dtype=np.int64),
    )
    return RollOut(
        kind=kind, ids=(entity.id,), attributes=attribute_matrix(kind, [entity]), history=history,
        fields=tuple(labels), noises=noise_matrices(kind, [entity]) if entity.sd or entity.drift else None,
    )  # fmt: skip
