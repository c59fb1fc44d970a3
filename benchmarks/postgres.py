"""The PostgreSQL store: cost of an append, and one entity's last hour out of ten million entries.

    python benchmarks/postgres.py --json

A server of its own on loopback, fsync on. ``engine`` is this project's store. Its peers, in turn with it on the same
server: one table with the same two indexes (``one_table``), one table with a block-range index on time (``brin``), both
filled by the same binary COPY in transactions of the same size, so that only the layout differs; and what a plain
program would do, ``executemany`` of INSERT (``insert``, a part of the rows). The answers of every read are checked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from twin_actors.store import Entry
from twin_actors.store.postgres import PostgresStore
from twin_actors.store.postgres.log import copy_blob
from twin_actors.testing.postgres import PostgresServer, postgres_server, why_not

ENTITIES = 1_000
DAY_S = 86_400.0
BEGAN_S = 1_764_000_000.0
SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "2GB", "wal_level": "replica", "max_wal_senders": "10"}

Write = Callable[[int, list[Entry]], None]
Read = Callable[[int, float], list[int]]


class City:
    """Entries that can be made again from their offset: all entities in turn, spread over one day."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.pace_s = DAY_S / rows

    def entry(self, number: int) -> Entry:
        at_s = BEGAN_S + number * self.pace_s
        payload = b'{"ts": %d, "values": {"flow_vph": %d.5}}' % (int(at_s * 1000), number % 997)
        return Entry(number * 7919 % ENTITIES, 0, 1, at_s, payload)

    def group(self, first: int, size: int) -> list[Entry]:
        return [self.entry(number) for number in range(first, first + size)]

    def hour_before(self, end: int) -> tuple[float, NDArray[np.int64]]:
        """(beginning of the last hour before offset ``end``, all offsets in it)"""
        since_s = BEGAN_S + (end - 1) * self.pace_s - 3600.0
        about = max(end - int(3600.0 / self.pace_s) - 10, 0)
        return since_s, np.array([n for n in range(about, end) if self.entry(n)[3] >= since_s])


class Layout:
    """One way to keep the entries: how to write a group, how to read an entity since a moment."""

    def __init__(self, name: str, write: Write, read: Read | None) -> None:
        self.name, self.write, self.read = name, write, read
        self.end = 0


def layouts(server: PostgresServer) -> Iterator[Layout]:
    store = PostgresStore(server.url("bench"))
    log = store.log("router")
    epoch = store.next_epoch("router")

    def append(first: int, group: list[Entry]) -> None:
        assert log.append(epoch, group, first) == first

    def last(entity: int, since_s: float) -> list[int]:
        return [offset for offset, _ in log.read_of(entity, since_s=since_s)]

    yield Layout("engine", append, last)
    columns = (
        "log_offset bigint PRIMARY KEY, received_at_s float8 NOT NULL, share_no int NOT NULL, entity int NOT NULL, "
        "source int NOT NULL, channel smallint NOT NULL, payload bytea NOT NULL"
    )
    server.execute(f"CREATE TABLE one_table ({columns})")
    server.execute("CREATE INDEX ON one_table (entity, received_at_s)")
    server.execute(f"CREATE TABLE brin ({columns})")
    server.execute("CREATE INDEX ON brin USING brin (received_at_s)")
    server.execute(f"CREATE TABLE inserted ({columns})")
    server.execute("CREATE INDEX ON inserted (entity, received_at_s)")
    connection = psycopg.connect(server.url())
    yield Layout("one_table", copying(connection, "one_table"), reading(connection, "one_table"))
    yield Layout("brin", copying(connection, "brin"), reading(connection, "brin"))
    yield Layout("insert", inserting(connection, "inserted"), None)


def copying(connection: psycopg.Connection[Any], table: str) -> Write:
    statement = f"COPY {table} FROM STDIN (FORMAT binary)".encode()

    def write(first: int, group: list[Entry]) -> None:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(copy_blob(1, first, group))
        connection.commit()

    return write


def inserting(connection: psycopg.Connection[Any], table: str) -> Write:
    statement = f"INSERT INTO {table} VALUES (%s, %s, 1, %s, %s, %s, %s)".encode()

    def write(first: int, group: list[Entry]) -> None:
        rows = [
            (offset, each.received_at_s, each.entity, each.source, each.channel, each.payload)
            for offset, each in enumerate(group, start=first)
        ]
        with connection.cursor() as cursor:
            cursor.executemany(statement, rows)
        connection.commit()

    return write


def reading(connection: psycopg.Connection[Any], table: str) -> Read:
    query = (
        f"SELECT log_offset, entity, channel, source, received_at_s, payload FROM {table} "
        "WHERE entity = %s AND received_at_s >= %s ORDER BY log_offset"
    ).encode()

    def read(entity: int, since_s: float) -> list[int]:
        with connection.cursor(binary=True) as cursor:
            found = [(row[0], Entry._make(row[1:])) for row in cursor.execute(query, (entity, since_s))]
        connection.commit()
        return [offset for offset, _ in found]

    return read


