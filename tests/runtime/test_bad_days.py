"""Bad days in a living city: hung actors, inputs that kill, a store or a broker that is away. Nothing is lost."""

import json
import os
import secrets
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from twin_actors.testing.live import devices_of, eventually, living, settled
from twin_actors.testing.postgres import postgres_server, why_not

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(170)]

CITY = """
city: {name}
placement: {{entities_per_actor: {per_actor}}}
broker: {{embedded: mosquitto}}
tick_s: 0.2
limits: {{answer: 2s}}
entities:
  - {{kind: footfall, name: a}}
  - {{kind: footfall, name: b}}
"""


def alarms(city):
    return {each["alarm"]: each["place"] for each in city.status()["controller"]["audit"]["alarms"]}


def say(devices, city, entity, count, first=0):
    """``count`` readings in the last minute, one second apart."""
    at_s = city.now_s() - count
    for number in range(count):
        devices.say(entity, {"flow_pph": 100 + first + number}, at_s=at_s + number)
    devices.flush()


def test_a_twin_actor_that_hangs_is_replaced_and_holds_nobody_up(make_scenario, ray_session):
    with living(make_scenario(CITY.format(name="hangs", per_actor=1))) as city, devices_of(city) as devices:
        pid = int(city.actors().loc["twin:footfall/a", "pid"])
        os.kill(pid, signal.SIGSTOP)
        say(devices, city, "footfall/a", 5)
        say(devices, city, "footfall/b", 5)
        # its neighbour and the broker go on meanwhile
        eventually(lambda: city.ledger().applied >= 5, within_s=2, says="the neighbour's readings")
        ledger = settled(city, 10)
        assert ledger.balanced
        assert ledger.applied == 10
        assert eventually(lambda: city["footfall/a"].reported.flow_pph == 104)
        eventually(lambda: int(city.actors().loc["twin:footfall/a", "pid"]) != pid)
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "PostgreSQL is there")
def test_a_store_that_is_away_stops_acknowledgements_and_loses_nothing(make_scenario, ray_session):
    with postgres_server() as server:
        text = CITY.format(name="storeless", per_actor=10) + f'store: {{url: "{server.url()}"}}\n'
        with living(make_scenario(text)) as city, devices_of(city) as devices:
            say(devices, city, "footfall/a", 5)
            before = settled(city, 5)
            server.stop()
            try:
                say(devices, city, "footfall/b", 7)  # the broker has them
                trouble = eventually(lambda: city.status()["router"]["store_trouble"], within_s=30)
                assert server.password not in trouble
                assert eventually(lambda: alarms(city).get("unavailable") == "store", within_s=40)
                assert city.ledger().applied == before.applied
            finally:
                server.start()
            ledger = settled(city, 12)
            assert ledger.balanced
            assert ledger.applied == 12
            eventually(lambda: "unavailable" not in alarms(city), within_s=40)
            assert len(city.history("footfall/b", "flow_pph", last="10min")) == 7


def test_a_broker_that_is_away_for_a_while(make_scenario, ray_session):
    from twin_actors.wire.broker import EmbeddedBroker

    with living(make_scenario(CITY.format(name="brokerless", per_actor=10))) as city, devices_of(city) as devices:
        say(devices, city, "footfall/a", 5)
        settled(city, 5)
        pid = city._record.broker["pid"]
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not city.status()["router"]["connected"], within_s=20)
        assert eventually(lambda: alarms(city).get("unreachable") == "broker", within_s=40)
        assert city.ledger().balanced
        folder = city._record.broker["folder"]
        again = EmbeddedBroker(folder, kind="mosquitto", port=city._record.broker["port"])
        again.start()
        try:
            eventually(lambda: city.status()["router"]["connected"], within_s=30)
            say(devices, city, "footfall/b", 5)
            ledger = settled(city, 10)
            assert ledger.balanced
            assert ledger.applied == 10
            eventually(lambda: "unreachable" not in alarms(city), within_s=40)
        finally:
            again.stop()


def turn_clocks(city, back_s):
    """Let every actor of the city read a wall clock that is ``back_s`` behind; 0 sets it right."""
    import ray

    def turn(self, back_s):
        import time

        right = getattr(time, "right", time.time)
        time.right = right
        time.time = lambda: right() - back_s

    names = ["router", "aggregator", "controller", *(actor.name for actor in city.plan.actors)]
    handles = [ray.get_actor(name, namespace=f"twin-actors-{city.name}") for name in names]
    ray.get([handle.__ray_call__.remote(turn, back_s) for handle in handles], timeout=20)


