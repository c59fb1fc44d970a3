"""A docker compose file: one machine that runs a city as several would, each in a container of its own."""

from __future__ import annotations

from typing import Any

from twin_actors.cli.rendering.wanted import (
    BROKER_PASSWORD,
    CLIENT_PORT,
    ENVIRONMENT,
    GRACE_S,
    HEALTHY,
    HOME,
    IN_IMAGE,
    MOSQUITTO_HEALTHY,
    MOSQUITTO_IMAGE,
    MOSQUITTO_START,
    MQTT_PORT,
    OPEN_FILES,
    PORTS,
    SHM_MIB,
    STORE_HEALTHY,
    STORE_IMAGE,
    STORE_PASSWORD,
    STORE_PORT,
    STORE_START,
    USER,
    Cluster,
    File,
    dumped,
    env_file,
    image_files,
    launch_arguments,
    launch_environment,
    mosquitto_files,
    overlay,
    ray_start,
    requested,
    store_url,
)

HEAD = f"head:{PORTS['port']}"


def render(cluster: Cluster) -> list[File]:
    """All files: ``docker compose up`` in their folder builds the image, starts the cluster and launches the city."""
    services: dict[str, Any] = {}
    volumes: dict[str, Any] = {"city": {}}
    first: dict[str, Any] = {"head": {"condition": "service_healthy"}, "worker": {"condition": "service_healthy"}}
    if cluster.broker:
        services["mosquitto"] = _mosquitto()
        volumes["mosquitto"] = {}
        first["mosquitto"] = {"condition": "service_healthy"}
    if cluster.store:
        services["postgres"] = _postgres()
        volumes["postgres"] = {}
        first["postgres"] = {"condition": "service_healthy"}
    services["head"] = {
        **_node(cluster),
        "command": ray_start(cluster, head=True),
        "expose": [str(PORTS["port"]), str(CLIENT_PORT)],
        "ports": [f"127.0.0.1:{PORTS['metrics-export-port']}:{PORTS['metrics-export-port']}"],
        "healthcheck": _check(["CMD", "ray", "health-check", "--address", f"127.0.0.1:{PORTS['port']}"]),
    }
    services["worker"] = {
        **_node(cluster),
        "command": ray_start(cluster, head=False, address=HEAD),
        "depends_on": {"head": {"condition": "service_healthy"}},
        "deploy": {"replicas": cluster.workers},
        "expose": [str(PORTS["metrics-export-port"])],
        "healthcheck": _check(["CMD", "python", "-c", HEALTHY]),
    }
    node = _node(cluster)
    services["launcher"] = {
        **node,
        "command": ["launch-city", *launch_arguments(cluster, "/city/scenario", "/city/cluster.yaml")],
        "environment": {**node["environment"], **launch_environment(cluster, HEAD)},
        # what it must find again when it is started again; actors have the plan from Ray
        "volumes": [f"city:{HOME}", *node["volumes"]],
        "depends_on": first,
        "expose": [str(PORTS["metrics-export-port"])],
        "stop_grace_period": f"{GRACE_S + 30}s",  # it ends the city first
        "healthcheck": _check(["CMD", "test", "-e", f"{HOME}/{cluster.city}/city.json"]),
    }
    text = dumped(
        f"The city {cluster.city} as a cluster of containers on one machine: docker compose up --build --detach\n"
        "Passwords and Ray's token stand in .env, which only its owner reads. Only the broker is open to the network,\n"
        "and it asks for a password; who holds Ray's token can run code in the cluster.",
        {"name": f"twin-actors-{cluster.city}", "services": services, "volumes": volumes},
    )
    made = [
        File(path="compose.yaml", text=text),
        env_file(cluster.secrets),
        overlay(cluster, broker=f"mqtt://mosquitto:{MQTT_PORT}", store=store_url(cluster, "postgres"), head=HEAD),
        *image_files(),
    ]
    if cluster.broker:
        made += mosquitto_files(cluster, **IN_IMAGE)
    return made


def _node(cluster: Cluster) -> dict[str, Any]:
    """What every Ray node has: init process, shared memory, open files, the scenario's files, the token."""
    return {
        "image": cluster.image,
        "build": {"context": ".", "args": {"REQUIREMENT": cluster.requirement}},
        "init": True,
        "environment": {**ENVIRONMENT, "TWIN_ACTORS_HOME": HOME, **requested(sorted(cluster.secrets))},
        "shm_size": f"{SHM_MIB}m",
        "ulimits": {"nofile": {"soft": OPEN_FILES, "hard": OPEN_FILES}},
        "volumes": ["./scenario:/city/scenario:ro", "./cluster.yaml:/city/cluster.yaml:ro"],
        "restart": "unless-stopped",
        "stop_grace_period": f"{GRACE_S}s",
    }


def _mosquitto() -> dict[str, Any]:
    return {
        "image": MOSQUITTO_IMAGE,
        "init": True,
        "command": ["sh", "-c", MOSQUITTO_START.replace("$", "$$")],
        "environment": requested([BROKER_PASSWORD]),
        "volumes": [
            "mosquitto:/mosquitto/data",
            "./mosquitto.conf:/mosquitto/config/mosquitto.conf:ro",
            "./mosquitto.acl:/mosquitto/config/mosquitto.acl:ro",
        ],
        "ports": [f"${{MQTT_ADDRESS:-0.0.0.0}}:{MQTT_PORT}:{MQTT_PORT}"],
        "ulimits": {"nofile": {"soft": OPEN_FILES, "hard": OPEN_FILES}},
        "restart": "unless-stopped",
        "healthcheck": _check(["CMD-SHELL", MOSQUITTO_HEALTHY.replace("$", "$$")]),
    }


def _postgres() -> dict[str, Any]:
    return {
        "image": STORE_IMAGE,
        "init": True,
        "command": STORE_START,
        "environment": {
            "POSTGRES_USER": USER,
            "POSTGRES_DB": USER,
            "POSTGRES_PASSWORD": requested([STORE_PASSWORD])[STORE_PASSWORD],
        },
        "expose": [str(STORE_PORT)],
        "volumes": ["postgres:/var/lib/postgresql/data"],
        "shm_size": f"{SHM_MIB}m",
        "restart": "unless-stopped",
        "stop_grace_period": f"{GRACE_S}s",
        "healthcheck": _check(["CMD-SHELL", STORE_HEALTHY]),
    }


def _check(test: list[str]) -> dict[str, Any]:
    return {"test": test, "interval": "10s", "timeout": "8s", "retries": 6, "start_period": "60s"}
