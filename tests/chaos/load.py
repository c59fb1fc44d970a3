"""The load of a chaos run: which entities there are, and what each says at a moment, certain from seed and number."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
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


def payload_of(seed: int, entity: str, number: int, ts_ms: int) -> bytes:
    """The ``number``-th reading of an entity. Half of the devices number theirs, the others are known by their time."""
    message: dict[str, Any] = {"ts": ts_ms}
    if crc32(entity.encode()) % 2:
        message |= {"seq": number, "boot": f"b{seed}"}
    return json.dumps({**message, "values": _values(seed, entity, number)}, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Said:
    """One line of a publisher's file: a reading sent, with the moment of its PUBACK (None: none came)."""

    entity: str
    number: int
    ts_ms: int
    acknowledged_s: float | None
    payload: bytes


def read_file(path: Path, seed: int) -> Iterator[Said]:
    """What a publisher has sent, in its order. The file holds S lines when sent and A lines when acknowledged."""
    sent: dict[tuple[str, int], int] = {}
    acknowledged: dict[tuple[str, int], float] = {}
    for line in path.read_text().splitlines():
        what, entity, number, value = line.split()
        if what == "S":
            sent[entity, int(number)] = int(value)
        else:
            acknowledged[entity, int(number)] = float(value)
    for (entity, number), ts_ms in sent.items():
        at_s = acknowledged.get((entity, number))
        yield Said(entity, number, ts_ms, at_s, payload_of(seed, entity, number, ts_ms))
