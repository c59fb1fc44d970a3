"""The parts of a scenario beside entities: broker, store, clock, placement, resources and policies."""

from __future__ import annotations

import zoneinfo
from typing import Any
from urllib.parse import unquote, urlsplit

from twin_actors.core.view import Policy
from twin_actors.scenario.catalogue import Catalogue
from twin_actors.scenario.document import Document
from twin_actors.scenario.errors import Path
from twin_actors.scenario.model import (
    BrokerSettings,
    ClockSettings,
    Limits,
    Parameter,
    Place,
    PlacementSettings,
    PolicyUse,
    ResourcePool,
    RetentionSettings,
)
from twin_actors.scenario.report import Report

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_STORES = {"memory", "sqlite", "postgresql", "postgres"}


def broker_settings(document: Document, report: Report) -> BrokerSettings:
    section = document.broker
    files = {
        key: str(found)
        for key in ("ca_file", "cert_file", "key_file")
        if (name := getattr(section, key)) is not None and (found := report.existing(("broker", key), name)) is not None
    }
    common: dict[str, Any] = {
        "username": section.username,
        "password": section.password,
        "password_env": section.password_env,
        "qos": section.qos,
        "protocol": section.protocol,
        **files,
    }
    if section.url is None:
        return BrokerSettings(embedded=section.embedded or "auto", port=section.port or 0, **common)
    path: Path = ("broker", "url")
    try:
        url = urlsplit(section.url)
        port = url.port
    except ValueError as error:
        report.add(path, f"{section.url!r} is not an address: {error}")
        return BrokerSettings()
    if url.scheme not in _PORTS:
        report.add(
            path,
            f"unknown scheme {url.scheme!r}; write mqtt://host:1883, mqtts://, ws:// or wss://",
            word=url.scheme,
            known=_PORTS,
        )
        return BrokerSettings()
    if not url.hostname:
        report.add(path, f"{section.url!r} names no host; write for example mqtt://broker.example:1883")
    if url.scheme in ("mqtt", "ws") and files:
        report.add(path, "certificates go with mqtts:// or wss://, this address is not encrypted")
    if url.username is not None:
        common["username"] = unquote(url.username)
    if url.password is not None:
        common["password"] = unquote(url.password)
    websocket = url.scheme in ("ws", "wss")
    return BrokerSettings(
        embedded=None,
        host=url.hostname or "",
        port=port if port is not None else _PORTS[url.scheme],
        tls=url.scheme in ("mqtts", "wss"),
        websocket_path=(url.path or "/mqtt") if websocket else None,
        **common,
    )


def store_url(document: Document, report: Report) -> str:
    """The store's address, a path in it made absolute; ``sqlite:`` alone is a folder of the city's own."""
    url = document.store.url
    path: Path = ("store", "url")
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in _STORES:
        report.add(
            path,
            f"unknown store {url!r}; write sqlite:, sqlite:folder, memory: or postgresql://user@host/database",
            word=scheme,
            known=_STORES,
        )
        return url
    if document.cluster is not None and scheme not in ("postgresql", "postgres"):
        report.add(
            path if "store" in document.model_fields_set else ("cluster",),
            "a cluster needs a PostgreSQL store (store: {url: postgresql://user@host/database}): an embedded file "
            "cannot follow an actor to another node",
        )
    if scheme == "sqlite":
        folder = rest.removeprefix("//")
        return f"sqlite:{report.beside(path, folder)}" if folder else url
    return url


def retention_settings(document: Document) -> RetentionSettings:
    section = document.store.retention
    return RetentionSettings(raw_s=section.raw, minute_s=section.minute, hour_s=section.hour)


def place_settings(document: Document, report: Report) -> Place:
    section = document.place
    check_zone(section.time_zone, ("place", "time_zone"), report)
    return Place(lat_deg=section.lat_deg, lon_deg=section.lon_deg, time_zone=section.time_zone)


def check_zone(name: str, path: Path, report: Report) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = zoneinfo.available_timezones()
        why = "" if known else "; this machine has no time zone data, install the package tzdata"
        report.add(path, f"unknown time zone {name!r}{why}", word=name, known=sorted(known))


