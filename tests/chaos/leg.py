"""One leg of a chaos run, a process of its own: a city, a load, faults one after another, then the reckoning.

``python -m tests.chaos.leg`` reads its orders as one line of JSON and prints its findings as one.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.chaos.commands import CommandWatch
from tests.chaos.faults import EVERY_FAULT, Stage
from tests.chaos.load import Said, read_file, scenario_text
from tests.chaos.publisher import Load
from tests.chaos.truth import NOT_OF_THE_FILE, Kept, OfflineTwins, differences, log_of, quarantined
from tests.chaos.watching import NOT_NOW, LedgerWatch, LivesWatch, Watch
from twin_actors.core.ledger import Ledger
from twin_actors.runtime.city import City
from twin_actors.scenario import load_scenario
from twin_actors.store import Store
from twin_actors.testing.live import twins_inside

WHOLE_WITHIN_S: Final = 90.0
SETTLED_WITHIN_S: Final = 90.0
SHARES: Final = ("router",)
SHOWN: Final = 20


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Leg:
    """The course of one leg; ``findings`` fills as it goes."""

    def __init__(self, orders: dict[str, Any], folder: Path) -> None:
        self.orders, self.folder = orders, folder
        self.name = f"chaos-{orders['leg']}-{os.getpid()}"
        self.random = Random(f"{orders['seed']}/{orders['leg']}")
        self.faults: list[dict[str, Any]] = []
        self.findings: dict[str, Any] = {"leg": orders["leg"], "faults": self.faults}

    def run(self) -> dict[str, Any]:
        with contextlib.ExitStack() as stack:
            stage = self._stage(stack)
            city = stage.city
            commands = stack.enter_context(CommandWatch(city)) if self.orders["policies"] else None
            load = Load(
                self.folder / "published", reach=city.plan.broker, root=city.scenario.root, entities=city.ids,
                rate=self.orders["rate"], seed=self.orders["seed"],
            )  # fmt: skip
            stack.callback(load.kill)
            watch = Watch(city)
            _, missing = watch.wait_whole(time.time(), within_s=WHOLE_WITHIN_S)
            if missing:
                raise RuntimeError(f"the city was not whole before the first fault: {missing}")
            ledgers = LedgerWatch(city)
            with ledgers.throughout():
                for kind in self.orders["faults"]:
                    self._fault(kind, stage, watch, load)
                settled = self._settle(city, load)
            self.findings |= {
                "polls": ledgers.polls,
                "monotone": not ledgers.fallen,
                "fallen": ledgers.fallen[:SHOWN],
                "unbalanced_polls": len(ledgers.unbalanced),
                "unbalanced": ledgers.unbalanced[:SHOWN],
                "published_all": settled,
            }
            self._reckon(city, load, commands)
        return self.findings

    @contextlib.contextmanager
    def _launched(self, text: str) -> Iterator[City]:
        path = self.folder / f"{self.name}.yaml"
        path.write_text(text)
        city = City.launch(load_scenario([path]))
        try:
            yield city
        finally:
            city.down()

    def _stage(self, stack: contextlib.ExitStack) -> Stage:
        orders = self.orders
        server = nodes = None
        store, cluster = orders["store"], ""
        if orders["cluster"]:
            from tests.chaos.nodes import Nodes
            from twin_actors.testing.postgres import PostgresServer

            server = PostgresServer(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-pg-"))))
            server.start()
            stack.callback(server.stop)
            nodes = stack.enter_context(Nodes(apart=orders["network"]))
            store, cluster = server.url("chaos"), nodes.address
        text = scenario_text(
            self.name, twins=orders["twins"], per_actor=orders["per_actor"], policies=orders["policies"],
            store=store, cluster=cluster,
        )  # fmt: skip
        tell(f"leg {orders['leg']}: launching {orders['twins']} twins, {len(orders['faults'])} faults to come")
        city = stack.enter_context(self._launched(text))
        return Stage(city, self.random, store_server=server, nodes=nodes)

    def _fault(self, kind: str, stage: Stage, watch: Watch, load: Load) -> None:
        watch.wait_whole(time.time(), within_s=WHOLE_WITHIN_S)
        names = ["router", "aggregator", "controller", *watch.twin_actors]
        lives = LivesWatch({name: pid for name, pid in stage.pids(*names).items()})
        with lives.throughout():
            damage = EVERY_FAULT[kind](stage)
            recovery_s, missing = watch.wait_whole(
                damage.at_s, within_s=WHOLE_WITHIN_S, renewed=damage.renewed, began=damage.began
            )
        assert load.running, "the publisher has ended"
        overlap_s = lives.overlap_s(watch.first_seen)
        self.faults.append({"kind": kind, "recovery_s": recovery_s, "overlap_s": overlap_s, "missing": missing})
        said = f"whole after {recovery_s:.1f} s" if recovery_s is not None else f"NOT WHOLE: {missing}"
        tell(f"leg {self.orders['leg']}: {len(self.faults)}/{len(self.orders['faults'])} {kind}: {said}")

    def _settle(self, city: City, load: Load) -> bool:
        """End the load and wait until no reading is under way any more."""
        all_acknowledged = load.stop()
        acknowledged = sum(each.acknowledged_s is not None for each in read_file(load.path, load.seed))
        deadline = time.monotonic() + SETTLED_WITHIN_S
        ledger, before = Ledger(), Ledger(received=-1)
        while time.monotonic() < deadline:
            try:
                before, ledger = ledger, city.ledger()  # type: ignore[assignment]
            except NOT_NOW:
                continue
            if ledger.in_flight == 0 and ledger == before and ledger.received >= acknowledged:
                break
            time.sleep(0.5)  # two equal looks apart in time; the loop has a deadline
        self.findings["ledger"] = ledger.to_dict()
        return all_acknowledged

    def _reckon(self, city: City, load: Load, commands: CommandWatch | None) -> None:
        said = list(read_file(load.path, load.seed))
        by_entity = city.ledger(by="entity")
        assert isinstance(by_entity, dict)
        unbalanced = [f"{entity or 'nobody'}: {part}" for entity, part in by_entity.items() if not part.balanced]
        self.findings |= {
            "published": len(said),
            "acknowledged": sum(each.acknowledged_s is not None for each in said),
            "ledger_balanced": bool(self.findings["ledger"]["balanced"]) and not unbalanced,
            "entities_unbalanced": unbalanced[:SHOWN],
        }
        store = city.plan.open_store()
        try:
            kept = Kept(city.plan, store, SHARES)
            lost = kept.lost(said)
            self.findings["lost"] = len(lost)
            self.findings["lost_shown"] = [f"{each.entity} {each.number} {each.ts_ms}" for each in lost[:SHOWN]]
            self.findings["dead_letters"] = len(kept.dead)
            found = self._unlike_truth(city, [each for each in said if not kept.is_dead(each)], lost, store)
        finally:
            store.close()
        self.findings["equal_to_truth"] = not found
        self.findings["differences"] = found[:SHOWN]
        twice = commands.sent_twice() if commands else {}
        self.findings["commands"] = commands.heard if commands else 0
        self.findings["duplicated_commands"] = len(twice)
        self.findings["duplicated_shown"] = [f"{key}: {ids}" for key, ids in list(twice.items())[:SHOWN]]
        tell(
            f"leg {self.orders['leg']}: {self.findings['acknowledged']:,} readings acknowledged, {len(lost)} lost, "
            f"{self.findings['commands']} commands, {len(found)} differences to the truth"
        )

    def _unlike_truth(self, city: City, said: list[Said], lost: list[Said], store: Store) -> list[str]:
        """What differs at last: from the publisher's file, or, where policies are at work, from the log."""
        deadline = time.monotonic() + SETTLED_WITHIN_S
        gone = {(each.entity, each.number) for each in lost} if "kill_broker" in self.orders["faults"] else set()
        offline = OfflineTwins(city.plan)
        if not self.orders["policies"]:
            offline.feed_file(each for each in said if (each.entity, each.number) not in gone)
        read, without = 0, quarantined(store, SHARES[0])
        while True:
            if self.orders["policies"]:
                fresh = [each for each in log_of(store.log(SHARES[0]), read) if each[0] not in without]
                offline.feed(fresh)
                read = fresh[-1][0] + 1 if fresh else read
            found = differences(offline.twins, twins_inside(city), without=NOT_OF_THE_FILE)
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.2)  # inputs may still be on their way; the loop has a deadline


def main() -> int:
    orders = json.loads(sys.stdin.readline())
    findings_to = os.dup(1)
    os.dup2(2, 1)  # whatever Ray or anybody prints must not stand between the findings
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        os.environ["TWIN_ACTORS_HOME"] = str(Path(folder) / "home")
        findings = Leg(orders, Path(folder)).run()
    with os.fdopen(findings_to, "w") as output:
        output.write(json.dumps(findings) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
