"""``cluster render``: the files that launch a scenario's city on a cluster, written into a folder."""

from __future__ import annotations

import ipaddress
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.cities import Files, Layered, all_files, read_scenario
from twin_actors.cli.faults import ExitCode, Failed
from twin_actors.cli.voice import AsJson, Voice

if TYPE_CHECKING:
    from twin_actors.cli.rendering import Cluster, File
    from twin_actors.scenario.model import Scenario

FORMS = ("compose", "ray-up", "kuberay")
LONGEST_NAME = 40
"""Of a city on Kubernetes, whose names have 63 letters, the operator's endings included."""
SECRET_FILES = {"compose": ".env", "ray-up": ".env", "kuberay": "secret.yaml"}


def render(
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the files go; made if it is not there.")],
    form: Annotated[str, typer.Option("--as", metavar="FORM", help="compose, ray-up or kuberay.")],
    files: Files = None,
    layered: Layered = None,
    workers: Annotated[int, typer.Option(min=1, help="Ray nodes that hold twins, beside the head.")] = 2,
    image: Annotated[str, typer.Option(help="Name of the image; twin-actors-CITY if left out.")] = "",
    head_ip: Annotated[str, typer.Option("--head-ip", help="ray-up: address of the head machine.")] = "",
    worker_ip: Annotated[
        list[str] | None, typer.Option("--worker-ip", help="ray-up: address of a worker machine; once for each.")
    ] = None,
    ssh_user: Annotated[str, typer.Option("--ssh-user", help="ray-up: who logs in on these machines.")] = "ubuntu",
    gateway: Annotated[
        list[str] | None,
        typer.Option("--gateway", help="A gateway's name and user at the cluster's Mosquitto; once for each."),
    ] = None,
    storage_class: Annotated[
        str,
        typer.Option("--storage-class", help="kuberay: of the launcher's folder; the cluster's default if left out."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write a docker compose file, a ray up file or KubeRay manifests that launch a city; starts nothing.

    Passwords and Ray's token are made once: a second rendering into the same folder keeps them.
    """
    from twin_actors.cli.rendering import compose, kuberay, ray_up
    from twin_actors.cli.rendering.gathering import gathered

    if form not in FORMS:
        raise typer.BadParameter(f"--as is one of {', '.join(FORMS)}, not {form!r}")
    ips = tuple(worker_ip or ())
    _check_machines(form, head_ip, ips)
    scenario = read_scenario(files, layered)
    if form == "kuberay" and (len(scenario.city) > LONGEST_NAME or scenario.city.endswith("-")):
        raise Failed(
            f"city {scenario.city!r} cannot be a name in Kubernetes: at most {LONGEST_NAME} letters, no last dash",
            ExitCode.BAD_SCENARIO,
        )
    paths = all_files(files, layered)
    copies, left = gathered(paths)
    cluster = _cluster(
        scenario,
        names=tuple(name for _, name in copies[: len(paths)]),
        folder=to,
        secret_file=SECRET_FILES[form],
        workers=len(ips) if form == "ray-up" else workers,
        image=image or f"twin-actors-{scenario.city}",
        head_ip=head_ip,
        worker_ips=ips,
        ssh_user=ssh_user,
        storage_class=storage_class or None,
        access=_access(scenario, gateway or []),
    )
    rendered = {"compose": compose, "ray-up": ray_up, "kuberay": kuberay}[form].render(cluster)
    written = _write(to, rendered)
    for source, name in copies:
        _write_bytes(to / "scenario" / name, source.read_bytes())
        written.append(f"scenario/{name}")
    voice = Voice(as_json)
    for path in left:
        voice.warn(f"{path} is named in the scenario and was not copied: it must be there on every node")
    if scenario.broker.password is not None:
        voice.warn("broker.password stands in the scenario in clear, and so in the copy: write password_env instead")
    next_step = {
        "compose": f"docker compose --project-directory {to} up --build --detach",
        "ray-up": f"ray up {to / 'ray-up.yaml'} && ray exec {to / 'ray-up.yaml'} 'bash {ray_up.remote(cluster)}/up.sh'",
        "kuberay": f"docker build --build-arg REQUIREMENT='{cluster.requirement}' --tag {cluster.image} {to} && docker "
        f"push {cluster.image} && kubectl apply -f {to / 'secret.yaml'} -f {to / 'kuberay.yaml'}",
    }[form]
    voice.result(
        {
            "city": scenario.city,
            "form": form,
            "folder": str(to),
            "files": written,
            "secrets": [SECRET_FILES[form]],
            "workers": cluster.workers,
            "own_broker": cluster.broker,
            "own_store": cluster.store,
            "not_copied": [str(path) for path in left],
            "next": next_step,
        },
        f"{to}: {len(written)} files, {SECRET_FILES[form]} has the passwords (keep it out of any repository)",
        f"  wheels of this version, if it is no release: see {to / 'wheels' / 'README.md'}",
        f"  check it     twin-actors validate {' '.join(map(str, paths))} -f {to / 'cluster.yaml'}",
        f"  start it     {next_step}",
    )


def _check_machines(form: str, head_ip: str, ips: tuple[str, ...]) -> None:
    if form != "ray-up":
        return
    if not head_ip or not ips:
        raise typer.BadParameter("--as ray-up needs --head-ip ADDRESS and at least one --worker-ip ADDRESS")
    for each in (head_ip, *ips):
        try:
            ipaddress.ip_address(each)
        except ValueError as error:
            raise typer.BadParameter(f"{each!r} is no IP address: Ray's nodes know each other by theirs") from error
    if len({head_ip, *ips}) != 1 + len(ips):
        raise typer.BadParameter("every machine has an address of its own, and the head is none of the workers")


def _cluster(
    scenario: Scenario, *, names: tuple[str, ...], folder: Path, secret_file: str, workers: int, **options: Any
) -> Cluster:
    from twin_actors import __version__
    from twin_actors.cli.rendering import Cluster
    from twin_actors.runtime.placement import ACTOR_BYTES, RESERVED_BYTES, plan_actors

    broker = scenario.broker
    own_broker = broker.embedded is not None
    own_store = not scenario.store_url.startswith("postgres")
    if not own_broker and _is_this_machine(broker.host):
        raise Failed(
            f"broker.url names {broker.host}, which is another machine on every node: write the address by which all "
            "of them reach the broker, or leave 'broker' out and the cluster brings one",
            ExitCode.BAD_SCENARIO,
        )
    for name in names:
        if any(letter in name for letter in "'\n"):
            raise Failed(f"{name!r}: a scenario's file in a cluster has no quote in its name, rename it")
    return Cluster(
        city=scenario.city,
        files=names,
        version=__version__,
        workers=workers,
        actors=len(plan_actors(scenario)),
        actor_bytes=ACTOR_BYTES,
        reserved_bytes=RESERVED_BYTES,
        broker=own_broker,
        store=own_store,
        broker_keeps={
            **({"qos": broker.qos} if broker.qos != 1 else {}),
            **({"protocol": broker.protocol} if broker.protocol != "auto" else {}),
        },
        secrets=_secrets(scenario, folder / secret_file, own_broker=own_broker, own_store=own_store),
        folder=str(folder.resolve()),
        **options,
    )


def _access(scenario: Scenario, gateways: list[str]) -> str:
    """Mosquitto's access control list for the scenario's entities, its fleets and some gateways."""
    from twin_actors.cli.rendering.wanted import USER
    from twin_actors.wire.access import access_list

    try:
        return access_list(
            scenario.root,
            scenario.kinds_used(),
            city=USER,
            gateways=gateways,
            fleets=[fleet.topic for fleet in scenario.fleets],
            names={entity.id.partition("/")[2] for entity in scenario.entities},
        )
    except ValueError as error:
        raise Failed(f"no access control list can be written: {error}", ExitCode.BAD_SCENARIO) from error


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secrets(scenario: Scenario, kept_in: Path, *, own_broker: bool, own_store: bool) -> dict[str, str]:
    """Values by environment variable: those of an earlier rendering, else new ones; the scenario's from here.

    Raises LookupError when the scenario names a variable that is not set.
    """
    from twin_actors.cli.rendering.wanted import BROKER_PASSWORD, STORE_PASSWORD, TOKEN

    kept = _kept(kept_in)
    wanted = [TOKEN, *([STORE_PASSWORD] if own_store else []), *([BROKER_PASSWORD] if own_broker else [])]
    made = {name: kept.get(name) or secrets.token_hex(32) for name in wanted}
    if not own_broker and scenario.broker.password_env is not None:
        made[scenario.broker.password_env] = str(scenario.broker.secret())
    if not own_store and STORE_PASSWORD in os.environ:
        made[STORE_PASSWORD] = os.environ[STORE_PASSWORD]
    return made


def _kept(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        import yaml

        return {str(name): str(value) for name, value in yaml.safe_load(text)["stringData"].items()}
    from twin_actors.cli.rendering.wanted import read_env

    return read_env(text)


def _write(folder: Path, files: list[File]) -> list[str]:
    if folder.exists() and not folder.is_dir():
        raise Failed(f"{folder} is a file: name a folder with --to")
    for each in files:
        mode = 0o600 if each.secret else 0o755 if each.program else 0o644
        _write_bytes(folder / each.path, each.text.encode(), mode)
    return [each.path for each in files]


def _write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Nobody sees a secret between its writing and its mode, nor half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.new")
    staging.unlink(missing_ok=True)
    with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask says
        file.write(content)
    staging.replace(path)
