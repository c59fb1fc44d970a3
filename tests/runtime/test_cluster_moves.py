"""Twin actors on a cluster of real nodes: spread, moved to one that joins, off those that leave, under load."""

import contextlib
import os
import signal
import time

import msgspec
import pytest

from tests.chaos.load import read_file
from tests.chaos.reckoning import reckon
from tests.chaos.watching import LedgerWatch, sights
from tests.runtime.cluster_stage import by_node, launched, load_on, stage
from twin_actors.runtime.city import City, LaunchRefused
from twin_actors.runtime.relocating import Stranded
from twin_actors.runtime.whereabouts import MOVES_KEY
from twin_actors.scenario import load_scenario
from twin_actors.testing.live import devices_of, eventually, settled
from twin_actors.testing.postgres import why_not

pytestmark = [pytest.mark.timeout(280), pytest.mark.skipif(bool(why_not()), reason=why_not() or "there")]
TWINS, PER_ACTOR = 24, 4


def stranded(city):
    return city.status()["controller"]["moves"]["stranded"]


def intents(store):
    return msgspec.msgpack.decode(store.get(MOVES_KEY) or b"\x80")


def test_spread_join_drain_and_leave_under_load(tmp_path):
    with contextlib.ExitStack() as stack:
        on = stack.enter_context(stage(tmp_path, "moves"))
        nodes = on.nodes
        city = stack.enter_context(launched([on.write(on.text(twins=TWINS, per_actor=PER_ACTOR))]))
        first, second = nodes.workers
        assert by_node(city) == {first.address: 3, second.address: 3}
        assert set(city.actors()["address"]) == {first.address, second.address}

        load = stack.enter_context(load_on(city, tmp_path / "published", seed=7))
        ledgers = LedgerWatch(city)
        store = city.plan.open_store()
        stack.callback(store.close)
        with ledgers.throughout():
            third = nodes.add_worker()
            eventually(lambda: by_node(city).get(third.address) == 2, within_s=60, says="the new node gets its share")
            eventually(lambda: not city.status()["controller"]["moves"]["under_way"], within_s=30)
            assert set(city.moves()["outcome"]) == {"finished"}
            eventually(lambda: city.rebalance(dry_run=True).empty, within_s=30, says="nothing more to move")

            # the controller is killed in the middle of a drain: the next one brings it to an end
            (controller,) = sights(city, ["controller"]).values()
            city._call("controller", "drain", second.address, False)
            eventually(lambda: intents(store), within_s=20, says="a move is noted before it is begun")
            os.kill(controller.pid, signal.SIGKILL)
            city.drain(second.address, deadline_s=60)
            assert by_node(city)[second.address] == 0
            assert not intents(store)
            assert city.drain(second.address, undo=True).loc[second.ray_id, "state"] == "open"
            city.rebalance(deadline_s=60)  # the new controller may have begun to by itself
            even = {first.address: 2, second.address: 2, third.address: 2}
            eventually(lambda: by_node(city) == even, within_s=60, says="the opened node gets its share again")

            began = time.monotonic()
            third.leave()
            eventually(lambda: not third.lives, within_s=40, says="the node ends when it is empty")
            assert time.monotonic() - began < 30, "it did not have to wait for Ray's own deadline"
            eventually(lambda: sum(by_node(city).values()) == 6 and third.address not in by_node(city), within_s=20)
            drained = city.moves(20)
            assert set(drained[drained["source"] == third.ray_id]["outcome"]) == {"finished"}
            assert load.running
            assert load.stop()
            found = reckon(city, list(read_file(load.path, load.seed)), from_log=False, forgetful_broker=False)
        assert found["lost"] == 0
        assert found["differences"] == 0, found["differences_shown"]
        assert not found["entities_unbalanced"]
        assert not ledgers.fallen
        assert not ledgers.unbalanced
        actors = city.actors()
        assert not actors["quarantined"].any()


@pytest.mark.slow
def test_labels_are_obeyed_by_launch_death_and_drain(tmp_path):
    """A kind that wants zone=east stands there, comes back there when its node dies, and is stranded without one."""
    with contextlib.ExitStack() as stack:
        on = stack.enter_context(stage(tmp_path, "labelled"))
        nodes, text = on.nodes, on.text(twins=10, per_actor=2)
        more = "labels: {substation: {zone: [east, south]}}, rebalance: manual"
        text = text.replace("entities_per_actor: 2", f"entities_per_actor: 2, {more}")
        path = on.write(text)
        with pytest.raises(LaunchRefused, match=r"zone=east or south; the labels there are: none"):
            City.launch(load_scenario([path]))

        east = nodes.add_worker("zone=east")
        path.write_text(text.replace("entities_per_actor: 2", "entities_per_actor: auto"))
        with City.launch(load_scenario([path])) as packed:
            assert len(packed.actors()) == 3, "up to four twins each for three nodes, those with labels apart"
            packed.down(volumes=True)
        path.write_text(text)
        city = stack.enter_context(launched([path]))
        (labelled,) = [name for name, kinds in city.actors()["kinds"].items() if "substation" in kinds]

        def address():
            return city.actors().loc[labelled, "address"]

        assert address() == east.address
        with devices_of(city) as devices:
            devices.say("substation/s-001", {"load_mw": 7.0})
            devices.flush()
            settled(city, 1)
            with pytest.raises(Stranded, match=labelled):
                city.drain(east.address, deadline_s=30)
            assert address() == east.address
            assert city["substation/s-001"].reported.load_mw == 7.0
            south = nodes.add_worker("zone=south")  # the drain goes on by itself
            eventually(lambda: address() == south.address, within_s=30)
            city.drain(east.address, undo=True)

            south.kill_raylet()
            eventually(lambda: address() == east.address, within_s=60, says="Ray starts it again where it may stand")
            devices.say("substation/s-001", {"load_mw": 8.0})
            devices.flush()
            ledger = settled(city, 2)
            assert ledger.balanced
            assert ledger.applied == 2
            eventually(lambda: city["substation/s-001"].reported.load_mw == 8.0)


