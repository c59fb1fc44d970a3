"""Changes of a city that runs: entities come, go and are renamed under load, and no reading is lost."""

import json
import threading

import pytest
from typer.testing import CliRunner

from tests.chaos.truth import OfflineTwins, log_of
from twin_actors.cli.app import app
from twin_actors.runtime.applying import ChangeRefused
from twin_actors.testing.live import devices_of, eventually, living, same_twin, settled, twins_inside

pytestmark = pytest.mark.usefixtures("ray_session")

CITY = """
city: {name}
tick_s: 0.2
placement: {{entities_per_actor: 3, kinds: {{venue: 1}}}}
routers: {{halls: {{kinds: [venue]}}}}
entities:
{entities}
relations:
  - {{name: near, from: footfall/a, to: footfall/b}}
"""
FOUR = [f"  - {{kind: footfall, name: {name}}}" for name in "abcd"]
HALL = "  - {kind: venue, name: hall, attributes: {area_m2: 900, capacity_persons: 1500, exit_width_m: 6}}"


def scenario(path, name, *entities):
    from twin_actors.scenario import load_scenario

    path.write_text(CITY.format(name=name, entities="\n".join(entities)))
    return load_scenario([path])


def progress(city):
    return city._call("controller", "progress")


class Load:
    """Readings of some footfall counters at QoS 1, one after another, until told to stop."""

    def __init__(self, devices, *names):
        self.said = dict.fromkeys(names, 0)
        self._devices = devices
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        at_s = self._devices.city.now_s() - 2000
        while not self._stop.wait(0.005):
            for name, number in self.said.items():
                self._devices.say(f"footfall/{name}", {"flow_pph": 100 + number % 50}, at_s=at_s + number * 0.25)
                self.said[name] = number + 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._devices.flush()


def test_entities_come_and_go_under_load_and_the_others_live_on(tmp_path):
    path = tmp_path / "city.yaml"
    with living(scenario(path, "changing", *FOUR, HALL)) as city, devices_of(city) as devices:
        before = city.actors()
        with Load(devices, "a", "b") as load:
            devices.say("footfall/c", {"flow_pph": 333})
            devices.say("footfall/d", {"flow_pph": 444})
            eventually(lambda: city.ledger().received >= 42, within_s=60)  # more comes all the time
            with pytest.raises(ValueError, match="no attribute 'capacity_person'"):
                city.add("venue/yard", capacity_person=10)
            new = scenario(path, "changing", *FOUR[:2], *FOUR[3:], "  - {kind: footfall, name: e}", HALL)
            shown = city.apply(new, dry_run=True)
            assert (shown.added, shown.removed) == (("footfall/e",), ("footfall/c",))
            assert "footfall/e" not in city
            change = city.apply(new)
            assert change == shown
            devices.say("footfall/e", {"flow_pph": 555})
        said = sum(load.said.values())
        ledger = settled(city, said + 2)
        assert ledger.unexplained == 0
        by_entity = city.ledger(by="entity")
        assert "footfall/c" not in by_entity
        assert {name: by_entity[f"footfall/{name}"].received for name in "abde"} == {**load.said, "d": 1, "e": 1}
        assert all(part.balanced for part in by_entity.values())
        assert city["footfall/e"].reported.flow_pph == 555
        assert city["footfall/d"].reported.flow_pph == 444
        after = city.actors()
        alone = next(name for name in before.index if name.startswith("twin:venue"))
        assert after.loc[alone, "incarnation"] == before.loc[alone, "incarnation"], "it was not touched"
        offline = OfflineTwins(city.plan)
        store = city.plan.open_store()
        offline.feed(log_of(city.plan.log(store, "router"), 0))
        store.close()
        inside = twins_inside(city)
        for name in "abe":
            same_twin(inside[f"footfall/{name}"], offline.twins[f"footfall/{name}"])