def test_a_clock_that_is_set_back_moves_no_twin_back(make_scenario, ray_session):
    with living(make_scenario(CITY.format(name="set-back", per_actor=10))) as city, devices_of(city) as devices:
        say(devices, city, "footfall/a", 5)
        settled(city, 5)
        turn_clocks(city, 3600)
        try:
            say(devices, city, "footfall/a", 3, first=50)  # the devices' clocks are right
            ledger = settled(city, 8)
            assert ledger.balanced
            assert ledger.dead_lettered == 3
            assert set(city.dead_letters(3).reason) == {"clock_ahead"}
            assert city["footfall/a"].reported.flow_pph == 104
            assert city.status()["aggregator"]["failed_ticks"] == 0
        finally:
            turn_clocks(city, 0)
        say(devices, city, "footfall/a", 2, first=70)
        ledger = settled(city, 10)
        assert ledger.balanced
        assert ledger.dead_lettered == 3
        assert eventually(lambda: city["footfall/a"].reported.flow_pph == 171)
        # what could not be used then is not lost: it can be taken in now
        for number in city.dead_letters(3).index:
            city.replay_dead_letter(int(number))
        ledger = settled(city, 13)
        assert ledger.balanced
        assert {letter.value for letter in city.dead_letters(3).state} == {"replayed"}


POISON = """
    import numpy as np
    from twin_actors.core.columns import Attributes, Column, Reading, State, attribute, reading, state
    from twin_actors.core.kind import Domain, Kind

    class TankAttributes(Attributes):
        '''None that matters.'''
        area_m2: Column = attribute("m2", minimum=0, default=1)

    class TankReading(Reading):
        '''Its level.'''
        level_m: Column = reading("m", minimum=0, maximum=1000, sd=0.001)

    class TankState(State):
        '''Its level.'''
        level_m: Column = state("m", minimum=0, maximum=1000, default=1, unsure_sd=100, drift=1)

    def predict(state, attributes, command, couplings, step):
        '''It stays as it is.'''
        return state

    def observe(state, attributes, command):
        '''What a device should say; never, behind 600 m.'''
        while (np.asarray(state.level_m) > 600).any():
            pass
        return {}

    KIND = Kind(
        name="poison", doc="Hangs.", attributes=TankAttributes, reading=TankReading, state=TankState,
        predict=predict, observe=observe, indicators=lambda *columns: {}, shows=(),
    )
    DOMAIN = Domain(name="poison", doc="A kind that hangs.", kinds=(KIND,))
"""
POISONED = """
city: poisoned-input
placement: {entities_per_actor: 10}
tick_s: 0.5
limits: {answer: 1s}
entities:
  - {kind: poison, name: bad}
  - {kind: poison, name: good}
"""
STORY = """
    import json, sys
    from pathlib import Path
    from twin_actors.scenario import load_scenario
    from twin_actors.testing.live import devices_of, eventually, living, settled

    def main():
        with living(load_scenario([Path(sys.argv[1])])) as city, devices_of(city) as devices:
            now_s = city.now_s()
            for number, level in enumerate((1, 666, 667)):
                devices.say("poison/bad", {"level_m": level}, at_s=now_s - 30 + number)
            for number in range(5):
                devices.say("poison/good", {"level_m": 10 + number}, at_s=now_s - 20 + number)
            devices.flush()
            ledger = settled(city, 8, within_s=100)
            letter = city.dead_letters().iloc[-1]
            good = city["poison/good"]
            print(json.dumps({
                "ledger": ledger.to_dict(), "reason": letter["reason"], "payload": letter["payload"].decode(),
                "good_m": good.reported.level_m, "good_applied": good.fates["applied"],
                "by_entity": {name: own.to_dict() for name, own in city.ledger(by="entity").items()},
            }))

    if __name__ == "__main__":
        main()
"""


def test_an_input_that_never_ends_is_put_aside_and_its_neighbours_go_on(tmp_path):
    site = tmp_path / "site"
    meta = site / "poison-1.0.dist-info"
    meta.mkdir(parents=True)
    (site / "poison_domain.py").write_text(textwrap.dedent(POISON))
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: poison\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text("[twin_actors.domains]\npoison = poison_domain:DOMAIN\n")
    scenario, story = tmp_path / "poisoned.yaml", tmp_path / "story.py"
    scenario.write_text(POISONED)
    story.write_text(textwrap.dedent(STORY))
    ended = subprocess.run(
        [sys.executable, str(story), str(scenario)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(site),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        },
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    said = json.loads(ended.stdout.strip().splitlines()[-1])
    assert (said["ledger"]["applied"], said["ledger"]["dead_lettered"], said["ledger"]["balanced"]) == (7, 1, True)
    assert said["reason"] == "harmful"
    assert "667" in said["payload"]
    assert (said["good_m"], said["good_applied"]) == (14, 5)
    assert all(own["balanced"] for own in said["by_entity"].values())
