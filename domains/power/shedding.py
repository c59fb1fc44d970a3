"""The policy ``shed_load``: blocks off for a hot transformer, a low voltage or a feeder, and on again after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domains.power import loading, thermal
from domains.power.feeders import close_within_room, open_for_feeder
from domains.power.records import BLOCK, SubstationAttributes, SubstationCommand, SubstationState
from twin_actors.core.columns import Column
from twin_actors.core.view import CommandTo, KindView, Parameters, Policy, Proposal, View

KIND = "substation"
FEEDS = "feeds"


def blocks_to_open(shed: Column, block_mw: Column, block_priority: Column, excess_mw: Column) -> Column:
    """Breaker positions ``(5, n)`` after disconnecting blocks until ``excess_mw (n,)`` is gone.

    Lowest priority first (equal priorities: b1 first), each block whole, none where nothing is in excess.
    ``shed (5, n)`` are the positions now; blocks without load are left as they are. If all blocks together are
    too little, all are disconnected.
    """
    order = np.argsort(block_priority, axis=0, kind="stable")
    connected_mw = np.take_along_axis(block_mw * (1.0 - shed), order, axis=0)
    gone_before_mw = np.cumsum(connected_mw, axis=0) - connected_mw
    opens = (connected_mw > 0.0) & (gone_before_mw < excess_mw)
    return _placed(shed, order, opens, 1.0)


def blocks_to_close(shed: Column, block_mw: Column, block_priority: Column, room_mw: Column) -> Column:
    """Breaker positions ``(5, n)`` after reconnecting blocks in the reverse order while they fit ``room_mw``.

    Highest priority first (equal priorities: b5 first), each block whole. The order is strict: a block that does
    not fit keeps those of lower priority waiting.
    """
    order = np.argsort(block_priority, axis=0, kind="stable")[::-1]
    disconnected_mw = np.take_along_axis(block_mw * shed, order, axis=0)
    closes = (disconnected_mw > 0.0) & (np.cumsum(disconnected_mw, axis=0) <= room_mw)
    return _placed(shed, order, closes, 0.0)


def _placed(shed: Column, order: NDArray[np.intp], chosen: NDArray[np.bool_], position: float) -> Column:
    """``shed`` with the blocks that are chosen, given in ``order``, put to ``position``."""
    in_order = np.take_along_axis(shed, order, axis=0)
    result = np.empty_like(shed)
    np.put_along_axis(result, order, np.where(chosen, position, in_order), axis=0)
    return result


@dataclass(frozen=True, slots=True)
class Margins:
    """MW ``(n,)`` that must go from a substation, and MW that may come back; at most one of the two is positive."""

    excess_mw: Column
    room_mw: Column


def thermal_margins(
    state: SubstationState,
    attributes: SubstationAttributes,
    command: SubstationCommand,
    *,
    hot: NDArray[np.bool_],
    cool: NDArray[np.bool_],
    target_k: float,
    restore_k: float,
) -> Margins:
    """Where ``hot (n,)``: load above what keeps the steady-state hot spot ``target_k`` under its limit at the present
    ambient. Where ``cool (n,)`` and not hot: load that would still keep it ``restore_k`` under."""
    rated = loading.rated_mw(attributes)
    planned = state.demand_mw + state.transfer_mw + command.tie_mw - loading.ordered_shed_mw(attributes, command)

    def permissible_mw(margin_k: float) -> Column:
        limit_c = attributes.hot_spot_limit_c - margin_k
        return thermal.permissible_load_factor(limit_c, state.ambient_temp_c, attributes) * rated

    return Margins(
        excess_mw=np.where(hot, planned - permissible_mw(target_k), 0.0),
        room_mw=np.where(cool & ~hot, permissible_mw(restore_k) - planned, 0.0),
    )


def voltage_margins(
    voltage_pu: Column, attributes: SubstationAttributes, limit_pu: float, target_pu: float, restore_pu: float
) -> Margins:
    """Load to shed where the voltage is below ``limit_pu`` until it is ``target_pu``, by the sag at rated load.

    Under-voltage shedding moves V by sag_pu·ΔP/P_rated; load comes back while V stays above ``restore_pu``. A grid
    voltage that is low for other reasons is not mended by that: all blocks may go and it is still low.
    """
    mw_per_pu = loading.rated_mw(attributes) / np.maximum(attributes.sag_pu, 1e-3)
    return Margins(
        excess_mw=np.where(voltage_pu < limit_pu, (target_pu - voltage_pu) * mw_per_pu, 0.0),
        room_mw=np.maximum(voltage_pu - restore_pu, 0.0) * mw_per_pu,
    )


def plan_blocks(
    attributes: SubstationAttributes, command: SubstationCommand, heat: Margins, voltage: Margins | None = None
) -> Column:
    """Breaker positions ``(5, n)`` wanted for ``n`` substations by their own margins.

    With ``restore_k`` ≥ ``target_k`` no block that was just shed fits back at the same demand.
    """
    excess_mw, room_mw = heat.excess_mw, heat.room_mw
    if voltage is not None:
        excess_mw = np.maximum(excess_mw, voltage.excess_mw)
        room_mw = np.where(excess_mw > 0.0, 0.0, np.minimum(room_mw, voltage.room_mw))
    blocks = (attributes.block_mw, attributes.block_priority)
    opened = blocks_to_open(command.block_shed, *blocks, excess_mw)
    closed = blocks_to_close(command.block_shed, *blocks, room_mw)
    return np.where(excess_mw > 0.0, opened, closed)


def plan_for_feeders(seen: KindView, view: View, wanted: Column, heat: Margins) -> Column:
    """``wanted`` changed for the substations that others feed (relation ``feeds``): no feeder is overloaded by them.

    What the hot feeder sheds of its own blocks counts first. Feeders are looked at in the order of the scenario.
    """
    links = view.links(FEEDS, KIND, KIND)
    blocks = (seen.attributes.block_mw, seen.attributes.block_priority)
    shed = seen.command.block_shed
    for feeder in np.unique(links.source):
        fed = np.unique(links.target[links.source == feeder])
        own_mw = float(((wanted - shed)[:, feeder] * blocks[0][:, feeder]).sum())
        excess_mw = float(heat.excess_mw[feeder]) - own_mw
        if heat.excess_mw[feeder] > 0.0:
            wanted = open_for_feeder(shed, wanted, *blocks, fed, excess_mw)
        else:
            wanted = close_within_room(shed, wanted, *blocks, fed, float(heat.room_mw[feeder]) + own_mw)
    return wanted


def shed_load(view: View, parameters: Parameters) -> Iterable[Proposal]:
    """One proposal per substation whose breakers should change; see ``SHED_LOAD`` for the parameters."""
    seen = view.kinds.get(KIND)
    if seen is None or not seen.ids:
        return []
    limit_k, target_k = float(parameters["limit_k"]), float(parameters["target_k"])
    restore_k = float(parameters["restore_k"])
    if restore_k < target_k or restore_k < limit_k:
        raise ValueError(
            f"shed_load: restore_k = {restore_k:g} must not be below target_k = {target_k:g} or limit_k = "
            f"{limit_k:g}: blocks would be shed and restored in turn"
        )
    volts = [float(parameters[name]) for name in ("voltage_limit_pu", "voltage_target_pu", "voltage_restore_pu")]
    if volts != sorted(volts):
        raise ValueError(
            f"shed_load: voltage_limit_pu, voltage_target_pu and voltage_restore_pu must rise, not {volts}: "
            "blocks would be shed and restored in turn"
        )
    heard = seen.age_s <= float(parameters["max_age_s"])
    margin_k = seen.indicators["hot_spot_margin_k"]
    latched = seen.alerts["hot_transformer"]
    hot = heard & (latched | (margin_k < limit_k))
    cool = heard & ~latched & (margin_k >= restore_k)
    heat = thermal_margins(
        seen.state, seen.attributes, seen.command, hot=hot, cool=cool, target_k=target_k, restore_k=restore_k
    )
    voltage = voltage_margins(seen.state.voltage_pu, seen.attributes, *volts)
    voltage = Margins(np.where(heard, voltage.excess_mw, 0.0), np.where(heard, voltage.room_mw, 0.0))
    wanted = plan_for_feeders(seen, view, plan_blocks(seen.attributes, seen.command, heat, voltage), heat)
    changed = np.flatnonzero((wanted != seen.command.block_shed).any(axis=0))
    return [_proposal(seen, int(row), wanted[:, row], float(parameters["cooldown_s"])) for row in changed]


def _proposal(seen: KindView, row: int, wanted: Column, cooldown_s: float) -> Proposal:
    entity = seen.ids[row]
    moved = wanted - seen.command.block_shed[:, row]
    moved_mw = moved * seen.attributes.block_mw[:, row]
    names = ", ".join(label for label, change in zip(BLOCK.labels, moved, strict=True) if change != 0.0)
    hot_spot_c = seen.indicators["hot_spot_temp_c"][row]
    limit_c = seen.attributes.hot_spot_limit_c[row]
    verb = "disconnect" if moved_mw.sum() > 0.0 else "reconnect"
    return Proposal(
        key=f"shed_load:{entity}",
        reason=(
            f"hot spot {hot_spot_c:.1f} °C, limit {limit_c:.0f} °C, heading for "
            f"{seen.indicators['steady_hot_spot_temp_c'][row]:.1f} °C, {seen.state.voltage_pu[row]:.2f} pu: "
            f"{verb} {names} "
            f"({abs(moved_mw.sum()):.1f} MW)"
        ),
        effects=(CommandTo(entity=entity, values={"block_shed": tuple(float(share) for share in wanted)}),),
        because=(entity,),
        cooldown_s=cooldown_s,
        objective=float((wanted * seen.attributes.block_mw[:, row]).sum()),
    )


SHED_LOAD = Policy(
    name="shed_load",
    doc=(
        "Disconnects blocks of a transformer whose hot spot is above its limit (or nearer to it than limit_k), "
        "lowest block_priority first, until the steady-state hot spot is target_k under the limit. Reconnects them "
        "in reverse order once the hot spot, now and in steady state with the block, is restore_k under the limit. "
        "A voltage below voltage_limit_pu sheds as well, until it is expected at voltage_target_pu. A substation that "
        "feeds others (relation feeds) has their blocks shed too, the least important of all first. "
        "Twins not heard of for max_age_s are left alone. The objective on record is the load disconnected in MW."
    ),
    propose=shed_load,
    defaults={
        "limit_k": 0.0,
        "target_k": 2.0,
        "restore_k": 15.0,
        "voltage_limit_pu": 0.88,
        "voltage_target_pu": 0.92,
        "voltage_restore_pu": 0.94,
        "max_age_s": 900.0,
        "cooldown_s": 60.0,
    },
)
