"""Backups of a running city in a form that every engine can take over, and restoring them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from twin_actors.store import open_store
from twin_actors.store.archive import (
    BlockWriter,
    FileFacts,
    LogFacts,
    Manifest,
    decode_buckets,
    encode_buckets,
    placed_blocks,
    read_blocks,
    read_manifest,
    write_manifest,
)
from twin_actors.store.base import DeadLetter, Entry, LetterState, Log, LogTrimmed, Store, StoreUnavailable
from twin_actors.store.groups import pack, unpack

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it, and of how much (0: not known)."""

EVERYTHING = 2**62
AT_ONCE = 10_000
PER_FILE = 1_000_000
"""Log entries in a block, and in a file of the backup."""
ATTEMPTS = 5
"""How often rolled-up history is read anew when tidying has replaced what was being read."""
UNFINISHED = "restore"
"""The key in the registry that says whether a restore has come to its end: its value is then ``done``."""


def _silent(what: str, done: int, of: int) -> None:
    """Tell nobody."""


# -- taking --------------------------------------------------------------------------------------------------------


def backup(store: Store, target: Path, *, progress: Progress = _silent) -> Manifest:
    """Write all that a store holds into the new folder ``target``. The city may run on.

    Snapshots are read first, then what belongs to them, then the logs up to their ends at that moment, then the
    epochs: so every snapshot lies within its log, as after a crash, and a restored city recovers as from one. Raises
    ValueError when the folder exists, StoreUnavailable, StoreDamaged.
    """
    target = Path(target)
    if target.exists():
        raise ValueError(f"{target} exists already: name a new folder for the backup")
    half = target.with_name(target.name + ".half")
    shutil.rmtree(half, ignore_errors=True)
    try:
        half.mkdir(parents=True)
        manifest = _write(store, half, progress)
        write_manifest(half, manifest)
        half.rename(target)
    except OSError as error:
        raise StoreUnavailable(f"{target}: the backup cannot be written ({error}); make room") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return manifest


def _write(store: Store, folder: Path, progress: Progress) -> Manifest:
    files: dict[str, FileFacts] = {}
    counts: dict[str, int] = {}

    def keep(name: str, blocks: Iterable[tuple[int, bytes]]) -> None:
        with BlockWriter(folder, f"{name}.blocks") as writer:
            counts[name] = 0
            for count, block in blocks:
                writer.write(block)
                counts[name] += count
                progress(name, counts[name], 0)
        files[writer.name] = writer.facts

    keep("snapshots", ((1, each) for each in _snapshots(store)))
    keep("records", _records(store))
    keep("dead-letters", _letters(store))
    keys = store.keys()
    keep("registry", ((1, msgspec.msgpack.encode((key, store.get(key)))) for key in keys))
    logs = {share: _keep_log(share, store.log(share), folder, files, progress) for share in store.shares()}
    counts["log entries"] = sum(log.stop - log.first for log in logs.values())
    return Manifest(
        made_at_s=time.time(),
        made_by=f"twin-actors {version('twin-actors')}",
        files=files,
        logs=logs,
        epochs=store.epochs(),
        counts=counts,
    )


def _snapshots(store: Store) -> Iterator[bytes]:
    for name in store.snapshot_names():
        for snapshot in store.snapshots(name):
            yield msgspec.msgpack.encode((name, *snapshot))


def _records(store: Store) -> Iterator[tuple[int, bytes]]:
    for table in store.tables():
        for rows in _batches(store.records(table, EVERYTHING)):
            yield len(rows), msgspec.msgpack.encode((table, rows))


def _letters(store: Store) -> Iterator[tuple[int, bytes]]:
    for letters in _batches(store.dead_letters(EVERYTHING)):
        yield len(letters), msgspec.msgpack.encode(letters)


def _batches(rows: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(rows), 1000):
        yield rows[start : start + 1000]


def _keep_log(share: str, log: Log, folder: Path, files: dict[str, FileFacts], progress: Progress) -> LogFacts:
    """Write one log and its rolled-up history; begins again when retention deletes what it is reading."""
    name = f"log-{quote(share, safe='')}"
    while True:
        shutil.rmtree(folder / name, ignore_errors=True)
        written: dict[str, FileFacts] = {}
        first = log.kept_from
        rolled_to, rolled = _keep_rolled(log, folder, f"{name}/rolled.blocks")
        stop = log.next_offset
        try:
            for start in range(first, stop, PER_FILE):
                with BlockWriter(folder, f"{name}/{start:019d}.blocks") as writer:
                    for at, entries in _walk(log, start, min(start + PER_FILE, stop), rolled_to):
                        writer.write(at.to_bytes(8, "little") + pack(entries))
                        progress(f"log {share}", at + len(entries) - first, stop - first)
                written[writer.name] = writer.facts
        except LogTrimmed:
            continue
        files |= {f"{name}/rolled.blocks": rolled} | written
        return LogFacts(first=first, stop=stop, rolled_to=rolled_to, files=list(written))


