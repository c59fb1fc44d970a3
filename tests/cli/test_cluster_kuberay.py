"""``cluster render --as kuberay``: the manifests against the fields that KubeRay and Kubernetes document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from twin_actors.runtime.placement import ACTOR_BYTES

ROOT = Path(__file__).resolve().parents[2]
HARBOUR = ROOT / "scenarios" / "harbour.yaml"


def manifests(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    documents = list(yaml.safe_load_all((folder / "kuberay.yaml").read_text()))
    documents.append(yaml.safe_load((folder / "secret.yaml").read_text()))
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def pods(documents: dict[tuple[str, str], dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod's spec of the manifests, with a name for it."""
    for (kind, name), document in documents.items():
        if kind == "RayCluster":
            yield "head", document["spec"]["headGroupSpec"]["template"]["spec"]
            for group in document["spec"]["workerGroupSpecs"]:
                yield group["groupName"], group["template"]["spec"]
        elif kind in ("Deployment", "StatefulSet"):
            spec = document["spec"]
            assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
            yield name.removeprefix("harbour-"), spec["template"]["spec"]


def test_the_ray_cluster_has_what_kuberay_asks_for(rendered: Callable[..., Path]) -> None:
    documents = manifests(rendered("kuberay", HARBOUR, "--workers", 3, "--storage-class", "ssd"))
    cluster = documents["RayCluster", "harbour"]
    assert cluster["apiVersion"] == "ray.io/v1"
    head, [group] = cluster["spec"]["headGroupSpec"], cluster["spec"]["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert int(head["rayStartParams"]["memory"]) < ACTOR_BYTES
    assert {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"} == set(group)
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 3
    for params in (head["rayStartParams"], group["rayStartParams"]):
        assert params["metrics-export-port"] == "8080"
        assert all(isinstance(value, str) for value in params.values())  # the field is a map of strings
    folder = documents["PersistentVolumeClaim", "harbour-folder"]["spec"]
    assert (folder["accessModes"], folder["storageClassName"]) == (["ReadWriteOnce"], "ssd")
    for name in ("mosquitto", "postgres"):
        service = documents["Service", f"harbour-{name}"]["spec"]
        server = documents["StatefulSet", f"harbour-{name}"]["spec"]["template"]
        assert service["selector"] == server["metadata"]["labels"]
        assert service["ports"][0]["port"] == server["spec"]["containers"][0]["ports"][0]["containerPort"]


def test_every_ray_pod_has_token_health_checks_an_init_process_and_memory_to_share(
    rendered: Callable[..., Path],
) -> None:
    documents = manifests(rendered("kuberay"))
    secret = documents["Secret", "harbour-secrets"]["stringData"]
    seen = dict(pods(documents))
    assert sorted(seen) == ["head", "launcher", "mosquitto", "postgres", "workers"]
    for name, pod in seen.items():
        [container] = pod["containers"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        if name in ("mosquitto", "postgres"):
            volumes.add("data")  # of the claim template
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        for variable in container["env"]:
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                assert (reference["name"], reference["key"] in secret) == ("harbour-secrets", True)
        assert ("city" in volumes) is (name == "launcher"), "the others see nothing of the launch's folder"
        if name in ("head", "workers", "launcher"):
            environment = {each["name"]: each.get("value") for each in container["env"]}
            assert environment["RAY_AUTH_MODE"] == "token"
            assert "RAY_AUTH_TOKEN" in environment
            assert environment["RAY_health_check_timeout_ms"] == "2000"
            assert pod["shareProcessNamespace"] is True
            assert pod["terminationGracePeriodSeconds"] > 30
            assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
            assert container["readinessProbe"]["exec"]["command"]
            assert {"name": "metrics", "containerPort": 8080} in container["ports"]
            assert container["resources"]["limits"]["memory"].endswith("Mi")
