"""KubeRay manifests: a RayCluster with its launcher, Mosquitto and PostgreSQL as stateful sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twin_actors.cli.rendering.wanted import (
    BROKER_PASSWORD,
    CLIENT_PORT,
    ENVIRONMENT,
    GRACE_S,
    HEALTHY,
    HOME,
    IN_IMAGE,
    LEAVE,
    MOSQUITTO_HEALTHY,
    MOSQUITTO_IMAGE,
    MOSQUITTO_START,
    MQTT_PORT,
    NO_TWINS_BYTES,
    OBJECT_STORE_BYTES,
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
    image_files,
    launch_arguments,
    launch_environment,
    mosquitto_files,
    overlay,
    store_url,
)

MIB = 1024 * 1024
RAY_VERSION = "2.60.0"


def render(cluster: Cluster) -> list[File]:
    """All files: build the image, push it, then ``kubectl apply -f secret.yaml -f cluster-kuberay.yaml``."""
    head = f"{cluster.city}-head-svc:{PORTS['port']}"  # the service that KubeRay makes for the head
    documents = [_folder(cluster), _ray_cluster(cluster), _launcher(cluster, head)]
    if cluster.broker:
        documents += _mosquitto(cluster)
    if cluster.store:
        documents += _postgres(cluster)
    text = dumped(
        f"The city {cluster.city} on Kubernetes with the KubeRay operator.\n"
        f"The image {cluster.image} is built from the Dockerfile beside this file. Passwords and Ray's token stand in\n"
        "secret.yaml.\n"
        "Who holds Ray's token can run code in the cluster.",
        *documents,
    )
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta(cluster, "secrets"),
        "type": "Opaque",
        "stringData": dict(cluster.secrets),
    }
    return [
        File(path="kuberay.yaml", text=text),
        File(
            path="secret.yaml",
            text=dumped("Readable by its owner only; keep it out of any repository.", secret),
            secret=True,
        ),
        overlay(
            cluster,
            broker=f"mqtt://{cluster.city}-mosquitto:{MQTT_PORT}",
            store=store_url(cluster, f"{cluster.city}-postgres"),
            head=head,
        ),
        *image_files(),
    ]


def _ray_cluster(cluster: Cluster) -> dict[str, Any]:
    common = {
        **{name: str(port) for name, port in PORTS.items() if name != "port"},
        "object-store-memory": str(OBJECT_STORE_BYTES),
    }
    head_check = ["ray", "health-check", "--address", f"127.0.0.1:{PORTS['port']}"]
    head = _ray_container(cluster, "ray-head", head_check, cpu="1", memory_bytes=cluster.reserved_bytes + 1024 * MIB)
    head["ports"] = _ports(
        {"gcs-server": PORTS["port"], "client": CLIENT_PORT, "metrics": PORTS["metrics-export-port"]}
    )
    worker = _ray_container(
        cluster, "ray-worker", ["python", "-c", HEALTHY], cpu="2", memory_bytes=cluster.worker_bytes
    )
    # KubeRay starts Ray from a shell, which keeps the SIGTERM of a pod's end to itself
    worker["lifecycle"] = {"preStop": {"exec": {"command": ["python", "-c", LEAVE]}}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": _meta(cluster),
        "spec": {
            "rayVersion": RAY_VERSION,
            "headGroupSpec": {
                "rayStartParams": {
                    **common,
                    "num-cpus": "0",
                    "memory": str(NO_TWINS_BYTES),
                    "include-dashboard": "false",
                },
                "template": _ray_pod(cluster, head),
            },
            "workerGroupSpecs": [
                {
                    "groupName": "workers",
                    "replicas": cluster.workers,
                    # no autoscaler: twin actors ask for memory, which says nothing of how busy they are
                    "minReplicas": cluster.workers,
                    "maxReplicas": cluster.workers,
                    "rayStartParams": common,
                    "template": _ray_pod(cluster, worker),
                }
            ],
        },
    }


def _launcher(cluster: Cluster, head: str) -> dict[str, Any]:
    container = _ray_container(
        cluster,
        "launcher",
        ["test", "-e", f"{HOME}/{cluster.city}/city.json"],
        cpu="500m",
        memory_bytes=cluster.reserved_bytes,
    )
    del container["livenessProbe"]  # it ends by itself when its node does; a launch may take long
    container["args"] = ["launch-city", *launch_arguments(cluster, "/city/scenario", "/city/cluster.yaml")]
    container["env"] += [{"name": name, "value": value} for name, value in launch_environment(cluster, head).items()]
    # what it must find again when it is started again; actors have the plan from Ray
    container["volumeMounts"].append({"name": "city", "mountPath": HOME})
    pod = _ray_pod(cluster, container)
    pod["spec"]["volumes"].append({"name": "city", "persistentVolumeClaim": {"claimName": f"{cluster.city}-folder"}})
    pod["metadata"] = {"labels": {"app": f"{cluster.city}-launcher"}}
    pod["spec"]["terminationGracePeriodSeconds"] = GRACE_S + 30  # it ends the city first
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(cluster, "launcher"),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # never two of them
            "selector": {"matchLabels": pod["metadata"]["labels"]},
            "template": pod,
        },
    }


def _ray_container(cluster: Cluster, name: str, check: Sequence[str], *, cpu: str, memory_bytes: int) -> dict[str, Any]:
    size = {"cpu": cpu, "memory": f"{-(-memory_bytes // MIB)}Mi"}
    probe = {"exec": {"command": list(check)}, "periodSeconds": 10, "timeoutSeconds": 8, "failureThreshold": 12}
    return {
        "name": name,
        "image": cluster.image,
        "env": [
            *({"name": key, "value": value} for key, value in {**ENVIRONMENT, "TWIN_ACTORS_HOME": HOME}.items()),
            *(_from_secret(cluster, key, key) for key in sorted(cluster.secrets)),
        ],
        "ports": _ports({"metrics": PORTS["metrics-export-port"]}),
        # no CPU limit: a throttled twin actor answers late, and is taken for a stuck one
        "resources": {"requests": size, "limits": {"memory": size["memory"]}},
        "readinessProbe": probe,
        "livenessProbe": {**probe, "initialDelaySeconds": 60},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }


def _ray_pod(cluster: Cluster, container: dict[str, Any]) -> dict[str, Any]:
    return {
        "spec": {
            # the first process of the pod is then Kubernetes' own, which reaps what a killed raylet leaves
            "shareProcessNamespace": True,
            "terminationGracePeriodSeconds": GRACE_S,
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "runAsNonRoot": True},
            "containers": [container],
            "volumes": [
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{SHM_MIB}Mi"}},
            ],
        }
    }


def _folder(cluster: Cluster) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _meta(cluster, "folder"),
        "spec": _claim(cluster, "ReadWriteOnce", "1Gi", cluster.storage_class),
    }


def _mosquitto(cluster: Cluster) -> list[dict[str, Any]]:
    name = "mosquitto"
    container = {
        "name": name,
        "image": MOSQUITTO_IMAGE,
        "command": ["sh", "-c", MOSQUITTO_START],
        "env": [_from_secret(cluster, BROKER_PASSWORD, BROKER_PASSWORD)],
        "ports": _ports({"mqtt": MQTT_PORT}),
        "readinessProbe": {
            "exec": {"command": ["sh", "-c", MOSQUITTO_HEALTHY]}, "periodSeconds": 10, "timeoutSeconds": 8,
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/mosquitto/data"},
            {"name": "conf", "mountPath": "/mosquitto/config"},
        ],
    }  # fmt: skip
    volumes = [{"name": "conf", "configMap": {"name": f"{cluster.city}-mosquitto"}}]
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(cluster, name),
        "data": {file.path: file.text for file in mosquitto_files(cluster, **IN_IMAGE)},
    }
    return [settings, *_stateful(cluster, name, container, MQTT_PORT, user=1883, volumes=volumes)]


def _postgres(cluster: Cluster) -> list[dict[str, Any]]:
    name = "postgres"
    container = {
        "name": name,
        "image": STORE_IMAGE,
        "args": STORE_START,
        "env": [
            {"name": "POSTGRES_USER", "value": USER},
            {"name": "POSTGRES_DB", "value": USER},
            # a folder below the volume's own, which some storage fills with lost+found
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/store"},
            _from_secret(cluster, "POSTGRES_PASSWORD", STORE_PASSWORD),
        ],
        "ports": _ports({"postgres": STORE_PORT}),
        "readinessProbe": {
            "exec": {"command": ["sh", "-c", STORE_HEALTHY]}, "periodSeconds": 10, "timeoutSeconds": 8,
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/postgresql/data"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }  # fmt: skip
    volumes = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{SHM_MIB}Mi"}}]
    return _stateful(cluster, name, container, STORE_PORT, user=999, volumes=volumes)


def _stateful(
    cluster: Cluster, name: str, container: Mapping[str, Any], port: int, *, user: int, volumes: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    labels = {"app": f"{cluster.city}-{name}"}
    server = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _meta(cluster, name),
        "spec": {
            "serviceName": f"{cluster.city}-{name}",
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": GRACE_S,
                    "securityContext": {"runAsUser": user, "runAsGroup": user, "fsGroup": user},
                    "containers": [dict(container)],
                    "volumes": volumes,
                },
            },
            "volumeClaimTemplates": [
                {"metadata": {"name": "data"}, "spec": _claim(cluster, "ReadWriteOnce", "20Gi", None)}
            ],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(cluster, name),
        "spec": {"selector": labels, "ports": [{"name": name, "port": port, "targetPort": port}]},
    }
    return [server, service]


def _claim(cluster: Cluster, mode: str, size: str, storage_class: str | None) -> dict[str, Any]:
    claim: dict[str, Any] = {"accessModes": [mode], "resources": {"requests": {"storage": size}}}
    return {**claim, "storageClassName": storage_class} if storage_class else claim


def _meta(cluster: Cluster, part: str = "") -> dict[str, Any]:
    name = f"{cluster.city}-{part}" if part else cluster.city
    return {"name": name, "labels": {"app.kubernetes.io/part-of": cluster.city}}


def _ports(named: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"name": name, "containerPort": port} for name, port in named.items()]


def _from_secret(cluster: Cluster, name: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": f"{cluster.city}-secrets", "key": key}}}
