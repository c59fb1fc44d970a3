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
from tests.chaos.load import read_file, scenario_text
from tests.chaos.publisher import Load
from tests.chaos.reckoning import SHOWN, reckon
from tests.chaos.watching import LedgerWatch, LivesWatch, Watch
from twin_actors.runtime.city import City
from twin_actors.scenario import load_scenario

WHOLE_WITHIN_S: Final = 90.0


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
                rate=self.orders["rate"], seed=self.orders["seed"], gateways=self.orders["gateways"],
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
                published_all = load.stop()
                said = list(read_file(load.path, load.seed))
                found = reckon(
                    city,
                    said,
                    from_log=self.orders["policies"],
                    forgetful_broker="kill_broker" in self.orders["faults"],
                )
            twice = commands.sent_twice() if commands else {}
            self.findings |= found | {
                "published_all": published_all,
                "polls": ledgers.polls,
                "monotone": not ledgers.fallen,
                "fallen": ledgers.fallen[:SHOWN],
                "unbalanced_polls": len(ledgers.unbalanced),
                "unbalanced": ledgers.unbalanced[:SHOWN],
                "commands": commands.heard if commands else 0,
                "duplicated_commands": len(twice),
                "duplicated_shown": [f"{key}: {ids}" for key, ids in list(twice.items())[:SHOWN]],
            }
            self._say(found)
        return self.findings

    def _say(self, found: dict[str, Any]) -> None:
        leg = self.orders["leg"]
        tell(
            f"leg {leg}: {found['acknowledged']:,} readings acknowledged, {found['gathered']:,} of them in messages of "
            f"gateways, {found['lost']} lost, "
            f"{self.findings['commands']} commands, {found['differences']} differences to the truth, {found['ledger']}"
        )
        for name in ("differences_shown", "lost_shown", "entities_unbalanced", "fallen", "unbalanced"):
            for line in self.findings[name][:5]:
                tell(f"leg {leg}: {name}: {line}")

    @contextlib.contextmanager
    def _launched(self, *, store: str, cluster: str, broker: str) -> Iterator[City]:
        orders = self.orders
        text = scenario_text(
            self.name, twins=orders["twins"], per_actor=orders["per_actor"], policies=orders["policies"],
            store=store, cluster=cluster, broker=broker,
        )  # fmt: skip
        tell(f"leg {orders['leg']}: launching {orders['twins']} twins, {len(orders['faults'])} faults to come")
        path = self.folder / f"{self.name}.yaml"
        path.write_text(text)
        city = City.launch(load_scenario([path]))
        try:
            yield city
        finally:
            city.down()

    def _stage(self, stack: contextlib.ExitStack) -> Stage:
        orders = self.orders
        if not orders["cluster"]:
            city = stack.enter_context(self._launched(store="", cluster="", broker=""))
            return Stage(city, self.random)
        from tests.chaos.nodes import NetworkBroker, Nodes
        from twin_actors.testing.postgres import postgres_server

        nodes = stack.enter_context(Nodes(apart=orders["network"]))
        server = stack.enter_context(postgres_server())
        if nodes.link is not None:
            self._open_to_others(server, nodes.link)
        broker = stack.enter_context(NetworkBroker(self.folder / "broker", nodes.link.host if nodes.link else ""))
        store = server.url("chaos")
        city = stack.enter_context(
            self._launched(store=store, cluster=nodes.address, broker=f"mqtt://{nodes.host}:{broker.port}")
        )
        return Stage(city, self.random, store_server=server, nodes=nodes, own_broker=broker)

    @staticmethod
    def _open_to_others(server: Any, link: Any) -> None:
        """Let hosts behind the link reach the database as well."""
        server.stop()
        with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {link.host}/24 scram-sha-256\n")
        server.host = link.host
        server.start()

    def _fault(self, kind: str, stage: Stage, watch: Watch, load: Load) -> None:
        watch.wait_whole(time.time(), within_s=WHOLE_WITHIN_S)
        names = ["router", "aggregator", "controller", *watch.twin_actors]
        lives = LivesWatch(stage.pids(*names))
        with lives.throughout():
            damage = EVERY_FAULT[kind](stage)
            recovery_s, missing = watch.wait_whole(
                damage.at_s, within_s=WHOLE_WITHIN_S, renewed=damage.renewed, began=damage.began
            )
        assert load.running, "the publisher has ended"
        overlap_s = lives.overlap_s(watch.first_seen)
        self.faults.append(
            {
                "kind": kind,
                "recovery_s": recovery_s,
                "overlap_s": overlap_s,
                "missing": missing,
                "actors_hit": sorted(damage.renewed),
            }
        )
        said = f"whole after {recovery_s:.1f} s" if recovery_s is not None else f"NOT WHOLE: {missing}"
        tell(f"leg {self.orders['leg']}: {len(self.faults)}/{len(self.orders['faults'])} {kind}: {said}")


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
