"""Rolled-up history in PostgreSQL: buckets merged into a table, and read back for one field row of one entity."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.store.history import Resolution, Rolled
from twin_actors.store.postgres.session import Connection, Session
from twin_actors.store.rollups import Buckets

PAGE = 50_000
_COLUMNS = "at_s, count, minimum, maximum, total, last, last_at_s"


def add(connection: Connection, share_no: int, buckets: Buckets, resolution: Resolution) -> None:
    """Merge buckets of later log offsets into those that are there, in the caller's transaction."""
    if not len(buckets):
        return
    labels = list(buckets.labels)
    connection.execute("INSERT INTO fields (label) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", (labels,))
    numbers = dict(connection.execute("SELECT label, field_no FROM fields WHERE label = ANY(%s)", (labels,)).fetchall())
    field_numbers = np.array([numbers[label] for label in labels])[buckets.fields]
    connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS fresh (LIKE rollups) ON COMMIT DELETE ROWS")
    rows = zip(
        buckets.at_s.tolist(),
        buckets.count.tolist(),
        buckets.minimum.tolist(),
        buckets.maximum.tolist(),
        buckets.total.tolist(),
        buckets.last.tolist(),
        buckets.last_at_s.tolist(),
        buckets.entities.tolist(),
        field_numbers.tolist(),
        strict=True,
    )
    statement = f"COPY pg_temp.fresh ({_COLUMNS}, entity, field_no, share_no, width_s) FROM STDIN (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.set_types(["int8", "int8", *["float8"] * 5, *["int4"] * 4])
        for row in rows:
            copy.write_row((*row, share_no, resolution.width_s))
    connection.execute(
        """
        INSERT INTO rollups AS old SELECT * FROM pg_temp.fresh
        ON CONFLICT (share_no, entity, field_no, width_s, at_s) DO UPDATE SET
            count = old.count + excluded.count,
            minimum = least(old.minimum, excluded.minimum),
            maximum = greatest(old.maximum, excluded.maximum),
            total = old.total + excluded.total,
            last = CASE WHEN excluded.last_at_s >= old.last_at_s THEN excluded.last ELSE old.last END,
            last_at_s = greatest(old.last_at_s, excluded.last_at_s)
        """
    )
    connection.execute("TRUNCATE pg_temp.fresh")


def read(
    session: Session, share: str, entity: int, field: str, resolution: Resolution, span_s: tuple[float, float]
) -> Rolled:
    """See Log.rollup."""

    def work(connection: Connection) -> list[tuple[float, ...]]:
        with connection.cursor(binary=True) as cursor:
            return cursor.execute(
                f"SELECT {_COLUMNS} FROM rollups JOIN logs USING (share_no) JOIN fields USING (field_no) "
                "WHERE share = %s AND entity = %s AND label = %s AND width_s = %s AND at_s >= %s AND at_s < %s "
                "ORDER BY at_s".encode(),
                (share, entity, field, resolution.width_s, *map(_bigint, span_s)),
            ).fetchall()

    rows = np.array(session.run(work), np.float64).reshape(-1, 7)
    at_s, count, minimum, maximum, total, last, _ = rows.T
    return Rolled(
        at_s=at_s, count=count.astype(np.int64), minimum=minimum, mean=total / count, maximum=maximum, last=last
    )


def every(session: Session, share: str) -> Generator[int | tuple[Resolution, Buckets], None, None]:
    """First the offset up to which a log is rolled up, then all its buckets in parts; closes the session at its end."""
    try:
        with session.looking() as look:
            log = look.rows("SELECT share_no, rolled_offset FROM logs WHERE share = %s", (share,))
            yield log[0][1] if log else 0
            labels = dict(look.rows("SELECT field_no, label FROM fields"))
            if log:
                query = f"SELECT entity, field_no, width_s, {_COLUMNS} FROM rollups WHERE share_no = %s "
                # the order of the primary key: the server begins to answer at once
                for page in look.pages(query + "ORDER BY entity, field_no, width_s, at_s", (log[0][0],), PAGE):
                    columns = [np.array(column) for column in zip(*page, strict=True)]
                    for resolution in Resolution:
                        chosen = columns[2] == resolution.width_s
                        if chosen.any():
                            yield resolution, _buckets([column[chosen] for column in columns], labels)
    finally:
        session.close()


def _buckets(columns: list[NDArray[Any]], labels: dict[int, str]) -> Buckets:
    entities, numbers, _, at_s, count, minimum, maximum, total, last, last_at_s = columns
    known = sorted({labels[number] for number in numbers.tolist()})
    code = {label: place for place, label in enumerate(known)}
    fields = np.array([code[labels[number]] for number in numbers.tolist()], np.int32)
    order = np.lexsort((at_s, fields, entities))
    return Buckets(
        labels=tuple(known),
        entities=entities[order].astype(np.int32),
        fields=fields[order],
        at_s=at_s[order].astype(np.int64),
        count=count[order].astype(np.int64),
        minimum=minimum[order],
        maximum=maximum[order],
        total=total[order],
        last=last[order],
        last_at_s=last_at_s[order],
    )


def _bigint(moment_s: float) -> int:
    """The first whole second that is not before a moment, within what bigint holds."""
    return int(np.ceil(np.clip(moment_s, -1e15, 1e15)))
