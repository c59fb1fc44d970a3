"""A city on nodes that share no folder with its launch: the plan reaches every actor through Ray."""

import contextlib
import os
import signal

import pytest

from tests.chaos.nodes import why_nothing_hidden
from tests.chaos.watching import sights
from tests.runtime.cluster_stage import launched, stage
from twin_actors.runtime.city import City
from twin_actors.runtime.local import folder_of
from twin_actors.runtime.plan import NEXT_FILE, PLAN_FILE, CityPlan
from twin_actors.runtime.processes import home
from twin_actors.runtime.shelf import RayShelf
from twin_actors.scenario import edits
from twin_actors.testing.live import devices_of, eventually, settled
from twin_actors.testing.postgres import why_not

pytestmark = pytest.mark.timeout(280)


def folders_seen(city):
    """What every actor of the city sees where the launch keeps its cities, and on how many nodes they stand."""
    ray, names = city._ray, ["controller", "aggregator", *city.plan.routers, *city.actors().index]

    def look(_, path):
        return os.listdir(path), ray.get_runtime_context().get_node_id()

    asked = [city._handle(name).__ray_call__.remote(look, str(home())) for name in names]
    seen = ray.get(asked, timeout=30.0)
    return {name: found for name, (found, _) in zip(names, seen, strict=True)}, {node for _, node in seen}


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "there")
@pytest.mark.skipif(bool(why_nothing_hidden()), reason=why_nothing_hidden() or "there")
def test_nodes_need_no_folder_of_the_launch(tmp_path):
    home().mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        on = stack.enter_context(stage(tmp_path, "folderless", hidden=home()))
        city = stack.enter_context(launched([on.write(on.text(twins=10, per_actor=2))]))
        assert "folderless" in os.listdir(home())
        seen, nodes = folders_seen(city)
        assert not any(seen.values()), "nobody sees a folder of the launch"
        assert len(nodes) == 2
        with devices_of(city) as devices:
            devices.say("substation/s-001", {"load_mw": 7.0})
            devices.flush()
            settled(city, 1)

            # whoever dies comes back by the plan
            victims = sights(city, ["controller", city.plan.main_router, city.plan.actors[0].name])
            for victim in victims.values():
                os.kill(victim.pid, signal.SIGKILL)
            eventually(lambda: (city.actors()["standing"] == "up").all(), within_s=60)
            eventually(lambda: city.status()["controller"]["phase"] == "running", within_s=60)

            # and a change reaches all of them, and the folder beside the device host
            city.apply(edits.with_entity(city.scenario, city.plan.catalogue, "substation/s-new", {}))
            assert "substation/s-new" in city
            assert "substation/s-new" in City.connect("folderless")
            beside = CityPlan.load(folder_of("folderless"))
            assert beside.record == city.plan.record
            devices.say("substation/s-new", {"load_mw": 3.0})
            devices.flush()
            assert settled(city, 2).balanced
            assert city["substation/s-new"].reported.load_mw == 3.0
            assert city["substation/s-001"].reported.load_mw == 7.0
            seen, _ = folders_seen(city)
            assert not any(seen.values())
        shelf = RayShelf("twin-actors-folderless")
        assert shelf.has(PLAN_FILE)
        assert not shelf.has(NEXT_FILE)
        city.down()
        on.nodes._learn_ids()  # joins Ray again
        assert not shelf.has(PLAN_FILE), "with the city goes its plan, which may hold a password"
