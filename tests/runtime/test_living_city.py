"""A small city with a real broker and a real Ray: readings in, twins, ledger, commands, crashes."""

import json
import os
import signal
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from twin_actors.runtime.metrics import METRICS, exposition
from twin_actors.testing.live import devices_of, eventually, living, settled
from twin_actors.wire.messages import Acknowledgement, decode_command, encode_acknowledgement

_LABELS = sorted({label for metric in METRICS for label in metric.labels})

pytestmark = pytest.mark.usefixtures("ray_session")

SMALL = """
city: small
placement: {per_actor}
broker: {{embedded: {broker}}}
tick_s: 0.2
entities:
  - {{kind: footfall, name: a}}
  - {{kind: footfall, name: b}}
  - {{kind: venue, name: hall, attributes: {{area_m2: 900, capacity_persons: 1500, exit_width_m: 6}}}}
"""
DEDICATED = SMALL.format(per_actor="{entities_per_actor: 1}", broker="auto")
PACKED = SMALL.format(per_actor="{entities_per_actor: 10}", broker="auto")


@pytest.fixture(scope="module")
def city(ray_session, tmp_path_factory):
    from twin_actors.scenario import load_scenario

    path = tmp_path_factory.mktemp("small") / "small.yaml"
    path.write_text(DEDICATED)
    with living(load_scenario([path])) as city:
        yield city


def test_a_reading_reaches_its_twin_and_no_other(city):
    before = city.ledger().received
    with devices_of(city) as devices:
        devices.say("footfall/a", {"flow_pph": 1234})
        devices.flush()
    settled(city, before + 1)
    assert city["footfall/a"].reported.flow_pph == 1234
    assert city["footfall/a"].source("flow_pph") == "measured"
    assert city["footfall/b"].source("flow_pph") == "assumed"
    assert abs(city["footfall/a"].flow_pph - 1234) < abs(600 - 1234)


def test_the_ledger_balances_per_entity_kind_and_actor(city):
    before = city.ledger().received
    with devices_of(city) as devices:
        at_s = city.now_s()
        for second in range(20):
            devices.say("footfall/b", {"flow_pph": 500 + second}, at_s=at_s - 20 + second)
        devices.say("footfall/b", {"flow_pph": 510}, at_s=at_s - 10)  # a redelivery
        devices.say("footfall/b", {"flow_pph": 1}, at_s=at_s - 500)  # late
        devices.say("footfall/b", {"flow_pph": -5})  # out of range
        devices.send(devices.topics.telemetry("footfall/nobody"), b'{"flow_pph": 1}')
        devices.flush()
    ledger = settled(city, before + 24)
    assert ledger.balanced, ledger
    by_entity = city.ledger(by="entity")
    assert by_entity["footfall/b"].duplicate == 1
    assert by_entity["footfall/b"].late == 1
    assert by_entity["footfall/b"].dead_lettered == 1
    assert by_entity["footfall/b"].applied == 20
    assert by_entity[""].dead_lettered == 1
    for group in ("entity", "kind", "actor"):
        parts = city.ledger(by=group)
        assert all(part.balanced for part in parts.values()), (group, parts)
        total = sum(parts.values(), start=type(ledger)())
        assert total == ledger
    letters = city.dead_letters(last=2)
    assert set(letters["reason"]) == {"out_of_range", "unknown_entity"}


def test_its_metrics_are_what_prometheus_reads(city):
    """Every metric has a value in a living city, but for what nothing has been known of yet."""
    with devices_of(city) as devices:
        devices.send(devices.topics.telemetry("footfall/nobody"), b'{"flow_pph": 1}')
        devices.flush()
    eventually(lambda: city.ledger().dead_lettered)
    families = {each.name: each for each in text_string_to_metric_families(exposition(city.metrics()))}
    missing = {each.name for each in METRICS if each.name.removesuffix("_total") not in families}
    assert missing <= {
        "twin_actors_alarms",
        "twin_actors_kind_coverage_90",
        "twin_actors_router_broker_dropped_total",
    }
    (unexplained,) = families["twin_actors_unexplained"].samples
    assert (unexplained.labels, unexplained.value) == ({"city": city.name}, 0)
    up = {each.labels["actor"]: each.value for each in families["twin_actors_actor_up"].samples}
    assert up == dict.fromkeys(city.actors().index, 1.0)
    assert {each.labels["kind"]: each.value for each in families["twin_actors_kind_twins"].samples} == {
        "footfall": 2.0,
        "venue": 1.0,
    }


