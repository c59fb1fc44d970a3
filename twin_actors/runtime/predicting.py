"""A twin's forecast from its recorded history: ``City.history`` in, ``Predicted`` out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from twin_actors.core.forecasts import Predicted, predicted_field
from twin_actors.core.kind import Kind

if TYPE_CHECKING:
    import pandas as pd

USABLE = ("good", "late")
"""Qualities of readings that a forecast rests on. A late one was too late for the twin; here it is in place."""


def predicted_from_history(
    kind: Kind,
    label: str,
    frame: pd.DataFrame,
    *,
    now_s: float,
    horizons_s: Sequence[float],
    period_s: float | None = None,
) -> Predicted:
    """Forecast the reading row ``label`` (``field`` or ``field[component]``) of the entity whose history is ``frame``.

    ``frame`` is what ``City.history`` returns with ``resolution="raw"``: times as its index, ``value``, ``quality``,
    and ``component`` where the field has several. Raises KeyError for an unknown row and ValueError for a history that
    is too short; the text says how many periods are needed.
    """
    import pandas as pd

    use = frame["quality"].isin(USABLE)
    if "component" in frame:
        use &= frame["component"] == label
    chosen = frame[use]
    at_s = (pd.DatetimeIndex(chosen.index) - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(1, "s")
    return predicted_field(
        kind,
        label,
        at_s=np.asarray(at_s, dtype=np.float64),
        entity=np.zeros(len(chosen), np.intp),
        values=chosen["value"].to_numpy(dtype=np.float64),
        entities=1,
        now_s=now_s,
        horizons_s=horizons_s,
        period_s=period_s,
    )
