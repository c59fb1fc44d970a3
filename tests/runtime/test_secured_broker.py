"""A city behind an outside broker that asks for TLS and a password."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.wire.conftest import certificates  # noqa: F401  # the fixture
from twin_actors.runtime import local
from twin_actors.runtime.city import City
from twin_actors.runtime.placement import LaunchRefused
from twin_actors.scenario import Scenario
from twin_actors.testing.live import devices_of, eventually, living, settled
from twin_actors.wire.access import access_list
from twin_actors.wire.broker import EmbeddedBroker, TlsFiles, find_mosquitto
from twin_actors.wire.client import BrokerAddress, MqttClient
from twin_actors.wire.messages import encode_reading

pytestmark = [
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed"),
    pytest.mark.timeout(120),
]

PASSWORD, VARIABLE = "grün & geheim", "TWIN_ACTORS_TEST_PASSWORD"
CITY = """
city: {city}
broker: {{url: "mqtts://127.0.0.1:{port}", username: city, password_env: {variable}, ca_file: "{ca_file}"}}
placement: {{entities_per_actor: 10}}
entities:
  - {{kind: footfall, name: gate}}
"""


@pytest.fixture
def guarded(tmp_path: Path, certificates: TlsFiles) -> Iterator[EmbeddedBroker]:  # noqa: F811
    """Somebody's Mosquitto: TLS, and nobody without a password."""
    with EmbeddedBroker(tmp_path / "outside", "mosquitto", users={"city": PASSWORD}, tls=certificates) as broker:
        yield broker


@pytest.fixture
def scenario_for(
    make_scenario: Callable[[str], Scenario],
    guarded: EmbeddedBroker,
    certificates: TlsFiles,  # noqa: F811
) -> Callable[[str], Scenario]:
    def make(city: str) -> Scenario:
        text = CITY.format(city=city, port=guarded.port, variable=VARIABLE, ca_file=certificates.ca_file)
        return make_scenario(text)

    return make


def works(city: City) -> None:
    with devices_of(city) as devices:
        devices.say("footfall/gate", {"flow_pph": 4321})
        devices.flush()
    ledger = settled(city, 1)
    assert ledger.applied == 1
    assert ledger.balanced
    assert city["footfall/gate"].reported.flow_pph == 4321


def test_a_city_speaks_tls_and_gives_its_password(
    scenario_for: Callable[[str], Scenario], guarded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, PASSWORD)
    with living(scenario_for("guarded")) as city:
        works(city)
        nobody = MqttClient(
            BrokerAddress(host="127.0.0.1", port=guarded.port, tls=True, ca_file=guarded.address.ca_file)
        )
        try:
            nobody.step(1.0)
            assert not nobody.ready
        finally:
            nobody.close()
        folder = local.folder_of("guarded")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in folder.iterdir():
            if path.is_file() and PASSWORD.encode() in path.read_bytes():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert guarded.running, "an outside broker is not ours to end"


def test_a_wrong_password_ends_the_launch_with_what_to_do(
    scenario_for: Callable[[str], Scenario],
    guarded: EmbeddedBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "guessed")
    scenario = scenario_for("locked-out")
    # brokers say either "bad user name or password" or, as Mosquitto does, only "not authorised"
    words = rf"mqtts://city@127\.0\.0\.1:{guarded.port}: .*(password is wrong|may not connect).* username and password"
    with pytest.raises((LaunchRefused, TimeoutError), match=words) as refused:
        City.launch(scenario, address="local")
    assert "guessed" not in str(refused.value)
    assert local.running("locked-out") is None
    assert guarded.running
    monkeypatch.setenv(VARIABLE, PASSWORD)
    with living(scenario) as city:  # nothing of the failed launch stands in the way
        works(city)


