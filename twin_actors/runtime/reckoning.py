"""The router's answers about its accounts: the ledger of every entity, and how the twin actors stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray

from twin_actors.core.ledger import Ledger
from twin_actors.runtime.links import Links
from twin_actors.runtime.routing import Routing

Ask = Callable[[Callable[[], Any]], Any]


def ledger_by_entity(ask: Ask, routing: Routing, links: Links, deadline_s: float) -> dict[str, Ledger]:
    """One ledger per entity, and one under "" for readings of nobody.

    Everything counted on arrival and every reading not known to be applied are taken at one moment in the router's
    thread, with the calls to the twin actors. Calls of one sender to one actor run in order, so an actor asked at
    this moment answers for all that was sent to it before; what it has applied beyond is known by its offset.
    """

    def now() -> tuple[Any, ...] | None:
        if not links.caught_up:
            return None  # its own counts are behind those that are known of it
        accounts = routing.accounts
        asked = {name: link.handle.fates_by_entity.remote() for name, link in links.links.items() if link.handle}
        nobody = Ledger(received=accounts.received_by_nobody, dead_lettered=accounts.dead_by_nobody)
        arrivals = list(accounts.received), list(accounts.dead), list(accounts.shed)
        return (*arrivals, nobody, list(routing.on_their_way()), asked)

    deadline = time.monotonic() + deadline_s
    while (taken := ask(now)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError("a twin actor is still applying again what it had applied; ask a little later")
        time.sleep(0.05)  # a pause between two looks, bounded by the deadline
    received, dead, shed, nobody, waiting, asked = taken
    answers = dict(zip(asked, ray.get(list(asked.values()), timeout=deadline_s), strict=True))
    fates = {entity: fate for _, by_entity in answers.values() for entity, fate in by_entity.items()}
    reached = {name: offset for name, (offset, _) in answers.items()}
    in_flight: dict[int, int] = {}
    for share, offset, number, readings in waiting:
        if offset > reached.get(share, -1):
            in_flight[number] = in_flight.get(number, 0) + readings
    ledgers = {"": nobody}
    for number, entity in enumerate(routing.entities):
        applied, duplicate, late, rejected = fates.get(entity, (0, 0, 0, 0))
        ledgers[entity] = Ledger(
            received=received[number],
            applied=applied,
            duplicate=duplicate,
            late=late,
            dead_lettered=rejected + dead[number],
            shed=shed[number],
            in_flight=in_flight.get(number, 0),
        )
    return ledgers


def standing(routing: Routing, links: Links) -> dict[str, Any]:
    """How every twin actor stands with the router, for status lines."""
    shares = [link.share for link in links.links.values()]
    return {
        "rejected_fields": sum(share.outcomes.rejected_fields for share in shares),
        "missing_upstream": sum(share.outcomes.missing_upstream for share in shares),
        "quarantined": sum(len(share.quarantined) for share in shares),
        "actors": {
            link.share.name: {
                "standing": link.standing.value,
                "caught_up": link.caught_up,
                "epoch": link.share.epoch,
                "router_epoch": routing.epoch,
                "received": routing.received_by(link.share),
                "applied": link.share.outcomes.applied,
                "offset": link.share.reached,
                "snapshot_offset": link.snapshot_offset,
                "waiting": link.share.load,
                "under_way": link.share.inputs_under_way,
                "held_back": len(link.share.held),
                "shed": link.share.shed,
                "busy_s": link.share.busy_s,
                "resent": link.share.resent,
                "failures": link.failures,
                "quarantined": len(link.share.quarantined),
                "last_error": link.last_error,
            }
            for link in links.links.values()
        },
    }


def summed_by(kinds: Sequence[str], counts: Sequence[int]) -> dict[str, int]:
    """The sum of each kind's counts; both have one place an entity."""
    names, codes = np.unique(np.array(kinds, dtype=np.str_), return_inverse=True)
    sums = np.zeros(len(names), np.int64)
    np.add.at(sums, codes, np.array(counts, np.int64))
    return dict(zip(names.tolist(), sums.tolist(), strict=True))
