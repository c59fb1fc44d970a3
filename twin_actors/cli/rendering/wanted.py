"""What a cluster has in common whatever runs it: ports, environment, Ray's command lines, broker, overlay, texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, Literal

import yaml

Form = Literal["compose", "ray-up", "kuberay"]

PORTS = {
    "port": 6379,  # of the global control store, to which nodes and drivers connect
    "node-manager-port": 6380,
    "object-manager-port": 6381,
    "runtime-env-agent-port": 6382,
    "dashboard-agent-grpc-port": 6383,
    "dashboard-agent-listen-port": 52_365,
    "metrics-export-port": 8_080,
}
"""Of every node; ``port`` of the head only. Fixed, so that a firewall can name them; outside of WORKER_PORTS."""
CLIENT_PORT = 10_001
WORKER_PORTS = (10_002, 19_999)
MQTT_PORT, STORE_PORT = 1883, 5432

OPEN_FILES = 65_536
SHM_MIB = 512
OBJECT_STORE_BYTES = 200_000_000
"""Twin actors take batches below 100 KiB: little goes through shared memory. It must fit into SHM_MIB."""
NO_TWINS_BYTES = 10_000_000
"""Memory that head and launcher offer to actors: less than any of ours asks for, so that all stand on the workers."""
HOME = "/var/lib/twin-actors"
GRACE_S = 60
"""How long a node may take to end: Ray drains up to 30 s after SIGTERM."""

ENVIRONMENT: Mapping[str, str] = {
    "RAY_AUTH_MODE": "token",
    # A crashed node is noticed after 5.5 s and a frozen one after 17 s, instead of 15 s and a minute.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_worker_niceness": "0",  # workers at nice 15 would stand behind a broker on the same machine
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
TOKEN, STORE_PASSWORD, BROKER_PASSWORD = "RAY_AUTH_TOKEN", "PGPASSWORD", "TWIN_ACTORS_MQTT_PASSWORD"
USER = "city"
"""Of the broker, the database server and the database."""

HEALTHY = (
    "import urllib.request as u; "
    f"u.urlopen('http://127.0.0.1:{PORTS['dashboard-agent-listen-port']}/api/local_raylet_healthz', timeout=4)"
)
"""Python that fails where the raylet of its own node is not well; this address asks for no token."""


LEAVE = (
    "import psutil; "
    "nodes = [each for each in psutil.process_iter() if {'start', '--block'} <= set(each.cmdline())]; "
    "[each.terminate() for each in nodes]; psutil.wait_procs(nodes, 45)"
)
"""Python that lets the node of its own container leave: Ray says that it drains, the city moves its actors away, and
the node ends as soon as it is empty, at the latest after 30 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to write: its path below the folder, its text, whether only its owner may read or all may run it."""

    path: str
    text: str
    secret: bool = False
    program: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What is to be rendered. ``files`` are the scenario's, in their order, below the folder's ``scenario/``.

    ``broker`` and ``store`` say whether the cluster brings its own (else the scenario names one that runs already);
    ``broker_keeps`` is what the scenario says of any broker: qos, protocol; ``access`` is who may do what at ours;
    ``secrets`` are the values by environment variable, ``actors`` the number of twin actors.
    """

    city: str
    files: tuple[str, ...]
    version: str
    workers: int
    actors: int
    actor_bytes: int
    reserved_bytes: int
    broker: bool
    store: bool
    broker_keeps: Mapping[str, Any] = field(default_factory=dict)
    access: str = ""
    secrets: Mapping[str, str] = field(repr=False)
    image: str
    storage_class: str | None = None
    head_ip: str = ""
    worker_ips: tuple[str, ...] = ()
    ssh_user: str = ""
    folder: str = ""

    @property
    def schema(self) -> str:
        """Of the city in PostgreSQL, where a dash would have to be quoted."""
        return self.city.replace("-", "_")

    @property
    def requirement(self) -> str:
        return f"twin-actors[postgres,history]=={self.version}"

    @property
    def worker_bytes(self) -> int:
        """Memory for a worker's share of the twin actors and for what every node needs."""
        return -(-self.actors // self.workers) * self.actor_bytes + self.reserved_bytes


def ray_start(cluster: Cluster, *, head: bool, address: str = "", block: bool = True) -> list[str]:
    """The command that starts a node. The head takes no work: when it is gone, so is the cluster."""
    words = ["ray", "start"]
    if head:
        words += [
            "--head", f"--port={PORTS['port']}", f"--ray-client-server-port={CLIENT_PORT}", "--num-cpus=0",
            f"--memory={NO_TWINS_BYTES}", "--include-dashboard=false",
        ]  # fmt: skip
    else:
        words.append(f"--address={address}")
    words += [*node_arguments(), f"--object-store-memory={OBJECT_STORE_BYTES}"]
    return [*words, "--block"] if block else words


def node_arguments() -> list[str]:
    """What is the same on every node, the launcher's too."""
    low, high = WORKER_PORTS
    return [
        *(f"--{name}={port}" for name, port in PORTS.items() if name != "port"),
        f"--min-worker-port={low}",
        f"--max-worker-port={high}",
        "--disable-usage-stats",
    ]


def launch_arguments(cluster: Cluster, scenario: str, overlay: str) -> list[str]:
    """Of ``launch.sh``: first what goes to Ray (their number is RAY_ARGUMENTS), then the scenario's files."""
    return [*launch_node(), *city_files(cluster, scenario, overlay)]


def launch_node() -> list[str]:
    """Arguments of the launcher's own ``ray start``: it is a node because a driver must stand on one."""
    return [
        "--num-cpus=0", f"--memory={NO_TWINS_BYTES}", *node_arguments(), f"--object-store-memory={OBJECT_STORE_BYTES}",
    ]  # fmt: skip


def launch_environment(cluster: Cluster, head: str) -> dict[str, str]:
    return {"CITY": cluster.city, "RAY_HEAD": head, "RAY_ARGUMENTS": str(len(launch_node()))}


def city_files(cluster: Cluster, scenario: str, overlay: str) -> list[str]:
    """Arguments of ``twin-actors up``: the scenario's files below the folder ``scenario``, then the overlay."""
    return [*(str(PurePosixPath(scenario) / name) for name in cluster.files), "-f", overlay]


def overlay(cluster: Cluster, *, broker: str, store: str, head: str) -> File:
    """``cluster.yaml``, the layer over the scenario that takes it from one machine to the cluster."""
    lines = [
        "# Over the scenario: where broker, store and Ray are in this cluster. No password stands here.",
        f"cluster: {{address: {quoted(head)}}}",
    ]
    if cluster.broker:
        # nothing that the scenario says of its embedded broker goes with this one
        settings = f"url: {quoted(broker)}, username: {USER}, password_env: {BROKER_PASSWORD}"
        for key, value in cluster.broker_keeps.items():
            settings += f", {key}: {quoted(value) if isinstance(value, str) else value}"
        lines.append(f"broker: !replace {{{settings}}}")
    if cluster.store:
        lines.append(f"store: {{url: {quoted(store)}}}")
    return File(path="cluster.yaml", text="\n".join(lines) + "\n")


def store_url(cluster: Cluster, host: str) -> str:
    """Without the password, which every process takes from PGPASSWORD."""
    return f"postgresql://{USER}@{host}:{STORE_PORT}/{USER}?schema={cluster.schema}"


def mosquitto_files(cluster: Cluster, *, data: str, passwords: str, access: str) -> tuple[File, File]:
    """Mosquitto's configuration (by default it drops messages that it has acknowledged) and access control list."""
    lines = [
        "# Queues are limited by bytes, not by a thousand messages, and survive a restart.",
        f"listener {MQTT_PORT}",
        "allow_anonymous false",
        f"password_file {passwords}",
        f"acl_file {access}",
        "set_tcp_nodelay true",
        "max_inflight_messages 0",
        "max_queued_messages 0",
        f"max_queued_bytes {512 * 1024 * 1024}",
        "persistence true",
        f"persistence_location {data}/",
        "autosave_interval 60",
        "persistent_client_expiration 7d",
        "log_dest stdout",
        "connection_messages false",
        "sys_interval 5",
    ]
    conf = File(path="mosquitto.conf", text="\n".join(lines) + "\n")
    return conf, File(path="mosquitto.acl", text=cluster.access)


IN_IMAGE = {"data": "/mosquitto/data", "passwords": "/mosquitto/data/passwords", "access": "/mosquitto/data/access"}
MOSQUITTO_START = (
    f"touch {IN_IMAGE['passwords']} "
    f'&& mosquitto_passwd -b {IN_IMAGE["passwords"]} {USER} "${BROKER_PASSWORD}" '
    f"&& cp /mosquitto/config/mosquitto.acl {IN_IMAGE['access']} "
    f"&& chmod 600 {IN_IMAGE['passwords']} {IN_IMAGE['access']} "
    f"&& chown mosquitto:mosquitto {IN_IMAGE['passwords']} {IN_IMAGE['access']} "
    "&& exec mosquitto -c /mosquitto/config/mosquitto.conf"
)
"""Shell, in the official image: the city's password comes from the environment, so that no file holds it in clear;
users that were added to the password file stay."""
MOSQUITTO_HEALTHY = (
    f"mosquitto_sub -p {MQTT_PORT} -u {USER} -P \"${BROKER_PASSWORD}\" -t '$SYS/broker/uptime' -C 1 -W 4"
)
STORE_START = ["postgres", "-c", "shared_buffers=256MB", "-c", "max_wal_size=2GB"]
STORE_HEALTHY = f"pg_isready --username={USER} --dbname={USER}"
MOSQUITTO_IMAGE, STORE_IMAGE = "eclipse-mosquitto:2", "postgres:15"


def env_file(values: Mapping[str, str]) -> File:
    """``.env``, for a shell and for docker compose alike. Raises ValueError for what the two read differently."""
    for name, value in values.items():
        if set(value) & {"'", "\n", "\r", "\0"}:
            raise ValueError(f"the value of {name} has a quote or a line break, which an environment file cannot carry")
    return File(path=".env", text="".join(f"{name}='{value}'\n" for name, value in values.items()), secret=True)


def read_env(text: str) -> dict[str, str]:
    """What `env_file` wrote."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name: value.removeprefix("'").removesuffix("'") for name, value in pairs}


def template(name: str) -> str:
    """The text of one of the files that are the same for every city."""
    return (resources.files("twin_actors.cli") / "templates" / "cluster" / f"{name}.tmpl").read_text(encoding="utf-8")


def image_files() -> list[File]:
    """What the image is built from, beside the scenario and the overlay."""
    return [
        File(path="Dockerfile", text=template("Dockerfile")),
        File(path=".dockerignore", text="*\n!Dockerfile\n!launch.sh\n!cluster.yaml\n!scenario\n!wheels\n"),
        File(path="launch.sh", text=template("launch.sh"), program=True),
        File(path="wheels/README.md", text=template("wheels.md")),
    ]


class _Plain(yaml.SafeDumper):
    """Mappings in their own order, no anchors, lists indented as people write them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def dumped(comment: str, *documents: Mapping[str, Any]) -> str:
    """YAML of one or several documents below a comment."""
    text = yaml.dump_all(
        documents, Dumper=_Plain, sort_keys=False, width=110, explicit_start=len(documents) > 1, allow_unicode=True
    )
    return "".join(f"# {line}\n" for line in comment.splitlines()) + text


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def requested(names: Sequence[str]) -> dict[str, str]:
    """Variables that docker compose fills in from ``.env``, and refuses to start without."""
    return {name: f"${{{name}:?is missing in .env}}" for name in names}
