"""Looking over a store or a backup without changing it: what is damaged, missing or at odds, as a list of findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from twin_actors.store.archive import decode_buckets, read_blocks, read_manifest, sha256_of
from twin_actors.store.backup import ATTEMPTS, EVERYTHING, UNFINISHED, log_blocks, snapshot_of
from twin_actors.store.base import Entry, Log, LogTrimmed, Snapshot, Store, StoreDamaged, StoreUnavailable
from twin_actors.store.history import Decode

AT_ONCE = 10_000
STEP = 1000
"""How far to go on behind a place of a log that cannot be read."""

Follows = Callable[[str], str | None]
"""The share whose log an actor's snapshots follow; None for actors whose offsets are not those of a log."""


@dataclass(slots=True, kw_only=True)
class Verified:
    """What was looked at, and what was wrong with it; ``findings`` is empty when nothing was."""

    findings: list[str] = field(default_factory=list)
    entries: int = 0
    snapshots: int = 0
    buckets: int = 0
    files: int = 0

    @property
    def ok(self) -> bool:
        return not self.findings


def verify(what: Store | Path, *, follows: Follows = lambda name: None, decode: Decode | None = None) -> Verified:
    """Read everything in a store or a backup's folder and check it.

    Check sums of all files, groups, pages and snapshots; offsets of each log contiguous; each snapshot within the log
    that it follows (see ``Follows``; without it that is not checked); no snapshot of a higher epoch than its actor's;
    with ``decode``, every entry. Raises nothing for what it finds, StoreUnavailable when the store is away.
    """
    report = Verified()
    if isinstance(what, Path):
        _check_archive(what, follows, decode, report)
    else:
        _check_store(what, follows, decode, report)
    return report


# -- a store -------------------------------------------------------------------------------------------------------


def _check_store(store: Store, follows: Follows, decode: Decode | None, report: Verified) -> None:
    try:
        epochs = store.epochs()
        spans = {share: _check_log(share, store.log(share), decode, report) for share in store.shares()}
        for name in store.snapshot_names():
            _check_snapshots(name, _guarded(store.snapshots(name), report), spans, epochs, follows, report)
        if store.get(UNFINISHED) not in (None, b"done"):
            report.findings.append("a restore was cut short: restore the backup again, replacing what is here")
        for table in store.tables():
            store.records(table, EVERYTHING)
        store.dead_letters(EVERYTHING)
    except StoreDamaged as damage:
        report.findings.append(str(damage))


def _check_log(share: str, log: Log, decode: Decode | None, report: Verified) -> tuple[int, int]:
    """Read one log from end to end. Returns the offsets that it says it holds."""
    first, stop = log.kept_from, log.next_offset
    lost: tuple[int, int] | None = None
    for at, until, found in _stretches(log, first, stop):
        if isinstance(found, StoreDamaged):
            if lost is None:
                report.findings.append(str(found))
            lost = (at if lost is None else lost[0], until)
            continue
        _say_lost(share, lost, report)
        lost = None
        if len(found) != until - at:
            report.findings.append(f"log {share} holds {len(found):,} of the entries {at} … {until - 1}")
        if found:
            _check_decoding(share, found, decode, report)
        report.entries += len(found)
    _say_lost(share, lost, report)
    try:
        report.buckets += _count_buckets(log)
    except (StoreDamaged, StoreUnavailable) as damage:
        report.findings.append(str(damage))
    return first, stop


def _count_buckets(log: Log) -> int:
    for _ in range(ATTEMPTS - 1):
        with suppress(StoreUnavailable):  # tidying has replaced what was being read
            return sum(len(buckets) for _, buckets in log.rolled()[1])
    return sum(len(buckets) for _, buckets in log.rolled()[1])


def _stretches(log: Log, first: int, stop: int) -> Iterator[tuple[int, int, list[tuple[int, Entry]] | StoreDamaged]]:
    """A log stretch by stretch: its entries, or why they cannot be read; in short steps where something is damaged."""
    at, step = first, AT_ONCE
    while at < stop:
        until = min(at + step, stop)
        try:
            yield at, until, log.read(at, until - at)
        except LogTrimmed:  # retention has gone on meanwhile
            at = log.kept_from
            continue
        except StoreDamaged as damage:
            if step > STEP:
                step = STEP
                continue
            yield at, until, damage
        else:
            step = AT_ONCE if until % AT_ONCE == 0 else step
        at = until


