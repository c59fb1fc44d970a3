"""A city with three routers: each has its kinds, its log and its broker session, and people see one city."""

import pytest

from twin_actors.runtime.reach import mqtt_client
from twin_actors.store import LetterState
from twin_actors.testing.live import devices_of, eventually, living, settled
from twin_actors.wire.broker import EmbeddedBroker

pytestmark = pytest.mark.usefixtures("ray_session")

CITY = """
city: {name}
tick_s: 0.2
placement: {{entities_per_actor: 10}}
routers: {routers}
entities:
  - {{kind: footfall, name: a}}
  - {{kind: footfall, name: b}}
  - {{kind: road, name: ring, attributes: {{length_km: 0.5}}}}
  - {{kind: venue, name: hall, attributes: {{area_m2: 900, capacity_persons: 1500, exit_width_m: 6}}}}
fleets:
  - topic: "counters/+/data"
    kind: footfall
    fields: {{pph: flow_pph}}
"""
THREE = "{roads: {kinds: [road]}, north: {entities: [footfall/b]}}"


@pytest.fixture(scope="module")
def city(ray_session, tmp_path_factory):
    from twin_actors.scenario import load_scenario

    path = tmp_path_factory.mktemp("shared") / "shared.yaml"
    path.write_text(CITY.format(name="shared", routers=THREE))
    with living(load_scenario([path])) as city:
        yield city


def say_all(city, flow_pph, devices):
    for entity in ("footfall/a", "footfall/b"):
        devices.say(entity, {"flow_pph": flow_pph})
    devices.say("road/ring", {"speed_kmh": 31})
    devices.say("venue/hall", {"in_persons": 120, "out_persons": 0})


def test_every_reading_is_logged_by_the_router_of_its_entity_and_by_no_other(city):
    assert city.plan.routers == ("router", "router:north", "router:roads")
    assert {actor.name.partition("@")[2] for actor in city.plan.actors} == {"", "north", "roads"}
    before = city.ledger()
    with devices_of(city) as devices:
        say_all(city, 700, devices)
        devices.send("counters/a/data", b'{"pph": 701}')
        devices.send("counters/b/data", b'{"pph": 702}')
        devices.flush()
    ledger = settled(city, before.received + 6)
    assert ledger.balanced
    assert ledger.received == before.received + 6, "nobody counts another router's readings"
    assert ledger.applied == before.applied + 6
    statuses = city.status()["routers"]
    assert {name: sum(a["received"] for a in said["actors"].values()) for name, said in statuses.items()} == {
        "router": 3,
        "router:north": 2,
        "router:roads": 1,
    }
    assert city["footfall/b"].reported.flow_pph == 702
    assert sum(city.ledger(by="entity").values(), start=type(ledger)()) == city.ledger()
    assert len(city.history("footfall/b", "flow_pph", last="1h")) == 2
    assert len(city.history("road/ring", "speed_kmh", last="1h")) == 1


def test_a_stray_message_becomes_one_dead_letter_that_can_be_replayed_where_it_belongs(city):
    before = city.ledger()
    with devices_of(city) as devices:
        devices.send("counters/nobody/data", b'{"pph": 1}')  # two routers hear this fleet
        devices.send("shared/hospital/nobody/telemetry", b'{"beds": 1}')  # a kind that the scenario does not use
        devices.send("shared/road/nobody/telemetry", b'{"speed_kmh": 44}')
        devices.flush()
    ledger = settled(city, before.received + 3)
    assert ledger.dead_lettered == before.dead_lettered + 3
    assert ledger.balanced
    letters = city.dead_letters(3)
    assert sorted(letters["share"]) == ["router", "router", "router:roads"]
    number = int(letters.index[list(letters["share"]).index("router:roads")])
    city.replay_dead_letter(number, topic="shared/footfall/b/telemetry", payload='{"flow_pph": 44}')
    ledger = settled(city, before.received + 4)
    assert ledger.balanced
    assert city["footfall/b"].reported.flow_pph == 44, "its own router took it in"
    assert city.dead_letter(number).state is LetterState.REPLAYED


