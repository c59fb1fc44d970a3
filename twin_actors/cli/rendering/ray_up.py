"""A file for ``ray up``: machines that are there already, reached over SSH; Mosquitto and PostgreSQL on the head."""

from __future__ import annotations

from typing import Any

from twin_actors.cli.rendering.wanted import (
    ENVIRONMENT,
    MQTT_PORT,
    OPEN_FILES,
    PORTS,
    Cluster,
    File,
    dumped,
    env_file,
    mosquitto_files,
    overlay,
    ray_start,
    store_url,
    template,
)

VENV = "~/twin-actors/venv"


def render(cluster: Cluster) -> list[File]:
    """All files; ``ray up FOLDER/ray-up.yaml`` copies the folder to every machine and starts Ray there."""
    here = remote(cluster)
    first = f"set -a; . {here}/.env; set +a; ulimit -S -n {OPEN_FILES}; export PATH={VENV}/bin:$PATH; "
    head_start = [*ray_start(cluster, head=True, block=False), "--autoscaling-config=~/ray_bootstrap_config.yaml"]
    worker_start = ray_start(cluster, head=False, address=f"$RAY_HEAD_IP:{PORTS['port']}", block=False)
    document: dict[str, Any] = {
        "cluster_name": cluster.city,
        "provider": {"type": "local", "head_ip": cluster.head_ip, "worker_ips": list(cluster.worker_ips)},
        "auth": {"ssh_user": cluster.ssh_user},
        "file_mounts": {here: cluster.folder},
        "setup_commands": [
            f"chmod 700 {here} && chmod 600 {here}/.env",
            f"test -x {VENV}/bin/python || python3.11 -m venv {VENV}",
            f"{VENV}/bin/pip install --quiet --find-links {here}/wheels '{cluster.requirement}'",
            f"find {here}/wheels -name '*.whl' -exec {VENV}/bin/pip install --quiet --find-links {here}/wheels {{}} +",
        ],
        # Any Ray of this user on these machines is ended first: they belong to this cluster.
        "head_start_ray_commands": [f"{VENV}/bin/ray stop", first + " ".join(head_start)],
        "worker_start_ray_commands": [f"{VENV}/bin/ray stop", first + " ".join(worker_start)],
    }
    text = dumped(
        f"The city {cluster.city} on machines of your own: ray up ray-up.yaml, then\n"
        f"ray exec ray-up.yaml 'bash {here}/up.sh'\n"
        "The machines belong to the cluster: any other Ray of the same user there is stopped.\n"
        "Passwords and Ray's token travel in .env over SSH, readable by their owner only.\n"
        "Keep the ports of the cluster in a private network.",
        document,
    )
    head = f"{cluster.head_ip}:{PORTS['port']}"
    made = [
        File(path="ray-up.yaml", text=text),
        env_file({**ENVIRONMENT, **cluster.secrets}),
        overlay(
            cluster,
            broker=f"mqtt://{cluster.head_ip}:{MQTT_PORT}",
            store=store_url(cluster, cluster.head_ip),
            head=head,
        ),
        File(path="up.sh", text=_up(cluster), program=True),
        File(path="wheels/README.md", text=template("wheels.md")),
    ]
    if cluster.broker:
        made += mosquitto_files(
            cluster,
            data="/var/lib/mosquitto",
            passwords="/etc/mosquitto/city.passwords",
            access="/etc/mosquitto/city.acl",
        )
    return made


def remote(cluster: Cluster) -> str:
    """Where the folder lies on every machine."""
    return f"~/twin-actors/{cluster.city}"


def _up(cluster: Cluster) -> str:
    names = " ".join(f"'scenario/{name}'" for name in cluster.files)
    return (
        "#!/bin/bash\n"
        "# On the head machine: launches the city in the Ray that runs there, with its device host beside it.\n"
        "set -euo pipefail\n"
        'cd "$(dirname "$0")"\n'
        "set -a; . ./.env; set +a\n"
        f'ulimit -S -n {OPEN_FILES} || ulimit -S -n "$(ulimit -H -n)"\n'
        f"exec {VENV}/bin/twin-actors up -d {names} -f cluster.yaml\n"
    )
