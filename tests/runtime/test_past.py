"""A living city's past: history raw and rolled up, a past moment, dead letters mended, backups, volumes."""

import json
import math
import os
import signal
import time

import pytest

from twin_actors.runtime import launching, local, shutdown
from twin_actors.runtime.placement import LaunchRefused
from twin_actors.testing.live import devices_of, eventually, living, settled

pytestmark = pytest.mark.usefixtures("ray_session")

CITY = """
city: {name}
placement: {{entities_per_actor: 10}}
tick_s: 0.2
entities:
  - {{kind: footfall, name: a}}
  - {{kind: footfall, name: b}}
  - {{kind: venue, name: hall, attributes: {{area_m2: 900, capacity_persons: 1500, exit_width_m: 6}}}}
fleets:
  - {{topic: "old/+/data", kind: footfall, name: "{{1}}", fields: {{walkers: {{field: flow_pph}}}}}}
"""


@pytest.fixture(scope="module")
def city(ray_session, tmp_path_factory):
    from twin_actors.scenario import load_scenario

    path = tmp_path_factory.mktemp("past") / "past.yaml"
    path.write_text(CITY.format(name="has-past"))
    with living(load_scenario([path])) as city:
        yield city


def test_history_has_values_quality_source_and_unit(city):
    before = city.ledger().received
    with devices_of(city) as devices:
        now_s = city.now_s()
        for number in range(60):
            devices.say("footfall/a", {"flow_pph": 500 + number}, at_s=now_s - 600 + 10 * number)
        devices.say("footfall/a", {"flow_pph": 570}, at_s=now_s - 600 + 10 * 55)  # a redelivery
        devices.say("footfall/a", {"flow_pph": -7}, at_s=now_s)
        devices.say("footfall/b", {"flow_pph": 1}, at_s=now_s)
        devices.flush()
    settled(city, before + 63)
    frame = city.history("footfall/a", "flow_pph", last="1h")
    assert len(frame) == 62
    assert list(frame["value"][:3]) == [500, 501, 502]
    assert frame["quality"].value_counts().to_dict() == {"good": 60, "duplicate": 1, "out_of_range": 1}
    assert set(frame["source"]) == {"measured"}
    assert frame.attrs["units"]["value"]
    assert frame.index.is_monotonic_increasing is False  # the redelivery stands where it arrived
    assert len(city.history("footfall/a", "flow_pph", last="5min")) == 31
    assert city.history("footfall/b", "flow_pph", last="1h")["value"].tolist() == [1]
    with pytest.raises(KeyError, match="did you mean 'flow_pph'"):
        city.history("footfall/a", "flow_ppm")
    with pytest.raises(KeyError, match="did you mean 'footfall/a'"):
        city.history("footfal/a", "flow_pph")
    with pytest.raises(ValueError, match="resolution"):
        city.history("footfall/a", "flow_pph", resolution="day")