def fill(layout: Layout, city: City, count: int, size: int) -> float:
    """Append and return the seconds that the store took (making the entries is not counted)."""
    seconds = 0.0
    for first in range(layout.end, layout.end + count, size):
        group = city.group(first, min(size, layout.end + count - first))
        began = time.perf_counter()
        layout.write(first, group)
        seconds += time.perf_counter() - began
    layout.end += count
    return seconds


def measured(server: PostgresServer, city: City, sizes: list[int], rounds: int, reads: int) -> dict[str, Any]:
    every = list(layouts(server))
    large = [layout for layout in every if layout.read]
    result: dict[str, Any] = {"rows": city.rows, "append_us_per_entry": {}, "filling_us_per_entry": {}}
    tail = rounds * sum(max(size * 20, 20_000) for size in sizes)
    bulk = city.rows - tail
    for layout in large:
        tell(f"filling {layout.name} with {bulk:,} entries in groups of 5,000")
        result["filling_us_per_entry"][layout.name] = round(fill(layout, city, bulk, 5_000) / bulk * 1e6, 2)
    for size in sizes:
        count = max(size * 20, 20_000)
        costs: dict[str, list[float]] = {layout.name: [] for layout in every}
        for number, layout in itertools.product(range(rounds), every):
            tell(f"groups of {size:,}: round {number + 1} of {rounds}, {layout.name}")
            costs[layout.name].append(fill(layout, city, count, size) / count * 1e6)
        result["append_us_per_entry"][str(size)] = {
            name: {"median": round(statistics.median(each), 2), "rounds": [round(cost, 2) for cost in each]}
            for name, each in costs.items()
        }
    result["last_hour_ms"] = {layout.name: last_hours(layout, city, reads) for layout in large}
    result["bytes_per_entry"] = bytes_per_entry(server, city)
    return result


def last_hours(layout: Layout, city: City, reads: int) -> dict[str, Any]:
    """Milliseconds to read one entity's last hour, each time of another entity."""
    assert layout.read is not None
    tell(f"reading from {layout.name}")
    milliseconds, found = [], 0
    since_s, hour = city.hour_before(layout.end)
    for entity in range(0, ENTITIES, ENTITIES // reads):
        began = time.perf_counter()
        offsets = layout.read(entity, since_s)
        milliseconds.append((time.perf_counter() - began) * 1e3)
        found += len(offsets)
        expected = hour[hour * 7919 % ENTITIES == entity].tolist()
        if offsets != expected:
            raise AssertionError(f"{layout.name}: {len(expected)} entries of {entity}, {len(offsets)} were read")
    ordered = sorted(milliseconds)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p95": round(ordered[int(len(ordered) * 0.95)], 2),
        "max": round(ordered[-1], 2),
        "entries_per_read": round(found / len(ordered)),
    }


def bytes_per_entry(server: PostgresServer, city: City) -> dict[str, float]:
    sizes = server.execute(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'entries_%' "
        "UNION ALL SELECT pg_total_relation_size('one_table') UNION ALL SELECT pg_total_relation_size('brin')"
    )
    names = ("engine", "one_table", "brin")
    return {name: round(float(size) / city.rows, 1) for name, (size,) in zip(names, sizes, strict=True)}


def tell(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['rows']:,} entries, {ENTITIES:,} entities, one day", "", "append, µs an entry (median)"]
    for size, costs in result["append_us_per_entry"].items():
        engine = costs["engine"]["median"]
        told = [f"{name} {cost['median']:.2f} (×{cost['median'] / engine:.2f})" for name, cost in costs.items()]
        lines.append(f"  groups of {size:>5}: " + ", ".join(told))
    lines += ["", "one entity's last hour, ms"]
    for name, reads in result["last_hour_ms"].items():
        lines.append(
            f"  {name:<10} p50 {reads['p50']}, p95 {reads['p95']}, max {reads['max']} "
            f"({reads['entries_per_read']} entries a read)"
        )
    lines += ["", f"bytes an entry on disk: {result['bytes_per_entry']}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="entries of each large table (10 million)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each group size and layout, in turn")
    parser.add_argument("--reads", type=int, default=100, help="entities whose last hour is read")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    if reason := why_not():
        raise SystemExit(reason)
    loaded = os.getloadavg()
    with postgres_server(SETTINGS) as server:
        version = server.execute("SHOW server_version")[0][0]
        result = measured(server, City(arguments.rows), [100, 1_000, 5_000], arguments.rounds, arguments.reads)
        result["server"] = {"version": version, **SETTINGS}
        result["load_average"] = [round(each, 1) for each in (*loaded, *os.getloadavg())]
    print(json.dumps(result, indent=2) if arguments.json else table(result))


if __name__ == "__main__":
    main()