def _say_lost(share: str, lost: tuple[int, int] | None, report: Verified) -> None:
    if lost is not None:
        first, stop = lost
        report.findings.append(f"log {share}: up to {stop - first:,} entries from {first} on cannot be read")


def _check_decoding(share: str, found: list[tuple[int, Entry]], decode: Decode | None, report: Verified) -> None:
    if decode is None:
        return
    try:
        for values in decode(found):
            if len(values.at_s) != len(values.values):
                raise ValueError(f"{len(values.at_s)} times for {len(values.values)} values of {values.field}")
    except Exception as error:  # a decoder is foreign code: whatever it raises is what we are here to find
        report.findings.append(f"log {share}: entries from offset {found[0][0]} on cannot be decoded: {error!r}")


def _check_snapshots(
    name: str,
    snapshots: Iterator[Snapshot],
    spans: dict[str, tuple[int, int]],
    epochs: dict[str, int],
    follows: Follows,
    report: Verified,
) -> None:
    share = follows(name)
    for newest, snapshot in enumerate(snapshots):
        report.snapshots += 1
        where = f"the snapshot of {name} at offset {snapshot.offset}"
        if name in epochs and snapshot.epoch > epochs[name]:
            report.findings.append(f"{where} is of epoch {snapshot.epoch}, but epoch {epochs[name]} is in force")
        if share is None:
            continue
        first, stop = spans.get(share, (0, 0))
        if snapshot.offset >= stop:
            report.findings.append(f"{where} is ahead of its log {share}, which ends at {stop}")
        elif newest == 0 and snapshot.offset + 1 < first:
            report.findings.append(f"{where} needs log {share} from there on, which begins at {first}")


def _guarded(snapshots: Iterator[Snapshot], report: Verified) -> Iterator[Snapshot]:
    try:
        yield from snapshots
    except StoreDamaged as damage:
        report.findings.append(str(damage))


# -- a backup ------------------------------------------------------------------------------------------------------


def _check_archive(folder: Path, follows: Follows, decode: Decode | None, report: Verified) -> None:
    try:
        manifest = read_manifest(folder)
    except (StoreDamaged, ValueError) as fault:
        report.findings.append(str(fault))
        return
    whole = set()
    for name, facts in manifest.files.items():
        report.files += 1
        try:
            if sha256_of(folder / name) == facts.sha256:
                whole.add(name)
            else:
                report.findings.append(f"{folder / name} is not as it was written: its SHA-256 differs")
        except StoreDamaged as damage:
            report.findings.append(str(damage))
    spans: dict[str, tuple[int, int]] = {}
    for share, log in manifest.logs.items():
        spans[share] = log.first, log.stop
        at = log.first
        for name in log.files:
            try:
                for first, entries in log_blocks(folder / name) if name in whole else ():
                    if first != at:
                        report.findings.append(f"{folder / name}: offset {first} comes where {at} should")
                    at = first + len(entries)
                    report.entries += len(entries)
                    _check_decoding(share, list(enumerate(entries, start=first)), decode, report)
            except StoreDamaged as damage:
                report.findings.append(str(damage))
        if at != log.stop and whole.issuperset(log.files):
            report.findings.append(f"log {share} of {folder} ends at offset {at}, but the manifest says {log.stop}")
    try:
        for name in whole:
            if name.endswith("rolled.blocks"):
                report.buckets += sum(len(decode_buckets(block)[1]) for block in read_blocks(folder / name))
        by_name: dict[str, list[Snapshot]] = {}
        for block in read_blocks(folder / "snapshots.blocks") if "snapshots.blocks" in whole else ():
            name, epoch, offset, at_s, _ = snapshot_of(block)
            by_name.setdefault(name, []).append(Snapshot(epoch, offset, at_s, b""))
        for name, found in by_name.items():
            newest_first = iter(sorted(found, key=lambda each: -each.offset))
            _check_snapshots(name, newest_first, spans, manifest.epochs, follows, report)
    except StoreDamaged as damage:
        report.findings.append(str(damage))