def test_history_is_rolled_up_per_minute_and_hour(city):
    before = city.ledger().received
    start_s = float(int(city.now_s()) // 60 * 60 - 3000)
    with devices_of(city) as devices:
        for number in range(30):
            devices.say("venue/hall", {"in_persons": number, "out_persons": 0}, at_s=start_s + 4 * number)
        devices.flush()
    settled(city, before + 30)
    minutes = city.history("venue/hall", "in_persons", since=start_s - 1, resolution="minute")
    assert minutes["count"].tolist() == [15, 15]
    assert minutes["min"].tolist() == [0, 15]
    assert minutes["max"].tolist() == [14, 29]
    assert minutes["mean"].tolist() == [7, 22]
    assert minutes["last"].tolist() == [14, 29]
    assert city.history("venue/hall", "in_persons", since=start_s - 7200, resolution="hour")["count"].sum() == 30
    raw = city.history("venue/hall", "in_persons", since=start_s - 1)
    assert raw["value"].tolist() == list(range(30))


def test_the_city_forecasts_and_calibrates_from_its_own_history(city):
    before = city.ledger().received
    with devices_of(city) as devices:
        now_s = city.now_s()
        for minute in range(300):
            value = 800 + 300 * math.sin(minute / 30) + minute % 7
            devices.say("footfall/b", {"flow_pph": value}, at_s=now_s - 60 * (320 - minute))
        devices.flush()
    settled(city, before + 300)
    found = city.forecast("footfall/b", "flow_pph", ["10min", "30min"], last="6h")
    assert found.values.shape == (2, 1)
    assert (found.quantiles[0] <= found.values).all()
    assert (found.values <= found.quantiles[-1]).all()
    assert (found.mae <= found.last_mae * 1.01).all()
    assert "off by" in repr(found)
    evidence = city.calibrate("footfall", last="6h")
    assert set(evidence.index) == {"footfall/a", "footfall/b"}
    assert city._store.records("calibrations", 10)
    with pytest.raises(KeyError, match="no twins of kind"):
        city.calibrate("volcano")


def test_a_past_moment_shows_the_twin_as_it_was(city):
    with devices_of(city) as devices:
        before = city.ledger().received
        devices.say("footfall/b", {"flow_pph": 1000})
        devices.flush()
        settled(city, before + 1)
        then_s = time.time()
        card = city["footfall/b"]
        eventually(lambda: time.time() > then_s + 0.3)
        devices.say("footfall/b", {"flow_pph": 3000})
        devices.flush()
        settled(city, before + 2)
    past = city.at(then_s)
    assert past["footfall/b"].reported.flow_pph == 1000
    assert past["footfall/b"].fates == card.fates
    assert past["footfall/b"].flow_pph == pytest.approx(card.flow_pph, rel=1e-6)
    assert city["footfall/b"].reported.flow_pph == 3000
    assert repr(past).startswith("<City has-past as of 20")
    with pytest.raises(ValueError, match="not come yet"):
        city.at(time.time() + 3600)
    with pytest.raises(KeyError, match="did you mean"):
        past["footfall/c"]


def test_a_dead_letter_is_explained_mended_and_taken_in_again(city):
    before = city.ledger()
    with devices_of(city) as devices:
        devices.send(devices.topics.telemetry("footfall/a"), b'{"flow_pph": "many"}')
        devices.send("old/a/data", b'{"m": 12}')
        devices.flush()
        settled(city, before.received + 2)
    eventually(lambda: len(city.dead_letters(2, state="waiting")) == 2)
    text, foreign = city.dead_letters(2, state="waiting").index
    letter = city.dead_letter(text)
    assert letter.reason == "wrong_type"
    assert "Send numbers without quotes" in letter.detail
    city.replay_dead_letter(text, payload=b'{"flow_pph": 77}')
    city.replay_dead_letter(foreign, payload=b'{"walkers": 78}')
    ledger = settled(city, before.received + 4)
    assert (ledger.applied - before.applied, ledger.dead_lettered - before.dead_lettered) == (2, 2)
    assert ledger.balanced
    assert city["footfall/a"].reported.flow_pph == 78
    assert city.dead_letter(text).state.value == city.dead_letter(foreign).state.value == "replayed"
    with pytest.raises(ValueError, match="has been replayed already"):
        city.replay_dead_letter(text)
    with pytest.raises(KeyError, match="no dead letter 999"):
        city.dead_letter(999)


def test_a_city_is_launched_once(city):
    with pytest.raises(LaunchRefused, match="is running already"):
        launching.launch(city.scenario, address="local")
    with (
        local.alone(local.folder_of(city.name), city.name),
        pytest.raises(LaunchRefused, match="being launched"),
        local.alone(local.folder_of(city.name), city.name),
    ):
        raise AssertionError("two of them")


def test_a_changed_scenario_takes_its_twins_over(make_scenario, ray_session):
    text = CITY.format(name="repacked")
    with living(make_scenario(text), volumes=False) as city, devices_of(city) as devices:
        for number in range(5):
            devices.say("footfall/b", {"flow_pph": 100 + number}, at_s=city.now_s() - 20 + number)
        devices.say("venue/hall", {"in_persons": 5, "out_persons": 0})
        devices.flush()
        before = settled(city, 6)
        card = city["footfall/b"]
    # one leaves, two come, and all are packed in another way
    other = text.replace("entities_per_actor: 10", "entities_per_actor: 1")
    other = other.replace("{kind: footfall, name: a}", '{kind: footfall, pattern: "new-{n}", count: 2}')
    with living(make_scenario(other)) as city, devices_of(city) as devices:
        assert city.ledger() == before  # footfall/a had nothing to take along
        again = city["footfall/b"]
        assert again.fates == card.fates
        assert again.reported.flow_pph == 104
        assert city["footfall/new-1"].fates["applied"] == 0
        devices.say("footfall/new-2", {"flow_pph": 7})
        devices.say("footfall/b", {"flow_pph": 105})
        devices.flush()
        ledger = settled(city, 8)
        assert (ledger.applied, ledger.balanced) == (8, True)
        assert all(own.balanced for own in city.ledger(by="entity").values())
        assert city.history("footfall/b", "flow_pph")["value"].tolist() == [100, 101, 102, 103, 104, 105]
        assert city.history("footfall/new-2", "flow_pph")["value"].tolist() == [7]
        assert len(city.history("footfall/b", "flow_pph", resolution="minute")) >= 1
        kill_all = [int(pid) for pid in city.actors()["pid"]]
        os.kill(kill_all[0], signal.SIGKILL)
        assert settled(city, 8).applied == 8
    folder = local.folder_of("repacked")
    assert not folder.exists()
    assert not shutdown.delete("repacked")


def test_what_is_in_memory_ends_with_down(make_scenario, ray_session):
    scenario = make_scenario(CITY.format(name="forgets") + 'store: {url: "memory:"}\n')
    for _ in range(2):
        with living(scenario, volumes=False) as city, devices_of(city) as devices:
            devices.say("footfall/a", {"flow_pph": 5})
            devices.flush()
            assert settled(city, 1).received == 1
    assert not (local.folder_of("forgets") / "store").exists()
    shutdown.delete("forgets")


def test_a_backup_of_a_running_city_becomes_another_life(make_scenario, ray_session, tmp_path):
    from typer.testing import CliRunner

    from twin_actors.cli.app import app

    run = CliRunner()
    scenario = make_scenario(CITY.format(name="backed-up"))
    with living(scenario) as city, devices_of(city) as devices:
        for number in range(9):
            devices.say("footfall/a", {"flow_pph": 100 + number}, at_s=city.now_s() - 20 + number)
        devices.flush()
        before = settled(city, 9)
        said = run.invoke(app, ["backup", "backed-up", str(tmp_path / "copy"), "--json"])
        assert said.exit_code == 0, said.output
        assert json.loads(said.stdout)["entries"] >= 9
        refused = run.invoke(app, ["restore", str(tmp_path / "copy"), "backed-up"])
        assert refused.exit_code == 1
    assert run.invoke(app, ["verify", str(tmp_path / "copy")]).exit_code == 0
    said = run.invoke(app, ["restore", str(tmp_path / "copy"), "backed-up", "--json"])
    assert said.exit_code == 0, said.output
    with living(scenario) as city:
        assert city.ledger() == before
        assert city["footfall/a"].reported.flow_pph == 108
        checked = run.invoke(app, ["verify", "backed-up", "--json"])
        assert json.loads(checked.stdout)["sound"] is True, checked.stdout