def test_the_endpoint_of_ray_has_the_same_metrics(city):
    """Ray reports every ten seconds, and the auditor looks every five."""
    ((target,),) = (each["targets"] for each in city.metrics_targets())

    def scraped():
        with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        own = [each for each in samples if each.labels.get("city") == city.name]
        return {(each.name.removeprefix("ray_"), *(map(each.labels.get, _LABELS))) for each in own}

    expected = {(each.metric.name, *map(each.labels.get, _LABELS)) for each in city.metrics()}
    eventually(lambda: expected <= scraped(), within_s=40.0, says="the endpoint has all series")


def test_a_command_is_desired_until_its_device_follows(city):
    seen = []
    with devices_of(city) as devices:
        devices.client.subscribe(devices.topics.command("venue/hall"), 1)
        devices.client._receive = lambda topic, payload, *rest: seen.append(decode_command(payload))
        eventually(lambda: devices.client.ready)
        decision = city.command("venue/hall", gates_open=0.5, reason="test")
        command = eventually(lambda: seen and seen[0])
        assert command.decision == decision
        assert command.values == {"gates_open": 0.5}
        eventually(lambda: "gates_open" in city["venue/hall"].differs)
        answer = encode_acknowledgement(Acknowledgement(id=command.id))
        devices.send(devices.topics.acknowledgement("venue/hall"), answer)
        eventually(lambda: city["venue/hall"].in_force.gates_open == 0.5)
        assert city["venue/hall"].differs == {}
        eventually(lambda: city.commands().loc[command.id, "phase"].value == "acknowledged")
        before = city.ledger().dead_lettered
        devices.send(devices.topics.acknowledgement("venue/hall"), answer)  # repeated: no command waits for it
        eventually(lambda: city.ledger().dead_lettered == before + 1)
        assert city.ledger().balanced


def test_orders_are_checked_before_they_are_sent(city):
    with pytest.raises(KeyError, match="did you mean 'gates_open'"):
        city.command("venue/hall", gate_open=1)
    with pytest.raises(ValueError, match="outside 0 to 1"):
        city.command("venue/hall", gates_open=7)
    with pytest.raises(KeyError, match="did you mean 'venue/hall'"):
        city.command("venue/hal", gates_open=1)


def test_a_killed_twin_actor_comes_back_with_its_twins(city, ray_session):
    before = city.ledger().received
    with devices_of(city) as devices:
        at_s = city.now_s()
        for second in range(30):
            devices.say("footfall/a", {"flow_pph": 700 + second}, at_s=at_s + second * 0.001)
        devices.flush()
        settled(city, before + 30)
        card = city["footfall/a"]
        pid = int(city.actors().loc["twin:footfall/a", "pid"])
        os.kill(pid, signal.SIGKILL)
        devices.say("footfall/a", {"flow_pph": 760}, at_s=at_s + 1)
        devices.flush()
    ledger = settled(city, before + 31)
    assert ledger.balanced, ledger
    again = eventually(lambda: city["footfall/a"])
    assert again.reported.flow_pph == 760
    assert again.fates["applied"] == card.fates["applied"] + 1
    assert all(part.balanced for part in city.ledger(by="entity").values())


def test_deleting_a_reading_in_the_router_unbalances_the_ledger(make_scenario, ray_session):
    with living(make_scenario(PACKED.replace("small", "robbed-router"))) as city, devices_of(city) as devices:
        router = ray_session.get_actor("router", namespace="twin-actors-robbed-router")

        def lose_one(self):
            arrive = self._routing.arrive

            def losing(*arguments):
                arrive(*arguments)
                if len(lost) < 1:
                    lost.append(self._routing._fresh.pop())

            lost = []
            self._routing.arrive = losing

        ray_session.get(router.__ray_call__.remote(lose_one))
        for number in range(5):
            devices.say("footfall/a", {"flow_pph": 100 + number}, at_s=city.now_s() - 5 + number)
        devices.flush()
        ledger = settled(city, 5)
        assert not ledger.balanced
        assert ledger.unexplained == 1
        assert city.ledger(by="entity")["footfall/a"].unexplained == 1
        assert city.ledger(by="entity")["footfall/b"].balanced


def test_deleting_a_reading_in_a_twin_actor_unbalances_the_ledger(make_scenario, ray_session):
    with living(make_scenario(PACKED.replace("small", "robbed-twin"))) as city, devices_of(city) as devices:
        actor = ray_session.get_actor("twins:00001", namespace="twin-actors-robbed-twin")

        def lose_one(self):
            table = self._holder.groups[0].table
            apply = table.apply

            def losing(batch):
                if lost or len(batch) == 0:
                    return apply(batch)
                lost.append(True)
                keep = slice(1, None)
                return apply(
                    type(batch)(
                        rows=batch.rows[keep],
                        observed_at_s=batch.observed_at_s[keep],
                        values=batch.values[:, keep],
                        channels=batch.channels[keep],
                        keys=batch.keys[keep],
                    )
                )

            lost = []
            table.apply = losing

        ray_session.get(actor.__ray_call__.remote(lose_one))
        for number in range(5):
            devices.say("footfall/b", {"flow_pph": 100 + number}, at_s=city.now_s() - 5 + number)
        devices.flush()
        ledger = settled(city, 5)
        assert ledger.unexplained == 1
        assert not city.ledger(by="kind")["footfall"].balanced


