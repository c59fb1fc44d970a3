"""The embedded store: cost of an append, sealing, and one entity's last hour out of ten million logged readings.

    python benchmarks/history.py --json

1,000 entities, one day, groups of 1,000. ``engine`` is this project's embedded store, before (``unsealed``) and after
its log has been sealed. Its peers in the same run, in the same folder with the same durability (WAL, synchronous=FULL)
and transactions of the same size: a SQLite table with a row a reading (``rows``), and one with an index by entity and
time (``indexed``, a tenth of the readings: it is that much slower). Groups of several sizes are also appended to
PostgreSQL where it is installed. The answers of every read are checked against the readings that were made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from twin_actors.store import Entry, Store
from twin_actors.store.history import Resolution, Retention, Tidied, Values
from twin_actors.store.sqlite import SqliteStore

ENTITIES = 1_000
DAY_S = 86_400.0
BEGAN_S = 1_764_000_000.0
GROUP = 1_000
ASKED = range(0, ENTITIES, 50)
FOR_EVER = Retention(raw_s=1e12, minute_s=1e12, hour_s=1e12)


class Payload(msgspec.Struct):
    ts: int
    seq: int
    values: dict[str, float]


class City:
    """Readings that can be made again from their offset: all entities in turn, spread over one day."""

    def __init__(self, readings: int) -> None:
        self.readings = readings
        self.pace_s = DAY_S / readings

    def entry(self, number: int) -> Entry:
        at_s = BEGAN_S + number * self.pace_s
        payload = b'{"ts": %d, "seq": %d, "values": {"queue_veh": %d.5, "flow_vph": %d}}' % (
            *(int(at_s * 1000), number // ENTITIES),
            *(number * 31 % 97, number * 17 % 1900),
        )
        return Entry(number * 7919 % ENTITIES, 0, 0, at_s, payload)

    def groups(self, readings: int) -> Iterable[tuple[int, list[Entry]]]:
        for first in range(0, readings, GROUP):
            yield first, [self.entry(number) for number in range(first, min(first + GROUP, readings))]

    def last_hour(self, entity: int, readings: int) -> tuple[float, list[int]]:
        """(where the last hour of the first ``readings`` begins, offsets of one entity in it)"""
        since_s = BEGAN_S + (readings - 1) * self.pace_s - 3600.0
        start = max(int((since_s - BEGAN_S) / self.pace_s) - 2, 0)
        own = (number for number in range(start, readings) if number * 7919 % ENTITIES == entity)
        return since_s, [number for number in own if BEGAN_S + number * self.pace_s >= since_s]


def decode(entries: Sequence[tuple[int, Entry]]) -> Iterable[Values]:
    """As a runtime would: entries come entity by entity, so each run of one becomes arrays."""
    decoder = msgspec.json.Decoder(Payload)
    payloads = [decoder.decode(entry.payload) for _, entry in entries]
    entities = np.array([entry.entity for _, entry in entries])
    at_s = np.array([payload.ts for payload in payloads]) / 1000.0
    starts = np.flatnonzero(np.diff(entities, prepend=-(2**31)))
    for field in ("queue_veh", "flow_vph"):
        values = np.array([payload.values[field] for payload in payloads])
        for start, stop in zip(starts, [*starts[1:], len(entries)], strict=True):
            yield Values(int(entities[start]), field, at_s[start:stop], values[start:stop])


class Writing:
    """The cost of each group that one of them wrote; they write in turn, so that all meet the same machine."""

    def __init__(self, write: Callable[[int, list[Entry]], object], readings: int) -> None:
        self._write, self.readings = write, readings
        self._took: list[float] = []
        self._cpu_s = 0.0

    def __call__(self, first: int, group: list[Entry]) -> None:
        if first >= self.readings:
            return
        cpu_s, began = time.thread_time(), time.perf_counter()
        self._write(first, group)
        self._took.append(time.perf_counter() - began)
        self._cpu_s += time.thread_time() - cpu_s

    @property
    def figures(self) -> dict[str, float]:
        return {
            "per_reading_us": round(sum(self._took) / self.readings * 1e6, 2),
            "cpu_per_reading_us": round(self._cpu_s / self.readings * 1e6, 2),
            "per_group_p50_ms": round(statistics.median(self._took) * 1e3, 2),
            "per_group_p99_ms": round(statistics.quantiles(self._took, n=100)[98] * 1e3, 2),
        }


def read_and_time(
    city: City, readings: int, read: Callable[[int, float], list[int]], asked: Iterable[int] = ASKED
) -> dict[str, float]:
    """Each entity's last hour, checked; none is asked for twice."""
    took: list[float] = []
    for entity in asked:
        since_s, expected = city.last_hour(entity, readings)
        began = time.perf_counter()
        found = read(entity, since_s)
        took.append(time.perf_counter() - began)
        if found != expected:
            sys.exit(f"entity {entity}: {len(found)} readings were found, {len(expected)} were expected")
    return {
        "readings": len(expected),
        "first_ms": round(took[0] * 1e3, 1),
        "p50_ms": round(statistics.median(took) * 1e3, 1),
        "max_ms": round(max(took) * 1e3, 1),
    }


