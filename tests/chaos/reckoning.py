"""The reckoning after faults: the ledger at rest, what was lost, and whether the twins are as they must be.

``python -m tests.chaos.reckoning`` reads {"city", "file", "seed", "from_log"} as one line of JSON and prints its
findings about a city that runs on this machine as one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.chaos.load import Said, read_file
from tests.chaos.truth import NOT_OF_THE_FILE, Kept, OfflineTwins, differences, log_of, quarantined
from tests.chaos.watching import NOT_NOW
from twin_actors.core.ledger import Ledger
from twin_actors.runtime.city import City
from twin_actors.store import Store
from twin_actors.testing.live import twins_inside

SETTLED_WITHIN_S: Final = 90.0
SHARES: Final = ("router",)
SHOWN: Final = 20


def ledger_at_rest(city: City, at_least: int, *, within_s: float = SETTLED_WITHIN_S) -> Ledger:
    """The ledger when nothing is under way any more and two looks agree; at the deadline, as it is then."""
    deadline = time.monotonic() + within_s
    ledger, before = Ledger(), Ledger(received=-1)
    while time.monotonic() < deadline:
        try:
            before, ledger = ledger, city.ledger()  # type: ignore[assignment]
        except NOT_NOW:
            continue
        if ledger.in_flight == 0 and ledger == before and ledger.received >= at_least:
            break
        time.sleep(0.5)  # two equal looks apart in time; the loop has a deadline
    return ledger


def reckon(city: City, said: Sequence[Said], *, from_log: bool, forgetful_broker: bool = False) -> dict[str, Any]:
    """All findings. The truth is the publisher's file, or the log where the city's own inputs count (``from_log``).

    Where the broker was killed (``forgetful_broker``) readings that never came to the city are left out of the file.
    """
    taken = [each for each in said if each.acknowledged_s is not None]
    acknowledged = len(taken)
    ledger = ledger_at_rest(city, 0 if forgetful_broker else acknowledged)
    by_entity = city.ledger(by="entity")
    assert isinstance(by_entity, dict)
    unbalanced = [f"{entity or 'nobody'}: {part}" for entity, part in by_entity.items() if not part.balanced]
    store = city.plan.open_store()
    try:
        kept = Kept(city.plan, store, SHARES, gathered={each.entity for each in said if each.gateway})
        lost = kept.lost(said)
        gone = {(each.entity, each.number) for each in lost} if forgetful_broker else set()
        there = [each for each in said if kept.reached_its_twin(each) and (each.entity, each.number) not in gone]
        found = _unlike_truth(city, None if from_log else there, store)
    finally:
        store.close()
    return {
        "ledger": ledger.to_dict(),
        "ledger_balanced": ledger.balanced and ledger.in_flight == 0 and not unbalanced,
        "entities_unbalanced": unbalanced[:SHOWN],
        "published": len(said),
        "acknowledged": acknowledged,
        "gathered": sum(bool(each.gateway) for each in taken),
        "lost": len(lost),
        "lost_shown": [f"{each.entity} {each.number} {each.ts_ms} {each.acknowledged_s}" for each in lost[:SHOWN]],
        "lost_first_acknowledged_s": min((each.acknowledged_s or 0.0 for each in lost), default=None),
        "dead_letters": len(kept.dead),
        "quarantined": kept.withheld,
        "equal_to_truth": not found,
        "differences": len(found),
        "differences_shown": found[:SHOWN],
    }


def _unlike_truth(city: City, said: Sequence[Said] | None, store: Store) -> list[str]:
    """What differs at last from a publisher's readings, or (None) from the log."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    offline = OfflineTwins(city.plan)
    if said is not None:
        offline.feed_file(said)
    read, without = 0, quarantined(store, SHARES[0])
    while True:
        if said is None:
            fresh = list(log_of(city.plan.log(store, SHARES[0]), read))
            offline.feed(each for each in fresh if each[0] not in without)
            read = fresh[-1][0] + 1 if fresh else read
        found = differences(offline.twins, twins_inside(city), without=NOT_OF_THE_FILE)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)  # inputs may still be on their way; the loop has a deadline


def main() -> int:
    orders = json.loads(sys.stdin.readline())
    findings_to = os.dup(1)
    os.dup2(2, 1)  # whatever Ray or anybody prints must not stand between the findings
    with City.connect(orders["city"]) as city:
        said = list(read_file(Path(orders["file"]), orders["seed"]))
        findings = reckon(
            city, said, from_log=orders["from_log"], forgetful_broker=orders.get("forgetful_broker", False)
        )
    with os.fdopen(findings_to, "w") as output:
        output.write(json.dumps(findings) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
