"""How many twins share an actor where a scenario says ``auto``: as many as give each core one actor, but no process for
a handful of them, unless what was measured of a kind says that an actor could not serve or hold so many."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from twin_actors.runtime.measuring import Measured
from twin_actors.runtime.placement import (
    ACTOR_BYTES,
    RESERVED_BYTES,
    WORTH_AN_ACTOR,
    free_memory_bytes,
    unmeasured_size,
)
from twin_actors.scenario.model import Scenario
from twin_actors.store import Store

SIZES_KEY: Final = "placement/sizes"
READING_US = 5.0
"""Time of a reading in its twin actor where it was never measured: more than the 3 µs of docs/benchmarks.md."""
MEASURED_S = 10.0
"""A rate seen for less than this is not gone by."""
RESIZE = 1.5
"""The sizes of the last launch stay until the ideal ones differ by this factor: moving twins costs a launch time."""

Bound = Literal["cores", "small", "rate", "memory", "processes"]


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """How many twins of a kind an actor holds at most, which bound decided that, and from what figures.

    ``cores``: one actor each; ``small``: fewer actors, as each core's would be too small to be worth a process;
    ``rate``: what it serves at its share of a core; ``memory``: what it holds; ``processes``: more actors would not fit
    the memory (the least that are packed).
    """

    twins: int
    bound: Bound
    says: str

    @property
    def measured(self) -> bool:
        return self.bound in ("rate", "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What there is for twin actors: cores, how many processes fit the memory, what one core has of it (bytes), and on
    how many nodes all that is."""

    cores: int
    processes: int
    core_bytes: float
    nodes: int = 1


def capacity_here(taken_bytes: int = RESERVED_BYTES) -> Capacity:
    """Of this machine; ``taken_bytes`` of what is free are needed for something else."""
    cores, free = os.cpu_count() or 1, max(free_memory_bytes() - taken_bytes, 0)
    return Capacity(cores=cores, processes=max(free // ACTOR_BYTES, 1), core_bytes=free / cores)


def capacity_of(nodes: Sequence[tuple[float, int]]) -> Capacity:
    """Of a cluster's nodes, each as (cores, bytes for twin actors). An actor must fit any of them."""
    cores = [max(int(count), 1) for count, _ in nodes]
    return Capacity(
        cores=max(sum(cores), 1),
        processes=max(sum(room // ACTOR_BYTES for _, room in nodes), 1),
        core_bytes=min((room / own for own, (_, room) in zip(cores, nodes, strict=True)), default=0.0),
        nodes=max(len(nodes), 1),
    )


def auto_kinds(scenario: Scenario) -> list[str]:
    """The kinds whose twins are packed as is thought best."""
    return sorted(kind for kind in scenario.kinds_used() if scenario.placement.of(kind) == "auto")


def sizes_for(
    scenario: Scenario, capacity: Capacity, measured: Mapping[str, Measured], before: Mapping[str, Sizing]
) -> dict[str, Sizing]:
    """By kind that is ``auto``; ``before`` is what was chosen last, which stays unless the ideal is clearly another."""
    return {
        kind: _settled(_ideal(scenario, capacity, measured.get(kind)), before.get(kind), _least(scenario, capacity))
        for kind in auto_kinds(scenario)
    }


def _least(scenario: Scenario, capacity: Capacity) -> int:
    return max(1, math.ceil(len(scenario.entities) / capacity.processes))


def _ideal(scenario: Scenario, capacity: Capacity, measured: Measured | None) -> Sizing:
    found = [_unmeasured(len(scenario.entities), capacity)]
    if measured is not None and measured.over_s >= MEASURED_S:
        found += _measured(measured, scenario.placement.core_share, capacity.core_bytes)
    ideal = min(found, key=lambda each: each.twins)  # of equals the first
    least = _least(scenario, capacity)
    if ideal.twins >= least:
        return ideal
    says = f"no more than {capacity.processes} actors of {ACTOR_BYTES / 1e6:.0f} MB fit the memory; else {ideal.says}"
    return Sizing(twins=least, bound="processes", says=says)


def _unmeasured(total: int, capacity: Capacity) -> Sizing:
    twins = unmeasured_size(total, capacity.cores, capacity.nodes)
    if twins == max(1, math.ceil(total / capacity.cores)):
        return Sizing(twins=twins, bound="cores", says=f"{total:,} twins for {capacity.cores} cores, one actor each")
    on = "one machine" if capacity.nodes == 1 else f"{capacity.nodes} nodes"
    return Sizing(twins=twins, bound="small", says=f"{total:,} twins on {on}, up to {WORTH_AN_ACTOR:,} an actor")


def _measured(measured: Measured, core_share: float, core_bytes: float) -> Iterator[Sizing]:
    if measured.of_one > 0.0:
        cost_us = READING_US if measured.reading_us is None else measured.reading_us
        serves = core_share * 1e6 / cost_us / measured.of_one
        yield Sizing(
            twins=max(1, int(min(serves, 2**53))),
            bound="rate",
            says=f"{measured.of_one:.3g} readings/s each, {cost_us:.3g} µs a reading "
            f"({'assumed' if measured.reading_us is None else 'measured'}), {core_share:.3g} of a core",
        )
    if measured.twin_bytes:
        holds = (core_bytes - ACTOR_BYTES) / measured.twin_bytes
        yield Sizing(
            twins=max(1, int(holds)),
            bound="memory",
            says=f"{measured.twin_bytes:,.0f} bytes each, {core_bytes / 1e6:,.0f} MB of memory for each core",
        )


def _settled(ideal: Sizing, before: Sizing | None, least: int) -> Sizing:
    """The size before, while it is still possible and the ideal one is about the same."""
    if before is None or not (ideal.measured or before.measured) or before.twins == ideal.twins:
        return ideal
    if before.twins < least or not before.twins / RESIZE <= ideal.twins <= before.twins * RESIZE:
        return ideal
    bound = ideal.bound if ideal.measured else before.bound
    return Sizing(twins=before.twins, bound=bound, says=f"as before; {ideal.twins} would be ideal: {ideal.says}")


def counts(sizes: Mapping[str, Sizing]) -> dict[str, int]:
    return {kind: sizing.twins for kind, sizing in sizes.items()}


def shown(sizes: Mapping[str, Sizing]) -> str:
    """One line for logs, of those that something measured has decided."""
    return "; ".join(
        f"{kind}: {sizing.twins} twins an actor by {sizing.bound} ({sizing.says})"
        for kind, sizing in sizes.items()
        if sizing.bound not in ("cores", "small")
    )


def kept_sizes(store: Store) -> dict[str, Sizing]:
    """What was chosen last. Raises StoreUnavailable."""
    said = store.get(SIZES_KEY)
    return {} if said is None else msgspec.msgpack.decode(said, type=dict[str, Sizing])


def keep_sizes(store: Store, sizes: Mapping[str, Sizing]) -> None:
    """Raises StoreUnavailable."""
    store.put(SIZES_KEY, msgspec.msgpack.encode(sizes))
