"""The harbour on three nodes, all in one story under load: a node is killed, one joins, the city is evened out and
changed; nothing is lost, every entity's account is exact, and the twins are as the log says that they must be."""

import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.chaos.load import Said
from tests.chaos.reckoning import reckon
from tests.chaos.watching import LedgerWatch
from tests.runtime.cluster_stage import all_up, by_node, launched, stage
from twin_actors.runtime.local import folder_of
from twin_actors.runtime.processes import Record, end_tree
from twin_actors.runtime.reach import mqtt_client
from twin_actors.scenario import load_scenario
from twin_actors.testing.live import eventually
from twin_actors.testing.postgres import why_not
from twin_actors.wire.topics import Topics

pytestmark = [pytest.mark.timeout(400), pytest.mark.skipif(bool(why_not()), reason=why_not() or "there")]
HARBOUR = Path(__file__).parents[2] / "scenarios" / "harbour.yaml"
ROOM = 1_600_000_000
"""Of a node: two of them hold the whole city, one does not."""


class Ear:
    """What the broker has taken of the devices, by entity: heard from before the launch on, and all through."""

    def __init__(self, on, root):
        self._topics, self._lock = Topics(root), threading.Lock()
        self._heard = defaultdict(dict)  # payloads as keys, in the order in which they came; each has its own number
        self._client = mqtt_client(
            on.reach,
            client_id="ear",
            receive=self._receive,
            subscriptions=[(f"{root}/+/+/telemetry", 1)],
        )

    def __enter__(self):
        self._client.start()
        eventually(lambda: self._client.ready, within_s=20)
        return self

    def __exit__(self, *_):
        self._client.close()

    def _receive(self, topic, payload, *_):
        entity, _channel = self._topics.parse(topic)
        with self._lock:
            self._heard[entity].setdefault(bytes(payload), time.time())

    def counts(self):
        with self._lock:
            return {entity: len(payloads) for entity, payloads in self._heard.items()}

    def said(self, *, without):
        """All of it, as a publisher would have noted it that has got its acknowledgements."""
        with self._lock:
            return [
                Said(entity, number, 0, at_s, payload)
                for entity, payloads in self._heard.items()
                for number, (payload, at_s) in enumerate(payloads.items())
                if entity != without
            ]


def changed_harbour(folder):
    """One counter goes, one comes, and a venue is given fewer places."""
    text = HARBOUR.read_text()
    gone = next(line for line in text.splitlines(keepends=True) if "name: town-hall" in line)
    text = text.replace(gone, gone.replace("town-hall", "ferry")).replace(
        "capacity_persons: 8000", "capacity_persons: 7500"
    )
    path = folder / "changed.yaml"
    path.write_text(text)
    return path


@pytest.mark.slow  # 24 actors on four nodes of one machine; the ordinary run has test_cluster_moves and _folders
def test_the_harbour_loses_a_node_gets_another_and_changes_under_load(tmp_path):
    alone = load_scenario([HARBOUR])
    with stage(tmp_path, "harbour", memory=ROOM) as on, Ear(on, alone.root) as ear:
        nodes, layer = on.nodes, on.layer()
        assert len(layer.read_text().splitlines()) == 3
        nodes.add_worker()
        with launched([HARBOUR, layer]) as city:
            assert city.scenario.entities == alone.entities
            assert city.scenario.policies == alone.policies
            first, second, third = nodes.workers
            assert by_node(city) == {first.address: 8, second.address: 8, third.address: 8}
            ledgers = LedgerWatch(city)
            with ledgers.throughout():
                eventually(lambda: city.ledger().applied > 100, within_s=30, says="the devices are heard")

                third.kill_raylet()
                left = {first.address, second.address}
                eventually(lambda: all_up(city, left), within_s=90, says="what stood there is started again elsewhere")
                nodes.workers.remove(third)

                fourth = nodes.add_worker()
                city.rebalance(deadline_s=90)
                eventually(lambda: by_node(city).get(fourth.address) == 8, within_s=60, says="it gets its share")
                eventually(lambda: all_up(city, {*left, fourth.address}), within_s=60)

                change = city.apply([changed_harbour(tmp_path), layer])
                assert (change.added, change.removed) == (("footfall/ferry",), ("footfall/town-hall",))
                assert change.changed == {"venue/market": ("capacity_persons 8000 → 7500",)}
                eventually(lambda: all_up(city, {*left, fourth.address}), within_s=60)
                eventually(lambda: ear.counts().get("footfall/ferry", 0) > 3, within_s=30, says="the new device speaks")

                end_tree(Record.load(folder_of("harbour")).devices)
                found = reckon(city, ear.said(without="footfall/town-hall"), from_log=True)
            by_entity, heard = city.ledger(by="entity"), ear.counts()
            seen = city.frame("venue")
            store = city.plan.open_store()
            letters = store.dead_letters(1000)
            store.close()
        assert found["lost"] == 0, found["lost_shown"]
        assert found["differences"] == 0, found["differences_shown"]
        assert found["ledger_balanced"], found
        assert ledgers.polls > 50
        assert not ledgers.fallen
        assert not ledgers.unbalanced
        assert "footfall/town-hall" not in by_entity
        counted = {entity: part.received - part.duplicate for entity, part in by_entity.items() if entity}
        gone = heard["footfall/town-hall"]
        assert counted == {entity: heard.get(entity, 0) for entity in counted}, "each reading counts once, for its own"
        # its device spoke on for a moment; that is in the account of nobody, and kept
        assert {letter.topic for letter in letters} <= {Topics(alone.root).telemetry("footfall/town-hall")}
        assert by_entity[""].received == by_entity[""].dead_lettered == len(letters) < gone
        assert seen.loc["venue/market", "capacity_persons"] == 7500
