"""The load of a chaos run: which entities there are, and what each says at a moment, certain from seed and number."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zlib import crc32

FOOTFALL, SUBSTATION, INTERSECTION = "footfall", "substation", "intersection"
MOVEMENTS: Final = 8

POLICIES: Final = """policies:
  - {use: max_pressure, mode: act, with: {change_min: 0.01, cooldown_s: 3, at_most: 20, expires_s: 30}}
  - {use: shed_load, mode: act}
"""


def scenario_text(
    city: str,
    *,
    twins: int,
    per_actor: int,
    policies: bool,
    store: str = "",
    cluster: str = "",
    broker: str = "",
    tick_s: float = 0.5,
) -> str:
    """A city of three kinds: three fifths of the twins count people, the others are substations and junctions."""
    few = max(1, twins // 5)
    lines = [
        f"city: {city}",
        f"tick_s: {tick_s}",
        f"placement: {{entities_per_actor: {per_actor}}}",
        f"store: {{url: '{store}'}}" if store else "",
        f"cluster: {{address: '{cluster}'}}" if cluster else "",
        f"broker: {{url: '{broker}'}}" if broker else "broker: {embedded: mosquitto}",
        "entities:",
        f'  - {{kind: {FOOTFALL}, pattern: "f-{{n:03d}}", count: {twins - 2 * few}}}',
        f'  - {{kind: {SUBSTATION}, pattern: "s-{{n:03d}}", count: {few}, attributes: {{rated_mva: 20}}}}',
        f'  - {{kind: {INTERSECTION}, pattern: "x-{{n:03d}}", count: {few}}}',
    ]
    return "\n".join(filter(None, lines)) + "\n" + (POLICIES if policies else "")


def _wave(seed: int, entity: str, number: int, period: int) -> float:
    """Between −1 and 1, slow enough for every field's rate limit."""
    phase = crc32(f"{seed}/{entity}".encode()) % 1000 / 1000
    return math.sin(2 * math.pi * (number / period + phase))


def _values(seed: int, entity: str, number: int) -> dict[str, Any]:
    kind = entity.partition("/")[0]
    wave = _wave(seed, entity, number, 60)
    if kind == FOOTFALL:
        return {"flow_pph": round(900 + 600 * wave, 3)}
    if kind == SUBSTATION:
        return {"load_mw": round(17 + 5 * wave, 4), "voltage_pu": round(1 + 0.02 * wave, 5)}
    queues = [round(20 + 15 * _wave(seed, f"{entity}/{place}", number, 400)) for place in range(MOVEMENTS)]
    return {"queue_veh": queues, "demand_vph": [round(400 + 10.0 * queue, 1) for queue in queues]}


def reading_of(seed: int, entity: str, number: int, ts_ms: int, *, gathered: bool = False) -> dict[str, Any]:
    """The ``number``-th reading of an entity. Half of the devices number theirs, the others are known by their time.

    ``gathered``: it travels in a message of a gateway, where columns have no room for a boot of each entity.
    """
    message: dict[str, Any] = {"ts": ts_ms}
    if crc32(entity.encode()) % 2:
        message["seq"] = number
        if not (gathered and in_columns(entity)):
            message["boot"] = f"b{seed}"
    return {**message, "values": _values(seed, entity, number)}


def payload_of(seed: int, entity: str, number: int, ts_ms: int, *, gathered: bool = False) -> bytes:
    """What the device of an entity sends, or would send if no gateway spoke for it."""
    return _text(reading_of(seed, entity, number, ts_ms, gathered=gathered))


def _text(said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()


# -- gateways ------------------------------------------------------------------------------------------------------


def in_columns(entity: str) -> bool:
    """Whether gateways send its readings as columns; those of the other kinds stand in lists."""
    return entity.startswith(f"{FOOTFALL}/")


@dataclass(frozen=True, slots=True)
class Batch:
    """Entities whose readings a gateway sends in one message."""

    gateway: str
    entities: tuple[str, ...]


def batches(entities: Sequence[str], gateways: int) -> list[Batch]:
    """Every second entity stands behind one of ``gateways``, each of which sends a list and columns in turn."""
    found = []
    for number in range(gateways):
        own = entities[::2][number::gateways]
        for columnar in (False, True):
            part = tuple(entity for entity in own if in_columns(entity) == columnar)
            if part:
                found.append(Batch(f"cabinet-{number + 1}", part))
    return found


def message_of(seed: int, readings: Sequence[tuple[str, int, int]]) -> bytes:
    """A gateway's message of (entity, number, ts_ms), all for columns or all for a list."""
    said = [reading_of(seed, *reading, gathered=True) for reading in readings]
    if not in_columns(readings[0][0]):
        return _text([{"entity": reading[0], **each} for reading, each in zip(readings, said, strict=True)])
    fields = said[0]["values"]
    return _text(
        {
            "kind": FOOTFALL,
            "entities": [entity.partition("/")[2] for entity, _, _ in readings],
            "ts": [each["ts"] for each in said],
            "seq": [each.get("seq") for each in said],
            "values": {field: [each["values"][field] for each in said] for field in fields},
        }
    )


# -- what was said -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """One line of a publisher's file: a reading sent, with the moment of its PUBACK (None: none came).

    ``payload`` is what its device sent, or would have sent in place of a ``gateway``.
    """

    entity: str
    number: int
    ts_ms: int
    acknowledged_s: float | None
    payload: bytes
    gateway: str = ""


def read_file(path: Path, seed: int) -> Iterator[Said]:
    """What a publisher has sent, in its order. The file holds an S line for each reading sent, with the gateway that
    sent it where one did, and an A line when it was acknowledged."""
    sent: dict[tuple[str, int], tuple[int, str]] = {}
    acknowledged: dict[tuple[str, int], float] = {}
    for line in path.read_text().splitlines():
        what, entity, number, value, *gateway = line.split()
        if what == "S":
            sent[entity, int(number)] = int(value), gateway[0] if gateway else ""
        else:
            acknowledged[entity, int(number)] = float(value)
    for (entity, number), (ts_ms, through) in sent.items():
        at_s = acknowledged.get((entity, number))
        payload = payload_of(seed, entity, number, ts_ms, gathered=bool(through))
        yield Said(entity, number, ts_ms, at_s, payload, through)