def test_a_command_goes_out_through_the_router_of_its_entity(city, ray_session):
    from twin_actors.wire.messages import Acknowledgement, decode_command, encode_acknowledgement

    commands = []
    with devices_of(city, receive=lambda topic, payload, *_: commands.append(decode_command(payload))) as devices:
        devices.client.subscribe(devices.topics.command("venue/hall"), 1)
        eventually(lambda: devices.client.ready)
        city.command("venue/hall", gates_open=0.5)
        command = eventually(lambda: commands and commands[0])
        answer = encode_acknowledgement(Acknowledgement(id=command.id, status="done", values={"gates_open": 0.5}))
        devices.send(devices.topics.acknowledgement("venue/hall"), answer)
        eventually(lambda: city.status()["aggregator"]["commands_acknowledged"] == 1)
    assert city.status()["routers"]["router"]["open_commands"] == 0


def test_one_router_may_die_while_the_others_go_on(city, ray_session):
    before = city.ledger()
    handle = ray_session.get_actor("router:north", namespace="twin-actors-shared")
    ray_session.kill(handle, no_restart=False)
    with devices_of(city) as devices:
        say_all(city, 800, devices)
        devices.flush()
        eventually(lambda: city["footfall/a"].reported.flow_pph == 800)
    ledger = settled(city, before.received + 4)
    assert ledger.balanced
    assert city["footfall/b"].reported.flow_pph == 800, "the broker kept it for the next incarnation"
    assert city.status()["routers"]["router:north"]["epoch"] == 2
    assert city.status()["routers"]["router"]["epoch"] == 1


def test_another_division_of_routers_takes_everything_over(tmp_path):
    """What waits at the broker for the old division becomes dead letters that go where they now belong."""
    from twin_actors.scenario import load_scenario

    def scenario(routers):
        path = tmp_path / "city.yaml"
        text = CITY.format(name="divided", routers=routers)
        path.write_text(f"{text}broker: {{url: 'mqtt://{address.host}:{address.port}'}}\n")
        return load_scenario([path])

    with EmbeddedBroker(tmp_path / "broker", kind="mosquitto") as broker:
        address = broker.address
        with living(scenario("{}"), volumes=False) as city, devices_of(city) as devices:
            say_all(city, 300, devices)
            devices.flush()
            settled(city, 4)
        with living(scenario(THREE), volumes=False) as city, devices_of(city) as devices:
            assert city.ledger().applied == 4
            assert city["footfall/b"].reported.flow_pph == 300
            say_all(city, 310, devices)
            devices.flush()
            assert settled(city, 8).balanced
            reach = city.plan.broker
        with mqtt_client(reach, client_id="meanwhile") as client:  # the city is down
            client.wait_connected(10.0)
            for entity in ("footfall/a", "footfall/b"):
                client.publish(f"divided/{entity}/telemetry", b'{"flow_pph": 315}', 1)
            assert client.flush(10.0)
        with living(scenario("{roads: {kinds: [road, footfall]}}")) as city, devices_of(city) as devices:
            ledger = settled(city, 10)
            assert (ledger.received, ledger.applied, ledger.dead_lettered, ledger.unexplained) == (10, 8, 2, 0)
            letters = city.dead_letters(5)
            assert list(letters["reason"]) == ["elsewhere", "elsewhere"]
            for number in letters.index:
                city.replay_dead_letter(int(number))
            settled(city, 12)
            assert city["footfall/b"].reported.flow_pph == 315
            say_all(city, 320, devices)
            devices.flush()
            assert settled(city, 16).balanced
            said = city.history("footfall/b", "flow_pph", last="1h")
            assert list(said["value"]) == [300, 310, 315, 320], "its history is in three logs"
