"""Moving what no recovery needs out of a log into files of history, rolling it up, and ending what is too old.

For a process of its own beside the router: building a file takes a second of one core per million entries, which a
thread in the router's process would take from its interpreter. The log itself is locked for moments only.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from twin_actors.store.base import StoreDamaged, StoreUnavailable
from twin_actors.store.groups import Group
from twin_actors.store.history import Decode, Resolution, Retention, Tidied
from twin_actors.store.rollups import Buckets, coarser, merge, roll
from twin_actors.store.sqlite import parquet
from twin_actors.store.sqlite.file import SqliteFile
from twin_actors.store.sqlite.log import ADD_ROLLUP, number, set_number, unpack_checked

LARGEST_ENTRIES = 1_000_000
LARGEST_BYTES = 512_000_000
LONGEST_S = 3600.0
"""A file of history holds no more entries, bytes or time than this, and no less than one of them."""
DELETED_AT_ONCE = 64
"""Groups whose rows are deleted in one transaction: some milliseconds, for which the router may have to wait."""
DECODED_AT_ONCE = 50_000
FEW_FILES = 4
MERGED_BUCKETS = 4_000_000
"""Rolled-up files of a past day are merged once there are this many of them, into files of this many buckets."""
DAY_S = 86400


@dataclass(frozen=True, slots=True)
class _Range:
    """Consecutive groups that become one file."""

    first: int
    stop: int
    since_s: float
    until_s: float


class Sealing:
    """The history of one log. ``reached`` is told each step, so that tests can end the process at every one."""

    def __init__(
        self,
        share: str,
        file: SqliteFile,
        folder: Path,
        *,
        largest_entries: int = LARGEST_ENTRIES,
        longest_s: float = LONGEST_S,
        reached: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._share, self._file, self._folder = share, file, folder
        self._largest_entries, self._longest_s, self._reached = largest_entries, longest_s, reached
        self._rolled_to = 0  # what came from a backup up to here is in the buckets that came with it

    def tidy(self, now_s: float, retention: Retention, decode: Decode | None, report: Tidied) -> None:
        """See Store.tidy."""
        if not self._file.exists:
            return
        try:
            with self._alone() as alone:
                if alone:
                    self._tidy(now_s, retention, decode, report)
                else:
                    report.note = f"log {self._share}: another process is tidying it"
        except FileNotFoundError as error:
            raise StoreDamaged(f"{self._folder}: a file is missing ({error}); restore it from a backup") from error
        except OSError as error:
            raise StoreUnavailable(
                f"{self._folder} cannot be tidied ({error}); make room, or see whose it is"
            ) from error

    def _tidy(self, now_s: float, retention: Retention, decode: Decode | None, report: Tidied) -> None:
        self._remove_orphans()
        self._delete_groups()
        for each in self._ranges(now_s - self._longest_s):
            self._seal(each)
            report.sealed_entries += each.stop - each.first
            report.sealed_files += 1
        if decode is not None:
            report.rolled_entries += self._roll_up(decode)
        self._forget(now_s, retention, report)
        self._compact(now_s)

    # -- sealing -----------------------------------------------------------------------------------------------

    def _ranges(self, settled_s: float) -> Iterator[_Range]:
        """What is to become files now: whole groups before the trim, enough of them or old enough."""
        with self._file.read() as connection:
            assert connection is not None
            trimmed, sealed_to = number(connection, "trimmed"), number(connection, "sealed_to")
            self._rolled_to = number(connection, "rolled_to")
            oldest = connection.execute("SELECT since_s FROM groups WHERE first >= ? LIMIT 1", (sealed_to,)).fetchone()
            if trimmed - sealed_to < self._largest_entries and (oldest is None or oldest[0] >= settled_s):
                return  # neither enough nor old enough
            groups = connection.execute(
                "SELECT first, first + count, since_s, until_s, length(blob) FROM groups "
                "WHERE first >= ? AND first + count <= ? ORDER BY first",
                (sealed_to, trimmed),
            ).fetchall()
        taken: _Range | None = None
        size = 0
        for first, stop, since_s, until_s, length in groups:
            if taken is not None and (
                stop - taken.first > self._largest_entries
                or taken.stop == self._rolled_to
                or size + length > LARGEST_BYTES
                or max(until_s, taken.until_s) - min(since_s, taken.since_s) > self._longest_s
            ):
                yield taken
                taken, size = None, 0
            if taken is None:
                taken = _Range(first, stop, since_s, until_s)
            else:
                taken = _Range(taken.first, stop, min(since_s, taken.since_s), max(until_s, taken.until_s))
            size += length
        if taken is not None and (
            taken.until_s < settled_s
            or taken.stop - taken.first >= self._largest_entries
            or taken.stop == self._rolled_to
        ):
            yield taken

    def _seal(self, each: _Range) -> None:
        name = f"entries-{each.first:019d}-{each.stop:019d}"
        name = parquet.write_file(self._folder, name, parquet.entry_table(self._groups(each)))
        self._reached("written")
        with self._file.write() as connection:
            connection.execute(
                "INSERT INTO sealed (first, count, since_s, until_s, rolled, file) VALUES (?, ?, ?, ?, ?, ?)",
                (each.first, each.stop - each.first, each.since_s, each.until_s, each.stop <= self._rolled_to, name),
            )
            set_number(connection, "sealed_to", each.stop)
        self._reached("recorded")
        self._delete_groups()

    def _groups(self, each: _Range) -> list[Group]:
        rows = self._file.rows(
            "SELECT first, count, crc, blob FROM groups WHERE first >= ? AND first < ? ORDER BY first",
            (each.first, each.stop),
        )
        return [unpack_checked(self._share, *row) for row in rows]

    def _delete_groups(self) -> None:
        """Delete the rows of what is in files, few at a time, so that an append in between waits for moments."""
        while True:
            with self._file.write(synced=False) as connection:
                deleted = connection.execute(
                    "DELETE FROM groups WHERE first IN (SELECT first FROM groups WHERE first < ? LIMIT ?)",
                    (number(connection, "sealed_to"), DELETED_AT_ONCE),
                ).rowcount
            if not deleted:
                return
            self._reached("deleted")

    # -- rolling up --------------------------------------------------------------------------------------------

    def _roll_up(self, decode: Decode) -> int:
        rolled = 0
        for first, count, file in self._file.rows(
            "SELECT first, count, file FROM sealed WHERE rolled = 0 ORDER BY first"
        ):
            minutes = self._buckets(self._folder / file, decode)
            parts = {Resolution.MINUTE: minutes, Resolution.HOUR: coarser(minutes, Resolution.HOUR)}
            rows = []
            for resolution, buckets in parts.items():
                if len(buckets):
                    name = f"{resolution.value}-{first:019d}-{first + count:019d}"
                    name = parquet.write_file(self._folder, name, parquet.bucket_table(buckets))
                    since_s, until_s = int(buckets.at_s.min()), int(buckets.at_s.max()) + resolution.width_s
                    rows.append((resolution.value, first, since_s, until_s, len(buckets), name))
            self._reached("rolled")
            with self._file.write() as connection:
                connection.executemany(ADD_ROLLUP, rows)
                connection.execute("UPDATE sealed SET rolled = 1 WHERE first = ?", (first,))
            self._reached("rolled recorded")
            rolled += count
        return rolled

    def _buckets(self, path: Path, decode: Decode) -> Buckets:
        with parquet.open_file(path) as file:
            parts = [
                roll(decode(parquet.entries_of(batch)), Resolution.MINUTE)
                for batch in file.iter_batches(DECODED_AT_ONCE)
            ]
        return merge(parts)

    def _compact(self, now_s: float) -> None:
        """Merge the many small files of each past day, so that a year of hours is not read from ten thousand."""
        days: dict[tuple[str, int], list[tuple[int, int, int, str]]] = {}
        for number_, resolution, first, since_s, buckets, file in self._file.rows(
            "SELECT id, resolution, first, since_s, buckets, file FROM rollups WHERE until_s < ? AND buckets < ? "
            "ORDER BY first",
            (now_s - DAY_S, MERGED_BUCKETS // 2),
        ):
            days.setdefault((resolution, int(since_s // DAY_S)), []).append((number_, first, buckets, file))
        for (resolution, _), files in days.items():
            while len(files) >= FEW_FILES:
                taken = [files.pop(0)]
                while files and sum(each[2] for each in taken) + files[0][2] <= MERGED_BUCKETS:
                    taken.append(files.pop(0))
                if len(taken) >= FEW_FILES:
                    self._merge(Resolution(resolution), taken)

    def _merge(self, resolution: Resolution, taken: list[tuple[int, int, int, str]]) -> None:
        buckets = merge([parquet.read_buckets(self._folder / file) for *_, file in taken])
        first = taken[0][1]
        name = f"{resolution.value}-{first:019d}-{uuid.uuid4().hex}"
        name = parquet.write_file(self._folder, name, parquet.bucket_table(buckets))
        since_s, until_s = int(buckets.at_s.min()), int(buckets.at_s.max()) + resolution.width_s
        self._reached("merged")
        with self._file.write() as connection:
            connection.executemany("DELETE FROM rollups WHERE id = ?", [(each[0],) for each in taken])
            connection.execute(ADD_ROLLUP, (resolution.value, first, since_s, until_s, len(buckets), name))
        self._reached("merged recorded")
        parquet.remove_files([self._folder / file for *_, file in taken])

    # -- forgetting --------------------------------------------------------------------------------------------

    def _forget(self, now_s: float, retention: Retention, report: Tidied) -> None:
        ages = {"minute": retention.minute_s, "hour": retention.hour_s}
        with self._file.write() as connection:
            gone: list[str] = []
            # only from the front, so that offsets stay contiguous whatever a clock has done
            for first, count, until_s, file in connection.execute(
                "SELECT first, count, until_s, file FROM sealed ORDER BY first"
            ).fetchall():
                if until_s >= now_s - retention.raw_s:
                    break
                connection.execute("DELETE FROM sealed WHERE first = ?", (first,))
                set_number(connection, "kept_from", first + count)
                gone.append(file)
                report.forgotten_entries += count
            for resolution, kept_s in ages.items():
                old = connection.execute(
                    "DELETE FROM rollups WHERE resolution = ? AND until_s < ? RETURNING file",
                    (resolution, now_s - kept_s),
                ).fetchall()
                gone += [file for (file,) in old]
                report.forgotten_rollups += len(old)
        self._reached("forgotten")
        parquet.remove_files([self._folder / file for file in gone])

    # -- one at a time -----------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process or thread is at it; the lock ends with the process that holds it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "tidying.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def _remove_orphans(self) -> None:
        """Remove files that a process left which died before it had recorded them, or after it had let them go."""
        known = {file for (file,) in self._file.rows("SELECT file FROM sealed UNION ALL SELECT file FROM rollups")}
        found = [*self._folder.glob("*.parquet"), *self._folder.glob("*.half")]
        parquet.remove_files([path for path in found if path.name not in known])