def kill(ray, city, name):
    """kill -9 of an actor's process; Ray starts it again."""
    actor = ray.get_actor(name, namespace=f"twin-actors-{city.name}")
    os.kill(ray.get(actor.__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)


def test_a_killed_router_goes_on_where_it_was(make_scenario, ray_session):
    with living(make_scenario(PACKED.replace("small", "router-dies"))) as city, devices_of(city) as devices:
        for number in range(10):
            devices.say("footfall/a", {"flow_pph": 300 + number}, at_s=city.now_s() - 20 + number)
        devices.send(devices.topics.telemetry("footfall/nobody"), b'{"flow_pph": 1}')
        devices.flush()
        before = settled(city, 11)
        kill(ray_session, city, "router")
        for number in range(5):
            devices.say("footfall/b", {"flow_pph": 400 + number}, at_s=city.now_s() - 10 + number)
        devices.flush()
        ledger = settled(city, 16)
        assert ledger.balanced, ledger
        assert (before.applied, ledger.applied, ledger.dead_lettered) == (10, 15, 1)
        assert city.status()["router"]["epoch"] == 2
        assert all(part.balanced for part in city.ledger(by="entity").values())
        assert city["footfall/a"].reported.flow_pph == 309
        assert city["footfall/b"].reported.flow_pph == 404
        assert list(city.dead_letters()["reason"]) == ["unknown_entity"]

        # and the new router brings back a twin whose past only the old one has sent
        kill(ray_session, city, "twins:00001")
        devices.say("footfall/b", {"flow_pph": 410}, at_s=city.now_s() - 1)
        devices.flush()
        ledger = settled(city, 17)
        assert ledger.balanced, ledger
        assert city["footfall/a"].reported.flow_pph == 309
        assert city["footfall/a"].fates["applied"] == 10


def test_a_killed_aggregator_decides_nothing_twice(make_scenario, ray_session):
    heard = []
    with living(make_scenario(PACKED.replace("small", "aggregator-dies"))) as city, devices_of(city) as devices:
        devices.client.subscribe(devices.topics.command("venue/hall"), 1)
        devices.client._receive = lambda topic, payload, *rest: heard.append(decode_command(payload))
        eventually(lambda: devices.client.ready)
        first = city.command("venue/hall", gates_open=0.5, reason="before")
        eventually(lambda: heard)
        kill(ray_session, city, "aggregator")
        # the device's answer comes while nobody is there to take it
        answer = encode_acknowledgement(Acknowledgement(id=heard[0].id))
        devices.send(devices.topics.acknowledgement("venue/hall"), answer)
        devices.flush()
        eventually(lambda: city.status()["aggregator"]["epoch"] == 2, within_s=30)
        eventually(lambda: city.commands().loc[heard[0].id, "phase"].value == "acknowledged")
        assert list(city.decisions().index) == [first]
        second = city.command("venue/hall", gates_open=0.25, reason="after")
        assert second > first
        eventually(lambda: len({command.id for command in heard}) == 2)
        assert {command.decision for command in heard} == {first, second}
        assert city.status()["aggregator"]["commands_sent"] == 2


def test_a_killed_controller_finds_the_city_that_it_made(make_scenario, ray_session):
    with living(make_scenario(PACKED.replace("small", "controller-dies"))) as city, devices_of(city) as devices:
        pid = city.actors().loc["twins:00001", "pid"]
        kill(ray_session, city, "controller")
        eventually(lambda: city.status()["controller"]["phase"] == "running", within_s=30)
        assert city.actors().loc["twins:00001", "pid"] == pid
        devices.say("footfall/a", {"flow_pph": 5})
        devices.flush()
        assert settled(city, 1).balanced


def test_the_next_launch_goes_on_where_the_last_one_stopped(make_scenario, ray_session):
    scenario = make_scenario(PACKED.replace("small", "comes-again"))
    with living(scenario, volumes=False) as city, devices_of(city) as devices:
        for number in range(7):
            devices.say("footfall/a", {"flow_pph": 300 + number}, at_s=city.now_s() - 20 + number)
        devices.flush()
        before = settled(city, 7)
        order = city.command("venue/hall", gates_open=0.5, reason="before")
        eventually(lambda: order in city.decisions().index)
    with living(scenario) as city, devices_of(city) as devices:
        assert city.ledger() == before
        assert city["footfall/a"].fates["applied"] == 7
        assert order in city.decisions().index
        devices.say("footfall/a", {"flow_pph": 333})
        devices.flush()
        ledger = settled(city, 8)
        assert (ledger.applied, ledger.balanced) == (8, True)


def test_a_model_that_raises_makes_a_dead_letter_and_an_alarm(make_scenario, ray_session):
    with living(make_scenario(PACKED.replace("small", "poisoned"))) as city, devices_of(city) as devices:
        actor = ray_session.get_actor("twins:00001", namespace="twin-actors-poisoned")

        def break_the_model(self):
            table = next(group.table for group in self._holder.groups if group.table.kind.name == "footfall")
            estimate = table._estimate

            def failing(twins, *columns):
                if any(table.ids[twin] == "footfall/a" for twin in twins):
                    raise ZeroDivisionError("no such luck")
                estimate(twins, *columns)

            table._estimate = failing

        ray_session.get(actor.__ray_call__.remote(break_the_model))
        for entity in ("footfall/a", "footfall/b"):
            devices.say(entity, {"flow_pph": 77})
        devices.flush()
        ledger = settled(city, 2)
        assert (ledger.applied, ledger.dead_lettered, ledger.balanced) == (1, 1, True)
        letter = city.dead_letters().iloc[0]
        assert letter["reason"] == "model_failed"
        assert "ZeroDivisionError: no such luck" in letter["detail"]
        assert city["footfall/b"].reported.flow_pph == 77
        alarms = eventually(lambda: city.status()["controller"]["audit"]["alarms"], within_s=30)
        assert alarms[0]["alarm"] == "model_failed"
        assert alarms[0]["place"].endswith("footfall/a/telemetry")


def test_the_state_of_chosen_twins_is_published_and_retained(make_scenario, ray_session):
    scenario = make_scenario(
        PACKED.replace("small", "tells-states") + 'states: {entities: ["footfall/*"], every: 200ms}\n'
    )
    with living(scenario) as city, devices_of(city) as devices:
        devices.say("footfall/a", {"flow_pph": 900})
        devices.flush()
        settled(city, 1)
        seen = {}
        devices.client._receive = lambda topic, payload, *rest: seen.__setitem__(topic, json.loads(payload))
        devices.client.subscribe(devices.topics.state("footfall/a"), 1)
        devices.client.subscribe(devices.topics.state("venue/hall"), 1)
        topic = devices.topics.state("footfall/a")
        state = eventually(lambda: topic in seen and seen[topic]["age_s"] is not None and seen[topic])
        assert state["estimated"]["flow_pph"] == pytest.approx(city["footfall/a"].flow_pph, rel=0.05)
        assert state["sd"]["flow_pph"] > 0
        assert devices.topics.state("venue/hall") not in seen


def test_a_twin_actor_that_is_gone_for_good_is_created_again_with_a_higher_epoch(make_scenario, ray_session):
    with living(make_scenario(PACKED.replace("small", "gone-for-good"))) as city, devices_of(city) as devices:
        at_s = city.now_s()
        for number in range(10):
            devices.say("footfall/a", {"flow_pph": 300 + number}, at_s=at_s - 20 + number)
        devices.flush()
        settled(city, 10)
        ray_session.kill(ray_session.get_actor("twins:00001", namespace="twin-actors-gone-for-good"))
        devices.say("footfall/a", {"flow_pph": 333}, at_s=at_s)
        devices.flush()
        ledger = settled(city, 11)
        assert ledger.balanced, ledger
        assert city["footfall/a"].fates["applied"] == 11
        assert city["footfall/a"].reported.flow_pph == 333
        assert eventually(lambda: city.actors().loc["twins:00001", "epoch"] == 2)


def test_a_burst_on_a_fast_clock_is_not_taken_for_the_future(make_scenario, ray_session):
    """At 3,600 times the pace five seconds of tolerance are 1.4 ms: each message needs an arrival time of its own."""
    fast = PACKED.replace("small", "fast") + "clock: {mode: scaled, speed: 3600, start: 2026-06-01T00:00:00Z}\n"
    with living(make_scenario(fast)) as city, devices_of(city) as devices:
        for _ in range(1000):
            devices.say("footfall/a", {"flow_pph": 500})
        devices.flush()
        ledger = settled(city, 1000)
        assert ledger.dead_lettered == 0, city.dead_letters(last=3).to_dict()
        assert ledger.balanced
