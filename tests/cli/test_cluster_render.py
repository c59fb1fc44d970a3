"""``cluster render``: what all forms share, docker compose and ``ray up``, checked as far as no engine is needed."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.wire.test_access import published
from twin_actors.cli.rendering import wanted
from twin_actors.runtime.placement import ACTOR_BYTES
from twin_actors.scenario import load_scenario
from twin_actors.wire.address import BrokerAddress, BrokerUnreachable
from twin_actors.wire.broker import find_mosquitto
from twin_actors.wire.client import MqttClient

ROOT = Path(__file__).resolve().parents[2]
HARBOUR = ROOT / "scenarios" / "harbour.yaml"
REPLAY = ROOT / "scenarios" / "replay.yaml"
FORMS = ("compose", "ray-up", "kuberay")
GATEWAY_PASSWORD, DEVICE_PASSWORD = "the gateway's own", "the device's own"
SECRETS = ("RAY_AUTH_TOKEN", "PGPASSWORD", "TWIN_ACTORS_MQTT_PASSWORD")

COMPOSE_SCHEMA = json.loads((Path(__file__).parent / "compose-schema.json").read_text())

Run = Callable[..., Any]


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def secret_values(folder: Path) -> dict[str, str]:
    manifest = folder / "secret.yaml"
    if manifest.exists():
        return dict(yaml.safe_load(manifest.read_text())["stringData"])
    said = wanted.read_env((folder / ".env").read_text())
    return {name: said[name] for name in SECRETS if name in said}


def compose_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())
    return document


# -- all forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_no_secret_stands_outside_of_the_secret_file(rendered: Callable[..., Path], form: str) -> None:
    folder = rendered(form)
    name = "secret.yaml" if form == "kuberay" else ".env"
    values = secret_values(folder)
    assert sorted(values) == sorted(SECRETS)
    assert len(set(values.values())) == len(SECRETS)
    assert all(len(value) == 64 for value in values.values())
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    for path, text in texts(folder).items():
        assert path == name or not any(value in text for value in values.values()), path


@pytest.mark.parametrize("form", FORMS)
def test_a_second_rendering_keeps_the_secrets(rendered: Callable[..., Path], form: str) -> None:
    before = secret_values(rendered(form))
    assert secret_values(rendered(form)) == before  # the database was made with them


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_hang_on_the_umask(rendered: Callable[..., Path], umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = rendered("compose")
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in (".env", "launch.sh", "mosquitto.conf")}
    assert modes == {".env": 0o600, "launch.sh": 0o755, "mosquitto.conf": 0o644}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("base", [HARBOUR, REPLAY])
def test_the_overlay_takes_the_scenario_to_the_cluster(
    run: Run, rendered: Callable[..., Path], form: str, base: Path
) -> None:
    folder = rendered(form, base)
    said = json.loads(run("validate", base, "-f", folder / "cluster.yaml", "--json").stdout)
    city = base.stem
    where = {"compose": "mosquitto", "ray-up": "10.0.0.1", "kuberay": f"{city}-mosquitto"}[form]
    head = {"compose": "head", "ray-up": "10.0.0.1", "kuberay": f"{city}-head-svc"}[form]
    assert said["valid"] is True
    assert said["broker"] == f"{where}:1883"
    assert said["cluster"] == f"{head}:6379"
    changed = yaml.load((folder / "cluster.yaml").read_text().replace("!replace ", ""), yaml.SafeLoader)
    assert sorted(changed) == ["broker", "cluster", "store"]
    assert changed["store"]["url"].endswith(f"?schema={city}")
    copied = json.loads(
        run("validate", folder / "scenario" / base.name, "-f", folder / "cluster.yaml", "--json").stdout
    )
    assert {**copied, "files": [], "sources": {}} == {**said, "files": [], "sources": {}}


def test_settings_of_an_embedded_broker_do_not_get_in_the_way(
    run: Run, rendered: Callable[..., Path], scenario_file: Path
) -> None:
    scenario_file.write_text(scenario_file.read_text() + "broker: {embedded: mosquitto, port: 1899, qos: 0}\n")
    folder = rendered("compose", scenario_file)
    assert json.loads(run("validate", scenario_file, "-f", folder / "cluster.yaml", "--json").stdout)["valid"] is True
    from twin_actors.scenario import load_scenario

    broker = load_scenario([scenario_file, folder / "cluster.yaml"]).broker
    assert (broker.host, broker.qos, broker.password_env) == ("mosquitto", 0, "TWIN_ACTORS_MQTT_PASSWORD")


def test_a_broker_and_a_store_that_are_there_are_used(
    rendered: Callable[..., Path], scenario_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario_file.write_text(
        scenario_file.read_text()
        + "broker: {url: 'mqtt://broker.example', username: me, password_env: THEIR_PASSWORD}\n"
        + "store: {url: 'postgresql://me@db.example/city'}\n"
    )
    monkeypatch.setenv("THEIR_PASSWORD", "of the broker")
    monkeypatch.setenv("PGPASSWORD", "of the store")
    folder = rendered("compose", scenario_file)
    assert sorted(compose_of(folder)["services"]) == ["head", "launcher", "worker"]
    assert sorted(yaml.safe_load((folder / "cluster.yaml").read_text())) == ["cluster"]
    said = wanted.read_env((folder / ".env").read_text())
    assert (said["THEIR_PASSWORD"], said["PGPASSWORD"]) == ("of the broker", "of the store")


@pytest.mark.parametrize(
    ("more", "words", "complaint"),
    [
        ("broker: {url: 'mqtt://localhost'}\n", ("--as", "compose"), "another machine on every node"),
        ("broker: {url: 'mqtt://b', password_env: NOT_SET_HERE}\n", ("--as", "compose"), "NOT_SET_HERE"),
        (f"# {'x' * 41}\n", ("--as", "kuberay"), "at most 40 letters"),
        ("", ("--as", "swarm"), "compose, ray-up, kuberay"),
        ("", ("--as", "ray-up"), "--head-ip"),
        ("", ("--as", "ray-up", "--head-ip", "big-one", "--worker-ip", "10.0.0.2"), "no IP address"),
        ("", ("--as", "ray-up", "--head-ip", "10.0.0.2", "--worker-ip", "10.0.0.2"), "of its own"),
        ("", ("--as", "compose", "--workers", "0"), "workers"),
        ("entites: []\n", ("--as", "compose"), "entities"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    run: Run, tmp_path: Path, scenario_file: Path, more: str, words: tuple[str, ...], complaint: str
) -> None:
    city = more[2:].strip() if more.startswith("# ") else "little"
    scenario_file.write_text(scenario_file.read_text().replace("city: little", f"city: {city}") + more)
    result = run("cluster", "render", scenario_file, "--to", tmp_path / "out", *words)
    assert result.exit_code != 0
    assert complaint in re.sub(r"\s*[│\n]+\s*", " ", result.stderr)
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_files_that_the_scenario_names_come_along_and_keys_do_not(
    rendered: Callable[..., Path], tmp_path: Path, run: Run
) -> None:
    (tmp_path / "cities").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gates.csv").write_text("name\ngate-1\ngate-2\n")
    for name in ("ca.pem", "client.pem", "client.key"):
        (tmp_path / "cities" / name).write_text("x")
    base = tmp_path / "cities" / "base.yaml"
    base.write_text(
        "city: gates\nentities: [{kind: footfall, csv: ../data/gates.csv}]\n"
        "broker: {url: 'mqtts://b.example', ca_file: ca.pem, cert_file: client.pem, key_file: client.key}\n"
    )
    folder = tmp_path / "made"
    result = run("cluster", "render", base, "--to", folder, "--as", "compose", "--json")
    assert result.exit_code == 0, result.stderr
    copied = sorted(name for name in json.loads(result.stdout)["files"] if name.startswith("scenario/"))
    assert copied == ["scenario/cities/base.yaml", "scenario/cities/ca.pem", "scenario/data/gates.csv"]
    assert json.loads(result.stdout)["not_copied"] == [str(base.parent / "client.pem"), str(base.parent / "client.key")]
    assert "client.key" in result.stderr
    launcher = compose_of(folder)["services"]["launcher"]
    assert launcher["command"][-3:] == ["/city/scenario/cities/base.yaml", "-f", "/city/cluster.yaml"]


# -- Ray's command lines -------------------------------------------------------------------------------------------


def ray_commands(folder: Path) -> list[list[str]]:
    """Arguments of every ``ray start`` of a rendered folder."""
    if (folder / "compose.yaml").exists():
        services = compose_of(folder)["services"]
        return [services[name]["command"][2:] for name in ("head", "worker")]
    document = yaml.safe_load((folder / "ray-up.yaml").read_text())
    lines = document["head_start_ray_commands"][-1], document["worker_start_ray_commands"][-1]
    return [shlex.split(line.rpartition("; ")[2])[2:] for line in lines]


@pytest.mark.parametrize("form", ["compose", "ray-up"])
def test_ray_understands_its_command_lines_and_ports_keep_out_of_the_workers_range(
    rendered: Callable[..., Path], form: str
) -> None:
    from ray.scripts.scripts import start

    head, worker = (start.make_context("start", args).params for args in ray_commands(rendered(form)))
    assert (head["head"], head["num_cpus"], worker["head"], worker["num_cpus"]) == (True, 0, False, None)
    assert worker["address"].endswith(":6379")
    assert head["memory"] < ACTOR_BYTES  # no twins on the head
    assert worker["memory"] is None
    for node in (head, worker):
        low, high = node["min_worker_port"], node["max_worker_port"]
        assert (low, high) == (10_002, 19_999)
        ports = [
            int(value)
            for name, value in node.items()
            if name not in ("min_worker_port", "max_worker_port") and "port" in name and str(value or "").isdigit()
        ]
        assert len(ports) >= 6
        assert len(set(ports)) == len(ports)
        assert not [port for port in (*ports, 1883, 5432) if low <= port <= high]
        assert node["metrics_export_port"] == 8080
        assert node["object_store_memory"] < wanted.SHM_MIB * 1024 * 1024


# -- docker compose ------------------------------------------------------------------------------------------------


def test_the_compose_file_is_of_the_specification_and_every_node_has_all_it_needs(
    rendered: Callable[..., Path],
) -> None:
    folder = rendered("compose", HARBOUR, "--workers", 3)
    document = compose_of(folder)
    jsonschema.validate(document, COMPOSE_SCHEMA)
    services = document["services"]
    assert sorted(services) == ["head", "launcher", "mosquitto", "postgres", "worker"]
    assert services["worker"]["deploy"]["replicas"] == 3
    for name in ("head", "worker", "launcher"):
        node = services[name]
        environment = node["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
        assert [environment[f"RAY_health_check_{key}"] for key in ("period_ms", "timeout_ms", "failure_threshold")] == [
            "1000", "2000", "5",
        ]  # fmt: skip
        assert node["ulimits"]["nofile"] == {"soft": 65_536, "hard": 65_536}
        assert node["shm_size"] == "512m"
        assert int(node["stop_grace_period"].removesuffix("s")) > 30  # Ray drains as long
        own = f"city:{environment['TWIN_ACTORS_HOME']}" in node["volumes"]
        assert own is (name == "launcher"), "the others see nothing of the launch's folder"
    named = {volume.split(":")[0] for each in services.values() for volume in each["volumes"]}
    assert {name for name in named if not name.startswith(".")} == set(document["volumes"])
    assert all((folder / name).exists() for name in named if name.startswith("."))
    assert {name for each in services.values() for name in each.get("depends_on", ())} <= set(services)
    open_ports = [port for each in services.values() for port in each.get("ports", ())]
    assert [port for port in open_ports if not port.startswith("127.0.0.1:")] == ["${MQTT_ADDRESS:-0.0.0.0}:1883:1883"]


def test_env_holds_all_that_the_compose_file_asks_for_and_a_shell_reads_the_same(
    rendered: Callable[..., Path],
) -> None:
    folder = rendered("compose")
    asked = set(re.findall(r"(?<!\$)\$\{([A-Z_]+):\?", (folder / "compose.yaml").read_text()))
    assert asked == set(SECRETS)
    shown = subprocess.run(
        ["sh", "-c", 'set -a; . "$0"; printf "%s" "$PGPASSWORD"', str(folder / ".env")],
        capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}, timeout=10,
    )  # fmt: skip
    assert shown.stdout == secret_values(folder)["PGPASSWORD"]


def test_an_environment_file_refuses_what_shell_and_compose_read_differently() -> None:
    with pytest.raises(ValueError, match="the value of A has a quote or a line break"):
        wanted.env_file({"A": "it's"})
    assert wanted.read_env(wanted.env_file({"A": 'x=$y "z" #'}).text) == {"A": 'x=$y "z" #'}


def test_the_scripts_are_shell(rendered: Callable[..., Path]) -> None:
    for form, name in (("compose", "launch.sh"), ("kuberay", "launch.sh"), ("ray-up", "up.sh")):
        subprocess.run(["bash", "-n", str(rendered(form) / name)], check=True, timeout=10)


def test_the_launcher_gives_ray_its_words_and_the_city_the_rest(rendered: Callable[..., Path], tmp_path: Path) -> None:
    """The real script with other programs in the place of ray and twin-actors, which write down what they are told."""
    launcher = compose_of(rendered("compose"))["services"]["launcher"]
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("ray", "twin-actors"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$SAID"\n')
        (programs / name).chmod(0o755)
    (programs / "pgrep").write_text("#!/bin/sh\necho 999999999\n")  # a node that is gone already
    (programs / "pgrep").chmod(0o755)
    home = tmp_path / "home"
    (home / "harbour").mkdir(parents=True)
    (home / "harbour" / "city.json").touch()  # what an earlier launcher has left
    environment = {
        **{key: launcher["environment"][key] for key in ("CITY", "RAY_HEAD", "RAY_ARGUMENTS")},
        "TWIN_ACTORS_HOME": str(home),
        "SAID": str(tmp_path / "said"),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    script = tmp_path / "compose" / "launch.sh"
    done = subprocess.run(
        ["bash", str(script), *launcher["command"][1:]], env=environment, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, "node of the launcher has ended" in done.stderr) == (1, True)
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0] == "ray health-check --address head:6379"
    assert said[1].startswith("ray start --address=head:6379 --num-cpus=0 --memory=10000000 --node-manager-port=6380 ")
    assert "/city" not in said[1]
    assert said[2] == "twin-actors down harbour"
    assert said[3] == "twin-actors up -d /city/scenario/harbour.yaml -f /city/cluster.yaml"


@pytest.fixture
def mosquitto(rendered: Callable[..., Path], tmp_path: Path) -> Iterator[BrokerAddress]:
    """A real Mosquitto with the configuration and the password of a rendered folder, its paths and port made local."""
    program, tool = find_mosquitto(), shutil.which("mosquitto_passwd")
    if not program or not tool:
        pytest.skip("Mosquitto is not installed")
    folder = rendered("compose", HARBOUR, "--gateway", "cabinet-7")
    data = tmp_path / "data"
    data.mkdir()
    password = secret_values(folder)["TWIN_ACTORS_MQTT_PASSWORD"]
    # users that were added before stay when the service starts again
    subprocess.run([tool, "-c", "-b", str(data / "passwords"), "cabinet-7", GATEWAY_PASSWORD], check=True, timeout=10)
    subprocess.run([tool, "-b", str(data / "passwords"), "quay", DEVICE_PASSWORD], check=True, timeout=10)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    conf = (folder / "mosquitto.conf").read_text().replace("/mosquitto/data", str(data))
    conf = conf.replace("listener 1883", f"listener {port} 127.0.0.1") + ("user root\n" if os.geteuid() == 0 else "")
    (data / "mosquitto.conf").write_text(conf)
    (data / "mosquitto.acl").write_bytes((folder / "mosquitto.acl").read_bytes())
    start = wanted.MOSQUITTO_START.replace("/mosquitto/data", str(data)).replace("/mosquitto/config", str(data))
    start = start.replace("chown mosquitto:mosquitto", "ls").replace("exec mosquitto", f"exec {program}")
    with (data / "out").open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", start], stdout=output, stderr=output, env={**os.environ, "TWIN_ACTORS_MQTT_PASSWORD": password}
        )
    try:
        yield BrokerAddress(host="127.0.0.1", port=port, username="city", password=password)
    finally:
        process.terminate()
        process.wait(10)


def test_mosquitto_takes_its_configuration_and_lets_nobody_in_without_the_password(mosquitto: BrokerAddress) -> None:
    import dataclasses

    with MqttClient(mosquitto, client_id=f"t-{secrets.token_hex(4)}") as client:
        client.wait_connected(10.0)
    stranger = dataclasses.replace(mosquitto, username=None, password=None)
    with (
        MqttClient(stranger, client_id="stranger") as client,
        pytest.raises(BrokerUnreachable, match="this user may not connect"),
    ):
        client.wait_connected(2.0)


def test_gateways_and_devices_of_a_rendered_broker_speak_for_themselves(mosquitto: BrokerAddress) -> None:
    topics = [
        "harbour/gateway/cabinet-7/telemetry",
        "harbour/gateway/quay/telemetry",
        "harbour/substation/quay/telemetry",
        "harbour/substation/north/telemetry",
        "harbour/city/status",
    ]
    with MqttClient(mosquitto, client_id=f"t-{secrets.token_hex(4)}") as client:
        client.wait_connected(10.0)
    assert published(mosquitto, "cabinet-7", GATEWAY_PASSWORD, "auto", topics) == {topics[0]}
    assert published(mosquitto, "quay", DEVICE_PASSWORD, "auto", topics) == {topics[2]}
    assert published(mosquitto, "city", str(mosquitto.password), "auto", topics) == set(topics)


@pytest.mark.parametrize("form", FORMS)
def test_the_access_control_list_is_rendered_with_the_configuration(rendered: Callable[..., Path], form: str) -> None:
    folder = rendered(form, HARBOUR, "--gateway", "cabinet-7", "--gateway", "cabinet-8")
    if form == "kuberay":
        documents = list(yaml.safe_load_all((folder / "kuberay.yaml").read_text()))
        files = next(each["data"] for each in documents if each["kind"] == "ConfigMap")
    else:
        files = {name: (folder / name).read_text() for name in ("mosquitto.conf", "mosquitto.acl")}
    where = "/etc/mosquitto/city.acl" if form == "ray-up" else "/mosquitto/data/access"
    assert f"acl_file {where}" in files["mosquitto.conf"].splitlines()
    rules = files["mosquitto.acl"].splitlines()
    assert {"user city", "topic readwrite harbour/#", "topic write harbour/gateway/cabinet-8/telemetry"} <= set(rules)
    kinds = load_scenario([HARBOUR]).kinds_used()
    assert [rule for rule in rules if "pattern" in rule and "telemetry" in rule] == [
        f"pattern write harbour/{kind}/%u/telemetry" for kind in sorted(kinds)
    ]


def test_a_gateway_with_the_name_of_an_entity_is_refused(run: Run, tmp_path: Path) -> None:
    result = run("cluster", "render", HARBOUR, "--to", tmp_path / "x", "--as", "compose", "--gateway", "quay")
    assert result.exit_code == 2
    assert "gateway 'quay' has the name of an entity" in result.stderr
    assert not (tmp_path / "x").exists()


# -- ray up --------------------------------------------------------------------------------------------------------


def test_ray_up_accepts_its_file(rendered: Callable[..., Path]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    folder = rendered("ray-up")
    document = yaml.safe_load((folder / "ray-up.yaml").read_text())
    ready = prepare_config(document)
    validate_config(ready)
    assert ready["provider"]["head_ip"] == "10.0.0.1"
    assert ready["provider"]["worker_ips"] == ["10.0.0.2", "10.0.0.3"]
    assert ready["available_node_types"]["local.cluster.node"]["max_workers"] == 2
    assert document["file_mounts"] == {"~/twin-actors/harbour": str(folder)}
    for commands in (ready["head_start_ray_commands"], ready["worker_start_ray_commands"]):
        assert "ulimit -S -n 65536" in commands[-1]
        assert ". ~/twin-actors/harbour/.env" in commands[-1]
    said = wanted.read_env((folder / ".env").read_text())
    assert said["RAY_AUTH_MODE"] == "token"
    assert said["RAY_health_check_period_ms"] == "1000"
    assert "TWIN_ACTORS_HOME" not in said, "the head's own folder will do"
    with pytest.raises(jsonschema.ValidationError):
        validate_config({**ready, "no such key": 1})  # Ray's check is one that can fail
