"""Parquet files of history: entries sorted by entity and offset, and rolled-up buckets. Needs the extra ``history``."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twin_actors.store.base import Entry, StoreDamaged, StoreUnavailable
from twin_actors.store.groups import Group
from twin_actors.store.rollups import Buckets
from twin_actors.store.sqlite.file import sync_folder

ROWS_PER_GROUP = 8_192
"""Rows that are read together; each such group keeps the least and the greatest entity in the file's foot."""
_ENTRY_SCHEMA = pa.schema(
    [
        ("offset", pa.int64()),
        ("entity", pa.int32()),
        ("channel", pa.uint8()),
        ("source", pa.int32()),
        ("received_at_s", pa.float64()),
        ("payload", pa.binary()),
    ]
)
_BUCKET_COLUMNS = ("at_s", "count", "minimum", "maximum", "total", "last", "last_at_s")


# -- entries -------------------------------------------------------------------------------------------------------


def entry_table(groups: Sequence[Group]) -> pa.Table:
    """Consecutive groups as one table, sorted by entity, then offset. Their payloads take less than 2 GiB."""
    lengths = np.concatenate([group.ends - group.starts for group in groups])
    ends = np.zeros(len(lengths) + 1, np.int32)
    ends[1:] = np.cumsum(lengths)
    data = b"".join(group.blob[group.starts[0] :] for group in groups)
    payloads = pa.BinaryArray.from_buffers(pa.binary(), len(lengths), [None, pa.py_buffer(ends), pa.py_buffer(data)])
    entities = np.concatenate([group.entities for group in groups])
    table = pa.table(
        [
            np.arange(groups[0].first, groups[0].first + len(lengths)),
            entities,
            np.concatenate([group.channels for group in groups]),
            np.concatenate([group.sources for group in groups]),
            np.concatenate([group.received_at_s for group in groups]),
            payloads,
        ],
        schema=_ENTRY_SCHEMA,
    )
    return table.take(np.argsort(entities, kind="stable"))


def entries_of(table: pa.Table) -> list[tuple[int, Entry]]:
    """Rows of such a table as the log gives them."""
    offsets, *columns = (column.to_pylist() for column in table.columns)
    entities, channels, sources, received, payloads = columns
    rows = zip(entities, channels, sources, received, payloads, strict=True)
    return list(zip(offsets, map(Entry._make, rows), strict=True))


def read_entity(path: Path, entity: int, since_s: float, until_s: float, first: int) -> list[tuple[int, Entry]]:
    """One entity's entries of a file, in log order; reads only the row groups that can hold some."""
    with open_file(path) as file:
        chosen = [place for place in range(file.num_row_groups) if _overlaps(file, place, entity, since_s, until_s)]
        if not chosen:
            return []
        table = file.read_row_groups(chosen, use_threads=False)  # a few milliseconds: handing over costs more
    received = table["received_at_s"].to_numpy()
    wanted = (table["entity"].to_numpy() == entity) & (received >= since_s) & (received < until_s)
    wanted &= table["offset"].to_numpy() >= first
    return entries_of(table.take(np.flatnonzero(wanted)))


def _overlaps(file: pq.ParquetFile, place: int, entity: int, since_s: float, until_s: float) -> bool:
    group = file.metadata.row_group(place)
    entities = group.column(1).statistics
    received = group.column(4).statistics
    return bool(
        entities.min <= entity <= entities.max
        # over a row group of several entities the times say nothing; of one they tell which part of it
        and (entities.min != entities.max or (received.min < until_s and received.max >= since_s))
    )


def read_in_order(path: Path) -> pa.Table:
    """All entries of a file in log order."""
    with open_file(path) as file:
        table = file.read()
    return table.take(np.argsort(table["offset"].to_numpy(), kind="stable"))


# -- buckets -------------------------------------------------------------------------------------------------------


def bucket_table(buckets: Buckets) -> pa.Table:
    fields = pa.DictionaryArray.from_arrays(pa.array(buckets.fields), pa.array(buckets.labels, pa.string()))
    columns = {"entity": buckets.entities, "field": fields}
    return pa.table(columns | {name: getattr(buckets, name) for name in _BUCKET_COLUMNS})


def read_buckets(path: Path, entity: int | None = None) -> Buckets:
    """All buckets of a file, or at least those of one entity."""
    with open_file(path) as file:
        places = range(file.num_row_groups)
        if entity is not None:
            stats = [file.metadata.row_group(place).column(0).statistics for place in places]
            places = [place for place, each in enumerate(stats) if each.min <= entity <= each.max]  # type: ignore[assignment]
        table = file.read_row_groups(list(places), use_threads=False)
    if entity is not None:
        table = table.take(np.flatnonzero(table["entity"].to_numpy() == entity))
    fields = table["field"].combine_chunks()
    if isinstance(fields, pa.ChunkedArray):
        fields = fields.unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(fields.type):
        fields = fields.dictionary_encode()
    labels = fields.dictionary.to_pylist()
    ranks = np.argsort(np.argsort(np.array(labels, dtype=object))) if labels else np.empty(0, np.int64)
    return Buckets(
        labels=tuple(sorted(labels)),
        entities=table["entity"].to_numpy().astype(np.int32),
        fields=ranks[fields.indices.to_numpy()].astype(np.int32),
        **{name: table[name].to_numpy() for name in _BUCKET_COLUMNS},
    )


# -- files ---------------------------------------------------------------------------------------------------------


@contextmanager
def open_file(path: Path) -> Iterator[pq.ParquetFile]:
    """Raises FileNotFoundError, and StoreDamaged when the file or what is read of it is not whole."""
    try:
        if _foot_sum(path) != path.stem.rpartition("-")[2]:
            raise pa.ArrowInvalid("its foot is not the one that was written")
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise StoreUnavailable(f"{path}: history cannot be read ({error}); see whose folder it is") from error
        raise StoreDamaged(f"{path}: a part of the history is damaged ({error}); restore it from a backup") from error


def _foot_sum(path: Path) -> str:
    """The check sum of a file's foot, which says where everything is and is the one part without a sum of its own.

    A file ends with its foot, the foot's length in 4 bytes, and PAR1 (the Parquet format, "File Format").
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(size - 8 - length, 0))
        return f"{zlib.crc32(file.read()):08x}"


def write_file(folder: Path, name: str, table: pa.Table) -> str:
    """Write a table durably, all of it or nothing. Returns the file's name: ``name`` and the check sum of its foot."""
    half = folder / f"{name}.half"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        pq.write_table(
            table,
            half,
            compression="zstd",
            row_group_size=ROWS_PER_GROUP,
            use_dictionary=["field"] if "field" in table.column_names else False,
            write_page_checksum=True,
        )
        with open(half, "rb") as file:
            os.fsync(file.fileno())
        path = folder / f"{name}-{_foot_sum(half)}.parquet"
        half.rename(path)
        sync_folder(folder)
        sync_folder(folder.parent)  # the folder may be new itself
        return path.name
    except OSError as error:
        half.unlink(missing_ok=True)
        raise StoreUnavailable(
            f"{folder}: history cannot be written ({error}); make room, or see whose folder it is"
        ) from error


def remove_files(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