def size_of(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


# -- the engine and its peers --------------------------------------------------------------------------------------


def measure_history(city: City, folder: Path) -> dict[str, Any]:
    """The engine after its log has been filled: before sealing, sealed, rolled up."""
    store = SqliteStore(folder)
    log = store.log("router")
    figures: dict[str, Any] = {}

    def read(entity: int, since_s: float) -> list[int]:
        return [offset for offset, _ in SqliteStore(folder).log("router").read_of(entity, since_s=since_s)]

    payload_bytes = (
        sum(len(city.entry(number).payload) for number in range(0, city.readings, 997)) * 997 / city.readings
    )
    figures["payload_bytes_per_reading"] = round(payload_bytes, 1)
    figures["unsealed_bytes_per_reading"] = round(size_of(folder, "log-*") / city.readings, 1)
    figures["unsealed_last_hour"] = read_and_time(city, city.readings, read)
    log.trim(city.readings)
    now_s = BEGAN_S + 2 * DAY_S
    sealed, seal_s = timed(lambda: store.tidy(now_s, FOR_EVER))
    figures["sealing_readings_per_s"] = round(sealed.sealed_entries / seal_s)
    figures["files"] = sealed.sealed_files
    figures["sealed_bytes_per_reading"] = round(size_of(folder, "entries-*") / city.readings, 1)
    figures["sealed_last_hour"] = read_and_time(city, city.readings, read)
    rolled, roll_s = timed(lambda: store.tidy(now_s, FOR_EVER, decode))
    figures["rolling_up_readings_per_s"] = round(rolled.rolled_entries / roll_s)
    figures["rolled_up_bytes_per_reading"] = round(
        (size_of(folder, "minute-*") + size_of(folder, "hour-*")) / city.readings, 1
    )
    for resolution in Resolution:
        buckets, rollup_s = timed(lambda: log.rollup(7, "queue_veh", resolution=resolution))  # noqa: B023
        if buckets.count.sum() != len(range(7, city.readings, ENTITIES)):
            sys.exit(f"{buckets.count.sum()} readings are in the buckets of entity 7")
        figures[f"day_by_{resolution.value}_ms"] = round(rollup_s * 1e3, 1)
    store.close()
    return figures


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result: Tidied | Any = work()
    return result, time.perf_counter() - began


class Rows:
    """A row a reading, as most programs do it."""

    def __init__(self, folder: Path, *, indexed: bool) -> None:
        folder.mkdir()
        self._folder = folder
        self._connection = sqlite3.connect(folder / "rows.sqlite", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE log "
            "(at INTEGER PRIMARY KEY, entity INT, channel INT, source INT, received_at_s REAL, payload BLOB)",
            *(["CREATE INDEX log_of ON log (entity, received_at_s)"] if indexed else []),
        ):
            self._connection.execute(statement)

    def write(self, first: int, group: list[Entry]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", ((at, *each) for at, each in enumerate(group, start=first))
        )
        self._connection.execute("COMMIT")

    def read(self, entity: int, since_s: float) -> list[int]:
        rows = self._connection.execute(
            "SELECT at, payload FROM log WHERE entity = ? AND received_at_s >= ? ORDER BY at", (entity, since_s)
        )
        return [at for at, _ in rows]

    def measure(self, city: City, readings: int, asked: Sequence[int]) -> dict[str, Any]:
        return {
            "bytes_per_reading": round(size_of(self._folder) / readings, 1),
            "last_hour": read_and_time(city, readings, self.read, asked),
        }


# -- groups of several sizes ---------------------------------------------------------------------------------------


def measure_groups(city: City, store: Store) -> dict[str, dict[str, float]]:
    log, epoch = store.log("groups"), store.next_epoch("groups")
    figures = {}
    offset = 0
    for size in (1, 100, 1_000, 5_000):
        took = []
        for _ in range(100):
            group = [city.entry(number) for number in range(offset, offset + size)]
            began = time.perf_counter()
            log.append(epoch, group, offset)
            took.append(time.perf_counter() - began)
            offset += size
        median = statistics.median(took)
        figures[str(size)] = {"p50_ms": round(median * 1e3, 2), "per_reading_us": round(median / size * 1e6, 2)}
    return figures


def measure_fsync(folder: Path) -> float:
    """Median of making one appended page durable, in ms: what no durable log on this disk can go below."""
    took = []
    with open(folder / "fsync", "wb") as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return round(statistics.median(took) * 1e3, 2)


def measure_postgres_groups(city: City) -> dict[str, Any]:
    from twin_actors.store import open_store
    from twin_actors.testing.postgres import postgres_server, why_not

    if reason := why_not():
        return {"skipped": reason}
    with postgres_server() as server:
        store = open_store(server.url("benchmark"))
        try:
            return measure_groups(city, store)
        finally:
            store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--readings", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where to work, on the disk to be measured; else the temporary one")
    arguments = parser.parse_args()
    city = City(arguments.readings)
    folder = Path(tempfile.mkdtemp(prefix="history-", dir=arguments.folder))
    try:
        figures: dict[str, Any] = {"readings": city.readings, "entities": ENTITIES, "fsync_ms": measure_fsync(folder)}
        groups = SqliteStore(folder / "groups")
        figures["groups"] = {"embedded": measure_groups(city, groups), "postgresql": measure_postgres_groups(city)}
        groups.close()
        store = SqliteStore(folder / "engine")
        log = store.log("router")
        peers = {"rows": Rows(folder / "rows", indexed=False), "indexed": Rows(folder / "indexed", indexed=True)}
        writers = {
            "engine": Writing(lambda at, group: log.append(1, group, at), city.readings),
            "rows": Writing(peers["rows"].write, city.readings),
            "indexed": Writing(peers["indexed"].write, city.readings // 10),
        }
        for first, group in city.groups(city.readings):
            for writer in writers.values():
                writer(first, group)
        store.close()
        figures["append"] = {name: writer.figures for name, writer in writers.items()}
        figures["engine"] = measure_history(city, folder / "engine")
        figures["rows"] = peers["rows"].measure(city, city.readings, ASKED[:3])
        figures["indexed"] = {"readings": city.readings // 10} | peers["indexed"].measure(
            city, city.readings // 10, ASKED
        )
        appended = figures["append"]
        for peer in ("rows", "indexed"):
            figures[f"{peer}_append_to_engine"] = round(
                appended[peer]["per_reading_us"] / appended["engine"]["per_reading_us"], 2
            )
        figures["rows_last_hour_to_engine"] = round(
            figures["rows"]["last_hour"]["p50_ms"] / figures["engine"]["sealed_last_hour"]["p50_ms"], 1
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    for name, figure in figures.items():
        print(f"{name:26} {json.dumps(figure)}")


if __name__ == "__main__":
    main()
