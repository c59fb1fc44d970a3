"""Small real cities without processes: scenarios from text, holders of their twins, payloads of their devices."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings

from twin_actors.core.inputs import Channel
from twin_actors.runtime.holder import NOTHING_APPLIED, Holder, Outcomes
from twin_actors.runtime.packing import Delivery, pack
from twin_actors.runtime.plan import holder_of
from twin_actors.scenario import Scenario, load_scenario
from twin_actors.scenario.catalogue import load_catalogue

T0 = 1_780_000_000.0
"""The moment at which the cities of these tests begin, s since the epoch."""

UNHURRIED = settings(deadline=None, max_examples=50, database=None)
"""Timings are never asserted: a busy machine must not fail a property."""

TOWN = """
city: town
entities:
  - {kind: footfall, pattern: "gate-{n}", count: 3}
  - {kind: substation, name: quay, attributes: {rated_mva: 40, block_mw: [4, 4, 5, 6, 6]}}
  - {kind: venue, name: arena, attributes: {area_m2: 9000, capacity_persons: 16000, exit_width_m: 28}}
"""


@lru_cache
def town(text: str = TOWN) -> Scenario:
    """The scenario that ``text`` describes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "town.yaml"
        path.write_text(text)
        return load_scenario(path)


def holder(
    text: str = TOWN, *, entities: Iterable[str] | None = None, epoch: int = 1, incarnation: str = "a"
) -> Holder:
    """A fresh Holder of some or all twins of a town, sorted by kind as a plan sorts them."""
    scenario = town(text)
    chosen = [each for each in scenario.entities if entities is None or each.id in entities]
    chosen.sort(key=lambda entity: entity.kind)
    return holder_of(chosen, scenario, load_catalogue(), epoch=epoch, incarnation=incarnation)


def ids_of(of: Holder) -> list[str]:
    """The twins of a holder by place."""
    return [entity for group in of.groups for entity in group.table.ids]


def says(at_s: float | None = None, *, seq: int | None = None, boot: str | None = None, **values: Any) -> bytes:
    """One reading as a device sends it."""
    said: dict[str, Any] = {"values": values}
    if at_s is not None:
        said["ts"] = round(at_s * 1000)
    if seq is not None:
        said["seq"] = seq
    if boot is not None:
        said["boot"] = boot
    return json.dumps(said).encode()


def tells(at_s: float, **values: Any) -> bytes:
    """The log's payload of a command or a coupling."""
    return json.dumps({"at_s": at_s, "values": values}).encode()


def delivery(
    offset: int,
    place: int,
    payload: bytes,
    *,
    channel: Channel = Channel.READING,
    source: int = 0,
    received_at_s: float = T0 + 1000.0,
) -> Delivery:
    return Delivery(offset, place, int(channel), source, received_at_s, payload)


def stream(*payloads: tuple[int, bytes], first: int = 0) -> list[Delivery]:
    """Readings (place, payload) at the offsets from ``first`` on."""
    return [delivery(offset, place, payload) for offset, (place, payload) in enumerate(payloads, first)]


def send(to: Holder, *deliveries: Delivery, after: int = NOTHING_APPLIED, epoch: int = 1) -> Any:
    """Apply deliveries as one batch and return the reply."""
    return to.apply(pack(epoch, after, deliveries))


def with_fate(outcomes: Outcomes) -> int:
    """How many readings have got one of the four fates that a twin actor gives."""
    return outcomes.applied + outcomes.duplicate + outcomes.late + outcomes.dead_lettered


def assert_same(one: Holder, other: Holder, *, relative: float = 1e-9) -> None:
    """Assert that two holders have the same twins, counts and offset."""
    assert one.offset == other.offset
    assert one.outcomes() == other.outcomes()
    assert one.fates_by_entity() == other.fates_by_entity()
    np.testing.assert_array_equal(one.intake.last_seq, other.intake.last_seq)
    np.testing.assert_array_equal(one.intake.last_boot, other.intake.last_boot)
    for mine, theirs in zip(one.groups, other.groups, strict=True):
        expected = theirs.table.snapshot()
        for name, array in mine.table.snapshot().items():
            np.testing.assert_allclose(
                array, expected[name], rtol=relative, atol=1e-9, err_msg=f"{mine.table.kind.name}: {name}"
            )
