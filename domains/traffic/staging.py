"""The city-wide rule for signals driven stage by stage: after every new observation, the stage to show next."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from domains.traffic import signal, stages
from twin_actors.core.view import CommandTo, KindView, Parameters, Policy, Proposal, View

AHEAD_S = 1e-3
"""A twin further ahead of the view than this has news that the view's time does not cover yet."""


def due_rows(seen: KindView, fresh_s: float) -> NDArray[np.intp]:
    """Signals whose newest reading is covered by the view's time and at most ``fresh_s`` old."""
    return np.flatnonzero((seen.age_s >= -AHEAD_S) & (seen.age_s <= fresh_s))


def choose(seen: KindView, rows: NDArray[np.intp], at_s: float, parameters: Parameters) -> stages.Stages:
    """The next stage ``(len(rows),)`` of some signals by the rule that the parameters name.

    Raises ValueError for an unknown rule.
    """
    state = signal.State.of_block(seen.state.block((len(seen.ids),))[:, rows])
    attributes = signal.Attributes.of_block(seen.attributes.block((len(seen.ids),))[:, rows])
    rule = str(parameters["rule"])
    if rule == "look_ahead":
        return stages.look_ahead(
            stages.Outlook(
                near_veh=state.near_veh,
                far_veh=np.maximum(state.count_veh - state.near_veh, 0.0),
                arrival_vph=state.arrival_vph,
                box_veh=state.box_veh,
                exit_share=state.exit_share,
                saturation_vph=attributes.saturation_vph,
                serves=attributes.serves,
                stage=state.stage,
                stage_s=state.stage_s,
                lost_time_s=attributes.lost_time_s,
                min_green_s=attributes.min_green_s,
                max_green_s=attributes.max_green_s,
            ),
            interval_s=float(parameters["interval_s"]),
            intervals=int(parameters["intervals"]),
            full=signal.FULL,
        )
    if rule == "max_pressure":
        downstream_veh = state.exit_share * attributes.storage_veh
        return stages.max_pressure(
            state.queue_veh, downstream_veh, attributes.saturation_vph, attributes.serves, state.stage
        )
    if rule == "max_wave":
        return stages.max_wave(state.near_veh, attributes.serves, state.stage)
    if rule == "sotl":
        return stages.sotl(
            state.red_veh_s,
            np.maximum(state.near_veh - state.queue_veh, 0.0),
            attributes.serves,
            state.stage,
            state.stage_s,
            threshold_veh_s=float(parameters["threshold_veh_s"]),
            min_green_s=attributes.min_green_s,
            platoon_veh=float(parameters["platoon_veh"]),
        )
    if rule == "fixed":
        return stages.fixed_time(at_s, attributes.serves, float(parameters["green_s"]))
    raise ValueError(f"signal_stages knows no rule {rule!r}; use look_ahead, max_pressure, max_wave, sotl or fixed")


def propose_signal_stages(view: View, parameters: Parameters) -> Iterator[Proposal]:
    """A stage for every signal that has reported since the last decision on it.

    A signal decides on its own newest reading, so that an outside city in lock step gets an answer to each
    observation; with ``answer_all`` also where the stage stays as it is.
    """
    seen = view.kinds.get(signal.SIGNAL.name)
    if seen is None:
        return
    rows = due_rows(seen, float(parameters["fresh_s"]))
    if not len(rows):
        return
    chosen = choose(seen, rows, view.now_s, parameters)
    shows = np.rint(seen.state.stage[rows])
    for row, stage, now in zip(rows.tolist(), chosen.tolist(), shows.tolist(), strict=True):
        if stage == now and not parameters["answer_all"]:
            continue
        entity = seen.ids[row]
        waiting = seen.indicators["waiting_veh"][row]
        verb = "keep" if stage == now else "show"
        yield Proposal(
            key=f"stage:{entity}",
            reason=f"{verb} stage {stage} by {parameters['rule']}: {waiting:.0f} vehicles stand",
            effects=(
                CommandTo(
                    entity=entity,
                    values={"stage": float(stage), "clearance_s": float(parameters["clearance_s"])},
                    expires_s=float(parameters["expires_s"]),
                ),
            ),
            because=(entity,),
            cooldown_s=0.5 * float(parameters["interval_s"]),
        )


SIGNAL_STAGES = Policy(
    name="signal_stages",
    doc="The next stage of signals by look_ahead, max_pressure (Varaiya 2013), max_wave, sotl or fixed.",
    propose=propose_signal_stages,
    defaults={
        "rule": "look_ahead",
        "interval_s": 10.0,
        "intervals": 4.0,
        "clearance_s": 0.0,
        "answer_all": False,
        "fresh_s": 5.0,
        "expires_s": 30.0,
        "threshold_veh_s": 60.0,
        "platoon_veh": 3.0,
        "green_s": 30.0,
    },
)
