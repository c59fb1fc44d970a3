"""A city of substations as a policy sees it."""

from __future__ import annotations

from typing import Any

import numpy as np

from domains.power.records import (
    SubstationAttributes,
    SubstationCommand,
    SubstationCouplings,
    SubstationState,
    SubstationWindows,
)
from domains.power.substation import SUBSTATION, indicators, needs
from twin_actors.core.columns import Column
from twin_actors.core.view import KindView, Links, View


def links(*pairs: tuple[int, int], share: float = 1.0) -> Links:
    source, target = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    return Links(source=source, target=target, share=np.full(len(pairs), share), delay_s=np.zeros(len(pairs)))


def city(
    demand_mw: list[float],
    *,
    attributes: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    command: SubstationCommand | None = None,
    windows: SubstationWindows | None = None,
    alerts: dict[str, list[bool]] | None = None,
    age_s: list[float] | None = None,
    relations: dict[tuple[str, str, str], Links] | None = None,
) -> View:
    """Substations of 38 MW each at 20 °C, with what a test does not care about at its default."""
    n = len(demand_mw)

    def columns(values: dict[str, Any]) -> dict[str, Column]:
        return {name: np.broadcast_to(np.asarray(value, dtype=np.float64), (n,)) for name, value in values.items()}

    constants = SubstationAttributes.defaults(n)
    vectors = {name: np.asarray(v) for name, v in (attributes or {}).items() if np.ndim(v) == 2}
    scalars = {name: v for name, v in (attributes or {}).items() if np.ndim(v) != 2}
    constants = constants.replace(**vectors, **columns(scalars))
    now = SubstationState.defaults(n).replace(demand_mw=np.array(demand_mw), **columns(state or {}))
    in_force = SubstationCommand.defaults(n) if command is None else command
    shown = indicators(now, constants, in_force, SubstationWindows.defaults(n) if windows is None else windows)
    raised = {alert.name: np.zeros(n, np.bool_) for alert in SUBSTATION.alerts}
    raised["hot_transformer"] = shown["hot_spot_margin_k"] < 0
    raised |= {name: np.array(active) for name, active in (alerts or {}).items()}
    return View(
        now_s=1.78e9,
        kinds={
            "substation": KindView(
                kind=SUBSTATION,
                ids=tuple(f"substation/{i}" for i in range(n)),
                attributes=constants,
                state=now,
                sd=now,
                command=in_force,
                desired=in_force,
                proposed=None,
                couplings=SubstationCouplings.defaults(n),
                indicators=shown,
                alerts=raised,
                needs=needs(now, constants, shown),
                age_s=np.zeros(n) if age_s is None else np.array(age_s),
                revision=np.zeros(n, np.int64),
                tags=({},) * n,
                lat_deg=np.zeros(n),
                lon_deg=np.zeros(n),
            )
        },
        relations=relations or {},
    )