def test_a_password_that_is_not_set_is_named(
    scenario_for: Callable[[str], Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(LookupError, match=f"{VARIABLE}' is not set; export it before starting the city"):
        City.launch(scenario_for("unsaid"), address="local")
    assert local.running("unsaid") is None


def test_a_gateway_speaks_to_the_city_and_no_device_does_in_its_name(
    make_scenario: Callable[[str], Scenario], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passwords and an access control list at a real Mosquitto, between a city, a gateway and a device."""
    monkeypatch.setenv(VARIABLE, PASSWORD)
    passwords = {"city": PASSWORD, "cabinet-7": "the gateway's", "gate": "the device's"}
    access = access_list("governed", ["footfall"], city="city", gateways=["cabinet-7"], names={"gate", "quay"})
    with EmbeddedBroker(tmp_path / "outside", "mosquitto", users=passwords, access=access) as broker:
        scenario = make_scenario(
            f"""
            city: governed
            broker: {{url: "mqtt://127.0.0.1:{broker.port}", username: city, password_env: {VARIABLE}}}
            placement: {{entities_per_actor: 10}}
            entities: [{{kind: footfall, name: gate}}, {{kind: footfall, name: quay}}]
            """
        )

        def say(user: str, topic: str, payload: bytes) -> None:
            address = replace(broker.address, username=user, password=passwords[user])
            with MqttClient(address, client_id=user) as client:
                client.wait_connected(10.0)
                assert client.publish(f"governed/{topic}", payload, 1)
                assert client.flush(10.0)

        with living(scenario) as city:
            at_ms = round(city.now_s() * 1000)
            both = {"kind": "footfall", "entities": ["gate", "quay"], "ts": at_ms, "values": {"flow_pph": [410, 388]}}
            forged = json.dumps({**both, "ts": at_ms + 1, "values": {"flow_pph": [9000, 9000]}}).encode()
            say("gate", "gateway/cabinet-7/telemetry", forged)
            say("gate", "gateway/gate/telemetry", forged)
            say("gate", "footfall/quay/telemetry", encode_reading({"flow_pph": 9000}, at_ms + 1))
            say("cabinet-7", "footfall/gate/telemetry", encode_reading({"flow_pph": 9000}, at_ms + 1))
            say("cabinet-7", "gateway/cabinet-8/telemetry", forged)
            say("cabinet-7", "gateway/cabinet-7/telemetry", json.dumps(both).encode())
            say("gate", "footfall/gate/telemetry", encode_reading({"flow_pph": 420}, at_ms + 2))
            ledger = settled(city, 3)
            assert ledger.balanced
            assert (ledger.received, ledger.applied) == (3, 3)
            assert [city[f"footfall/{name}"].reported.flow_pph for name in ("gate", "quay")] == [420, 388]


def test_credentials_that_are_revoked_while_the_city_lives(
    make_scenario: Callable[[str], Scenario],
    certificates: TlsFiles,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, PASSWORD)
    users = {"city": PASSWORD, "device": "its own"}
    with EmbeddedBroker(tmp_path / "outside", "mosquitto", users=users, tls=certificates) as broker:
        text = CITY.format(city="revoked", port=broker.port, variable=VARIABLE, ca_file=certificates.ca_file)
        passwords = tmp_path / "outside" / "passwords"
        granted = passwords.read_text()
        without = "".join(line for line in granted.splitlines(True) if not line.startswith("city:"))

        def rule(lines: str) -> None:
            passwords.write_text(lines)
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGHUP)  # Mosquitto reads its users again, and ends who is none any more

        with living(make_scenario(text)) as city:
            works(city)
            rule(without)
            eventually(lambda: not city.status()["router"]["connected"], within_s=20.0)
            refused = re.compile("password is wrong|may not connect")  # first the connection is only lost
            eventually(lambda: refused.search(city.status()["router"]["broker_error"]), within_s=20.0)
            alarms = eventually(lambda: city.status()["controller"]["audit"]["alarms"], within_s=40.0)
            assert {"alarm": "unreachable", "place": "broker"}.items() <= alarms[0].items()
            device = MqttClient(
                BrokerAddress(
                    host="127.0.0.1",
                    port=broker.port,
                    tls=True,
                    ca_file=certificates.ca_file,
                    username="device",
                    password="its own",
                )
            )
            with device:
                device.wait_connected(10.0)
                for number in range(3):
                    payload = encode_reading({"flow_pph": 5000 + number}, round(city.now_s() * 1000) + number)
                    assert device.publish(f"{city.scenario.root}/footfall/gate/telemetry", payload, 1)
                assert device.flush(10.0)
            ledger = city.ledger()
            assert ledger.balanced
            assert ledger.received == 1
            rule(granted)
            eventually(lambda: city.status()["router"]["connected"], within_s=60.0)
            ledger = settled(city, 4)  # the broker has kept for the city's session what came meanwhile
            assert ledger.balanced
            assert ledger.applied == 4
            eventually(lambda: not city.status()["controller"]["audit"]["alarms"], within_s=40.0)
