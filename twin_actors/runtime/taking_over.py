"""What a launch takes over from the city's earlier life: lasting numbers, twins, clock, the routers' queues."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from twin_actors.runtime.driving import Progress
from twin_actors.runtime.numbering import numbers_for
from twin_actors.runtime.placement import LaunchRefused
from twin_actors.runtime.plan import ROUTER, CityPlan, Plan
from twin_actors.runtime.repacking import PLAN_KEY, KeptPlan, repack, same_packing
from twin_actors.runtime.sessions import divide_anew
from twin_actors.runtime.sizing import Sizing, keep_sizes
from twin_actors.runtime.stores import StoreAddress
from twin_actors.scenario.catalogue import load_catalogue
from twin_actors.scenario.model import Scenario
from twin_actors.store import LogTrimmed, Store, StoreDamaged, StoreUnavailable
from twin_actors.wire.client import BrokerUnreachable

log = logging.getLogger(__name__)


@contextmanager
def opened(where: StoreAddress, city: str) -> Iterator[Store]:
    """The store for the length of a with-block. Raises LaunchRefused when it cannot be used."""
    try:
        store = where.open()
    except (StoreUnavailable, StoreDamaged, ValueError) as error:
        raise LaunchRefused(f"the store of {city} cannot be used: {error}") from error
    try:
        yield store
    finally:
        store.close()


def take_over(
    where: StoreAddress, scenario: Scenario, plan: Plan, sizes: Mapping[str, Sizing], tell: Progress
) -> tuple[Plan, CityPlan | None, float | None]:
    """The plan with lasting numbers, the city before it, and when that stopped (None, None for a new city).

    Where entities or packing have changed since, the twins of the earlier life move to their new places; ``sizes`` are
    kept for the next launch. Raises LaunchRefused when the store cannot be used.
    """
    with opened(where, scenario.city) as store:
        try:
            return _taken_over(store, where, scenario, plan, sizes, tell)
        except (StoreUnavailable, StoreDamaged, LogTrimmed, ValueError) as error:
            raise LaunchRefused(
                f"what {scenario.city} has kept in {where.shown} cannot be taken over: {error}. Launch it under "
                f"another name, or begin anew with 'twin-actors down --volumes {scenario.city}', which deletes what it "
                "holds"
            ) from error


def _taken_over(
    store: Store, where: StoreAddress, scenario: Scenario, plan: Plan, sizes: Mapping[str, Sizing], tell: Progress
) -> tuple[Plan, CityPlan | None, float | None]:
    said, before = store.get(PLAN_KEY), None
    catalogue = load_catalogue()
    ids = [entity.id for entity in scenario.entities]
    if said is None:
        known = {entity: number for number, entity in enumerate(ids)}
    else:
        kept = msgspec.msgpack.decode(said, type=KeptPlan)
        before = kept.plan(catalogue, where.url)
        numbers, known = numbers_for(ids, kept.known)
        if known != {entity: number for number, entity in enumerate(ids)}:
            plan = msgspec.structs.replace(plan, numbers=numbers)
        now = CityPlan(scenario, plan, catalogue)
        if not same_packing(before, now):
            tell("moving twins to their new places", 0, 1)
            moved = repack(store, before, now)
            tell(f"{len(moved.kept)} twins kept, {len(moved.added)} new, {len(moved.removed)} gone", 1, 1)
    store.put(PLAN_KEY, msgspec.msgpack.encode(KeptPlan.of(scenario, plan, known)))
    keep_sizes(store, sizes)
    return plan, before, _stopped_s(store)


def divide_routers(where: StoreAddress, before: CityPlan, now: CityPlan) -> None:
    if before.routers == now.routers == (ROUTER,) and before.scenario.fleets == now.scenario.fleets:
        return
    store = where.open()
    try:
        left = divide_anew(store, before, now)
    except BrokerUnreachable as error:
        raise LaunchRefused(f"the routers of {now.scenario.city} cannot share their topics anew: {error}") from error
    finally:
        store.close()
    if left:
        log.warning("%d messages that waited for a router that is no more are dead letters now: replay them", left)


def _stopped_s(store: Store) -> float | None:
    """The newest moment that the logs know of."""
    moments = []
    for share in store.shares():
        logged = store.log(share)
        last = logged.read(logged.next_offset - 1, 1) if logged.next_offset > logged.kept_from else []
        snapshot = store.load_snapshot(share)
        moments += [entry.received_at_s for _, entry in last] + ([snapshot.at_s] if snapshot else [])
    return max(moments, default=None)