def test_a_renamed_entity_takes_its_twin_its_counts_and_its_history_along(tmp_path):
    with living(scenario(tmp_path / "city.yaml", "renaming", *FOUR, HALL)) as city, devices_of(city) as devices:
        devices.say("footfall/a", {"flow_pph": 111})
        devices.flush()
        settled(city, 1)
        city.rename("footfall/a", "footfall/gate")
        assert "footfall/a" not in city
        assert city["footfall/gate"].reported.flow_pph == 111
        assert [(each.source, each.target) for each in city.scenario.relations] == [("footfall/gate", "footfall/b")]
        devices.say("footfall/gate", {"flow_pph": 112})
        devices.say("footfall/a", {"flow_pph": 1})
        devices.flush()
        ledger = settled(city, 3)
        assert (ledger.applied, ledger.dead_lettered, ledger.unexplained) == (2, 1, 0)
        assert city.ledger(by="entity")["footfall/gate"].applied == 2
        assert list(city.history("footfall/gate", "flow_pph", last="1h")["value"]) == [111, 112]


def test_attributes_and_actors_change_and_what_only_a_launch_can_do_is_refused(tmp_path):
    path = tmp_path / "city.yaml"
    with living(scenario(path, "refining", *FOUR, HALL)) as city, devices_of(city) as devices:
        devices.say("footfall/a", {"flow_pph": 111})
        devices.flush()
        settled(city, 1)
        change = city.set_attributes("venue/hall", capacity_persons=1800)
        assert change.changed == {"venue/hall": ("capacity_persons 1500 → 1800",)}
        assert city.frame("venue")["capacity_persons"].tolist() == [1800.0]
        (new,) = city.split("twins:00001")
        assert new in city.actors().index
        assert city["footfall/a"].reported.flow_pph == 111
        path.write_text(path.read_text() + "clock: {mode: events}\n")
        with pytest.raises(ChangeRefused, match="another clock"):
            city.apply(path)
        with pytest.raises(ValueError, match="single twin"):
            city.split("twin:venue/hall@halls")
        entities = "\n".join([FOUR[0], FOUR[3], HALL.replace("1500", "1900")])
        path.write_text(CITY.format(name="refining", entities=entities).partition("relations:")[0])
        shown = CliRunner().invoke(app, ["apply", str(path), "--dry-run"])
        assert shown.stdout.splitlines()[:-1] == [
            "- footfall/b",
            "- footfall/c",
            "~ venue/hall: capacity_persons 1800 → 1900",
            "~ relations",
        ]
        assert len(city.ids) == 5
        done = CliRunner().invoke(app, ["apply", str(path), "--json"])
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["applied"] is True
        assert sorted(city.ids) == ["footfall/a", "footfall/d", "venue/hall"]
        assert city.scenario.relations == ()
        assert city.ledger().unexplained == 0


def test_a_change_that_is_cut_short_is_carried_out_by_the_next_controller(tmp_path, ray_session):
    """As if the controller had died between writing the next plan and moving the twins."""
    from twin_actors.runtime import applying, local
    from twin_actors.runtime.plan import NEXT_FILE, CityPlan
    from twin_actors.scenario import edits

    with living(scenario(tmp_path / "city.yaml", "halved", *FOUR, HALL)) as city, devices_of(city) as devices:
        devices.say("footfall/a", {"flow_pph": 111})
        devices.flush()
        settled(city, 1)
        store, folder = city.plan.open_store(), local.folder_of("halved")
        wanted = edits.with_entity(city.scenario, city.plan.catalogue, "footfall/late", {})
        new, _ = applying.planned(store, city.plan, wanted, {})
        store.close()
        applying.begin(folder, new)
        ray_session.kill(ray_session.get_actor("controller", namespace="twin-actors-halved"), no_restart=False)
        eventually(lambda: "footfall/late" in city, within_s=40)
        eventually(lambda: progress(city)["phase"] == "running", within_s=40)
        assert CityPlan.next(folder) is None
        devices.say("footfall/late", {"flow_pph": 222})
        devices.flush()
        assert settled(city, 2).applied == 2
        assert city["footfall/a"].reported.flow_pph == 111

        # one that cannot be carried out is given up, and does not come into force later, unasked
        before = city.actors()["incarnation"].to_dict()
        (folder / NEXT_FILE).write_bytes(b'{"clock": {}, "bro')
        ray_session.kill(ray_session.get_actor("controller", namespace="twin-actors-halved"), no_restart=False)
        said = eventually(lambda: "given up" in (state := progress(city))["error"] and state, within_s=40)
        assert not (folder / NEXT_FILE).exists()
        assert said["phase"] in ("creating", "running")
        eventually(lambda: progress(city)["phase"] == "running", within_s=40)
        assert city.actors()["incarnation"].to_dict() == before
        city.add("footfall/later")
        assert "footfall/later" in city