def _keep_rolled(log: Log, folder: Path, name: str) -> tuple[int, FileFacts]:
    """Write rolled-up history; returns the offset up to which it goes."""
    attempt = 1
    while True:
        try:
            rolled_to, buckets = log.rolled()
            with BlockWriter(folder, name) as writer:
                for resolution, part in buckets:
                    writer.write(encode_buckets(resolution, part))
            return rolled_to, writer.facts
        except StoreUnavailable:
            if attempt == ATTEMPTS:
                raise
            attempt += 1
            (folder / name).unlink(missing_ok=True)


def _walk(log: Log, first: int, stop: int, rolled_to: int) -> Iterator[tuple[int, list[Entry]]]:
    """All entries in order, in blocks, of which none reaches across ``rolled_to``."""
    while first < stop:
        limit = min(AT_ONCE, stop - first, rolled_to - first if rolled_to > first else AT_ONCE)
        found = log.read(first, limit)
        if not found:
            raise StoreUnavailable(f"the log ends at offset {first}, before {stop}: has the city been deleted?")
        yield first, [entry for _, entry in found]
        first += len(found)


# -- giving back ---------------------------------------------------------------------------------------------------


def restore(archive: Path, url: str, *, replace: bool = False, progress: Progress = _silent) -> Manifest:
    """Bring a backup into the store at ``url``, of whichever engine. No city may use that store meanwhile.

    A store that holds something is refused unless ``replace``, which deletes that first. A restore that was cut short
    is found by ``verify`` and repeated with ``replace``. Raises ValueError, StoreDamaged, StoreUnavailable.
    """
    archive = Path(archive)
    manifest = read_manifest(archive)
    store = open_store(url)
    try:
        if not _is_empty(store):
            if not replace:
                raise ValueError(f"{url} holds a city already: name another store, or say that it may be replaced")
            store.erase()
            store.close()
            store = open_store(url)
        store.put(UNFINISHED, b"cut short")
        _restore(archive, manifest, store, progress)
        store.put(UNFINISHED, b"done")
    finally:
        store.close()
    return manifest


def _is_empty(store: Store) -> bool:
    return not (
        store.epochs() or store.shares() or store.snapshot_names() or store.keys() or store.tables()
    ) and not store.dead_letters(1)


def _restore(archive: Path, manifest: Manifest, store: Store, progress: Progress) -> None:
    for share, facts in manifest.logs.items():
        log = store.log(share)
        log.start_at(facts.first)
        rolled = archive / f"log-{quote(share, safe='')}" / "rolled.blocks"
        log.restore_rolled(facts.rolled_to, map(decode_buckets, read_blocks(rolled)))
        epoch = max(manifest.epochs.get(share, 0), 1)
        for file in facts.files:
            for at, entries in log_blocks(archive / file):
                log.append(epoch, entries, at)
                progress(f"log {share}", at + len(entries) - facts.first, facts.stop - facts.first)
    path = archive / "snapshots.blocks"
    places = sorted((*snapshot_of(block)[2::-2], place) for place, block in placed_blocks(path))
    for done, (*_, place) in enumerate(places, start=1):  # oldest first: a store passes over latecomers
        name, epoch, offset, at_s, blob = snapshot_of(next(placed_blocks(path, place))[1])
        store.save_snapshot(name, epoch, offset, blob, at_s)
        progress("snapshots", done, len(places))
    for block in read_blocks(archive / "records.blocks"):
        table, rows = msgspec.msgpack.decode(block, type=tuple[str, list[dict[str, Any]]])
        store.record(table, rows)
    for block in read_blocks(archive / "dead-letters.blocks"):
        store.add_dead_letters(letters_of(block))
    for block in read_blocks(archive / "registry.blocks"):
        key, value = msgspec.msgpack.decode(block, type=tuple[str, bytes])
        if key != UNFINISHED:
            store.put(key, value)
    for name, epoch in manifest.epochs.items():
        store.raise_epoch(name, epoch)


def log_blocks(path: Path) -> Iterator[tuple[int, list[Entry]]]:
    """The groups of one file of a log. Raises StoreDamaged."""
    for block in read_blocks(path):
        at = int.from_bytes(block[:8], "little")
        yield at, [entry for _, entry in unpack(at, block[8:]).entries()]


def snapshot_of(block: bytes) -> tuple[str, int, int, float, bytes]:
    return msgspec.msgpack.decode(block, type=tuple[str, int, int, float, bytes])


def letters_of(block: bytes) -> list[DeadLetter]:
    rows: list[Mapping[str, Any]] = msgspec.msgpack.decode(block)
    return [DeadLetter(**{**row, "state": LetterState(row["state"]), "id": 0}) for row in rows]
