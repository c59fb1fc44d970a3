"""Reading a log's files of history; the Parquet library is loaded when there is one to read."""

from __future__ import annotations

import importlib.util
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from twin_actors.store.base import Entry, StoreUnavailable
from twin_actors.store.history import Resolution, Rolled
from twin_actors.store.rollups import Buckets, merge, roll


def can_keep_history() -> bool:
    """Whether the library that files of history need is installed."""
    return importlib.util.find_spec("pyarrow") is not None


class HistoryFiles:
    """The files of one log's history in their folder. Every read raises FileNotFoundError when its file has gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reading = threading.Lock()
        self._in_order: tuple[str, Any] = ("", None)  # the file that was read last, whole and in log order

    def read(self, file: str, first: int, stop: int) -> list[tuple[int, Entry]]:
        """Entries of a file by their offset. Who reads on through a file finds it in memory after the first time."""
        parquet = _parquet()
        with self._reading:
            name, table = self._in_order
            if name != file:
                table = parquet.read_in_order(self.folder / file)
                self._in_order = (file, table)
        began = table["offset"][0].as_py()
        start = max(first - began, 0)
        return list(parquet.entries_of(table.slice(start, max(stop - began - start, 0))))

    def read_of(self, file: str, entity: int, since_s: float, until_s: float, first: int) -> list[tuple[int, Entry]]:
        """One entity's entries of a file."""
        return list(_parquet().read_entity(self.folder / file, entity, since_s, until_s, first))

    def rollup(self, files: list[str], entity: int, field: str, since_s: float, until_s: float) -> Rolled:
        """One field row of one entity from several files of buckets, in log order."""
        parts: list[Buckets] = [_parquet().read_buckets(self.folder / file, entity) for file in files]
        rolled = (merge(parts) if parts else roll([], Resolution.MINUTE)).of(entity, field)
        inside = (rolled.at_s >= since_s) & (rolled.at_s < until_s)
        if np.all(inside):
            return rolled
        return Rolled(**{name: getattr(rolled, name)[inside] for name in Rolled.__slots__})

    def buckets(self, files: list[tuple[Resolution, str]]) -> Iterator[tuple[Resolution, Buckets]]:
        """All buckets of all files; raises StoreUnavailable when tidying has just replaced one."""
        for resolution, file in files:
            try:
                yield resolution, _parquet().read_buckets(self.folder / file)
            except FileNotFoundError as error:
                raise StoreUnavailable(f"{self.folder}: history is being tidied; try again when it is done") from error

    def add_buckets(self, resolution: Resolution, buckets: Buckets) -> tuple[str, int, int, int, int, str]:
        """Write buckets into a file of their own. Returns its row for the log."""
        parquet = _parquet()
        name = parquet.write_file(self.folder, f"{resolution.value}-{uuid.uuid4().hex}", parquet.bucket_table(buckets))
        since_s, until_s = int(buckets.at_s.min()), int(buckets.at_s.max()) + resolution.width_s
        return resolution.value, 0, since_s, until_s, len(buckets), name


def _parquet() -> Any:
    try:
        from twin_actors.store.sqlite import parquet  # here: its library is an extra
    except ImportError as error:
        raise StoreUnavailable(
            f"history is kept in Parquet files: pip install 'twin-actors[history]' ({error})"
        ) from error
    return parquet
