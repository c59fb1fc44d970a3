"""One city's store in one folder: a file a log, one for snapshots, one for everything else."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from twin_actors.store.base import DeadLetter, LetterState, Snapshot, StaleEpoch, StoreUnavailable
from twin_actors.store.history import Decode, Retention, Tidied
from twin_actors.store.sqlite import snapshots
from twin_actors.store.sqlite.file import SqliteFile
from twin_actors.store.sqlite.files import HistoryFiles, can_keep_history
from twin_actors.store.sqlite.log import SqliteLog
from twin_actors.store.sqlite.schema import CITY, LOG, SNAPSHOTS, held_epoch, raise_epoch

log = logging.getLogger(__name__)

SNAPSHOT_PAGE_BYTES = 16384
_LETTER = "topic, reason, detail, payload, received_at_s, share, log_offset, element, state, id"


class SqliteStore:
    """See Store. Files are made by the first write; any number of processes of one machine may use them."""

    def __init__(self, folder: str | Path, *, durable: bool = True) -> None:
        """``folder`` must be absolute: processes of a city have different working folders. Raises ValueError.

        Not ``durable``: nothing waits for the disk; it is for cities that need not outlive the power or ``down``.
        """
        self.folder = Path(folder)
        self.durable = durable
        if not self.folder.is_absolute():
            raise ValueError(
                f"store folder {str(folder)!r} is relative, and the city's processes run in folders of their own: "
                f"write sqlite:{self.folder.absolute()}"
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file, but an embedded store needs a folder: name another one")
        self._city = SqliteFile(self.folder / "city.sqlite", CITY, durable=durable)
        self._snapshots = SqliteFile(
            self.folder / "snapshots.sqlite", SNAPSHOTS, page_bytes=SNAPSHOT_PAGE_BYTES, durable=durable
        )
        self._logs: dict[str, SqliteLog] = {}
        self._log_files: dict[str, SqliteFile] = {}
        self._making = threading.Lock()
        self._warned = False

    def __repr__(self) -> str:
        return f"<SqliteStore {self.folder}>"

    def log(self, share: str) -> SqliteLog:
        with self._making:
            if share not in self._logs:
                file = self._log_file(share)
                history = HistoryFiles(self._history_folder(share))
                self._logs[share] = SqliteLog(share, file, history, lambda: self._make_log(share, file))
            return self._logs[share]

    def _log_file(self, share: str) -> SqliteFile:
        if share not in self._log_files:
            path = self.folder / f"log-{quote(share, safe='')}.sqlite"
            self._log_files[share] = SqliteFile(path, LOG, durable=self.durable)
        return self._log_files[share]

    def _history_folder(self, share: str) -> Path:
        return self.folder / f"history-{quote(share, safe='')}"

    def _make_log(self, share: str, file: SqliteFile) -> None:
        """Create a log's file with the epoch in force; with the city locked, so that none is handed out meanwhile."""
        with self._city.write() as city, file.write() as connection:
            raise_epoch(connection, share, held_epoch(city, share))

    # -- epochs ------------------------------------------------------------------------------------------------

    def next_epoch(self, name: str) -> int:
        """See Store. A write is checked in its own file, so every file where ``name`` may write learns the epoch.

        Those are the city's, the snapshots' and, when there is a log of that name, the log's. All are locked before
        any is changed. Should the process die between their commits, some refuse the old epoch already, and nobody
        has got the new one: the next call counts on from the highest.
        """
        with ExitStack() as stack:
            files = self._locked(stack, name)
            epoch = 1 + max(held_epoch(file, name) for file in files)
            for file in files:
                raise_epoch(file, name, epoch)
        return epoch

    def _locked(self, stack: ExitStack, name: str) -> list[sqlite3.Connection]:
        """Transactions on all files where ``name`` may write, always begun in the same order."""
        files = [stack.enter_context(file.write()) for file in (self._city, self._snapshots)]
        with self._making:
            log_file = self._log_file(name)
        if log_file.exists:
            files.append(stack.enter_context(log_file.write()))
        return files

    def epoch(self, name: str) -> int:
        with self._making:
            files = (self._city, self._log_file(name))
        query = "SELECT epoch FROM epochs WHERE name = ?"
        return max((row[0] for file in files for row in file.rows(query, (name,))), default=0)

    # -- snapshots ---------------------------------------------------------------------------------------------

    def save_snapshot(self, name: str, epoch: int, offset: int, blob: bytes, at_s: float = 0.0) -> None:
        snapshots.save(self._snapshots, name, Snapshot(epoch, offset, at_s, blob))

    def load_snapshot(self, name: str, *, at_s: float | None = None) -> Snapshot | None:
        return snapshots.load(self._snapshots, name, at_s)

    # -- dead letters ------------------------------------------------------------------------------------------

    def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        rows = [
            (
                *(each.share, each.offset, each.element, each.state.value, each.received_at_s),
                *(_text(words) for words in (each.topic, each.reason, each.detail)),
                each.payload,
            )
            for each in letters
        ]
        if not rows:
            return
        with self._city.write() as city:
            city.executemany(
                "INSERT INTO dead_letters "
                "(share, log_offset, element, state, received_at_s, topic, reason, detail, payload) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                rows,
            )

    def dead_letters(self, last: int, *, state: LetterState | None = None, reason: str = "") -> list[DeadLetter]:
        asked = {"state": state.value if state else "", "reason": reason}
        where = "".join(f" AND {column} = ?" for column, value in asked.items() if value)
        values = tuple(filter(None, asked.values()))
        query = f"SELECT {_LETTER} FROM dead_letters WHERE true{where} ORDER BY id DESC LIMIT ?"
        return [DeadLetter.of_row(*row) for row in reversed(self._city.rows(query, (*values, max(last, 0))))]

    def dead_letter(self, number: int) -> DeadLetter:
        rows = self._city.rows(f"SELECT {_LETTER} FROM dead_letters WHERE id = ?", (number,))
        if not rows:
            raise KeyError(self._no_letter(number))
        return DeadLetter.of_row(*rows[0])

    def _no_letter(self, number: int) -> str:
        newest = self._city.rows("SELECT max(id) FROM dead_letters")
        return f"no dead letter {number}; " + (f"the newest is {newest[0][0]}" if newest else "there is none")

    def settle_dead_letter(self, number: int, state: LetterState) -> None:
        with self._city.write() as city:
            done = city.execute("UPDATE dead_letters SET state = ? WHERE id = ?", (state.value, number)).rowcount
        if not done:
            raise KeyError(self._no_letter(number))

    # -- records and registry ----------------------------------------------------------------------------------

    def record(self, table: str, rows: Sequence[Mapping[str, Any]], *, writer: str = "", epoch: int = 0) -> None:
        now_s = time.time()
        written = [
            (table, msgspec.json.encode(row["id"]).decode() if "id" in row else None, now_s, msgspec.json.encode(row))
            for row in rows
        ]
        with self._city.write() as city:
            if writer and epoch < (held := held_epoch(city, writer)):
                raise StaleEpoch(f"{writer}: epoch {epoch} is refused, epoch {held} has taken over")
            city.executemany(
                "INSERT INTO records (of_table, id, written_at_s, row) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (of_table, id) WHERE id IS NOT NULL DO UPDATE SET row = excluded.row",
                written,
            )

    def records(self, table: str, last: int) -> list[Mapping[str, Any]]:
        query = "SELECT row FROM records WHERE of_table = ? ORDER BY seq DESC LIMIT ?"
        return [msgspec.json.decode(row) for (row,) in reversed(self._city.rows(query, (table, max(last, 0))))]

    def put(self, key: str, value: bytes) -> None:
        with self._city.write() as city:
            city.execute(
                "INSERT INTO registry (key, value) VALUES (?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, value),
            )

    def get(self, key: str) -> bytes | None:
        rows = self._city.rows("SELECT value FROM registry WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def keys(self, prefix: str = "") -> list[str]:
        rows = self._city.rows(
            "SELECT key FROM registry WHERE substr(key, 1, ?) = ? ORDER BY key", (len(prefix), prefix)
        )
        return [key for (key,) in rows]

    # -- history -----------------------------------------------------------------------------------------------

    def tidy(self, now_s: float, retention: Retention, decode: Decode | None = None) -> Tidied:
        report = Tidied()
        if can_keep_history():
            from twin_actors.store.sqlite.sealing import Sealing  # here: it needs an extra

            for share in self.shares():
                with self._making:
                    file = self._log_file(share)
                Sealing(share, file, self._history_folder(share)).tidy(now_s, retention, decode, report)
        else:
            report.note = "logs keep everything: history needs pip install 'twin-actors[history]'"
            if not self._warned:
                log.warning("%s: %s", self.folder, report.note)
            self._warned = True
        if self._snapshots.exists:
            report.forgotten_snapshots = snapshots.forget(self._snapshots, now_s - retention.raw_s)
        if self._city.exists:
            with self._city.write() as city:
                report.forgotten_letters = city.execute(
                    "DELETE FROM dead_letters WHERE received_at_s < ?", (now_s - retention.minute_s,)
                ).rowcount
                report.forgotten_records = city.execute(
                    "DELETE FROM records WHERE written_at_s < ?", (time.time() - retention.hour_s,)
                ).rowcount
        return report

    # -- for backups and checks --------------------------------------------------------------------------------

    def shares(self) -> list[str]:
        return sorted(unquote(path.stem.removeprefix("log-")) for path in self.folder.glob("log-*.sqlite"))

    def epochs(self) -> dict[str, int]:
        with self._making:
            files = [self._city, self._snapshots, *(self._log_file(share) for share in self.shares())]
        held: dict[str, int] = {}
        for file in files:
            for name, epoch in file.rows("SELECT name, epoch FROM epochs"):
                held[name] = max(epoch, held.get(name, 0))
        return held

    def raise_epoch(self, name: str, epoch: int) -> None:
        with ExitStack() as stack:
            for file in self._locked(stack, name):
                raise_epoch(file, name, epoch)

    def snapshot_names(self) -> list[str]:
        return [name for (name,) in self._snapshots.rows("SELECT DISTINCT name FROM snapshots ORDER BY name")]

    def snapshots(self, name: str) -> Iterator[Snapshot]:
        return snapshots.all_of(self._snapshots, name)

    def tables(self) -> list[str]:
        return [table for (table,) in self._city.rows("SELECT DISTINCT of_table FROM records ORDER BY of_table")]

    def erase(self) -> None:
        self.close()
        if self.folder.exists():
            try:
                shutil.rmtree(self.folder)
            except OSError as error:
                raise StoreUnavailable(f"{self.folder} cannot be deleted: {error}") from error

    def close(self) -> None:
        for file in (self._city, self._snapshots, *self._log_files.values()):
            file.close()


def _text(words: str) -> str:
    """Text as SQLite's functions take it: U+0000 ends a text there, and half surrogate pairs cannot be written."""
    return words.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
