"""The policy ``hold_gates``: fewer gates open before a venue is full, and where stewards should stand."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from domains.venues.pedestrians import LEVELS
from twin_actors.core.view import CommandTo, KindView, Parameters, Policy, Proposal, View

KIND = "venue"


def propose(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """A command for each venue whose gates should change, and words for each that needs stewards; fullest first."""
    seen = view.kinds.get(KIND)
    if seen is None or seen.proposed is None or not seen.ids:
        return
    heard = seen.age_s <= float(parameters["max_age_s"])
    fill = seen.indicators["fill"]
    wanted = np.round(seen.proposed.gates_open, 2)
    now = seen.command.gates_open
    opens_wholly = (wanted >= 1.0) & (now < 1.0)
    differs = heard & ((np.abs(wanted - now) >= float(parameters["change_min"])) | opens_wholly)
    for row in np.flatnonzero(differs)[np.argsort(-fill[differs], kind="stable")].tolist():
        entity = seen.ids[row]
        verb = "open" if wanted[row] > now[row] else "hold back at"
        yield Proposal(
            key=f"hold_gates/{entity}",
            reason=f"{entity} is {fill[row]:.0%} full ({_crowd(seen, row)}): {verb} {wanted[row]:.0%} of the gates",
            effects=(
                CommandTo(
                    entity=entity,
                    values={"gates_open": float(wanted[row])},
                    expires_s=float(parameters["expires_s"]),
                ),
            ),
            because=(entity,),
            cooldown_s=float(parameters["cooldown_s"]),
            objective=float(fill[row]),
        )
    crowded = heard & (seen.indicators["los_queuing"] >= LEVELS.index(str(parameters["stewards_from_level"])))
    for row in np.flatnonzero(crowded)[np.argsort(-fill[crowded], kind="stable")].tolist():
        entity, inside = seen.ids[row], float(seen.indicators["occupancy_persons"][row])
        stewards = int(np.ceil(inside / seen.attributes.persons_per_steward[row]))
        yield Proposal(
            key=f"hold_gates/{entity}/stewards/{_level(seen, row)}",
            reason=(
                f"{entity}: {_crowd(seen, row)}: {stewards} stewards for {inside:.0f} persons; all are out in "
                f"{seen.indicators['egress_s'][row] / 60.0:.0f} min if they must"
            ),
            effects=(),
            because=(entity,),
            cooldown_s=float(parameters["cooldown_s"]),
            objective=float(stewards),
        )


def _level(seen: KindView, row: int) -> str:
    return LEVELS[int(seen.indicators["los_queuing"][row])]


def _crowd(seen: KindView, row: int) -> str:
    return f"{seen.indicators['density_per_m2'][row]:.1f} persons/m², level {_level(seen, row)} of waiting"


HOLD_GATES = Policy(
    name="hold_gates",
    doc=(
        "Sets the share of entry gates that the venue's own control proposes where it differs by change_min, and says "
        "how many stewards a crowd of stewards_from_level (Fruin, waiting) or worse needs."
    ),
    propose=propose,
    defaults={
        "change_min": 0.1,
        "stewards_from_level": "D",
        "max_age_s": 300.0,
        "expires_s": 120.0,
        "cooldown_s": 120.0,
    },
)