def clock_settings(document: Document) -> ClockSettings:
    section = document.clock
    return ClockSettings(mode=section.mode, speed=section.speed, start_s=section.start)


def limits_settings(document: Document) -> Limits:
    section = document.limits
    return Limits(
        payload_bytes=section.payload_bytes,
        future_s=section.future_s,
        backlog=section.backlog,
        answer_s=section.answer,
        tick_budget_s=section.tick_budget,
    )


def placement_settings(document: Document, catalogue: Catalogue, report: Report) -> PlacementSettings:
    section = document.placement
    for kind in section.kinds:
        if kind not in catalogue.kinds:
            report.add(("placement", "kinds", kind), f"unknown kind {kind!r}", word=kind, known=catalogue.kinds)
    for kind in section.labels:
        if kind not in catalogue.kinds:
            report.add(("placement", "labels", kind), f"unknown kind {kind!r}", word=kind, known=catalogue.kinds)
    return PlacementSettings(
        entities_per_actor=section.entities_per_actor,
        kinds=dict(section.kinds),
        labels={kind: dict(labels) for kind, labels in section.labels.items()},
        rebalance=section.rebalance,
        core_share=section.core_share,
    )


def resource_pools(document: Document, report: Report) -> tuple[ResourcePool, ...]:
    """The pools; one without a base starts in the middle of the city. A name may have several bases."""
    pools: list[ResourcePool] = []
    seen: dict[tuple[object, ...], Path] = {}
    for i, entry in enumerate(document.resources):
        path: Path = ("resources", i)
        lat_deg, lon_deg = entry.base or (document.place.lat_deg, document.place.lon_deg)
        first = seen.setdefault((entry.name, lat_deg, lon_deg), path)
        if first is not path:
            report.add(
                path,
                f"the resource {entry.name!r} is declared twice at the same base, first at {report.where(first)}; "
                "raise its count, or give another base",
            )
        pools.append(
            ResourcePool(
                name=entry.name,
                count=entry.count,
                base_lat_deg=lat_deg,
                base_lon_deg=lon_deg,
                speed_kmh=entry.speed_kmh,
                skills=entry.skills,
                capacity=entry.capacity,
            )
        )
    return tuple(pools)


def policy_uses(document: Document, catalogue: Catalogue, report: Report) -> tuple[PolicyUse, ...]:
    uses: list[PolicyUse] = []
    seen: dict[str, Path] = {}
    for i, entry in enumerate(document.policies):
        path: Path = ("policies", i)
        policy = catalogue.policies.get(entry.use)
        if policy is None:
            known = ", ".join(sorted(catalogue.policies)) or "none"
            report.add(
                (*path, "use"),
                f"unknown policy {entry.use!r}; the installed domains bring: {known}",
                word=entry.use,
                known=catalogue.policies,
            )
            continue
        first = seen.setdefault(entry.use, path)
        if first is not path:
            report.add((*path, "use"), f"policy {entry.use!r} is used twice, first at {report.where(first)}")
        given: dict[str, Parameter] = {}
        for key, value in entry.parameters.items():
            fault = _parameter_fault(policy, key, value)
            if fault:
                report.add((*path, "with", key), fault, word=key, known=policy.defaults)
            else:
                # Written 50, meant 50.0: a policy finds the type of its own default.
                given[key] = float(value) if type(policy.defaults[key]) is float else value
        uses.append(PolicyUse(name=entry.use, mode=entry.mode, parameters={**policy.defaults, **given}))
    return tuple(uses)


def _parameter_fault(policy: Policy, key: str, value: Any) -> str:
    if key not in policy.defaults:
        return f"policy {policy.name!r} has no parameter {key!r}; it has {', '.join(policy.defaults) or 'none'}"
    default = policy.defaults[key]
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else f"must be true or false, not {value!r}"
    if isinstance(default, str):
        return "" if isinstance(value, str) else f"must be text such as {default!r}, not {value!r}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value != value or value in (float("inf"), float("-inf")):
        return f"must be a finite number such as {default!r}, not {value!r}"
    return ""