@pytest.mark.slow
def test_other_labels_move_twin_actors_of_a_running_city(tmp_path):
    """Who finds no node with the new labels stays and says so, and goes by itself when one joins; nothing is lost."""
    with contextlib.ExitStack() as stack:
        on = stack.enter_context(stage(tmp_path, "relabelled"))
        nodes, text = on.nodes, on.text(twins=10, per_actor=2)
        text = text.replace(
            "entities_per_actor: 2", "entities_per_actor: 2, labels: {substation: {zone: east}}, rebalance: manual"
        )
        east = nodes.add_worker("zone=east")
        path = on.write(text)
        city = stack.enter_context(launched([path]))
        (labelled,) = [name for name, kinds in city.actors()["kinds"].items() if "substation" in kinds]

        def address():
            return city.actors().loc[labelled, "address"]

        assert address() == east.address
        with devices_of(city) as devices:
            devices.say("substation/s-001", {"load_mw": 7.0})
            devices.flush()
            ledger = settled(city, 1)
            path.write_text(text.replace("zone: east", "zone: north"))
            shown = city.apply(path, dry_run=True)
            assert shown.stranded == {labelled: east.address}
            assert f"! {labelled} stays on {east.address}" in "\n".join(shown.lines())
            assert city.apply(path).stranded == {labelled: east.address}
            eventually(lambda: stranded(city) == [labelled], within_s=20)
            assert {each.value for each in city.metrics() if each.metric.name.endswith("stranded_actors")} == {1}
            assert address() == east.address
            pid = city.actors().loc[labelled, "pid"]
            north = nodes.add_worker("zone=north")
            eventually(lambda: address() == north.address, within_s=30, says="it goes where its labels are")
            eventually(lambda: not stranded(city), within_s=20)
            last = city.moves(1).iloc[0]
            assert (last["actor"], last["why"], last["outcome"]) == (labelled, "labels", "finished")

            path.write_text(text)
            shown = city.apply(path, dry_run=True)
            assert shown.moves == {labelled: (north.address, east.address)}
            others = city.actors()["pid"].drop(labelled)
            assert city.apply(path).moves == shown.moves
            eventually(lambda: address() == east.address, within_s=30)
            actors = city.actors()["pid"]
            assert actors.drop(labelled).to_dict() == others.to_dict(), "nobody else is touched"
            assert actors[labelled] != pid
            assert settled(city, 1) == ledger
            assert city["substation/s-001"].reported.load_mw == 7.0
            ended = {each.values[1:]: each.value for each in city.metrics() if "moves_ended" in each.metric.name}
            assert ended["moved", "as_planned"] == 2, "to the north, and back"
            held = {each.values[1]: each.value for each in city.metrics() if each.metric.name.endswith("node_twins")}
            assert sum(held.values()) == 10
            assert held[east.address] >= 2


@pytest.mark.slow
def test_the_same_over_a_network(tmp_path):
    """A node in a network namespace of its own is emptied, filled again and left, under load."""
    from tests.chaos.nodes import why_no_network

    if why_no_network():
        pytest.skip(why_no_network())
    with contextlib.ExitStack() as stack:
        on = stack.enter_context(stage(tmp_path, "apart", apart=True))
        nodes = on.nodes
        city = stack.enter_context(launched([on.write(on.text(twins=TWINS, per_actor=PER_ACTOR))]))
        apart = nodes.apart
        assert sorted(by_node(city).values()) == [2, 2, 2]
        load = stack.enter_context(load_on(city, tmp_path / "published", seed=8))
        city.drain(apart.address, deadline_s=60)
        assert by_node(city)[apart.address] == 0
        city.drain(apart.address, undo=True)
        city.rebalance(deadline_s=60)
        eventually(lambda: by_node(city)[apart.address] == 2, within_s=60, says="it gets its share again")
        apart.leave()
        eventually(lambda: not apart.lives, within_s=40, says="the node ends when it is empty")
        eventually(lambda: sum(by_node(city).values()) == 6, within_s=20)
        assert load.stop()
        found = reckon(city, list(read_file(load.path, load.seed)), from_log=False)
        assert found["lost"] == 0
        assert found["differences"] == 0, found["differences_shown"]
        assert found["ledger_balanced"], found["entities_unbalanced"]
